"""Checks that all forms share, before their content becomes a PanopticSegmentation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation, Segment


def segment_of(entry: Mapping[str, Any], label_space: LabelSpace) -> Segment:
    """A segment in the words of COCO -> `Segment`, whose pixels are not counted yet.

    Raises:
        InputError: its id or category is missing, a value is of the wrong kind, or the category is unknown.
    """
    require_keys(entry, ("id", "category_id"), "a segment")
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
        raise InputError(f"segment {dict(entry)} holds a value of the wrong kind ({error}). Fix it.") from error


def require_keys(entry: Any, keys: Sequence[str], what: str) -> None:
    """Make sure that an entry is a dictionary with all the keys.

    Raises:
        InputError: it is none, or lacks one.
    """
    if not isinstance(entry, Mapping):
        raise InputError(f"{what} is a dictionary with {' and '.join(keys)}; got {entry!r:.60}. Give one of that form.")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise InputError(f"{what} has {' and '.join(keys)}; {dict(entry)!r:.60} lacks {', '.join(missing)}. Add it.")


def validated(id_map: np.ndarray, segments: list[Segment], label_space: LabelSpace) -> PanopticSegmentation:
    """Map and segments together, areas counted from the pixels.

    Raises:
        InputError: map and segments disagree, or a category is unknown.
    """
    return PanopticSegmentation.from_id_map(id_map, segments).validate(label_space)


def integers(values: np.ndarray | Tensor, what: str) -> np.ndarray:
    """An array of integers, whatever holds it; its shape is looked at elsewhere.

    Raises:
        InputError: it holds other values, or has less than two dimensions.
    """
    array = values.cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) or array.ndim < 2:
        raise InputError(f"{what} is (height, width) of integers; got {array.shape} {array.dtype}. Convert it.")
    return array
