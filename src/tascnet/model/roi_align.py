"""RoIAlign: each box of a feature plane -> a grid of cells, whatever the size of the box."""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor
from torchvision import ops

from tascnet.precision import full_precision


def roi_align(
    features: Tensor, rois: Tensor, cells: int, scale: float, sampling_ratio: int, aligned: bool = True
) -> Tensor:
    """RoIAlign, by default without the half pixel that its first version was off by.

    torchvision's, but where a processor trains: there its backward pass adds up one number after another, and took an
    eighth of the step of a small network. `_weighted_rows` gives the same numbers.

    Args:
        features: (B, C, h, w) float, half precision too.
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
    trains_on_cpu = features.device.type == "cpu" and features.requires_grad and torch.is_grad_enabled()
    if trains_on_cpu and aligned and sampling_ratio > 0:
        return _weighted_rows(features, rois, cells, scale, sampling_ratio)
    return ops.roi_align(features.contiguous(), rois, cells, scale, sampling_ratio, aligned=aligned)


def _weighted_rows(features: Tensor, rois: Tensor, cells: int, scale: float, sampling_ratio: int) -> Tensor:
    """The same as a weighted sum of positions, all channels of a position at once: each is a row of a table."""
    batch, channels, height, width = features.shape
    corners = rois.double()  # so that rounding, which depends on a RoI's place in its batch, is nowhere to be seen
    row_index, row_weight = _samples(corners[:, 2], corners[:, 4], cells, scale, sampling_ratio, height)
    column_index, column_weight = _samples(corners[:, 1], corners[:, 3], cells, scale, sampling_ratio, width)
    start = rois[:, 0].long()[:, None, None, None, None] * (height * width)
    positions = start + row_index[:, :, None, :, None] * width + column_index[:, None, :, None, :]
    weights = (row_weight[:, :, None, :, None] * column_weight[:, None, :, None, :]).to(features.dtype)
    table = features.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    per_cell = positions.shape[3] * positions.shape[4]
    pooled = F.embedding_bag(
        positions.reshape(-1, per_cell), table, mode="sum", per_sample_weights=weights.reshape(-1, per_cell)
    )
    return pooled.view(len(rois), cells, cells, channels).permute(0, 3, 1, 2)


def _samples(
    low: Tensor, high: Tensor, cells: int, scale: float, sampling_ratio: int, length: int
) -> tuple[Tensor, Tensor]:
    """Along one axis, what each cell reads: (n, cells, 2 x sampling_ratio) positions and their weights.

    A point between two positions reads both; one beyond the plane by more than a position reads nothing.
    """
    points = cells * sampling_ratio
    fraction = (torch.arange(points, device=low.device, dtype=low.dtype) + 0.5) / points
    low = low[:, None] * scale - 0.5
    point = low + fraction * (high[:, None] * scale - 0.5 - low)
    weight = ((point >= -1) & (point <= length)).to(low.dtype) / sampling_ratio
    point = point.clamp(0, length - 1)
    before = point.floor().long()
    after = (before + 1).clamp(max=length - 1)
    beyond = point - before
    index = torch.stack((before, after), dim=-1)
    weights = torch.stack((weight * (1 - beyond), weight * beyond), dim=-1)
    return index.view(-1, cells, 2 * sampling_ratio), weights.view(-1, cells, 2 * sampling_ratio)
