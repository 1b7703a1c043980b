"""Augmentation of an image and its segmentation together: Sample -> Sample."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional

from tascnet.data.sample import Sample
from tascnet.structures import VOID, PanopticSegmentation, Segment, Size

Choice = TypeVar("Choice")


@dataclass(frozen=True)
class Augment:
    """Random scale, crop, horizontal flip and colours, for training. Called on a sample, gives a new one.

    Numbers are drawn from torch's global generator, which a `TrainingStream` seeds anew for each sample. Things cropped
    away leave the segments, and areas are counted again.

    The large-scale jitter of "Simple Copy-Paste" (Ghiasi et al. 2021) is `short_sides` and `max_long_side` 1024,
    `scale` 0.1 to 2.0 and `crop` 1024 x 1024.

    Attributes:
        scale: smallest and largest factor, drawn evenly, on top of `short_sides`; (1, 1) leaves the size alone.
        crop: size of the result; smaller pictures are padded at the bottom and the right, the image with zeros,
            the segmentation with VOID. None keeps the whole picture, at whatever size it has then.
        short_sides: pixels that the shorter side has at factor 1, one of them drawn for each sample; empty for the
            picture's own.
        max_long_side: pixels; at factor 1 the longer side is not longer than this. None for no limit.
        crop_on_things: probability of a crop around a thing instead of anywhere, 0..1. A category is drawn among the
            picture's things, then an instance of it, then a pixel of that, on which the crop is centred as far as the
            borders allow. So rare categories are seen more often, and large instances in all their parts.
        thing_ids: the categories that are things, for `crop_on_things`.
        flip_probability: of left and right changing places, 0..1.
        color_jitter: brightness, contrast and saturation each change by a factor up to 1 -+ this, 0..1.
    """

    scale: tuple[float, float] = (1.0, 1.0)
    crop: Size | None = None
    short_sides: tuple[int, ...] = ()
    max_long_side: int | None = None
    crop_on_things: float = 0.0
    thing_ids: frozenset[int] = frozenset()
    flip_probability: float = 0.5
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        low, high = self.scale
        if not 0 < low <= high:
            raise ValueError(f"scale is (smallest, largest), both above 0; got {self.scale}.")
        for name in ("crop_on_things", "flip_probability", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is between 0 and 1; got {getattr(self, name)}.")

    def __call__(self, sample: Sample) -> Sample:
        """A random variant of the sample; the sample itself stays as it is."""
        size = self._new_size(sample.segmentation.size)
        image = tv_tensors.Image(sample.image)
        id_map = tv_tensors.Mask(sample.segmentation.id_map)
        image, id_map = self._crop_and_resize(image, id_map, size, self._center(sample.segmentation))
        image, id_map = self._flip_and_color(image, id_map)
        return _rebuilt(sample, image, id_map)

    def _new_size(self, size: Size) -> Size:
        """The size to which a whole picture is scaled."""
        short_side = _one_of(self.short_sides) if self.short_sides else None
        return _scaled(size, _factor(size, short_side, self.max_long_side) * _uniform(*self.scale))

    def _center(self, segmentation: PanopticSegmentation) -> tuple[int | None, int | None]:
        """Row and column of a thing's pixel to centre the crop on; None for a crop anywhere."""
        if self.crop is None or not self.crop_on_things or _uniform(0, 1) >= self.crop_on_things:
            return None, None
        ids_of: dict[int, list[int]] = {}  # category -> its instances
        for segment in segmentation.segments:
            if segment.category_id in self.thing_ids and not segment.is_crowd:
                ids_of.setdefault(segment.category_id, []).append(segment.id)
        if not ids_of:
            return None, None
        instance = _one_of(_one_of(list(ids_of.values())))
        pixels = np.flatnonzero(segmentation.id_map.numpy() == instance)
        return divmod(int(pixels[int(torch.randint(len(pixels), ()))]), segmentation.size.width)

    def _crop_and_resize(
        self,
        image: tv_tensors.Image,
        id_map: tv_tensors.Mask,
        size: Size,
        center: tuple[int | None, int | None],
    ) -> tuple[tv_tensors.Image, tv_tensors.Mask]:
        """Resize to `size` and cut a window of size `crop` out of that; only the window is ever resized."""
        crop = self.crop or size
        top, height, window_height = _window(image.shape[1], size.height, crop.height, center[0])
        left, width, window_width = _window(image.shape[2], size.width, crop.width, center[1])
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
    return recount(ids, segmentation.segments)


def recount(id_map: Tensor, segments: tuple[Segment, ...]) -> PanopticSegmentation:
    """A segmentation of changed pixels: segments without pixels are left out, areas are counted again.

    Args:
        id_map: (H, W) integers, each the id of one of the segments, or VOID.
        segments: with any areas.
    """
    segmentation = PanopticSegmentation(id_map.to(torch.int32).contiguous(), segments)
    areas = segmentation.count_areas()
    left_over = tuple(replace(segment, area=areas[segment.id]) for segment in segments if areas[segment.id])
    return replace(segmentation, segments=left_over)


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
    segmentation = recount(id_map.as_subclass(Tensor), sample.segmentation.segments)
    return replace(sample, image=image.as_subclass(Tensor), segmentation=segmentation)


def _factor(size: Size, short_side: int | None, max_long_side: int | None) -> float:
    """By how much to enlarge a picture of that size to meet both limits."""
    factor = 1.0 if short_side is None else short_side / min(size)
    if max_long_side is not None:
        factor = min(factor, max_long_side / max(size))
    return factor


def _scaled(size: Size, factor: float) -> Size:
    return Size(max(1, round(size.height * factor)), max(1, round(size.width * factor)))


def _window(length: int, scaled: int, wanted: int, center: int | None) -> tuple[int, int, int]:
    """A window along one side, `wanted` pixels of the scaled picture or all of it if it has fewer.

    Args:
        length: pixels of the side before scaling.
        scaled: pixels of the side after scaling.
        wanted: pixels of the window after scaling.
        center: the pixel, before scaling, to centre the crop on as far as the borders allow; None for a random
            window.

    Returns:
        first pixel and number of pixels before scaling (whole pixels: the scale is met to half a pixel),
        and number of pixels after scaling.
    """
    if scaled <= wanted:
        return 0, length, scaled
    pixels = max(1, round(length * wanted / scaled))
    if center is None:
        return int(torch.randint(length - pixels + 1, ())), pixels, wanted
    return min(max(center - pixels // 2, 0), length - pixels), pixels, wanted


def _one_of(choices: Sequence[Choice]) -> Choice:
    return choices[int(torch.randint(len(choices), ()))]


def _uniform(low: float, high: float) -> float:
    return float(torch.empty(()).uniform_(low, high))
