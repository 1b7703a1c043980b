import re
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from tascnet.data.images import list_images, read_image, rgb_tensor, write_png
from tascnet.errors import InputError
from tascnet.structures import Size

RED, BLUE, BLACK = [255, 0, 0], [0, 0, 255], [0, 0, 0]


def pixels(path: Path, **arguments: Size) -> list:
    """The picture as (H, W, 3) nested lists, to compare with what was written."""
    image = read_image(path, **arguments)
    assert image.dtype == torch.uint8
    return image.permute(1, 2, 0).tolist()


def save(path: Path, array: list | np.ndarray, mode: str | None = None, **arguments: object) -> Path:
    picture = Image.fromarray(np.asarray(array))
    (picture.convert(mode) if mode else picture).save(path, **arguments)
    return path


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def test_colour_picture_is_channels_height_width(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[RED, BLUE, BLACK]], np.uint8))
    assert read_image(path).shape == (3, 1, 3)
    assert pixels(path) == [[RED, BLUE, BLACK]]


# a picture of one row, red then blue, seen after each of EXIF's eight turns
@pytest.mark.parametrize(
    ("orientation", "seen"),
    [
        (1, [[RED, BLUE]]),
        (2, [[BLUE, RED]]),  # mirrored
        (3, [[BLUE, RED]]),  # turned by 180 degrees
        (4, [[RED, BLUE]]),  # upside down
        (5, [[RED], [BLUE]]),  # transposed
        (6, [[RED], [BLUE]]),  # turned clockwise
        (7, [[BLUE], [RED]]),  # transposed over the other diagonal
        (8, [[BLUE], [RED]]),  # turned anticlockwise
    ],
)
def test_exif_turn_is_applied(tmp_path: Path, orientation: int, seen: list) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", np.array([[RED, BLUE]], np.uint8), exif=exif)
    assert pixels(path) == seen


def test_exif_turn_is_left_out_where_only_the_stored_size_is_expected(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", np.array([[RED, BLUE]], np.uint8), exif=exif)
    assert pixels(path, expected_size=Size(1, 2)) == [[RED, BLUE]]
    assert pixels(path, expected_size=Size(2, 1)) == [[RED], [BLUE]]
    assert pixels(path, expected_size=Size(7, 7)) == [[RED], [BLUE]]


def test_broken_exif_does_no_harm(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[RED, BLUE]], np.uint8), exif=b"Exif\0\0not a TIFF header")
    assert pixels(path) == [[RED, BLUE]]


def test_grey_is_repeated(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 7, 255]], np.uint8))
    assert pixels(path) == [[[0, 0, 0], [7, 7, 7], [255, 255, 255]]]


def test_black_and_white_of_one_bit(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[False, True]]))
    assert pixels(path) == [[BLACK, [255, 255, 255]]]


def test_sixteen_bit_grey_is_scaled(tmp_path: Path) -> None:
    # 257 sixteenth-bit steps to one of 8 bits: 128 rounds down, 129 up
    path = save(tmp_path / "a.png", np.array([[0, 128, 129, 257, 32768, 65535]], np.uint16))
    assert [pixel[0] for pixel in pixels(path)[0]] == [0, 0, 1, 1, 128, 255]


def test_big_endian_sixteen_bit_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.frombytes("I;16B", (2, 1), struct.pack(">HH", 257, 65535)).save(path)
    assert pixels(path) == [[[1, 1, 1], [255, 255, 255]]]


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", np.array([[[10, 20, 30, 0], [40, 50, 60, 255]]], np.uint8))
    assert pixels(path) == [[[10, 20, 30], [40, 50, 60]]]


def test_palette_with_transparency(tmp_path: Path) -> None:
    picture = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=b"\x80\xff")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert pixels(tmp_path / "a.png") == [[[10, 20, 30], [40, 50, 60]]]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    red = np.array(pixels(tmp_path / "a.jpg"))
    assert np.abs(red - RED).max() <= 3  # JPEG


def test_pictures_in_memory() -> None:
    array = np.array([[RED, BLUE]], np.uint8)
    tensor = torch.tensor([[[255, 0]], [[0, 0]], [[0, 255]]], dtype=torch.uint8)
    for picture in (array, tensor, Image.fromarray(array), array[:, ::-1][:, ::-1]):
        assert torch.equal(rgb_tensor(picture), tensor)
    assert rgb_tensor(Image.new("L", (2, 1), 7)).tolist() == [[[7, 7]]] * 3


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (np.zeros((2, 2), np.uint8), "(H, W, 3) uint8 RGB; got (2, 2) uint8. Repeat grey"),
        (np.zeros((2, 2, 1), np.uint8), "got (2, 2, 1) uint8. Repeat grey"),
        (np.zeros((2, 2, 4), np.uint8), "got (2, 2, 4) uint8. Leave out the fourth"),
        (np.zeros((3, 2, 2), np.uint8), "got (3, 2, 2) uint8. Put the channels last"),
        (np.zeros((5, 2, 2, 3), np.uint8), "got (5, 2, 2, 3) uint8. Give several pictures as a list"),
        (np.zeros((2, 2, 7), np.uint8), "got (2, 2, 7) uint8. Convert it"),
        (np.zeros((0, 2, 3), np.uint8), "got (0, 2, 3) uint8. It has no pixels"),
        (np.full((2, 2, 3), np.nan), "got (2, 2, 3) float64. Scale it to 0-255"),
        (np.zeros((2, 2, 3), np.uint16), "got (2, 2, 3) uint16. Scale it to 0-255"),
        (np.zeros((2, 2, 3), bool), "got (2, 2, 3) bool. Scale it to 0-255"),
        (torch.zeros(3, 2, 2), "(3, H, W) uint8 RGB; got (3, 2, 2) torch.float32. Scale it to 0-255"),
        (torch.zeros(2, 2, 3, dtype=torch.uint8), "got (2, 2, 3) torch.uint8. Put them first"),
        (torch.zeros(1, 3, 2, 2, dtype=torch.uint8), "got (1, 3, 2, 2) torch.uint8. Give several pictures as a list"),
        (None, "a tensor (3, H, W) uint8; got NoneType"),
        (b"bytes of a JPEG", "got bytes"),
    ],
)
def test_pictures_in_memory_of_another_form(picture: object, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)):
        rgb_tensor(picture)  # type: ignore[arg-type]


def test_a_pillow_image_without_pixels() -> None:
    with pytest.raises(InputError, match="in memory is 0 x 4: it has no pixels"):
        rgb_tensor(Image.new("RGB", (0, 4)))


def test_a_pillow_image_of_a_file_that_is_cut_short(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    content = save(tmp_path / "cut.png", noise).read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    with Image.open(tmp_path / "cut.png") as picture, pytest.raises(InputError, match=r"cut\.png is broken or cut"):
        rgb_tensor(picture)


def test_an_array_that_must_not_be_written_to_is_read_without_a_warning() -> None:
    array = np.array([[RED, BLUE]], np.uint8)
    array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert rgb_tensor(array).permute(1, 2, 0).tolist() == [[RED, BLUE]]


# What is expected of every format and mode below: blocks of one colour each, as JPEG and WebP blur sharp edges.
COLORS = [[255, 0, 0], [0, 0, 255], [90, 90, 90], [250, 250, 250]]
GREYS = [[7] * 3, [255] * 3, [90] * 3, [0] * 3]
BLOCK = 16


def blocks(values: list) -> np.ndarray:
    """(16, 64) or (16, 64, channels) uint8: one block for each value."""
    return np.repeat(np.repeat(np.array([values], np.uint8), BLOCK, axis=0), BLOCK, axis=1)


def in_mode(mode: str) -> tuple[Image.Image, list]:
    """A picture of four blocks in a mode of Pillow, made from bytes as the mode stores them, and its colours."""
    if mode == "RGB":
        return Image.fromarray(blocks(COLORS)), COLORS
    if mode == "RGBA":  # what is transparent keeps its colour
        return Image.fromarray(
            blocks([[*color, alpha] for color, alpha in zip(COLORS, (0, 9, 99, 255), strict=True)])
        ), COLORS
    if mode == "L":
        return Image.fromarray(blocks([grey[0] for grey in GREYS])), GREYS
    if mode == "LA":
        return Image.fromarray(blocks([[grey[0], 9] for grey in GREYS]), mode="LA"), GREYS
    if mode == "P":
        picture = Image.fromarray(blocks([0, 1, 2, 3]), mode="P")
        picture.putpalette([value for color in COLORS for value in color])
        return picture, COLORS
    if mode == "1":
        return Image.fromarray(blocks([0, 1, 1, 0]).astype(bool)), [[0] * 3, [255] * 3, [255] * 3, [0] * 3]
    if mode == "I;16":
        return Image.fromarray(blocks([grey[0] for grey in GREYS]).astype(np.uint16) * 257), GREYS
    if mode == "I":
        return Image.fromarray(blocks([grey[0] for grey in GREYS]).astype(np.int32) * 257), GREYS
    if mode == "CMYK":  # no ink is white, all of one ink takes its colour away
        inks = [[0, 255, 255, 0], [255, 255, 0, 0], [0, 0, 0, 165], [0, 0, 0, 5]]
        return Image.fromarray(blocks(inks), mode="CMYK"), COLORS
    if mode == "YCbCr":  # ITU-R BT.601 of JFIF: red has the luma 0.299 * 255 = 76, Cr 255.5; blue 29, Cb 255.5
        return Image.fromarray(
            blocks([[76, 85, 255], [29, 255, 107], [90, 128, 128], [250, 128, 128]]), mode="YCbCr"
        ), COLORS
    # CIE L*a*b* at D50, L in 0..255, a and b as signed bytes: red is (54.3, 80.8, 69.9), blue (29.6, 68.3, -112.0)
    assert mode == "LAB"
    stored = [[138, 81, 70], [75, 68, 256 - 112], [97, 0, 0], [251, 0, 0]]  # L* 38.1 of grey 90, 98.3 of 250
    picture = Image.frombytes("LAB", (4 * BLOCK, BLOCK), blocks(stored).tobytes())
    return picture, COLORS


# Steps of 255 by which colours change where they are rounded to bytes in another colour space. In that of LAB, half a
# step of pure blue is 22 steps of its red, of which there is almost none.
TOLERANCE = {"YCbCr": 2, "LAB": 24}
LOSSLESS = {"png": {}, "webp": {"lossless": True, "exact": True}, "tif": {}, "bmp": {}, "gif": {}}


@pytest.mark.parametrize(
    ("suffix", "mode"),
    [
        *[("png", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")],
        *[("tif", mode) for mode in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "CMYK", "YCbCr", "LAB")],
        *[("webp", mode) for mode in ("RGB", "RGBA")],
        *[("bmp", mode) for mode in ("RGB", "L", "P", "1")],
        *[("gif", mode) for mode in ("L", "P")],
    ],
)
def test_every_mode_of_every_format_that_keeps_colours(tmp_path: Path, suffix: str, mode: str) -> None:
    picture, colors = in_mode(mode)
    picture.save(tmp_path / f"a.{suffix}", **LOSSLESS[suffix])
    tolerance = TOLERANCE.get(mode, 0)
    seen = np.array(pixels(tmp_path / f"a.{suffix}"))
    assert seen.shape == (BLOCK, 4 * BLOCK, 3)
    assert np.abs(seen - blocks(colors).astype(int)).max() <= tolerance


@pytest.mark.parametrize(("suffix", "mode"), [("jpg", "RGB"), ("jpg", "L"), ("jpg", "CMYK"), ("webp", "RGB")])
def test_formats_that_lose_a_little(tmp_path: Path, suffix: str, mode: str) -> None:
    picture, colors = in_mode(mode)
    picture.save(tmp_path / f"a.{suffix}", quality=100)
    middles = np.array(pixels(tmp_path / f"a.{suffix}"))[BLOCK // 2, BLOCK // 2 :: BLOCK]
    assert np.abs(middles - colors).max() <= 5


@pytest.mark.parametrize(
    "mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "I", "CMYK", "YCbCr", "LAB", "HSV", "PA", "RGBX", "RGBa", "La"]
)
def test_every_mode_in_memory(mode: str) -> None:
    if mode in ("HSV", "PA", "RGBX", "RGBa"):
        picture, colors = Image.fromarray(blocks(COLORS)), COLORS
        picture = picture.convert("RGBA").convert(mode) if mode in ("PA", "RGBa") else picture.convert(mode)
    elif mode == "La":  # grey times opacity, which is full
        colors = GREYS
        picture = Image.frombytes("La", (4 * BLOCK, BLOCK), blocks([[grey[0], 255] for grey in GREYS]).tobytes())
    else:
        picture, colors = in_mode(mode)
    tolerance = TOLERANCE.get(mode, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen = rgb_tensor(picture).permute(1, 2, 0).numpy().astype(int)
    assert np.abs(seen - blocks(colors).astype(int)).max() <= tolerance


def test_sixteen_bit_colour(tmp_path: Path) -> None:
    """Pillow keeps the upper byte of each channel of a 16-bit PNG; the file is made by hand, as Pillow writes none."""
    row = struct.pack(">6H", 0xFFFF, 0x1234, 0, 0x0A00, 0x8000, 0x80FF)
    content = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    content += png_chunk(b"IDAT", zlib.compress(b"\0" + row)) + png_chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(content)
    assert pixels(tmp_path / "a.png") == [[[255, 0x12, 0], [0x0A, 0x80, 0x80]]]


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jpg"])
@pytest.mark.parametrize("is_decoded", [False, True])
def test_exif_turn_of_files_and_of_pillow_images(tmp_path: Path, suffix: str, is_decoded: bool) -> None:
    """Red over blue, stored lying on its side; TIFF turns itself as it is decoded, the others do not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(blocks([RED, BLUE]))
    stored.save(tmp_path / f"a.{suffix}", exif=exif, **LOSSLESS.get(suffix, {"quality": 100}))
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        if is_decoded:
            picture.load()
        in_memory = rgb_tensor(picture)
    assert torch.equal(in_memory, read_image(tmp_path / f"a.{suffix}"))
    assert in_memory.shape == (3, 2 * BLOCK, BLOCK)
    middles = in_memory[:, BLOCK // 2 :: BLOCK, BLOCK // 2].T.int()
    assert (middles - torch.tensor([RED, BLUE])).abs().max() <= 3  # JPEG


def test_an_upright_copy_is_not_turned_again(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = save(tmp_path / "a.png", np.array([[RED, BLUE]], np.uint8), exif=exif)
    with Image.open(path) as picture:
        upright = ImageOps.exif_transpose(picture)
    assert rgb_tensor(upright).permute(1, 2, 0).tolist() == [[RED], [BLUE]]


@pytest.mark.parametrize("suffix", ["gif", "tif", "png", "webp"])
def test_first_picture_of_several(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(blocks([color])) for color in (RED, BLUE)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], **LOSSLESS[suffix])
    assert pixels(tmp_path / f"a.{suffix}") == blocks([RED]).tolist()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.jpg does not exist"):
        read_image(tmp_path / "nowhere.jpg")


def test_folder_instead_of_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello, this is text", b"\x89PNG\r\n\x1a\n"])
def test_not_a_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"odd\.jpg is not a picture"):
        read_image(tmp_path / "odd.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp", "gif"])
def test_every_cut_of_a_picture_is_an_input_error(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = save(tmp_path / f"whole.{suffix}", noise).read_bytes()
    cut = tmp_path / f"cut.{suffix}"
    for length in range(0, len(whole) - 300, len(whole) // 12):
        cut.write_bytes(whole[:length])
        with pytest.raises(InputError, match=rf"cut\.{suffix}"):
            read_image(cut)


def test_png_that_claims_a_huge_size(tmp_path: Path) -> None:
    for side in (12_000, 100_000):  # Pillow itself only warns of the first
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / f"huge{side}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b""))
        with (
            pytest.raises(InputError, match=rf"huge{side}\.png is too large"),
            warnings.catch_warnings(action="ignore"),
        ):
            read_image(path)


def test_values_of_unknown_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.tif holds floating-point values"):
        read_image(save(tmp_path / "a.tif", np.zeros((2, 2), np.float32)))
    with pytest.raises(InputError, match=r"b\.tif has values from 0 to 70000"):
        read_image(save(tmp_path / "b.tif", np.array([[0, 70000]], np.int32)))


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3)])
def test_written_png_reads_back(tmp_path: Path, shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    write_png(tmp_path / "new folder" / "a.png", array)
    assert (np.asarray(Image.open(tmp_path / "new folder" / "a.png")) == array).all()
    assert [path.name for path in (tmp_path / "new folder").iterdir()] == ["a.png"]


@pytest.mark.parametrize("array", [np.zeros((2, 2)), np.zeros((3, 4, 4), np.uint8), np.zeros(4, np.uint8)])
def test_only_pictures_of_bytes_are_written(tmp_path: Path, array: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8"):
        write_png(tmp_path / "a.png", array)


def test_unwritable_place_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file"):
        write_png(tmp_path / "file" / "a.png", np.zeros((2, 2), np.uint8))


def test_list_images_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", ".hidden.png", "notes.txt", "odd.xyz"):
        (tmp_path / name).write_text("")
    (tmp_path / "inner.png").mkdir()
    assert list_images([tmp_path / "odd.xyz", tmp_path, tmp_path / "a.png"]) == [
        tmp_path / "odd.xyz",
        tmp_path / "a.png",
        tmp_path / "b.JPG",
    ]


def test_list_images_that_finds_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg does not exist"):
        list_images([tmp_path / "gone.jpg"])
    with pytest.raises(InputError, match="holds no pictures"):
        list_images([tmp_path])
    with pytest.raises(InputError, match="no pictures were named"):
        list_images([])
