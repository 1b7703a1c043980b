"""Stuff logits + instances of one image -> its panoptic segmentation: by both heads, or one before the other.

Pure functions on the nouns of `structures`: they know no network and no data set. The channels of stuff logits are the
stuff categories in order of semantic index, then either one channel "things" (C = K_st + 1) or every thing category
(C = K); channels from K_st on are things in both forms.
"""

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from tascnet.config import FusionOptions
from tascnet.errors import InputError
from tascnet.planes.paste import PastedMask, paste_mask, paste_probabilities
from tascnet.planes.plane import Plane, as_plane, interpolated, interpolated_argmax
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
    """The panoptic segmentation of one image, and what fusion dropped on the way."""

    segmentation: PanopticSegmentation
    dropped: Dropped


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
    veto = _veto(stuff_logits, len(label_space.stuff), size, options.veto)
    instances = _by_score(rescored(instances, options.mask_threshold))
    usable = instances[instances.scores >= options.score_threshold]
    id_map, kept = _claim_by_evidence(veto, usable, options)
    segments = _renumbered(id_map, kept, label_space)
    dropped = Dropped(len(instances) - len(usable), len(usable) - len(segments), 0)
    return _with_stuff(id_map, segments, dropped, best, stuff_logits, label_space, options)


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
    num_stuff = len(label_space.stuff)
    best = _best_channel(stuff_logits, label_space, size).long()
    if len(as_plane(stuff_logits).values) == len(label_space.categories):
        return best
    things = best >= num_stuff
    semantic = best.masked_fill_(things, IGNORE)
    instances = _by_score(instances)
    for mask, label in zip(_paste(instances, size, mask_threshold), instances.labels.tolist(), strict=True):
        free = mask.pixels & (semantic[mask.window] == IGNORE)
        semantic[mask.window].masked_fill_(free, num_stuff + label)
    if num_stuff and bool((semantic == IGNORE).any()):
        best_stuff = _best_stuff(stuff_logits, label_space, size).long()
        semantic = torch.where(semantic == IGNORE, best_stuff, semantic)
    return semantic


def _best_channel(stuff_logits: Plane | Tensor, label_space: LabelSpace, size: Size) -> Tensor:
    """(H, W) int16 on the CPU: the best channel of each pixel."""
    plane, num_stuff, num_categories = as_plane(stuff_logits), len(label_space.stuff), len(label_space.categories)
    if plane.values.ndim != 3 or plane.values.shape[0] not in (num_stuff + 1, num_categories):
        raise ValueError(
            f"stuff logits of one image are (C, h, w) with C = {num_stuff + 1} (stuff categories and things) or "
            f"{num_categories} (all categories of the label space); got shape {tuple(plane.values.shape)}."
        )
    return interpolated_argmax(plane, size).cpu()


def _best_stuff(stuff_logits: Plane | Tensor, label_space: LabelSpace, size: Size) -> Tensor:
    """(H, W) int16 on the CPU: the best of the stuff channels of each pixel; there must be some."""
    plane = as_plane(stuff_logits)
    return interpolated_argmax(plane.with_values(plane.values[: len(label_space.stuff)]), size).cpu()


def _by_score(instances: Instances) -> Instances:
    """The instances on the CPU, best first; of equal scores the earlier stays first."""
    instances = instances.to("cpu")
    return instances[instances.scores.argsort(descending=True, stable=True)]


def _paste(instances: Instances, size: Size, threshold: float) -> list[PastedMask]:
    """Each instance's pixels on the image, as crops."""
    return [paste_mask(mask, box, size, threshold) for mask, box in zip(instances.masks, instances.boxes, strict=True)]


def _fuse_by_score(
    best: Tensor,
    allowed: Tensor,
    stuff_logits: Plane | Tensor,
    instances: Instances,
    label_space: LabelSpace,
    options: FusionOptions,
) -> Fused:
    """Fusion by score: `best` is the best channel of each pixel, `allowed` where instances may lie (overwritten)."""
    id_map = torch.full(best.shape, VOID, dtype=torch.int32)
    instances = _by_score(instances)
    usable = instances[instances.scores >= options.score_threshold]
    segments = _claim(id_map, allowed, usable, label_space, options)
    dropped = Dropped(len(instances) - len(usable), len(usable) - len(segments), 0)
    return _with_stuff(id_map, segments, dropped, best, stuff_logits, label_space, options)


def _with_stuff(
    id_map: Tensor,
    segments: list[Segment],
    dropped: Dropped,
    best: Tensor,
    stuff_logits: Plane | Tensor,
    label_space: LabelSpace,
    options: FusionOptions,
) -> Fused:
    """The segments of instances in `id_map`, and stuff in the pixels that they leave free."""
    size, num_stuff = Size(*best.shape), len(label_space.stuff)
    if options.unclaimed == "stuff" and num_stuff:
        best = torch.where(best >= num_stuff, _best_stuff(stuff_logits, label_space, size), best)
    stuff, too_small = _fill_with_stuff(id_map, best, len(segments) + 1, label_space, options)
    return Fused(PanopticSegmentation(id_map, (*segments, *stuff)), dropped._replace(small_stuff=too_small))


def _claim(
    id_map: Tensor, allowed: Tensor, instances: Instances, label_space: LabelSpace, options: FusionOptions
) -> list[Segment]:
    """Let instances take their pixels in the order in which they come, writing their ids into `id_map`."""
    size = Size(*id_map.shape)
    segments: list[Segment] = []
    for index in range(len(instances)):
        mask = paste_mask(instances.masks[index], instances.boxes[index], size, options.mask_threshold)
        claim = mask.pixels & allowed[mask.window]
        area = int(claim.count_nonzero())
        if area == 0 or area < options.overlap_threshold * int(mask.pixels.count_nonzero()):
            continue
        segment = Segment(
            id=len(segments) + 1,
            category_id=label_space.things[int(instances.labels[index])].id,
            area=area,
            score=float(instances.scores[index]),
        )
        id_map[mask.window].masked_fill_(claim, segment.id)
        allowed[mask.window].masked_fill_(claim, False)
        segments.append(segment)
    return segments


def _veto(stuff_logits: Plane | Tensor, num_stuff: int, size: Size, weight: float) -> Tensor:
    """(H, W) float on the CPU, 0 or less: what the stuff head says against things."""
    plane = as_plane(stuff_logits)
    logits = full_precision(plane.values)
    odds = (logits[num_stuff:].logsumexp(0) - logits[:num_stuff].logsumexp(0)).clamp(-LARGEST_ODDS, LARGEST_ODDS)
    return interpolated(plane.with_values(odds), size).clamp_(max=0).mul_(weight).cpu()


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


def _claim_by_evidence(veto: Tensor, instances: Instances, options: FusionOptions) -> tuple[Tensor, Instances]:
    """Let each pixel belong to the instance with most evidence.

    An instance may pass the overlap rule in its turn and then lose its pixels to others with more evidence. Those that
    are left with too small a part of their masks are taken out, and the others claim anew.

    Args:
        veto: (H, W) float, 0 or less.
        instances: on the CPU, best first.
        options: thresholds.

    Returns:
        (H, W) int32, k for the pixels of the k-th instance that was kept, from 1; and those that were kept.
    """
    while True:
        id_map, kept, areas = _strongest(veto, instances, options)
        left = torch.bincount(id_map.flatten(), minlength=len(kept) + 1)[1:]
        sliver = left < options.overlap_threshold * torch.tensor(areas)
        if not sliver.any():
            return id_map, instances[torch.tensor(kept, dtype=torch.int64)]
        staying = torch.ones(len(instances), dtype=torch.bool)
        staying[torch.tensor(kept)[sliver]] = False
        instances = instances[staying]


def _strongest(veto: Tensor, instances: Instances, options: FusionOptions) -> tuple[Tensor, list[int], list[int]]:
    """One round of claims: ids in the image (1 for the first that is kept), indices and mask areas of the kept."""
    id_map = torch.full(veto.shape, VOID, dtype=torch.int32)
    least = float(torch.tensor(options.mask_threshold).logit())  # infinite for 0 and 1
    strongest = torch.full(veto.shape, least)  # evidence of the instance that has the pixel
    kept: list[int] = []
    areas: list[int] = []
    for index in range(len(instances)):
        pasted = paste_probabilities(instances.masks[index], instances.boxes[index], Size(*veto.shape))
        evidence = pasted.values.logit(SMALLEST).add_(veto[pasted.window])
        mask, taken = evidence > least, id_map[pasted.window]
        area = int(mask.count_nonzero())
        free = int((mask & (taken == VOID)).count_nonzero())
        if free == 0 or free < options.overlap_threshold * area:
            continue
        kept.append(index)
        areas.append(area)
        taken.masked_fill_(evidence > strongest[pasted.window], len(kept))
        torch.maximum(strongest[pasted.window], evidence, out=strongest[pasted.window])
    return id_map, kept, areas


def _renumbered(id_map: Tensor, instances: Instances, label_space: LabelSpace) -> list[Segment]:
    """The segments of instances whose pixels have the ids 1, 2, ...; ids without pixels are closed up in `id_map`."""
    areas = torch.bincount(id_map.flatten(), minlength=len(instances) + 1).tolist()
    new_id = torch.zeros(len(instances) + 1, dtype=torch.int32)
    segments: list[Segment] = []
    labels, scores = instances.labels.tolist(), instances.scores.tolist()
    for old_id, (label, score) in enumerate(zip(labels, scores, strict=True), start=1):
        if areas[old_id]:
            segments.append(Segment(len(segments) + 1, label_space.things[label].id, areas[old_id], score=score))
            new_id[old_id] = len(segments)
    if len(segments) < len(instances):
        id_map.copy_(new_id.index_select(0, id_map.flatten()).view_as(id_map))
    return segments


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
    areas = torch.bincount(free_stuff.flatten(), minlength=nothing + 1).tolist()[:num_stuff]
    smallest = max(options.smallest_stuff(Size(*best.shape)), 1)
    segments: list[Segment] = []
    id_of = torch.full((nothing + 1,), VOID, dtype=torch.int32)
    for index, category in enumerate(label_space.stuff):
        if areas[index] >= smallest:
            segment = Segment(id=first_id + len(segments), category_id=category.id, area=areas[index])
            id_of[index] = segment.id
            segments.append(segment)
    # index_select, because indexing makes int64 of the whole map first; free pixels are VOID, which is 0
    id_map += id_of.index_select(0, free_stuff.flatten().int()).view_as(id_map)
    return segments, sum(area > 0 for area in areas) - len(segments)
