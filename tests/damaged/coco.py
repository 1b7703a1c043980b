"""COCO panoptic JSON and PNG, for `data check`, `stats`, `convert`, `metrics` and `evaluate`."""

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from .byte_damage import BROKEN_INSIDE, NO_FILE, NO_FILE_OF_ITS_KIND, flipped, rewrite
from .cases import BAD_INPUT, PROBLEMS, Case, Check, Outcome, Place, Wanted, either, refused, works

GROUP = "coco"
JSON = Path("annotations/panoptic_val.json")
Content = dict[str, Any]
Change = Callable[[Content], object]


def cases() -> Iterator[Case]:
    yield from _changed_content()
    yield from _harmless_content()
    yield from _damaged_files()
    yield from _texts()
    yield from _damaged_maps()
    yield from _predictions()


# Commands that read a data set


def command(verb: str, place: Place, root: Path) -> list[object]:
    """The arguments with which a verb reads the data set."""
    truth = place.world / "coco" / JSON
    return {
        "check": ["data", "check", root],
        "stats": ["data", "stats", root, "--output", "stats.json"],
        "convert": ["data", "convert", root, "--output", "out"],
        "metrics": ["metrics", truth, root / JSON, "--output", "out"],
        "predictions": ["metrics", root / JSON, truth, "--output", "out"],
        "evaluate": _evaluate(place, root),
        "train": ["train", "--config", place.world / "config.yaml", "--output", "out", *_dataset("train", root)],
    }[verb]


def _evaluate(place: Place, root: Path) -> list[object]:
    values = ["--data.format", "coco", "--data.root", root, "--data.split", "val", "--data.num_images", 0]
    return ["evaluate", place.world / "run", *values, "--output", "out"]


def _dataset(name: str, root: Path) -> list[object]:
    values = {"format": "coco", "root": root, "split": "val", "num_images": 0}
    return [part for key, value in values.items() for part in (f"--data.{name}.{key}", value)]


def refusal(verb: str, *words: str, split: str = "val") -> Wanted:
    """Verbs that read many images may leave out the bad ones, name them, and have the exit code 1; `check` lists all.

    Where a verb stops, no result of the split is left. Training stops: its default is to fail.
    """
    codes = (BAD_INPUT,) if verb == "train" else (PROBLEMS, BAD_INPUT)
    return refused(
        *words, codes=codes, absent=(f"out/annotations/panoptic_{split}.json", "out/report.json", "stats.json")
    )


def same_numbers(name: str) -> Check:
    """The same statistics as of the sound data set."""

    def check(outcome: Outcome) -> str:
        found, wanted = (
            json.loads(path.read_text())
            for path in (outcome.folder / "stats.json", outcome.world / "expected" / f"{name}.json")
        )
        for content in (found, wanted):
            content.pop("source", None)
            content.pop("path", None)
        differing = [key for key in wanted if found.get(key) != wanted[key]]
        return f"other statistics: {', '.join(differing)}" if differing else ""

    return check


def _damaged_json(verb: str, change: Change) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        root = place.copy("coco")
        content = json.loads((root / JSON).read_text())
        change(content)
        (root / JSON).write_text(json.dumps(content))
        return command(verb, place, root)

    return prepare


# Values of the JSON file


def _changed_content() -> Iterator[Case]:
    for number, (name, change) in enumerate(CHANGES.items()):
        by_pixels = "area" in name or "changed places" in name
        for verb in ("check", "convert" if by_pixels or number % 2 == 0 else "metrics"):
            wanted = refusal(verb)
            if name in COUNTED:  # the pixels count, whatever the JSON has: the official converter measures outlines
                wanted = works(_warned("area") if verb == "check" else _areas_of_the_pixels)
            elif name in NUMBERS_AS_TEXT:  # "0" can only mean stuff, "64" only 64
                wanted = works()
            yield Case(GROUP, f"{verb}: {name}", _damaged_json(verb, change), wanted)
    for name in (
        "an area of 1 more",
        "a segment twice",
        "an image larger than its PNG",
        "a photo and its PNG under two ids",
    ):
        for verb in ("evaluate", "train"):
            wanted = either() if name in COUNTED else refusal(verb)
            yield Case(GROUP, f"{verb}: {name}", _damaged_json(verb, CHANGES[name]), wanted, seconds=25)


COUNTED = ("an area of 1 more", "an area of 0", "a negative area", "segments that changed places")
NUMBERS_AS_TEXT = (  # and the reverse
    "isthing that is a text",
    "a height that is a text",
    "a segment of a text id",
    "a segment whose category is a text",
    "crowds that are a text",
    "a category name that is a number",
)


def _warned(word: str) -> Check:
    return lambda outcome: "" if "warning" in outcome.out and word in outcome.out else f"no warning of {word}"


def _areas_of_the_pixels(outcome: Outcome) -> str:
    """The converted JSON has the areas that its own PNGs have."""
    json_path = outcome.folder / "out" / JSON
    for annotation in json.loads(json_path.read_text())["annotations"]:
        with Image.open(json_path.with_suffix("") / annotation["file_name"]) as picture:
            red, green, blue = np.moveaxis(np.asarray(picture.convert("RGB")).astype(int), -1, 0)
        ids = red + 256 * green + 65536 * blue
        if any(segment["area"] != (ids == segment["id"]).sum() for segment in annotation["segments_info"]):
            return f"{annotation['file_name']} has other areas"
    return ""


def _segment(**values: object) -> Change:
    """Change the first segment of the first annotation; ... removes a key."""
    return lambda content: _update(content["annotations"][0]["segments_info"][0], values)


def _annotation(**values: object) -> Change:
    return lambda content: _update(content["annotations"][0], values)


def _image(**values: object) -> Change:
    return lambda content: _update(content["images"][0], values)


def _category(**values: object) -> Change:
    return lambda content: _update(content["categories"][0], values)


def _top(**values: object) -> Change:
    return lambda content: _update(content, values)


def _update(entry: Content, values: Mapping[str, object]) -> None:
    for key, value in values.items():
        if value is ...:
            del entry[key]
        else:
            entry[key] = value


def _twice(*keys: str) -> Change:
    """Append a copy of the first entry of a list."""

    def change(content: Content) -> None:
        entries = content[keys[0]] if len(keys) == 1 else content[keys[0]][0][keys[1]]
        entries.append(dict(entries[0]))

    return change


def _more(**values: int) -> Change:
    def change(content: Content) -> None:
        for key, value in values.items():
            holder = content["images"][0] if key in ("height", "width") else _first(content)
            holder[key] += value

    return change


def _first(content: Content) -> Content:
    return content["annotations"][0]["segments_info"][0]


def _exchange_ids(content: Content) -> None:
    """The two categories of the first two segments change places, with their areas: only pixels could tell."""
    first, second = content["annotations"][0]["segments_info"][:2]
    first["id"], second["id"] = second["id"], first["id"]


def _one_file_under_two_ids(content: Content) -> None:
    content["images"][1]["file_name"] = content["images"][0]["file_name"]


def _one_png_for_two(content: Content) -> None:
    content["annotations"][1]["file_name"] = content["annotations"][0]["file_name"]


def _all_under_two_ids(content: Content) -> None:
    content["images"].append(dict(content["images"][0], id=999))
    content["annotations"].append(dict(content["annotations"][0], image_id=999))


def _stuff_crowd(content: Content) -> None:
    stuff = {category["id"] for category in content["categories"] if not category["isthing"]}
    for segment in content["annotations"][0]["segments_info"]:
        segment["iscrowd"] = int(segment["category_id"] in stuff)


CHANGES: Mapping[str, Change] = {
    "no images": _top(images=...),
    "no annotations": _top(annotations=...),
    "no categories": _top(categories=...),
    "images are nothing": _top(images=None),
    "images are a text": _top(images="val"),
    "annotations are a number": _top(annotations=5),
    "annotations are empty": _top(annotations=[]),
    "annotations are an object": _top(annotations={}),
    "categories are empty": _top(categories=[]),
    "categories are an object": _top(categories={"1": "road"}),
    "an image that is a text": lambda content: content["images"].insert(0, "x"),
    "an annotation that is nothing": lambda content: content["annotations"].insert(0, None),
    "a category that is a list": lambda content: content["categories"].insert(0, [1]),
    "a category without id": _category(id=...),
    "a category without name": _category(name=...),
    "a category without isthing": _category(isthing=...),
    "a category twice": _twice("categories"),
    "a category id that is a text": _category(id="one"),
    "a category id that is a fraction": _category(id=1.5),
    "a category id that is true": _category(id=True),
    "a category id of 30 digits": _category(id=10**30),
    "a category name that is nothing": _category(name=None),
    "a category name that is a number": _category(name=7),
    "an empty category name": _category(name=""),
    "isthing that is a text": _category(isthing="0"),
    "isthing that is 2": _category(isthing=2),
    "isthing that is nothing": _category(isthing=None),
    "a colour of two values": _category(color=[1, 2]),
    "a colour of 300": _category(color=[300, 0, 0]),
    "a colour that is a text": _category(color="red"),
    "a colour that is no number": _category(color=[float("nan"), 0, 0]),
    "an image without id": _image(id=...),
    "an image without file name": _image(file_name=...),
    "an image without height": _image(height=...),
    "an image twice": _twice("images"),
    "an image id that is a list": _image(id=[1]),
    "an image id that is nothing": _image(id=None),
    "a height of 0": _image(height=0),
    "a negative width": _image(width=-128),
    "a height that is a text": _image(height="64"),
    "a height that is a fraction": _image(height=64.5),
    "a height of 10^12": _image(height=10**12),
    "a width that is no number": _image(width=float("nan")),
    "a width that is infinite": _image(width=float("inf")),
    "an image larger than its PNG": _more(height=1),
    "height and width exchanged": _image(height=128, width=64),
    "an annotation without image id": _annotation(image_id=...),
    "an annotation of no image": _annotation(image_id=12345),
    "an annotation without file name": _annotation(file_name=...),
    "an annotation without segments": _annotation(segments_info=...),
    "an annotation twice": _twice("annotations"),
    "segments that are nothing": _annotation(segments_info=None),
    "segments that are empty": _annotation(segments_info=[]),
    "segments that are a text": _annotation(segments_info="none"),
    "a PNG that is not there": _annotation(file_name="nowhere.png"),
    "a PNG whose name is empty": _annotation(file_name=""),
    "a PNG whose name is a number": _annotation(file_name=5),
    "a PNG whose name holds a zero byte": _annotation(file_name="a\0.png"),
    "a PNG whose name holds half a character": _annotation(file_name="\ud800.png"),
    "a PNG whose name has 5,000 characters": _annotation(file_name="x" * 5000 + ".png"),
    "a PNG by an absolute path": _annotation(file_name="/etc/passwd"),
    "a PNG outside of the folder": _annotation(file_name="../../../world.png"),
    "a segment without id": _segment(id=...),
    "a segment without category": _segment(category_id=...),
    "a segment twice": _twice("annotations", "segments_info"),
    "a segment of id 0": _segment(id=0),
    "a segment of a negative id": _segment(id=-1),
    "a segment of an id of 25 bits": _segment(id=2**24),
    "a segment of an id of 70 bits": _segment(id=2**70),
    "a segment of a text id": _segment(id="1"),
    "a segment that the PNG does not have": _segment(id=16_000_000),
    "a segment of no category": _segment(category_id=4711),
    "a segment whose category is a text": _segment(category_id="1"),
    "a segment whose category is nothing": _segment(category_id=None),
    "a segment that is a number": lambda content: content["annotations"][0]["segments_info"].insert(0, 3),
    "a segment too few": lambda content: content["annotations"][0]["segments_info"].pop(),
    "an area of 1 more": _more(area=1),
    "an area of 0": _segment(area=0),
    "a negative area": _segment(area=-5),
    "an area that is a text": _segment(area="large"),
    "an area that is no number": _segment(area=float("nan")),
    "an area that is infinite": _segment(area=float("inf")),
    "crowds that are a text": _segment(iscrowd="0"),
    "crowds that are 2": _segment(iscrowd=2),
    "stuff that is a crowd": _stuff_crowd,
    "a photo and its PNG under two ids": _all_under_two_ids,
    "two ids for one PNG": _one_png_for_two,
    "segments that changed places": _exchange_ids,
}


# Content that is odd but right


def _harmless_content() -> Iterator[Case]:
    for name, change in HARMLESS.items():
        yield Case(GROUP, f"stats: sound, {name}", _damaged_json("stats", change), works(same_numbers("coco")))
    for name, change in IDENTITY.items():
        wanted = refused(codes=(PROBLEMS, BAD_INPUT))
        yield Case(GROUP, f"check: {name}", _damaged_json("check", change), wanted)


def _unused(content: Content) -> None:
    content["images"].append({"id": 555, "file_name": "unused.jpg", "height": 5, "width": 5})


def _text_ids(content: Content) -> None:
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        image["id"] = annotation["image_id"] = f"photo {image['id']}"


def _fields(content: Content) -> None:
    for entry in [content, *content["images"], *content["annotations"], *content["categories"]]:
        entry["extra"] = {"nested": [None, {"x": 1e300}]}


def _without(key: str) -> Change:
    def change(content: Content) -> None:
        for annotation in content["annotations"]:
            for segment in annotation["segments_info"]:
                segment.pop(key, None)

    return change


def _booleans(content: Content) -> None:
    for category in content["categories"]:
        category["isthing"] = bool(category["isthing"])


HARMLESS: Mapping[str, Change] = {
    "an image without annotation": _unused,
    "image ids that are texts": _text_ids,
    "unknown keys": _fields,
    "no boxes": _without("bbox"),
    "no areas": _without("area"),
    "isthing that is true or false": _booleans,
    "annotations in another order": lambda content: content["annotations"].reverse(),
    "images in another order": lambda content: content["images"].reverse(),
}
IDENTITY: Mapping[str, Change] = {"one photo under two ids": _one_file_under_two_ids}


# The JSON file as a whole


def _damaged_files() -> Iterator[Case]:
    for name, damage in {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}.items():
        for verb in ("check", "metrics", "predictions"):
            wanted = refusal(verb, "panoptic_val.json")
            if "flipped" in name:
                wanted = either(lambda outcome: "", codes=(PROBLEMS, BAD_INPUT))
            yield Case(GROUP, f"{verb}: JSON, {name}", _file(verb, damage), wanted)
    for name, put in NO_FILE.items():

        def prepare(place: Place, put: Callable[[Path], None] = put) -> list[object]:
            root = place.copy("coco")
            put(root / JSON)
            return command("metrics", place, root)

        wanted = refusal("metrics", "panoptic_val.json")
        yield Case(GROUP, f"metrics: JSON, {name}", prepare, wanted, seconds=5)


def _file(verb: str, damage: Callable[[bytes, Random], bytes], file: Path = JSON) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        root = place.copy("coco")
        rewrite(root / file, damage, place.random)
        return command(verb, place, root)

    return prepare


def _texts() -> Iterator[Case]:
    """Encodings, and texts that a JSON reader may stumble over; what is read must be what was written."""
    for name, text in HOSTILE_TEXTS.items():
        for verb in ("check", "metrics"):
            damage = lambda content, random, text=text: text(content)  # noqa: E731
            yield Case(GROUP, f"{verb}: text, {name}", _file(verb, damage), refusal(verb, "panoptic_val.json"))
    for encoding in ("utf-8-sig", "utf-16", "utf-32", "utf-16-le"):
        damage = lambda content, random, encoding=encoding: content.decode().encode(encoding)  # noqa: E731
        wanted = either(same_numbers("coco"), "panoptic_val.json")
        yield Case(GROUP, f"stats: text, {encoding}", _file("stats", damage), wanted)


HOSTILE_TEXTS: Mapping[str, Callable[[bytes], bytes]] = {
    "200,000 brackets": lambda content: b"[" * 200_000,
    "200,000 objects in each other": lambda content: b'{"a":' * 200_000 + b"1" + b"}" * 200_000,
    "deep inside an entry": lambda content: content.replace(
        b'"images":', b'"x":' + b"[" * 90_000 + b"]" * 90_000 + b',"images":'
    ),
    "a number of 5,000 digits": lambda content: content.replace(b'"height": 64', b'"height": ' + b"9" * 5000),
    "an id of 5,000 digits": lambda content: content.replace(b'"category_id": ', b'"category_id": ' + b"9" * 5000, 1),
    "1e999": lambda content: content.replace(b'"height": 64', b'"height": 1e999'),
    "a list at the top": lambda content: b"[" + content + b"]",
    "a text at the top": lambda content: b'"panoptic"',
    "a number at the top": lambda content: b"5",
    "nothing at the top": lambda content: b"null",
    "two contents": lambda content: content + content,
    "single quotes": lambda content: content.replace(b'"', b"'"),
    "a comma too much": lambda content: content.rstrip()[:-1] + b",}",
    "lines of JSON": lambda content: b'{"images": []}\n{"annotations": []}\n',
    "CSV": lambda content: b"id,file_name\n1,a.png\n",
    "latin letters of another encoding": lambda content: content.replace(b'"name": "', b'"name": "\xe9', 1),
    "a value of 3 MB": lambda content: content.replace(b'"height": 64', b'"height": "' + b"x" * 3_000_000 + b'"', 1),
}


# The PNGs


def _damaged_maps() -> Iterator[Case]:
    verbs = ("check", "metrics", "convert")
    for name, damage in {**NO_FILE_OF_ITS_KIND, **BROKEN_INSIDE}.items():
        for verb in verbs[:2]:
            prepare = _map(lambda path, random, damage=damage: rewrite(path, damage, random), verb)
            yield Case(GROUP, f"{verb}: PNG, {name}", prepare, refusal(verb, ".png"))
    for name, put in NO_FILE.items():
        prepare = _map(lambda path, random, put=put: put(path), "check")
        yield Case(GROUP, f"check: PNG, {name}", prepare, refusal("check", ".png"), seconds=5)
    for name, write in MAPS.items():
        for verb in verbs:
            yield Case(GROUP, f"{verb}: PNG, {name}", _map(write, verb), refusal(verb, ".png"))
    wanted = either(same_numbers("coco"), ".png", codes=(PROBLEMS, BAD_INPUT))
    for number in range(6):
        prepare = _map(lambda path, random: rewrite(path, flipped(1, 0.2), random), "stats")
        yield Case(GROUP, f"stats: PNG, a bit flipped, {number}", prepare, wanted)


def _map(write: Callable[[Path, Random], object], verb: str) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        root = place.copy("coco")
        write(min((root / "annotations" / "panoptic_val").iterdir()), place.random)
        return command(verb, place, root)

    return prepare


def _repainted(change: Callable[[np.ndarray], np.ndarray], **options: object) -> Callable[[Path, Random], None]:
    def write(path: Path, random: Random) -> None:
        with Image.open(path) as picture:
            pixels = np.array(picture)
        Image.fromarray(change(pixels)).save(path, **{"format": "PNG", **options})

    return write


def _one_pixel(pixels: np.ndarray) -> np.ndarray:
    pixels[3, 5] = (1, 2, 3)
    return pixels


def _deep_png(path: Path, random: Random) -> None:
    """48-bit colours, whose upper bytes are the ids: a reader of 8 bits would find them."""
    with Image.open(path) as picture:
        pixels = np.array(picture).astype(">u2") * 256
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    stream = b"\x89PNG\r\n\x1a\n"
    for kind, content in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        stream += struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    path.write_bytes(stream)


MAPS: Mapping[str, Callable[[Path, Random], object]] = {
    "a JPEG": _repainted(lambda pixels: pixels, format="JPEG", quality=100, subsampling=0),
    "a lossy WebP": _repainted(lambda pixels: pixels, format="WEBP", quality=100),
    "grey": _repainted(lambda pixels: pixels[..., 0]),
    "16-bit grey": _repainted(lambda pixels: pixels[..., 0].astype(np.uint16)),
    "48-bit colours": _deep_png,
    "one row less": _repainted(lambda pixels: pixels[1:]),
    "turned by a quarter": _repainted(lambda pixels: np.rot90(pixels).copy()),
    "one pixel of an unknown id": _repainted(_one_pixel),
    "all black": _repainted(np.zeros_like),
    "blue and red exchanged": _repainted(lambda pixels: pixels[..., ::-1].copy()),
    "doubled in size": _repainted(lambda pixels: pixels.repeat(2, 0).repeat(2, 1)),
}


# Predictions for `metrics`


def _predictions() -> Iterator[Case]:
    for name, change in PREDICTIONS.items():
        yield Case(GROUP, f"predictions: {name}", _damaged_json("predictions", change), refusal("predictions"))
    for name in ("a segment of no category", "an area of 1 more", "a segment twice", "a segment of an id of 25 bits"):
        wanted = refusal("predictions")
        if "area" in name:
            wanted = either()
        yield Case(GROUP, f"predictions: {name}", _damaged_json("predictions", CHANGES[name]), wanted)
    yield Case(GROUP, "predictions: sound, no areas", _damaged_json("predictions", _without("area")), works(_perfect))
    prepare = _damaged_json("predictions", _top(images=..., categories=...))
    yield Case(GROUP, "predictions: sound, annotations alone", prepare, works(_perfect))


def _perfect(outcome: Outcome) -> str:
    report = json.loads((outcome.folder / "out" / "report.json").read_text())
    return "" if "100" in json.dumps(report) or '"pq": 1' in json.dumps(report) else "PQ is not 100"


PREDICTIONS: Mapping[str, Change] = {
    "one image missing": lambda content: content["annotations"].pop(),
    "an image twice": _twice("annotations"),
    "an image that is not annotated": _annotation(image_id=4711),
    "an image id of a text": lambda content: _update(
        content["annotations"][0], {"image_id": str(content["annotations"][0]["image_id"])}
    ),
    "a category of another name": _category(name="something else"),
    "a PNG outside of the folder": _annotation(file_name="../../../x.png"),
    "no annotations": _top(annotations=...),
    "a score that is a text": _segment(score="high"),
}
