"""Stuff logits + instances of one image -> its panoptic segmentation: by both heads, or one before the other.

Pure functions on the nouns of `structures`: they know no network and no data set. The channels of stuff logits are the
stuff categories in order of semantic index, then either one channel "things" (C = K_st + 1) or every thing category
(C = K); channels from K_st on are things in both forms.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tascnet.errors import InputError
from tascnet.paste import PastedMask, paste_mask, paste_probabilities
from tascnet.structures import IGNORE, VOID, Instances, LabelSpace, PanopticSegmentation, Segment, Size

_PIXELS_AT_ONCE = 2**15
"""Pixels interpolated together: 2**15 x 133 channels of float32 are 17 MB."""


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


@dataclass(frozen=True)
class FusionOptions:
    """How instances and stuff share the pixels.

    Attributes:
        score_threshold: instances that score less are dropped.
        overlap_threshold: an instance that gets less than this part of its mask is dropped.
        mask_threshold: probability above which a pixel belongs to an instance; measures better than the field's 0.5.
        min_stuff_area: pixels; smaller stuff segments become VOID. 4096 = 64 x 64, the field's value for COCO.
        unclaimed: what becomes of pixels that the stuff head calls things and no instance took: "void" (measured
            better), or "stuff" for the best stuff category there.
        veto: weight of the stuff head's doubt in `fuse_jointly`, 0 or more.
    """

    score_threshold: float = 0.5
    overlap_threshold: float = 0.5
    mask_threshold: float = 0.4
    min_stuff_area: int = 4096
    unclaimed: Literal["void", "stuff"] = "void"
    veto: float = 0.25

    def __post_init__(self) -> None:
        for name in ("score_threshold", "overlap_threshold", "mask_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"fusion option {name} is {getattr(self, name)}; it must be between 0 and 1.")
        if self.min_stuff_area < 0:
            raise InputError(f"fusion option min_stuff_area is {self.min_stuff_area} pixels; it must be 0 or more.")
        if not self.veto >= 0:
            raise InputError(f"fusion option veto is {self.veto}; it must be 0 or more.")
        if self.unclaimed not in ("void", "stuff"):
            raise InputError(f"fusion option unclaimed is '{self.unclaimed}'; it must be 'void' or 'stuff'.")


@torch.no_grad()
def fuse_mask_guided(
    stuff_logits: Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> PanopticSegmentation:
    """Fuse, guided by the stuff head's things mask: an instance only gets pixels that both heads call things.

    The paper says that the internal mask guides fusion; the procedure is our reading. Instances in order of score
    claim mask AND things AND still free, and are dropped if that is too small a part of their mask. Stuff fills the
    pixels that the stuff head does not call things.

    Args:
        stuff_logits: (C, h', w') float of any resolution, covering exactly the image; C is K_st + 1 or K.
        instances: with boxes in pixels of the image of that `size`.
        label_space: the categories that the channels and labels stand for.
        size: height and width of the result.
        options: thresholds.

    Returns:
        Segments with ids 1, 2, ...: instances in order of score, with their scores, then stuff without a score.
    """
    best = _best_channel(stuff_logits, label_space, size)
    things = best >= len(label_space.stuff)
    return _fuse(best, things, stuff_logits, instances, label_space, options)


@torch.no_grad()
def fuse_unguided(
    stuff_logits: Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> PanopticSegmentation:
    """Fuse without guidance, as Panoptic FPN does: instances by score and overlap, then stuff fills the rest.

    Arguments and result are those of `fuse_mask_guided`. Pixels whose best channel is things and that no instance
    covers are treated as `options.unclaimed` says.
    """
    best = _best_channel(stuff_logits, label_space, size)
    return _fuse(best, torch.ones_like(best, dtype=torch.bool), stuff_logits, instances, label_space, options)


@torch.no_grad()
def fuse_jointly(
    stuff_logits: Tensor,
    instances: Instances,
    label_space: LabelSpace,
    size: Size,
    options: FusionOptions = FusionOptions(),
) -> PanopticSegmentation:
    """Fuse by the evidence of both heads, pixel by pixel: the things mask guides, but it does not cut.

    The evidence that a pixel is an instance's is the log-odds of its mask there, and, where the stuff head holds stuff
    for more likely than things, `options.veto` times the log-odds of things, which are negative. What the stuff head
    calls things is no evidence: the pixel may be a neighbour's. An instance has the pixels where the odds of its
    evidence are above those of `options.mask_threshold`, and is dropped as in `fuse_unguided`. Of two instances that
    have a pixel the one with more evidence gets it; in the other procedures it is the one with the better score.
    Before all that, instances are `rescored` by how sure their masks are of themselves; segments have that score.

    Our reading of "guided"; docs/results.md compares the three. Arguments and result are those of `fuse_mask_guided`.
    """
    best = _best_channel(stuff_logits, label_space, size)
    veto = _veto(stuff_logits, len(label_space.stuff), size, options.veto)
    id_map = torch.full(size, VOID, dtype=torch.int32)
    segments = _claim_by_evidence(id_map, veto, instances, label_space, options)
    return _with_stuff(id_map, segments, best, stuff_logits, label_space, options)


@torch.no_grad()
def semantic_from_stuff(
    stuff_logits: Tensor, instances: Instances, label_space: LabelSpace, size: Size, mask_threshold: float = 0.5
) -> Tensor:
    """The semantic segmentation that goes with a prediction, for mean IoU.

    With K channels it is the argmax. With K_st + 1, our reading: a things pixel takes the category of the best-scoring
    instance that covers it, whatever its score, else the best stuff category there.

    Args:
        stuff_logits: (C, h', w') float of any resolution, covering exactly the image; C is K_st + 1 or K.
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
    if len(stuff_logits) == len(label_space.categories):
        return best
    things = best >= num_stuff
    semantic = best.masked_fill_(things, IGNORE)
    instances = _by_score(instances)
    for mask, label in zip(_paste(instances, size, mask_threshold), instances.labels.tolist(), strict=True):
        free = mask.pixels & (semantic[mask.window] == IGNORE)
        semantic[mask.window].masked_fill_(free, num_stuff + label)
    if num_stuff and bool((semantic == IGNORE).any()):
        best_stuff = interpolated_argmax(stuff_logits[:num_stuff], size).long().cpu()
        semantic = torch.where(semantic == IGNORE, best_stuff, semantic)
    return semantic


def interpolated_argmax(logits: Tensor, size: Size) -> Tensor:
    """The best channel of each pixel after bilinear interpolation, without ever holding the interpolated channels.

    Equal to `interpolate(logits, size, mode="bilinear", align_corners=False).argmax(0)`. A pixel is a convex
    combination of four logits; where one channel is best in all four it is best in the pixel. Only the other pixels,
    those along the borders of regions, are interpolated.

    Args:
        logits: (C, h, w) float.
        size: height and width of the result.

    Returns:
        (H, W) int16 on the device of the logits.
    """
    height, width = logits.shape[1:]
    logits = logits if logits.dtype == torch.float64 else logits.float()
    rows, columns = _neighbours(height, size.height, logits), _neighbours(width, size.width, logits)
    coarse = _argmax(logits)  # (h, w)
    same = _same_as_next(coarse)
    # columns first: they are copied value by value and there are only h rows of them; rows are copied whole
    best = coarse.index_select(1, columns.low).index_select(0, rows.low)  # (H, W)
    sure = same.index_select(1, columns.low).index_select(0, rows.low)
    unsure = sure.logical_not_().flatten().nonzero().squeeze(1)  # flat pixel indices
    table = logits.flatten(1).T.contiguous()  # (h w, C)
    for pixels in unsure.split(_PIXELS_AT_ONCE):
        row, column = pixels // size.width, pixels % size.width
        top, bottom = rows.low[row] * width, rows.high[row] * width
        left, right = columns.low[column], columns.high[column]
        down, across = rows.weight[row], columns.weight[column]
        corners = torch.stack([top + left, top + right, bottom + left, bottom + right], dim=1)
        weights = torch.stack([(1 - down) * (1 - across), (1 - down) * across, down * (1 - across), down * across], 1)
        interpolated = functional.embedding_bag(corners, table, mode="sum", per_sample_weights=weights)  # (P, C)
        best.view(-1)[pixels] = interpolated.argmax(1).to(best.dtype)
    return best


class _Neighbours(NamedTuple):
    """Along one axis, for each fine position: its two coarse neighbours and the weight of the second."""

    low: Tensor
    high: Tensor
    weight: Tensor


def _neighbours(coarse_length: int, fine_length: int, like: Tensor) -> _Neighbours:
    """Neighbours as `interpolate(align_corners=False)` chooses them: positions before the first centre are clamped."""
    fine = torch.arange(fine_length, dtype=like.dtype, device=like.device)
    scale = torch.tensor(coarse_length, dtype=like.dtype) / fine_length
    positions = ((fine + 0.5) * scale - 0.5).clamp(min=0)
    low = positions.long().clamp(max=coarse_length - 1)
    return _Neighbours(low, (low + 1).clamp(max=coarse_length - 1), (positions - low).clamp(max=1))


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


def _best_channel(stuff_logits: Tensor, label_space: LabelSpace, size: Size) -> Tensor:
    """(H, W) int16 on the CPU: the best channel of each pixel."""
    num_stuff, num_categories = len(label_space.stuff), len(label_space.categories)
    if stuff_logits.ndim != 3 or stuff_logits.shape[0] not in (num_stuff + 1, num_categories):
        raise ValueError(
            f"stuff logits of one image are (C, h, w) with C = {num_stuff + 1} (stuff categories and things) or "
            f"{num_categories} (all categories of the label space); got shape {tuple(stuff_logits.shape)}."
        )
    return interpolated_argmax(stuff_logits, size).cpu()


def _by_score(instances: Instances) -> Instances:
    """The instances on the CPU, best first; of equal scores the earlier stays first."""
    instances = instances.to("cpu")
    return instances[instances.scores.argsort(descending=True, stable=True)]


def _paste(instances: Instances, size: Size, threshold: float) -> list[PastedMask]:
    """Each instance's pixels on the image, as crops."""
    return [paste_mask(mask, box, size, threshold) for mask, box in zip(instances.masks, instances.boxes, strict=True)]


def _fuse(
    best: Tensor,
    allowed: Tensor,
    stuff_logits: Tensor,
    instances: Instances,
    label_space: LabelSpace,
    options: FusionOptions,
) -> PanopticSegmentation:
    """Fusion by score: `best` is the best channel of each pixel, `allowed` where instances may lie (overwritten)."""
    id_map = torch.full(best.shape, VOID, dtype=torch.int32)
    segments = _claim(id_map, allowed, instances, label_space, options)
    return _with_stuff(id_map, segments, best, stuff_logits, label_space, options)


def _with_stuff(
    id_map: Tensor,
    segments: list[Segment],
    best: Tensor,
    stuff_logits: Tensor,
    label_space: LabelSpace,
    options: FusionOptions,
) -> PanopticSegmentation:
    """The segments of instances in `id_map`, and stuff in the pixels that they leave free."""
    size, num_stuff = Size(*best.shape), len(label_space.stuff)
    if options.unclaimed == "stuff" and num_stuff:
        best_stuff = interpolated_argmax(stuff_logits[:num_stuff], size).cpu()
        best = torch.where(best >= num_stuff, best_stuff, best)
    segments += _fill_with_stuff(id_map, best, len(segments) + 1, label_space, options)
    return PanopticSegmentation(id_map, tuple(segments))


def _claim(
    id_map: Tensor, allowed: Tensor, instances: Instances, label_space: LabelSpace, options: FusionOptions
) -> list[Segment]:
    """Let instances take their pixels in order of score, writing their ids into `id_map`."""
    size = Size(*id_map.shape)
    instances = _by_score(instances)
    instances = instances[instances.scores >= options.score_threshold]
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


def _veto(stuff_logits: Tensor, num_stuff: int, size: Size, weight: float) -> Tensor:
    """(H, W) float on the CPU, 0 or less: what the stuff head says against things."""
    logits = stuff_logits.float()
    odds = logits[num_stuff:].logsumexp(0) - logits[:num_stuff].logsumexp(0)
    odds = odds.clamp(-LARGEST_ODDS, LARGEST_ODDS)[None, None]
    return functional.interpolate(odds, size=tuple(size), mode="bilinear")[0, 0].clamp_(max=0).mul_(weight).cpu()


def rescored(instances: Instances, mask_threshold: float) -> Instances:
    """The instances with scores that their masks have a say in: a box may be sure of what its mask cannot find.

    Args:
        instances: in any order, which they keep.
        mask_threshold: probability above which a pixel of a mask belongs to it, 0..1.
    """
    inside = instances.masks > mask_threshold
    sureness = (instances.masks * inside).sum((1, 2)) / inside.sum((1, 2)).clamp(min=1)
    odds = instances.scores.logit(SMALLEST) + SURENESS_WEIGHT * (sureness - USUAL_SURENESS)
    return replace(instances, scores=odds.sigmoid())


def _claim_by_evidence(
    id_map: Tensor, veto: Tensor, instances: Instances, label_space: LabelSpace, options: FusionOptions
) -> list[Segment]:
    """Let each pixel belong to the instance with most evidence, writing ids into `id_map`."""
    instances = rescored(instances, options.mask_threshold)
    instances = _by_score(instances)
    instances = instances[instances.scores >= options.score_threshold]
    least = float(torch.tensor(options.mask_threshold).logit())  # infinite for 0 and 1
    strongest = torch.full(id_map.shape, least)  # evidence of the instance that has the pixel
    kept: list[int] = []
    for index in range(len(instances)):
        pasted = paste_probabilities(instances.masks[index], instances.boxes[index], Size(*id_map.shape))
        evidence = pasted.values.float().logit(SMALLEST).add_(veto[pasted.window])
        mask, taken = evidence > least, id_map[pasted.window]
        area = int((mask & (taken == VOID)).count_nonzero())
        if area == 0 or area < options.overlap_threshold * int(mask.count_nonzero()):
            continue
        kept.append(index)
        taken.masked_fill_(evidence > strongest[pasted.window], len(kept))
        torch.maximum(strongest[pasted.window], evidence, out=strongest[pasted.window])
    return _renumbered(id_map, instances[torch.tensor(kept, dtype=torch.int64)], label_space)


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
) -> list[Segment]:
    """Give free pixels to their best channel where that is stuff, one segment a category, if it is large enough."""
    num_stuff = len(label_space.stuff)
    nothing = num_stuff  # where a pixel is taken or its best channel is a things channel
    free_stuff = best.clamp(max=nothing).masked_fill_(id_map != VOID, nothing)
    areas = torch.bincount(free_stuff.flatten(), minlength=nothing + 1).tolist()
    segments: list[Segment] = []
    id_of = torch.full((nothing + 1,), VOID, dtype=torch.int32)
    for index, category in enumerate(label_space.stuff):
        if areas[index] >= max(options.min_stuff_area, 1):
            segment = Segment(id=first_id + len(segments), category_id=category.id, area=areas[index])
            id_of[index] = segment.id
            segments.append(segment)
    # index_select, because indexing makes int64 of the whole map first; free pixels are VOID, which is 0
    id_map += id_of.index_select(0, free_stuff.flatten().int()).view_as(id_map)
    return segments
