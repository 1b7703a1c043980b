"""COCO instances JSON + PNGs of category numbers -> PanopticSegmentation."""

from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Self

import numpy as np
from torch.utils.data import Dataset

from tascnet.data.file_names import find_file
from tascnet.data.formats.categories_file import FILE_NAME, CategoriesFile, read_categories
from tascnet.data.formats.coco_json import check_files, other_kind, read_images, read_lists, require_keys, wrong_value
from tascnet.data.formats.label_png import read_numbers
from tascnet.data.formats.png_pairs import join_numbers
from tascnet.data.images import Exif
from tascnet.data.loading import load_sample
from tascnet.data.masks import ERROR, Mask, Overlaps, encode_mask, paint
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.data.sample import Sample
from tascnet.errors import InputError, shown
from tascnet.structures import LabelSpace, PanopticSegmentation, Segment, Size
from tascnet.values import flag, whole


class _Picture(NamedTuple):
    image_id: int | str
    image_file: str
    size: Size
    annotations: list[dict[str, Any]]


class CocoInstances(Dataset[Sample]):
    """A data set of COCO's instances format, with a PNG of category numbers for each picture.

    Where an instance is, it counts, and the PNG's number is not looked at. Elsewhere a stuff number is stuff, and a
    thing's number is a crowd of that thing: somebody saw the category, nobody told the objects apart. Instances
    without a visible pixel vanish, see `hidden`. All images of the JSON are read, also those without instances.

    Attributes:
        label_space: the categories of categories.yaml.
        exif: whether EXIF tags turn photos, "apply" or "ignore"; may be set.
    """

    label_space: LabelSpace
    exif: Exif = "apply"

    def __init__(
        self,
        instances_json: str | Path,
        categories_yaml: str | Path,
        semantic_folder: str | Path,
        image_folder: str | Path,
        overlaps: str = ERROR,
        load_short_side: int = 0,
        on_problem: OnProblem = stop,
    ):
        """Read the JSON file.

        Args:
            instances_json: with `images`, `annotations` and `categories`; the last must be things of categories.yaml.
            categories_yaml: all categories, stuff too, and the numbers that mean VOID.
            semantic_folder: holds a PNG for each photo, of the photo's name with the suffix .png.
            image_folder: holds the photos.
            overlaps: what becomes of instances that overlap, see `Overlaps`.
            load_short_side: pixels to which the shorter side of larger samples is reduced; 0 for full size.
            on_problem: called with each entry of the JSON that breaks a rule; the default raises the first.

        Raises:
            InputError: a file or folder is missing, the JSON is broken or lists other categories, or `on_problem`
                raises.
        """
        self._json = Path(instances_json)
        self._file = read_categories(categories_yaml)
        self.label_space = self._file.label_space
        self._semantic_folder, self._image_folder = Path(semantic_folder), Path(image_folder)
        self._load_short_side = load_short_side
        self._overlaps = Overlaps(overlaps, self.label_space)
        self._pictures = _read_pictures(self._json, self._file, on_problem)
        _check_files(self._json, self._pictures, on_problem)
        for folder in (self._semantic_folder, self._image_folder):
            if not folder.is_dir():
                raise InputError(f"the folder {folder} does not exist; {self._json} refers to files in it. Add it.")

    @classmethod
    def from_layout(
        cls,
        root: str | Path,
        split: str,
        overlaps: str = ERROR,
        load_short_side: int = 0,
        on_problem: OnProblem = stop,
    ) -> Self:
        """Read a split of the folder layout that follows COCO's.

        That is root/categories.yaml, root/annotations/instances_<split>.json, root/annotations/semantic_<split>/ and
        root/<split>/.
        """
        root, annotations = Path(root), Path(root) / "annotations"
        return cls(
            annotations / f"instances_{split}.json",
            root / FILE_NAME,
            annotations / f"semantic_{split}",
            root / split,
            overlaps,
            load_short_side,
            on_problem,
        )

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        """Photo and annotation.

        Raises:
            InputError: a file is missing, is broken or of another size, or the annotation breaks a rule.
        """
        return load_sample(
            self.photo_path(index),
            self.annotation(index),
            self.sample_name(index),
            self._pictures[index].image_id,
            self._json,
            self._load_short_side,
            self.exif,
        )

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation alone; the photo is not read.

        Raises:
            InputError: the PNG is missing, is broken or of another size, or the annotation breaks a rule.
        """
        return self.compose(index)[0]

    def compose(self, index: int, on_problem: OnProblem = stop) -> tuple[PanopticSegmentation, list[str]]:
        """The annotation, and what an error would call the instances without a visible pixel.

        Args:
            index: of the picture.
            on_problem: called with each instance that cannot be painted; the default raises the first.

        Raises:
            InputError: the PNG is missing, is broken or of another size, or `on_problem` raises.
        """
        picture = self._pictures[index]
        path = find_file(self._semantic_folder, f"{self.sample_name(index)}.png")
        numbers = read_numbers(path)
        if numbers.shape != picture.size:
            raise DataError(
                f"{path} is {numbers.shape[0]} x {numbers.shape[1]} pixels (height x width), but {self._json} says "
                f"{picture.size.height} x {picture.size.width}. Use the PNG that belongs to this JSON file.",
                Kind.OTHER_SIZE,
            )
        below = join_numbers(numbers, np.zeros_like(numbers), self._file, path)
        masks = self._masks(picture, len(below.segments) + 1, on_problem)
        id_map = below.id_map.numpy()
        paint(id_map, masks, self._overlaps, on_problem)
        segments = [*below.segments, *(Segment(mask.id, mask.category_id, 0, mask.is_crowd) for mask in masks)]
        areas = PanopticSegmentation(below.id_map, tuple(segments)).count_areas()
        seen = tuple(replace(segment, area=areas[segment.id]) for segment in segments if areas[segment.id])
        return PanopticSegmentation(below.id_map, seen), [mask.name for mask in masks if not areas[mask.id]]

    def sample_name(self, index: int) -> str:
        """Name of the photo without its suffix."""
        return PurePath(self._pictures[index].image_file).with_suffix("").as_posix()

    def photo_path(self, index: int) -> Path:
        """The photo."""
        return find_file(self._image_folder, self._pictures[index].image_file)

    def _masks(self, picture: _Picture, first_id: int, on_problem: OnProblem) -> list[Mask]:
        masks: list[Mask] = []
        for entry in picture.annotations:
            name = f"{self._json}, {picture.image_file}, annotation {entry['id']}"
            try:
                code = encode_mask(entry["segmentation"], picture.size, name)
            except DataError as problem:
                on_problem(problem)
                continue
            category_id, is_crowd = whole(entry["category_id"]), flag(entry.get("iscrowd") or 0)
            masks.append(Mask(first_id + len(masks), category_id, is_crowd, code, name))
        return masks


def _read_pictures(path: Path, file: CategoriesFile, on_problem: OnProblem) -> list[_Picture]:
    """The images of the JSON with their annotations, in the order of the images."""
    content = read_lists(path, ("images", "annotations", "categories"), "COCO instances", "instances_*.json")
    _check_categories(path, content["categories"], file)
    images = read_images(path, content["images"], on_problem)
    if not images:
        raise InputError(f"{path} has no images: the list is empty. Choose a file with annotated pictures.")
    of_image: dict[int | str, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    seen: set[int | str] = set()
    for position, entry in enumerate(content["annotations"]):
        where = f"{path}, annotation number {position}"
        try:
            require_keys(entry, ("id", "image_id", "category_id", "segmentation"), where)
            _check_annotation(where, entry, of_image, seen, file.label_space)
        except DataError as problem:
            on_problem(problem)
            continue
        except (TypeError, ValueError) as error:  # a list where a number belongs
            on_problem(wrong_value(where, error))
            continue
        seen.add(entry["id"])
        of_image[entry["image_id"]].append(entry)
    return [_Picture(image_id, *images[image_id], annotations) for image_id, annotations in of_image.items()]


def _check_files(path: Path, pictures: list[_Picture], on_problem: OnProblem) -> None:
    """Report each photo of several images, and photos of one stem, which would share the PNG of that name."""
    check_files(path, ((picture.image_id, picture.image_file) for picture in pictures), on_problem)
    file_of: dict[PurePath, str] = {}
    for picture in pictures:
        stem = PurePath(picture.image_file).with_suffix("")
        other = file_of.setdefault(stem, picture.image_file)
        if other != picture.image_file:
            text = f"{path}: {other} and {picture.image_file} have one name; their PNG would be the same. Rename one."
            on_problem(DataError(text, Kind.REPEATED_IMAGE, picture.image_file))


def _check_categories(path: Path, entries: list[Any], file: CategoriesFile) -> None:
    for entry in entries:
        require_keys(entry, ("id", "name"), f"{path}, a category")
        try:
            ours = file.label_space.by_id.get(whole(entry["id"]))
        except ValueError as error:
            raise wrong_value(f"{path}, a category", error) from error
        if ours is None or not ours.is_thing or ours.name != entry["name"]:
            found = "nothing" if ours is None else f"the {'thing' if ours.is_thing else 'stuff'} '{ours.name}'"
            raise InputError(
                f"{path}: category {entry['id']} is '{entry['name']}', but in {file.path} that id is {found}. "
                "Give it the same id and name in both, and isthing: 1 there."
            )


def _check_annotation(
    where: str, entry: dict[str, Any], of_image: dict[int | str, Any], seen: set[int | str], space: LabelSpace
) -> None:
    if entry["image_id"] not in of_image:
        raise DataError(
            f"{where}: there is no image with id {shown(entry['image_id'])}. {other_kind(entry['image_id'], of_image)}"
            "Add it to the images, or use the whole file.",
            Kind.NO_IMAGE,
        )
    if entry["id"] in seen:
        raise DataError(f"{where}: the id {entry['id']} is used twice. Mend the ids.", Kind.REPEATED_SEGMENT)
    category_id = whole(entry["category_id"])
    flag(entry.get("iscrowd") or 0)
    if category_id not in space or not space[category_id].is_thing:
        raise DataError(
            f"{where}: category {category_id} is no thing of the categories. Add it, or mend the annotation.",
            Kind.UNKNOWN_CATEGORY,
        )


def find_splits(root: Path) -> list[str]:
    """Names of the splits at a root."""
    # COCO's own folder holds instances_*.json beside panoptic_*.json; only ours has a list of stuff categories
    files = root.glob("annotations/instances_*.json") if (root / FILE_NAME).is_file() else []
    splits = sorted(path.stem.removeprefix("instances_") for path in files)
    whole = [split for split in splits if (root / split).is_dir() or (root / f"annotations/semantic_{split}").is_dir()]
    return whole or splits
