"""PanopticSegmentation <-> what transformers' `post_process_panoptic_segmentation` gives."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tascnet.convert.checks import integers, require_keys, segment_of, validated
from tascnet.errors import InputError
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation


def to_huggingface(segmentation: PanopticSegmentation, label_space: LabelSpace) -> dict[str, Any]:
    """The output of `post_process_panoptic_segmentation` of transformers for one image.

    Returns:
        `segmentation`, (H, W) int32 on the CPU, 0 where VOID; and `segments_info`, a list of `{"id", "label_id",
        "was_fused", "score"}`. label_id is the category's id; `was_fused` is True for stuff and for crowds, where
        objects are not separated; score is None where it is not set.
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
    """Convert the output of `post_process_panoptic_segmentation` of transformers for one image.

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
            categories have one id (transformers' fusion does that at times; their pixels cannot be separated).
    """
    require_keys(result, ("segmentation", "segments_info"), "one image's result of post_process_panoptic_segmentation")
    entries: dict[int, dict[str, Any]] = {}
    for info in result["segments_info"]:
        entry = _entry_of(info, label_space, category_of)
        first = entries.setdefault(entry["id"], entry)
        if first["category_id"] != entry["category_id"]:
            raise InputError(
                f"segments of the categories {first['category_id']} and {entry['category_id']} share the id "
                f"{entry['id']}, so their pixels cannot be separated. Call post_process_panoptic_segmentation with "
                "label_ids_to_fuse=set()."
            )
        first["score"] = max((s for s in (first["score"], entry["score"]) if s is not None), default=None)
    given = result["segmentation"]
    if not entries and bool((given == -1).all()):
        given = np.zeros(given.shape, dtype=np.int64)  # without a segment, transformers fills floats with -1
    ids = integers(given, "a segmentation").astype(np.int64)
    shift = 1 - min([1, *entries])
    unlisted = (ids <= 0) & ~np.isin(ids, list(entries))
    ids = np.where(unlisted, VOID, ids + shift)
    segments = [segment_of({**entry, "id": entry["id"] + shift}, label_space) for entry in entries.values()]
    return validated(ids, segments, label_space)


def _entry_of(
    info: Mapping[str, Any], label_space: LabelSpace, category_of: Mapping[int, int] | None
) -> dict[str, Any]:
    """A segment of transformers in the words of COCO."""
    require_keys(info, ("id", "label_id"), "a segment")
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
