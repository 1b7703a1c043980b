"""A predicted and an annotated segmentation -> which segments match, which were missed, which are false."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation, run_starts

MATCH_IOU = 0.5
"""Segments match above this IoU. As segments do not overlap, each then has at most one match."""

MAX_IGNORED_SHARE = 0.5
"""An unmatched prediction with more than this share of its pixels on VOID or on a crowd is no false positive."""


class Match(NamedTuple):
    """A predicted and an annotated segment of one category with an IoU above 0.5."""

    prediction_id: int
    annotation_id: int
    iou: float


@dataclass(frozen=True)
class Matching:
    """What became of every segment of one image.

    Attributes:
        true_positives: the matches, in the order of the prediction's segments.
        false_positives: ids of unmatched predicted segments that count.
        false_negatives: ids of unmatched annotated segments; never crowds.
        ignored: ids of unmatched predicted segments that mostly lie on VOID or on a crowd of their category.
    """

    true_positives: tuple[Match, ...]
    false_positives: tuple[int, ...]
    false_negatives: tuple[int, ...]
    ignored: tuple[int, ...]


Matcher = Callable[[PanopticSegmentation, PanopticSegmentation, LabelSpace], Matching]
"""(prediction, annotation, label space) -> matching: `match_segments`, or a `BoundaryMatcher`."""


def match_segments(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, label_space: LabelSpace
) -> Matching:
    """Match the predicted segments of one image with the annotated ones.

    Two segments of one category match if their IoU is above 0.5, where predicted pixels on VOID of the annotation
    belong to no union. Annotated crowds match nothing and are never missed. An unmatched prediction with more than
    half of its pixels on VOID or on crowds of its category, all crowds together, is ignored. Predicted VOID is no
    segment: it only leaves annotated segments uncovered. `is_crowd` of predicted segments has no meaning.

    Args:
        prediction: (H, W).
        annotation: (H, W).
        label_space: all categories that the segments may have.

    Raises:
        InputError: the sizes differ, a category is unknown, or the segments do not fit the id map.
    """
    shared = count_shared_pixels(prediction, annotation, label_space)
    ious = pairwise_iou(shared[1:, 1:], shared[1:].sum(axis=1), shared[:, 1:].sum(axis=0), shared[1:, 0])
    return match_by_iou(prediction, annotation, shared, ious)


def count_shared_pixels(
    prediction: PanopticSegmentation,
    annotation: PanopticSegmentation,
    label_space: LabelSpace,
    *planes: np.ndarray,
) -> np.ndarray:
    """Count the pixels that two segments share.

    Args:
        prediction: (H, W).
        annotation: (H, W).
        label_space: all categories that the segments may have.
        planes: (H, W) bool, any number: pixels are counted apart by their values.

    Returns:
        (predicted + 1, annotated + 1, 2, 2, ...) int64, an axis of 2 for each plane, False first. Row and column 0
        are VOID, the others in the order of the segments.

    Raises:
        InputError: the sizes differ, a category is unknown, or the segments do not fit the id map.
    """
    if prediction.size != annotation.size:
        raise InputError(
            f"the prediction is {prediction.size.height} x {prediction.size.width} pixels (height x width), the "
            f"annotation {annotation.size.height} x {annotation.size.width}; predict at the annotation's size."
        )
    _check_categories("prediction", prediction, label_space)
    _check_categories("annotation", annotation, label_space)
    predicted_ids, annotated_ids = prediction.id_map.numpy().ravel(), annotation.id_map.numpy().ravel()
    flat_planes = [plane.ravel() for plane in planes]
    # Segments are large: pixels are counted by runs of equal pairs, of which only the first pixel is looked up.
    starts = run_starts(predicted_ids, annotated_ids, *flat_planes)
    lengths = np.diff(starts, append=len(predicted_ids))
    indices = [_at(prediction, predicted_ids[starts]), _at(annotation, annotated_ids[starts])]
    indices += [plane[starts].astype(np.int64) for plane in flat_planes]
    shape = (len(prediction.segments) + 1, len(annotation.segments) + 1) + (2,) * len(planes)
    cells = np.ravel_multi_index(indices, shape)
    # weights are summed as float64, exact for counts of pixels
    shared = np.bincount(cells, weights=lengths, minlength=math.prod(shape)).astype(np.int64).reshape(shape)
    _check_not_empty("prediction", prediction, shared.reshape(shape[0], -1).sum(axis=1))
    _check_not_empty("annotation", annotation, shared.swapaxes(0, 1).reshape(shape[1], -1).sum(axis=1))
    return shared


def pairwise_iou(
    intersections: np.ndarray, predicted_areas: np.ndarray, annotated_areas: np.ndarray, on_void: np.ndarray
) -> np.ndarray:
    """IoU of each predicted with each annotated segment; predicted pixels on VOID belong to no union.

    Args:
        intersections: (predicted, annotated) pixels.
        predicted_areas: (predicted,) pixels, more than 0.
        annotated_areas: (annotated,) pixels, more than 0.
        on_void: (predicted,) pixels that lie on VOID of the annotation.

    Returns:
        (predicted, annotated) float64.
    """
    unions = (predicted_areas - on_void)[:, None] + annotated_areas[None, :] - intersections
    quotients: np.ndarray = intersections / unions
    return quotients


def match_by_iou(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, shared: np.ndarray, ious: np.ndarray
) -> Matching:
    """Match what has an IoU above 0.5; the rules for categories, crowds and VOID are those of `match_segments`.

    Args:
        prediction: (H, W).
        annotation: (H, W).
        shared: (predicted + 1, annotated + 1) pixels, row and column 0 VOID.
        ious: (predicted, annotated), at most one above 0.5 in each row and column.
    """
    predicted_categories = np.array([segment.category_id for segment in prediction.segments])
    annotated_categories = np.array([segment.category_id for segment in annotation.segments])
    is_crowd = np.array([segment.is_crowd for segment in annotation.segments], dtype=bool)
    same_category = predicted_categories[:, None] == annotated_categories[None, :]
    matched = (ious > MATCH_IOU) & same_category & ~is_crowd
    areas = shared[1:].sum(axis=1)
    excused = shared[1:, 0] + (shared[1:, 1:] * (same_category & is_crowd)).sum(axis=1)
    unmatched = ~matched.any(axis=1)
    ignored = unmatched & (excused / areas > MAX_IGNORED_SHARE)
    predicted_ids = [segment.id for segment in prediction.segments]
    annotated_ids = [segment.id for segment in annotation.segments]
    return Matching(
        true_positives=tuple(
            Match(predicted_ids[i], annotated_ids[j], float(ious[i, j])) for i, j in np.argwhere(matched).tolist()
        ),
        false_positives=_chosen(predicted_ids, unmatched & ~ignored),
        false_negatives=_chosen(annotated_ids, ~is_crowd & ~matched.any(axis=0)),
        ignored=_chosen(predicted_ids, ignored),
    )


def _chosen(ids: list[int], mask: np.ndarray) -> tuple[int, ...]:
    return tuple(ids[k] for k in np.flatnonzero(mask).tolist())


def _at(segmentation: PanopticSegmentation, ids: np.ndarray) -> np.ndarray:
    """int64: for each id 0 where VOID, k + 1 where it is that of `segments[k]`; raises as `index_map` does."""
    return replace(segmentation, id_map=torch.from_numpy(ids)).index_map().numpy().astype(np.int64)


def _check_not_empty(role: str, segmentation: PanopticSegmentation, counts: np.ndarray) -> None:
    """Check that each segment has pixels; the counts start with those of VOID."""
    for segment, area in zip(segmentation.segments, counts[1:].tolist(), strict=True):
        if area == 0:
            raise InputError(
                f"segment {segment.id} of the {role} has no pixel in the id map; remove it or mend the map."
            )


def _check_categories(role: str, segmentation: PanopticSegmentation, label_space: LabelSpace) -> None:
    for segment in segmentation.segments:
        if segment.category_id not in label_space:
            raise InputError(
                f"segment {segment.id} of the {role} has category id {segment.category_id}, which is none of the "
                f"{len(label_space.categories)} categories of the label space; compare within one label space."
            )
