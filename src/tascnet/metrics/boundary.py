"""Boundary PQ: segments match, and are rated, by how well their outlines agree as well.

Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021) compares
only the pixels of two segments that lie within a distance d of their own outline, the *band*, because in the IoU of
large segments errors along the outline drown. The authors' panoptic evaluation takes the smaller of IoU and boundary
IoU, for the decision whether two segments match and for their quality; so does this module. All other rules, those of
VOID and of crowds, are those of PQ and look at whole segments.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch

from tascnet.errors import InputError
from tascnet.metrics.matching import Matching, count_shared_pixels, match_by_iou, pairwise_iou
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation, Size

DILATION = 0.02
"""Width of the band as a share of the image's diagonal; the paper's choice for COCO (for Cityscapes it takes 0.005)."""


@dataclass(frozen=True)
class BoundaryMatcher:
    """Matches segments by the smaller of IoU and boundary IoU: `PanopticQuality(label_space, BoundaryMatcher())`.

    Attributes:
        dilation: width of the band as a share of the image's diagonal, above 0 and up to 1.
    """

    dilation: float = DILATION

    def __post_init__(self) -> None:
        if not 0 < self.dilation <= 1:
            raise InputError(f"the dilation is {self.dilation}; it is a share of the diagonal, above 0 and up to 1.")

    def __call__(
        self, prediction: PanopticSegmentation, annotation: PanopticSegmentation, label_space: LabelSpace
    ) -> Matching:
        """Match the segments of one image; arguments and errors are those of `match_segments`."""
        distance = band_width(annotation.size, self.dilation)
        bands = [boundary_bands(each.id_map.numpy(), distance) for each in (prediction, annotation)]
        by_band = count_shared_pixels(prediction, annotation, label_space, *bands)
        whole = replace(by_band, pixels=by_band.pixels.sum(axis=(1, 2)))
        ious = pairwise_iou(whole, whole.pixels, whole.pixels, whole.pixels)
        boundary_ious = pairwise_iou(
            by_band,
            intersections=by_band.pixels[:, 1, 1],
            predicted=by_band.pixels[:, 1].sum(axis=1),
            annotated=by_band.pixels[:, :, 1].sum(axis=1),
        )
        return match_by_iou(prediction, annotation, whole, np.minimum(ious, boundary_ious))


def band_width(size: Size, dilation: float = DILATION) -> int:
    """Width of the band in an image of that size: whole pixels, at least 1."""
    return max(1, round(dilation * math.hypot(*size)))


def boundary_bands(id_map: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of all segments that are near the outline of their own, all segments at once.

    Near is what `distance` erosions by 3 x 3 pixels take away: within that many rows and columns there is a pixel of
    another segment, VOID, or the outside of the image.

    Args:
        id_map: (H, W) integers.
        distance: pixels, at least 1.

    Returns:
        (H, W) bool; False where VOID.
    """
    # A square fits into a segment if a row's pieces fit, and one above the other their middles do: two passes over
    # runs of equal ids, whatever the number of segments and the distance.
    inside = _erode_rows(_transposed(_erode_rows(_transposed(id_map), distance)), distance)
    return (inside == VOID) & (id_map != VOID)


def _erode_rows(id_map: np.ndarray, distance: int) -> np.ndarray:
    """Set to VOID what is nearer than `distance` to an end of its run of equal ids in its row."""
    changes = np.ones(id_map.shape, dtype=bool)
    np.not_equal(id_map[:, 1:], id_map[:, :-1], out=changes[:, 1:])
    starts = np.flatnonzero(changes)
    ends = np.append(starts[1:], id_map.size)
    ids = id_map.ravel()[starts]
    kept = (ends - starts > 2 * distance) & (ids != VOID)
    # what is left of the runs, and VOID before, between and behind them
    edges = np.stack([starts[kept] + distance, ends[kept] - distance], axis=1).ravel()
    values = np.full(len(edges) + 1, VOID, dtype=id_map.dtype)
    values[1::2] = ids[kept]
    return np.repeat(values, np.diff(edges, prepend=0, append=id_map.size)).reshape(id_map.shape)


def _transposed(id_map: np.ndarray) -> np.ndarray:
    """The transpose, row after row in memory; torch makes it three times as fast as NumPy."""
    return torch.from_numpy(id_map).T.contiguous().numpy()
