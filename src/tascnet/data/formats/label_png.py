"""PNG of numbers, one a pixel -> (H, W) integers."""

from pathlib import Path

import numpy as np

from tascnet.data.images import open_annotation
from tascnet.data.problems import DataError, Kind

_GREY = ("L", "I;16", "I;16L", "I;16B", "I;16N", "I")


def read_numbers(path: Path) -> np.ndarray:
    """Read a PNG whose pixels are numbers: grey of 8 or 16 bits, or a palette, whose entries' numbers count.

    Returns:
        (H, W) int32, 0..65535.

    Raises:
        InputError: the file is missing, is broken, or has colours instead of numbers.
    """
    picture = open_annotation(path)
    if picture.mode not in (*_GREY, "P"):
        raise DataError(
            f"{path} is a picture of mode {picture.mode} with {len(picture.getbands())} channels; a number a pixel is "
            "wanted: grey of 8 or 16 bits, or a palette. Save the numbers, not their colours.",
            Kind.NOT_IDS,
        )
    return np.asarray(picture).astype(np.int32)
