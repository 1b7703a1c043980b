"""What an evaluation found, and the same as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tascnet.data.problems import first_few
from tascnet.fusion import Dropped
from tascnet.metrics import (
    AveragePrecisionResult,
    CityscapesAveragePrecisionResult,
    GroupQuality,
    MeanIoUResult,
    PanopticQualityResult,
    PictureQuality,
    SegmentationResult,
)
from tascnet.structures import LabelSpace

NUM_WORST = 20
"""So many of the worst pictures are named."""


@dataclass(frozen=True)
class Report:
    """What an evaluation found. Qualities are 0-1; what only a network has is None where files were compared.

    Attributes:
        label_space: the categories.
        segmentation: PQ, boundary PQ and mean IoU of the segmentations, and the PQ of each picture.
        miou: mean IoU of the stuff head's semantic segmentation, and IoU by category.
        ap: mask AP of the instances, as COCO counts it.
        cityscapes_ap: the same as Cityscapes counts it; None for other data.
        mean_doubt: mean over the pictures of |M_st - M_th| where either head sees things.
        dropped: candidates for segments that each threshold of fusion dropped, over all pictures.
        seconds_per_image: inference alone, without reading and measuring.
        notes: sentences without which the figures would mislead.
        left_out: place in the data set -> why the picture there could not be read and was not measured.
        ema: headline figures of the averaged weights, in percent, as `summary` gives them; None where there are none.
    """

    label_space: LabelSpace
    segmentation: SegmentationResult
    miou: MeanIoUResult | None = None
    ap: AveragePrecisionResult | None = None
    cityscapes_ap: CityscapesAveragePrecisionResult | None = None
    mean_doubt: float | None = None
    dropped: Dropped | None = None
    seconds_per_image: float | None = None
    notes: tuple[str, ...] = ()
    left_out: Mapping[int, str] = field(default_factory=dict)
    ema: Mapping[str, float | None] | None = None

    @property
    def num_images(self) -> int:
        """Pictures evaluated."""
        return len(self.segmentation.pictures)

    @property
    def panoptic(self) -> PanopticQualityResult:
        """PQ, SQ, RQ."""
        return self.segmentation.panoptic

    @property
    def pq_of_image(self) -> dict[str, float | None]:
        """Name -> PQ of that picture alone; None where neither annotation nor prediction has a segment."""
        return {name: quality.pq for name, quality in self.segmentation.pictures.items()}

    def ranking(self) -> list[tuple[str, PictureQuality]]:
        """The pictures that have a PQ, the worst first."""
        rated = [item for item in self.segmentation.pictures.items() if item[1].pq is not None]
        return sorted(rated, key=lambda item: (item[1].pq, item[0]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `report.json`; qualities in percent. What was not measured is left out."""
        values = self._panoptic_values("", self.panoptic)
        values |= self._panoptic_values("boundary_", self.segmentation.boundary)
        if self.miou is not None:
            values |= {"miou": percent(self.miou.mean_iou), "iou_per_category": self._named(self.miou.per_category)}
        values |= {
            "miou_panoptic": percent(self.segmentation.miou.mean_iou),
            "iou_panoptic_per_category": self._named(self.segmentation.miou.per_category),
        }
        if self.ap is not None:
            figures = {name: percent(value) for name, value in asdict(self.ap).items() if name != "per_category"}
            values |= {"ap": figures, "ap_per_category": self._named(self.ap.per_category)}
        if self.cityscapes_ap is not None:
            values["cityscapes_ap"] = {
                "ap": percent(self.cityscapes_ap.ap),
                "ap50": percent(self.cityscapes_ap.ap50),
                "per_category": self._named(self.cityscapes_ap.per_category),
            }
        if self.mean_doubt is not None:
            values["mean_doubt"] = self.mean_doubt
        if self.dropped is not None:
            values["dropped_by_fusion"] = self.dropped._asdict()
        if self.ema is not None:
            values["ema"] = dict(self.ema)
        values["images"] = self.num_images
        if self.seconds_per_image is not None:
            values["seconds_per_image"] = self.seconds_per_image
        values["worst"] = [
            {"name": name} | {key: percent(value) for key, value in quality._asdict().items()}
            for name, quality in self.ranking()[:NUM_WORST]
        ]
        values["pq_of_image"] = {name: percent(pq) for name, pq in self.pq_of_image.items()}
        values["notes"] = list(self.notes)
        if self.left_out:
            values["left_out"] = list(self.left_out.values())
        return values

    def summary(self) -> dict[str, float | None]:
        """The headline figures in percent, for tables and curves."""
        panoptic = self.panoptic
        return {
            "pq": group_percent(panoptic.all, "pq"),
            "pq_things": group_percent(panoptic.things, "pq"),
            "pq_stuff": group_percent(panoptic.stuff, "pq"),
            "miou": None if self.miou is None else percent(self.miou.mean_iou),
            "ap": None if self.ap is None else percent(self.ap.ap),
        }

    def _panoptic_values(self, prefix: str, result: PanopticQualityResult) -> dict[str, Any]:
        """prefix + pq, sq, rq -> percent by group and by category."""
        groups = {"all": result.all, "things": result.things, "stuff": result.stuff}
        values: dict[str, Any] = {}
        for figure in ("pq", "sq", "rq"):
            per_category = {i: getattr(quality, figure) for i, quality in result.per_category.items()}
            values[f"{prefix}{figure}"] = {
                **{name: group_percent(group, figure) for name, group in groups.items()},
                "per_category": self._named(per_category),
            }
        return values

    def _named(self, per_category: Mapping[int, float]) -> dict[str, float]:
        """Category name -> percent."""
        return {self.label_space.unique_name(i): 100 * value for i, value in per_category.items()}


def unannotated_note(photos: Sequence[str], annotated: int) -> str:
    """The note that photos are listed without annotation, so that nothing can be measured on them."""
    return (
        f"{len(photos)} of {len(photos) + annotated} photos of the data set have no annotation and were not measured: "
        f"{first_few(photos)}."
    )


def left_out_note(reasons: Sequence[str], measured: int) -> str:
    """The note that pictures could not be read, so that the figures are of the others."""
    return (
        f"{len(reasons)} of {len(reasons) + measured} pictures could not be read and were left out of the measurement: "
        f"{first_few(reasons)}"
    )


def group_percent(group: GroupQuality | None, figure: str) -> float | None:
    """pq, sq or rq of a group in percent."""
    return None if group is None else 100 * getattr(group, figure)


def percent(value: float | None) -> float | None:
    """0..1 -> 0..100."""
    return None if value is None else 100 * value
