"""Outlines and run-length codes of instances, as COCO writes them -> one id map, one instance at a time."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from faster_coco_eval.core import mask as rle

from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.errors import InputError, shown
from tascnet.structures import LabelSpace, Size

ERROR, SMALLER_IN_FRONT = "error", "smaller-in-front"
"""Rules for overlaps; a third is a list of categories, those in front first."""


class Mask(NamedTuple):
    """One instance.

    Attributes:
        id: its id in the id map.
        category_id: the data set's own.
        is_crowd: many objects in one region.
        code: COCO's compressed run-length code.
        name: what an error calls it.
    """

    id: int
    category_id: int
    is_crowd: bool
    code: dict[str, Any]
    name: str

    @property
    def area(self) -> int:
        """Number of pixels, hidden ones too."""
        return int(rle.area(self.code))


class Overlaps:
    """Which of two overlapping instances is in front. Crowds lie behind all other instances, whatever the rule.

    Attributes:
        rule: "error" raises where two instances that are no crowds share a pixel; "smaller-in-front"; or names of
            thing categories with commas between them: the first lies in front of all, categories that are not named
            lie behind. Among equals the smaller instance is in front, of equal areas the later in the file.
    """

    def __init__(self, rule: str, label_space: LabelSpace):
        """Check the rule.

        Raises:
            InputError: it names what is no thing category.
        """
        self.rule = rule
        things = {category.name: category.id for category in label_space.things}
        names = [] if rule in (ERROR, SMALLER_IN_FRONT) else [name.strip() for name in rule.split(",")]
        unknown = [name for name in names if name not in things]
        if unknown:
            raise InputError(
                f"overlaps is '{rule}'; '{unknown[0]}' is no thing category. It is {ERROR}, {SMALLER_IN_FRONT}, or "
                "names of thing categories with commas between them, those in front first "
                f"({', '.join(list(things)[:8])})."
            )
        self._rank = {things[name]: rank for rank, name in enumerate(reversed(names), start=1)}

    def back_to_front(self, masks: Sequence[Mask]) -> list[Mask]:
        """The instances in the order in which they are painted."""
        return sorted(masks, key=lambda mask: (not mask.is_crowd, self._rank.get(mask.category_id, 0), -mask.area))


def encode_mask(segmentation: Any, size: Size, where: str) -> dict[str, Any]:
    """The `segmentation` of a COCO annotation (polygons or a run-length code) as compressed run-length code.

    Args:
        segmentation: [[x, y, x, y, ...], ...], or {"counts": list or text, "size": [height, width]}.
        size: of the picture.
        where: what an error calls it.

    Raises:
        InputError: it is neither, is of another size, encloses no area, lies mostly outside of the picture, or reaches
            farther than a picture's length out of it.
    """
    if isinstance(segmentation, list) and segmentation:
        polygons = [_polygon(points, size, where) for points in segmentation]
        _check_inside(polygons, size, where)
        merged: dict[str, Any] = rle.merge(rle.frPyObjects(polygons, size.height, size.width))
        return merged
    if isinstance(segmentation, dict) and segmentation.get("size") == list(size):
        code = {"size": list(size), "counts": segmentation.get("counts")}
        if isinstance(code["counts"], str):
            return _checked(code | {"counts": code["counts"].encode("utf-8")}, where)
        if _are_counts(code["counts"], size):
            compressed: dict[str, Any] = rle.frPyObjects(code, size.height, size.width)
            return compressed
    raise DataError(
        f"{where}: the segmentation is neither a list of polygons nor a run-length code of {size.height} x "
        f"{size.width} pixels (height x width): {shown(segmentation, 60)}. Fix the annotation.",
        Kind.BROKEN_MASK,
    )


def paint(id_map: np.ndarray, masks: Sequence[Mask], overlaps: Overlaps, on_problem: OnProblem = stop) -> None:
    """Write instances into an id map, one plane at a time.

    Args:
        id_map: (H, W) int32, changed in place; what no instance covers stays.
        masks: instances, their ids not in the map yet.
        overlaps: which of two is in front.
        on_problem: called where two instances share a pixel and the rule is "error"; the default raises.
    """
    of_id = {mask.id: mask for mask in masks}
    for mask in overlaps.back_to_front(masks):
        window, pixels = _decode(mask)
        if overlaps.rule == ERROR and not mask.is_crowd:
            covered = [of_id[i] for i in np.unique(id_map[window][pixels]).tolist() if i in of_id]
            for other in covered:
                if not other.is_crowd:
                    on_problem(_overlap(other, mask))
        id_map[window][pixels] = mask.id


def _checked(code: dict[str, Any], where: str) -> dict[str, Any]:
    """A compressed code that can be decoded; only decoding shows that."""
    try:
        rle.decode(code)
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{where}: the run-length code is broken ({error}). Fix it.", Kind.BROKEN_MASK) from error
    return code


def _are_counts(counts: Any, size: Size) -> bool:
    """Whether it is a list of run lengths that fill a picture."""
    if not isinstance(counts, list) or not all(isinstance(count, int) and count >= 0 for count in counts):
        return False
    return sum(counts) == size.height * size.width


def _decode(mask: Mask) -> tuple[tuple[slice, slice], np.ndarray]:
    """The window around a mask (rows, columns), and its pixels in there, bool."""
    plane = rle.decode(mask.code)  # (H, W)
    left, top, width, height = (int(value) for value in rle.toBbox(mask.code))
    window = slice(top, top + height), slice(left, left + width)
    return window, plane[window].astype(bool)


def _overlap(one: Mask, other: Mask) -> DataError:
    return DataError(
        f"{one.name} and annotation {other.name.split()[-1]} overlap. Fix one of them, or set overlaps to "
        f"{SMALLER_IN_FRONT} or to a list of categories, those in front first.",
        Kind.OVERLAP,
    )


def _check_inside(polygons: list[list[float]], size: Size, where: str) -> None:
    """Check that outlines enclose an area, of which at least half lies in the picture.

    Outlines reach a pixel or two out of their picture in good data; those of another picture, or of one that was
    resized, lie outside for the most part, and what is left of them would be believed.
    """
    corners = [np.array(polygon).reshape(-1, 2) for polygon in polygons]
    whole = sum(_area(of_polygon) for of_polygon in corners)
    inside = sum(_area(_clipped(of_polygon, size)) for of_polygon in corners)
    if whole == 0:
        raise DataError(
            f"{where}: the outline encloses no area, its corners lie on a line. Draw it anew, or remove it.",
            Kind.BROKEN_MASK,
        )
    if inside < whole / 2:
        raise DataError(
            f"{where}: {1 - inside / whole:.0%} of the outline lie outside of the picture of {size.height} x "
            f"{size.width} pixels (height x width). Check that it is of this picture, at this size.",
            Kind.BROKEN_MASK,
        )


def _area(corners: np.ndarray) -> float:
    """Area of a polygon (n, 2), by the shoelace formula."""
    x, y = corners.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _clipped(corners: np.ndarray, size: Size) -> np.ndarray:
    """The part of a polygon (n, 2) that is in the picture, by Sutherland and Hodgman: one side after the other."""
    for axis, limit, sign in ((0, 0, 1), (0, size.width, -1), (1, 0, 1), (1, size.height, -1)):
        if not len(corners):
            break
        distance = sign * (corners[:, axis] - limit)  # 0 or more is inside
        following, next_distance = np.roll(corners, -1, axis=0), np.roll(distance, -1)
        crosses = (distance >= 0) != (next_distance >= 0)
        share = np.divide(distance, distance - next_distance, out=np.zeros_like(distance), where=crosses)
        crossings = corners + share[:, None] * (following - corners)
        pairs = np.stack([corners, crossings], axis=1).reshape(-1, 2)
        corners = pairs[np.stack([distance >= 0, crosses], axis=1).ravel()]
    return corners


def _polygon(points: Any, size: Size, where: str) -> list[float]:
    """The corners of an outline, checked: a coordinate far outside would keep the rasteriser busy for hours."""
    try:
        corners = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        corners = np.empty(0)
    if corners.ndim != 1 or len(corners) < 6 or len(corners) % 2 or not np.isfinite(corners).all():
        raise DataError(
            f"{where}: a polygon is a list x, y, x, y, ... of three corners or more; it is "
            f"{shown(points, 60)}. Fix it.",
            Kind.BROKEN_MASK,
        )
    xy = corners.reshape(-1, 2)
    limit = (size.width, size.height)
    if (xy < -np.array(limit)).any() or (xy > 2 * np.array(limit)).any():
        raise DataError(
            f"{where}: a polygon reaches from {xy.min(0).tolist()} to {xy.max(0).tolist()} (x, y), far out of its "
            f"picture of {size.height} x {size.width} pixels (height x width). Fix it.",
            Kind.BROKEN_MASK,
        )
    return corners.tolist()
