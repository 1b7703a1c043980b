"""COCO panoptic JSON -> the pictures it annotates and their segments, all rules of the format checked."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tascnet.data.file_names import relative_name
from tascnet.data.problems import DataError, Kind, OnProblem, stop
from tascnet.errors import InputError
from tascnet.files import read_json
from tascnet.structures import MAX_SEGMENT_ID, VOID, LabelSpace, Segment, Size
from tascnet.values import flag, shown, whole

AREA_NOT_GIVEN = -1
"""The area of a segment whose entry has none."""

# One row a segment. COCO has 1.3 million of them: as Python objects they would fill half a gigabyte, and again in
# every worker of a DataLoader, whose reference counts touch each page.
_SEGMENT_ROW = np.dtype(
    [("id", np.int32), ("category_id", np.int64), ("area", np.int64), ("is_crowd", np.bool_), ("score", np.float64)]
)


_PACKED = ("id", "category_id", "area", "iscrowd")
"""What the columns of packed segments hold."""


class Picture(NamedTuple):
    """One annotated picture.

    Attributes:
        image_id: its id in the JSON.
        image_file: path of the photo in its folder.
        segmentation_file: path of the PNG in its folder.
        size: in pixels, as the JSON says.
        first_segment, end_segment: where its segments are among the rows of `CocoJson`.
    """

    image_id: int | str
    image_file: str
    segmentation_file: str
    size: Size
    first_segment: int
    end_segment: int


@dataclass(frozen=True, eq=False)
class CocoJson:
    """What a COCO panoptic JSON file says.

    Attributes:
        label_space: its categories.
        pictures: those that are annotated, in the order of the annotations.
        rows: the segments of all pictures, in order.
        unannotated: photos that are listed but not annotated.
    """

    label_space: LabelSpace
    pictures: list[Picture]
    rows: np.ndarray
    unannotated: list[str]

    def segments_of(self, picture: Picture) -> list[Segment]:
        """The segments that are listed for a picture; area is `AREA_NOT_GIVEN` where the file has none."""
        rows = self.rows[picture.first_segment : picture.end_segment].tolist()
        return [
            Segment(segment_id, category_id, area, is_crowd, None if np.isnan(score) else score)
            for segment_id, category_id, area, is_crowd, score in rows
        ]


def read_coco_json(path: Path, on_problem: OnProblem = stop) -> CocoJson:
    """Read the JSON file of a COCO panoptic data set.

    Args:
        path: the file.
        on_problem: called with each broken rule; the default raises the first. Where it returns, an entry that cannot
            be read is left out, and a segment of an unknown category stays among the rows.

    Raises:
        InputError: the file is missing or broken, has no list of images, annotations or categories, or annotates no
            picture; and what `on_problem` raises: an entry lacks a key or breaks a rule of the format.
    """
    content = _read_content(path, ("images", "annotations", "categories"))
    label_space = read_label_space(path, content["categories"])
    images = read_images(path, content["images"], on_problem)
    return CocoJson(label_space, *_read_annotations(path, content["annotations"], images, label_space, on_problem))


def read_coco_predictions(path: Path, annotated: CocoJson) -> CocoJson:
    """Read a JSON file of predictions, of which only `annotations` are needed.

    Args:
        path: the file.
        annotated: what the annotation says; images and categories are taken from there.

    Returns:
        The predicted pictures, in the order of the file; some may be missing.

    Raises:
        InputError: the file is missing or broken, lacks a key, breaks a rule of the format, has predictions for
            pictures that are not annotated, or gives an annotated category another name.
    """
    content = _read_content(path, ("annotations",))
    images = {picture.image_id: (picture.image_file, picture.size) for picture in annotated.pictures}
    try:
        _check_names(path, content.get("categories", []), annotated.label_space)
        _refuse_extra(path, content["annotations"], images)
    except (AttributeError, TypeError, ValueError) as error:
        raise wrong_value(str(path), error) from error
    label_space = annotated.label_space
    return CocoJson(label_space, *_read_annotations(path, content["annotations"], images, label_space, stop))


def _check_names(path: Path, categories: list[Any], label_space: LabelSpace) -> None:
    """Check that where predictions list their categories, an id means the same as in the annotation."""
    for entry in categories:
        name, category_id = str(entry.get("name")), whole(entry.get("id"))
        if category_id in label_space and name != label_space[category_id].name:
            raise InputError(
                f"category {category_id} is '{name}' in {path}, but '{label_space[category_id].name}' in the "
                "annotation. Compare files of the same categories."
            )


def _refuse_extra(path: Path, entries: list[Any], images: Mapping[int | str, Any]) -> None:
    """Check that all predictions are of annotated pictures."""
    extra = [
        entry["image_id"]
        for entry in entries
        if isinstance(entry, Mapping) and "image_id" in entry and entry["image_id"] not in images
    ]
    if extra:
        raise InputError(
            f"{path} has predictions for {len(extra)} pictures that are not annotated: image_id "
            f"{', '.join(map(repr, extra[:5]))}{', ...' if len(extra) > 5 else ''}. "
            f"{other_kind(extra[0], images)}Use the annotation that belongs to them, or take them out."
        )


def _read_content(path: Path, keys: tuple[str, ...]) -> dict[str, list[Any]]:
    """The lists of a panoptic file, the segments packed; at least one picture is annotated."""
    content = read_lists(path, keys, "COCO panoptic", "panoptic_*.json", _pack_segments)
    if not content["annotations"]:
        raise InputError(f"{path} has no annotations: the list is empty. Choose a file with annotated pictures.")
    return content


def read_lists(
    path: Path,
    keys: tuple[str, ...],
    format_name: str,
    usual_name: str,
    replace_object: Callable[[dict[str, Any]], Any] | None = None,
) -> dict[str, list[Any]]:
    """Read a JSON file that holds lists; `replace_object` is that of `read_json`.

    Raises:
        InputError: the file is missing, is no JSON, or lacks a list.
    """
    content = read_json(path, replace_object, nan="keep")  # every value that is read is checked
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(
                f"{path} has no list '{key}'; {format_name} files have {', '.join(keys)}. "
                f"Check that it is such a file ({usual_name})."
            )
    return content


def read_label_space(path: Path, categories: list[Any]) -> LabelSpace:
    """Categories as a file lists them -> label space.

    Raises:
        InputError: naming the file, and the entry that cannot be used.
    """
    try:
        return LabelSpace.from_list(categories)
    except (InputError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise InputError(f"the categories in {path} cannot be used: {error}") from error


def read_image_info(path: Path) -> dict[int | str, tuple[str, Size]]:
    """Image id -> file name and size, of all `images` in a COCO JSON file of any kind.

    Raises:
        InputError: the file is missing or broken, or an image lacks a key.
    """
    return read_images(path, read_lists(path, ("images",), "COCO", "image_info_*.json, panoptic_*.json")["images"])


def read_images(path: Path, entries: list[Any], on_problem: OnProblem = stop) -> dict[int | str, tuple[str, Size]]:
    """The list `images` of a COCO file -> image id -> file name and size."""
    images: dict[int | str, tuple[str, Size]] = {}
    for position, entry in enumerate(entries):
        where = f"{path}, image number {position}"
        try:
            require_keys(entry, ("id", "file_name", "height", "width"), where)
            image_id, image_file = _image_id(entry["id"]), relative_name(entry["file_name"], where)
            if image_id in images:
                raise DataError(
                    f"{where}: the id {image_id} comes twice among the images. Keep one of them.",
                    Kind.REPEATED_IMAGE,
                )
            size = Size(whole(entry["height"]), whole(entry["width"]))
            if min(size) < 1:
                raise ValueError(f"the image is {size.height} x {size.width} pixels")
            images[image_id] = image_file, size
        except DataError as problem:
            on_problem(problem)
        except ValueError as error:
            on_problem(wrong_value(where, error))
    return images


def check_files(path: Path, files: Iterable[tuple[int | str, str]], on_problem: OnProblem) -> None:
    """Report each photo that several images share: which annotation is its own cannot be found out.

    Args:
        path: the JSON file, for the error.
        files: image id and file name of each image.
        on_problem: called with each such photo; what it raises ends the check.
    """
    id_of: dict[str, int | str] = {}
    for image_id, file in files:
        if file in id_of:
            text = (
                f"{path}: {file} is the photo of the images {id_of[file]!r} and {image_id!r}. Keep one of them, or "
                "name another photo."
            )
            on_problem(DataError(text, Kind.SHARED_PHOTO, file))
        id_of.setdefault(file, image_id)


def other_kind(image_id: Any, images: Mapping[int | str, Any]) -> str:
    """A hint for an id that is text where the images have the number, or the reverse; empty for all others."""
    try:
        other: int | str = whole(image_id) if isinstance(image_id, str) else str(image_id)
    except ValueError:
        return ""
    if other not in images:
        return ""
    kinds = ("the number", "the text") if isinstance(image_id, int) else ("the text", "the number")
    return f"It is {kinds[0]} {image_id!r} here, but {kinds[1]} {other!r} among the images: write both alike. "


class _Entry(NamedTuple):
    """One annotation of the file whose picture is known; `segments` are packed, or as the file has them."""

    image_id: int | str
    segmentation_file: str
    segments: Any


def _read_annotations(
    path: Path,
    annotations: list[Any],
    images: Mapping[int | str, tuple[str, Size]],
    label_space: LabelSpace,
    on_problem: OnProblem,
) -> tuple[list[Picture], np.ndarray, list[str]]:
    """The annotated pictures in the order of `annotations`, a `_SEGMENT_ROW` for each of their segments, the rest."""
    entries = _read_entries(path, annotations, images, on_problem)
    sound = _are_sound([entry.segments for entry in entries], label_space)
    pictures: list[Picture] = []
    rows = [np.empty(0, _SEGMENT_ROW)]
    first = 0
    for entry, is_sound in zip(entries, sound, strict=True):
        if is_sound:
            rows.append(_to_rows(entry.segments))
        else:
            where = f"{path}, annotation {entry.segmentation_file}"
            rows.append(_read_segments(where, entry, label_space, _about(entry.segmentation_file, on_problem)))
        image_file, size = images[entry.image_id]
        end = first + len(rows[-1])
        pictures.append(Picture(entry.image_id, image_file, entry.segmentation_file, size, first, end))
        first = end
    annotated = {entry.image_id for entry in entries}
    unannotated = [file for image_id, (file, _) in images.items() if image_id not in annotated]
    return pictures, np.concatenate(rows), unannotated


def _read_entries(
    path: Path, annotations: list[Any], images: Mapping[int | str, Any], on_problem: OnProblem
) -> list[_Entry]:
    entries: list[_Entry] = []
    seen: set[int | str] = set()
    for position, annotation in enumerate(annotations):
        where = f"{path}, annotation number {position}"
        try:
            require_keys(annotation, ("image_id", "file_name", "segments_info"), where)
            image_id, file = _image_id(annotation["image_id"]), relative_name(annotation["file_name"], where)
            _check_image_id(f"{path}, annotation {file}", image_id, images, seen)
        except DataError as problem:
            on_problem(problem)
            continue
        except ValueError as error:
            on_problem(wrong_value(where, error))
            continue
        seen.add(image_id)
        entries.append(_Entry(image_id, file, annotation["segments_info"]))
    return entries


def _pack_segments(entry: dict[str, Any]) -> dict[str, Any]:
    """Turn the segments of an annotation into an array (number, 4) int64 of `_PACKED` while the file is being read.

    As Python objects, those of COCO's training set would take more than a gigabyte. What is not plain whole numbers,
    or has scores, stays as it is: `_read_segments` takes it, or says what is wrong.
    """
    segments = entry.get("segments_info")
    if segments is None:
        return entry
    try:
        packed = np.array([(s["id"], s["category_id"], _area(s.get("area")), s.get("iscrowd", 0)) for s in segments])
        if packed.dtype == np.int64 and packed.ndim == 2 and not any("score" in s for s in segments):
            entry["segments_info"] = packed
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError):
        pass
    return entry


def _area(value: Any) -> int:
    """The area of a segment in whole pixels; converters that measure outlines write fractions."""
    if value is None:
        return AREA_NOT_GIVEN
    return whole(round(value) if isinstance(value, float) else value)


def _image_id(value: Any) -> int | str:
    """An image id: text, or a whole number."""
    return value if isinstance(value, str) else whole(value)


def _are_sound(segments: list[Any], label_space: LabelSpace) -> np.ndarray:
    """(pictures,) bool: whose segments are packed and break no rule, found on all of them at once."""
    sound = np.array([isinstance(packed, np.ndarray) for packed in segments], dtype=bool)
    packed = [segments[position] for position in np.flatnonzero(sound)]
    if not packed:
        return sound
    picture_of = np.repeat(np.flatnonzero(sound), [len(rows) for rows in packed])
    segment_ids, category_ids, _, is_crowd = np.concatenate(packed).T
    broken = (segment_ids <= VOID) | (segment_ids > MAX_SEGMENT_ID)
    broken |= ~np.isin(category_ids, list(label_space.by_id))
    broken |= (is_crowd < 0) | (is_crowd > 1)
    broken |= (is_crowd != 0) & ~np.isin(category_ids, [category.id for category in label_space.things])
    order = np.lexsort((segment_ids, picture_of))
    repeated = (np.diff(segment_ids[order]) == 0) & (np.diff(picture_of[order]) == 0)
    broken[order[1:][repeated]] = True
    sound[picture_of[broken]] = False
    return sound


def _to_rows(packed: np.ndarray) -> np.ndarray:
    rows = np.empty(len(packed), _SEGMENT_ROW)
    rows["id"], rows["category_id"], rows["area"], rows["is_crowd"] = packed.T
    rows["score"] = np.nan
    return rows


def _about(file: str, on_problem: OnProblem) -> OnProblem:
    """`on_problem`, told the PNG that a problem is about."""

    def report(problem: DataError) -> None:
        problem.file = file
        on_problem(problem)

    return report


def _check_image_id(where: str, image_id: int | str, images: Mapping[int | str, Any], seen: set[int | str]) -> None:
    if image_id not in images:
        raise DataError(
            f"{where}: there is no image with id {image_id!r}. {other_kind(image_id, images)}Add it to the images, or "
            "use the whole file.",
            Kind.NO_IMAGE,
        )
    if image_id in seen:
        raise DataError(
            f"{where}: image id {image_id} is annotated twice. Keep one of the two annotations.",
            Kind.REPEATED_ANNOTATION,
        )


def _read_segments(where: str, entry: _Entry, label_space: LabelSpace, on_problem: OnProblem) -> np.ndarray:
    """Check the segments of one picture one by one -> rows of those that can be read."""
    segments = entry.segments
    if isinstance(segments, np.ndarray):
        segments = [dict(zip(_PACKED, row, strict=True)) for row in segments.tolist()]
    elif not isinstance(segments, list):
        on_problem(wrong_value(where, TypeError(f"segments_info is {shown(segments)}, no list")))
        segments = []
    rows: dict[int, tuple[Any, ...]] = {}
    repeated = set()
    for segment in segments:
        try:
            row = _read_segment(where, segment, label_space, on_problem)
        except DataError as problem:
            on_problem(problem)
            continue
        if row[0] in rows:
            repeated.add(row[0])
        rows.setdefault(row[0], row)
    if repeated:
        on_problem(
            DataError(
                f"{where}: segment ids {sorted(repeated)} are used twice; ids are unique in a picture. Mend the ids.",
                Kind.REPEATED_SEGMENT,
            )
        )
    return np.array(list(rows.values()), dtype=_SEGMENT_ROW)


def _read_segment(where: str, entry: Any, label_space: LabelSpace, on_problem: OnProblem) -> tuple[Any, ...]:
    """One `_SEGMENT_ROW`; after a problem with its category it is still told, because the PNG has its pixels."""
    require_keys(entry, ("id", "category_id"), f"{where}, a segment")
    try:
        category_id, area = whole(entry["category_id"]), _area(entry.get("area"))
        is_crowd = entry.get("iscrowd") is not None and flag(entry["iscrowd"])
        score = np.nan if entry.get("score") is None else float(entry["score"])
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong_value(where, error) from error
    segment_id = _segment_id(entry["id"], where)
    if category_id not in label_space:
        on_problem(
            DataError(
                f"{where}: segment {segment_id} is of category {category_id}, which the file does not list. "
                "Add it to the categories, or mend the segment.",
                Kind.UNKNOWN_CATEGORY,
            )
        )
    elif is_crowd and not label_space[category_id].is_thing:
        on_problem(
            DataError(
                f"{where}: segment {segment_id} is a crowd of '{label_space[category_id].name}', which is stuff; "
                "only things form crowds. Set its iscrowd to 0.",
                Kind.STUFF_CROWD,
            )
        )
    return segment_id, category_id, area, is_crowd, score


def _segment_id(value: Any, where: str) -> int:
    try:
        segment_id = whole(value)
    except ValueError:
        segment_id = VOID
    if not VOID < segment_id <= MAX_SEGMENT_ID:
        raise DataError(
            f"{where}: segment id {shown(value)} is not in 1..{MAX_SEGMENT_ID}; mend the id.",
            Kind.SEGMENT_ID,
        )
    return segment_id


def require_keys(entry: Any, keys: tuple[str, ...], where: str) -> None:
    """Raise a `DataError` unless an entry of a JSON file is an object with all the keys."""
    if not isinstance(entry, Mapping):
        raise DataError(
            f"{where} is not an object of JSON but {shown(entry)}; it needs {', '.join(keys)}. Mend it.",
            Kind.BROKEN_ENTRY,
        )
    missing = [key for key in keys if key not in entry]
    if missing:
        raise DataError(
            f"{where} lacks {', '.join(missing)}; it needs {', '.join(keys)}. Complete the file.", Kind.BROKEN_ENTRY
        )


def wrong_value(where: str, error: Exception) -> DataError:
    """The problem of a word where a number belongs, and the like; a problem that is explained already stays so."""
    if isinstance(error, InputError):
        return error if isinstance(error, DataError) else DataError(str(error), Kind.BROKEN_ENTRY)
    return DataError(f"{where} contains a value of the wrong kind ({error}). Fix the file.", Kind.BROKEN_ENTRY)
