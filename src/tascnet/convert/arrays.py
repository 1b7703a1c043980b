"""PanopticSegmentation <-> numpy: a map of ids with plain dictionaries, or one label map."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from tascnet.convert.checks import integers, segment_of, validated
from tascnet.errors import InputError
from tascnet.structures import IGNORE, VOID, LabelSpace, PanopticSegmentation, Segment

LABEL_DIVISOR = 1000
"""Number of instances of one category that a label map distinguishes, plus one; the value that Cityscapes uses."""


def to_numpy(segmentation: PanopticSegmentation, label_space: LabelSpace) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """A map of segment ids, and a list of plain dictionaries.

    Returns:
        (H, W) int32, 0 where VOID; and for each segment `{"id", "category_id", "category", "isthing", "area",
        "iscrowd", "score"}`, score None where it is not set.
    """
    segments = [
        {
            "id": segment.id,
            "category_id": segment.category_id,
            "category": label_space[segment.category_id].name,
            "isthing": label_space[segment.category_id].is_thing,
            "area": segment.area,
            "iscrowd": segment.is_crowd,
            "score": segment.score,
        }
        for segment in segmentation.segments
    ]
    return segmentation.id_map.numpy().copy(), segments


def from_numpy(
    id_map: np.ndarray | Tensor, segments: Iterable[Mapping[str, Any]], label_space: LabelSpace
) -> PanopticSegmentation:
    """The inverse of `to_numpy`.

    Args:
        id_map: (H, W) integers, 0 where VOID.
        segments: each with `id` and `category_id`, if need be with `iscrowd` and `score`; all else is not read.
        label_space: its categories.

    Raises:
        InputError: a segment lacks its id or category, its category is unknown, or map and segments disagree.
    """
    return validated(integers(id_map, "an id map"), [segment_of(entry, label_space) for entry in segments], label_space)


def to_label_map(
    segmentation: PanopticSegmentation, label_space: LabelSpace, label_divisor: int = LABEL_DIVISOR
) -> np.ndarray:
    """One number a pixel: category id x label_divisor + number of the instance.

    Instances of a category are numbered from 1 in the order of `segments`; stuff and crowds have the number 0. A map
    cannot hold ids, scores, and more than one segment of a stuff category or more than one crowd of a thing category.

    Returns:
        (H, W) int64, -1 where VOID: 0 may be a category.

    Raises:
        InputError: there are `label_divisor` instances of one category, or more, or the category is unknown.
    """
    numbers: dict[int, int] = {}
    labels = [IGNORE]
    for segment in segmentation.segments:
        number = 0
        if label_space[segment.category_id].is_thing and not segment.is_crowd:
            number = numbers[segment.category_id] = numbers.get(segment.category_id, 0) + 1
        if number >= label_divisor:
            raise InputError(
                f"there are {label_divisor} instances of '{label_space[segment.category_id].name}' or more, which a "
                f"label_divisor of {label_divisor} cannot distinguish; choose a larger one."
            )
        labels.append(segment.category_id * label_divisor + number)
    return np.array(labels, dtype=np.int64)[segmentation.index_map().numpy()]


def from_label_map(
    label_map: np.ndarray | Tensor, label_space: LabelSpace, label_divisor: int = LABEL_DIVISOR
) -> PanopticSegmentation:
    """The inverse of `to_label_map`.

    Args:
        label_map: (H, W) integers; negative ones are VOID. A stuff category is one segment whatever the number of the
            instance; of a thing category, number 0 is a crowd.
        label_space: its categories.
        label_divisor: that the map was made with.

    Raises:
        InputError: the category of a label is unknown.
    """
    labels, positions = np.unique(integers(label_map, "a label map"), return_inverse=True)
    id_of: dict[tuple[int, int], int] = {}
    segments: list[Segment] = []
    ids = []
    for label in labels.tolist():
        if label < 0:
            ids.append(VOID)
            continue
        category_id, number = divmod(label, label_divisor)
        is_thing = label_space[category_id].is_thing
        key = category_id, number if is_thing else 0
        if key not in id_of:
            id_of[key] = len(id_of) + 1
            segments.append(Segment(id_of[key], category_id, area=0, is_crowd=is_thing and number == 0))
        ids.append(id_of[key])
    id_map = np.array(ids, dtype=np.int32)[positions].reshape(label_map.shape)
    return PanopticSegmentation.from_id_map(id_map, segments)
