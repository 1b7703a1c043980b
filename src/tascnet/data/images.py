"""Picture files -> (3, H, W) uint8 tensors, and arrays -> PNG files."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from tascnet.data.problems import DataError, Kind
from tascnet.errors import InputError
from tascnet.files import atomic_path
from tascnet.structures import Size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Which files of a folder are pictures; a file named outright may have any suffix."""

MAX_PIXELS = 2**27
"""134 million pixels, 11,585 x 11,585: larger pictures are refused, because a small file can claim any size."""

# what Pillow's decoders raise at broken files; its own UnidentifiedImageError is an OSError
_DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    struct.error,
    zlib.error,
)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


def read_image(path: str | Path, expected_size: Size | None = None) -> Tensor:
    """Read a picture as the eye sees it: turned as its EXIF tag says, in colour, 8 bits a channel.

    Grey is repeated over the three channels. Transparency is dropped: the stored colours are kept, as OpenCV does.
    16-bit grey is scaled from 0..65535 to 0..255. Of an animation the first picture is read.

    Args:
        path: any picture that Pillow reads.
        expected_size: the size that an annotation gives. Some annotation tools overlook the EXIF tag; if the
            picture has this size only without its turn, it is not turned.

    Returns:
        (3, H, W) uint8, red green blue. Channels are last in memory, where resizing is three times as fast.

    Raises:
        InputError: the file is missing, is not a picture, is cut short, or is larger than `MAX_PIXELS`.
    """
    path = Path(path)
    picture = open_picture(path)
    turned = _turned(picture)
    if expected_size is not None and _size(turned) != expected_size == _size(picture):
        turned = picture
    pixels = _rgb_array(turned, path)  # (H, W, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_photo(path: Path, size: Size, source: str | Path) -> Tensor:
    """Read the photo that an annotation belongs to; `read_image` says when it is turned.

    Args:
        path: the photo.
        size: of the annotation.
        source: what gives the size, for the error.

    Returns:
        (3, H, W) uint8.

    Raises:
        InputError: as `read_image`, or the photo has another size.
    """
    image = read_image(path, expected_size=size)
    if tuple(image.shape[1:]) != size:
        raise DataError(
            f"photo {path} is {image.shape[1]} x {image.shape[2]} pixels (height x width), but {source} "
            f"says {size.height} x {size.width}. Use the photo that was annotated.",
            Kind.OTHER_SIZE,
        )
    return image


def rgb_tensor(picture: Image.Image | np.ndarray | Tensor) -> Tensor:
    """A picture in memory -> (3, H, W) uint8, red green blue.

    Args:
        picture: a Pillow image of any mode (turned as its EXIF tag says), an array (H, W, 3) uint8, or a tensor
            (3, H, W) uint8.

    Raises:
        InputError: another shape or type.
    """
    if isinstance(picture, Image.Image):
        return torch.from_numpy(_rgb_array(_turned(picture), Path("in memory"))).permute(2, 0, 1)
    wanted = "(H, W, 3)" if isinstance(picture, np.ndarray) else "(3, H, W)"
    channels_at = 2 if isinstance(picture, np.ndarray) else 0
    if picture.ndim != 3 or picture.shape[channels_at] != 3 or str(picture.dtype).removeprefix("torch.") != "uint8":
        raise InputError(f"a picture is {wanted} uint8 RGB; got {tuple(picture.shape)} {picture.dtype}. Convert it.")
    if isinstance(picture, Tensor):
        return picture
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)


def open_picture(path: str | Path) -> Image.Image:
    """Open and decode a picture, as stored.

    Raises:
        InputError: the file is missing, is not a picture, is cut short, or is larger than `MAX_PIXELS`.
    """
    path = Path(path)
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(_too_large(path, f"{picture.width} x {picture.height}"))
            picture.load()
            return picture
    except InputError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"picture {path} does not exist. Check the path.", Kind.MISSING_FILE) from error
    except IsADirectoryError as error:
        raise InputError(f"{path} is a folder; a picture file was expected. Name a file in it.") from error
    except PermissionError as error:
        raise InputError(f"picture {path} may not be read. Give yourself permission to read it.") from error
    except Image.DecompressionBombError as error:
        raise InputError(_too_large(path, "more")) from error
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path} is not a picture that can be read. Check the file, or convert it to JPEG or PNG.", Kind.UNREADABLE
        ) from error
    except _DECODER_ERRORS as error:
        raise DataError(
            f"picture {path} is broken or cut short ({error}). Copy or download it again.", Kind.UNREADABLE
        ) from error


def write_png(path: str | Path, array: np.ndarray) -> None:
    """Write a PNG so that a reader never meets half of one.

    Args:
        path: the file; its folder is made where missing.
        array: (H, W) or (H, W, 3) uint8.

    Raises:
        InputError: the file cannot be written (no permission, disk full).
    """
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] != 3):
        raise ValueError(f"a PNG is made of (H, W) or (H, W, 3) uint8; got {array.shape}, {array.dtype}.")
    try:
        with atomic_path(path) as temporary:
            Image.fromarray(array).save(temporary, format="PNG")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}. Check permission and free space.") from error


def list_images(paths: Iterable[str | Path]) -> list[Path]:
    """The picture files among files and folders, each once.

    A file is taken whatever its suffix; of a folder, the files directly in it whose suffix is in `IMAGE_SUFFIXES`,
    sorted by name, hidden ones left out.

    Raises:
        InputError: a path does not exist, or there is no picture in one of the folders.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += _images_in(path)
        elif path.exists():
            found.append(path)
        else:
            raise InputError(f"{path} does not exist. Name picture files, or folders that hold some.")
    if not found:
        raise InputError("no pictures were named. Name picture files, or folders that hold some.")
    return list(dict.fromkeys(found))


def _images_in(folder: Path) -> list[Path]:
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
    if not images:
        raise InputError(
            f"the folder {folder} holds no pictures ({' '.join(IMAGE_SUFFIXES)}). "
            "Folders inside it are not searched: name them, or the files, one by one."
        )
    return images


def _turned(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except _DECODER_ERRORS:  # a broken EXIF block does no harm to the picture
        return picture


def _rgb_array(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded picture of any mode."""
    if picture.mode == "F":
        raise InputError(f"picture {path} holds floating-point values of unknown range. Convert it to 8 or 16 bits.")
    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture).astype(np.int64)
        if values.size and not 0 <= values.min() <= values.max() <= 0xFFFF:
            raise InputError(
                f"picture {path} has values from {values.min()} to {values.max()}; grey pictures are read up to "
                "16 bits (0 to 65535). Convert it to 8 or 16 bits."
            )
        grey = ((values + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257, rounded to the nearest
        return np.repeat(grey[..., None], 3, axis=2)
    if picture.mode == "P":
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns of a palette with transparency
    return np.array(picture.convert("RGB"))


def _size(picture: Image.Image) -> Size:
    return Size(picture.height, picture.width)


def _too_large(path: Path, size: str) -> str:
    return f"picture {path} is too large ({size}; at most {MAX_PIXELS:,} pixels). Resize it or cut it into pieces."
