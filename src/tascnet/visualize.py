"""Image + segmentation -> picture: coloured segments, match map, residual map (the paper's Figures 5 and 4).

A *picture* is a numpy array (H, W, 3), uint8, red-green-blue: what every function here returns, ready for
`PIL.Image.fromarray`. An *image* may be given in each library's own form, see `to_picture`. Colours and layout are our
reading of the paper's figures, which are described by their captions only.
"""

import colorsys
import math
from collections.abc import Collection, Iterable, Sequence
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from tascnet.errors import InputError
from tascnet.fonts import font_for
from tascnet.planes import Plane, as_plane, interpolated
from tascnet.structures import LabelSpace, PanopticSegmentation, Size

Picture = npt.NDArray[np.uint8]
ImageLike = Tensor | npt.NDArray[np.uint8] | Image.Image
Color = tuple[int, int, int]

HUE_SPAN = 0.09  # of the colour circle: instances stay recognisable as their category
LIGHTNESS_SPAN = 0.36  # of black to white
LIGHTNESS_RANGE = (0.2, 0.78)  # instance colours stay away from black (VOID) and white (outlines)
STRIPE_WIDTH = 5  # line widths, along a row; a crowd's stripes
STRIPE_SHADE = 0.55  # brightness of the dark stripes
OUTLINE_OPACITY = 0.75  # white; lets the colour of a segment one pixel wide shine through
SHORT_SIDE_PER_LINE_PIXEL = 512  # pixels; large pictures are mostly seen scaled down, so lines and stripes grow
NAME_BOX_MIN_SCALE = 0.7  # a name may stand out a little over its segment, or narrow segments would never have one
NAME_SEARCH_PIXELS = 150_000  # the place of names is searched on a map thinned to this size
MATCHED, UNMATCHED, NEUTRAL = 255, 0, 128  # white, black, grey levels of the match map
PAPER, INK, LETTERBOX = (255, 255, 255), (32, 32, 32), (236, 236, 236)
CARD_STRIP = 18  # pixels, for the text of a card
MAX_CELL_SIDE = 640  # pixels, of a grid's cells unless a size is given

# Black, violet, red, orange, pale yellow: CIE lightness rises in nearly equal steps, so the map reads in grey as well.
HEAT_ANCHORS = ((0, 0, 0), (45, 10, 85), (120, 20, 110), (190, 45, 75), (240, 100, 30), (252, 175, 45), (252, 250, 190))


def to_picture(image: ImageLike) -> Picture:
    """Turn an image in its library's own form into a picture.

    Args:
        image: a tensor (3, H, W) uint8, an array (H, W, 3) uint8, or a Pillow image of any mode.

    Raises:
        ValueError: another shape or type of numbers.
    """
    if isinstance(image, Image.Image):
        return np.array(image.convert("RGB"))
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
            raise ValueError(f"a tensor image is (3, H, W) uint8; got shape {tuple(image.shape)}, {image.dtype}.")
        return np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"an array image is (H, W, 3) uint8; got shape {image.shape}, {image.dtype}.")
    return image


def segment_colors(segmentation: PanopticSegmentation, label_space: LabelSpace) -> dict[int, Color]:
    """Segment id -> colour.

    Stuff, crowds and the first instance of a thing category have the category's colour; further instances, in the
    order of `segments`, vary it a little in hue and lightness.

    Raises:
        InputError: a segment's category is not in the label space.
    """
    colors: dict[int, Color] = {}
    counts: dict[int, int] = {}
    for segment in segmentation.segments:
        category = label_space[segment.category_id]
        colors[segment.id] = category.color
        if category.is_thing and not segment.is_crowd:
            rank = counts.get(category.id, 0)
            counts[category.id] = rank + 1
            colors[segment.id] = vary_color(category.color, rank)
    return colors


@lru_cache(maxsize=4096)
def vary_color(color: Color, rank: int) -> Color:
    """The colour of a category's instance number `rank`; number 0 has the colour itself."""
    if rank == 0:
        return color
    # Multiples of the golden and the plastic ratio, wrapped, never come near an earlier one: near ranks differ most.
    hue, lightness, saturation = colorsys.rgb_to_hls(*(channel / 255 for channel in color))
    darkest, lightest = LIGHTNESS_RANGE
    low = min(max(lightness - LIGHTNESS_SPAN / 2, darkest), lightest - LIGHTNESS_SPAN)
    lightness = low + ((lightness - low) / LIGHTNESS_SPAN + rank * 0.6180339887) % 1 * LIGHTNESS_SPAN
    hue += ((rank * 0.7548776662 + 0.5) % 1 - 0.5) * HUE_SPAN
    varied = colorsys.hls_to_rgb(hue % 1, lightness, saturation)
    red, green, blue = (round(channel * 255) for channel in varied)
    return red, green, blue


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
        picture = _write_names(picture, segmentation, index_map, label_space)
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


@cache
def heat_table() -> Picture:
    """(256, 3) uint8: level of heat -> colour, from black (0) through red to pale yellow (255)."""
    places = np.linspace(0, 255, len(HEAT_ANCHORS))
    channels = [np.interp(np.arange(256), places, anchors) for anchors in zip(*HEAT_ANCHORS, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def grid(
    rows: Sequence[Sequence[Picture]],
    titles: Sequence[str] = (),
    cell_size: Size | None = None,
    margin: int = 8,
    max_cell_side: int = MAX_CELL_SIDE,
) -> Picture:
    """Lay pictures out in rows of equal cells, such as image, annotation, prediction, match map.

    Pictures keep their proportions; what they leave free of their cell is light grey. Rows may differ in length.

    Args:
        rows: pictures, row by row.
        titles: one for each column, written above it; none for no title strip.
        cell_size: of each cell; by default that of the largest picture, its sides at most `max_cell_side`.
        margin: pixels of white around and between cells.
        max_cell_side: pixels.

    Raises:
        ValueError: there are no pictures, or the number of titles is not that of the columns.
    """
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("a grid needs at least one picture; the rows are empty.")
    columns = max(len(row) for row in rows)
    if titles and len(titles) != columns:
        raise ValueError(f"a grid of {columns} columns needs {columns} titles, or none; got {len(titles)}.")
    cell = cell_size or _fit(
        Size(max(picture.shape[0] for picture in pictures), max(picture.shape[1] for picture in pictures)),
        Size(max_cell_side, max_cell_side),
    )
    font = font_for("".join(titles), max(12, cell.width // 30))
    strip = _line_height(font) if titles else 0
    size = Size(
        height=margin + strip + len(rows) * (cell.height + margin), width=margin + columns * (cell.width + margin)
    )
    sheet = Image.new("RGB", (size.width, size.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [margin + column * (cell.width + margin) for column in range(columns)]
    for left, title in zip(lefts, titles, strict=False):
        place = (left + cell.width / 2, (margin + strip) / 2)
        draw.text(place, _shorten(title, font, cell.width), fill=INK, font=font, anchor="mm")
    for number, row in enumerate(rows):
        top = margin + strip + number * (cell.height + margin)
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(_letterbox(picture, cell), (left, top))
    return np.array(sheet)


def card(picture: Picture, text: str, size: Size, color: Color) -> Picture:
    """A small picture below a strip with one line of white text.

    Args:
        picture: scaled down where it is larger than `size`, and centred.
        text: shortened where it does not fit.
        size: of the place for the picture; the strip comes on top.
        color: of the strip, and of what the picture leaves free.

    Returns:
        (size.height + CARD_STRIP, size.width, 3) uint8.
    """
    small = Image.fromarray(picture)
    small.thumbnail((size.width, size.height))
    sheet = Image.new("RGB", (size.width, size.height + CARD_STRIP), color)
    sheet.paste(small, ((size.width - small.width) // 2, CARD_STRIP + (size.height - small.height) // 2))
    font = font_for(text, 12)
    ImageDraw.Draw(sheet).text((4, 2), _shorten(text, font, size.width - 8), fill=(255, 255, 255), font=font)
    return np.array(sheet)


def legend(label_space: LabelSpace, category_ids: Iterable[int], width: int = 640) -> Picture:
    """A strip of colour samples with the names of categories, in the label space's order, wrapped to `width`.

    Raises:
        InputError: a category is not in the label space.
    """
    wanted = {label_space[category_id].id for category_id in category_ids}
    line, sample, gap = _line_height(font_for("", 14)), 14, 8
    entries = []
    left, top = gap, gap
    for category in label_space.by_index:
        if category.id not in wanted:
            continue
        font = font_for(category.name, 14)
        name = _shorten(category.name, font, width - sample - 3 * gap)
        extent = sample + gap + math.ceil(font.getlength(name))
        if left > gap and left + extent + gap > width:
            left, top = gap, top + line
        entries.append((left, top, category.color, name, font))
        left += extent + 3 * gap
    sheet = Image.new("RGB", (width, top + line + gap if entries else 1), PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, top, color, name, font in entries:
        middle = top + line // 2
        draw.rectangle((left, middle - sample // 2, left + sample - 1, middle + sample // 2 - 1), fill=color)
        draw.text((left + sample + gap, middle), name, fill=INK, font=font, anchor="lm")
    return np.array(sheet)


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


def _write_names(
    picture: Picture, segmentation: PanopticSegmentation, index_map: npt.NDArray[np.int32], label_space: LabelSpace
) -> Picture:
    """Write names, those of large segments first; a name that would cover another one is left out."""
    font_size = max(12, round(math.sqrt(index_map.size) / 52))
    height, padding = _line_height(font_for("", font_size)), max(2, round(font_size / 5))
    stride = max(1, math.ceil(math.sqrt(index_map.size / NAME_SEARCH_PIXELS)))
    thinned = index_map[stride // 2 :: stride, stride // 2 :: stride]
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas, "RGBA")  # so that fills with an opacity are blended
    taken: list[tuple[float, float, float, float]] = []
    for index, segment in sorted(enumerate(segmentation.segments, start=1), key=lambda pair: -pair[1].area):
        name = label_space[segment.category_id].name
        font = font_for(name, font_size)
        width = math.ceil(font.getlength(name)) + 2 * padding
        if segment.area < NAME_BOX_MIN_SCALE**2 * width * height:
            continue
        place = _interior_point(thinned == index, Size(height, width), stride)
        if place is None:
            continue
        left = min(max(place[0] - width / 2, 0), max(canvas.width - width, 0))
        top = min(max(place[1] - height / 2, 0), max(canvas.height - height, 0))
        box = (left, top, left + width, top + height)
        if any(box[0] < x1 and x0 < box[2] and box[1] < y1 and y0 < box[3] for x0, y0, x1, y1 in taken):
            continue
        taken.append(box)
        draw.rounded_rectangle(box, radius=padding, fill=(0, 0, 0, 150))
        draw.text((left + width / 2, top + height / 2), name, fill=(255, 255, 255, 255), font=font, anchor="mm")
    return np.array(canvas)


def _interior_point(mask: npt.NDArray[np.bool_], box: Size, stride: int) -> tuple[float, float] | None:
    """The centre (x, y) of the largest box of the given proportions inside a mask, None if only a tiny one fits.

    `mask` is thinned by `stride`; `box` and the result are in pixels of the full map. Of several places for the
    largest box, the one nearest to the mask's centre of gravity is taken.
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    top, left = rows[0], columns[0]
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    integral = np.zeros((crop.shape[0] + 1, crop.shape[1] + 1), dtype=np.int32)
    integral[1:, 1:] = crop.cumsum(axis=0, dtype=np.int32).cumsum(axis=1, dtype=np.int32)
    center_y, center_x = (float(places.mean()) + 0.5 for places in np.nonzero(crop))
    for scale in (4, 2.8, 2, 1.4, 1, NAME_BOX_MIN_SCALE):
        height, width = (max(1, round(side * scale / stride)) for side in box)
        if height > crop.shape[0] or width > crop.shape[1]:
            continue
        inside = integral[height:, width:] - integral[:-height, width:] - integral[height:, :-width]
        tops, lefts = np.nonzero(inside + integral[:-height, :-width] == height * width)
        if len(tops):
            y, x = tops + height / 2, lefts + width / 2
            nearest = int(np.argmin((y - center_y) ** 2 + (x - center_x) ** 2))
            return float(left + x[nearest]) * stride, float(top + y[nearest]) * stride
    return None


def _letterbox(picture: Picture, cell: Size) -> Image.Image:
    original = Image.fromarray(to_picture(picture))
    size = _fit(Size(original.height, original.width), cell, enlarge=True)
    result = Image.new("RGB", (cell.width, cell.height), LETTERBOX)
    resized = original.resize((size.width, size.height), Image.Resampling.LANCZOS)  # a copy where the size is equal
    result.paste(resized, ((cell.width - size.width) // 2, (cell.height - size.height) // 2))
    return result


def _fit(size: Size, limit: Size, enlarge: bool = False) -> Size:
    """The largest size of the same proportions within a limit."""
    scale = min(limit.height / size.height, limit.width / size.width)
    if not enlarge:
        scale = min(scale, 1.0)
    return Size(max(1, round(size.height * scale)), max(1, round(size.width * scale)))


def _shorten(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its beginning as fits the width, with dots."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""


def _line_height(font: ImageFont.FreeTypeFont) -> int:
    return round(font.size * 1.4)


def _by(size: Size) -> str:
    return f"{size.height} x {size.width}"
