"""Cityscapes' instanceIds PNGs -> PanopticSegmentation.

A pixel's value is the labelId of what cannot be counted: stuff, and crowds of things; or labelId * 1000 + number of an
object.
"""

from pathlib import Path

import numpy as np

from tascnet.data.formats.cityscapes_labels import CITYSCAPES, INSTANCE_BASE, NUM_LABELS
from tascnet.data.images import open_annotation
from tascnet.data.problems import DataError, Kind
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation, Segment, run_starts


def read_instance_ids(path: Path, num_labels: int = NUM_LABELS) -> np.ndarray:
    """The values of an instanceIds PNG.

    Args:
        path: the PNG.
        num_labels: labels are 0..num_labels - 1.

    Returns:
        (H, W) int32, each a known labelId or one with an object's number.

    Raises:
        InputError: the file is missing, broken, not grey with 16 bits, or holds a value of no known label.
    """
    picture = open_annotation(path)
    if not picture.mode.startswith("I"):  # I;16, or I with 32 bits
        raise DataError(
            f"{path} is a picture of mode {picture.mode}; instanceIds files are grey with 16 bits, as 8 bits cannot "
            "hold an object's number. Is it a labelIds, labelTrainIds or color file? Use *_gtFine_instanceIds.png.",
            Kind.NOT_IDS,
        )
    values = np.array(picture).astype(np.int32)
    present = _distinct(values)
    unknown = present[(present < 0) | (label_of(present) >= num_labels)].tolist()
    if unknown:
        raise DataError(
            f"{path} holds the values {', '.join(map(str, unknown[:5]))}{', ...' if unknown[5:] else ''}, which stand "
            f"for no {'Cityscapes ' * (num_labels == NUM_LABELS)}label; values are labelIds, 0 to {num_labels - 1}, or "
            f"labelId * {INSTANCE_BASE} + an object's number. Mend the file, or take the official one.",
            Kind.UNKNOWN_CATEGORY,
        )
    return values


def from_instance_ids(values: np.ndarray, label_space: LabelSpace = CITYSCAPES) -> PanopticSegmentation:
    """The segments of one picture, as the official conversion to COCO panoptic has them.

    A segment's id is its value. A thing without a number is a crowd. What is not evaluated is VOID.

    Args:
        values: (H, W) int32 as `read_instance_ids` gives them.
        label_space: the labels that are evaluated; 0 is not among them.
    """
    present = _distinct(values)
    segments = [
        Segment(value, label, area=0, is_crowd=label_space[label].is_thing and value < INSTANCE_BASE)
        for value, label in zip(present.tolist(), label_of(present).tolist(), strict=True)
        if label in label_space
    ]
    kept = np.full(int(values.max(initial=0)) + 1, VOID, dtype=np.int32)
    ids = [segment.id for segment in segments]
    kept[ids] = ids
    return PanopticSegmentation.from_id_map(kept.take(values), segments)  # four times as fast as an index


def excusing_void(values: np.ndarray) -> np.ndarray:
    """(H, W) bool: the pixels that the official instance evaluation calls void.

    They are VOID in `from_instance_ids` too, but not the reverse: caravans and trailers with an object's number are
    not evaluated, and yet the official script does not count them as void.
    """
    return (values < INSTANCE_BASE) & ~np.isin(values, list(CITYSCAPES.by_id))


def label_of(values: np.ndarray) -> np.ndarray:
    """The labelIds of values, of the same shape."""
    return np.where(values < INSTANCE_BASE, values, values // INSTANCE_BASE)


def _distinct(values: np.ndarray) -> np.ndarray:
    """The distinct values, ascending."""
    flat = values.ravel()
    return np.unique(flat[run_starts(flat)]) if flat.size else flat
