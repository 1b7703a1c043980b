"""A contact sheet of a data set: overlays with their names, pictures with errors first and framed red."""

import numpy as np
import torch

from tascnet import visualize
from tascnet.data.formats.dataset import Inspected
from tascnet.structures import LabelSpace, PanopticSegmentation, Size

THUMBNAIL = Size(180, 240)  # pixels
COLUMNS = 6
MOST = 36
"""Pictures on a sheet."""

RED, GREEN, GREY = (200, 30, 30), (90, 140, 90), (200, 200, 200)


class Sheet:
    """Collects thumbnails while a data set is read; never holds more than two sheets' worth of them."""

    def __init__(self) -> None:
        self._with_errors: list[visualize.Picture] = []
        self._clean: list[visualize.Picture] = []

    def add(self, inspected: Inspected, label_space: LabelSpace, has_errors: bool) -> None:
        """Add a picture, unless there are enough of its sort."""
        thumbnails = self._with_errors if has_errors else self._clean
        if len(thumbnails) < MOST:
            thumbnails.append(_thumbnail(inspected, label_space, RED if has_errors else GREEN))

    def draw(self) -> visualize.Picture:
        """(H, W, 3) uint8."""
        chosen = (self._with_errors + self._clean)[:MOST]
        if not chosen:
            return np.full((THUMBNAIL.height, THUMBNAIL.width, 3), 255, dtype=np.uint8)
        rows = [chosen[first : first + COLUMNS] for first in range(0, len(chosen), COLUMNS)]
        return visualize.grid(rows)


def _thumbnail(inspected: Inspected, label_space: LabelSpace, color: visualize.Color) -> visualize.Picture:
    return visualize.card(_overlay(inspected, label_space), inspected.name[-36:], THUMBNAIL, color)


def _overlay(inspected: Inspected, label_space: LabelSpace) -> visualize.Picture:
    """As much of a picture as could be read."""
    image, segmentation = inspected.image, inspected.segmentation
    if segmentation is None:
        if image is None:
            return np.full((*THUMBNAIL, 3), GREY, dtype=np.uint8)
        return visualize.to_picture(image)
    return visualize.draw_segmentation(_thinned(segmentation), label_space, _thinned_image(image, segmentation))


def _step(size: Size) -> int:
    """Every how many pixels are enough for a thumbnail; drawing whole photos would take most of a check's time."""
    return max(1, min(size.height // THUMBNAIL.height, size.width // THUMBNAIL.width))


def _thinned(segmentation: PanopticSegmentation) -> PanopticSegmentation:
    step = _step(segmentation.size)
    id_map = segmentation.id_map[::step, ::step].contiguous()
    ids = set(torch.unique(id_map).tolist())
    return PanopticSegmentation(id_map, tuple(segment for segment in segmentation.segments if segment.id in ids))


def _thinned_image(image: torch.Tensor | None, segmentation: PanopticSegmentation) -> torch.Tensor | None:
    step = _step(segmentation.size)
    return None if image is None else image[:, ::step, ::step]
