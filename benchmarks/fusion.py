"""Time and peak memory of fusion at street size, beside the plain way of full planes.

    python benchmarks/fusion.py

100 instances, 19 categories, logits at stride 4. Every row runs in a process of its own; memory is resident memory
above the inputs. "full planes" interpolates all channels and pastes every mask on a plane of its own. The script fails
if its result is not that of our fusion.
"""

import argparse
import math
from collections.abc import Iterator

import torch
from measure import Call, measure
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from tascnet.config import FusionOptions
from tascnet.fusion import (
    LARGEST_ODDS,
    SMALLEST,
    fuse_jointly,
    fuse_mask_guided,
    fuse_unguided,
    interpolated_argmax,
    rescored,
)
from tascnet.structures import Category, Instances, LabelSpace, Size

LABEL_SPACE = LabelSpace(tuple(Category(i + 1, f"category {i}", is_thing=i >= 11) for i in range(19)))
NUM_STUFF = len(LABEL_SPACE.stuff)
OPTIONS = FusionOptions(min_stuff_area=2048)
SIZE = Size(1024, 2048)
SMALL = (Size(64, 64), 2)
DIFFERENT_AT_MOST = 20  # pixels of the image: scores that are equal but for the last bit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--instances", type=int, default=100)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    full = (SIZE, arguments.instances)
    rows = {
        "joint": measure(prepare_joint, full, SMALL),
        "joint, full planes": measure(prepare_joint_naively, full, SMALL, repeats=1),
        "mask-guided": measure(prepare_guided, full, SMALL),
        "mask-guided, full planes": measure(prepare_guided_naively, full, SMALL, repeats=1),
        "un-guided": measure(prepare_unguided, full, SMALL),
        "un-guided, full planes": measure(prepare_unguided_naively, full, SMALL, repeats=1),
        "argmax of stuff alone": measure(prepare_argmax, full, SMALL),
        "argmax of stuff alone, in bands of 16 rows": measure(prepare_argmax_in_bands, full, SMALL, repeats=1),
    }
    table = Table("method", "ms", "peak MB", title=f"{SIZE.height} x {SIZE.width}, {arguments.threads} threads")
    for method, cost in rows.items():
        table.add_row(method, f"{cost.milliseconds:.0f}", f"{cost.megabytes:.0f}")
    Console().print(table)
    results = [cost.result for cost in rows.values()]
    for ours, plain in zip(results[::2], results[1::2], strict=True):
        if (different := int((ours != plain).sum())) > DIFFERENT_AT_MOST:
            raise SystemExit(f"{different} pixels differ from the plain way")


def prepare_joint(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_jointly(logits, instances, LABEL_SPACE, size, OPTIONS).segmentation.id_map


def prepare_joint_naively(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_jointly_naively(logits, instances, size)


def prepare_guided(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_mask_guided(logits, instances, LABEL_SPACE, size, OPTIONS).segmentation.id_map


def prepare_unguided(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_unguided(logits, instances, LABEL_SPACE, size, OPTIONS).segmentation.id_map


def prepare_guided_naively(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_naively(logits, instances, size, guided=True)


def prepare_unguided_naively(size: Size, count: int) -> Call:
    logits, instances = inputs(size, count)
    return lambda: fuse_naively(logits, instances, size, guided=False)


def prepare_argmax(size: Size, count: int) -> Call:
    logits, _ = inputs(size, count)
    return lambda: interpolated_argmax(logits, size)


def prepare_argmax_in_bands(size: Size, count: int) -> Call:
    logits, _ = inputs(size, count)
    return lambda: argmax_in_bands(logits, size)


def inputs(size: Size, count: int) -> tuple[Tensor, Instances]:
    """Smooth regions of stuff with some noise; ellipses of things that both heads see, the stuff head less well."""
    generator = torch.Generator().manual_seed(0)
    height, width = size.height // 4, size.width // 4
    seeds = torch.randn(1, len(LABEL_SPACE.categories), 5, 9, generator=generator) * 4
    logits = functional.interpolate(seeds, size=(height, width), mode="bicubic")[0]
    logits[NUM_STUFF:] -= 8
    logits += torch.randn(logits.shape, generator=generator) * 0.1
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([size.width, size.height])
    sides = torch.exp(torch.randn(count, 2, generator=generator) * 0.7) * size.height * 0.1
    ramp = (torch.arange(28) + 0.5) / 14 - 1
    distance = (ramp[:, None].square() + ramp.square()).sqrt()
    instances = Instances(
        boxes=torch.cat([centres - sides / 2, centres + sides / 2], dim=1),
        labels=torch.randint(0, len(LABEL_SPACE.things), (count,), generator=generator),
        scores=torch.rand(count, generator=generator).sort(descending=True).values * 0.5 + 0.5,
        masks=torch.sigmoid((0.95 - distance) * 12).expand(count, 28, 28).contiguous(),
    )
    y, x = torch.meshgrid(torch.arange(height) * 4 + 2, torch.arange(width) * 4 + 2, indexing="ij")
    for label, centre, side in zip(instances.labels, centres, sides, strict=True):
        ellipse = ((x - centre[0]) / side[0]).square() + ((y - centre[1]) / side[1]).square()
        logits[NUM_STUFF + label] += 20 * torch.sigmoid((0.22 - ellipse) * 30)
    return logits, instances


def argmax_in_bands(logits: Tensor, size: Size) -> Tensor:
    """The other way that never holds all interpolated channels; for planes that are four times the logits."""
    best = torch.empty(size, dtype=torch.int16)
    padded = torch.cat([logits[:, :1], logits, logits[:, -1:]], dim=1)
    for top in range(0, size.height, 16):
        # six rows of logits make 24 rows, of which the first and last four lack a neighbour
        rows = padded[:, top // 4 : top // 4 + 6]
        band = functional.interpolate(rows[None], size=(24, size.width), mode="bilinear")[0, :, 4:-4]
        best[top : top + 16] = band.argmax(0)
    return best


def fuse_naively(logits: Tensor, instances: Instances, size: Size, guided: bool) -> Tensor:
    best = functional.interpolate(logits[None], size=tuple(size), mode="bilinear")[0].argmax(0)
    allowed = best >= NUM_STUFF if guided else torch.ones_like(best, dtype=torch.bool)
    id_map = torch.zeros(size, dtype=torch.int32)
    next_id = 1
    masks = torch.zeros(len(instances), *size, dtype=torch.bool)
    for mask, plane in zip(masks, pasted_planes(instances, size), strict=True):
        mask[:] = plane > OPTIONS.mask_threshold
    for plane in masks:
        claim = plane & allowed
        if claim.any() and claim.sum() >= OPTIONS.overlap_threshold * plane.sum():
            id_map[claim] = next_id
            allowed &= ~claim
            next_id += 1
    return fill_with_stuff(id_map, best, next_id)


def fuse_jointly_naively(logits: Tensor, instances: Instances, size: Size) -> Tensor:
    instances = rescored(instances, OPTIONS.mask_threshold)
    instances = instances[instances.scores.argsort(descending=True)]
    odds = (logits[NUM_STUFF:].logsumexp(0) - logits[:NUM_STUFF].logsumexp(0)).clamp(-LARGEST_ODDS, LARGEST_ODDS)
    odds = functional.interpolate(odds[None, None], size=tuple(size), mode="bilinear")[0, 0].clamp(max=0)
    evidence = torch.zeros(len(instances), *size)
    for plane, pasted in zip(evidence, pasted_planes(instances, size), strict=True):
        plane[:] = pasted.logit(SMALLEST) + OPTIONS.veto * odds
    masks = evidence > math.log(OPTIONS.mask_threshold / (1 - OPTIONS.mask_threshold))
    areas, staying = masks.sum((1, 2)), instances.scores >= OPTIONS.score_threshold
    while True:
        kept, taken = claims(masks, staying, areas)
        winner = evidence[kept].where(masks[kept], -math.inf).argmax(0)
        left = winner[taken].bincount(minlength=len(kept))
        sliver = left < OPTIONS.overlap_threshold * areas[kept]
        if not sliver.any():
            break
        staying[torch.tensor(kept)[sliver]] = False
    seen, numbers = torch.where(taken, winner, len(kept)).unique(return_inverse=True)  # "none" is the last
    id_map = ((numbers + 1) * taken).int()
    best = functional.interpolate(logits[None], size=tuple(size), mode="bilinear")[0].argmax(0)
    return fill_with_stuff(id_map, best, len(seen))


def claims(masks: Tensor, staying: Tensor, areas: Tensor) -> tuple[list[int], Tensor]:
    """The instances that can claim enough of their masks, in their order, and the (H, W) pixels of all of them."""
    taken, kept = torch.zeros(masks.shape[1:], dtype=torch.bool), []
    for index in staying.nonzero().flatten().tolist():
        free = (masks[index] & ~taken).sum()
        if free and free >= OPTIONS.overlap_threshold * areas[index]:
            kept.append(index)
            taken |= masks[index]
    return kept, taken


def fill_with_stuff(id_map: Tensor, best: Tensor, next_id: int) -> Tensor:
    for index in range(NUM_STUFF):
        stuff = (best == index) & (id_map == 0)
        if stuff.sum() >= OPTIONS.min_stuff_area:
            id_map[stuff] = next_id
            next_id += 1
    return id_map


def pasted_planes(instances: Instances, size: Size) -> Iterator[Tensor]:
    """(H, W) probabilities of each instance, 0 outside of its box."""
    for mask, (x0, y0, x1, y1) in zip(instances.masks, instances.boxes.tolist(), strict=True):
        x = (torch.arange(size.width) + 0.5 - x0) / (x1 - x0) * 2 - 1
        y = (torch.arange(size.height) + 0.5 - y0) / (y1 - y0) * 2 - 1
        grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
        pasted = functional.grid_sample(mask[None, None], grid, align_corners=False)[0, 0]
        yield pasted * (((y >= -1) & (y < 1))[:, None] & (x >= -1) & (x < 1))


if __name__ == "__main__":
    main()
