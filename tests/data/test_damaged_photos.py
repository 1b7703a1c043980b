"""Damaged and hostile photos: a picture or one sentence, no other program is started, and nothing waits."""

import ast
import io
import os
import random
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet.data import images
from tascnet.data.images import FORMATS, list_images, open_annotation, read_image
from tascnet.data.read_ahead import read_ahead
from tascnet.errors import InputError

SOURCES = Path(images.__file__).parents[1]
PIXELS = np.random.default_rng(0).integers(0, 256, (21, 30, 4)).astype(np.uint8)


def encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def seeds() -> list[bytes]:
    """A small picture in the formats and modes that people have."""
    colour = Image.fromarray(PIXELS[..., :3])
    found = [encoded(colour.convert(mode), "PNG") for mode in ("1", "L", "P", "LA", "RGB", "RGBA")]
    found += [encoded(colour.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")]
    found += [encoded(colour.convert(mode), "TIFF") for mode in ("1", "L", "P", "RGB", "CMYK")]
    found += [encoded(colour, "JPEG", progressive=flag) for flag in (True, False)]
    found += [encoded(colour, "WEBP", lossless=flag) for flag in (True, False)]
    found += [encoded(colour.convert("P"), "GIF"), encoded(colour, "PPM"), encoded(colour.convert("CMYK"), "JPEG")]
    return [*found, encoded(colour, "MPO", save_all=True, append_images=[colour])]


def damaged(content: bytes, dice: random.Random) -> bytes:
    """The content with flipped bits, cut, with wrong numbers in its header, or with another header."""
    changed, kind = bytearray(content), dice.randrange(5)
    place = dice.randrange(len(changed))
    if kind == 0:
        return content[:place]
    if kind == 1:
        for _ in range(dice.choice([1, 8])):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    elif kind == 2:
        place = dice.randrange(min(90, len(changed)))
        changed[place : place + 4] = dice.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\0\0\xff\xff"])
    elif kind == 3:
        del changed[place : place + dice.randrange(1, 40)]
    else:
        changed[: dice.randrange(1, 50)] = dice.choice(seeds())[: dice.randrange(1, 50)]
    return bytes(changed)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_whatever_is_damaged_is_a_picture_or_one_sentence(tmp_path: Path) -> None:
    dice, undamaged, refused = random.Random(7), seeds(), 0
    path = tmp_path / "photo.bin"
    for content in undamaged:
        path.write_bytes(content)
        assert read_image(path).shape == (3, 21, 30)
    for _ in range(400):
        path.write_bytes(damaged(dice.choice(undamaged), dice))
        (outcome,) = read_ahead([path], 1)
        if isinstance(outcome, InputError):
            refused += 1
            assert str(path) in str(outcome)
            assert "\n" not in str(outcome)
            assert len(str(outcome)) < 400 + len(str(path))
        else:
            assert outcome.dtype == torch.uint8
            assert outcome.numel()
    assert refused > 100


@pytest.mark.parametrize(
    "error",
    [
        SystemError("x"),
        RuntimeError(),
        AttributeError("a\nb"),
        OverflowError("y"),
        ZeroDivisionError(),
        struct.error("z"),
    ],
)
def test_any_exception_of_a_decoder_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (3, 2)).save(path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(InputError, match=r"a\.png is broken or cut short \(.+\)\. Copy or download it again\.$"):
        read_image(path)


@pytest.mark.parametrize("error", [MemoryError(), OSError(12, "Cannot allocate memory")])
def test_no_memory_is_not_called_a_broken_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.png"
    Image.new("L", (3, 2)).save(path)

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", fail)
    with pytest.raises(InputError, match=r"memory ran out while picture .*a\.png was decoded"):
        read_image(path)


@pytest.mark.parametrize("name", ["photo.jpg", "photo.eps", "photo.png"])
@pytest.mark.parametrize("read", [read_image, open_annotation])
def test_postscript_starts_no_other_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, read: object
) -> None:
    called = tmp_path / "called"
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\necho started >> {called}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    path = tmp_path / name
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(InputError, match="is not a picture that can be read"):
        read(path)  # type: ignore[operator]
    assert not called.exists()


@pytest.mark.parametrize("form", ["TGA", "PCX", "SGI", "ICO", "DDS", "PDF", "EPS", "IM", "SPIDER"])
def test_formats_that_are_not_on_the_list(tmp_path: Path, form: str) -> None:
    assert form not in FORMATS
    path = tmp_path / "a.png"
    path.write_bytes(encoded(Image.new("F" if form == "SPIDER" else "RGB", (16, 16)), form))
    with pytest.raises(InputError, match="is not a picture that can be read"):
        read_image(path)


def test_pictures_are_opened_in_one_place() -> None:
    """A second `Image.open` would have a list of formats of its own, or none."""
    calls = [
        path.name
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("Image.open", "PIL.Image.open", "imread", "decode_image")
    ]
    assert calls == ["images.py"]


class TestSpecialFiles:
    def make(self, folder: Path, kind: str) -> Path:
        path = folder / "a.png"
        if kind == "pipe":
            os.mkfifo(path)
        else:
            path.symlink_to({"device": "/dev/zero", "dangling": folder / "none", "loop": path}[kind])
        return path

    @pytest.mark.parametrize(
        ("kind", "words"),
        [
            ("pipe", "is a named pipe; a file was expected"),
            ("device", "is a device; a file was expected"),
            ("dangling", "does not exist"),
            ("loop", "cannot be read: Too many levels of symbolic links"),
        ],
    )
    def test_is_refused_and_nothing_waits(self, tmp_path: Path, kind: str, words: str):
        path = self.make(tmp_path, kind)
        assert list_images([tmp_path]) == list_images([path]) == [path]  # not left out in silence
        with pytest.raises(InputError, match=words):
            read_image(path)
        (outcome,) = read_ahead([path], 1)
        assert isinstance(outcome, InputError)

    def test_a_name_that_is_too_long_and_a_folder_that_may_not_be_read(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        with pytest.raises(InputError, match=r"cannot be looked at: File name too long"):
            list_images([tmp_path / ("a" * 300 + ".png")])

        def refuse(folder: Path) -> None:
            raise PermissionError(13, "Permission denied", str(folder))

        monkeypatch.setattr(Path, "iterdir", refuse)  # root may read all folders
        with pytest.raises(InputError, match=r"cannot be looked at: Permission denied"):
            list_images([tmp_path])

    def test_a_name_that_no_file_can_have(self):
        with pytest.raises(InputError, match=r"'a\\x00\.png' holds a null character"):
            read_image("a\0.png")


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


class TestSizes:
    def png(self, width: int, height: int, *chunks: bytes) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
        data = chunk(b"IDAT", zlib.compress(bytes(4)))
        return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + data + chunk(b"IEND", b"")

    def test_no_pixels(self, tmp_path: Path):
        for width, height in ((0, 4), (4, 0), (0, 0)):
            path = tmp_path / "a.png"
            path.write_bytes(self.png(width, height))
            with pytest.raises(InputError, match=r"a\.png"):
                read_image(path)

    def test_text_that_swells(self, tmp_path: Path):
        path = tmp_path / "a.png"
        path.write_bytes(self.png(1, 1, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(50_000_000)))))
        with pytest.raises(InputError, match="holds too much compressed text"):
            read_image(path)

    def test_an_uncompressed_tiff_without_its_last_rows_is_not_black_there(self, tmp_path: Path):
        path = tmp_path / "a.tif"
        content = bytearray(encoded(Image.fromarray(PIXELS[..., 0]), "TIFF"))
        entry = content.index(struct.pack("<HHI", 257, 4, 1))  # the tag ImageLength, one LONG
        content[entry + 8 : entry + 12] = struct.pack("<I", 2_000_000)
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.tif is broken or cut short"):
            read_image(path)

    def test_sixteen_bits_equal_the_rounded_quotient(self, tmp_path: Path):
        values = np.arange(0x10000, dtype=np.uint16).reshape(256, 256)
        Image.fromarray(values).save(tmp_path / "a.png")
        expected = np.floor(values / 257 + 0.5).astype(np.uint8)
        assert np.array_equal(read_image(tmp_path / "a.png")[0].numpy(), expected)


def test_a_reader_that_clears_a_generator_away_does_not_wait_for_itself(tmp_path: Path) -> None:
    """The garbage collector runs in any thread; it closes a generator that somebody left."""
    Image.new("L", (3, 2)).save(tmp_path / "a.png")
    left = [read_ahead([tmp_path / "a.png"] * 5, 1)]
    closed_by: list[str] = []
    errors: list[BaseException] = []

    def close_here(path: Path) -> torch.Tensor:
        if left and threading.current_thread() is not threading.main_thread() and started.is_set():
            generator = left.pop()
            try:
                generator.close()
            except BaseException as error:
                errors.append(error)
            closed_by.append(threading.current_thread().name)
        return read_image(path)

    started = threading.Event()
    next(left[0])
    started.set()
    assert len(list(read_ahead([tmp_path / "a.png"] * 3, 1, close_here))) == 3
    assert closed_by[0].startswith("read_ahead")
    assert errors == []


def png(width: int, height: int, rows: bytes, interlaced: bool = False, deflated: bytes | None = None) -> bytes:
    """A grey PNG of 8 bits with right checksums of its chunks."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, int(interlaced))
    stream = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", deflated or zlib.compress(rows)), (b"IEND", b"")):
        stream += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return stream


def rows_of(pixels: np.ndarray) -> bytes:
    return b"".join(b"\0" + row.tobytes() for row in pixels)


def interlaced_rows_of(pixels: np.ndarray) -> list[bytes]:
    """The seven passes of the PNG specification, chapter 8."""
    passes = []
    for pattern in ("1", "2", "3", "4", "5", "6", "7"):
        grid = [
            "16462646",
            "77777777",
            "56565656",
            "77777777",
            "36463646",
            "77777777",
            "56565656",
            "77777777",
        ]
        rows = [
            bytes(pixels[y, x] for x in range(pixels.shape[1]) if grid[y % 8][x % 8] == pattern)
            for y in range(pixels.shape[0])
        ]
        passes.append(b"".join(b"\0" + row for row in rows if row))
    return passes


READERS = pytest.mark.parametrize("read", [read_image, open_annotation])


class TestDataOfPngs:
    """Pillow leaves black what it cannot decode, and in some cases says so only once, or not at all."""

    @pytest.fixture
    def pixels(self) -> np.ndarray:
        return np.random.default_rng(1).integers(1, 256, (33, 21)).astype(np.uint8)

    def refused(self, path: Path, content: bytes, read) -> None:
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"a\.png is broken or cut short"):
            read(path)

    @READERS
    @pytest.mark.parametrize("missing", [1, 2, 32])
    def test_rows_that_are_missing(self, tmp_path: Path, pixels: np.ndarray, missing: int, read):
        self.refused(tmp_path / "a.png", png(21, 33, rows_of(pixels[:-missing])), read)

    @READERS
    @pytest.mark.parametrize("number", [0, 3, 6])
    def test_passes_that_are_missing(self, tmp_path: Path, pixels: np.ndarray, number: int, read):
        self.refused(tmp_path / "a.png", png(21, 33, b"".join(interlaced_rows_of(pixels)[:number]), True), read)

    @READERS
    def test_a_bit_of_the_pixels(self, tmp_path: Path, pixels: np.ndarray, read):
        deflated = zlib.compress(rows_of(pixels))
        for place in range(2, len(deflated), 97):
            changed = bytearray(deflated)
            changed[place] ^= 4
            self.refused(tmp_path / "a.png", png(21, 33, b"", deflated=bytes(changed)), read)

    @READERS
    @pytest.mark.parametrize("interlaced", [False, True])
    @pytest.mark.parametrize("black_rows", [0, 1, 33])
    def test_black_rows_that_are_there(self, tmp_path: Path, pixels, interlaced: bool, black_rows: int, read):
        pixels[33 - black_rows :] = 0
        rows = b"".join(interlaced_rows_of(pixels)) if interlaced else rows_of(pixels)
        (tmp_path / "a.png").write_bytes(png(21, 33, rows, interlaced))
        found = read(tmp_path / "a.png")
        found = found[0].numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
        assert np.array_equal(found, pixels)

    @pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
    @pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 8), (1, 70), (70, 1)])
    def test_black_in_every_mode(self, tmp_path: Path, mode: str, size: tuple[int, int]):
        Image.new(mode, size).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").shape == (3, size[1], size[0])
