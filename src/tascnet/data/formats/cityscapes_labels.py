"""The labels of the Cityscapes benchmark: the 19 evaluated categories, and the label ids that are VOID."""

from collections.abc import Mapping

from tascnet.structures import Category, LabelSpace

CITYSCAPES = LabelSpace(
    (
        Category(7, "road", False, (128, 64, 128), "flat"),
        Category(8, "sidewalk", False, (244, 35, 232), "flat"),
        Category(11, "building", False, (70, 70, 70), "construction"),
        Category(12, "wall", False, (102, 102, 156), "construction"),
        Category(13, "fence", False, (190, 153, 153), "construction"),
        Category(17, "pole", False, (153, 153, 153), "object"),
        Category(19, "traffic light", False, (250, 170, 30), "object"),
        Category(20, "traffic sign", False, (220, 220, 0), "object"),
        Category(21, "vegetation", False, (107, 142, 35), "nature"),
        Category(22, "terrain", False, (152, 251, 152), "nature"),
        Category(23, "sky", False, (70, 130, 180), "sky"),
        Category(24, "person", True, (220, 20, 60), "human"),
        Category(25, "rider", True, (255, 0, 0), "human"),
        Category(26, "car", True, (0, 0, 142), "vehicle"),
        Category(27, "truck", True, (0, 0, 70), "vehicle"),
        Category(28, "bus", True, (0, 60, 100), "vehicle"),
        Category(31, "train", True, (0, 80, 100), "vehicle"),
        Category(32, "motorcycle", True, (0, 0, 230), "vehicle"),
        Category(33, "bicycle", True, (119, 11, 32), "vehicle"),
    )
)
"""The categories that are evaluated, 11 of stuff and 8 of things, under the official ids ("labelId")."""

TRAIN_ID: Mapping[int, int] = {category.id: index for index, category in enumerate(CITYSCAPES.by_index)}
"""labelId -> the official "trainId" of an evaluated category, 0..18. It equals the semantic index."""

UNLABELED = 0
"""The labelId of pixels without a label."""

NUM_LABELS = 34
"""labelIds are 0..33; those that are no category of `CITYSCAPES` are not evaluated: void, parking, caravan, ..."""

INSTANCE_BASE = 1000
"""Object number n of a labelId is stored as labelId * 1000 + n; lesser values are labelIds."""
