"""What a network says of one photo -> measures of doubt; no annotation is needed.

Every measure is higher where there is more doubt, and none needs other photos to be understood.
"""

import math
from dataclasses import dataclass, replace

from torch import Tensor

from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.tasc_loss import things_probability
from tascnet.planes.plane import Plane, as_plane, at_cells
from tascnet.precision import full_precision
from tascnet.structures import VOID, Instances, PanopticSegmentation, Size

UNCERTAIN_SCORES = (0.1, 0.5)
"""Detections that score between these are neither seen nor overlooked."""


@dataclass(frozen=True)
class Doubts:
    """Measures of doubt of one photo, each 0..1.

    Attributes:
        expected_loss: 1 less the PQ that the network expects of itself, see `expected_quality`. It ranks photos: no sum
            with other measures tells better on streets and on photos (docs/triage.md).
        residual: mean |M_st - M_th| over the pixels that either head calls things.
        soft_residual: see `soft_residual`.
        instance_residual: mean over thing segments of their mean residual.
        worst_instance_residual: the highest mean residual of a thing segment.
        detection: 1 less the mean score of the detections that fusion uses.
        entropy: of the stuff head, mean over pixels.
        void: share of pixels without a segment.
        dropped: share of the detections above the score threshold that became no segment.
        uncertain: detections with a score between 0.1 and 0.5, beside those that became segments.
    """

    expected_loss: float
    residual: float
    soft_residual: float
    instance_residual: float
    worst_instance_residual: float
    detection: float
    entropy: float
    void: float
    dropped: float
    uncertain: float


def soft_residual(stuff_logits: Plane | Tensor, instances: Instances, num_stuff: int, size: Size) -> float:
    """The mean over all pixels of |P_th - S_th|, 0..1: the residual without thresholds.

    P_th is the stuff head's probability of things. S_th is the probability that at least one detection is right and
    covers the pixel, each with its score times its mask, whatever the score.

    Args:
        stuff_logits: values (C, h, w) float. A tensor covers exactly the photo.
        instances: all detections, boxes in pixels of the photo.
        num_stuff: K_st.
        size: of the photo.
    """
    plane = as_plane(stuff_logits)
    logits = full_precision(plane.values)
    in_cells = instances.resized(plane.extent.columns / size.width, plane.extent.rows / size.height)
    in_cells = replace(in_cells, boxes=in_cells.boxes - plane.offset)
    nothing = logits.new_ones(plane.grid)
    for mask, box, score in zip(in_cells.masks, in_cells.boxes, in_cells.scores, strict=True):
        nothing *= 1 - score * roi_flatten(mask[None], box[None], plane.grid, stride=1, threshold=0)
    return float((things_probability(logits, num_stuff) - (1 - nothing)).abs().mean())


def instance_residuals(residual: Plane | Tensor, segmentation: PanopticSegmentation) -> list[float]:
    """The mean residual of each thing segment, 0..1; those too small for a pixel of the residual are left out.

    Args:
        residual: values (h, w) float, 0..1. A tensor covers exactly the photo.
        segmentation: (H, W); its thing segments are those with a score.
    """
    plane = as_plane(residual)
    id_map = at_cells(segmentation.id_map, plane)
    regions = (plane.values[id_map == segment.id] for segment in segmentation.segments if segment.score is not None)
    return [float(full_precision(region).mean()) for region in regions if len(region)]


def detection_doubt(instances: Instances, score_threshold: float) -> float:
    """1 less the mean score of the detections that fusion uses; 1 where there are none."""
    used = instances.scores[instances.scores >= score_threshold]
    return 1 - float(full_precision(used).mean()) if len(used) else 1.0


def stuff_entropy(stuff_logits: Tensor) -> float:
    """The mean entropy of the stuff head's softmax, 0..1: 0 where one channel is certain, 1 where all C are alike.

    Args:
        stuff_logits: (C, h, w) float, C at least 2.
    """
    logarithm = full_precision(stuff_logits).log_softmax(dim=0)
    entropy = -(logarithm.exp() * logarithm).sum(dim=0)
    return float(entropy.mean()) / math.log(len(stuff_logits))


def void_share(segmentation: PanopticSegmentation) -> float:
    """The share of pixels without a segment, 0..1."""
    return float((segmentation.id_map == VOID).double().mean())


def dropped_share(instances: Instances, segmentation: PanopticSegmentation, score_threshold: float) -> float:
    """The share of the detections above the score threshold that became no segment, 0..1; 0 where there are none."""
    used = int((instances.scores >= score_threshold).sum())
    return max(0.0, 1 - _num_things(segmentation) / used) if used else 0.0


def uncertain_share(instances: Instances, segmentation: PanopticSegmentation) -> float:
    """Uncertain detections / (uncertain ones + those that became segments), 0..1; 0 where there are neither."""
    low, high = UNCERTAIN_SCORES
    uncertain = int(((instances.scores > low) & (instances.scores < high)).sum())
    both = uncertain + _num_things(segmentation)
    return uncertain / both if both else 0.0


def _num_things(segmentation: PanopticSegmentation) -> int:
    return sum(segment.score is not None for segment in segmentation.segments)
