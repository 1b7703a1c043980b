"""PanopticSegmentation <-> the forms of other libraries: COCO, numpy, Hugging Face, supervision.

Every form has a pair of functions. Categories are named by the data set's own ids throughout, as everywhere outside of
the network. What a form cannot hold is said in its function; all else comes back as it went.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from tascnet.data.batch import tight_boxes
from tascnet.data.coco import decode_ids, segments_info
from tascnet.errors import InputError
from tascnet.structures import IGNORE, VOID, LabelSpace, PanopticSegmentation, Segment

if TYPE_CHECKING:
    from supervision import Detections

__all__ = [
    "from_coco",
    "from_huggingface",
    "from_label_map",
    "from_numpy",
    "from_supervision",
    "to_coco",
    "to_huggingface",
    "to_label_map",
    "to_numpy",
    "to_supervision",
]

LABEL_DIVISOR = 1000
"""Instances of one category that a label map tells apart, less one; the number that Cityscapes uses."""


def to_coco(
    segmentation: PanopticSegmentation, image_id: int | str, file_name: str
) -> tuple[dict[str, Any], np.ndarray]:
    """What COCO panoptic JSON says of an image, and its map of segment ids.

    Args:
        segmentation: of one image.
        image_id: of the image.
        file_name: of the PNG that will hold the map; `data.coco.write_coco_panoptic` writes whole data sets.

    Returns:
        `{"image_id", "file_name", "segments_info"}`, where a segment is `{"id", "category_id", "area", "bbox",
        "iscrowd"}` and has a "score" where it is set, bbox as x, y, width, height in pixels; and (H, W) int32,
        0 where VOID.
    """
    annotation = {"image_id": image_id, "file_name": file_name, "segments_info": segments_info(segmentation)}
    return annotation, segmentation.id_map.numpy().copy()


def from_coco(
    annotation: Mapping[str, Any], id_map: np.ndarray | Tensor, label_space: LabelSpace
) -> PanopticSegmentation:
    """The inverse of `to_coco`. Areas and boxes are not read: they are counted from the pixels.

    Args:
        annotation: an object with `segments_info`.
        id_map: (H, W) integers, or the pixels of COCO's PNG, (H, W, 3) uint8, id = red + 256 green + 65536 blue.
        label_space: its categories.

    Raises:
        InputError: a segment lacks its id or category, its category is unknown, or map and segments disagree.
    """
    _require(annotation, ("segments_info",), "a COCO annotation")
    ids = _integers(id_map, "an id map")
    if ids.ndim == 3 and ids.shape[2] == 3 and ids.dtype == np.uint8:
        ids = decode_ids(ids)
    return _built(ids, [_segment(entry, label_space) for entry in annotation["segments_info"]], label_space)


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
    return _built(_integers(id_map, "an id map"), [_segment(entry, label_space) for entry in segments], label_space)


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
                f"label_divisor of {label_divisor} cannot tell apart; choose a larger one."
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
    labels, positions = np.unique(_integers(label_map, "a label map"), return_inverse=True)
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


def to_huggingface(segmentation: PanopticSegmentation, label_space: LabelSpace) -> dict[str, Any]:
    """What `post_process_panoptic_segmentation` of transformers gives for one image.

    Returns:
        `segmentation`, (H, W) int32 on the CPU, 0 where VOID; and `segments_info`, a list of `{"id", "label_id",
        "was_fused", "score"}`. label_id is the category's id; `was_fused` is True for stuff and for crowds, where
        objects are not told apart; score is None where it is not set.
    """
    infos = [
        {
            "id": segment.id,
            "label_id": segment.category_id,
            "was_fused": segment.is_crowd or not label_space[segment.category_id].is_thing,
            "score": segment.score,
        }
        for segment in segmentation.segments
    ]
    return {"segmentation": segmentation.id_map.clone(), "segments_info": infos}


def from_huggingface(
    result: Mapping[str, Any], label_space: LabelSpace, category_of: Mapping[int, int] | None = None
) -> PanopticSegmentation:
    """What `post_process_panoptic_segmentation` of transformers gives for one image -> PanopticSegmentation.

    Pixels of 0 or -1 are VOID, unless a segment has that id: networks count from 1 (MaskFormer, Mask2Former, DETR) or
    from 0 (EoMT). Where ids begin below 1, all become larger by as much. A thing that was fused is a crowd. Entries
    that share an id and a label, as fused stuff has them, are one segment with the best of their scores.

    Args:
        result: with `segmentation`, (H, W) integers on any device, and `segments_info`.
        label_space: its categories.
        category_of: label_id -> category id, where the network numbers categories otherwise; None where they are
            the same.

    Raises:
        InputError: a key is missing, a category is unknown, map and segments disagree, or two segments of different
            categories have one id (transformers' fusion does that at times; their pixels cannot be told apart).
    """
    _require(result, ("segmentation", "segments_info"), "one image's result of post_process_panoptic_segmentation")
    entries: dict[int, dict[str, Any]] = {}
    for info in result["segments_info"]:
        entry = _entry_of(info, label_space, category_of)
        first = entries.setdefault(entry["id"], entry)
        if first["category_id"] != entry["category_id"]:
            raise InputError(
                f"segments of the categories {first['category_id']} and {entry['category_id']} share the id "
                f"{entry['id']}, so their pixels cannot be told apart. Call post_process_panoptic_segmentation with "
                "label_ids_to_fuse=set()."
            )
        first["score"] = max((s for s in (first["score"], entry["score"]) if s is not None), default=None)
    ids = _integers(result["segmentation"], "a segmentation").astype(np.int64)
    shift = 1 - min([1, *entries])
    unlisted = (ids <= 0) & ~np.isin(ids, list(entries))
    ids = np.where(unlisted, VOID, ids + shift)
    segments = [_segment({**entry, "id": entry["id"] + shift}, label_space) for entry in entries.values()]
    return _built(ids, segments, label_space)


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
    categories = _integers(semantic, "a semantic map")
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
    free_ids = (number for number in count(1) if number not in thing_ids)
    for category_id in np.unique(categories[categories >= 0]).tolist():
        free = (categories == category_id) & (id_map == VOID)
        if free.any() and not label_space[category_id].is_thing:
            segments.append(Segment(next(free_ids), category_id, area=0))
            id_map[free] = segments[-1].id
    return _built(id_map, segments, label_space)


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


def _entry_of(
    info: Mapping[str, Any], label_space: LabelSpace, category_of: Mapping[int, int] | None
) -> dict[str, Any]:
    """A segment of transformers in the words of COCO."""
    _require(info, ("id", "label_id"), "a segment")
    label_id = int(info["label_id"])
    if category_of is not None and label_id not in category_of:
        raise InputError(f"label_id {label_id} is not in category_of, which has {len(category_of)} labels; add it.")
    category_id = label_id if category_of is None else category_of[label_id]
    return {
        "id": int(info["id"]),
        "category_id": category_id,
        "iscrowd": bool(info.get("was_fused", False)) and label_space[category_id].is_thing,
        "score": info.get("score"),
    }


def _segment(entry: Mapping[str, Any], label_space: LabelSpace) -> Segment:
    _require(entry, ("id", "category_id"), "a segment")
    score = entry.get("score")
    try:
        return Segment(
            id=int(entry["id"]),
            category_id=label_space[int(entry["category_id"])].id,
            area=0,  # counted later
            is_crowd=bool(entry.get("iscrowd", False)),
            score=None if score is None else float(score),
        )
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"segment {dict(entry)} holds a value of the wrong kind ({error}). Mend it.") from error


def _require(entry: Any, keys: Sequence[str], what: str) -> None:
    """Raise an `InputError` unless the entry is a dictionary with all the keys."""
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} is a dictionary with {' and '.join(keys)}; got {entry!r:.60}. Give one of that form.")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise InputError(f"{what} has {' and '.join(keys)}; {dict(entry)!r:.60} lacks {', '.join(missing)}. Add it.")


def _built(id_map: np.ndarray, segments: list[Segment], label_space: LabelSpace) -> PanopticSegmentation:
    return PanopticSegmentation.from_id_map(id_map, segments).validate(label_space)


def _integers(values: np.ndarray | Tensor, what: str) -> np.ndarray:
    """An array of integers, whatever holds it; its shape is looked at elsewhere."""
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) or array.ndim < 2:
        raise InputError(f"{what} is (height, width) of integers; got {array.shape} {array.dtype}. Convert it.")
    return array
