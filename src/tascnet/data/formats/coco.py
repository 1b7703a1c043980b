"""COCO panoptic JSON + PNG files <-> PanopticSegmentation."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePath
from typing import Any, Protocol, Self, TypeVar

import numpy as np
from torch import Tensor

from tascnet.data.batch import tight_boxes
from tascnet.data.file_names import find_file, leads_out, unique_names
from tascnet.data.formats.coco_disagreements import count_ids, disagreements
from tascnet.data.formats.coco_json import AREA_NOT_GIVEN, check_files, read_coco_json
from tascnet.data.formats.dataset import Inspected, PhotoDataset, Problems
from tascnet.data.images import open_annotation, write_png
from tascnet.data.loading import load_sample
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.files import check_inside, make_folder, write_json
from tascnet.structures import MAX_SEGMENT_ID, VOID, CategoryMerge, LabelSpace, PanopticSegmentation, Segment, Size


class NamedSegmentation(Protocol):
    """What `write_coco_panoptic` needs to know of a picture; a `Sample` has it."""

    @property
    def name(self) -> str:
        """File stem, unique in the data set."""

    @property
    def image_id(self) -> int | str:
        """Number or name of the image."""

    @property
    def segmentation(self) -> PanopticSegmentation:
        """Annotation or prediction."""


class CocoPanoptic(PhotoDataset):
    """A data set in COCO's panoptic format: one JSON file, a folder of PNG files, a folder of photos.

    The JSON is checked as a whole when it is read; each PNG and photo when it is asked for.

    Attributes:
        label_space: the categories.
        json_path: the JSON file.
        annotation_folder: holds the PNG files.
        has_photos: whether the data set was opened with a folder of photos.
    """

    def __init__(
        self,
        annotation_json: str | Path,
        image_folder: str | Path | None = None,
        annotation_folder: str | Path | None = None,
        load_short_side: int = 0,
        on_problem: OnProblem = stop,
    ) -> None:
        """Read the JSON file.

        Args:
            annotation_json: with `images`, `annotations` and `categories`.
            image_folder: holds the photos; None to read annotation only.
            annotation_folder: holds the PNG files; None for the folder beside the JSON file, named like it.
            load_short_side: pixels to which the shorter side of larger samples is reduced; 0 for full size.
            on_problem: called with each entry of the JSON that breaks a rule; the default raises the first.

        Raises:
            InputError: a file or folder is missing, the JSON is broken or breaks a rule of the format, or no
                picture is annotated.
        """
        self.json_path = Path(annotation_json)
        self.annotation_folder = Path(annotation_folder or self.json_path.with_suffix(""))
        self._image_folder = None if image_folder is None else Path(image_folder)
        self.has_photos = image_folder is not None
        self._load_short_side = load_short_side
        self._content = read_coco_json(self.json_path, on_problem)
        for folder in filter(None, (self.annotation_folder, self._image_folder)):
            if not folder.is_dir():
                raise InputError(f"the folder {folder} does not exist; {self.json_path} refers to files in it.")
        self.label_space = self._content.label_space
        pictures = self._content.pictures
        check_files(self.json_path, ((picture.image_id, picture.image_file) for picture in pictures), on_problem)
        self._names = unique_names(PurePath(picture.image_file) for picture in pictures)

    @classmethod
    def from_layout(cls, root: str | Path, split: str, load_short_side: int = 0, on_problem: OnProblem = stop) -> Self:
        """Read a split of COCO's official folder layout.

        That is root/annotations/panoptic_<split>.json, root/annotations/panoptic_<split>/ and root/<split>/.

        Args:
            root: the folder that holds `annotations`.
            split: "train2017" or "val2017", for instance.
            load_short_side: as for the class.
            on_problem: as for the class.
        """
        json_path = Path(root) / "annotations" / f"panoptic_{split}.json"
        return cls(json_path, Path(root) / split, load_short_side=load_short_side, on_problem=on_problem)

    def __len__(self) -> int:
        """Number of annotated pictures."""
        return len(self._content.pictures)

    def __getitem__(self, index: int) -> Sample:
        """Photo and annotation, reduced if `load_short_side` says so.

        Raises:
            InputError: one of the two files is missing, is broken, disagrees with the JSON, or differs from the
                other in size.
        """
        return load_sample(
            self.photo_path(index),
            self.annotation(index),
            self.sample_name(index),
            self.image_id(index),
            self.json_path,
            self._load_short_side,
            self.exif,
        )

    def annotation(self, index: int) -> PanopticSegmentation:
        """The annotation alone, at full size; the photo is not read.

        Areas are counted from the PNG: those of the JSON may have been measured on outlines. Segments of one stuff
        category become one segment.

        Raises:
            InputError: the PNG is missing, is broken, or disagrees with the JSON.
        """
        picture = self._content.pictures[index]
        segments = self._content.segments_of(picture)
        segmentation = read_segmentation(self.annotation_path(index), self.json_path, picture.size, segments)
        return join_stuff(segmentation, self.label_space)

    def sample_name(self, index: int) -> str:
        """Name of the photo without its suffix; with the suffix or a number where two photos share a stem."""
        return self._names[index]

    def image_id(self, index: int) -> int | str:
        """The photo's id in the JSON file."""
        return self._content.pictures[index].image_id

    def photo_path(self, index: int) -> Path:
        """The photo.

        Raises:
            InputError: the data set was opened without a folder of photos.
        """
        if self._image_folder is None:
            raise InputError(f"{self.json_path} was opened without a folder of photos. Name one as image_folder.")
        return find_file(self._image_folder, self._content.pictures[index].image_file)

    def annotation_path(self, index: int) -> Path:
        """The PNG of segment ids."""
        return find_file(self.annotation_folder, self._content.pictures[index].segmentation_file)

    def listed(self, index: int) -> tuple[Size, list[Segment]]:
        """The size and the segments that the JSON gives; area is `AREA_NOT_GIVEN` where it has none."""
        picture = self._content.pictures[index]
        return picture.size, self._content.segments_of(picture)

    def listed_categories(self, index: int) -> frozenset[int]:
        """Category ids of the segments that the JSON lists; no PNG is read."""
        picture = self._content.pictures[index]
        rows = self._content.rows[picture.first_segment : picture.end_segment]
        return frozenset(rows["category_id"].tolist())

    def unannotated(self) -> list[str]:
        """The photos that the JSON lists and does not annotate."""
        return self._content.unannotated

    def inspect(self, index: int) -> Inspected:
        """Read both files, each also where the other is broken; the JSON gives the size of both."""
        problems = Problems()
        segmentation = self.inspect_annotation(index, problems)
        image = self.inspect_photo(index, self._content.pictures[index].size, self.json_path, problems)
        return Inspected(self.sample_name(index), image, segmentation, problems)

    def inspect_annotation(self, index: int, problems: Problems) -> PanopticSegmentation | None:
        """The annotation as far as PNG and JSON agree; every disagreement is a problem."""
        path, (size, listed) = self.annotation_path(index), self.listed(index)
        id_map = problems.attempt(read_id_map, path, size, self.json_path)
        if id_map is None:
            return None
        areas = count_ids(id_map)
        problems.extend(disagreements(path, self.json_path, areas, listed))
        usable = []
        for segment in listed:
            if segment.id in areas and segment.category_id in self.label_space:
                is_thing = self.label_space[segment.category_id].is_thing
                usable.append(Segment(segment.id, segment.category_id, 0, segment.is_crowd and is_thing))
        if len(usable) < len(areas.keys() - {VOID}):
            id_map = np.where(np.isin(id_map, [segment.id for segment in usable]), id_map, VOID)
        segmentation = PanopticSegmentation.from_id_map(id_map, usable)
        joined = join_stuff(segmentation, self.label_space)
        pieces = len(segmentation.segments) - len(joined.segments)
        if pieces:
            text = (
                f"{path}: {pieces} more segments of stuff than categories of stuff; the format has one segment of a "
                "stuff category in an image. They are joined on reading."
            )
            problems(DataError(text, Kind.STUFF_IN_PIECES))
        return joined

    def inspect_files(self) -> Iterator[DataError]:
        """Images without annotation, PNGs of several images, and PNGs that the JSON does not refer to."""
        for file in self.unannotated():
            text = f"{self.json_path}: image {file} has no annotation; it is left out."
            yield DataError(text, Kind.NO_ANNOTATION)
        used = Counter(self.annotation_path(index) for index in range(len(self)))
        for path, number in used.items():
            if number > 1:
                text = f"{path} is the annotation of {number} images in {self.json_path}. Give each its own."
                yield DataError(text, Kind.SHARED_PNG)
        for path in sorted(self.annotation_folder.rglob("*.png")):
            if path not in used:
                yield DataError(f"{path}: no annotation in {self.json_path} refers to it.", Kind.UNUSED_FILE)


def read_segmentation(path: Path, json_path: Path, size: Size, segments: Iterable[Segment]) -> PanopticSegmentation:
    """Read one PNG of segment ids; areas are counted from its pixels.

    Args:
        path: the PNG.
        json_path: the file that lists its segments, for the error.
        size: of the picture, as the JSON says.
        segments: as the JSON lists them; their areas are not believed.

    Raises:
        InputError: the PNG is missing, is broken, has another size, or its ids are not those of the segments.
    """
    id_map = read_id_map(path, size, json_path)
    try:
        return PanopticSegmentation.from_id_map(id_map, segments)
    except InputError as error:
        raise InputError(f"{path} disagrees with {json_path}: {error}") from error


def wrong_areas(listed: Iterable[Segment], segmentation: PanopticSegmentation) -> list[tuple[Segment, Segment]]:
    """The segments whose area in the JSON is not the number of their pixels: as listed, and as counted."""
    pairs = zip(listed, segmentation.segments, strict=True)
    return [(given, counted) for given, counted in pairs if given.area not in (AREA_NOT_GIVEN, counted.area)]


def join_stuff(segmentation: PanopticSegmentation, label_space: LabelSpace) -> PanopticSegmentation:
    """Make one segment of those that share a stuff category, under the id of the first.

    The format has one segment of a stuff category in an image; labelling tools export one for each region. A category
    counted several times would be matched in pieces, and be wrong in all of them.
    """
    stuff = [s.category_id for s in segmentation.segments if not label_space[s.category_id].is_thing]
    if len(set(stuff)) == len(stuff):
        return segmentation
    same = {category.id: category.id for category in label_space.categories}
    return CategoryMerge(label_space, label_space, same)(segmentation)


Item = TypeVar("Item", bound=NamedSegmentation)


def jpeg_name(item: NamedSegmentation) -> str:
    """The file name of a photo in COCO."""
    return f"{item.name}.jpg"


def write_coco_panoptic(
    json_path: str | Path,
    label_space: LabelSpace,
    items: Iterable[Item],
    image_file_of: Callable[[Item], str] = jpeg_name,
) -> None:
    """Write segmentations as COCO panoptic files: the JSON, and beside it a folder of PNGs named like the JSON.

    The JSON is written last, so where there is one it is complete. Scores are written where they are set.

    Args:
        json_path: ends in .json; the folder has the same name without it.
        label_space: of the segmentations.
        items: names and ids must differ; taken one at a time, so any number of them fits.
        image_file_of: item -> file name of its photo.

    Raises:
        InputError: a segmentation breaks an invariant or has an unknown category, a name or an id comes twice,
            or a file cannot be written.
    """
    json_path = Path(json_path)
    if json_path.suffix != ".json":
        raise InputError(
            f"cannot write {json_path}: the name must end in .json; without it, it names the folder of PNGs."
        )
    folder = make_folder(json_path.with_suffix(""))
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    names: set[str] = set()
    image_ids: set[int | str] = set()
    for item in items:
        if item.name in names or item.image_id in image_ids:
            raise InputError(
                f"cannot write {json_path}: the name '{item.name}' or the image id {item.image_id} comes twice. "
                "Give each image a name and an id of its own."
            )
        if not item.name or leads_out(item.name):
            raise InputError(f"cannot write {json_path}: the name '{item.name}' leads out of the folder {folder}.")
        check_inside(folder / item.name, folder)
        names.add(item.name)
        image_ids.add(item.image_id)
        try:
            item.segmentation.validate(label_space)
        except InputError as error:
            raise InputError(f"cannot write '{item.name}' to {json_path}: {error}") from error
        write_png(folder / f"{item.name}.png", encode_ids(item.segmentation.id_map))
        height, width = item.segmentation.size
        image_file = image_file_of(item)
        images.append({"id": item.image_id, "file_name": image_file, "height": height, "width": width})
        annotations.append(
            {
                "image_id": item.image_id,
                "file_name": f"{item.name}.png",
                "segments_info": segments_info(item.segmentation),
            }
        )
    write_json(json_path, {"images": images, "annotations": annotations, "categories": label_space.to_list()})


def encode_ids(id_map: Tensor | np.ndarray) -> np.ndarray:
    """Segment ids -> colours: id = red + 256 green + 65536 blue.

    Args:
        id_map: (H, W) integers, 0..2**24-1.

    Returns:
        (H, W, 3) uint8.
    """
    ids = np.asarray(id_map)
    if ids.size and not 0 <= ids.min() <= ids.max() <= MAX_SEGMENT_ID:
        raise ValueError(f"ids from {ids.min()} to {ids.max()} are not in 0..{MAX_SEGMENT_ID}, the range of 24 bits.")
    return np.stack([ids & 0xFF, ids >> 8 & 0xFF, ids >> 16], axis=-1).astype(np.uint8)


def decode_ids(colors: np.ndarray) -> np.ndarray:
    """Colours -> segment ids: the inverse of `encode_ids`.

    Args:
        colors: (H, W, 3) uint8.

    Returns:
        (H, W) int32.
    """
    ids = colors[..., 2].astype(np.int32)  # one plane in all: photos of 22 megapixels are annotated, too
    for channel in (1, 0):
        ids <<= 8
        ids |= colors[..., channel]
    return ids


def segments_info(segmentation: PanopticSegmentation) -> list[dict[str, Any]]:
    """The segments as COCO panoptic JSON writes them, boxes as x, y, width, height in pixels; scores where set."""
    boxes = tight_boxes(segmentation.index_map().numpy(), len(segmentation.segments)).tolist()
    result = []
    for segment, (x0, y0, x1, y1) in zip(segmentation.segments, boxes, strict=True):
        info: dict[str, Any] = {
            "id": segment.id,
            "category_id": segment.category_id,
            "area": segment.area,
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "iscrowd": int(segment.is_crowd),
        }
        if segment.score is not None:
            info["score"] = segment.score
        result.append(info)
    return result


def read_id_map(path: Path, size: Size, source: str | Path) -> np.ndarray:
    """Read a panoptic PNG.

    Args:
        path: the PNG.
        size: that it must have.
        source: the file that says so.

    Returns:
        (H, W) int32.

    Raises:
        InputError: the PNG is missing, is broken, is no picture of 24-bit colours, or has another size.
    """
    picture = open_annotation(path)
    if picture.mode not in ("RGB", "RGBA", "P"):  # a palette of RGB colours loses nothing
        raise DataError(
            f"{path} is a picture of mode {picture.mode}; panoptic PNGs hold ids as 24-bit RGB colours. "
            "Check that the annotation folder is the right one.",
            Kind.NOT_IDS,
        )
    if (picture.height, picture.width) != size:
        raise DataError(
            f"{path} is {picture.height} x {picture.width} pixels (height x width), but {source} says "
            f"{size.height} x {size.width}. Use the PNG that belongs to this JSON file.",
            Kind.OTHER_SIZE,
        )
    return decode_ids(np.asarray(picture if picture.mode == "RGB" else picture.convert("RGB")))
