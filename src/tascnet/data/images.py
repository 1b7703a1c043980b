"""Picture files -> (3, H, W) uint8 tensors, and arrays -> PNG files."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import ExifTags, Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin, UnidentifiedImageError
from torch import Tensor

from tascnet.data.png_rows import holds_all_rows
from tascnet.data.problems import DataError, Kind
from tascnet.errors import InputError, MemoryShortError, is_no_memory
from tascnet.files import atomic_path, require_regular
from tascnet.structures import Size

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Which files of a folder are pictures; a file named outright may have any suffix."""

MAX_PIXELS = 2**27
"""134 million pixels, 11,585 x 11,585: larger pictures are refused, because a small file can claim any size."""

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "JPEG2000", "AVIF")
"""Pillow's names of the formats that are read, whatever a file is called.

Pillow knows forty. Some start other programs (EPS starts Ghostscript on what may be any PostScript program), others
are rare, little tested and no format of photos or annotation. The several pictures of a phone in one file, MPO, come
with JPEG.
"""

MAX_REASON = 200
"""Characters of a decoder's own message that are passed on; it may quote the file."""

_TURNS = {  # value of EXIF's tag "orientation" -> what makes the stored picture the seen one
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BACK = {  # all other turns undo themselves
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = [_TURNS[orientation] for orientation in (5, 6, 7, 8)]  # height becomes width
_BY_WAY_OF = {  # modes that Pillow does not convert to RGB in one step
    "P": "RGBA",  # it warns of a palette with transparency
    "La": "LA",
}
_LOSSY = ("jpeg", "tiff_jpeg", "webp")  # compressions of a TIFF, as Pillow calls them
_EIGHT_OF_SIXTEEN_BITS = ((np.arange(0x10000) + 128) // 257).astype(np.uint8)  # 65535 = 255 * 257; to the nearest
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")


Exif = Literal["apply", "ignore"]
"""Whether a photo's EXIF tag turns and mirrors it, or its stored pixels are taken."""


def read_image(
    path: str | Path,
    expected_size: Size | None = None,
    size_of: Callable[[Size], Size] = lambda size: size,
    exif: Exif = "apply",
) -> Tensor:
    """Read an image upright (turned by its EXIF tag), in colour, 8 bits per channel.

    Grey is repeated over the three channels. Transparency is dropped: the stored colours are kept, as OpenCV does.
    16-bit grey is scaled from 0..65535 to 0..255. Of an animation the first picture is read.

    Args:
        path: a picture in one of `FORMATS`.
        expected_size: the size that an annotation gives. Some annotation tools overlook the EXIF tag; if the
            picture has this size only without its turn, it is not turned.
        size_of: the image's own size -> the size to read it at, not larger; may raise. A JPEG is
            decoded at a half, a quarter or an eighth of its size where that is large enough still, which takes a
            fraction of the time and memory; the rest of the way is a bilinear resize without aliasing.
        exif: "ignore" never turns it.

    Returns:
        (3, H, W) uint8, red green blue. Channels are last in memory, where resizing is three times as fast.

    Raises:
        InputError: the file is missing, is not a picture, is cut short, is larger than `MAX_PIXELS` or than the
            memory that is left.
    """
    path = Path(path)
    with _opened(path) as picture:
        back = None
        if not isinstance(picture, JpegImagePlugin.JpegImageFile):
            turn = _turn_of(picture)
            _load(picture, path)  # some formats turn themselves as they decode, so only then their size is known
            if exif == "ignore" and turn is not None and _turn_of(picture) is None:
                back = _BACK.get(turn, turn)
        turn, stored = back if exif == "ignore" else _turn_of(picture), _size(picture)
        own = _turned_size(stored, turn)
        if expected_size is not None and own != expected_size == stored:
            turn, own = None, stored
        wanted = size_of(own)
        picture = _reduced(picture, _turned_size(wanted, turn))
        pixels = _rgb_array(_turned(picture, turn), path)  # (H, W, 3)
        if pixels.shape[:2] != wanted:
            pixels = np.array(Image.fromarray(pixels).resize((wanted.width, wanted.height), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1)


def read_photo(path: Path, size: Size, source: str | Path, wanted: Size | None = None, exif: Exif = "apply") -> Tensor:
    """Read the photo that an annotation belongs to; `read_image` documents when it is turned, and how it is reduced.

    Args:
        path: the photo.
        size: of the annotation.
        source: what gives the size, for the error.
        wanted: size of the result, not larger; None for the photo's own.
        exif: as for `read_image`.

    Returns:
        (3, H, W) uint8.

    Raises:
        InputError: as `read_image`, or the photo has another size than its annotation.
    """

    def size_of(photo: Size) -> Size:
        if photo != size:
            raise DataError(
                f"photo {path} is {photo.height} x {photo.width} pixels (height x width), but {source} "
                f"says {size.height} x {size.width}. Use the photo that was annotated.",
                Kind.OTHER_SIZE,
            )
        return wanted or size

    return read_image(path, expected_size=size, size_of=size_of, exif=exif)


def has_doubtful_turn(path: Path) -> bool:
    """Whether an EXIF tag turns a photo by 180 degrees, mirrors it, or turns a square: its size is the same then.

    Raises:
        InputError: as `read_image`.
    """
    with _opened(path) as picture:
        turn = _turn_of(picture)
        return turn is not None and (turn not in _SIDEWAYS or picture.width == picture.height)


def has_turn(path: Path) -> bool:
    """Whether an EXIF tag turns or mirrors a photo.

    Raises:
        InputError: as `read_image`.
    """
    with _opened(path) as picture:
        return _turn_of(picture) is not None


def rgb_tensor(picture: Image.Image | np.ndarray | Tensor) -> Tensor:
    """A picture in memory -> (3, H, W) uint8, red green blue.

    Numbers are bytes, 0-255. Floats are refused rather than guessed at: a dark picture of 0-255 looks like one of 0-1.
    OpenCV's blue green red cannot be distinguished from red green blue: reverse it, `picture[..., ::-1]`.

    Args:
        picture: a Pillow image of any mode, treated as `read_image` treats a file (of an animation, the picture it
            stands at); an array (H, W, 3) uint8; or a tensor (3, H, W) uint8.

    Returns:
        The pixels, sharing memory with the array or tensor that was given where that is possible.

    Raises:
        InputError: another shape or type, no pixel at all, or a Pillow image whose file is broken.
    """
    if isinstance(picture, Image.Image):
        return torch.from_numpy(_pillow_array(picture)).permute(2, 0, 1)
    if not isinstance(picture, np.ndarray | Tensor):
        raise InputError(
            "a photo is a path, a Pillow image, an array (H, W, 3) uint8 or a tensor (3, H, W) uint8; "
            f"got {type(picture).__name__}. Convert it."
        )
    wanted, channels_at = ("(H, W, 3)", 2) if isinstance(picture, np.ndarray) else ("(3, H, W)", 0)
    if picture.ndim != 3 or picture.shape[channels_at] != 3 or _type_name(picture) != "uint8" or 0 in picture.shape:
        raise InputError(
            f"a picture is {wanted} uint8 RGB; got {tuple(picture.shape)} {picture.dtype}. {_way_to_mend(picture)}"
        )
    if isinstance(picture, Tensor):
        return picture
    return torch.from_numpy(np.require(picture, requirements=["C", "W"])).permute(2, 0, 1)  # torch wants it writeable


def _type_name(picture: np.ndarray | Tensor) -> str:
    return str(picture.dtype).removeprefix("torch.")


def _way_to_mend(picture: np.ndarray | Tensor) -> str:
    """Advice for an array or tensor of another form than the required one."""
    is_array, shape = isinstance(picture, np.ndarray), tuple(picture.shape)
    channels_at = 2 if is_array else 0
    if 0 in shape:
        return "It has no pixels; check where it comes from."
    if _type_name(picture).startswith(("float", "bfloat")):
        return "Scale it to 0-255, round it and convert it to uint8; whether floats mean 0-1 or 0-255 is not guessed."
    if _type_name(picture) != "uint8":
        return "Scale it to 0-255 and convert it to uint8."
    if len(shape) == 4:
        return "Give several pictures as a list."
    if len(shape) == 2 or (len(shape) == 3 and shape[channels_at] == 1):
        return "Repeat grey over three channels."
    if len(shape) == 3 and shape[channels_at] == 4:
        return "Leave out the fourth channel."
    if len(shape) == 3 and shape[2 - channels_at] == 3:
        return "Put the channels last: transpose(1, 2, 0)." if is_array else "Put them first: permute(2, 0, 1)."
    return "Convert it."


def _pillow_array(picture: Image.Image) -> np.ndarray:
    """(H, W, 3) uint8 of a Pillow image, which may be one of a file that is still to be decoded."""
    name = Path(getattr(picture, "filename", "") or "in memory")
    _check_pixels(picture, name)
    with _decoding(name):
        picture.load()  # TIFF turns itself as it decodes and forgets the tag, so the tag is looked at only then
        return _rgb_array(_turned(picture, _turn_of(picture)), name)


def open_annotation(path: str | Path) -> Image.Image:
    """Open and decode a picture whose pixels are numbers, ids or labels, where a value that is off by one is wrong.

    Returns:
        The picture as stored. Grey of 1, 2 or 4 bits has its numbers, not the levels to which Pillow spreads them.

    Raises:
        InputError: the file is missing, is not a picture, is cut short, or is larger than `MAX_PIXELS`; or, whatever
            its name, is neither a PNG nor a BMP nor a TIFF without loss, or has colours of more than 8 bits, of which
            Pillow drops the lower half.
    """
    path = Path(path)
    with _opened(path) as picture:
        lossy = picture.format == "TIFF" and picture.info.get("compression") in _LOSSY
        if picture.format not in ("PNG", "BMP", "TIFF") or lossy:
            raise DataError(
                f"{path} is a file of format {picture.format}{' with JPEG or WebP inside' * lossy}; annotation is a "
                "PNG, because such formats change numbers. Export it as PNG; renaming is not enough.",
                Kind.NOT_IDS,
            )
        bits = _bits(picture, path)
        _load(picture, path)
    if bits > 8 and len(picture.getbands()) > 1:
        raise DataError(
            f"{path} has colours of {bits} bits a channel; annotation has 8, as the upper half alone would be read. "
            "Save it with 8 bits a channel.",
            Kind.NOT_IDS,
        )
    if bits < 8 and picture.mode in ("1", "L"):
        levels = np.asarray(picture.convert("L"))
        return Image.fromarray(levels // (255 // (2**bits - 1)))
    return picture


def _bits(picture: Image.Image, path: Path) -> int:
    """Bits a channel in the file, of which Pillow's mode may show 8."""
    if picture.format == "TIFF":
        bits: tuple[int, ...] = picture.getexif().get(ExifTags.Base.BitsPerSample, (8,))
        return max(bits) if isinstance(bits, tuple) else bits
    if picture.format != "PNG":
        return 8
    with path.open("rb") as file:
        return file.read(25)[24]  # the header begins every PNG


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture of which only the header has been read; what goes wrong while it is decoded is an `InputError`, too.

    No other function opens a picture: here is what is allowed, in format and in size.
    """
    with _decoding(path):
        require_regular(path)
        with Image.open(path, formats=_formats()) as picture:
            _check_pixels(picture, path)
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(_too_large(path, f"{picture.width} x {picture.height}"))
            _check_strips(picture, path)
            yield picture


@cache
def _formats() -> list[str]:
    """Those of `FORMATS` that this version of Pillow has; it does not accept the name of another."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def _check_strips(picture: Image.Image, path: Path) -> None:
    """Refuse an uncompressed TIFF whose strips or tiles end before the picture does: Pillow leaves the rest black."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile) or any(t.codec_name == "libtiff" for t in picture.tile):
        return
    boxes = [tile.extents for tile in picture.tile if tile.extents]
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if covered < picture.width * picture.height:
        raise DataError(
            f"picture {path} is broken or cut short (it holds {covered} of {picture.width * picture.height} pixels). "
            "Copy or download it again.",
            Kind.UNREADABLE,
        )


def _load(picture: Image.Image, path: Path) -> None:
    """Decode all of a picture; a PNG that ends before its last row is broken, though Pillow reads it."""
    is_png = isinstance(picture, PngImagePlugin.PngImageFile)
    interlaced = bool(picture.info.get("interlace"))
    picture.load()
    if not is_png:
        return
    last_row = picture.crop((0, picture.height - 1, picture.width, picture.height))
    if (interlaced or last_row.getbbox() is None) and not holds_all_rows(path):  # what is missing is black
        raise DataError(
            f"picture {path} is broken or cut short (its data ends before its last row). Copy or download it again.",
            Kind.UNREADABLE,
        )


def _check_pixels(picture: Image.Image, path: Path) -> None:
    if 0 in picture.size:
        raise InputError(f"picture {path} is {picture.width} x {picture.height}: it has no pixels. Check its source.")


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Whatever goes wrong while a picture is opened and decoded is an `InputError`.

    Damaged files make Pillow's decoders raise nearly every built-in exception, so all of them are caught.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"picture {path} does not exist{_nearby(path)}. Check the path.", Kind.MISSING_FILE) from error
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
    except Exception as error:
        raise _decoding_failed(path, error) from error


def _decoding_failed(path: Path, error: Exception) -> InputError:
    """The sentence for an exception of a decoder or of the system below it."""
    if is_no_memory(error):
        return MemoryShortError(
            f"memory ran out while picture {path} was decoded. Close other programs, or make the picture smaller."
        )
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(
            f"picture {path} cannot be read: {error.strerror}. Check the path and the disk.", Kind.UNREADABLE
        )
    if "MAX_TEXT" in str(error):  # Pillow's limits, of 1 MB and 64 MB
        return DataError(
            f"picture {path} holds too much compressed text beside its pixels. Save it without metadata.", Kind.OTHER
        )
    reason = " ".join(str(error).split()).rstrip(".")[:MAX_REASON] or type(error).__name__
    return DataError(f"picture {path} is broken or cut short ({reason}). Copy or download it again.", Kind.UNREADABLE)


def _nearby(path: Path) -> str:
    """A hint for a missing file whose folder is missing, too: a folder too many in its name, for instance."""
    if path.parent.exists():
        return ""
    above = path.parent.parent / path.name
    return f": there is no folder {path.parent}" + (f", but there is {above}" if above.exists() else "")


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
    sorted by name, hidden ones left out. A link that leads nowhere is taken: its reader names it.

    Raises:
        InputError: a path does not exist or may not be looked at, or there is no picture in one of the folders.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        try:
            if path.is_dir():
                found += _images_in(path)
            elif path.exists() or path.is_symlink():
                found.append(path)
            else:
                raise InputError(f"{path} does not exist. Name picture files, or folders that hold some.")
        except OSError as error:  # no permission, a name that is too long
            raise InputError(
                f"{path} cannot be looked at: {error.strerror}. Check the path and its permissions."
            ) from error
    if not found:
        raise InputError("no pictures were named. Name picture files, or folders that hold some.")
    return list(dict.fromkeys(found))


def _images_in(folder: Path) -> list[Path]:
    images = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()
    ]
    if not images:
        raise InputError(
            f"the folder {folder} holds no pictures ({' '.join(IMAGE_SUFFIXES)}). "
            "Folders inside it are not searched: name them, or the files, one by one."
        )
    return images


def _reduced(picture: Image.Image, size: Size) -> Image.Image:
    """The decoded picture; a JPEG that is larger than `size`, both as stored, is reduced to it on the way."""
    if size == _size(picture):
        picture.load()
        return picture
    draft = picture.draft(None, (size.width, size.height))  # None for other formats than JPEG
    picture.load()
    if draft is None:
        return picture
    # the box leaves out what the last pixels of a reduced picture have beyond the edge of the whole one
    return picture.resize((size.width, size.height), Image.Resampling.BILINEAR, box=draft[1])


def _turn_of(picture: Image.Image) -> Image.Transpose | None:
    """The operation that turns the stored image upright, from its EXIF tag.

    Raises:
        OSError: the pixels of a PNG cannot be decoded. Its tag may be behind them; `getexif` decodes them, too, and
            what fails there must not pass for a broken tag: Pillow does not decode twice, and leaves the pixels black.
    """
    if isinstance(picture, PngImagePlugin.PngImageFile):
        picture.load()
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a broken EXIF block does no harm to the picture
        return None


def _turned(picture: Image.Image, turn: Image.Transpose | None) -> Image.Image:
    return picture if turn is None else picture.transpose(turn)


def _turned_size(size: Size, turn: Image.Transpose | None) -> Size:
    """The size after the turn; as all turns that exchange the sides do so both ways, also the size before it."""
    return Size(size.width, size.height) if turn in _SIDEWAYS else size


def _rgb_array(picture: Image.Image, path: Path) -> np.ndarray:
    """(H, W, 3) uint8 of a decoded picture of any mode."""
    if picture.mode == "F":
        raise InputError(f"picture {path} holds floating-point values of unknown range. Convert it to 8 or 16 bits.")
    if picture.mode in _SIXTEEN_BIT:
        values = np.asarray(picture)
        if values.size and not 0 <= values.min() <= values.max() <= 0xFFFF:
            raise InputError(
                f"picture {path} has values from {values.min()} to {values.max()}; grey pictures are read up to "
                "16 bits (0 to 65535). Convert it to 8 or 16 bits."
            )
        return np.repeat(_EIGHT_OF_SIXTEEN_BITS[values][..., None], 3, axis=2)
    by_way_of = _BY_WAY_OF.get(picture.mode)
    if by_way_of is not None:
        picture = picture.convert(by_way_of)
    return np.array(picture.convert("RGB"))


def _size(picture: Image.Image) -> Size:
    return Size(picture.height, picture.width)


def _too_large(path: Path, size: str) -> str:
    return f"picture {path} is too large ({size}; at most {MAX_PIXELS:,} pixels). Resize it or cut it into pieces."
