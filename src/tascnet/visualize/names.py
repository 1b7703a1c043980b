"""Names of segments, written into a picture where they cover their own segment."""

import math

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from tascnet.structures import LabelSpace, PanopticSegmentation, Size
from tascnet.visualize.colors import Picture
from tascnet.visualize.fonts import font_for, line_height

NAME_BOX_MIN_SCALE = 0.7  # a name may stand out a little over its segment, or narrow segments would never have one
NAME_SEARCH_PIXELS = 150_000  # the place of names is searched on a map thinned to this size


def write_names(
    picture: Picture, segmentation: PanopticSegmentation, index_map: npt.NDArray[np.int32], label_space: LabelSpace
) -> Picture:
    """Write names, those of large segments first; a name that would cover another one is left out."""
    font_size = max(12, round(math.sqrt(index_map.size) / 52))
    height, padding = line_height(font_for("", font_size)), max(2, round(font_size / 5))
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
