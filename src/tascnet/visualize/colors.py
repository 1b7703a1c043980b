"""Pictures and their colours: of categories, of instances, of heat maps.

A *picture* is a numpy array (H, W, 3), uint8, red-green-blue, ready for `PIL.Image.fromarray`. An *image* may be given
in each library's own form, see `to_picture`.
"""

import colorsys
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor

from tascnet.structures import LabelSpace, PanopticSegmentation

Picture = npt.NDArray[np.uint8]
ImageLike = Tensor | npt.NDArray[np.uint8] | Image.Image
Color = tuple[int, int, int]

HUE_SPAN = 0.09  # of the colour circle: instances stay recognisable as their category
LIGHTNESS_SPAN = 0.36  # of black to white
LIGHTNESS_RANGE = (0.2, 0.78)  # instance colours stay away from black (VOID) and white (outlines)

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


@cache
def heat_table() -> Picture:
    """(256, 3) uint8: level of heat -> colour, from black (0) through red to pale yellow (255)."""
    places = np.linspace(0, 255, len(HEAT_ANCHORS))
    channels = [np.interp(np.arange(256), places, anchors) for anchors in zip(*HEAT_ANCHORS, strict=True)]
    return np.stack(channels, axis=1).round().astype(np.uint8)
