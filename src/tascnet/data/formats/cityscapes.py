"""Cityscapes' folders -> PanopticSegmentation."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from tascnet.data import own_labels
from tascnet.data.formats.cityscapes_ids import excusing_void, from_instance_ids, read_instance_ids
from tascnet.data.formats.cityscapes_labels import CITYSCAPES, NUM_LABELS
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.dataset import PhotoDataset
from tascnet.data.images import IMAGE_SUFFIXES
from tascnet.data.loading import load_sample
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation

PHOTO_ENDING = "_leftImg8bit"
PHOTO_SUFFIX = f"{PHOTO_ENDING}.png"
INSTANCE_IDS_ENDING = "_gtFine_instanceIds"


class Cityscapes(PhotoDataset):
    """A split of Cityscapes with fine annotation.

    The official folders, as they are unpacked:

        root/leftImg8bit/<split>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png
        root/gtFine/<split>/<city>/<city>_<sequence>_<frame>_gtFine_instanceIds.png

    or, for the annotation, what the official createPanopticImgs makes of them:

        root/gtFine/cityscapes_panoptic_<split>.json, root/gtFine/cityscapes_panoptic_<split>/<...>_gtFine_panoptic.png

    Both give the same segments. The name and the id of a picture are `<city>_<sequence>_<frame>`. Without the folder of
    photos, annotation alone can be read.

    Own labels in the same folders, as CVAT exports them, are described by root/label_colors.txt. Photos may be JPEGs.

    Attributes:
        label_space: the 19 evaluated categories, all else is VOID; or those of label_colors.txt.
        has_photos: whether there is a folder of photos.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        form: Literal["instance_ids", "panoptic"] | None = None,
        load_short_side: int = 0,
        on_problem: OnProblem = stop,
    ) -> None:
        """List the files; none but the JSON is read yet.

        Args:
            root: the folder that holds leftImg8bit and gtFine.
            split: "train" or "val"; the annotation of "test" is not public.
            form: which annotation to read. None takes the instanceIds files where the split has any, as they are what
                the others are made from, and else the JSON and its PNGs.
            load_short_side: pixels to which the shorter side of larger samples is reduced; 0 for full size.
            on_problem: called with each photo that lacks annotation or the reverse, and each name that two pictures
                share; the default raises the first.

        Raises:
            InputError: there is no annotation, a folder cannot be listed, or `on_problem` raises.
        """
        root = Path(root)
        self._photo_folder = root / "leftImg8bit" / split
        self._load_short_side = load_short_side
        self.label_space, num_labels = _labels(root)
        self._annotation = _open_annotation(root / "gtFine", split, form, self.label_space, num_labels, on_problem)
        self._photos: Mapping[str, Path] = {}
        self._used = list(range(len(self._annotation.names)))  # positions in the annotation
        self.has_photos = self._photo_folder.is_dir()
        if self.has_photos:
            self._photos = _files_of_cities(self._photo_folder, PHOTO_ENDING, IMAGE_SUFFIXES, on_problem)
            self._check_pairs(on_problem)
            self._used = [index for index in self._used if self._annotation.names[index] in self._photos]

    def __len__(self) -> int:
        """Number of annotated pictures."""
        return len(self._used)

    def __getitem__(self, index: int) -> Sample:
        """Photo and annotation.

        Raises:
            InputError: one of the two files is missing or broken, or they differ in size.
        """
        name, photo, annotation = self.sample_name(index), self.photo_path(index), self.annotation(index)
        where = self._annotation.path(self._used[index])
        return load_sample(photo, annotation, name, name, where, self._load_short_side, self.exif)

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation alone; the photo is not read.

        Raises:
            InputError: the file is missing, is broken, or holds values of no known label.
        """
        return self._annotation.read(self._used[index])

    def excusing_void(self, index: int) -> Tensor | None:
        """(H, W) bool: what `CityscapesAveragePrecision` needs as `void` to equal the official script.

        It is the VOID of the annotation less caravans and trailers with an object's number, which are not evaluated
        and yet excuse no false detection there.

        None where the annotation is read in the form "panoptic", whose files do not hold them, or has own labels.
        """
        if not isinstance(self._annotation, _InstanceIdsFiles) or self.label_space != CITYSCAPES:
            return None
        return torch.from_numpy(excusing_void(read_instance_ids(self._annotation.paths[self._used[index]])))

    def listed_categories(self, index: int) -> frozenset[int] | None:
        """Category ids of the segments; None where the annotation is read in the form "instance_ids"."""
        annotation = self._annotation
        return annotation.listed_categories(self._used[index]) if isinstance(annotation, _PanopticFiles) else None

    def sample_name(self, index: int) -> str:
        """`<city>_<sequence>_<frame>`."""
        return self._annotation.names[self._used[index]]

    def photo_path(self, index: int) -> Path:
        """The photo.

        Raises:
            InputError: there is no folder of photos.
        """
        if not self.has_photos:
            raise self.no_photos()
        return self._photos[self.sample_name(index)]

    def no_photos(self) -> DataError:
        """The problem of a split without a folder of photos."""
        return DataError(
            f"the folder of photos {self._photo_folder} does not exist; unpack leftImg8bit beside gtFine. "
            "Without photos, annotation(i) can still be read.",
            Kind.MISSING_FILE,
        )

    def image_id(self, index: int) -> str:
        """The same: the benchmark knows pictures by their names."""
        return self.sample_name(index)

    def _check_pairs(self, on_problem: OnProblem) -> None:
        annotated, photos = set(self._annotation.names), self._photos.keys()
        for what, kind, lacking in (
            ("photo", Kind.NO_IMAGE, annotated - photos),
            ("annotation", Kind.MISSING_FILE, photos - annotated),
        ):
            for name in sorted(lacking):
                text = (
                    f"{len(lacking)} of {len(annotated | photos)} pictures have no {what}, '{name}' for one "
                    f"(photos: {self._photo_folder}, annotation: {self._annotation.place}). Unpack both archives "
                    "whole, or remove what has no counterpart."
                )
                on_problem(DataError(text, kind, f"{name}.png"))


class _Annotation(Protocol):
    """Names of pictures, and their segmentations by position; `place` says where they are, for error messages."""

    names: list[str]
    place: str

    def path(self, index: int) -> Path: ...

    def read(self, index: int) -> PanopticSegmentation: ...


class _InstanceIdsFiles:
    """Annotation as downloaded: one PNG a picture."""

    def __init__(self, paths: Mapping[str, Path], folder: Path, label_space: LabelSpace, num_labels: int) -> None:
        self.names, self.paths = list(paths), list(paths.values())
        self.place = str(folder)
        self._label_space, self._num_labels = label_space, num_labels

    def path(self, index: int) -> Path:
        return self.paths[index]

    def read(self, index: int) -> PanopticSegmentation:
        return from_instance_ids(read_instance_ids(self.paths[index], self._num_labels), self._label_space)


class _PanopticFiles:
    """Annotation as createPanopticImgs converts it. The names of photos in its JSON are of no existing files."""

    def __init__(self, path: Path, label_space: LabelSpace, on_problem: OnProblem) -> None:
        self._files = CocoPanoptic(path, on_problem=on_problem)
        self.names = [str(self._files.image_id(index)) for index in range(len(self._files))]
        self.place = str(path)
        if label_space != CITYSCAPES or _meaning(self._files.label_space) != _meaning(CITYSCAPES):
            raise InputError(
                f"{path} does not list the 19 categories of Cityscapes under their official ids, 7 to 33. "
                "Make it with createPanopticImgs, without --use-train-id; or read it as COCO panoptic."
            )

    def path(self, index: int) -> Path:
        return self._files.annotation_path(index)

    def read(self, index: int) -> PanopticSegmentation:
        return self._files.annotation(index)

    def listed_categories(self, index: int) -> frozenset[int]:
        return self._files.listed_categories(index)


def _labels(root: Path) -> tuple[LabelSpace, int]:
    """The categories, and the number of labels in the PNGs."""
    path = root / own_labels.FILE_NAME
    if not path.is_file():
        return CITYSCAPES, NUM_LABELS
    files = sorted((root / "gtFine").glob(f"*/*/*{INSTANCE_IDS_ENDING}.png"))
    return own_labels.read_own_labels(path, files, read_instance_ids)


def _open_annotation(
    folder: Path, split: str, form: str | None, label_space: LabelSpace, num_labels: int, on_problem: OnProblem
) -> _Annotation:
    if form not in (None, "instance_ids", "panoptic"):
        raise InputError(f"form is '{form}'; it may be 'instance_ids', 'panoptic', or None for whichever there is.")
    split_folder, json_path = folder / split, folder / f"cityscapes_panoptic_{split}.json"
    paths: Mapping[str, Path] = {}
    if form != "panoptic" and split_folder.is_dir():
        paths = _files_of_cities(split_folder, INSTANCE_IDS_ENDING, (".png",), on_problem)
    if paths:
        annotation = _InstanceIdsFiles(paths, split_folder, label_space, num_labels)
        if split == "test":
            _refuse_placeholders(annotation, split_folder)
        return annotation
    if form == "panoptic" or (form is None and json_path.exists()):
        return _PanopticFiles(json_path, label_space, on_problem)
    looked_for = f"{split_folder}/CITY/*{INSTANCE_IDS_ENDING}.png" + (f" and no {json_path}" if form is None else "")
    reason = " The benchmark keeps the annotation of its test split to itself: use train or val." * (split == "test")
    raise InputError(
        f"Cityscapes' split '{split}' has no annotation: there is no {looked_for}. Check root and split.{reason}"
    )


def _refuse_placeholders(annotation: _InstanceIdsFiles, folder: Path) -> None:
    """The official archive has files for the test split that show no more than the car's bonnet and the borders."""
    if not annotation.read(0).segments:
        raise InputError(
            f"the annotation of the split 'test' in {folder} is placeholders: {annotation.paths[0].name} holds "
            "no evaluated label. The benchmark keeps that of its test split to itself: use train or val."
        )


def _files_of_cities(folder: Path, ending: str, suffixes: Collection[str], on_problem: OnProblem) -> dict[str, Path]:
    """Name of the picture -> file, for all folder/<city>/<name><ending><suffix>, sorted by city and name."""
    files: dict[str, Path] = {}
    for city in _entries(folder):
        if _is_loop(city, folder):
            raise InputError(f"{city} is a link that leads nowhere or back to where it is; remove or mend it.")
        for file in _entries(city) if city.is_dir() else ():
            if not file.stem.endswith(ending) or file.suffix.lower() not in suffixes:
                continue
            name = file.stem.removesuffix(ending)
            if name in files:
                twins = f"two pictures have the name '{name}': {files[name]} and {file}. Rename one of them."
                on_problem(DataError(twins, Kind.REPEATED_IMAGE, file.name))
            files.setdefault(name, file)
    return files


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, sorted; hidden entries are left out."""
    try:
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be listed: {error.strerror}. Check its permissions.") from error


def _is_loop(path: Path, folder: Path) -> bool:
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError):  # RuntimeError: a loop, before Python 3.13
        return True
    return path.is_symlink() and folder.resolve().is_relative_to(target)


def _meaning(label_space: LabelSpace) -> dict[int, tuple[str, bool]]:
    return {category.id: (category.name, category.is_thing) for category in label_space.categories}


def find_splits(root: Path) -> list[str]:
    """The splits whose annotation is in a root, "test" left out: its annotation is not public."""
    prefix = "cityscapes_panoptic_"
    folders = {path.name for path in (root / "gtFine").glob("[!.]*") if path.is_dir()}
    converted = {path.stem.removeprefix(prefix) for path in (root / "gtFine").glob(f"{prefix}*.json")}
    folders = {name for name in folders if not name.startswith(prefix)}  # those hold the PNGs of the JSON files
    return sorted((folders | converted) - {"test"})
