"""Shapes in pixels -> three planes painted at once: image, segment ids, depth.

All arithmetic in this package is addition, multiplication, division, square root and comparison:
IEEE 754 fixes every bit of their results, so a scene is the same on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil, floor, sqrt
from typing import NamedTuple

import numpy as np

from tascnet.structures import VOID, Size

Color = tuple[float, float, float]
"""Red, green, blue, 0-255; a light source may be brighter than white, so that it stays bright in a darkened scene."""

Point = tuple[float, float]
"""x, y in pixels."""

NOISE_SIDE = 256
"""Side of the square of noise; a power of two, because textures wrap around it with a bit mask."""


MIN_EXTENT = 0.4
"""Square pixels: shapes whose bounding box is smaller leave no trace and are not painted."""


class Patch(NamedTuple):
    """A shape inside its bounding box: signed distance of each pixel centre to the outline, inside positive."""

    rows: slice
    columns: slice
    distance: np.ndarray  # (h, w) float32, pixels


@dataclass(frozen=True, eq=False)
class Canvas:
    """The image being painted.

    Attributes:
        image: (3, H, W) float32, 0-255 and beyond.
        ids: (H, W) int32, segment ids.
        depth: (H, W) float32, metres from the camera; 0 in the sky, which no haze lies before.
    """

    image: np.ndarray
    ids: np.ndarray
    depth: np.ndarray

    @classmethod
    def blank(cls, size: Size) -> "Canvas":
        """A black canvas without segments."""
        return cls(np.zeros((3, *size), np.float32), np.full(size, VOID, np.int32), np.zeros(size, np.float32))

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return Size(*self.ids.shape)

    def fill(self, patch: Patch | None, color: Color, opacity: float = 1.0, softness: float = 1.0) -> None:
        """Paint a shape into the image alone: shadows, light. It fades in over `softness` pixels from its outline."""
        if patch is None:
            return
        coverage = patch.distance + np.float32(0.5)
        coverage *= np.float32(opacity / softness)
        np.maximum(coverage, np.float32(0), out=coverage)
        np.minimum(coverage, np.float32(opacity), out=coverage)
        region = self.image[:, patch.rows, patch.columns]
        change = np.array(color, np.float32)[:, None, None] - region
        change *= coverage
        region += change

    def fill_segment(
        self, patch: Patch | None, color: Color, segment_id: int, depth: float, opacity: float = 1.0
    ) -> None:
        """Paint a shape that belongs to a segment: its pixels are those whose centre is inside."""
        if patch is None:
            return
        self.fill(patch, color, opacity)
        inside = patch.distance >= 0
        np.copyto(self.ids[patch.rows, patch.columns], segment_id, where=inside)
        np.copyto(self.depth[patch.rows, patch.columns], depth, where=inside)

    def paste(
        self,
        rows: slice,
        columns: slice,
        inside: np.ndarray,
        colors: np.ndarray,
        segment_id: int,
        depth: np.ndarray | float,
    ) -> None:
        """Paint textured pixels: `colors` (3, h, w) where `inside` (h, w)."""
        np.copyto(self.image[:, rows, columns], colors, where=inside)
        np.copyto(self.ids[rows, columns], np.int32(segment_id), where=inside)
        np.copyto(self.depth[rows, columns], np.asarray(depth, np.float32), where=inside)


def window(low_x: float, low_y: float, high_x: float, high_y: float, size: Size) -> tuple[slice, slice] | None:
    """Rows and columns of the pixels that a box touches; None where it lies outside the image."""
    left, right = max(floor(low_x - 0.5), 0), min(ceil(high_x + 0.5), size.width)
    top, bottom = max(floor(low_y - 0.5), 0), min(ceil(high_y + 0.5), size.height)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def centres(part: slice) -> np.ndarray:
    """Coordinates of the pixel centres of a range of rows or columns, float32; not to be written to."""
    return _all_centres(1024 * (part.stop // 1024 + 1))[part]


@cache
def _all_centres(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.float32) + np.float32(0.5)


def polygon(points: Sequence[Point], size: Size) -> Patch | None:
    """A convex polygon, its corners in either direction of rotation; None where it cannot be seen."""
    xs, ys = [x for x, _ in points], [y for _, y in points]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    if (right - left) * (bottom - top) < MIN_EXTENT:
        return None
    place = window(left, top, right, bottom, size)
    if place is None:
        return None
    rows, columns = place
    a, b, c = np.array(_edges(points), np.float32).T[:, :, None]  # each (edges, 1)
    across = a * centres(columns)  # (edges, w)
    down = b * centres(rows) + c  # (edges, h)
    return Patch(rows, columns, (down[:, :, None] + across[:, None, :]).min(axis=0))


def ellipse(center: Point, radius_x: float, radius_y: float, size: Size) -> Patch | None:
    """An upright ellipse; distances are exact for circles and near the outline."""
    x, y = center
    place = window(x - radius_x, y - radius_y, x + radius_x, y + radius_y, size)
    if place is None or radius_x <= 0 or radius_y <= 0:
        return None
    rows, columns = place
    across = (centres(columns) - np.float32(x)) / np.float32(radius_x)
    down = (centres(rows) - np.float32(y)) / np.float32(radius_y)
    radius = np.sqrt((down * down)[:, None] + across * across)
    return Patch(rows, columns, (1 - radius) * np.float32(min(radius_x, radius_y)))


def outline(patch: Patch | None, thickness: float) -> Patch | None:
    """The rim of a shape, `thickness` pixels wide."""
    if patch is None:
        return None
    return patch._replace(distance=np.minimum(patch.distance, np.float32(thickness) - patch.distance))


def thick_line(start: Point, end: Point, start_width: float, end_width: float) -> list[Point]:
    """Corners of a line whose width in pixels goes from one value to another."""
    (x0, y0), (x1, y1) = start, end
    length = sqrt((x1 - x0) * (x1 - x0) + (y1 - y0) * (y1 - y0))
    # a limb seen end on has no direction; any will do
    nx, ny = ((y1 - y0) / length / 2, (x0 - x1) / length / 2) if length > 0 else (0.5, 0.0)
    return [
        (x0 - nx * start_width, y0 - ny * start_width),
        (x0 + nx * start_width, y0 + ny * start_width),
        (x1 + nx * end_width, y1 + ny * end_width),
        (x1 - nx * end_width, y1 - ny * end_width),
    ]


def mix(first: Color, second: Color, share: float) -> Color:
    """The first colour with a share 0..1 of the second."""
    red, green, blue = (a + (b - a) * share for a, b in zip(first, second, strict=True))
    return red, green, blue


def shade(color: Color, factor: float) -> Color:
    """A colour made darker or brighter."""
    return color[0] * factor, color[1] * factor, color[2] * factor


@cache
def smooth_noise(finest: int = 2) -> np.ndarray:
    """(256, 256) float32 in 0..1: cloudy noise that wraps around, the sum of random grids of cells down to `finest`."""
    generator = np.random.Generator(np.random.PCG64(1812_01192))
    total = np.zeros((NOISE_SIDE, NOISE_SIDE))
    for cell, weight in ((64, 8.0), (32, 6.0), (16, 5.0), (8, 4.0), (4, 3.0), (2, 2.0)):
        if cell >= finest:
            grid = generator.random((NOISE_SIDE // cell, NOISE_SIDE // cell))
            total += weight * _enlarge(_enlarge(grid, cell).T, cell).T
    low, high = total.min(), total.max()
    return ((total - low) / (high - low)).astype(np.float32)


@cache
def grain() -> np.ndarray:
    """(256, 256) float32 in 0..1: noise without any scale, one independent value a cell."""
    return np.random.Generator(np.random.PCG64(2019)).random((NOISE_SIDE, NOISE_SIDE)).astype(np.float32)


def wrap(coordinates: np.ndarray) -> np.ndarray:
    """Coordinates in cells of noise -> indices into a square of noise."""
    return np.floor(coordinates).astype(np.int32) & (NOISE_SIDE - 1)


def _enlarge(grid: np.ndarray, factor: int) -> np.ndarray:
    """Stretch the rows of a grid by linear interpolation, from the last row back to the first."""
    share = (np.arange(factor) / factor)[None, :, None]
    stretched = grid[:, None] * (1 - share) + np.roll(grid, -1, axis=0)[:, None] * share
    return stretched.reshape(-1, grid.shape[1])


def _edges(points: Sequence[Point]) -> list[tuple[float, float, float]]:
    """(a, b, c) of each edge, such that a x + b y + c is the distance to it, inside positive."""
    following = [*points[1:], points[0]]
    area = 0.0
    for (x0, y0), (x1, y1) in zip(points, following, strict=True):  # not sum(): its rounding changed in Python 3.12
        area += x0 * y1 - x1 * y0
    direction = 1.0 if area > 0 else -1.0
    edges = []
    for (x0, y0), (x1, y1) in zip(points, following, strict=True):
        dx, dy = x1 - x0, y1 - y0
        length = sqrt(dx * dx + dy * dy) * direction
        if length != 0:
            edges.append((-dy / length, dx / length, (x0 * dy - y0 * dx) / length))
    return edges
