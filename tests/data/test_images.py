import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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


def test_first_picture_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 1), color) for color in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.gif") == [[RED, RED]]


def test_pictures_in_memory() -> None:
    array = np.array([[RED, BLUE]], np.uint8)
    tensor = torch.tensor([[[255, 0]], [[0, 0]], [[0, 255]]], dtype=torch.uint8)
    for picture in (array, tensor, Image.fromarray(array), array[:, ::-1][:, ::-1]):
        assert torch.equal(rgb_tensor(picture), tensor)
    assert rgb_tensor(Image.new("L", (2, 1), 7)).tolist() == [[[7, 7]]] * 3


@pytest.mark.parametrize(
    "picture",
    [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 3)), np.zeros((3, 2, 2), np.uint8), torch.zeros(3, 2, 2)],
)
def test_pictures_in_memory_of_another_form(picture: np.ndarray | torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"a picture is .* uint8 RGB; got"):
        rgb_tensor(picture)


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
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    for side in (12_000, 100_000):  # Pillow itself only warns of the first
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / f"huge{side}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
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
