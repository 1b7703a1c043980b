"""Small worlds drawn as text, and predictions made from real annotations by spoiling them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from tascnet.structures import VOID, Category, LabelSpace, PanopticSegmentation, Segment

SKY, ROAD, CAR, PERSON = 7, 3, 0, 11  # neither contiguous nor in order; 0 is a category like others


class Pair(NamedTuple):
    file_name: str
    prediction: PanopticSegmentation
    annotation: PanopticSegmentation


class Photos(NamedTuple):
    label_space: LabelSpace
    entries: dict  # the JSON of the annotation
    folder: Path  # the PNGs of the annotation
    pairs: list[Pair]


@pytest.fixture
def label_space() -> LabelSpace:
    return LabelSpace(
        (
            Category(PERSON, "person", True),
            Category(SKY, "sky", False),
            Category(CAR, "car", True),
            Category(ROAD, "road", False),
        )
    )


@pytest.fixture
def draw() -> Callable[..., PanopticSegmentation]:
    """A function: rows of letters, `.` for VOID, and the category of each letter -> segmentation; ids are ASCII."""

    def draw(picture: str, crowds: str = "", **category_of: int) -> PanopticSegmentation:
        ids = np.array([[ord(letter) for letter in row] for row in picture.split()])
        segments = [Segment(ord(letter), category, 0, letter in crowds) for letter, category in category_of.items()]
        return PanopticSegmentation.from_id_map(np.where(ids == ord("."), VOID, ids), segments)

    return draw


@pytest.fixture(scope="session")
def photos(shared_data: Path) -> Photos:
    """The annotations of 100 photos, each with a spoiled copy as prediction."""
    folder = shared_data / "coco_mini" / "annotations" / "panoptic_train2017"
    entries = json.loads(folder.with_suffix(".json").read_text())
    label_space = LabelSpace.from_list(entries["categories"])
    pairs = []
    for seed, entry in enumerate(entries["annotations"]):
        channels = np.asarray(Image.open(folder / entry["file_name"])).astype(np.int32)
        segments = [Segment(s["id"], s["category_id"], 0, bool(s["iscrowd"])) for s in entry["segments_info"]]
        annotation = PanopticSegmentation.from_id_map(channels @ np.array([1, 256, 256**2], np.int32), segments)
        prediction = spoil(annotation, label_space, np.random.default_rng(seed))
        pairs.append(Pair(entry["file_name"], prediction, annotation))
    return Photos(label_space, entries, folder, pairs)


def spoil(annotation: PanopticSegmentation, label_space: LabelSpace, rng: np.random.Generator) -> PanopticSegmentation:
    """Drop, shift, merge, split and relabel segments, fill and punch holes of VOID. Crowds become plain segments."""
    ids = annotation.id_map.numpy().copy()
    category_of = {segment.id: segment.category_id for segment in annotation.segments}
    other_categories = [category.id for category in label_space.categories]
    for id_ in list(category_of):
        inside = ids == id_
        match rng.choice(["keep", "drop", "shift", "merge", "split", "relabel"], p=[0.3, 0.1, 0.25, 0.1, 0.15, 0.1]):
            case "drop":
                ids[inside] = VOID
            case "shift":
                ids[inside] = VOID
                ids[np.roll(inside, rng.integers(-25, 26, size=2), axis=(0, 1))] = id_
            case "merge":
                ids[inside] = rng.choice(list(category_of))
            case "split" if inside.any():
                right = inside & (np.arange(ids.shape[1]) > np.nonzero(inside)[1].mean())
                new_id = int(rng.integers(1, 256**3))
                if new_id not in category_of:
                    ids[right] = new_id
                    category_of[new_id] = category_of[id_]
            case "relabel":
                category_of[id_] = int(rng.choice(other_categories))
    if rng.random() < 0.5:  # what nobody annotated is predicted as something
        ids[ids == VOID] = rng.choice(list(category_of))
    for _ in range(2):
        row, column = rng.integers(0, ids.shape)
        ids[row : row + 40, column : column + 60] = VOID
    present = np.unique(ids).tolist()
    return PanopticSegmentation.from_id_map(ids, [Segment(i, c, 0) for i, c in category_of.items() if i in present])


@pytest.fixture(scope="session")
def hotcoco_evaluation(photos: Photos, tmp_path_factory: pytest.TempPathFactory):
    """hotcoco's evaluation of the same predictions, through the files that COCO's own code reads."""
    from hotcoco.panoptic import PanopticEval

    folder = tmp_path_factory.mktemp("prediction")
    annotations = []
    for (file_name, prediction, _), entry in zip(photos.pairs, photos.entries["annotations"], strict=True):
        ids = prediction.id_map.numpy()
        channels = np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)
        Image.fromarray(channels).save(folder / file_name, compress_level=1)
        segments = [{"id": s.id, "category_id": s.category_id} for s in prediction.segments]
        annotations.append({"image_id": entry["image_id"], "file_name": file_name, "segments_info": segments})
    evaluation = PanopticEval(
        photos.entries,
        {"annotations": annotations},
        gt_folder=photos.folder,
        pred_folder=folder,
    )
    evaluation.evaluate()
    return evaluation
