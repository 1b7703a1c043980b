"""PanopticSegmentation <-> `supervision.Detections` of the things, and a semantic map of the stuff."""

from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from tascnet.convert.checks import integers, validated
from tascnet.data.batch import tight_boxes
from tascnet.errors import InputError
from tascnet.structures import IGNORE, VOID, LabelSpace, PanopticSegmentation, Segment

if TYPE_CHECKING:
    from supervision import Detections


def to_supervision(segmentation: PanopticSegmentation, label_space: LabelSpace) -> tuple["Detections", np.ndarray]:
    """Things as `supervision.Detections`, and the semantic map, which holds the stuff.

    The masks take N x H x W bytes, as supervision wants them: 100 objects in a photo of 12 megapixels are 1.2 GB.
    The two cannot hold the ids and the scores of stuff, and only one segment of each stuff category.

    Returns:
        Detections with `xyxy`, `mask`, `class_id` (category ids), `confidence` (None where no score is set, NaN for a
        segment without one) and, in `data`, `class_name`, `segment_id` and `is_crowd`; and the category id of each
        pixel, (H, W) int64, -1 where VOID.

    Raises:
        InputError: the package supervision is not installed.
    """
    detections_class = _supervision_detections()
    index_map = segmentation.index_map().numpy()
    things = [
        (index, segment)
        for index, segment in enumerate(segmentation.segments, start=1)
        if label_space[segment.category_id].is_thing
    ]
    indices = np.array([index for index, _ in things], dtype=np.int64)
    masks = np.empty((len(things), *index_map.shape), dtype=bool)
    for mask, index in zip(masks, indices, strict=True):
        np.equal(index_map, index, out=mask)
    boxes = tight_boxes(index_map, len(segmentation.segments))[indices - 1]
    scores = [np.nan if segment.score is None else segment.score for _, segment in things]
    detections = detections_class(
        xyxy=boxes.astype(np.float32),
        mask=masks,
        class_id=np.array([segment.category_id for _, segment in things], dtype=np.int64),
        confidence=None if np.isnan(scores).all() else np.array(scores, dtype=np.float64),
        data={
            "class_name": np.array([label_space[segment.category_id].name for _, segment in things], dtype=str),
            "segment_id": np.array([segment.id for _, segment in things], dtype=np.int64),
            "is_crowd": np.array([segment.is_crowd for _, segment in things], dtype=bool),
        },
    )
    category_ids = np.array([IGNORE, *(segment.category_id for segment in segmentation.segments)], dtype=np.int64)
    return detections, category_ids[index_map]


def from_supervision(
    detections: "Detections", semantic: np.ndarray | Tensor, label_space: LabelSpace
) -> PanopticSegmentation:
    """Detections with masks, and a semantic map -> PanopticSegmentation.

    Where masks overlap, the detection with the highest confidence takes the pixels; of equal ones, or without
    confidence, the earlier. Detections that are left without pixels are dropped. The rest of the picture has the stuff
    of the semantic map; its pixels of things that no detection covers are VOID.

    Args:
        detections: with `mask` and `class_id` (category ids of things), if need be with `confidence` and, in `data`,
            `segment_id` and `is_crowd`.
        semantic: (H, W) integers, category id of each pixel; negative ones are VOID.
        label_space: its categories.

    Raises:
        InputError: masks or class ids are missing, sizes differ, or a category is unknown or no thing.
    """
    categories = integers(semantic, "a semantic map")
    masks, class_ids = _masks_and_classes(detections, categories.shape, label_space)
    confidence, extra = detections.confidence, detections.data
    scores = [None] * len(masks) if confidence is None else [None if np.isnan(s) else float(s) for s in confidence]
    crowds = extra.get("is_crowd", [False] * len(masks))
    thing_ids = [int(i) for i in extra.get("segment_id", range(1, len(masks) + 1))]
    id_map = np.zeros(categories.shape, dtype=np.int64)
    segments = []
    rank = [-1.0 if score is None else score for score in scores]
    best_first = sorted(range(len(masks)), key=rank.__getitem__, reverse=True)  # of equal ones the earlier stays first
    for index in best_first:
        free = masks[index] & (id_map == VOID)
        if not free.any():
            continue
        id_map[free] = thing_ids[index]
        segments.append(Segment(thing_ids[index], class_ids[index], 0, bool(crowds[index]), scores[index]))
    taken = set(thing_ids)
    free_ids = (number for number in count(1) if number not in taken)
    for category_id in np.unique(categories[categories >= 0]).tolist():
        free = (categories == category_id) & (id_map == VOID)
        if free.any() and not label_space[category_id].is_thing:
            segments.append(Segment(next(free_ids), category_id, area=0))
            id_map[free] = segments[-1].id
    return validated(id_map, segments, label_space)


def _masks_and_classes(
    detections: "Detections", size: Sequence[int], label_space: LabelSpace
) -> tuple[np.ndarray, list[int]]:
    """(N, H, W) bool and N category ids of things, checked."""
    if len(detections) == 0:
        return np.zeros((0, *size), dtype=bool), []
    if detections.mask is None or detections.class_id is None:
        raise InputError(
            "detections of segments have mask and class_id; one of them is None. Use a network with masks."
        )
    masks = np.asarray(detections.mask, dtype=bool)
    if masks.shape[1:] != tuple(size):
        raise InputError(
            f"masks of {masks.shape[1:]} pixels and a semantic map of {tuple(size)} do not belong together; "
            "both are (height, width) of the photo."
        )
    class_ids = [int(class_id) for class_id in detections.class_id]
    stuff = [label_space[class_id].name for class_id in class_ids if not label_space[class_id].is_thing]
    if stuff:
        raise InputError(f"a detection is of '{stuff[0]}', which is stuff. Put stuff into the semantic map.")
    return masks, class_ids


def _supervision_detections() -> type["Detections"]:
    try:
        from supervision import Detections  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise InputError("supervision is not installed; it comes with: pip install 'tascnet[supervision]'.") from error
    return Detections
