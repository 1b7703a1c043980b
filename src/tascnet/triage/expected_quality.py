"""One photo's logits, detections and segmentation -> the PQ that the network itself expects of it, without annotation.

PQ is the mean over categories of

    sum of the IoUs of the segments that are right / (right + wrong / 2 + missed / 2)

Each of these is estimated from what the heads say: an IoU from the probabilities inside and outside a region, whether a
detection is right from its score, what is missed from the detections that fusion did not use. All of it is our own; the
paper has nothing of the kind.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from tascnet.planes.paste import MASK_THRESHOLD, paste_instances
from tascnet.planes.plane import Plane, as_plane, at_cells
from tascnet.precision import full_precision
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Segment

MATCH_IOU = 0.5
"""A segment counts as found above this IoU: the definition of PQ."""

IOU_SPREAD = 0.1
"""Standard deviation of the true IoU around the expected one; chosen on generated streets, from scene 3000000 on."""

FAINTEST = 0.1
"""Unused detections that score less are not counted as missed; chosen on the same scenes."""


class Expected(NamedTuple):
    """What is expected of one category: its PQ in this photo, and the probability that it is there, both 0..1."""

    quality: float
    presence: float


def expected_panoptic_quality(
    stuff_logits: Plane | Tensor, instances: Instances, segmentation: PanopticSegmentation, label_space: LabelSpace
) -> float:
    """The PQ that may be expected of a segmentation, 0..1: the mean over categories, weighted with their presence.

    Args:
        stuff_logits: values (C, h, w) float, C is K_st + 1 or K. A tensor covers exactly the photo.
        instances: all detections, boxes in pixels of the photo.
        segmentation: what fusion made of both, (H, W).
        label_space: the categories that channels and labels stand for.

    Returns:
        0 where nothing is seen at all.

    Raises:
        InputError: a label of `instances` is not in the label space.
    """
    found = expected_stuff(stuff_logits, segmentation, label_space)
    found += expected_things(instances, segmentation, label_space)
    presence = sum(category.presence for category in found)
    return sum(category.quality * category.presence for category in found) / presence if presence else 0.0


def expected_stuff(
    stuff_logits: Plane | Tensor, segmentation: PanopticSegmentation, label_space: LabelSpace
) -> list[Expected]:
    """Of each stuff category. One without a segment is missed with the highest probability that a pixel gives it."""
    plane = as_plane(stuff_logits)
    probability = full_precision(plane.values).softmax(dim=0)
    id_map = at_cells(segmentation.id_map, plane)
    id_of = {segment.category_id: segment.id for segment in segmentation.segments}
    found = []
    for channel, category in zip(probability, label_space.stuff, strict=False):  # things follow in `probability`
        if category.id in id_of:
            iou = float(expected_iou(channel, id_map == id_of[category.id]))
            found.append(Expected(counted_iou(iou), presence=1.0))
        else:
            found.append(Expected(quality=0.0, presence=float(channel.max())))
    return found


def expected_things(
    instances: Instances, segmentation: PanopticSegmentation, label_space: LabelSpace
) -> list[Expected]:
    """Of each thing category.

    A detection that became a segment is right with the probability that its score gives; one that did not, and is not
    too faint, is missed with that probability.
    """
    segment_of = segments_of_detections(instances, segmentation, label_space)
    ious = [counted_iou(iou) for iou in expected_iou(instances.masks, instances.masks > MASK_THRESHOLD).tolist()]
    labels, scores = instances.labels.tolist(), instances.scores.tolist()
    found = []
    for label in range(len(label_space.things)):
        members = [index for index in range(len(instances)) if labels[index] == label]
        used = [(_score(segment_of[index]), ious[index]) for index in members if index in segment_of]
        unused = [scores[index] for index in members if index not in segment_of and scores[index] > FAINTEST]
        found.append(_expected_category(used, unused))
    return found


def _expected_category(used: Sequence[tuple[float, float]], unused: Sequence[float]) -> Expected:
    """Of one thing category, from (probability, counted IoU) of its segments and the probability of what it lacks."""
    if not used:
        return Expected(quality=0.0, presence=1 - math.prod(1 - probability for probability in unused))
    right = sum(probability for probability, _ in used)
    wrong, missed = len(used) - right, sum(unused)
    overlap = sum(probability * iou for probability, iou in used)
    return Expected(overlap / (right + wrong / 2 + missed / 2), presence=1.0)


def _score(segment: Segment) -> float:
    assert segment.score is not None  # `segments_of_detections` takes no others
    return segment.score


def expected_iou(probability: Tensor, region: Tensor) -> Tensor:
    """The IoU of a region with what is really there, if each pixel is so with a probability of its own.

        sum of p inside / (pixels inside + sum of p outside)

    Args:
        probability: (..., h, w) float, 0..1.
        region: (..., h, w) bool.

    Returns:
        (...), 0..1; 0 for an empty region.
    """
    probability = full_precision(probability)  # a sum of 65504 pixels is the largest of float16
    inside = probability.where(region, 0).sum(dim=(-2, -1))
    outside = probability.where(~region, 0).sum(dim=(-2, -1))
    return inside / (region.sum(dim=(-2, -1)) + outside).clamp(min=torch.finfo(probability.dtype).tiny)


def counted_iou(iou: float) -> float:
    """What a segment of that expected IoU adds to PQ: the IoU, times the probability that it is enough for a match.

    The true IoU is taken as normally distributed around the expected one.
    """
    return iou * 0.5 * (1 + math.erf((iou - MATCH_IOU) / (IOU_SPREAD * math.sqrt(2))))


def segments_of_detections(
    instances: Instances, segmentation: PanopticSegmentation, label_space: LabelSpace
) -> Mapping[int, Segment]:
    """Index of a detection -> the segment that fusion made of it.

    A segment belongs to the detection of its category whose mask it overlaps best; each detection and each segment is
    given once, the best overlap first. So it does not matter how fusion claims pixels or changes scores.
    """
    segments = {segment.id: segment for segment in segmentation.segments if segment.score is not None}
    pairs = []
    for index, (label, _, mask) in enumerate(paste_instances(instances, segmentation.size, len(label_space.things))):
        area = int(mask.pixels.count_nonzero())
        ids, counts = segmentation.id_map[mask.window][mask.pixels].unique(return_counts=True)
        for segment_id, overlap in zip(ids.tolist(), counts.tolist(), strict=True):
            segment = segments.get(segment_id)
            if segment is not None and segment.category_id == label_space.things[label].id:
                pairs.append((overlap / (area + segment.area - overlap), index, segment_id))
    found: dict[int, Segment] = {}
    free = set(segments)
    for _, index, segment_id in sorted(pairs, key=lambda pair: (-pair[0], pair[1])):
        if index not in found and segment_id in free:
            found[index] = segments[segment_id]
            free.remove(segment_id)
    return found
