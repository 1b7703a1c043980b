"""How good a prediction is: panoptic quality, mean IoU and average precision.

A metric is updated image by image, merged across processes, and computed at the end.
"""

from tascnet.metrics.average_precision import AveragePrecision, AveragePrecisionResult
from tascnet.metrics.cityscapes_ap import CityscapesAveragePrecision, CityscapesAveragePrecisionResult
from tascnet.metrics.mean_iou import MeanIoU, MeanIoUResult
from tascnet.metrics.panoptic_quality import (
    CategoryQuality,
    GroupQuality,
    Match,
    Matching,
    PanopticQuality,
    PanopticQualityResult,
    image_panoptic_quality,
    match_segments,
)

__all__ = [
    "AveragePrecision",
    "AveragePrecisionResult",
    "CategoryQuality",
    "CityscapesAveragePrecision",
    "CityscapesAveragePrecisionResult",
    "GroupQuality",
    "Match",
    "Matching",
    "MeanIoU",
    "MeanIoUResult",
    "PanopticQuality",
    "PanopticQualityResult",
    "image_panoptic_quality",
    "match_segments",
]
