"""A photo's file and its annotation -> Sample, at full size or at the scale of the training."""

from pathlib import Path

from tascnet.data.images import Exif, read_photo
from tascnet.data.sample import Sample
from tascnet.data.transforms import shrink_segmentation, size_to_fit
from tascnet.structures import PanopticSegmentation, Size


def load_sample(
    image_path: Path,
    segmentation: PanopticSegmentation,
    name: str,
    image_id: int | str,
    annotation_path: Path,
    load_short_side: int = 0,
    exif: Exif = "apply",
) -> Sample:
    """Read a photo, check that it is the one that was annotated, and bring both to the size that is asked for.

    A reduced sample is what `resize_short_side` makes of the whole one: the same size and the same ids. The photo
    differs by a few steps of 255, because a JPEG is reduced while it is decoded.

    Args:
        image_path: of the photo.
        segmentation: its annotation at full size, the size that the photo must have.
        name, image_id: of the sample.
        annotation_path: the file that gives the annotation's size, for the error message.
        load_short_side: pixels of the shorter side; 0, or more than there are, leaves the full size.
        exif: whether the photo's EXIF tag turns it.

    Raises:
        InputError: the photo is missing, is broken, or has another size than its annotation.
    """
    annotated = segmentation.size
    wanted = loading_size(annotated, load_short_side)
    image = read_photo(image_path, annotated, annotation_path, wanted, exif)
    if wanted != annotated:
        segmentation = shrink_segmentation(segmentation, wanted)
    return Sample(image, segmentation, name, image_id, image_path)


def loading_size(size: Size, load_short_side: int) -> Size:
    """The size at which a picture is loaded: its shorter side has `load_short_side` pixels, or all that it has."""
    return size_to_fit(size, min(load_short_side or min(size), min(size)))
