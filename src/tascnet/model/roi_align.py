"""RoIAlign: each box of a feature plane -> a grid of cells, whatever the size of the box."""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor
from torchvision import ops

from tascnet.precision import full_precision

MOST_POINTS = 64
"""Points in a cell up to which a weighted sum of rows is the quicker way and takes little memory."""

_ROWS_AT_ONCE = 2**20
"""Rows whose positions and weights are held together, 20 bytes each."""


def roi_align(
    features: Tensor, rois: Tensor, cells: int, scale: float, sampling_ratio: int, aligned: bool = True
) -> Tensor:
    """RoIAlign, by default without the half pixel that its first version was off by.

    torchvision's, but on a processor: its kernel runs in one thread there, and its backward pass adds up one number
    after another. The weighted sum of rows gives the same numbers in a tenth of the time.

    Args:
        features: (B, C, h, w) float, half precision too; channels_last is read without a copy.
        rois: (n, 5) float: index in the batch, then x0 y0 x1 y1 in pixels of the image.
        cells: cells a side.
        scale: pixels of the plane a pixel of the image.
        sampling_ratio: points a side that are read in each cell; 0 adapts to the size of the RoI.
        aligned: a pixel's value is that of its centre; without, as torchvision's published networks were trained.

    Returns:
        (n, C, cells, cells), float32 or better: half precision would round the RoIs' corners to whole pixels.
    """
    dtype = torch.promote_types(full_precision(rois).dtype, features.dtype)
    features, rois = features.to(dtype), rois.to(dtype)
    if features.device.type != "cpu" or len(rois) == 0 or torch.compiler.is_compiling() or torch.jit.is_tracing():
        return ops.roi_align(features.contiguous(), rois, cells, scale, sampling_ratio, aligned=aligned)
    table = features.permute(0, 2, 3, 1).flatten(0, 2)  # (B h w, C): a position is a row
    plane = features.shape[2], features.shape[3]
    extents = _extents(rois, scale, aligned)
    if sampling_ratio > 0:
        return _weighted_rows(table, plane, rois, extents, cells, (sampling_ratio, sampling_ratio))
    return _adaptive(features, table, rois, extents, cells, scale, aligned)


def _extents(rois: Tensor, scale: float, aligned: bool) -> Tensor:
    """(n, 4) x0 y0 x1 y1 of RoIs in pixels of the plane, where 0 is the centre of the first."""
    corners = rois[:, 1:] * scale
    if aligned:
        return corners - 0.5
    return torch.cat((corners[:, :2], torch.maximum(corners[:, 2:], corners[:, :2] + 1)), dim=1)


def _adaptive(
    features: Tensor, table: Tensor, rois: Tensor, extents: Tensor, cells: int, scale: float, aligned: bool
) -> Tensor:
    """RoIAlign with about a point for each pixel of the plane; RoIs with equal numbers of points go together."""
    # as torchvision rounds; a RoI without extent has no point in its cells
    points = ((extents[:, 2:] - extents[:, :2]) / cells).nan_to_num(0).clamp(0, MOST_POINTS + 1).ceil().int().flip(1)
    kinds, kind_of = points.unique(dim=0, return_inverse=True)
    order = kind_of.argsort(stable=True)
    pooled = []
    for (rows, columns), here in zip(kinds.tolist(), order.split(kind_of.bincount().tolist()), strict=True):
        if rows * columns > MOST_POINTS:
            pooled.append(ops.roi_align(features.contiguous(), rois[here], cells, scale, 0, aligned=aligned))
        elif rows * columns == 0:
            pooled.append(features.new_zeros(len(here), features.shape[1], cells, cells))
        else:
            plane = features.shape[2], features.shape[3]
            pooled.append(_weighted_rows(table, plane, rois[here], extents[here], cells, (rows, columns)))
    return torch.cat(pooled)[order.argsort()]


def _weighted_rows(
    table: Tensor, plane: tuple[int, int], rois: Tensor, extents: Tensor, cells: int, points: tuple[int, int]
) -> Tensor:
    """RoIAlign as a weighted sum of rows of a table, all channels of a position at once: (n, C, cells, cells).

    Args:
        table: (B h w, C).
        plane: h and w.
        rois: (n, 5), of which only the index in the batch is read.
        extents: (n, 4), see `_extents`.
        cells: cells a side.
        points: rows and columns of points that are read in each cell.
    """
    at_once = max(_ROWS_AT_ONCE // (4 * points[0] * points[1] * cells**2), 1)
    pooled = [
        _weighted_rows_at_once(table, plane, some_rois[:, 0], some_extents, cells, points)
        for some_rois, some_extents in zip(rois.split(at_once), extents.split(at_once), strict=True)
    ]
    return torch.cat(pooled).view(len(rois), cells, cells, table.shape[1]).permute(0, 3, 1, 2)


def _weighted_rows_at_once(
    table: Tensor, plane: tuple[int, int], image_of: Tensor, extents: Tensor, cells: int, points: tuple[int, int]
) -> Tensor:
    """(n cells cells, C)."""
    height, width = plane
    corners = extents.double()  # so that rounding, which depends on a RoI's place in its batch, is nowhere to be seen
    row_index, row_weight = _samples(corners[:, 1], corners[:, 3], cells, points[0], height)
    column_index, column_weight = _samples(corners[:, 0], corners[:, 2], cells, points[1], width)
    start = image_of.long()[:, None, None, None, None] * (height * width)
    positions = start + row_index[:, :, None, :, None] * width + column_index[:, None, :, None, :]
    weights = (row_weight[:, :, None, :, None] * column_weight[:, None, :, None, :]).to(table.dtype)
    per_cell = positions.shape[3] * positions.shape[4]
    return F.embedding_bag(
        positions.reshape(-1, per_cell), table, mode="sum", per_sample_weights=weights.reshape(-1, per_cell)
    )


def _samples(low: Tensor, high: Tensor, cells: int, points: int, length: int) -> tuple[Tensor, Tensor]:
    """Along one axis, what each cell reads: (n, cells, 2 x points) positions and their weights.

    A point between two positions reads both; one beyond the plane by more than a position reads nothing.
    """
    fraction = (torch.arange(cells * points, device=low.device, dtype=low.dtype) + 0.5) / (cells * points)
    point = low[:, None] + fraction * (high - low)[:, None]
    weight = ((point >= -1) & (point <= length)).to(low.dtype) / points
    point = point.nan_to_num(0).clamp(0, length - 1)
    before = point.floor().long()
    after = (before + 1).clamp(max=length - 1)
    beyond = point - before
    index = torch.stack((before, after), dim=-1)
    weights = torch.stack((weight * (1 - beyond), weight * beyond), dim=-1)
    return index.view(-1, cells, 2 * points), weights.view(-1, cells, 2 * points)
