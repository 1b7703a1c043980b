"""What stands in for supervision.Detections where the package is not installed."""

from dataclasses import dataclass, field

import numpy as np


@dataclass
class StandInDetections:
    """The fields of supervision.Detections that are used."""

    xyxy: np.ndarray
    mask: np.ndarray | None = None
    confidence: np.ndarray | None = None
    class_id: np.ndarray | None = None
    tracker_id: np.ndarray | None = None
    data: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.xyxy)
