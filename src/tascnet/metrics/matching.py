"""A predicted and an annotated segmentation -> which segments match, which were missed, which are false."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from tascnet.errors import InputError
from tascnet.metrics.counting import sum_by_index, tally
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
    """The outcome of matching for every segment of one image.

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


@dataclass(frozen=True, eq=False)
class SharedPixels:
    """The pairs of a predicted and an annotated segment that share pixels, in order, and how many they share.

    Segments are numbered by their places, from 1; 0 stands for VOID.

    Attributes:
        predicted: (pairs,) int64, number of the predicted segment.
        annotated: (pairs,) int64, number of the annotated segment.
        pixels: (pairs, 2, 2, ...) int64, an axis of 2 for each plane that divides the pixels, False first.
    """

    predicted: np.ndarray
    annotated: np.ndarray
    pixels: np.ndarray

    @property
    def are_segments(self) -> np.ndarray:
        """(pairs,) bool: neither of the two is VOID."""
        found: np.ndarray = (self.predicted > 0) & (self.annotated > 0)
        return found


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
    ious = pairwise_iou(shared, shared.pixels, shared.pixels, shared.pixels)
    return match_by_iou(prediction, annotation, shared, ious)


def count_shared_pixels(
    prediction: PanopticSegmentation,
    annotation: PanopticSegmentation,
    label_space: LabelSpace,
    *planes: np.ndarray,
) -> SharedPixels:
    """Count the pixels that two segments share.

    Memory and time grow with the pixels and the segments, not with predicted times annotated segments.

    Args:
        prediction: (H, W).
        annotation: (H, W).
        label_space: all categories that the segments may have.
        planes: (H, W) bool, any number: pixels are counted apart by their values.

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
    cells, counts = tally(np.ravel_multi_index(indices, shape), math.prod(shape), lengths)
    pairs, pair_of_cell = np.unique(cells >> len(planes), return_inverse=True)
    pixels = np.zeros((len(pairs), 2 ** len(planes)), dtype=np.int64)
    pixels[pair_of_cell.ravel(), cells & (2 ** len(planes) - 1)] = counts
    predicted, annotated = np.divmod(pairs, shape[1])
    in_pair = pixels.sum(axis=1)
    _check_not_empty("prediction", prediction, sum_by_index(predicted, in_pair, shape[0]))
    _check_not_empty("annotation", annotation, sum_by_index(annotated, in_pair, shape[1]))
    return SharedPixels(predicted, annotated, pixels.reshape(-1, *shape[2:]))


def pairwise_iou(
    shared: SharedPixels, intersections: np.ndarray, predicted: np.ndarray, annotated: np.ndarray
) -> np.ndarray:
    """IoU of the two segments of each pair; predicted pixels on VOID belong to no union.

    Args:
        shared: the pairs.
        intersections: (pairs,) pixels that count for both segments.
        predicted: (pairs,) pixels that count for the predicted segment.
        annotated: (pairs,) pixels that count for the annotated segment.

    Returns:
        (pairs,) float64; 0 where one of the two is VOID.
    """
    on_segments = np.where(shared.annotated > 0, predicted, 0)
    predicted_areas = sum_by_index(shared.predicted, on_segments, 0)
    annotated_areas = sum_by_index(shared.annotated, annotated, 0)
    unions = predicted_areas[shared.predicted] + annotated_areas[shared.annotated] - intersections
    return np.divide(intersections, unions, out=np.zeros(len(unions)), where=shared.are_segments)


def match_by_iou(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, shared: SharedPixels, ious: np.ndarray
) -> Matching:
    """Match the pairs with an IoU above 0.5; the rules for categories, crowds and VOID are those of `match_segments`.

    Args:
        prediction: (H, W).
        annotation: (H, W).
        shared: the pairs, their pixels not divided by planes.
        ious: (pairs,), at most one above 0.5 for each predicted and each annotated segment.
    """
    # entry 0 stands for VOID, which has no category
    predicted_categories = np.array([0, *(segment.category_id for segment in prediction.segments)])
    annotated_categories = np.array([0, *(segment.category_id for segment in annotation.segments)])
    is_crowd = np.array([False, *(segment.is_crowd for segment in annotation.segments)])
    predicted, annotated = shared.predicted, shared.annotated
    same_category = shared.are_segments & (predicted_categories[predicted] == annotated_categories[annotated])
    matched = (ious > MATCH_IOU) & same_category & ~is_crowd[annotated]
    excuses = (annotated == 0) | (same_category & is_crowd[annotated])
    num_predicted = len(prediction.segments) + 1
    areas = sum_by_index(predicted, shared.pixels, num_predicted)
    excused = sum_by_index(predicted[excuses], shared.pixels[excuses], num_predicted)
    missed = ~is_crowd
    missed[annotated[matched]] = False
    unmatched = np.ones(num_predicted, dtype=bool)
    unmatched[predicted[matched]] = False
    ignored = unmatched & (excused > MAX_IGNORED_SHARE * areas)
    predicted_ids = [segment.id for segment in prediction.segments]
    annotated_ids = [segment.id for segment in annotation.segments]
    matches = zip(predicted[matched].tolist(), annotated[matched].tolist(), ious[matched].tolist(), strict=True)
    return Matching(
        true_positives=tuple(Match(predicted_ids[i - 1], annotated_ids[j - 1], iou) for i, j, iou in matches),
        false_positives=_chosen(predicted_ids, unmatched & ~ignored),
        false_negatives=_chosen(annotated_ids, missed),
        ignored=_chosen(predicted_ids, ignored),
    )


def _chosen(ids: list[int], mask: np.ndarray) -> tuple[int, ...]:
    """The ids of the segments that a mask marks; its first entry stands for VOID."""
    return tuple(ids[k] for k in np.flatnonzero(mask[1:]).tolist())


def _at(segmentation: PanopticSegmentation, ids: np.ndarray) -> np.ndarray:
    """int64: for each id 0 where VOID, k + 1 where it is that of `segments[k]`; raises as `index_map` does."""
    return replace(segmentation, id_map=torch.from_numpy(ids)).index_map().numpy().astype(np.int64)


def _check_not_empty(role: str, segmentation: PanopticSegmentation, counts: np.ndarray) -> None:
    """Check that each segment has pixels; the counts start with those of VOID."""
    for segment, area in zip(segmentation.segments, counts[1:].tolist(), strict=True):
        if area == 0:
            raise InputError(
                f"segment {segment.id} of the {role} has no pixel in the id map; remove it or fix the map."
            )


def _check_categories(role: str, segmentation: PanopticSegmentation, label_space: LabelSpace) -> None:
    for segment in segmentation.segments:
        if segment.category_id not in label_space:
            raise InputError(
                f"segment {segment.id} of the {role} has category id {segment.category_id}, which is none of the "
                f"{len(label_space.categories)} categories of the label space; compare within one label space."
            )
