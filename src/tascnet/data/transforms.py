"""Augmentation of an image and its segmentation together: Sample -> Sample."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from tascnet.data.sample import Sample
from tascnet.structures import VOID, PanopticSegmentation, Segment, Size


@dataclass(frozen=True)
class Augment:
    """Random scale, crop, horizontal flip and colours, for training. Called on a sample, gives a new one.

    Numbers are drawn from torch's global generator, which a `DataLoader` seeds anew in each worker. Things cropped
    away leave the segments, and areas are counted again.

    Attributes:
        scale: smallest and largest factor, drawn evenly, on top of `short_side`; (1, 1) leaves the size alone.
        crop: size of the result; smaller pictures are padded at the bottom and the right, the image with zeros,
            the segmentation with VOID. None keeps the whole picture, at whatever size it has then.
        short_side: pixels that the shorter side has at factor 1; None for the picture's own.
        max_long_side: pixels; at factor 1 the longer side is not longer than this. None for no limit.
        flip_probability: of left and right changing places, 0..1.
        color_jitter: brightness, contrast and saturation each change by a factor up to 1 -+ this, 0..1.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    crop: Size | None = None
    short_side: int | None = None
    max_long_side: int | None = None
    flip_probability: float = 0.5
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale is (smallest, largest), both above 0; got {self.scale}.")
        if not 0 <= self.flip_probability <= 1 or not 0 <= self.color_jitter <= 1:
            raise ValueError(
                "flip_probability and color_jitter are between 0 and 1; "
                f"got {self.flip_probability} and {self.color_jitter}."
            )

    def __call__(self, sample: Sample) -> Sample:
        """A random variant of the sample; the sample itself stays as it is."""
        size = sample.segmentation.size
        factor = _factor(size, self.short_side, self.max_long_side) * _uniform(*self.scale)
        size = _scaled(size, factor)
        image = tv_tensors.Image(sample.image)
        id_map = tv_tensors.Mask(sample.segmentation.id_map)
        image, id_map = self._crop_and_resize(image, id_map, size)
        image, id_map = self._flip_and_color(image, id_map)
        return _rebuilt(sample, image, id_map)

    def _crop_and_resize(
        self, image: tv_tensors.Image, id_map: tv_tensors.Mask, size: Size
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Resize to `size` and cut a random window of size `crop` out of that; only the window is ever resized."""
        crop = self.crop or size
        top, height, window_height = _window(image.shape[1], size.height, crop.height)
        left, width, window_width = _window(image.shape[2], size.width, crop.width)
        image = functional.crop(image, top, left, height, width)
        id_map = functional.crop(id_map, top, left, height, width)
        image, id_map = _resized(image, id_map, Size(window_height, window_width))
        padding = [0, 0, crop.width - window_width, crop.height - window_height]  # left, top, right, bottom
        if any(padding):
            image, id_map = functional.pad(image, padding, fill=0), functional.pad(id_map, padding, fill=VOID)
        return image, id_map

    @cached_property
    def _flip_and_color(self) -> v2.Transform:
        strength = self.color_jitter
        color = [v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)] if strength else []
        return v2.Compose([v2.RandomHorizontalFlip(self.flip_probability), *color])


def resize_short_side(sample: Sample, short_side: int, max_long_side: int | None = None) -> Sample:
    """Resize a sample until its shorter side has `short_side` pixels, or its longer one `max_long_side`.

    The first limit reached counts; the ratio of the sides stays. Nothing is random: for evaluation and overfitting.

    Args:
        sample: of any size.
        short_side: pixels.
        max_long_side: pixels; None for no limit.
    """
    size = size_to_fit(sample.segmentation.size, short_side, max_long_side)
    image, id_map = _resized(tv_tensors.Image(sample.image), tv_tensors.Mask(sample.segmentation.id_map), size)
    return _rebuilt(sample, image, id_map)


def shrink_segmentation(segmentation: PanopticSegmentation, size: Size) -> PanopticSegmentation:
    """The segmentation at another size: the nearest pixel's id, areas counted again.

    Segments that lose all their pixels are left out.
    """
    ids = _resized_ids(segmentation.id_map, size)
    return _recounted(ids, segmentation.segments)


def size_to_fit(size: Size, short_side: int | None, max_long_side: int | None = None) -> Size:
    """The size whose shorter side is `short_side`, or whose longer one is `max_long_side`: the first limit reached.

    The ratio of the sides stays, as far as whole pixels allow; no side falls below one pixel. None is no limit.
    """
    return _scaled(size, _factor(size, short_side, max_long_side))


def resize_photo(image: Tensor, size: Size, library: Literal["torchvision", "pillow"] = "torchvision") -> Tensor:
    """Bilinear, without aliasing.

    Args:
        image: (3, H, W) uint8.
        size: the new size.
        library: what does it; torchvision takes a fifth of the time, and differs from Pillow by 1 in few values.
    """
    if library == "torchvision":
        return functional.resize(image, list(size), antialias=True)
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    resized = picture.resize((size.width, size.height), Image.Resampling.BILINEAR)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def _resized(image: tv_tensors.Image, id_map: tv_tensors.Mask, size: Size) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
    if size == tuple(image.shape[1:]):
        return image, id_map
    return resize_photo(image, size), tv_tensors.Mask(_resized_ids(id_map, size))


def _resized_ids(id_map: Tensor, size: Size) -> Tensor:
    # resize() of a Mask takes the older "nearest", half a pixel off from the image; resize_image() lets one choose
    return functional.resize_image(id_map[None], list(size), interpolation=InterpolationMode.NEAREST_EXACT)[0]


def _rebuilt(sample: Sample, image: Tensor, id_map: Tensor) -> Sample:
    """The sample with new pixels; plain tensors, so that nobody meets a subclass of Tensor later."""
    segmentation = _recounted(id_map.as_subclass(Tensor), sample.segmentation.segments)
    return replace(sample, image=image.as_subclass(Tensor), segmentation=segmentation)


def _recounted(id_map: Tensor, segments: tuple[Segment, ...]) -> PanopticSegmentation:
    """A segmentation of new pixels: segments without pixels are left out, areas counted again."""
    segmentation = PanopticSegmentation(id_map.to(torch.int32).contiguous(), segments)
    areas = segmentation.count_areas()
    left_over = tuple(replace(segment, area=areas[segment.id]) for segment in segments if areas[segment.id])
    return replace(segmentation, segments=left_over)


def _factor(size: Size, short_side: int | None, max_long_side: int | None) -> float:
    """By how much to enlarge a picture of that size to meet both limits."""
    factor = 1.0 if short_side is None else short_side / min(size)
    if max_long_side is not None:
        factor = min(factor, max_long_side / max(size))
    return factor


def _scaled(size: Size, factor: float) -> Size:
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))


def _window(length: int, scaled: int, wanted: int) -> tuple[int, int, int]:
    """A random window along one side, `wanted` pixels of the scaled picture or all of it if it has fewer.

    Args:
        length: pixels of the side before scaling.
        scaled: pixels of the side after scaling.
        wanted: pixels of the window after scaling.

    Returns:
        first pixel and number of pixels before scaling (whole pixels: the scale is met to half a pixel),
        and number of pixels after scaling.
    """
    if scaled <= wanted:
        return 0, length, scaled
    pixels = max(1, round(length * wanted / scaled))
    return int(torch.randint(length - pixels + 1, ())), pixels, wanted


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
