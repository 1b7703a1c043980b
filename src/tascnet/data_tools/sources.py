"""A path that a user names -> the splits of a data set that are there, and how each is opened."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tascnet.build import build_dataset, narrow, with_exif
from tascnet.config import DatasetConfig
from tascnet.data.formats.categories_file import FILE_NAME
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.dataset import FormatDataset
from tascnet.data.formats.png_pairs import CATEGORIES, IMAGES
from tascnet.data.formats.table import FORMATS, format_of
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

    def open_leniently(self, on_problem: OnProblem) -> FormatDataset:
        """Open it for a check: entries that break a rule are told to `on_problem` and left out.

        Raises:
            InputError: it cannot be read at all.
        """
        return with_exif(self._open_files(on_problem), self.settings.exif)

    def _open_files(self, on_problem: OnProblem) -> FormatDataset:
        settings = self.settings
        if self.json_path is not None:
            dataset = CocoPanoptic(self.json_path, self._existing_photos(), on_problem=on_problem)
            if self.image_folder is not None and not dataset.has_photos:
                on_problem(_no_photos(self.image_folder))
            return dataset
        return FORMATS[settings.format].open(settings, 0, on_problem)

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
    if data_format != AUTO:
        format_of(data_format, "--format")
    if not path.exists():
        raise InputError(f"{path} does not exist. Name the root of a data set, or a JSON file.")
    require_regular(path)
    if images is not None and not images.is_dir():
        raise InputError(f"--images {images} is no folder. Name the folder of photos.")
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
    find_splits = FORMATS[data_format].find_splits
    splits = [settings.split] if settings.split or find_splits is None else find_splits(path)
    if not splits:
        raise InputError(f"{path} holds no split of format {data_format}. Check the path, or name a --split.")
    of_format = replace(settings, format=data_format, root=str(path))
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
    finders = {name: row.find_splits for name, row in FORMATS.items() if row.find_splits is not None}
    found = {name: splits for name, find in finders.items() if (splits := find(root))}
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
