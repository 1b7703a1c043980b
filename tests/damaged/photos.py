"""Photos for `predict` and `triage`: those that cannot be read are named and skipped, odd ones are read as they are."""

import io
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from .byte_damage import BROKEN_INSIDE, NO_FILE, NO_FILE_OF_ITS_KIND, Damage, flipped, rewrite
from .cases import PROBLEMS, Case, Check, Outcome, Place, either, refused, works

GROUP = "photos"


def cases() -> Iterator[Case]:
    yield from _unreadable()
    yield from _flipped()
    yield from _odd()
    yield from _file_names()
    yield from _lists_of_photos()


# Photos that cannot be read


def _unreadable() -> Iterator[Case]:
    """One bad photo beside a good one: the good one is segmented, the bad one named, the exit code is 1."""
    for name, write in {**_no_pictures(), **_HEADERS}.items():
        yield _skipped("predict", name, write)
    for name in ("cut at a half", "a named pipe", "noise", "PostScript", "PDF", "empty", "missing"):
        yield _skipped("triage", name, {**_no_pictures(), **_HEADERS}[name])
    for name in ("cut at a half", "PostScript", "a folder", "noise"):
        write = {**_no_pictures(), **_HEADERS}[name]
        yield Case(GROUP, f"predict, alone: {name}", _alone(write), refused("bad.png", codes=(1, 2)))


def _no_pictures() -> dict[str, Callable[[Path, Random], object]]:
    """What is written to bad.png, which is a sound PNG before."""
    writers: dict[str, Callable[[Path, Random], object]] = {}
    for name, damage in NO_FILE_OF_ITS_KIND.items():
        writers[name] = lambda path, random, damage=damage: rewrite(path, damage, random)
    for name, put in NO_FILE.items():
        writers[name] = lambda path, random, put=put: put(path)
    for suffix in ("jpeg", "webp", "tiff", "bmp", "gif", "ppm"):
        writers[f"{suffix} cut at a half"] = lambda path, random, suffix=suffix: path.write_bytes(
            _encoded(Image.open(path), suffix)[: len(_encoded(Image.open(path), suffix)) // 2]
        )
    return writers


def _skipped(verb: str, name: str, write: Callable[[Path, Random], object]) -> Case:
    def prepare(place: Place) -> list[object]:
        photos = place.copy("photos")
        bad = photos / "bad.png"
        bad.write_bytes((photos / "good.png").read_bytes())
        write(bad, place.random)
        return [verb, place.world / "run", photos / "good.png", bad, "--output", "out"]

    missing = name in ("missing", "a dangling link", "a link to itself", "a folder")
    if missing:  # a path that does not exist may stop the command before it begins
        return Case(GROUP, f"{verb}: {name}", prepare, either(_good_one_and_bad_named(verb), "bad.png", codes=(1, 2)))
    wanted = works(_good_one_and_bad_named(verb), code=PROBLEMS)
    return Case(GROUP, f"{verb}: {name}", prepare, wanted, seconds=5, megabytes=500)


def _alone(write: Callable[[Path, Random], object]) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        bad = place.copy("photos/good.png", "bad.png")
        write(bad, place.random)
        return ["predict", place.world / "run", bad, "--output", "out"]

    return prepare


def _good_one_and_bad_named(verb: str) -> Check:
    def check(outcome: Outcome) -> str:
        if "bad.png" not in outcome.out + outcome.err:
            return "the bad photo is not named"
        if verb == "triage":
            triage = json.loads((outcome.folder / "out" / "triage.json").read_text())
            return "" if "good.png" in json.dumps(triage) else "the good photo is not ranked"
        return _same_as_expected(outcome, "good", "predicted/panoptic/good.png")

    return check


def _same_as_expected(outcome: Outcome, name: str, expected: str) -> str:
    """The map of a photo is in the results, and is that of another file."""
    content = json.loads((outcome.folder / "out" / "panoptic.json").read_text())
    if f"{name}.png" not in [entry["file_name"] for entry in content["annotations"]]:
        return f"{name} is not in panoptic.json"
    found = _pixels(outcome.folder / "out" / "panoptic" / f"{name}.png")
    wanted = _pixels(outcome.world / "expected" / expected)
    return "" if np.array_equal(found, wanted) else f"the map of {name} differs"


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of chunks with right checksums."""
    stream = b"\x89PNG\r\n\x1a\n"
    for kind, content in chunks:
        stream += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return stream


def _ihdr(width: int, height: int, depth: int = 8, color: int = 2) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)


def _tiff(entries: list[tuple[int, int, int, int]], next_offset: int = 0) -> bytes:
    """A TIFF of one directory; entries are tag, type, count, value."""
    stream = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, count, value in entries:
        stream += struct.pack("<HHII", tag, kind, count, value)
    return stream + struct.pack("<I", next_offset)


_IDAT = (b"IDAT", zlib.compress(bytes(4 * 13)))
_IEND = (b"IEND", b"")
_TIFF_TAGS = [(256, 4, 1, 16), (257, 4, 1, 16), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
_POSTSCRIPT = (
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n(../canary) (w) file closefile\nshowpage\n"
)
_DOS_HEADER = b"\xc5\xd0\xd3\xc6" + struct.pack("<6IH", 30, len(_POSTSCRIPT), 0, 0, 0, 0, 0xFFFF)

_FILES: Mapping[str, bytes] = {
    "PostScript": _POSTSCRIPT,
    "PostScript behind a DOS header": _DOS_HEADER + _POSTSCRIPT,
    "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'><rect width='9' height='9'/></svg>",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200),
    "a video": b"\0\0\0\x20ftypisom\0\0\x02\0isomiso2avc1mp41" + bytes(200),
    "PNG without pixels": _png([_ihdr(4, 4), _IEND]),
    "PNG of width 0": _png([_ihdr(0, 4), _IDAT, _IEND]),
    "PNG of another pixel type": _png([_ihdr(4, 4, 7, 5), _IDAT, _IEND]),
    "PNG that claims 100,000 x 100,000": _png([_ihdr(100_000, 100_000), _IDAT, _IEND]),
    "PNG that claims 2^31 - 1": _png([_ihdr(2**31 - 1, 2**31 - 1), _IDAT, _IEND]),
    "PNG of too few rows": _png([_ihdr(4, 400), _IDAT, _IEND]),
    "PNG of a wrong checksum": _png([_ihdr(4, 4), _IDAT, _IEND]).replace(b"IDAT", b"IDAT\x79"),
    "JPEG without tables": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0\xff\xd9",
    "JPEG of height 0": b"\xff\xd8\xff\xc0\0\x0b\x08\0\0\0\x10\x01\x01\x11\0\xff\xd9",
    "GIF without a frame": b"GIF89a\x10\0\x10\0\0\0\0;",
    "TIFF with data far outside": _tiff([*_TIFF_TAGS, (273, 4, 1, 2**31 - 1), (278, 4, 1, 16), (279, 4, 1, 256)]),
    "TIFF with a circle of directories": _tiff([*_TIFF_TAGS, (273, 4, 1, 8)], next_offset=8),
    "TIFF with 2^32 - 1 strips": _tiff([*_TIFF_TAGS, (273, 4, 2**32 - 1, 8), (279, 4, 2**32 - 1, 8)]),
    "TIFF that claims 60,000 x 60,000": _tiff([(256, 4, 1, 60_000), (257, 4, 1, 60_000), *_TIFF_TAGS[2:]]),
    "PPM that claims 10^9 rows": b"P6 10 1000000000 255\n" + bytes(30),
    "PPM of text": b"P6 ten ten 255\n" + bytes(300),
    "BMP of a negative width": b"BM"
    + struct.pack("<IIIIiiHHIIiiII", 66, 0, 54, 40, -4, 4, 1, 24, 0, 12, 0, 0, 0, 0)
    + bytes(12),
    "WMF": b"\xd7\xcd\xc6\x9a\0\0" + bytes(60),
    "FITS": b"SIMPLE  =                    T" + b" " * 2850,
    "ICNS of claimed length 2^31": b"icns\x7f\xff\xff\xffic07" + bytes(20),
    "text": "a photo of a dog\n".encode("utf-16"),
}


def _floats(path: Path, random: Random) -> None:
    Image.fromarray(np.full((16, 16), 0.5, np.float32)).save(path, format="TIFF")


def _bomb(path: Path, random: Random) -> None:
    """144 million grey pixels of zeros, more than the limit, in a real PNG of 140 kB."""
    packer = zlib.compressobj(9)
    row = bytes(1 + 12_000)
    data = b"".join(packer.compress(row) for _ in range(12_000)) + packer.flush()
    path.write_bytes(_png([_ihdr(12_000, 12_000, 8, 0), (b"IDAT", data), _IEND]))


def _sparse(path: Path, random: Random) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff\xd8\xff\xe0")
        file.truncate(8 * 2**30)


def _unreadable_pixel_chunks(path: Path, random: Random) -> None:
    """A flipped bit in the pixels of a PNG, which its checksum tells."""
    content = bytearray(path.read_bytes())
    start = content.index(b"IDAT")
    content[start + random.randrange(20, 900)] ^= 1 << random.randrange(8)
    path.write_bytes(content)


_HEADERS: Mapping[str, Callable[[Path, Random], object]] = {
    **{name: lambda path, random, content=content: path.write_bytes(content) for name, content in _FILES.items()},
    "floating-point numbers": _floats,
    "12,000 x 12,000 pixels in 140 kB": _bomb,
    "8 GB of a hole": _sparse,
    **{f"PNG, a bit of the pixels flipped, {number}": _unreadable_pixel_chunks for number in range(4)},
}


# Photos with flipped bits


def _flipped() -> Iterator[Case]:
    """Formats without a checksum may be read as another photo, but end in no traceback; a PNG has one."""
    for suffix in ("jpeg", "webp", "tiff", "bmp", "gif", "ppm"):
        for number, damage in enumerate((flipped(1), flipped(30), flipped(30, 0.5), BROKEN_INSIDE["middle removed"])):
            wanted = either(lambda outcome: "", "bad.png", codes=(1, 2))
            yield Case(GROUP, f"predict: {suffix} damaged, {number}", _encoded_and_damaged(suffix, damage), wanted)


def _encoded_and_damaged(suffix: str, damage: Damage) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        bad = place.copy("photos/good.png", "bad.png")
        bad.write_bytes(damage(_encoded(Image.open(bad), suffix), place.random))
        return ["predict", place.world / "run", bad, "--output", "out"]

    return prepare


def _encoded(picture: Image.Image, suffix: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=suffix, **options)
    return stream.getvalue()


# Odd photos that are sound


def _odd() -> Iterator[Case]:
    """An odd photo and a plain PNG of the pixels that are to be seen give the same map."""
    for name, write in _ODD.items():
        yield Case(GROUP, f"predict: sound, {name}", _odd_and_plain(write), works(_same_maps))


def _odd_and_plain(write: Callable[[Path, Image.Image], Image.Image]) -> Callable[[Place], list[object]]:
    """`write` saves the odd file and returns what is to be seen."""

    def prepare(place: Place) -> list[object]:
        odd, plain = place.folder / "odd", place.folder / "plain.png"
        with Image.open(place.world / "photos" / "good.png") as picture:
            write(odd, picture.convert("RGB")).save(plain)
        return ["predict", place.world / "run", odd, plain, "--output", "out"]

    return prepare


def _same_maps(outcome: Outcome) -> str:
    odd, plain = (_pixels(outcome.folder / "out" / "panoptic" / f"{name}.png") for name in ("odd", "plain"))
    if odd.shape != plain.shape:
        return f"a map of {odd.shape[:2]}, not {plain.shape[:2]}"
    return "" if np.array_equal(odd, plain) else f"{(odd != plain).any(axis=2).sum()} pixels of the map differ"


def _saved(path: Path, picture: Image.Image, suffix: str, **options: object) -> Image.Image:
    """Save; return what a plain decoder sees."""
    path.write_bytes(_encoded(picture, suffix, **options))
    with Image.open(path) as read:
        return read.convert("RGB")


_TURNED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _with_exif(orientation: int, suffix: str) -> Callable[[Path, Image.Image], Image.Image]:
    def write(path: Path, picture: Image.Image) -> Image.Image:
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored = _saved(path, picture, suffix, exif=exif, **({"quality": 95} if suffix == "jpeg" else {}))
        return stored.transpose(_TURNED[orientation]) if orientation in _TURNED else stored

    return write


def _with_broken_exif(path: Path, picture: Image.Image) -> Image.Image:
    return _saved(path, picture, "jpeg", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(9))


def _sixteen_bit(path: Path, picture: Image.Image) -> Image.Image:
    grey = np.asarray(picture.convert("L"))
    path.write_bytes(_encoded(Image.fromarray(grey.astype(np.uint16) * 257), "png"))
    return Image.fromarray(grey).convert("RGB")


def _animated(suffix: str) -> Callable[[Path, Image.Image], Image.Image]:
    def write(path: Path, picture: Image.Image) -> Image.Image:
        other = Image.new("RGB", picture.size, (200, 10, 10))
        lossless = {"lossless": True} if suffix == "webp" else {}
        return _saved(path, picture, suffix, save_all=True, append_images=[other, other], **lossless)

    return write


def _transparent(path: Path, picture: Image.Image) -> Image.Image:
    """Colours are kept where they cannot be seen."""
    layered = picture.copy()
    layered.putalpha(0)
    path.write_bytes(_encoded(layered, "png"))
    return picture


def _trailing(path: Path, picture: Image.Image) -> Image.Image:
    path.write_bytes(_encoded(picture, "png") + b"appended by a camera" * 50)
    return picture


_ODD: Mapping[str, Callable[[Path, Image.Image], Image.Image]] = {
    **{f"EXIF turn {turn} in a JPEG": _with_exif(turn, "jpeg") for turn in range(1, 9)},
    **{f"EXIF turn {turn} in a PNG": _with_exif(turn, "png") for turn in (3, 6)},
    "EXIF turn 0": _with_exif(0, "jpeg"),
    "EXIF turn 200": _with_exif(200, "jpeg"),
    "EXIF that is broken": _with_broken_exif,
    "CMYK JPEG": lambda path, picture: _saved(path, picture.convert("CMYK"), "jpeg", quality=95),
    "grey JPEG": lambda path, picture: _saved(path, picture.convert("L"), "jpeg"),
    "progressive JPEG": lambda path, picture: _saved(path, picture, "jpeg", progressive=True),
    "MPO of two pictures": lambda path, picture: _saved(
        path, picture, "mpo", save_all=True, append_images=[Image.new("RGB", picture.size)]
    ),
    "one bit": lambda path, picture: _saved(path, picture.convert("1"), "png"),
    "palette": lambda path, picture: _saved(path, picture.quantize(16), "png"),
    "palette with transparency": lambda path, picture: _saved(path, picture.quantize(16), "png", transparency=3),
    "grey and alpha": lambda path, picture: _saved(path, picture.convert("LA"), "png"),
    "transparent": _transparent,
    "16 bits": _sixteen_bit,
    "animated GIF": _animated("gif"),
    "animated PNG": _animated("png"),
    "animated WebP": _animated("webp"),
    "LZW TIFF": lambda path, picture: _saved(path, picture, "tiff", compression="tiff_lzw"),
    "BMP": lambda path, picture: _saved(path, picture, "bmp"),
    "text behind the end": _trailing,
    "1 x 1": lambda path, picture: _saved(path, picture.crop((0, 0, 1, 1)), "png"),
    "1 x 300": lambda path, picture: _saved(path, picture.resize((300, 1)), "png"),
    "300 x 1": lambda path, picture: _saved(path, picture.resize((1, 300)), "png"),
    "3000 x 33": lambda path, picture: _saved(path, picture.resize((33, 3000)), "png"),
    "65 x 130": lambda path, picture: _saved(path, picture.resize((130, 65)), "png"),
}


# Names of files


def _file_names() -> Iterator[Case]:
    """Any name that the file system allows works, or is refused in a sentence without raw control codes."""
    names: Mapping[str, bytes] = {
        "spaces": b"a photo .png",
        "a leading dash": b"-x.png",
        "markup of the console": b"[bold]x[/nothing].png",
        "a line feed": b"a\nb.png",
        "control codes": b"\x1b[31mred\x07.png",
        "no UTF-8": b"caf\xe9.png",
        "composed letters": "e\u0301.png".encode(),
        "emoji": "\N{GRINNING FACE}.png".encode(),
        "right to left": "\u202egnp.x.png".encode(),
        "250 bytes": b"n" * 246 + b".png",
        "two dots": b"..x...png",
        "backslashes": b"a\\b\\..\\c.png",
        "a percent sign": b"%s%n{0}.png",
    }
    for verb in ("predict", "triage"):
        for name, raw in names.items():
            wanted = either(_result_of_one_photo(verb))
            yield Case(GROUP, f"{verb}: a name with {name}", _named(verb, raw), wanted)


def _named(verb: str, raw: bytes) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        (place.folder / "p").mkdir()
        place.copy("photos/good.png", f"p/{os.fsdecode(raw)}")
        return [verb, place.world / "run", "p", "--output", "out"]

    return prepare


def _result_of_one_photo(verb: str) -> Check:
    def check(outcome: Outcome) -> str:
        name, key = ("panoptic.json", "annotations") if verb == "predict" else ("triage.json", "photos")
        content = json.loads((outcome.folder / "out" / name).read_text())
        number = len(content[key]) if key in content else len(content)
        pictures = list((outcome.folder / "out").glob("panoptic/**/*.png")) if verb == "predict" else [None]
        return "" if number >= 1 and len(pictures) == 1 else f"{number} results and {len(pictures)} PNGs for one photo"

    return check


# Which photos, and their ids


def _lists_of_photos() -> Iterator[Case]:
    def folder_without(place: Place) -> list[object]:
        (place.folder / "empty").mkdir()
        return ["predict", place.world / "run", "empty", "--output", "out"]

    def same_stem(place: Place) -> list[object]:
        for folder in ("a", "b"):
            place.copy("photos/good.png", f"{folder}/x.png")
        return ["predict", place.world / "run", "a", "b", "--output", "out"]

    def output_is_a_file(place: Place) -> list[object]:
        (place.folder / "out").write_text("mine")
        return ["predict", place.world / "run", place.world / "photos", "--output", "out"]

    yield Case(GROUP, "predict: a folder without photos", folder_without, refused("empty"))
    yield Case(GROUP, "predict: two photos of one name", same_stem, either(_two_results))
    yield Case(GROUP, "predict: the output is a file", output_is_a_file, refused("out", absent=["out/*"]))
    for name, content in _IMAGE_INFO.items():
        wanted = refused("info.json", absent=["out/panoptic.json"])
        yield Case(GROUP, f"predict: image_info {name}", _image_info(content), wanted)
    yield Case(GROUP, "predict: image_info sound", _image_info([_GOOD]), works(_id_is(7)))
    turned = [_GOOD | {"height": 128, "width": 64}]
    yield Case(GROUP, "predict: image_info of another size", _image_info(turned), refused("good.png", codes=(1, 2)))
    two = [_GOOD | {"file_name": "a/good.png"}, _GOOD | {"file_name": "b/good.png", "id": 8}]
    yield Case(GROUP, "predict: image_info with one name twice", _image_info(two), refused("good.png", codes=(1, 2)))


_GOOD = {"id": 7, "file_name": "good.png", "height": 64, "width": 128}
_IMAGE_INFO: Mapping[str, object] = {
    "that is empty": [],
    "with an id twice": [_GOOD, _GOOD | {"file_name": "other.png"}],
    "with a file under two ids": [_GOOD, _GOOD | {"id": 8}],
    "with an id that is a list": [_GOOD | {"id": [7]}],
    "with an id that is no number": [_GOOD | {"id": float("nan")}],
    "without file names": [{"id": 7}],
    "with a file name that is a number": [_GOOD | {"file_name": 7}],
    "of other photos": [_GOOD | {"file_name": "else.png"}],
    "whose images are a text": "good.png",
    "whose images are nothing": None,
}


def _image_info(images: object) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        (place.folder / "info.json").write_text(json.dumps({"images": images}))
        photos = place.world / "photos"
        return ["predict", place.world / "run", photos, "--image_info", "info.json", "--output", "out"]

    return prepare


def _id_is(wanted: int) -> Check:
    def check(outcome: Outcome) -> str:
        content = json.loads((outcome.folder / "out" / "panoptic.json").read_text())
        found = [entry["image_id"] for entry in content["annotations"]]
        return "" if found == [wanted] else f"image ids {found}"

    return check


def _two_results(outcome: Outcome) -> str:
    content = json.loads((outcome.folder / "out" / "panoptic.json").read_text())
    files = {entry["file_name"] for entry in content["annotations"]}
    return "" if len(files) == 2 else f"results {files}"
