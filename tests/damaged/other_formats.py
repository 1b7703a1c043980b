"""Pairs of PNGs, COCO instances, Cityscapes and Vistas, for `data check`, `data stats` and `data convert`."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from .byte_damage import BROKEN_INSIDE, NO_FILE, NO_FILE_OF_ITS_KIND, flipped, rewrite
from .cases import BAD_INPUT, PROBLEMS, Case, Outcome, Place, either, works
from .coco import refusal, same_numbers

GROUP = "formats"
_READ_RIGHTLY = (
    "an area of 1 more",
    "categories.yaml, UTF-16",
    "a polygon of texts",
    "crowds that are a text",
    "a name that is a number",
    "a label twice",
)
"""The pixels count; a byte order mark names the encoding; numbers may be text, and the reverse, and flags "yes"; labels
of Vistas count by their position, so one more at the end changes nothing.
"""
Spoil = Callable[[Path, Random], object]
"""Damages the root of a copied data set."""


def cases() -> Iterator[Case]:
    for data, spoils in (("pairs", PAIRS), ("instances", INSTANCES), ("cityscapes", CITYSCAPES), ("vistas", VISTAS)):
        for name, spoil in spoils.items():
            for verb in ("check",) if name.startswith(_KINDS_OF_FILES) else ("check", "convert"):
                wanted = refusal(verb, split="training" if data == "vistas" else "val")
                if name in _READ_RIGHTLY:
                    wanted = works()
                yield Case(GROUP, f"{data}, {verb}: {name}", _spoiled(data, verb, spoil), wanted, seconds=6)
    for data, spoils in SOUND.items():
        for name, spoil in spoils.items():
            prepare = _spoiled(data, "stats", spoil)
            yield Case(GROUP, f"{data}, stats: sound, {name}", prepare, works(same_numbers(data)))
    for verb in ("check", "stats"):  # as CVAT exports them; Cityscapes' own names for them would be wrong
        wanted = either(_own_names, codes=(PROBLEMS, BAD_INPUT))
        yield Case(GROUP, f"cityscapes, {verb}: own labels", _spoiled("cityscapes", verb, _own_labels), wanted)
    for data, pattern in MAPS.items():
        for number in range(3):
            spoil = _file(pattern, flipped(1, 0.3))
            prepare = _spoiled(data, "stats", spoil)
            wanted = either(same_numbers(data), codes=(PROBLEMS, BAD_INPUT))
            yield Case(GROUP, f"{data}, stats: a bit of a PNG flipped, {number}", prepare, wanted)


def _own_labels(root: Path, random: Random) -> None:
    names = ["background", *(f"apple {number}" for number in range(1, 34))]
    (root / "label_colors.txt").write_text("".join(f"{k} {k} {k} {name}\n" for k, name in enumerate(names)))


def _own_names(outcome: Outcome) -> str:
    said = outcome.out + outcome.err
    return "" if "label_colors.txt" in said or "apple" in said else "the own labels are not used, nor named"


def _spoiled(data: str, verb: str, spoil: Spoil) -> Callable[[Place], list[object]]:
    def prepare(place: Place) -> list[object]:
        root = place.copy(data)
        spoil(root, place.random)
        output = {"check": [], "stats": ["--output", "stats.json"], "convert": ["--output", "out"]}[verb]
        return ["data", verb, root, *output]

    return prepare


_KINDS_OF_FILES = ("config,", "JSON,", "PNG,", "photo,", "categories,", "instances,", "semantic PNG,", "instanceIds,")
"""Damage that is the same for all readers; one verb will do."""


# Damage to a file of a data set; patterns take the first file that fits


def _first(root: Path, pattern: str) -> Path:
    return min(root.glob(pattern))


def _file(pattern: str, damage: Callable[[bytes, Random], bytes]) -> Spoil:
    return lambda root, random: rewrite(_first(root, pattern), damage, random)


def _put(pattern: str, put: Callable[[Path], None]) -> Spoil:
    return lambda root, random: put(_first(root, pattern))


def _text(pattern: str, old: str, new: str) -> Spoil:
    def spoil(root: Path, random: Random) -> None:
        path = _first(root, pattern)
        text = path.read_text()
        assert old in text, f"{path} does not hold {old}"
        path.write_text(text.replace(old, new, 1))

    return spoil


def _written(pattern: str, content: str) -> Spoil:
    return lambda root, random: _first(root, pattern).write_text(content)


def _json(pattern: str, change: Callable[[Any], object]) -> Spoil:
    def spoil(root: Path, random: Random) -> None:
        path = _first(root, pattern)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def _pixels(pattern: str, change: Callable[[np.ndarray], np.ndarray], **options: object) -> Spoil:
    def spoil(root: Path, random: Random) -> None:
        path = _first(root, pattern)
        with Image.open(path) as picture:
            pixels = np.array(picture)
        Image.fromarray(change(pixels)).save(path, **{"format": "PNG", **options})

    return spoil


def _set_pixel(value: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(pixels: np.ndarray) -> np.ndarray:
        pixels[2, 3] = value
        return pixels

    return change


def _copied(pattern: str, name: str) -> Spoil:
    """Another file beside the first: a partner is missing, or a stem comes twice."""
    return lambda root, random: shutil.copy(_first(root, pattern), _first(root, pattern).with_name(name))


def _files_of(pattern: str, kind: str) -> dict[str, Spoil]:
    """Damage that any file may have."""
    names = ("empty", "cut at a half", "noise", "a web page", "gzip", "zip")
    spoils = {f"{kind}, {name}": _file(pattern, NO_FILE_OF_ITS_KIND[name]) for name in names}
    spoils |= {f"{kind}, {name}": _put(pattern, NO_FILE[name]) for name in ("a folder", "a named pipe", "missing")}
    return spoils | {f"{kind}, a dangling link": _put(pattern, NO_FILE["a dangling link"])}


def _maps_of(pattern: str, kind: str) -> dict[str, Spoil]:
    return {
        f"{kind}, a JPEG": _pixels(pattern, lambda pixels: pixels.astype(np.uint8), format="JPEG", quality=100),
        f"{kind}, one row less": _pixels(pattern, lambda pixels: pixels[1:]),
        f"{kind}, in colour": _pixels(pattern, lambda pixels: np.stack([pixels.astype(np.uint8)] * 3, axis=-1)),
        f"{kind}, floats": _pixels(pattern, lambda pixels: pixels.astype(np.float32), format="TIFF"),
        f"{kind}, middle removed": _file(pattern, BROKEN_INSIDE["middle removed"]),
    }


CATEGORIES_FILE: Mapping[str, str] = {
    "an unknown key": "categories: [{id: 1, name: a, isthing: 0}, {id: 2, name: b, isthing: 1}]\nviod: [0]\n",
    "no list": "categories: road\n",
    "nothing": "",
    "an id twice": "categories: [{id: 1, name: a, isthing: 0}, {id: 1, name: b, isthing: 1}]\nvoid: [0]\n",
    "an id that is a text": "categories: [{id: one, name: a, isthing: 0}]\n",
    "an id of 70,000": "categories: [{id: 70000, name: a, isthing: 0}, {id: 1, name: b, isthing: 1}]\n",
    "an id that is true": "categories: [{id: true, name: a, isthing: 0}, {id: 2, name: b, isthing: 1}]\n",
    "isthing that is a text": "categories: [{id: 1, name: a, isthing: '0'}, {id: 2, name: b, isthing: 'no'}]\n",
    "a name that is nothing": "categories: [{id: 1, name: ~, isthing: 0}, {id: 2, name: b, isthing: 1}]\n",
    "a void category": "categories: [{id: 1, name: a, isthing: 0}, {id: 2, name: b, isthing: 1}]\nvoid: [1]\n",
    "void that is a text": "categories: [{id: 1, name: a, isthing: 0}, {id: 2, name: b, isthing: 1}]\nvoid: zero\n",
    "no stuff": "categories: [{id: 1, name: a, isthing: 1}]\n",
    "a tab": "categories:\n\t- {id: 1}\n",
    "two documents": "categories: []\n---\ncategories: []\n",
    "a python object": "categories: !!python/object/apply:os.system ['touch ../canary']\n",
    "an unclosed bracket": "categories: [{id: 1, name: a\n",
    "a circle of aliases": "categories: &a [*a]\n",
    "aliases without end": "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
    + "categories: *a8\n",
    "deep brackets": "categories: " + "[" * 5000 + "]" * 5000 + "\n",
    "a number of 5,000 digits": f"categories: [{{id: {'9' * 5000}, name: a, isthing: 0}}]\n",
    "a date that is none": "categories: [{id: 1, name: 2024-99-99, isthing: 0}]\n",
    "an infinite id": "categories: [{id: .inf, name: a, isthing: 0}]\n",
}
PAIRS: dict[str, Spoil] = {
    **{f"categories.yaml, {name}": _written("categories.yaml", text) for name, text in CATEGORIES_FILE.items()},
    **_files_of("categories.yaml", "categories.yaml"),
    "categories.yaml, UTF-16": _file("categories.yaml", lambda content, random: content.decode().encode("utf-16")),
    **_files_of("val/categories/*.png", "categories"),
    **_maps_of("val/categories/*.png", "categories"),
    **_files_of("val/instances/*.png", "instances"),
    **_maps_of("val/instances/*.png", "instances"),
    **_files_of("val/images/*.png", "photo"),
    "an unknown number": _pixels("val/categories/*.png", _set_pixel(199)),
    "a photo without partners": _copied("val/images/*.png", "alone.png"),
    "categories without partners": _copied("val/categories/*.png", "alone.png"),
    "instances without partners": _copied("val/instances/*.png", "alone.png"),
    "a stem twice": lambda root, random: _copied("val/images/*.png", _first(root, "val/images/*.png").stem + ".jpg")(
        root, random
    ),
    "no photos": lambda root, random: shutil.rmtree(root / "val" / "images"),
    "no instances": lambda root, random: shutil.rmtree(root / "val" / "instances"),
}

_INSTANCES_JSON = "annotations/instances_val.json"


def _instance(**values: object) -> Spoil:
    return _json(_INSTANCES_JSON, lambda content: content["annotations"][0].update(values))


INSTANCES: dict[str, Spoil] = {
    **_files_of(_INSTANCES_JSON, "JSON"),
    **{
        f"categories.yaml, {name}": _written("categories.yaml", CATEGORIES_FILE[name])
        for name in ("nothing", "an id twice", "isthing that is a text", "aliases without end")
    },
    **_files_of("annotations/semantic_val/*.png", "semantic PNG"),
    **_maps_of("annotations/semantic_val/*.png", "semantic PNG"),
    "no images": _json(_INSTANCES_JSON, lambda content: content.pop("images")),
    "an image twice": _json(_INSTANCES_JSON, lambda content: content["images"].append(content["images"][0])),
    "a photo under two ids": _json(
        _INSTANCES_JSON, lambda content: content["images"].append(content["images"][0] | {"id": 99})
    ),
    "an absolute photo": _json(_INSTANCES_JSON, lambda content: content["images"][0].update(file_name="/etc/passwd")),
    "a photo outside": _json(_INSTANCES_JSON, lambda content: content["images"][0].update(file_name="../../x.png")),
    "a category that the file does not have": _instance(category_id=999),
    "a category that is a text": _instance(category_id="car"),
    "an image that is not there": _instance(image_id=4711),
    "a polygon of two points": _instance(segmentation=[[1, 1, 9, 9]]),
    "a polygon of an odd number": _instance(segmentation=[[1, 1, 9, 9, 1]]),
    "a polygon of texts": _instance(segmentation=[["1", "1", "9", "1", "9", "9"]]),
    "a polygon of no numbers": _instance(segmentation=[[float("nan")] * 8]),
    "a polygon that is infinite": _instance(segmentation=[[0, 0, float("inf"), 0, 9, 9]]),
    "a polygon of 10^9": _instance(segmentation=[[0, 0, 10**9, 0, 10**9, 10**9]]),
    "a polygon mostly outside": _instance(segmentation=[[-100, -50, 20, -50, 20, 10, -100, 10]]),
    "a polygon outside": _instance(segmentation=[[-60, -60, -30, -60, -30, -30]]),
    "a flat polygon": _instance(segmentation=[[5, 5, 20, 5, 30, 5]]),
    "no outline": _instance(segmentation=[]),
    "an outline that is nothing": _instance(segmentation=None),
    "an outline that is a number": _instance(segmentation=7),
    "runs of another size": _instance(segmentation={"size": [9, 9], "counts": [81]}, iscrowd=1),
    "runs that end early": _instance(segmentation={"size": [64, 128], "counts": [5, 5]}, iscrowd=1),
    "runs that go too far": _instance(segmentation={"size": [64, 128], "counts": [5, 10**6]}, iscrowd=1),
    "negative runs": _instance(segmentation={"size": [64, 128], "counts": [-5, 8197]}, iscrowd=1),
    "runs that are broken": _instance(segmentation={"size": [64, 128], "counts": "~~~~zzz\x7f"}, iscrowd=1),
    "runs without a size": _instance(segmentation={"counts": [8192]}, iscrowd=1),
    "runs of 10^9 x 10^9": _instance(segmentation={"size": [10**9, 10**9], "counts": [10**18]}, iscrowd=1),
    "crowds that are a text": _instance(iscrowd="no"),
    "overlapping objects": _instance(segmentation=[[60, 30, 90, 30, 90, 50, 60, 50]]),
}

_IDS = "gtFine/val/ulm/*_instanceIds.png"
CITYSCAPES: dict[str, Spoil] = {
    **_files_of(_IDS, "instanceIds"),
    **_maps_of(_IDS, "instanceIds"),
    **_files_of("leftImg8bit/val/ulm/*.png", "photo"),
    "a value of no label": _pixels(_IDS, _set_pixel(999)),
    "a value of 65,535": _pixels(_IDS, _set_pixel(65_535)),
    "8 bits": _pixels(_IDS, lambda pixels: (pixels // 1000).astype(np.uint8)),
    "a photo without annotation": _copied("leftImg8bit/val/ulm/*.png", "ulm_000009_000019_leftImg8bit.png"),
    "annotation without photo": _copied(_IDS, "ulm_000009_000019_gtFine_instanceIds.png"),
    "a circle of folders": lambda root, random: (root / "gtFine" / "val" / "loop").symlink_to("../val"),
}

_VISTAS_JSON = "training/v1.2/panoptic/panoptic_2018.json"
_VISTAS_CONFIG = "config_v1.2.json"


def _label(**values: object) -> Spoil:
    return _json(_VISTAS_CONFIG, lambda content: content["labels"][0].update(values))


VISTAS: dict[str, Spoil] = {
    **_files_of(_VISTAS_CONFIG, "config"),
    **_files_of(_VISTAS_JSON, "JSON"),
    **_files_of("training/v1.2/panoptic/*.png", "PNG"),
    **_files_of("training/images/*.jpg", "photo"),
    "no labels": _json(_VISTAS_CONFIG, lambda content: content.pop("labels")),
    "labels that are empty": _json(_VISTAS_CONFIG, lambda content: content.update(labels=[])),
    "labels that are nothing": _json(_VISTAS_CONFIG, lambda content: content.update(labels=None)),
    "a label without name": _json(_VISTAS_CONFIG, lambda content: content["labels"][0].pop("name")),
    "a label twice": _json(_VISTAS_CONFIG, lambda content: content["labels"].append(content["labels"][0])),
    "instances that are a text": _label(instances="false"),
    "evaluate that is nothing": _label(evaluate=None),
    "a name that is a number": _label(name=5),
    "a colour of four values": _label(color=[1, 2, 3, 4]),
    "a thing there, stuff here": _label(instances=False),
    "another name": _json(
        _VISTAS_JSON, lambda content: content["categories"][2].update(name="Boat", supercategory="boat")
    ),
    "an absolute photo": _json(_VISTAS_JSON, lambda content: content["images"][0].update(file_name="/etc/passwd")),
    "a photo outside": _json(_VISTAS_JSON, lambda content: content["images"][0].update(file_name="../../../x.jpg")),
    "an area of 1 more": _json(
        _VISTAS_JSON, lambda content: content["annotations"][0]["segments_info"][0].update(area=3)
    ),
}

MAPS: Mapping[str, str] = {
    "pairs": "val/categories/*.png",
    "instances": "annotations/semantic_val/*.png",
    "cityscapes": _IDS,
    "vistas": "training/v1.2/panoptic/*.png",
}


def _renamed(pattern: str, change: Callable[[str], str]) -> Spoil:
    def spoil(root: Path, random: Random) -> None:
        for path in list(root.glob(pattern)):
            path.rename(path.with_name(change(path.name)))

    return spoil


def _hidden(pattern: str) -> Spoil:
    """What systems leave in folders: .DS_Store, ._name, Thumbs.db."""

    def spoil(root: Path, random: Random) -> None:
        folder = _first(root, pattern).parent
        for name in (".DS_Store", f"._{_first(root, pattern).name}", "Thumbs.db"):
            (folder / name).write_bytes(b"\0\5\x16\7")

    return spoil


def _as_palette(root: Path, random: Random) -> None:
    path = _first(root, "val/categories/*.png")
    with Image.open(path) as picture:
        numbers = picture.copy()
    numbers.putpalette([value for index in range(256) for value in (255 - index, index, 7)])
    numbers.save(path)


SOUND: Mapping[str, Mapping[str, Spoil]] = {
    "pairs": {
        "capitals in suffixes": _renamed("val/images/*.png", lambda name: name.replace(".png", ".PNG")),
        "files of the system": _hidden("val/images/*.png"),
        "a palette": _as_palette,
        "UTF-8 with a mark": _file("categories.yaml", lambda content, random: b"\xef\xbb\xbf" + content),
        "lines of Windows": _file("categories.yaml", lambda content, random: content.replace(b"\n", b"\r\n")),
    },
    "cityscapes": {
        "files of the system": _hidden("leftImg8bit/val/ulm/*.png"),
        "photos are JPEGs": _renamed("leftImg8bit/*/ulm/*.png", lambda name: name.replace(".png", ".jpg")),
    },
    "instances": {
        "files of the system": _hidden("val/*.png"),
        "unknown keys": _json(_INSTANCES_JSON, partial(dict.update, info={"year": 2024}, licenses=[])),
    },
    "vistas": {
        "files of the system": _hidden("training/images/*.jpg"),
        "early folders of polygons": lambda root, random: (root / "training" / "v1.2" / "polygons").mkdir(),
    },
    "coco": {
        "files of the system": _hidden("annotations/*.json"),
        "a JSON of something else": lambda root, random: (root / "annotations" / "panoptic_x.json").write_text("[1]"),
    },
}
