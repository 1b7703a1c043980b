"""Coarse planes over an image: which cells lie where, and the planes interpolated at the image's pixels.

A network computes its maps in cells of `stride` pixels, the first at the image's upper left corner. Where a side of
the image is no multiple of the stride, the last cells reach beyond the image, and the side measures a fraction of
cells. Everything that reads a plane at the pixels of an image places it here, so that cells lie where they were
computed.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tascnet.precision import full_precision
from tascnet.structures import Size

_PIXELS_AT_ONCE = 2**15
"""Pixels interpolated together: 2**15 x 133 channels of float32 are 17 MB."""


class Extent(NamedTuple):
    """How many cells of a plane the image is high and wide; fractions where its last cells reach beyond the image."""

    rows: float
    columns: float


@dataclass(frozen=True, eq=False)
class Plane:
    """Values in cells over an image, the first cell at the image's upper left corner.

    Attributes:
        values: (..., h, w), of any type.
        extent: cells that the image covers: at most (h, w), and more than (h - 1, w - 1).
        offset: cells; how far below and to the right of a cell's centre the point lies that its value stands for.
    """

    values: Tensor
    extent: Extent
    offset: float = 0.0

    @classmethod
    def covering(cls, values: Tensor) -> "Plane":
        """A plane whose h x w cells cover exactly the image."""
        return cls(values, Extent(*values.shape[-2:]))

    @classmethod
    def at_stride(cls, values: Tensor, stride: int, size: Size, offset: float = 0.0) -> "Plane":
        """A plane of cells of `stride` pixels over an image; cells beyond the image are cut off.

        Args:
            values: (..., h, w).
            stride: pixels.
            size: of the image, pixels.
            offset: of the points that the values stand for from the centres of their cells, pixels.
        """
        extent = Extent(size.height / stride, size.width / stride)
        height, width = -(-size.height // stride), -(-size.width // stride)
        return cls(values[..., :height, :width], extent, offset / stride)

    @property
    def grid(self) -> Size:
        """Number of rows and columns of cells, (h, w)."""
        return Size(*self.values.shape[-2:])

    def with_values(self, values: Tensor) -> "Plane":
        """Other values in the same cells."""
        return replace(self, values=values)

    def cpu(self) -> "Plane":
        """The plane in main memory."""
        return replace(self, values=self.values.cpu())


def as_plane(values: Plane | Tensor) -> Plane:
    """A plane as it is; a tensor (..., h, w) covers exactly the image."""
    return values if isinstance(values, Plane) else Plane.covering(values)


def interpolated(plane: Plane | Tensor, size: Size) -> Tensor:
    """The plane at the pixels of an image, bilinear.

    A plane that covers exactly the image gives `interpolate(values, size, mode="bilinear", align_corners=False)`.

    Args:
        plane: values (..., h, w) float; half precision is interpolated in float32.
        size: height and width of the image.

    Returns:
        (..., H, W) float.
    """
    return InterpolatedCrops(plane, size)[slice(None), slice(None)]


class InterpolatedCrops:
    """A plane at the pixels of an image, bilinear, of which crops are read: `interpolated(plane, size)[..., window]`.

    The rows are interpolated once; they are all that is held.
    """

    def __init__(self, plane: Plane | Tensor, size: Size):
        """Interpolate the rows of a plane: values (..., h, w) float, for an image of that size."""
        plane = as_plane(plane)
        values = full_precision(plane.values)
        rows = _neighbours(plane.grid.height, plane.extent.rows, plane.offset, size.height, values)
        self._columns = _neighbours(plane.grid.width, plane.extent.columns, plane.offset, size.width, values)
        self._rows = torch.lerp(
            values.index_select(-2, rows.low), values.index_select(-2, rows.high), rows.weight[:, None]
        )

    def __getitem__(self, window: tuple[slice, slice]) -> Tensor:
        """(..., bh, bw): the pixels of some rows and columns."""
        rows, (low, high, weight) = self._rows[..., window[0], :], (part[window[1]] for part in self._columns)
        return torch.lerp(rows.index_select(-1, low), rows.index_select(-1, high), weight)


def interpolated_argmax(logits: Plane | Tensor, size: Size) -> Tensor:
    """The best channel of each pixel after bilinear interpolation, without ever holding the interpolated channels.

    Equal to `interpolated(logits, size).argmax(0)`. A pixel is a convex combination of four logits; where one channel
    is best in all four it is best in the pixel. Only the other pixels, those along the borders of regions, are
    interpolated.

    Args:
        logits: values (C, h, w) float.
        size: height and width of the image.

    Returns:
        (H, W) int16 on the device of the logits.
    """
    plane = as_plane(logits)
    (height, width), values = plane.grid, full_precision(plane.values)
    rows = _neighbours(height, plane.extent.rows, plane.offset, size.height, values)
    columns = _neighbours(width, plane.extent.columns, plane.offset, size.width, values)
    coarse = _argmax(values)  # (h, w)
    same = _same_as_next(coarse)
    # columns first: they are copied value by value and there are only h rows of them; rows are copied whole
    best = coarse.index_select(1, columns.low).index_select(0, rows.low)  # (H, W)
    sure = same.index_select(1, columns.low).index_select(0, rows.low)
    unsure = sure.logical_not_().flatten().nonzero().squeeze(1)  # flat pixel indices
    table = values.flatten(1).T.contiguous()  # (h w, C)
    for pixels in unsure.split(_PIXELS_AT_ONCE):
        row, column = pixels // size.width, pixels % size.width
        top, bottom = rows.low[row] * width, rows.high[row] * width
        left, right = columns.low[column], columns.high[column]
        down, across = rows.weight[row], columns.weight[column]
        corners = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=1)
        weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], 1)
        mixed = functional.embedding_bag(corners, table, mode="sum", per_sample_weights=weights)  # (P, C)
        best.view(-1)[pixels] = mixed.argmax(1).to(best.dtype)
    return best


def at_cells(image_map: Tensor, plane: Plane | Tensor) -> Tensor:
    """The value of an image's map at the point that each cell of a plane over that image stands for.

    Args:
        image_map: (H, W), of any type.
        plane: values (..., h, w), of which only the place matters.

    Returns:
        (h, w); a cell whose point is beyond the image has the value of the image's last row or column.
    """
    plane = as_plane(plane)
    rows = _pixels_of_cells(plane.grid.height, plane.extent.rows, plane.offset, image_map.shape[0], image_map)
    columns = _pixels_of_cells(plane.grid.width, plane.extent.columns, plane.offset, image_map.shape[1], image_map)
    return image_map.index_select(0, rows).index_select(1, columns)


class _Neighbours(NamedTuple):
    """Along one axis, for each pixel: its two neighbouring cells and the weight of the second."""

    low: Tensor
    high: Tensor
    weight: Tensor


def _neighbours(cells: int, extent: float, offset: float, pixels: int, like: Tensor) -> _Neighbours:
    """Neighbours as `interpolate(align_corners=False)` chooses them: positions before the first point are clamped."""
    centres = torch.arange(pixels, dtype=like.dtype, device=like.device) + 0.5
    scale = float(torch.tensor(extent, dtype=like.dtype) / pixels)  # rounded as `interpolate` rounds it
    positions = (centres * scale - (0.5 + offset)).clamp(min=0)
    low = positions.long().clamp(max=cells - 1)
    return _Neighbours(low, (low + 1).clamp(max=cells - 1), (positions - low).clamp(max=1))


def _pixels_of_cells(cells: int, extent: float, offset: float, pixels: int, like: Tensor) -> Tensor:
    """Along one axis: the pixel that the point of each cell lies in, (cells,) int64."""
    # integers until the division, so that no point falls into the pixel before its own; extents and offsets are whole
    # multiples of 1 / (2 stride), so 1024 of them are whole
    points = torch.arange(cells, device=like.device) * 1024 + round((0.5 + offset) * 1024)
    return (points * pixels).div(round(extent * 1024), rounding_mode="floor").clamp(max=pixels - 1)


def _argmax(logits: Tensor) -> Tensor:
    """(C, h, w) -> (h, w) int16, the first best channel; quicker than `argmax(0)`, which strides over the planes."""
    highest = logits[0].clone()
    best = torch.zeros_like(highest, dtype=torch.int16)
    for channel in range(1, len(logits)):
        best.masked_fill_(logits[channel] > highest, channel)
        torch.maximum(highest, logits[channel], out=highest)
    return best


def _same_as_next(coarse: Tensor) -> Tensor:
    """(h, w) bool: True where a value equals its right, lower and lower right neighbours (at the end: itself)."""
    beside = torch.cat([coarse[:, 1:], coarse[:, -1:]], dim=1) == coarse
    rows_below = torch.cat([coarse[1:], coarse[-1:]]) == coarse
    return beside & rows_below & torch.cat([beside[1:], beside[-1:]])
