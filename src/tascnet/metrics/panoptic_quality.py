"""Panoptic quality: pairs of predicted and annotated segmentations -> PQ, SQ, RQ by category and by group."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tascnet.metrics.matching import Matcher, match_segments
from tascnet.structures import LabelSpace, PanopticSegmentation

_UNITS = 2**53
"""Every float in (0.5, 1] is a whole number of these: sums of IoUs are exact, so no order or split changes them."""


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

    def __init__(self, label_space: LabelSpace, match: Matcher = match_segments) -> None:
        """Start from nothing.

        Args:
            label_space: all categories that segments may have.
            match: decides which segments match, and with what quality; a `BoundaryMatcher` makes it boundary PQ.
        """
        self.label_space = label_space
        self._match = match
        self._true_positives: Counter[int] = Counter()  # by category id, like the others
        self._false_positives: Counter[int] = Counter()
        self._false_negatives: Counter[int] = Counter()
        self._iou_units: Counter[int] = Counter()  # sum of the matches' IoUs in 1 / _UNITS

    def update(self, prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> None:
        """Count the segments of one image; raises as `match_segments` does and then counts nothing."""
        matching = self._match(prediction, annotation, self.label_space)
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
            ValueError: it counts in another label space, or by another way of matching.
        """
        if other.label_space != self.label_space:
            raise ValueError("only metrics of the same label space can be merged.")
        if other._match != self._match:
            raise ValueError("PQ and boundary PQ, or boundary PQs of different bands, cannot be merged.")
        self._true_positives.update(other._true_positives)
        self._false_positives.update(other._false_positives)
        self._false_negatives.update(other._false_negatives)
        self._iou_units.update(other._iou_units)

    def compute(self) -> PanopticQualityResult:
        """The quality of all images so far."""
        # of many categories an image has few: the others are not asked for
        counted = self._true_positives.keys() | self._false_positives.keys() | self._false_negatives.keys()
        per_category = {i: self._category_quality(i) for i in self.label_space.in_order(counted)}
        return PanopticQualityResult(
            all=_mean_quality(per_category.values()),
            things=_mean_quality(q for i, q in per_category.items() if self.label_space[i].is_thing),
            stuff=_mean_quality(q for i, q in per_category.items() if not self.label_space[i].is_thing),
            per_category=per_category,
        )

    def _category_quality(self, category_id: int) -> CategoryQuality:
        """The quality of a category with something to count."""
        true_positives = self._true_positives[category_id]
        false_positives = self._false_positives[category_id]
        false_negatives = self._false_negatives[category_id]
        denominator = true_positives + 0.5 * false_positives + 0.5 * false_negatives
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
