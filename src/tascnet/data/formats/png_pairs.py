"""Photos, PNGs of category numbers and PNGs of instance numbers -> PanopticSegmentation."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch.utils.data import Dataset

from tascnet.data.file_names import find_file
from tascnet.data.formats.categories_file import FILE_NAME, CategoriesFile, read_categories
from tascnet.data.formats.label_png import read_numbers
from tascnet.data.images import Exif, list_images
from tascnet.data.loading import load_sample
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation, Segment, run_starts

IMAGES, CATEGORIES, INSTANCES = "images", "categories", "instances"
"""The three folders; the files of one picture have one stem in all of them."""

_NUMBERS = 2**16  # as many instances as a PNG of 16 bits can tell apart


class Pair(NamedTuple):
    """The files of one picture."""

    photo: Path
    categories: Path
    instances: Path


class PngPairs(Dataset[Sample]):
    """A data set of photos with two PNGs each: the category of every pixel, and the instance.

        root/categories.yaml
        root/<split>/images/NAME.jpg  root/<split>/categories/NAME.png  root/<split>/instances/NAME.png

    A thing's pixels with instance number 0 are a crowd of its category. One instance number in two categories makes
    two instances. Instance numbers of stuff and VOID are not looked at.

    Attributes:
        label_space: the categories of categories.yaml.
        exif: whether EXIF tags turn photos, "apply" or "ignore"; may be set.
    """

    label_space: LabelSpace
    exif: Exif = "apply"

    def __init__(self, root: str | Path, split: str = "", load_short_side: int = 0, on_problem: OnProblem = stop):
        """List the files; each is read when it is asked for.

        Args:
            root: the folder that holds categories.yaml.
            split: a folder in it; "" for the root itself.
            load_short_side: pixels to which the shorter side of larger samples is reduced; 0 for full size.
            on_problem: called with each file that lacks its partner; the default raises the first.

        Raises:
            InputError: a folder or categories.yaml is missing, there are no pictures, or `on_problem` raises.
        """
        self._file = read_categories(Path(root) / FILE_NAME)
        self.label_space = self._file.label_space
        self._load_short_side = load_short_side
        self._pairs = list(_pair_files(Path(root) / split, on_problem))

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Photo and annotation.

        Raises:
            InputError: one of the three files is broken or of another size, or a number is of no category.
        """
        name, pair = self.sample_name(index), self._pairs[index]
        return load_sample(
            pair.photo, self.annotation(index), name, name, pair.categories, self._load_short_side, self.exif
        )

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation alone; the photo is not read.

        Raises:
            InputError: one of the two PNGs is broken or of another size, or a number is of no category.
        """
        pair = self._pairs[index]
        categories, instances = read_numbers(pair.categories), read_numbers(pair.instances)
        if categories.shape != instances.shape:
            raise DataError(
                f"{pair.instances} is {instances.shape[0]} x {instances.shape[1]} pixels (height x width), but "
                f"{pair.categories} is {categories.shape[0]} x {categories.shape[1]}. Use two PNGs of one picture.",
                Kind.OTHER_SIZE,
            )
        return join_numbers(categories, instances, self._file, pair.categories)

    def sample_name(self, index: int) -> str:
        """Stem of the photo."""
        return self._pairs[index].photo.stem

    def photo_path(self, index: int) -> Path:
        """The photo."""
        return self._pairs[index].photo


def join_numbers(
    categories: np.ndarray, instances: np.ndarray, file: CategoriesFile, where: Path
) -> PanopticSegmentation:
    """Category numbers and instance numbers -> segments, ordered by category and instance number, with ids from 1.

    Args:
        categories: (H, W) integers, 0..65535.
        instances: (H, W) integers, 0..65535; 0 is no instance.
        file: what the category numbers mean.
        where: the PNG of categories, for the error.

    Raises:
        InputError: a number is of no category.
    """
    flat_categories, flat_instances = categories.ravel(), instances.ravel()
    starts = run_starts(flat_categories, flat_instances)
    run_categories, run_instances = flat_categories[starts].astype(np.int64), flat_instances[starts].astype(np.int64)
    category_of = file.categories_of(np.unique(run_categories).tolist(), where)
    is_counted = np.zeros(_NUMBERS, dtype=bool)  # category number -> whether its instance numbers count
    is_counted[[number for number, category in category_of.items() if category and category.is_thing]] = True
    keys, run_keys = np.unique(
        run_categories * _NUMBERS + run_instances * is_counted[run_categories], return_inverse=True
    )
    segments: list[Segment] = []
    ids = []
    for number, instance in zip((keys // _NUMBERS).tolist(), (keys % _NUMBERS).tolist(), strict=True):
        category = category_of[number]
        if category is None:
            ids.append(VOID)
            continue
        segments.append(Segment(len(segments) + 1, number, 0, is_crowd=category.is_thing and instance == 0))
        ids.append(len(segments))
    id_of_run = np.array(ids, dtype=np.int32)[run_keys.ravel()]
    id_map = np.repeat(id_of_run, np.diff(starts, append=categories.size)).reshape(categories.shape)
    return PanopticSegmentation.from_id_map(id_map, segments)


def _pair_files(folder: Path, on_problem: OnProblem) -> Iterator[Pair]:
    """The pictures of a split, ordered by name, that have all three files."""
    for name in (IMAGES, CATEGORIES, INSTANCES):
        if not (folder / name).is_dir():
            raise InputError(
                f"the folder {folder / name} does not exist; png_pairs needs {IMAGES}, {CATEGORIES} and {INSTANCES} "
                "in one folder. Check root and split."
            )
    photos: dict[str, Path] = {}
    for photo in list_images([folder / IMAGES]):
        if photo.stem in photos:
            twins = f"{photos[photo.stem]} and {photo.name} have one name; their PNGs would be the same. Rename one."
            on_problem(DataError(twins, Kind.REPEATED_IMAGE))
        photos.setdefault(photo.stem, photo)
    stems = {unicodedata.normalize(form, stem) for stem in photos for form in ("NFC", "NFD")} | photos.keys()
    for name in (CATEGORIES, INSTANCES):
        for path in sorted((folder / name).iterdir()):
            if path.suffix.lower() == ".png" and path.stem not in stems and not path.name.startswith("."):
                alone = f"{path} has no picture of its name in {folder / IMAGES}. Add the picture, or remove the PNG."
                on_problem(DataError(alone, Kind.NO_IMAGE))
    for stem, photo in photos.items():
        pair = Pair(photo, *(find_file(folder / name, f"{stem}.png") for name in (CATEGORIES, INSTANCES)))
        missing = [path for path in (pair.categories, pair.instances) if not path.is_symlink() and not path.exists()]
        for path in missing:
            text = f"{path} does not exist; {photo} needs it. Add it, or move the picture away."
            on_problem(DataError(text, Kind.MISSING_FILE))
        if not missing:
            yield pair


def find_splits(root: Path) -> list[str]:
    """Names of the splits at a root; the empty name for the root itself."""
    folders = [root, *sorted(path for path in root.iterdir() if path.is_dir())]
    found = [path for path in folders if (path / IMAGES).is_dir() and (path / CATEGORIES).is_dir()]
    return ["" if path == root else path.name for path in found]
