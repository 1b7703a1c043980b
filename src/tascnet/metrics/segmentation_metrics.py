"""All that compares two segmentations: pairs of them -> PQ, boundary PQ, mean IoU, and the PQ of each picture."""

from dataclasses import dataclass
from typing import NamedTuple

from tascnet.metrics.boundary import BoundaryMatcher
from tascnet.metrics.image_names import refuse_repeated
from tascnet.metrics.mean_iou import MeanIoU, MeanIoUResult
from tascnet.metrics.panoptic_quality import PanopticQuality, PanopticQualityResult
from tascnet.structures import LabelSpace, PanopticSegmentation


class PictureQuality(NamedTuple):
    """PQ of one picture alone, 0..1; None where a group has no segment to count."""

    pq: float | None
    pq_things: float | None
    pq_stuff: float | None


@dataclass(frozen=True)
class SegmentationResult:
    """Quality of a set of predicted segmentations. All values are 0..1.

    Attributes:
        panoptic: PQ, SQ, RQ.
        boundary: the same with boundary IoU.
        miou: mean IoU of the semantic maps of the segmentations.
        pictures: name -> quality of that picture alone, in the order in which they were added.
    """

    panoptic: PanopticQualityResult
    boundary: PanopticQualityResult
    miou: MeanIoUResult
    pictures: dict[str, PictureQuality]


class SegmentationMetrics:
    """The metrics of pairs of segmentations, updated, merged and computed together.

    The state can be pickled and sent between processes; merging gives the same result to the last bit however the
    pictures were divided.
    """

    def __init__(self, label_space: LabelSpace) -> None:
        self.label_space = label_space
        self._panoptic = PanopticQuality(label_space)
        self._boundary = PanopticQuality(label_space, BoundaryMatcher())
        self._miou = MeanIoU(label_space)
        self._pictures: dict[str, PictureQuality] = {}

    def update(self, prediction: PanopticSegmentation, annotation: PanopticSegmentation, name: str) -> None:
        """Add one picture.

        Args:
            prediction: (H, W).
            annotation: (H, W).
            name: identifies the image; unique in the data set.

        Raises:
            InputError: a picture of that name was added before, or as `match_segments` does.
        """
        refuse_repeated([name], self._pictures)
        alone = PanopticQuality(self.label_space)
        alone.update(prediction, annotation)
        self._panoptic.merge(alone)
        self._boundary.update(prediction, annotation)
        self._miou.update_segmentations(prediction, annotation)
        quality = alone.compute()
        groups = (quality.all, quality.things, quality.stuff)
        self._pictures[name] = PictureQuality(*(None if group is None else group.pq for group in groups))

    def merge(self, other: "SegmentationMetrics") -> None:
        """Add the pictures of another process, behind those already here; `other` stays as it is.

        Raises:
            ValueError: it counts in another label space.
            InputError: a picture was added to both.
        """
        refuse_repeated(other._pictures, self._pictures)
        self._panoptic.merge(other._panoptic)
        self._boundary.merge(other._boundary)
        self._miou.merge(other._miou)
        self._pictures.update(other._pictures)

    def compute(self) -> SegmentationResult:
        """The qualities of all pictures so far."""
        return SegmentationResult(
            panoptic=self._panoptic.compute(),
            boundary=self._boundary.compute(),
            miou=self._miou.compute(),
            pictures=dict(self._pictures),
        )
