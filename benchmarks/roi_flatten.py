"""Time and peak memory of RoI-Flatten, forward and backward, beside one full plane an instance.

    python benchmarks/roi_flatten.py

Every row runs in a process of its own; memory is resident memory above the inputs. The script fails if results differ.
"""

import argparse

import numpy as np
import torch
from measure import Call, measure
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from tascnet.model.roi_flatten import NEGLIGIBLE, roi_flatten
from tascnet.structures import Size

CASES = ((128, Size(128, 256)), (300, Size(256, 512)))
SMALL = (2, Size(8, 16))
SAME_TO = 1e-4  # float32 against float32: pixel positions are rounded differently


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("instances", "plane", "method", "pass", "ms", "peak MB", title=f"{arguments.threads} threads")
    for count, size in CASES:
        for passes, backward in (("forward", False), ("forward + backward", True)):
            costs = {
                "roi_flatten": measure(prepare_ours, (count, size, backward), (*SMALL, backward)),
                "full planes": measure(prepare_naive, (count, size, backward), (*SMALL, backward), repeats=2),
            }
            for method, cost in costs.items():
                plane = f"{size.height} x {size.width}"
                table.add_row(str(count), plane, method, passes, f"{cost.milliseconds:.1f}", f"{cost.megabytes:.0f}")
            difference = np.abs(costs["roi_flatten"].result - costs["full planes"].result).max()
            if difference > SAME_TO:
                raise SystemExit(f"{count} instances, {passes}: results differ by {difference:.2e}")
    Console().print(table)


def prepare_ours(count: int, size: Size, backward: bool) -> Call:
    masks, boxes, gradient = inputs(count, size, backward)
    return lambda: result_of(roi_flatten(masks, boxes, size, stride=4), masks, gradient)


def prepare_naive(count: int, size: Size, backward: bool) -> Call:
    masks, boxes, gradient = inputs(count, size, backward)
    return lambda: result_of(flatten_naively(masks, boxes / 4, size), masks, gradient)


def inputs(count: int, size: Size, backward: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """Smooth masks, and boxes of all sizes as detectors give them, in pixels at stride 4 of the plane."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 1, 5, 5, generator=generator)
    masks = functional.interpolate(coarse, size=(28, 28), mode="bicubic")[:, 0].clamp(0, 1)
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([size.width, size.height]) * 4
    sides = torch.exp(torch.randn(count, 2, generator=generator) * 0.8) * size.height * 0.6
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    if not backward:
        return masks, boxes, None
    return masks.requires_grad_(), boxes, torch.rand(size, generator=generator)


def result_of(flat: Tensor, masks: Tensor, gradient: Tensor | None) -> Tensor:
    """The things mask, or the gradient of the masks."""
    if gradient is None:
        return flat
    masks.grad = None
    flat.backward(gradient)
    assert masks.grad is not None
    return masks.grad


def flatten_naively(masks: Tensor, boxes: Tensor, size: Size) -> Tensor:
    """Section 4 of the method word by word, all N planes at once; boxes in pixels of the plane."""
    kept = masks * (masks > 0.5)
    x0, y0, x1, y1 = boxes[:, :, None].unbind(1)
    x = (torch.arange(size.width) + 0.5 - x0) / (x1 - x0) * 2 - 1  # (N, w)
    y = (torch.arange(size.height) + 0.5 - y0) / (y1 - y0) * 2 - 1  # (N, h)
    grid = torch.stack(
        [x[:, None].expand(-1, size.height, -1), y[:, :, None].expand(-1, -1, size.width)], dim=-1
    )  # (N, h, w, 2)
    pasted = functional.grid_sample(kept[:, None], grid, align_corners=False)[:, 0]
    pasted = pasted * (((y >= -1) & (y < 1))[:, :, None] & ((x >= -1) & (x < 1))[:, None])
    return pasted.sum(0) / (pasted > NEGLIGIBLE).sum(0).clamp(min=1)


if __name__ == "__main__":
    main()
