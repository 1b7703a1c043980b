"""Mean IoU: pairs of predicted and annotated semantic maps -> IoU by category and their mean."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from tascnet.errors import InputError
from tascnet.metrics.counting import sum_by_index, tally
from tascnet.metrics.matching import count_shared_pixels
from tascnet.structures import IGNORE, LabelSpace, PanopticSegmentation, run_starts


@dataclass(frozen=True)
class MeanIoUResult:
    """IoU over all pixels of a set of images, as fractions 0..1.

    Attributes:
        mean_iou: mean over the categories in `per_category`; None if there is none.
        per_category: category id -> IoU, in the order of the label space. A category that no pixel was annotated or
            predicted as is absent here and in the mean.
    """

    mean_iou: float | None
    per_category: dict[int, float]


class MeanIoU:
    """Mean IoU of semantic segmentation, from the pixels of each pair of categories over all images.

    The rules are those of Cityscapes: pixels without annotation are left out altogether, and so is a category that
    appears in neither annotation nor prediction. A pixel predicted as IGNORE is a miss of its annotated category and
    a false alarm of none.

    The state holds only the pairs of categories that occur: its memory does not grow with the square of the categories.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._num_categories = len(label_space.categories)
        self._pixels: Counter[int] = Counter()  # by annotated * (K + 1) + predicted + 1; IGNORE, predicted, is -1

    @property
    def confusion(self) -> np.ndarray:
        """(K, K + 1) int64: pixels by annotated (row) and predicted (column) semantic index.

        The last column holds pixels predicted as IGNORE. The matrix is made anew at each call.
        """
        annotated, predicted, pixels = self._pairs()
        table = np.zeros((self._num_categories, self._num_categories + 1), dtype=np.int64)
        table[annotated, predicted] = pixels  # IGNORE is -1, the last column
        return table

    def update(self, prediction: Tensor, annotation: Tensor) -> None:
        """Count the pixels of one image.

        Args:
            prediction: (H, W) integer, semantic index 0..K-1 or IGNORE.
            annotation: the same; `PanopticSegmentation.semantic_map` gives it.

        Raises:
            InputError: the sizes differ, or a value is no semantic index.
        """
        if prediction.shape != annotation.shape:
            raise InputError(
                f"the predicted semantic map is {tuple(prediction.shape)}, the annotated one {tuple(annotation.shape)} "
                "(height, width); predict at the annotation's size."
            )
        # Regions are large: pixels are counted by runs of equal pairs, of which only the first pixel is looked at.
        flat = [semantic_map.numpy(force=True).ravel() for semantic_map in (prediction, annotation)]
        starts = run_starts(*flat)
        lengths = np.diff(starts, append=len(flat[0]))
        predicted, annotated = (values[starts].astype(np.int64) for values in flat)
        _check_values("predicted", predicted, self._num_categories)
        _check_values("annotated", annotated, self._num_categories)
        self._add(predicted, annotated, lengths)

    def update_segmentations(self, prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> None:
        """Count the pixels of one image by its segments: the same as by their semantic maps, in a fifth of the time.

        Args:
            prediction: (H, W).
            annotation: (H, W).

        Raises:
            InputError: as `match_segments` does.
        """
        shared = count_shared_pixels(prediction, annotation, self.label_space)
        predicted, annotated = (
            np.array([IGNORE, *(self.label_space.semantic_index(segment.category_id) for segment in each.segments)])
            for each in (prediction, annotation)
        )
        self._add(predicted[shared.predicted], annotated[shared.annotated], shared.pixels)

    def _add(self, predicted: np.ndarray, annotated: np.ndarray, pixels: np.ndarray) -> None:
        """Add numbers of pixels by semantic indices, IGNORE among them; (L,) each."""
        columns = self._num_categories + 1
        labelled = annotated != IGNORE
        keys = annotated[labelled] * columns + predicted[labelled] + 1
        distinct, counts = tally(keys, self._num_categories * columns, pixels[labelled])
        self._pixels.update(dict(zip(distinct.tolist(), counts.tolist(), strict=True)))

    def _pairs(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The pairs that occur: annotated and predicted semantic index, and number of pixels, (P,) int64 each."""
        keys = np.fromiter(self._pixels.keys(), dtype=np.int64, count=len(self._pixels))
        pixels = np.fromiter(self._pixels.values(), dtype=np.int64, count=len(self._pixels))
        annotated, columns = np.divmod(keys, self._num_categories + 1)
        return annotated, columns - 1, pixels

    def merge(self, other: "MeanIoU") -> None:
        """Add the counts of another process; `other` stays as it is.

        Raises:
            ValueError: it counts in another label space.
        """
        if other.label_space != self.label_space:
            raise ValueError("only metrics of the same label space can be merged.")
        self._pixels.update(other._pixels)

    def compute(self) -> MeanIoUResult:
        """The IoUs of all images so far."""
        annotated, predicted, pixels = self._pairs()
        same, length = annotated == predicted, self._num_categories
        intersections = sum_by_index(annotated[same], pixels[same], length)
        areas = sum_by_index(annotated, pixels, length) + sum_by_index(predicted + 1, pixels, length + 1)[1:]
        unions = areas - intersections
        per_category = {}
        for category in self.label_space.categories:
            index = self.label_space.semantic_index(category.id)
            if unions[index] > 0:
                per_category[category.id] = int(intersections[index]) / int(unions[index])
        mean_iou = sum(per_category.values()) / len(per_category) if per_category else None
        return MeanIoUResult(mean_iou=mean_iou, per_category=per_category)


def _check_values(role: str, values: np.ndarray, num_categories: int) -> None:
    smallest, largest = values.min(initial=IGNORE), values.max(initial=IGNORE)
    if smallest < IGNORE or largest >= num_categories:
        raise InputError(
            f"the {role} semantic map has values from {values.min()} to {values.max()}; semantic indices of this label "
            f"space are 0..{num_categories - 1}, and {IGNORE} where nothing is labelled."
        )
