"""Panoptic quality: pairs of predicted and annotated segmentations -> PQ, SQ, RQ by category and by group."""

from collections import Counter
from collections.abc import Iterable
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

_UNITS = 2**53
"""Every float in (0.5, 1] is a whole number of these: sums of IoUs are exact, so no order or split changes them."""


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


@dataclass(frozen=True)
class CategoryQuality:
    """Quality of one category that has at least one segment to count.

    Attributes:
        pq: panoptic quality, 0..1: `sq` times `rq`.
        sq: segmentation quality, 0..1: mean IoU of the matches; 0 without any.
        rq: recognition quality, 0..1: true positives over true positives and half of the errors.
        true_positives: number of matches.
        false_positives: number of predicted segments without a match.
        false_negatives: number of annotated segments without a match.
    """

    pq: float
    sq: float
    rq: float
    true_positives: int
    false_positives: int
    false_negatives: int


@dataclass(frozen=True)
class GroupQuality:
    """Means over the categories of a group, each 0..1, and how many categories they are over."""

    pq: float
    sq: float
    rq: float
    num_categories: int


@dataclass(frozen=True)
class PanopticQualityResult:
    """Panoptic quality of a set of images, as fractions 0..1.

    Attributes:
        all: mean over all categories that have something to count; None if none has.
        things: the same over thing categories.
        stuff: the same over stuff categories.
        per_category: category id -> quality, in the order of the label space. A category without a true positive,
            false positive or false negative is absent here and in the means.
    """

    all: GroupQuality | None
    things: GroupQuality | None
    stuff: GroupQuality | None
    per_category: dict[int, CategoryQuality]


class PanopticQuality:
    """Panoptic quality, counted image by image (Kirillov et al., "Panoptic Segmentation", CVPR 2019).

    The rules are those of the official COCO evaluation, with one difference: where an image has several crowds of one
    category, all of them excuse unmatched predictions (the official code looks at the last one only).

    The state is four counters of plain integers: it can be pickled and sent between processes, and merging gives
    the same result to the last bit however the images were divided.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._true_positives: Counter[int] = Counter()  # by category id, like the others
        self._false_positives: Counter[int] = Counter()
        self._false_negatives: Counter[int] = Counter()
        self._iou_units: Counter[int] = Counter()  # sum of the matches' IoUs in 1 / _UNITS

    def update(self, prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> None:
        """Count the segments of one image; raises as `match_segments` does and then counts nothing."""
        matching = match_segments(prediction, annotation, self.label_space)
        predicted = {segment.id: segment.category_id for segment in prediction.segments}
        annotated = {segment.id: segment.category_id for segment in annotation.segments}
        for match in matching.true_positives:
            category_id = annotated[match.annotation_id]
            self._true_positives[category_id] += 1
            self._iou_units[category_id] += int(match.iou * _UNITS)
        self._false_positives.update(predicted[i] for i in matching.false_positives)
        self._false_negatives.update(annotated[i] for i in matching.false_negatives)

    def merge(self, other: "PanopticQuality") -> None:
        """Add the counts of another process; `other` stays as it is.

        Raises:
            ValueError: it counts in another label space.
        """
        if other.label_space != self.label_space:
            raise ValueError("only metrics of the same label space can be merged.")
        self._true_positives.update(other._true_positives)
        self._false_positives.update(other._false_positives)
        self._false_negatives.update(other._false_negatives)
        self._iou_units.update(other._iou_units)

    def compute(self) -> PanopticQualityResult:
        """The quality of all images so far."""
        qualities = {category.id: self._category_quality(category.id) for category in self.label_space.categories}
        per_category = {i: quality for i, quality in qualities.items() if quality is not None}
        return PanopticQualityResult(
            all=_mean_quality(per_category.values()),
            things=_mean_quality(q for i, q in per_category.items() if self.label_space[i].is_thing),
            stuff=_mean_quality(q for i, q in per_category.items() if not self.label_space[i].is_thing),
            per_category=per_category,
        )

    def _category_quality(self, category_id: int) -> CategoryQuality | None:
        true_positives = self._true_positives[category_id]
        false_positives = self._false_positives[category_id]
        false_negatives = self._false_negatives[category_id]
        denominator = true_positives + 0.5 * false_positives + 0.5 * false_negatives
        if denominator == 0:
            return None
        iou = self._iou_units[category_id] / _UNITS
        return CategoryQuality(
            pq=iou / denominator,
            sq=iou / true_positives if true_positives else 0.0,
            rq=true_positives / denominator,
            true_positives=true_positives,
            false_positives=false_positives,
            false_negatives=false_negatives,
        )


def image_panoptic_quality(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, label_space: LabelSpace
) -> PanopticQualityResult:
    """Panoptic quality of one image by itself; raises as `match_segments` does."""
    metric = PanopticQuality(label_space)
    metric.update(prediction, annotation)
    return metric.compute()


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
    if prediction.size != annotation.size:
        raise InputError(
            f"the prediction is {prediction.size.height} x {prediction.size.width} pixels (height x width), the "
            f"annotation {annotation.size.height} x {annotation.size.width}; predict at the annotation's size."
        )
    _check_categories("prediction", prediction, label_space)
    _check_categories("annotation", annotation, label_space)
    shared = _count_shared_pixels(prediction, annotation)  # (predicted + 1, annotated + 1); row and column 0 are VOID
    predicted_areas = _areas("prediction", prediction, shared.sum(axis=1))
    annotated_areas = _areas("annotation", annotation, shared.sum(axis=0))
    on_void = shared[1:, 0].tolist()
    shared = shared[1:, 1:]

    matches: dict[int, Match] = {}  # position among the predicted segments -> match
    matched_annotations = set()
    for i, j in np.argwhere(shared).tolist():
        predicted, annotated = prediction.segments[i], annotation.segments[j]
        if annotated.is_crowd or predicted.category_id != annotated.category_id:
            continue
        intersection = int(shared[i, j])
        iou = intersection / (predicted_areas[i] + annotated_areas[j] - intersection - on_void[i])
        if iou > MATCH_IOU:
            matches[i] = Match(predicted.id, annotated.id, iou)
            matched_annotations.add(annotated.id)

    unmatched = [i for i in range(len(prediction.segments)) if i not in matches]
    ignored = {
        i
        for i in unmatched
        if (on_void[i] + _pixels_on_crowds(prediction, annotation, shared, i)) / predicted_areas[i] > MAX_IGNORED_SHARE
    }
    return Matching(
        true_positives=tuple(matches[i] for i in sorted(matches)),
        false_positives=tuple(prediction.segments[i].id for i in unmatched if i not in ignored),
        false_negatives=tuple(
            segment.id
            for segment in annotation.segments
            if not segment.is_crowd and segment.id not in matched_annotations
        ),
        ignored=tuple(prediction.segments[i].id for i in sorted(ignored)),
    )


def _count_shared_pixels(prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> np.ndarray:
    """(predicted + 1, annotated + 1) int64: pixels that two segments share; row and column 0 are VOID."""
    predicted_ids, annotated_ids = prediction.id_map.numpy().ravel(), annotation.id_map.numpy().ravel()
    # Segments are large: pixels are counted by runs of equal pairs, of which only the first pixel is looked up.
    starts = run_starts(predicted_ids, annotated_ids)
    lengths = np.diff(starts, append=len(predicted_ids))
    predicted = _at(prediction, predicted_ids[starts])
    annotated = _at(annotation, annotated_ids[starts])
    shape = len(prediction.segments) + 1, len(annotation.segments) + 1
    pairs = predicted * shape[1] + annotated
    # weights are summed as float64, exact for counts of pixels
    return np.bincount(pairs, weights=lengths, minlength=shape[0] * shape[1]).astype(np.int64).reshape(shape)


def _at(segmentation: PanopticSegmentation, ids: np.ndarray) -> np.ndarray:
    """int64: for each id 0 where VOID, k + 1 where it is that of `segments[k]`; raises as `index_map` does."""
    return replace(segmentation, id_map=torch.from_numpy(ids)).index_map().numpy().astype(np.int64)


def _areas(role: str, segmentation: PanopticSegmentation, counts: np.ndarray) -> list[int]:
    """Pixels of each segment, from counts that start with those of VOID."""
    areas: list[int] = counts[1:].tolist()
    for segment, area in zip(segmentation.segments, areas, strict=True):
        if area == 0:
            raise InputError(
                f"segment {segment.id} of the {role} has no pixel in the id map; remove it or mend the map."
            )
    return areas


def _pixels_on_crowds(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, shared: np.ndarray, position: int
) -> int:
    """Pixels of a predicted segment that lie on crowds of its category."""
    category_id = prediction.segments[position].category_id
    return sum(
        int(shared[position, j])
        for j, segment in enumerate(annotation.segments)
        if segment.is_crowd and segment.category_id == category_id
    )


def _check_categories(role: str, segmentation: PanopticSegmentation, label_space: LabelSpace) -> None:
    for segment in segmentation.segments:
        if segment.category_id not in label_space:
            raise InputError(
                f"segment {segment.id} of the {role} has category id {segment.category_id}, which is none of the "
                f"{len(label_space.categories)} categories of the label space; compare within one label space."
            )


def _mean_quality(qualities: Iterable[CategoryQuality]) -> GroupQuality | None:
    group = list(qualities)
    if not group:
        return None
    return GroupQuality(
        pq=sum(quality.pq for quality in group) / len(group),
        sq=sum(quality.sq for quality in group) / len(group),
        rq=sum(quality.rq for quality in group) / len(group),
        num_categories=len(group),
    )
