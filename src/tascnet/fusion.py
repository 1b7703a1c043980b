"""Stuff logits + instances of one image -> its panoptic segmentation: by both heads, or one before the other.

Pure functions on the nouns of `structures`: they know no network and no data set. The channels of stuff logits are the
stuff categories in order of semantic index, then either one channel "things" (C = K_st + 1) or every thing category
(C = K); channels from K_st on are things in both forms.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from tascnet.config import FusionOptions
from tascnet.errors import InputError
from tascnet.planes.paste import PastedMask, PastedProbabilities, paste_each
from tascnet.planes.plane import InterpolatedCrops, Plane, as_plane, interpolated_argmax
from tascnet.precision import full_precision
from tascnet.structures import IGNORE, VOID, Instances, LabelSpace, PanopticSegmentation, Segment, Size

LARGEST_ODDS = 3.0
"""Log-odds at which the stuff head's belief is cut off: it is often surer than right."""

SURENESS_WEIGHT = 5.0
USUAL_SURENESS = 0.65
"""An instance's log-odds rise by the weight times what the mean probability inside its mask has above the usual one.
Chosen, as the veto's weight was, on hard streets of other numbers and networks of other seeds than those that
docs/results.md reports, and on the photos of coco_mini.
"""

SMALLEST = 1e-4
"""Probabilities are kept this far from 0 and 1 where their log-odds are taken."""

_AT_ONCE = 2**18
"""Pixels of a map that are counted or renumbered together."""

_PIXELS_KEPT = 2**22
"""Pixels of crops that are kept from one round of claims to the next: 17 MB of float32."""


class Dropped(NamedTuple):
    """How many candidates of one image, or of several, each threshold of fusion dropped.

    Attributes:
        low_score: instances below `score_threshold`.
        overlap: instances that got less than `overlap_threshold` of their mask.
        small_stuff: stuff categories with pixels, but fewer than `min_stuff_area` or `min_stuff_share`.
    """

    low_score: int = 0
    overlap: int = 0
    small_stuff: int = 0

    def plus(self, other: "Dropped") -> "Dropped":
        """The candidates of several images together."""
        return Dropped(*map(sum, zip(self, other, strict=True)))


class Fused(NamedTuple):
    """The panoptic segmentation of one image, and values that fusion computed on the way.

    Attributes:
        segmentation: (H, W), on the CPU.
        dropped: number of candidates that each threshold dropped.
        scored: the instances in the order in which they came, with the scores that fusion judged them by.
        best: (H, W) int16, best channel of the stuff logits for each pixel.
    """

    segmentation: PanopticSegmentation
    dropped: Dropped
    scored: Instances
    best: Tensor


def check_options(options: FusionOptions) -> None:
    """Check the ranges of the options, which settings from a file have been checked for already.

    Raises:
        InputError: an option is out of its range.
    """
    for name in ("score_threshold", "overlap_threshold", "mask_threshold", "min_stuff_share"):
        if not 0 <= getattr(options, name) <= 1:
            raise InputError(f"fusion option {name} is {getattr(options, name)}; it must be between 0 and 1.")
    if options.min_stuff_area is not None and options.min_stuff_area < 0:
        raise InputError(f"fusion option min_stuff_area is {options.min_stuff_area} pixels; it must be 0 or more.")
    if not options.veto >= 0:
        raise InputError(f"fusion option veto is {options.veto}; it must be 0 or more.")
    if options.unclaimed not in ("void", "stuff"):
        raise InputError(f"fusion option unclaimed is '{options.unclaimed}'; it must be 'void' or 'stuff'.")


@torch.no_grad()
def fuse_mask_guided(
    stuff_logits: Plane | Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> Fused:
    """Fuse, guided by the stuff head's things mask: an instance only gets pixels that both heads call things.

    The paper says that the internal mask guides fusion; the procedure is our reading. Instances in order of score
    claim mask AND things AND still free, and are dropped if that is too small a part of their mask. Stuff fills the
    pixels that the stuff head does not call things.

    Args:
        stuff_logits: values (C, h', w') float of any resolution; C is K_st + 1 or K. A tensor covers exactly the image.
        instances: with boxes in pixels of the image of that `size`.
        label_space: the categories that the channels and labels stand for.
        size: height and width of the result.
        options: thresholds.

    Returns:
        Segments with ids 1, 2, ...: instances in order of score, with their scores, then stuff without a score; and
        the number of candidates that were dropped.
    """
    check_options(options)
    best = _best_channel(stuff_logits, label_space, size)
    things = best >= len(label_space.stuff)
    return _fuse_by_score(best, things, stuff_logits, instances, label_space, options)


@torch.no_grad()
def fuse_unguided(
    stuff_logits: Plane | Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> Fused:
    """Fuse without guidance, as Panoptic FPN does: instances by score and overlap, then stuff fills the rest.

    Arguments and result are those of `fuse_mask_guided`. Pixels whose best channel is things and that no instance
    covers are treated as `options.unclaimed` says.
    """
    check_options(options)
    best = _best_channel(stuff_logits, label_space, size)
    everywhere = torch.ones_like(best, dtype=torch.bool)
    return _fuse_by_score(best, everywhere, stuff_logits, instances, label_space, options)


@torch.no_grad()
def fuse_jointly(
    stuff_logits: Plane | Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> Fused:
    """Fuse by the evidence of both heads, pixel by pixel: the things mask guides, but it does not cut.

    The evidence that a pixel is an instance's is the log-odds of its mask there, and, where the stuff head holds stuff
    for more likely than things, `options.veto` times the log-odds of things, which are negative. What the stuff head
    calls things is no evidence: the pixel may be a neighbour's. An instance has the pixels where the odds of its
    evidence are above those of `options.mask_threshold`, and is dropped as in `fuse_unguided`. Of two instances that
    have a pixel the one with more evidence gets it; in the other procedures it is the one with the better score. An
    instance that is left with less than `options.overlap_threshold` of its mask is dropped, too, and its pixels go to
    the others. Before all that, instances are `rescored` by how sure their masks are of themselves; segments have
    that score.

    Our reading of "guided"; docs/results.md compares the three. Arguments and result are those of `fuse_mask_guided`.
    """
    check_options(options)
    best = _best_channel(stuff_logits, label_space, size)
    odds = _veto(stuff_logits, len(label_space.stuff), size)
    scored = rescored(instances, options.mask_threshold)
    instances = _by_score(scored, best.device)
    usable = _usable(instances, options)
    id_map, kept = _claim_by_evidence(odds, usable, size, options)
    segments = _renumbered(id_map, kept, label_space)
    dropped = Dropped(len(instances) - len(usable), len(usable) - len(segments), 0)
    segmentation, dropped = _with_stuff(id_map, segments, dropped, best, stuff_logits, label_space, options)
    return Fused(segmentation, dropped, scored, best)


_FUSE = {"joint": fuse_jointly, "mask-guided": fuse_mask_guided, "unguided": fuse_unguided}


@dataclass(frozen=True)
class Fuser:
    """A way to fuse, with everything that is the same for all images.

    Attributes:
        options: the method and its thresholds.
        label_space: the categories that the channels and labels stand for.

    Raises:
        InputError: the method is unknown, or an option is out of its range.
    """

    options: FusionOptions
    label_space: LabelSpace

    def __post_init__(self) -> None:
        if self.options.method not in _FUSE:
            raise InputError(f"fusion method is '{self.options.method}'; it must be one of {', '.join(_FUSE)}.")
        check_options(self.options)

    def __call__(self, stuff_logits: Plane | Tensor, instances: Instances, size: Size) -> Fused:
        """Fuse the outputs of both heads for one image.

        Args:
            stuff_logits: values (C, h', w') float of any resolution; C is K_st + 1 or K. A tensor covers exactly the
                image.
            instances: with boxes in pixels of the image of that `size`.
            size: height and width of the result.
        """
        return _FUSE[self.options.method](stuff_logits, instances, self.label_space, size, self.options)


@torch.no_grad()
def semantic_from_stuff(
    stuff_logits: Plane | Tensor, instances: Instances, label_space: LabelSpace, size: Size, mask_threshold: float = 0.5
) -> Tensor:
    """The semantic segmentation that goes with a prediction, for mean IoU.

    With K channels it is the argmax. With K_st + 1, our reading: a things pixel takes the category of the best-scoring
    instance that covers it, whatever its score, else the best stuff category there.

    Args:
        stuff_logits: values (C, h', w') float of any resolution; C is K_st + 1 or K. A tensor covers exactly the image.
        instances: with boxes in pixels of the image of that `size`.
        label_space: the categories that the channels and labels stand for.
        size: height and width of the result.
        mask_threshold: probability above which a pixel belongs to an instance.

    Returns:
        (H, W) int64 on the CPU: semantic index of each pixel. IGNORE only where a label space without stuff has
        nothing to offer.
    """
    plane = as_plane(stuff_logits)
    best = _best_channel(plane, label_space, size)
    return semantic_from_best(best, len(plane.values), lambda: plane, instances, label_space, mask_threshold)


@torch.no_grad()
def semantic_from_best(
    best: Tensor,
    num_channels: int,
    stuff_logits: Callable[[], Plane],
    instances: Instances,
    label_space: LabelSpace,
    mask_threshold: float = 0.5,
) -> Tensor:
    """Compute `semantic_from_stuff` where the best channel of each pixel is known, from a fusion for instance.

    Args:
        best: (H, W), best channel of each pixel (`Fused.best`); it is not changed.
        num_channels: C of the stuff logits, K_st + 1 or K.
        stuff_logits: called for the logits only if a things pixel is covered by no instance.
        instances: with boxes in pixels of the image.
        label_space: the categories that the channels and labels stand for.
        mask_threshold: probability above which a pixel belongs to an instance.
    """
    if num_channels == len(label_space.categories):
        return best.long().cpu()
    num_stuff, size = len(label_space.stuff), Size(*best.shape)
    instances = _by_score(instances, best.device)
    semantic = best.long().masked_fill(best >= num_stuff, IGNORE)
    for mask, label in zip(_paste(instances, size, mask_threshold), instances.labels.tolist(), strict=True):
        free = mask.pixels & (semantic[mask.window] == IGNORE)
        semantic[mask.window].masked_fill_(free, num_stuff + label)
    if num_stuff and bool((semantic == IGNORE).any()):
        semantic = torch.where(semantic == IGNORE, _best_stuff(stuff_logits(), label_space, size).long(), semantic)
    return semantic.cpu()


def _best_channel(stuff_logits: Plane | Tensor, label_space: LabelSpace, size: Size) -> Tensor:
    """(H, W) int16: the best channel of each pixel."""
    plane, num_stuff, num_categories = as_plane(stuff_logits), len(label_space.stuff), len(label_space.categories)
    if plane.values.ndim != 3 or plane.values.shape[0] not in (num_stuff + 1, num_categories):
        raise ValueError(
            f"stuff logits of one image are (C, h, w) with C = {num_stuff + 1} (stuff categories and things) or "
            f"{num_categories} (all categories of the label space); got shape {tuple(plane.values.shape)}."
        )
    return interpolated_argmax(plane, size)


def _best_stuff(stuff_logits: Plane | Tensor, label_space: LabelSpace, size: Size) -> Tensor:
    """(H, W) int16: the best of the stuff channels of each pixel; there must be some."""
    plane = as_plane(stuff_logits)
    return interpolated_argmax(plane.with_values(plane.values[: len(label_space.stuff)]), size)


def _by_score(instances: Instances, device: torch.device) -> Instances:
    """The instances on that device, best first; of equal scores the earlier stays first."""
    instances = instances.to(device)
    return instances[instances.scores.nan_to_num(nan=-math.inf).argsort(descending=True, stable=True)]


def _usable(instances: Instances, options: FusionOptions) -> Instances:
    """Those of sorted instances that score enough: the first ones, which a device is asked for once."""
    return instances[: int((instances.scores >= options.score_threshold).count_nonzero())]


def _paste(instances: Instances, size: Size, threshold: float) -> Iterator[PastedMask]:
    """Each instance's pixels on the image, as crops."""
    for pasted in paste_each(instances.masks, instances.boxes, size):
        yield PastedMask(pasted.values > threshold, pasted.top, pasted.left)


def _fuse_by_score(
    best: Tensor,
    allowed: Tensor,
    stuff_logits: Plane | Tensor,
    instances: Instances,
    label_space: LabelSpace,
    options: FusionOptions,
) -> Fused:
    """Fusion by score: `best` is the best channel of each pixel, `allowed` where instances may lie (overwritten)."""
    id_map = torch.full(best.shape, VOID, dtype=torch.int32, device=best.device)
    scored, instances = instances, _by_score(instances, best.device)
    usable = _usable(instances, options)
    segments = _claim(id_map, allowed, usable, label_space, options)
    dropped = Dropped(len(instances) - len(usable), len(usable) - len(segments), 0)
    segmentation, dropped = _with_stuff(id_map, segments, dropped, best, stuff_logits, label_space, options)
    return Fused(segmentation, dropped, scored, best)


def _with_stuff(
    id_map: Tensor,
    segments: list[Segment],
    dropped: Dropped,
    best: Tensor,
    stuff_logits: Plane | Tensor,
    label_space: LabelSpace,
    options: FusionOptions,
) -> tuple[PanopticSegmentation, Dropped]:
    """The segments of instances in `id_map`, and stuff in the pixels that they leave free."""
    size, num_stuff = Size(*best.shape), len(label_space.stuff)
    if options.unclaimed == "stuff" and num_stuff:
        best = torch.where(best >= num_stuff, _best_stuff(stuff_logits, label_space, size), best)
    stuff, too_small = _fill_with_stuff(id_map, best, len(segments) + 1, label_space, options)
    return PanopticSegmentation(id_map.cpu(), (*segments, *stuff)), dropped._replace(small_stuff=too_small)


def _claim(
    id_map: Tensor, allowed: Tensor, instances: Instances, label_space: LabelSpace, options: FusionOptions
) -> list[Segment]:
    """Let instances take their pixels in the order in which they come, writing their ids into `id_map`."""
    for number, mask in enumerate(_paste(instances, Size(*id_map.shape), options.mask_threshold), start=1):
        free = allowed[mask.window]
        claim = mask.pixels & free
        # decided on the device: whether an instance is kept is not read here
        claim &= _enough(claim.count_nonzero(), mask.pixels.count_nonzero(), options)
        id_map[mask.window].masked_fill_(claim, number)
        free.masked_fill_(claim, False)
    return _renumbered(id_map, instances, label_space)


def _enough(free: Tensor, area: Tensor, options: FusionOptions) -> Tensor:
    """() bool, whether an instance with so many pixels of its mask's area is kept, on the device of the numbers."""
    wide = torch.float32 if area.device.type == "mps" else torch.float64
    return (free > 0) & (free >= area.to(wide) * options.overlap_threshold)


def _veto(stuff_logits: Plane | Tensor, num_stuff: int, size: Size) -> InterpolatedCrops:
    """(H, W) float, log-odds of things by the stuff head; where they are negative they count against things."""
    plane = as_plane(stuff_logits)
    logits = full_precision(plane.values)
    odds = (logits[num_stuff:].logsumexp(0) - logits[:num_stuff].logsumexp(0)).clamp(-LARGEST_ODDS, LARGEST_ODDS)
    return InterpolatedCrops(plane.with_values(odds), size)


def rescored(instances: Instances, mask_threshold: float) -> Instances:
    """The instances with scores that their masks have a say in: a box may be sure of what its mask cannot find.

    Args:
        instances: in any order, which they keep.
        mask_threshold: probability above which a pixel of a mask belongs to it, 0..1.

    Returns:
        Instances with scores of float32 or better, whatever the type of the given ones.
    """
    masks, scores = full_precision(instances.masks), full_precision(instances.scores)
    inside = masks > mask_threshold
    sureness = (masks * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    odds = scores.logit(SMALLEST) + SURENESS_WEIGHT * (sureness - USUAL_SURENESS)
    return replace(instances, scores=odds.sigmoid())


class _Evidence:
    """The evidence of each instance in its window, in log-odds, made when it is asked for.

    Several rounds ask for it: as many crops as fit into `_PIXELS_KEPT` are kept, the others are made again.
    """

    def __init__(self, odds: InterpolatedCrops, instances: Instances, size: Size, veto: float):
        self.odds, self.instances, self.size, self.veto = odds, instances, size, veto
        self._kept: dict[int, PastedProbabilities] = {}
        self._pixels = 0

    def of(self, numbers: list[int]) -> Iterator[tuple[int, PastedProbabilities]]:
        """The number and the evidence of some instances, in their order."""
        missing = [number for number in numbers if number not in self._kept]
        made = self._make(missing)
        for number in numbers:
            crop = self._kept.get(number) or next(made)
            if number not in self._kept and self._pixels + crop.values.numel() <= _PIXELS_KEPT:
                self._pixels += crop.values.numel()
                self._kept[number] = crop
            yield number, crop

    def _make(self, numbers: list[int]) -> Iterator[PastedProbabilities]:
        if not numbers:
            return
        masks, boxes = self.instances.masks, self.instances.boxes
        if len(numbers) < len(masks):
            index = torch.tensor(numbers).to(masks.device, non_blocking=True)
            masks, boxes = masks.index_select(0, index), boxes.index_select(0, index)
        for pasted in paste_each(masks, boxes, self.size):
            evidence = pasted.values.logit(SMALLEST)  # not in place: Apple's GPUs cannot
            if self.veto and evidence.numel():
                evidence.add_(self.odds[pasted.window].clamp_(max=0).mul_(self.veto))
            yield pasted._replace(values=evidence)


def _claim_by_evidence(
    odds: InterpolatedCrops, instances: Instances, size: Size, options: FusionOptions
) -> tuple[Tensor, Instances]:
    """Let each pixel belong to the instance with most evidence.

    An instance may pass the overlap rule in its turn and then lose its pixels to others with more evidence. Those that
    are left with too small a part of their masks are taken out, and the others claim anew. Each round reads back once.

    Args:
        odds: log-odds of things by the stuff head.
        instances: best first.
        size: height and width of the image.
        options: thresholds.

    Returns:
        (H, W) int32, k for the pixels of the k-th instance, from 1, 0 for nobody's; and those instances, of which some
        may have no pixel.
    """
    evidence = _Evidence(odds, instances, size, options.veto)
    staying = list(range(len(instances)))
    while staying:
        id_map, kept, areas = _strongest(evidence, staying, options)
        left = _pixels_of(id_map, len(instances) + 1)[1:]
        wide = torch.float32 if areas.device.type == "mps" else torch.float64
        sliver = (kept & (left < areas.to(wide) * options.overlap_threshold)).tolist()
        if not any(sliver):
            return id_map, instances
        staying = [number for number in staying if not sliver[number]]
    return torch.full(size, VOID, dtype=torch.int32, device=instances.boxes.device), instances


def _strongest(evidence: _Evidence, numbers: list[int], options: FusionOptions) -> tuple[Tensor, Tensor, Tensor]:
    """One round of claims of some instances.

    Returns:
        (H, W) int32, number of the instance + 1; (N,) bool, which were kept; (N,) int64, areas of the masks.
    """
    device, count = evidence.instances.boxes.device, len(evidence.instances)
    id_map = torch.full(evidence.size, VOID, dtype=torch.int32, device=device)
    least = float(torch.tensor(options.mask_threshold).logit())  # infinite for 0 and 1
    strongest = torch.full(evidence.size, least, device=device)  # evidence of the instance that has the pixel
    kept = torch.zeros(count, dtype=torch.bool, device=device)
    areas = torch.zeros(count, dtype=torch.int64, device=device)
    for number, crop in evidence.of(numbers):
        has, taken = strongest[crop.window], id_map[crop.window]
        mask = crop.values > least
        areas[number] = mask.count_nonzero()
        kept[number] = enough = _enough((mask & (taken == VOID)).count_nonzero(), areas[number], options)
        wins = (crop.values > has).logical_and_(enough)
        taken.masked_fill_(wins, number + 1)
        torch.where(wins, crop.values, has, out=has)
    return id_map, kept, areas


def _renumbered(id_map: Tensor, instances: Instances, label_space: LabelSpace) -> list[Segment]:
    """The segments of instances whose pixels have the ids 1, 2, ...; ids without pixels are closed up in `id_map`."""
    areas = _pixels_of(id_map, len(instances) + 1).tolist()
    new_id = torch.zeros(len(instances) + 1, dtype=torch.int32)
    segments: list[Segment] = []
    labels, scores = instances.labels.tolist(), instances.scores.tolist()
    for old_id, (label, score) in enumerate(zip(labels, scores, strict=True), start=1):
        if areas[old_id]:
            segments.append(Segment(len(segments) + 1, label_space.things[label].id, areas[old_id], score=score))
            new_id[old_id] = len(segments)
    if len(segments) < len(instances):
        new_id = new_id.to(id_map.device, non_blocking=True)
        id_map.copy_(new_id.index_select(0, id_map.flatten()).view_as(id_map))
    return segments


def _pixels_of(numbers: Tensor, count: int) -> Tensor:
    """(count,) int64: how many pixels of a map hold 0, 1, ..., `count` - 1, all that there are."""
    flat = numbers.flatten()
    # bincount makes int64 of all that it gets; other devices have the memory, and are waited for at each call
    parts = flat.split(_AT_ONCE) if flat.device.type == "cpu" else (flat,)
    return torch.stack([part.bincount(minlength=count) for part in parts]).sum(0)


def _fill_with_stuff(
    id_map: Tensor, best: Tensor, first_id: int, label_space: LabelSpace, options: FusionOptions
) -> tuple[list[Segment], int]:
    """Give free pixels to their best channel where that is stuff, one segment a category, if it is large enough.

    Returns:
        The segments, and the number of categories whose pixels were too few.
    """
    num_stuff = len(label_space.stuff)
    nothing = num_stuff  # where a pixel is taken or its best channel is a things channel
    free_stuff = best.clamp(max=nothing).masked_fill_(id_map != VOID, nothing)
    areas = _pixels_of(free_stuff, nothing + 1).tolist()[:num_stuff]
    smallest = max(options.smallest_stuff(Size(*best.shape)), 1)
    segments: list[Segment] = []
    id_of = torch.full((nothing + 1,), VOID, dtype=torch.int32)
    for index, category in enumerate(label_space.stuff):
        if areas[index] >= smallest:
            segment = Segment(id=first_id + len(segments), category_id=category.id, area=areas[index])
            id_of[index] = segment.id
            segments.append(segment)
    id_of = id_of.to(id_map.device, non_blocking=True)
    # index_select, because indexing makes int64 of the whole map first; free pixels are VOID, which is 0
    for ids, kinds in zip(id_map.flatten().split(_AT_ONCE), free_stuff.flatten().split(_AT_ONCE), strict=True):
        ids += id_of.index_select(0, kinds.int())
    return segments, sum(area > 0 for area in areas) - len(segments)
