"""The item of every data set: one image with its panoptic annotation."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from tascnet.structures import PanopticSegmentation


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its annotation.

    Attributes:
        image: (3, H, W) uint8, RGB.
        segmentation: annotation of the same height and width.
        name: file stem, unique in the data set; predictions are saved under it.
        image_id: the data set's own number or name of the image.
        photo: the file that the image was read from; None where there is none.
    """

    image: Tensor
    segmentation: PanopticSegmentation
    name: str
    image_id: int | str
    photo: Path | None = None
