"""Draw a segmentation, the match of two, or a map of values over an image."""

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tascnet.errors import InputError
from tascnet.planes.plane import Plane, as_plane, interpolated
from tascnet.structures import LabelSpace, PanopticSegmentation, Size
from tascnet.visualize.colors import Color, ImageLike, Picture, heat_table, segment_colors, to_picture
from tascnet.visualize.names import write_names

STRIPE_WIDTH = 5  # line widths, along a row; a crowd's stripes
STRIPE_SHADE = 0.55  # brightness of the dark stripes
OUTLINE_OPACITY = 0.75  # white; lets the colour of a segment one pixel wide shine through
SHORT_SIDE_PER_LINE_PIXEL = 512  # pixels; large pictures are mostly seen scaled down, so lines and stripes grow
MATCHED, UNMATCHED, NEUTRAL = 255, 0, 128  # white, black, grey levels of the match map


def draw_segmentation(
    segmentation: PanopticSegmentation,
    label_space: LabelSpace,
    image: ImageLike | None = None,
    opacity: float = 0.6,
    outlines: bool = True,
    names: bool = False,
) -> Picture:
    """Paint each segment in its category's colour, instances with small variations of it.

    Crowds are striped. VOID is black; over an image it is the image darkened.

    Args:
        segmentation: annotation or prediction.
        label_space: names and colours of its categories.
        image: what to paint over, of the segmentation's size; without it the colours are drawn pure.
        opacity: of the colours over the image, 0..1; without an image they are opaque.
        outlines: draw a thin light line between segments.
        names: write the category's name in each segment that has room for it.

    Returns:
        (H, W, 3) uint8.

    Raises:
        InputError: a category is not in the label space, or image and segmentation differ in size.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"opacity is between 0 and 1; got {opacity}.")
    colors = segment_colors(segmentation, label_space)
    index_map = segmentation.index_map().numpy()
    palette = [(0, 0, 0), *(colors[segment.id] for segment in segmentation.segments)]
    palette += [_shade(color) for color in palette]  # entry n + k: the dark stripes of entry k
    striped = _stripe_crowds(index_map, segmentation)
    picture = _blend(np.array(palette, dtype=np.uint16), striped, _same_size(image, segmentation), opacity)
    if outlines:
        edge = _outline(index_map)
        picture[edge] = (picture[edge] * (1 - OUTLINE_OPACITY) + 255 * OUTLINE_OPACITY).astype(np.uint8)
    if names:
        picture = write_names(picture, segmentation, index_map, label_space)
    return picture


def draw_match_map(
    prediction: PanopticSegmentation,
    annotation: PanopticSegmentation,
    matched_ids: Collection[int],
    missed_ids: Collection[int],
    ignored_ids: Collection[int] = (),
    outlines: bool = True,
) -> Picture:
    """Show where prediction and annotation agree: true positives white, false positives and false negatives black.

    Everything else is grey: VOID, and predicted segments that are not counted. A missed segment is black also where a
    matched one covers it. The ids come from `metrics.panoptic_quality.match_segments`.

    Args:
        prediction: what the network found.
        annotation: ground truth of the same size.
        matched_ids: segments of the prediction that are true positives.
        missed_ids: segments of the annotation that are false negatives.
        ignored_ids: segments of the prediction that do not count. All its other segments are false positives.
        outlines: draw a thin grey line around the segments of the prediction and the missed ones.

    Returns:
        (H, W, 3) uint8; the three channels are equal.

    Raises:
        InputError: prediction and annotation differ in size.
        ValueError: an id is not a segment of its segmentation, or is both matched and ignored.
    """
    if prediction.size != annotation.size:
        raise InputError(
            f"the prediction is {_by(prediction.size)} and the annotation {_by(annotation.size)} pixels "
            "(height x width); they must be of one image. Predict at the image's own size."
        )
    matched = _membership(prediction, matched_ids, "prediction")
    ignored = _membership(prediction, ignored_ids, "prediction")
    if (matched & ignored).any():
        both = sorted(set(matched_ids) & set(ignored_ids))
        raise ValueError(f"predicted segments {both[:5]} are both matched and ignored; give each id once.")
    levels = np.full(matched.shape, UNMATCHED, dtype=np.uint8)
    levels[matched] = MATCHED
    levels[ignored] = NEUTRAL
    levels[0] = NEUTRAL  # VOID
    index_map, annotation_map = prediction.index_map().numpy(), annotation.index_map().numpy()
    level_map = levels[index_map]
    missed = _membership(annotation, missed_ids, "annotation")[annotation_map]
    level_map[missed] = UNMATCHED
    if outlines:
        edge = _outline(index_map) | _outline(np.where(missed, annotation_map, 0))
        level_map[edge] = NEUTRAL
    return np.repeat(level_map[:, :, None], 3, axis=2)


def draw_residual(
    residual: Plane | Tensor,
    image: ImageLike | None = None,
    size: Size | None = None,
) -> Picture:
    """Paint the difference between the two heads' things masks as heat: the paper's Figure 4.

    Args:
        residual: values (h, w) float, 0..1, of any stride. A tensor covers exactly the image.
        image: what to paint over; it is drawn dim and grey, and shows where the residual is small.
        size: of the picture; that of the image, or (h, w), if not given.

    Returns:
        (H, W, 3) uint8.

    Raises:
        ValueError: the residual is not two-dimensional, or has values outside 0..1.
    """
    plane = as_plane(residual).cpu()
    if plane.values.ndim != 2:
        raise ValueError(f"a residual is (h, w); got shape {tuple(plane.values.shape)}.")
    if not bool(((plane.values >= -1e-3) & (plane.values <= 1 + 1e-3)).all()):
        raise ValueError(
            "a residual is the difference of two probabilities, 0..1; it has values outside, or not a number."
        )
    photo = None if image is None else to_picture(image)
    if size is None:
        size = plane.grid if photo is None else Size(*photo.shape[:2])
    values = interpolated(plane.with_values(plane.values.detach().float()), size)
    level = (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    heat = heat_table()[level]
    if photo is None:
        return heat
    # the square root lets a residual of a quarter show at half strength
    opacity = np.sqrt(np.arange(256, dtype=np.float32) / 255)[level][:, :, None]
    grey = np.asarray(Image.fromarray(photo).convert("L").resize((size.width, size.height), Image.Resampling.BILINEAR))
    return (0.5 * grey[:, :, None] * (1 - opacity) + heat * opacity).round().astype(np.uint8)


def _same_size(image: ImageLike | None, segmentation: PanopticSegmentation) -> Picture | None:
    if image is None:
        return None
    picture = to_picture(image)
    size = Size(*picture.shape[:2])
    if size != segmentation.size:
        raise InputError(
            f"the image is {_by(size)} and its segmentation {_by(segmentation.size)} pixels (height x width); "
            "they must be equal. Check that both belong to one image, and resize the segmentation if it was scaled."
        )
    return picture


def _stripe_crowds(index_map: npt.NDArray[np.int32], segmentation: PanopticSegmentation) -> npt.NDArray[np.int32]:
    """Add n = 1 + number of segments to the index in every other diagonal stripe of a crowd."""
    crowds = [k for k, segment in enumerate(segmentation.segments, start=1) if segment.is_crowd]
    if not crowds:
        return index_map
    is_crowd = np.zeros(len(segmentation.segments) + 1, dtype=bool)
    is_crowd[crowds] = True
    rows, columns = np.nonzero(is_crowd[index_map])
    dark = (rows + columns) // (STRIPE_WIDTH * _line_width(index_map)) % 2 == 1
    striped = index_map.copy()
    striped[rows[dark], columns[dark]] += len(segmentation.segments) + 1
    return striped


def _blend(
    palette: npt.NDArray[np.uint16], index_map: npt.NDArray[np.int32], photo: Picture | None, opacity: float
) -> Picture:
    if photo is None:
        return palette.astype(np.uint8)[index_map]
    # 8-bit fixed point: 255 x 256 still fits 16 bits, and is several times faster than floats
    weight = round(opacity * 256)
    mixed = photo.astype(np.uint16) * (256 - weight)
    mixed += (palette * weight + 128)[index_map]
    mixed >>= 8
    return mixed.astype(np.uint8)


def _shade(color: Color) -> Color:
    red, green, blue = (round(channel * STRIPE_SHADE) for channel in color)
    return red, green, blue


def _outline(index_map: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(H, W) bool: pixels whose right or lower neighbour is of another segment; wider in large pictures."""
    thickness = _line_width(index_map)
    before, after = thickness // 2, thickness - thickness // 2  # a line two wide lies on both sides of the border
    edge = np.zeros(index_map.shape, dtype=bool)
    edge[:, before:-after] = index_map[:, :-thickness] != index_map[:, thickness:]
    edge[before:-after] |= index_map[:-thickness] != index_map[thickness:]
    return edge


def _line_width(index_map: npt.NDArray[np.int32]) -> int:
    return max(1, min(index_map.shape) // SHORT_SIDE_PER_LINE_PIXEL)


def _membership(segmentation: PanopticSegmentation, ids: Collection[int], role: str) -> npt.NDArray[np.bool_]:
    """(n + 1,) bool: which entries of the index map have one of these ids; entry 0, VOID, has none."""
    chosen = set(ids)
    unknown = sorted(chosen - {segment.id for segment in segmentation.segments})
    if unknown:
        raise ValueError(f"ids {unknown[:5]} are not segments of the {role}; give the ids of its own segments.")
    return np.array([False, *(segment.id in chosen for segment in segmentation.segments)])


def _by(size: Size) -> str:
    return f"{size.height} x {size.width}"
