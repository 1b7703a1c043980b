"""Masks inside boxes -> the image plane.

One bilinear convention for the whole project, that of `grid_sample(align_corners=False, padding_mode="zeros")`: sample
i of M along a box from y0 to y1 has its centre at y0 + (i + 0.5) (y1 - y0) / M, pixel p has its centre at p + 0.5, and
the weight of a sample at distance d, counted in samples, is the hat function max(0, 1 - d). Bilinear interpolation is
separable, so pasting is two small matrix products: W_y @ mask @ W_x^T.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from tascnet.errors import InputError
from tascnet.precision import full_precision
from tascnet.structures import Instances, Size

MASK_THRESHOLD = 0.5
"""Pixels of a pasted mask with a probability above it are the object."""

_WEIGHTS_AT_ONCE = 2**19
"""Weights of several boxes that are held together: 2 MB of float32."""


class PastedMask(NamedTuple):
    """The pixels of an instance inside its box.

    Attributes:
        pixels: (bh, bw) bool, True on the object; may have no rows or no columns.
        top: row of the image in which `pixels` starts.
        left: column of the image in which `pixels` starts.
    """

    pixels: Tensor
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns that the crop covers: `plane[mask.window]` has the shape of `pixels`."""
        return _window(self.pixels, self.top, self.left)


class PastedProbabilities(NamedTuple):
    """The probabilities of an instance inside its box, as `PastedMask`: `values` is (bh, bw) float, 0..1."""

    values: Tensor
    top: int
    left: int

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns that the crop covers."""
        return _window(self.values, self.top, self.left)


def _window(crop: Tensor, top: int, left: int) -> tuple[slice, slice]:
    height, width = crop.shape
    return slice(top, top + height), slice(left, left + width)


def interpolation_weights(starts: Tensor, ends: Tensor, length: int, num_samples: int) -> Tensor:
    """The bilinear weights with which a box's samples along one axis make up the pixels of a plane.

    Args:
        starts: (N,) float, where the boxes begin along one axis, in pixels.
        ends: (N,) float, where they end. A box without extent, or with a coordinate that is not finite, gets no weight.
        length: number of pixels of the plane along that axis.
        num_samples: M, the samples of a mask along that axis.

    Returns:
        (N, length, M), float32 or better. A pixel whose centre is in [start, end) has at most two neighbouring samples
        above zero; their sum is 1, and falls to 1/2 towards the ends of the box, where one of them is beyond the
        outermost. All other pixels have none.
    """
    starts, ends = full_precision(starts), full_precision(ends)
    centres = torch.arange(length, dtype=starts.dtype, device=starts.device) + 0.5
    starts, ends = starts[:, None], ends[:, None]
    # multiplied before divided: a centre that falls on a sample falls on it exactly
    positions = (centres - starts) * num_samples / (ends - starts) - 0.5  # (N, length), in samples
    inside = (centres >= starts) & (centres < ends) & torch.isfinite(ends - starts)
    positions = positions.where(inside, -1)  # a whole sample away from sample 0: out of its reach
    samples = torch.arange(num_samples, dtype=starts.dtype, device=starts.device)
    # in place: these are the largest numbers in the making of a plane
    return (positions[:, :, None] - samples).abs_().neg_().add_(1).clamp_(min=0)


def covered_pixels(start: float, end: float, length: int) -> tuple[int, int]:
    """The pixels, first and one past the last, whose centres are in [start, end) and on a plane of `length` pixels."""
    if not (math.isfinite(start) and math.isfinite(end)):
        return 0, 0
    first = min(max(math.ceil(start - 0.5), 0), length)
    last = min(max(math.ceil(end - 0.5), first), length)
    return first, last


def paste_mask(mask: Tensor, box: Tensor, size: Size, threshold: float = 0.5) -> PastedMask:
    """Lay one instance's mask into its box and cut at the threshold; only the box's pixels on the image are computed.

    Args:
        mask: (M, M) float, probabilities 0..1.
        box: (4,) float, x0 y0 x1 y1 in pixels of the image.
        size: height and width of the image.
        threshold: pixels with a probability above it are the object.

    Returns:
        The crop, with the pixels whose centres are inside the box. It is empty where there are none: a box without
        extent, outside the image, thinner than the distance of two pixel centres, or with a coordinate that is not
        finite.
    """
    values, top, left = paste_probabilities(mask, box, size)
    return PastedMask(values > threshold, top, left)


def paste_probabilities(mask: Tensor, box: Tensor, size: Size) -> PastedProbabilities:
    """Lay one instance's mask into its box, as `paste_mask` does, without cutting it: float32 or better."""
    box, mask = full_precision(box), full_precision(mask)
    x0, y0, x1, y1 = box.tolist()
    top, bottom = covered_pixels(y0, y1, size.height)
    left, right = covered_pixels(x0, x1, size.width)
    if top == bottom or left == right:
        return PastedProbabilities(mask.new_zeros(0, 0), top, left)
    shift = box.new_tensor([left, top, left, top])
    starts_x, starts_y, ends_x, ends_y = (box - shift).unbind()
    rows = interpolation_weights(starts_y[None], ends_y[None], bottom - top, mask.shape[-2])[0]  # (bh, M)
    columns = interpolation_weights(starts_x[None], ends_x[None], right - left, mask.shape[-1])[0]  # (bw, M)
    with torch.autocast(mask.device.type, enabled=False):  # a product in half precision moves a mask's border
        values = rows @ mask.to(rows.dtype) @ columns.T
    return PastedProbabilities(values, top, left)


def paste_each(masks: Tensor, boxes: Tensor, size: Size) -> Iterator[PastedProbabilities]:
    """Lay several masks into their boxes, as `paste_probabilities` does one; a device is waited for once in all.

    Args:
        masks: (N, M, M) float, probabilities 0..1.
        boxes: (N, 4) float, x0 y0 x1 y1 in pixels of the image, on the same device.
        size: height and width of the image.

    Returns:
        An iterator over the crops, in their order. Some of them are prepared together, in a few megabytes.
    """
    boxes, masks = full_precision(boxes), full_precision(masks)
    windows = [
        (*covered_pixels(x0, x1, size.width), *covered_pixels(y0, y1, size.height)) for x0, y0, x1, y1 in boxes.tolist()
    ]
    corners = torch.tensor([[left, top] * 2 for left, _, top, _ in windows], dtype=boxes.dtype).view(-1, 4)
    boxes = boxes - corners.to(boxes.device, non_blocking=True)
    masks = masks.to(boxes.dtype)
    first = 0
    while first < len(windows):
        last, longest = first, 1
        while last < len(windows):
            left, right, top, bottom = windows[last]
            longest = max(longest, right - left, bottom - top)
            if last > first and (last + 1 - first) * longest * sum(masks.shape[1:]) > _WEIGHTS_AT_ONCE:
                break
            last += 1
        yield from _paste_some(masks[first:last], boxes[first:last], windows[first:last])
        first = last


def _paste_some(
    masks: Tensor, boxes: Tensor, windows: list[tuple[int, int, int, int]]
) -> Iterator[PastedProbabilities]:
    """The crops of some masks; boxes start near 0, windows are left, right, top, bottom in the image."""
    starts_x, starts_y, ends_x, ends_y = boxes.unbind(1)
    height = max(bottom - top for _, _, top, bottom in windows)
    width = max(right - left for left, right, _, _ in windows)
    rows = interpolation_weights(starts_y, ends_y, height, masks.shape[-2])
    columns = interpolation_weights(starts_x, ends_x, width, masks.shape[-1])
    for mask, of_rows, of_columns, (left, right, top, bottom) in zip(masks, rows, columns, windows, strict=True):
        if top == bottom or left == right:
            yield PastedProbabilities(mask.new_zeros(0, 0), top, left)
            continue
        with torch.autocast(mask.device.type, enabled=False):  # a product in half precision moves a mask's border
            values = of_rows[: bottom - top] @ mask @ of_columns[: right - left].T
        yield PastedProbabilities(values, top, left)


def paste_instances(instances: Instances, size: Size, num_things: int) -> Iterator[tuple[int, float, PastedMask]]:
    """The thing index, score and pixels of each instance, one after the other.

    Args:
        instances: boxes in pixels of the image.
        size: of the image.
        num_things: K_th; labels are 0..K_th-1.

    Raises:
        InputError: a label is no thing index; before the first instance is laid out.
    """
    instances = instances.to("cpu")
    labels = instances.labels.tolist()
    unknown = [label for label in labels if not 0 <= label < num_things]
    if unknown:
        raise InputError(f"label {unknown[0]} is no thing index; this label space has {num_things} things, 0 first.")
    for mask, box, label, score in zip(
        instances.masks, instances.boxes, labels, instances.scores.tolist(), strict=True
    ):
        yield label, score, paste_mask(mask, box, size, MASK_THRESHOLD)
