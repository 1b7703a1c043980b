"""Mapillary Vistas folders -> PanopticSegmentation: its panoptic files, or its 16-bit PNGs of instances."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Literal

import numpy as np

from tascnet.data.file_names import find_file
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.dataset import Inspected, PhotoDataset
from tascnet.data.formats.vistas_config import VistasConfig, read_vistas_config
from tascnet.data.images import Exif, open_annotation
from tascnet.data.loading import load_sample
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import VOID, PanopticSegmentation, Segment, run_starts

Version = Literal["v1.2", "v2.0"]
Form = Literal["panoptic", "instances"]

_FORMS = ("panoptic", "instances")
_CONFIGS = {"v1.2": ("config_v1.2.json", "config.json"), "v2.0": ("config_v2.0.json",)}
_PANOPTIC_JSON = {"v1.2": "panoptic_2018.json", "v2.0": "panoptic_2020.json"}

INSTANCES = 256
"""Instances that a label can have in one picture: a pixel of the 16-bit PNGs is 256 * label + instance."""


class Vistas(PhotoDataset):
    """A split of Mapillary Vistas in its official folders, v1.2 or v2.0.

    Categories, colours, things and what is ignored come from the config file; a category's id is the position of its
    label there, counted from 1, in both forms of annotation. Only the panoptic form knows crowds.

    Attributes:
        label_space: the categories of the labels that are evaluated; the others are VOID.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        version: Version = "v1.2",
        form: Form = "panoptic",
        load_short_side: int = 0,
        on_problem: OnProblem = stop,
    ) -> None:
        """Look at the folders, read the config file and, for the panoptic form, its JSON.

        Args:
            root: the folder that holds the config file.
            split: "training" or "validation".
            version: of the annotation.
            form: "panoptic" for JSON and PNG files as in COCO, "instances" for the 16-bit PNGs.
            load_short_side: pixels to which the shorter side of larger samples is reduced; 0 for full size.
            on_problem: called with each entry of the JSON that breaks a rule, or each file that lacks its partner;
                the default raises the first.

        Raises:
            InputError: a file or folder is missing or broken, two of them disagree, nothing is annotated, or
                `on_problem` raises.
        """
        root = Path(root)
        _check_choice("version", version, _CONFIGS)
        _check_choice("form", form, _FORMS)
        config = read_vistas_config(_config_file(root, version))
        self.label_space = config.label_space
        folder, images = _annotation_folder(root, split, version, form), root / split / "images"
        self._reader: CocoPanoptic | _InstancePngs
        if form == "instances":
            self._reader, self._merge = _InstancePngs(config, images, folder, load_short_side, on_problem), None
            return
        json_path = folder / _PANOPTIC_JSON[version]
        self._reader = CocoPanoptic(json_path, images, folder, load_short_side, on_problem)
        self._merge = config.merge_from(self._reader.label_space, json_path)

    @property
    def exif(self) -> Exif:
        """Whether EXIF tags turn photos."""
        return self._reader.exif

    @exif.setter
    def exif(self, exif: Exif) -> None:
        self._reader.exif = exif

    def __len__(self) -> int:
        """Number of annotated pictures."""
        return len(self._reader)

    def __getitem__(self, index: int) -> Sample:
        """Photo and annotation, reduced if `load_short_side` says so.

        Raises:
            InputError: one of the two files is missing, is broken, breaks a rule, or differs from the other in size.
        """
        sample = self._reader[index]
        return replace(sample, segmentation=self.renamed(sample.segmentation))

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation alone, at full size; the photo is not read.

        Raises:
            InputError: the PNG is missing, is broken, or breaks a rule.
        """
        return self.renamed(self._reader.annotation(index))

    def listed_categories(self, index: int) -> frozenset[int] | None:
        """Category ids of the segments; None for the form "instances"."""
        if self._merge is None or not isinstance(self._reader, CocoPanoptic):
            return None
        return self._merge.merged_ids(self._reader.listed_categories(index))

    def sample_name(self, index: int) -> str:
        """Name of the photo without its suffix."""
        return self._reader.sample_name(index)

    def image_id(self, index: int) -> int | str:
        """The photo's id in the panoptic JSON; its name in the other form. Officially they are the same."""
        return self._reader.image_id(index)

    def photo_path(self, index: int) -> Path:
        """The photo."""
        return self._reader.photo_path(index)

    def inspect(self, index: int) -> Inspected:
        """Read image and annotation, each also where the other is broken."""
        if not isinstance(self._reader, CocoPanoptic):
            return super().inspect(index)
        inspected = self._reader.inspect(index)
        if inspected.segmentation is None:
            return inspected
        return inspected._replace(segmentation=self.renamed(inspected.segmentation))

    def inspect_files(self) -> Iterator[DataError]:
        """Those of the panoptic form, as `CocoPanoptic` finds them."""
        return self._reader.inspect_files() if isinstance(self._reader, CocoPanoptic) else iter(())

    def unannotated(self) -> list[str]:
        """Images that the panoptic JSON lists and does not annotate."""
        return self._reader.unannotated() if isinstance(self._reader, CocoPanoptic) else []

    def renamed(self, segmentation: PanopticSegmentation) -> PanopticSegmentation:
        """A segmentation as the files have it, in the categories of `label_space`."""
        return self._merge(segmentation) if self._merge else segmentation


class _InstancePngs:
    """The photos of a folder, each with a 16-bit PNG of the same name: 256 * label + instance.

    The instances of a label are numbered from 0, so 0 is an object like the others. For stuff the number means nothing.
    """

    exif: Exif = "apply"

    def __init__(
        self, config: VistasConfig, images: Path, annotations: Path, load_short_side: int, on_problem: OnProblem
    ) -> None:
        self._config, self._images, self._annotations = config, images, annotations
        self._load_short_side = load_short_side
        self._names = _paired_names(images, annotations, on_problem)
        self._segment_ids = _segment_id_of_value(config)

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Sample:
        name = self._names[index]
        photo, annotation = self.photo_path(index), self._png(index)
        return load_sample(photo, self.annotation(index), name, name, annotation, self._load_short_side, self.exif)

    def annotation(self, index: int) -> PanopticSegmentation:
        values = _read_values(self._png(index))
        flat = values.ravel()
        present = np.unique(flat[run_starts(flat)])
        labels = self._config.labels
        if present.size and present[-1] // INSTANCES >= len(labels):
            raise DataError(
                f"{self._png(index)} holds the value {present[-1]}, that is label {present[-1] // INSTANCES}; "
                f"{self._config.path} has {len(labels)} labels, counted from 0. Use files of one version.",
                Kind.UNKNOWN_CATEGORY,
            )
        ids = {int(self._segment_ids[value]): labels[value // INSTANCES].id for value in present.tolist()}
        segments = [Segment(segment_id, category_id, area=0) for segment_id, category_id in ids.items() if segment_id]
        return PanopticSegmentation.from_id_map(self._segment_ids.take(values), segments)

    def sample_name(self, index: int) -> str:
        return self._names[index]

    def image_id(self, index: int) -> str:
        return self._names[index]

    def photo_path(self, index: int) -> Path:
        return find_file(self._images, f"{self._names[index]}.jpg")

    def _png(self, index: int) -> Path:
        return find_file(self._annotations, f"{self._names[index]}.png")


def _segment_id_of_value(config: VistasConfig) -> np.ndarray:
    """(256 * number of labels,) int32: value of a 16-bit PNG -> segment id; VOID where a label is not evaluated."""
    ids = np.arange(INSTANCES * len(config.labels), dtype=np.int32).reshape(-1, INSTANCES) + 1  # id 0 is VOID's
    for label_ids, label, is_evaluated in zip(ids, config.labels, config.evaluated, strict=True):
        if not is_evaluated:
            label_ids[:] = VOID
        elif not label.is_thing:
            label_ids[:] = label_ids[0]
    return ids.ravel()


def _read_values(path: Path) -> np.ndarray:
    """(H, W) uint16."""
    picture = open_annotation(path)
    if picture.mode != "I;16":
        raise DataError(
            f"{path} is a picture of mode {picture.mode}; the PNGs in instances hold 256 * label + instance in one "
            "channel of 16 bits. Check that the files are those of Mapillary Vistas, not of its labels or panoptic.",
            Kind.NOT_IDS,
        )
    return np.asarray(picture)


def _paired_names(images: Path, annotations: Path, on_problem: OnProblem) -> list[str]:
    """Names without suffix of the photos that have their annotation, sorted; others are problems."""
    photos, pngs = _names_in(images, ".jpg"), _names_in(annotations, ".png")
    for missing, kind, folder, suffix, other in (
        (photos - pngs, Kind.MISSING_FILE, annotations, "png", "a photo"),
        (pngs - photos, Kind.NO_IMAGE, images, "jpg", "an annotation"),
    ):
        for name in sorted(missing):
            text = (
                f"{len(missing)} files are missing in {folder}, one is {name}.{suffix}; there is {other} of that "
                "name. Copy or download them, or remove what has no counterpart."
            )
            on_problem(DataError(text, kind, f"{name}.{suffix}"))
    if not photos:
        raise InputError(f"the folder {images} holds no photos (*.jpg). Check root and split.")
    return sorted(photos & pngs)


def _names_in(folder: Path, suffix: str) -> set[str]:
    try:
        names = os.listdir(folder)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read: {error.strerror}. Check root and split.") from error
    return {PurePath(name).stem for name in names if name.lower().endswith(suffix) and not name.startswith(".")}


def _config_file(root: Path, version: str) -> Path:
    paths = [root / name for name in _CONFIGS[version]]
    found = [path for path in paths if path.is_file()]
    if not found:
        raise InputError(
            f"{' or '.join(map(str, paths))} does not exist; the categories of Mapillary Vistas {version} are read "
            "from it. Check root and version."
        )
    return found[0]


def _annotation_folder(root: Path, split: str, version: str, form: str) -> Path:
    """Where the annotation is; an early release of v1.2 has no folder for the version."""
    folders = [root / split / version / form] + ([root / split / form] if version == "v1.2" else [])
    found = [folder for folder in folders if folder.is_dir()]
    if not found:
        raise InputError(
            f"the folder {' or '.join(map(str, folders))} does not exist; it holds the {form} annotation of Mapillary "
            f"Vistas {version}. Check root, split (training or validation) and version."
        )
    return found[0]


def find_splits(root: Path) -> list[str]:
    """The folders that hold photos and annotation, where the root has a config file; testing has no annotation."""
    if not any((root / name).is_file() for names in _CONFIGS.values() for name in names):
        return []
    annotations = ("v1.2", "v2.0", *_FORMS)
    folders = [path.parent for path in root.glob("[!.]*/images") if not (path.parent / "categories").exists()]
    return sorted(path.name for path in folders if any((path / name).is_dir() for name in annotations))


def _check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} of Mapillary Vistas is '{value}'; it may be {' or '.join(choices)}.")
