"""How good a prediction is: panoptic quality, boundary panoptic quality, mean IoU and average precision.

A metric is updated image by image, merged across processes, and computed at the end.
"""

from tascnet.metrics.average_precision import AveragePrecision, AveragePrecisionResult
from tascnet.metrics.boundary import BoundaryMatcher
from tascnet.metrics.cityscapes_ap import CityscapesAveragePrecision, CityscapesAveragePrecisionResult
from tascnet.metrics.matching import Match, Matching, match_segments
from tascnet.metrics.mean_iou import MeanIoU, MeanIoUResult
from tascnet.metrics.panoptic_quality import (
    CategoryQuality,
    GroupQuality,
    PanopticQuality,
    PanopticQualityResult,
    image_panoptic_quality,
)
from tascnet.metrics.segmentation_metrics import PictureQuality, SegmentationMetrics, SegmentationResult

__all__ = [
    "AveragePrecision",
    "AveragePrecisionResult",
    "BoundaryMatcher",
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
    "PictureQuality",
    "SegmentationMetrics",
    "SegmentationResult",
    "image_panoptic_quality",
    "match_segments",
]
