"""RoI-Flatten: the masks of one image's instances -> one things mask."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tascnet.planes.paste import covered_pixels, interpolation_weights
from tascnet.precision import full_precision
from tascnet.structures import Size

NEGLIGIBLE = 1e-5
"""A pasted score below this is rounding, not a vote: where a pixel centre falls on a sample that is zero, float32 may
leave some 1e-6 of the neighbouring samples, and counting that as an instance would halve another one's score."""

_WEIGHTS_AT_ONCE = 32
"""Instances whose interpolation weights are held together: 32 x 512 x 28 of float32 are 2 MB."""

_PASTED_AT_ONCE = {"cpu": 1}
"""Instances pasted together, by type of device, at most `_WEIGHTS_AT_ONCE`, which is the number where none is given. A
processor is quickest with one box after another; an accelerator would spend its time starting small products."""


def roi_flatten(masks: Tensor, boxes: Tensor, size: Size, stride: int = 4, threshold: float = 0.5) -> Tensor:
    """Merge the masks of one image's instances into one things mask (section 4 of the method, the paper's Figure 3).

    Scores not above the threshold are set to zero; the masks are laid into their boxes, bilinearly; where instances
    overlap, the mean of their scores is taken:

        s_k    = mask k in the plane, 0 outside its box
        M_th   = sum_k s_k / max(1, number of k with s_k > 0)

    Differentiable in `masks`, once; boxes are constants, our reading. Neither N planes nor N x h x w numbers are ever
    held: each box's pixels are computed where they lie, in the backward pass too.

    Args:
        masks: (N, M, M) float, probabilities 0..1. Half precision is computed, and answered, in float32.
        boxes: (N, 4) float, x0 y0 x1 y1 in pixels of the image. A box without extent or outside the plane adds nothing.
        size: height and width of the working plane.
        stride: image pixels a pixel of the plane.
        threshold: scores above it are kept.

    Returns:
        (h, w) M_th, 0..1. A pixel belongs to a box when its centre does; right and lower edges are outside.
    """
    masks = full_precision(masks)
    boxes = boxes.detach().to(masks.dtype) / stride
    kept = masks.where(masks > threshold, 0)
    with torch.autocast(masks.device.type, enabled=False):  # half precision cannot tell pixel 2048 from 2049
        merged: Tensor = _MeanOfPasted.apply(kept, boxes, size)
    return merged


class _MeanOfPasted(torch.autograd.Function):
    """The mean of pasted masks over the instances that are above zero; boxes in pixels of the plane."""

    @staticmethod
    def forward(ctx: Any, masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
        total = masks.new_zeros(size)
        votes = masks.new_zeros(size)
        for piece in _pieces(boxes, size, masks.shape[-1]):
            pasted = piece.rows @ masks[piece.instances] @ piece.columns.mT  # (n, bh, bw)
            total[piece.window] += pasted.sum(0)
            votes[piece.window] += (pasted > NEGLIGIBLE).sum(0)
        votes.clamp_(min=1)
        ctx.save_for_backward(boxes, votes)
        ctx.mask_shape = masks.shape
        return total / votes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        boxes, votes = ctx.saved_tensors
        gradient = gradient / votes
        to_masks = gradient.new_zeros(ctx.mask_shape)
        with torch.autocast(gradient.device.type, enabled=False):  # as the forward pass
            for piece in _pieces(boxes, Size(*votes.shape), ctx.mask_shape[-1]):
                to_masks[piece.instances] = piece.rows.mT @ gradient[piece.window] @ piece.columns
        return to_masks, None, None


class _Piece(NamedTuple):
    """Some instances, the window of the plane that holds their boxes, and their interpolation weights in it."""

    instances: slice
    window: tuple[slice, slice]
    rows: Tensor  # (n, bh, M)
    columns: Tensor  # (n, bw, M)


def _pieces(boxes: Tensor, size: Size, num_samples: int) -> Iterator[_Piece]:
    """Cut the work so that little memory is held; pieces without a pixel are left out."""
    all_corners = boxes.tolist()  # at once: each time, the host waits for the device
    at_once = _PASTED_AT_ONCE.get(boxes.device.type, _WEIGHTS_AT_ONCE)
    for first in range(0, len(boxes), _WEIGHTS_AT_ONCE):
        group = boxes[first : first + _WEIGHTS_AT_ONCE]
        rows = interpolation_weights(group[:, 1], group[:, 3], size.height, num_samples)
        columns = interpolation_weights(group[:, 0], group[:, 2], size.width, num_samples)
        corners = all_corners[first : first + _WEIGHTS_AT_ONCE]
        for i in range(0, len(corners), at_once):
            part = slice(i, min(i + at_once, len(corners)))
            window = _window(corners[part], size)
            if window is not None:
                instances = slice(first + part.start, first + part.stop)
                yield _Piece(instances, window, rows[part, window[0]], columns[part, window[1]])


def _window(boxes: list[list[float]], size: Size) -> tuple[slice, slice] | None:
    """Rows and columns of the plane that hold all pixels of these boxes; None where there are none."""
    spans = [(*covered_pixels(y0, y1, size.height), *covered_pixels(x0, x1, size.width)) for x0, y0, x1, y1 in boxes]
    spans = [(top, bottom, left, right) for top, bottom, left, right in spans if top < bottom and left < right]
    if not spans:
        return None
    tops, bottoms, lefts, rights = zip(*spans, strict=True)
    return slice(min(tops), max(bottoms)), slice(min(lefts), max(rights))
