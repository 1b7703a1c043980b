"""A path that a user names -> the splits of a data set that are there, and how each is opened."""

import codecs
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from tascnet.build import build_dataset, narrow, with_exif
from tascnet.config import DatasetConfig
from tascnet.data.formats import cityscapes, vistas
from tascnet.data.formats.categories_file import FILE_NAME
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.coco_instances import CocoInstances
from tascnet.data.formats.png_pairs import CATEGORIES, IMAGES, PngPairs
from tascnet.data.formats.vistas import Vistas
from tascnet.data.problems import DataError, Kind, OnProblem
from tascnet.data.stream import PanopticDataset
from tascnet.errors import InputError
from tascnet.files import archive_kind, at_home, read_json, require_regular

AUTO = "auto"
"""The format that is found out."""

_PREFIXES = {"coco": "panoptic_", "coco_instances": "instances_"}
"""Format -> how the names of its JSON files begin in the official layout."""


@dataclass(frozen=True)
class Source:
    """One split of a data set on disk.

    Attributes:
        settings: format, split and the like; the root where the files are laid out as the format wants.
        json_path: the JSON file (coco).
        image_folder: where the photos are (coco), or should be; None where nobody says.
    """

    settings: DatasetConfig
    json_path: Path | None = None
    image_folder: Path | None = None

    @property
    def name(self) -> str:
        """What tables and files call it: the split, the JSON file's stem, or "all"."""
        return self.settings.split or (self.json_path.stem if self.json_path else "all")

    def open(self, with_photos: bool = True) -> PanopticDataset:
        """Open it as training does: the first problem raises.

        Args:
            with_photos: False for annotation alone: photos need not be there (coco, cityscapes).
        """
        if self.json_path is None:
            return build_dataset(self.settings)
        files = CocoPanoptic(self.json_path, self.image_folder if with_photos else None)
        return narrow(with_exif(files, self.settings.exif), self.settings)

    def open_leniently(self, on_problem: OnProblem) -> PanopticDataset:
        """Open it for a check: entries that break a rule are told to `on_problem` and left out.

        Raises:
            InputError: it cannot be read at all.
        """
        return with_exif(self._open_files(on_problem), self.settings.exif)

    def _open_files(self, on_problem: OnProblem) -> PanopticDataset:
        settings = self.settings
        if self.json_path is not None:
            dataset = CocoPanoptic(self.json_path, self._existing_photos(), on_problem=on_problem)
            if self.image_folder is not None and not dataset.has_photos:
                on_problem(_no_photos(self.image_folder))
            return dataset
        if settings.format == "coco_instances":
            return CocoInstances.from_layout(settings.root, settings.split, settings.overlaps, on_problem=on_problem)
        if settings.format == "png_pairs":
            return PngPairs(settings.root, settings.split, on_problem=on_problem)
        if settings.format == "vistas":
            return Vistas(settings.root, settings.split, settings.version, settings.form, on_problem=on_problem)
        if settings.format == "cityscapes":
            files = Cityscapes(settings.root, settings.split, on_problem=on_problem)
            if not files.has_photos:
                on_problem(files.no_photos())
            return files
        return build_dataset(settings)

    def _existing_photos(self) -> Path | None:
        return self.image_folder if self.image_folder and self.image_folder.is_dir() else None


def _no_photos(folder: Path) -> DataError:
    return DataError(
        f"the folder of photos {folder} does not exist. Add it, or name another --split.", Kind.MISSING_FILE
    )


def find_sources(path: Path, data_format: str, images: Path | None, settings: DatasetConfig) -> list[Source]:
    """The splits of the data set at a path.

    Args:
        path: root of a data set, or a JSON file in COCO's panoptic or instances format.
        data_format: one of `DatasetConfig.format`, or "auto" to find out.
        images: folder of the photos of a panoptic JSON file that is not in the official layout.
        settings: the other settings; without a split, all splits that are found are taken.

    Raises:
        InputError: there is no data set, or it may be of several formats.
    """
    path = at_home(path)
    if not path.exists():
        raise InputError(f"{path} does not exist. Name the root of a data set, or a JSON file.")
    require_regular(path)
    if images is not None and not images.is_dir():
        raise InputError(f"--images {images} is no folder. Name the folder of photos.")
    require_regular(path)
    if path.is_file():
        with path.open("rb") as file:
            kind = archive_kind(file.read(512))
        if kind:
            raise InputError(f"{path} is an archive ({kind}). Unpack it, and name the folder of the data set.")
        return [_of_json(path, data_format, images, settings)]
    if images is not None:
        raise InputError(f"--images goes with a JSON file, but {path} is a folder. Leave it out.")
    if data_format == AUTO:
        data_format = _find_out(path)
    find_splits = _SPLITS.get(data_format)
    splits = [settings.split] if settings.split or find_splits is None else find_splits(path)
    if not splits:
        raise InputError(f"{path} holds no split of format {data_format}. Check the path, or name a --split.")
    checked: Any = data_format  # one of the literals of `DatasetConfig.format`: argparse sees to it
    of_format = replace(settings, format=checked, root=str(path))
    return [_of_split(path, replace(of_format, split=split)) for split in splits]


def _of_split(root: Path, settings: DatasetConfig) -> Source:
    if settings.format != "coco":
        return Source(settings)
    return Source(settings, root / "annotations" / f"panoptic_{settings.split}.json", root / settings.split)


def _of_json(path: Path, data_format: str, images: Path | None, settings: DatasetConfig) -> Source:
    """A JSON file by itself; its photos are found where it lies in the official layout."""
    if data_format == AUTO:
        data_format = _format_of_json(path)
    prefix = _PREFIXES.get(data_format)
    if prefix is None:
        raise InputError(f"{path} is a file; format {data_format} wants the root folder of the data set. Name that.")
    root, split = path.parent.parent, path.stem.removeprefix(prefix)
    in_layout = path.parent.name == "annotations" and path.stem.startswith(prefix)
    if data_format == "coco":
        folder = images or (root / split if in_layout and (root / split).is_dir() else None)
        return Source(replace(settings, format="coco", split=split), path, folder)
    if not in_layout:
        raise InputError(
            f"{path} is in COCO's instances format, which is read from the layout ROOT/annotations/"
            f"instances_SPLIT.json, ROOT/annotations/semantic_SPLIT/, ROOT/{FILE_NAME}, ROOT/SPLIT/. Name ROOT."
        )
    return Source(replace(settings, format="coco_instances", root=str(root), split=split))


def _format_of_json(path: Path) -> str:
    """What its name says; else, what its annotations are."""
    for data_format, prefix in _PREFIXES.items():
        if path.name.startswith(prefix):
            return data_format
    content = read_json(path, _format_of_annotation)
    annotations = content.get("annotations") if isinstance(content, dict) else None
    if isinstance(annotations, list) and annotations and annotations[0] in list(_PREFIXES):  # it may be no text
        return str(annotations[0])
    raise InputError(
        f"{path} holds neither COCO panoptic annotations (with segments_info) nor instances (with segmentation). "
        "Name another file, or say its --format."
    )


def _format_of_annotation(entry: dict[str, Any]) -> Any:
    """Takes the place of each object of a JSON file: large ones are never held whole."""
    for key, data_format in (("segments_info", "coco"), ("segmentation", "coco_instances")):
        if key in entry:
            return data_format
    return entry if "annotations" in entry else None


def _find_out(root: Path) -> str:
    found = {data_format: splits for data_format, find in _SPLITS.items() if (splits := find(root))}
    if len(found) > 1:
        raise InputError(
            f"{root} may be of several formats: {', '.join(found)}. Say which one with --format {next(iter(found))}."
        )
    if not found:
        raise InputError(
            f"{root} is no data set that can be recognised. Looked for: annotations/panoptic_*.json (coco); "
            f"annotations/instances_*.json with {FILE_NAME} (coco_instances); folders {IMAGES}, {CATEGORIES}, "
            "instances, at the root or in folders of splits (png_pairs); gtFine with folders of splits (cityscapes); "
            "config_v1.2.json, config_v2.0.json or config.json beside folders of splits (vistas). For another form, "
            "give --format and --split."
        )
    return next(iter(found))


def stray_files(root: Path) -> list[Path]:
    """JSON files among a root's annotation that are no split beside those that are: lists of test images, results."""
    return [path for path in _coco_files(root) if path.stem.removeprefix("panoptic_") not in _coco_splits(root)]


def _coco_files(root: Path) -> list[Path]:
    return sorted(root.glob("annotations/panoptic_*.json"))


def _coco_splits(root: Path) -> list[str]:
    """The splits; where there is none, all files of such names, so that opening them tells what is missing."""
    files = _coco_files(root)
    return [path.stem.removeprefix("panoptic_") for path in files if _is_split(path)] or [
        path.stem.removeprefix("panoptic_") for path in files
    ]


def _is_split(path: Path) -> bool:
    """Whether a file belongs to a split: it annotates, and has its photos, or its PNGs and all lists.

    It is not read as JSON, for some are large; a split whose file is broken stays a split.
    """
    holds = _words_in(path, (b'"segments_info"', b'"images"', b'"categories"'))
    has_photos = (path.parent.parent / path.stem.removeprefix("panoptic_")).is_dir()
    return holds[0] and (has_photos or (path.with_suffix("").is_dir() and all(holds)))


def _words_in(path: Path, words: Sequence[bytes]) -> list[bool]:
    """Which words are in a file; all, where it cannot be searched: whoever reads it tells why."""
    if path.exists() and not path.is_file():  # a named pipe would be waited for
        return [False for _ in words]
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            is_cut_short = not content[-64:].rstrip().endswith(b"}")
            if is_cut_short or content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                return [True for _ in words]
            return [content.find(word) >= 0 for word in words]
    except (OSError, ValueError):  # an empty file cannot be mapped
        return [True for _ in words]


def _instances_splits(root: Path) -> list[str]:
    # COCO's own folder holds instances_*.json beside panoptic_*.json; only ours has a list of stuff categories
    files = root.glob("annotations/instances_*.json") if (root / FILE_NAME).is_file() else []
    splits = sorted(path.stem.removeprefix("instances_") for path in files)
    whole = [split for split in splits if (root / split).is_dir() or (root / f"annotations/semantic_{split}").is_dir()]
    return whole or splits


def _png_splits(root: Path) -> list[str]:
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [path for path in folders if (path / IMAGES).is_dir() and (path / CATEGORIES).is_dir()]
    return ["" if path == root else path.name for path in found]


_SPLITS: dict[str, Callable[[Path], list[str]]] = {
    "coco": _coco_splits,
    "coco_instances": _instances_splits,
    "png_pairs": _png_splits,
    "cityscapes": cityscapes.find_splits,
    "vistas": vistas.find_splits,
}
"""Format -> what finds its splits; other formats must be named, and their split."""
