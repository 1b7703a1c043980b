"""A data set, however broken -> its pictures one after the other, and all that is wrong with them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from torch import Tensor

from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.coco import CocoPanoptic, join_stuff, read_id_map, wrong_area
from tascnet.data.formats.coco_instances import CocoInstances
from tascnet.data.formats.coco_json import AREA_NOT_GIVEN
from tascnet.data.formats.vistas import Vistas
from tascnet.data.images import Exif, has_doubtful_turn, read_image, read_photo
from tascnet.data.problems import WARNINGS, DataError, Kind, first_few
from tascnet.data.stream import PanopticDataset
from tascnet.errors import InputError
from tascnet.structures import VOID, PanopticSegmentation, Segment, Size, run_starts

Result = TypeVar("Result")


@runtime_checkable
class FileDataset(Protocol):
    """A data set of which photo and annotation can be read apart."""

    def photo_path(self, index: int, /) -> Path:
        """The photo."""

    def sample_name(self, index: int, /) -> str:
        """Name of the picture."""


class Finding(NamedTuple):
    """One thing that is wrong.

    Attributes:
        kind: of problem.
        text: a sentence: which file, what was found, what to do.
        picture: name of the picture, or empty.
    """

    kind: Kind
    text: str
    picture: str

    @property
    def is_error(self) -> bool:
        """Whether training cannot use the picture; else it is a warning."""
        return self.kind not in WARNINGS


@dataclass
class Findings:
    """Gathers problems; it is called with each, and knows which picture is being read."""

    all: list[Finding] = field(default_factory=list)
    picture: str = ""

    def __call__(self, problem: DataError) -> None:
        """Note a problem."""
        about = PurePath(problem.file).with_suffix("").as_posix() if problem.file else ""
        self.all.append(Finding(problem.kind, str(problem), self.picture or about))

    def attempt(self, read: Callable[..., Result], *arguments: Any) -> Result | None:
        """What `read` returns; None, and a note, where it raises."""
        try:
            return read(*arguments)
        except DataError as problem:
            self(problem)
        except InputError as error:
            self(DataError(str(error), Kind.OTHER))
        return None


class Looked(NamedTuple):
    """A picture that was looked at; None is what could not be read."""

    name: str
    image: Tensor | None
    segmentation: PanopticSegmentation | None


def walk(dataset: PanopticDataset, findings: Findings) -> Iterator[Looked]:
    """Read all pictures; whatever is wrong goes to `findings`."""
    for index in range(len(dataset)):
        findings.picture = dataset.sample_name(index) if isinstance(dataset, FileDataset) else f"number {index}"
        yield _look(dataset, index, findings)
    findings.picture = ""


def _look(dataset: PanopticDataset, index: int, findings: Findings) -> Looked:
    if not isinstance(dataset, FileDataset):
        sample = findings.attempt(dataset.__getitem__, index)
        if sample is None:
            return Looked(findings.picture, None, None)
        return Looked(sample.name, sample.image, sample.segmentation)
    if isinstance(dataset, CocoPanoptic):
        segmentation = _read_coco(dataset, index, findings)
        image = _read_coco_photo(dataset, index, findings)
        return Looked(findings.picture, image, segmentation)
    if isinstance(dataset, CocoInstances):
        composed = findings.attempt(dataset.compose, index, findings)
        segmentation, hidden = composed or (None, [])
        for name in hidden:
            findings(DataError(f"{name} has no visible pixel; the others cover it, or it is too small.", Kind.HIDDEN))
    elif isinstance(dataset, Vistas) and dataset.panoptic_files:
        read = _read_coco(dataset.panoptic_files, index, findings)
        image = _read_coco_photo(dataset.panoptic_files, index, findings)
        return Looked(findings.picture, image, None if read is None else dataset.renamed(read))
    else:
        segmentation = findings.attempt(dataset.annotation, index)
    if isinstance(dataset, Cityscapes) and not dataset.has_photos:
        return Looked(findings.picture, None, segmentation)
    path = dataset.photo_path(index)
    if segmentation is None:
        return Looked(findings.picture, findings.attempt(read_image, path), None)
    image = _read_photo(path, segmentation.size, "its annotation", _exif(dataset), findings)
    return Looked(findings.picture, image, segmentation)


def _read_coco_photo(dataset: CocoPanoptic, index: int, findings: Findings) -> Tensor | None:
    if not dataset.has_photos:
        return None
    size, _ = dataset.listed(index)
    return _read_photo(dataset.photo_path(index), size, dataset.json_path, dataset.exif, findings)


def _read_photo(path: Path, size: Size, source: str | Path, exif: Exif, findings: Findings) -> Tensor | None:
    image = findings.attempt(read_photo, path, size, source, None, exif)
    if image is not None and exif == "apply" and has_doubtful_turn(path):
        text = (
            f"{path}: its EXIF tag turns or mirrors it, and its size does not tell whether it was annotated so. If the "
            "annotation is of the stored pixels, set exif to ignore."
        )
        findings(DataError(text, Kind.TURNED))
    return image


def _exif(dataset: PanopticDataset) -> Exif:
    exif: Exif = getattr(dataset, "exif", "apply")
    return exif


def _read_coco(dataset: CocoPanoptic, index: int, findings: Findings) -> PanopticSegmentation | None:
    """The annotation as far as PNG and JSON agree; every disagreement is noted."""
    path, (size, listed) = dataset.annotation_path(index), dataset.listed(index)
    id_map = findings.attempt(read_id_map, path, size, dataset.json_path)
    if id_map is None:
        return None
    areas = count_ids(id_map)
    usable = []
    for problem in disagreements(path, dataset.json_path, areas, listed):
        findings(problem)
    for segment in listed:
        if segment.id in areas and segment.category_id in dataset.label_space:
            is_thing = dataset.label_space[segment.category_id].is_thing
            usable.append(Segment(segment.id, segment.category_id, 0, segment.is_crowd and is_thing))
    if len(usable) < len(areas.keys() - {VOID}):
        id_map = np.where(np.isin(id_map, [segment.id for segment in usable]), id_map, VOID)
    segmentation = PanopticSegmentation.from_id_map(id_map, usable)
    joined = join_stuff(segmentation, dataset.label_space)
    pieces = len(segmentation.segments) - len(joined.segments)
    if pieces:
        text = (
            f"{path}: {pieces} more segments of stuff than categories of stuff; the format has one segment of a stuff "
            "category in an image. They are joined on reading."
        )
        findings(DataError(text, Kind.STUFF_IN_PIECES))
    return joined


def count_ids(id_map: np.ndarray) -> dict[int, int]:
    """Id -> number of its pixels, VOID among them."""
    flat = id_map.ravel()
    starts = run_starts(flat)
    ids, run_ids = np.unique(flat[starts], return_inverse=True)
    counts = np.bincount(run_ids.ravel(), weights=np.diff(starts, append=flat.size))
    return dict(zip(ids.tolist(), counts.astype(int).tolist(), strict=True))


def disagreements(path: Path, json_path: Path, areas: dict[int, int], listed: list[Segment]) -> Iterator[DataError]:
    """All in which a panoptic PNG differs from what the JSON lists for it.

    Args:
        path: the PNG.
        json_path: the JSON file.
        areas: id in the PNG -> number of pixels.
        listed: the segments of the JSON.
    """
    listed_ids = {segment.id for segment in listed}
    unlisted = sorted(areas.keys() - listed_ids - {VOID})
    if unlisted:
        yield DataError(
            f"{path} disagrees with {json_path}: ids {first_few(unlisted)} have {sum(areas[i] for i in unlisted)} "
            "pixels in the PNG and no segment in the JSON. List them, or make those pixels black.",
            Kind.ONLY_IN_PNG,
        )
    without = sorted(listed_ids - areas.keys())
    if without:
        yield DataError(
            f"{path} disagrees with {json_path}: segments {first_few(without)} of the JSON have no pixel in the PNG. "
            "Remove them from the JSON, or mend the PNG.",
            Kind.ONLY_IN_JSON,
        )
    for segment in listed:
        if segment.id in areas and segment.area not in (AREA_NOT_GIVEN, areas[segment.id]):
            yield wrong_area(path, json_path, segment, areas[segment.id])
