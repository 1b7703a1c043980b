"""COCO panoptic JSON -> the pictures it annotates and their segments, all rules of the format checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tascnet.errors import InputError
from tascnet.files import read_json
from tascnet.structures import MAX_SEGMENT_ID, VOID, LabelSpace, Segment, Size

AREA_NOT_GIVEN = -1
"""The area of a segment whose entry has none."""

# One row a segment. COCO has 1.3 million of them: as Python objects they would fill half a gigabyte, and again in
# every worker of a DataLoader, whose reference counts touch each page.
_SEGMENT_ROW = np.dtype([("id", np.int32), ("category_id", np.int64), ("area", np.int64), ("is_crowd", np.bool_)])

_KEYS = ("id", "category_id", "area", "iscrowd")
"""What the columns of a packed list of segments hold."""


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
        scores: one float64 a row, NaN where a segment has none; None if no segment of the file has one.
    """

    label_space: LabelSpace
    pictures: list[Picture]
    rows: np.ndarray
    scores: np.ndarray | None

    def segments_of(self, picture: Picture) -> list[Segment]:
        """The segments that are listed for a picture; area is `AREA_NOT_GIVEN` where the file has none."""
        place = slice(picture.first_segment, picture.end_segment)
        rows = self.rows[place].tolist()
        scores = [None] * len(rows) if self.scores is None else self.scores[place].tolist()
        return [
            Segment(segment_id, category_id, area, is_crowd, None if score is None or np.isnan(score) else score)
            for (segment_id, category_id, area, is_crowd), score in zip(rows, scores, strict=True)
        ]


def read_coco_json(path: Path) -> CocoJson:
    """Read the JSON file of a COCO panoptic data set.

    Raises:
        InputError: the file is missing or broken, lacks a key, breaks a rule of the format, or annotates no picture.
    """
    content = _read_content(path)
    label_space = _read_label_space(path, content["categories"])
    try:
        return CocoJson(label_space, *_read_pictures(path, content, label_space))
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # a word where a number belongs, and the like
        raise InputError(f"{path} holds a value of the wrong kind ({error}). Mend the file.") from error


def _read_content(path: Path) -> dict[str, list[Any]]:
    content = read_json(path, _pack_segments)
    for key in ("images", "annotations", "categories"):
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(
                f"{path} has no list '{key}'; COCO panoptic files have images, annotations and categories. "
                "Check that it is a panoptic file (panoptic_*.json)."
            )
    if not content["annotations"]:
        raise InputError(f"{path} has no annotations: the list is empty. Choose a file with annotated pictures.")
    return content


def _read_label_space(path: Path, categories: list[Any]) -> LabelSpace:
    try:
        return LabelSpace.from_list(categories)
    except (InputError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"the categories in {path} cannot be used: {error}") from error


def _read_pictures(
    path: Path, content: dict[str, list[Any]], label_space: LabelSpace
) -> tuple[list[Picture], np.ndarray, np.ndarray | None]:
    """The annotated pictures in the order of `annotations`; a `_SEGMENT_ROW` for each of their segments; scores."""
    images = _read_images(path, content["images"])
    pictures: list[Picture] = []
    columns: list[np.ndarray] = []
    scores: dict[int, list[float]] = {}  # first segment of a picture -> scores of its segments
    seen: set[int | str] = set()
    first = 0
    for position, entry in enumerate(content["annotations"]):
        where = f"{path}, annotation number {position}"
        _require(entry, ("image_id", "file_name", "segments_info"), where)
        image_id, segmentation_file = entry["image_id"], str(entry["file_name"])
        where = f"{path}, annotation {segmentation_file}"
        if image_id not in images:
            raise InputError(
                f"{where}: there is no image with id {image_id}. Add it to the images, or use the whole file."
            )
        if image_id in seen:
            raise InputError(f"{where}: image id {image_id} is annotated twice. Keep one of the two annotations.")
        seen.add(image_id)
        image_file, size = images[image_id]
        segments = entry["segments_info"]
        if not isinstance(segments, np.ndarray):
            segments, scores[first] = _read_segments(where, segments, label_space)
        columns.append(segments)
        end = first + len(segments)
        pictures.append(Picture(image_id, image_file, segmentation_file, size, first, end))
        first = end
    all_columns = np.concatenate(columns)
    for picture in _suspects(pictures, all_columns, label_space):
        rows = all_columns[picture.first_segment : picture.end_segment].tolist()
        entries = [dict(zip(_KEYS, row, strict=True)) for row in rows]
        _read_segments(f"{path}, annotation {picture.segmentation_file}", entries, label_space)  # says what is wrong
    return pictures, _to_rows(all_columns), _to_scores(scores, len(all_columns))


def _read_images(path: Path, entries: list[Any]) -> dict[int | str, tuple[str, Size]]:
    images: dict[int | str, tuple[str, Size]] = {}
    for position, entry in enumerate(entries):
        where = f"{path}, image number {position}"
        _require(entry, ("id", "file_name", "height", "width"), where)
        if entry["id"] in images:
            raise InputError(f"{where}: the id {entry['id']} comes twice among the images. Keep one of them.")
        images[entry["id"]] = str(entry["file_name"]), Size(int(entry["height"]), int(entry["width"]))
    return images


def _pack_segments(entry: dict[str, Any]) -> dict[str, Any]:
    """Turn the segments of an annotation into an array (number, 4) int64 of `_KEYS` while the file is being read.

    What is not plain whole numbers, or has scores, stays as it is: `_read_segments` takes it, or says what is wrong.
    """
    segments = entry.get("segments_info")
    if segments is None:
        return entry
    try:
        columns = np.array(
            [(s["id"], s["category_id"], s.get("area", AREA_NOT_GIVEN), s.get("iscrowd", 0)) for s in segments]
        )
        if columns.dtype == np.int64 and columns.ndim == 2 and not any("score" in s for s in segments):
            entry["segments_info"] = columns
    except (KeyError, TypeError, AttributeError, ValueError):
        pass
    return entry


def _suspects(pictures: list[Picture], columns: np.ndarray, label_space: LabelSpace) -> list[Picture]:
    """The pictures with a segment that breaks a rule, found on all segments at once."""
    segment_ids, category_ids, _, is_crowd = columns.T
    thing_ids = [category.id for category in label_space.things]
    broken = (segment_ids <= VOID) | (segment_ids > MAX_SEGMENT_ID)
    broken |= ~np.isin(category_ids, list(label_space.by_id))
    broken |= (is_crowd != 0) & ~np.isin(category_ids, thing_ids)
    picture_of = np.repeat(np.arange(len(pictures)), [p.end_segment - p.first_segment for p in pictures])
    order = np.lexsort((segment_ids, picture_of))
    repeated = (np.diff(segment_ids[order]) == 0) & (np.diff(picture_of[order]) == 0)
    broken[order[1:][repeated]] = True
    return [pictures[position] for position in np.unique(picture_of[broken])]


def _read_segments(where: str, entries: list[Any], label_space: LabelSpace) -> tuple[np.ndarray, list[float]]:
    """Check the segments of one picture one by one; give them as `_pack_segments` does, and their scores."""
    rows, scores = [], []
    for entry in entries:
        _require(entry, ("id", "category_id"), f"{where}, a segment")
        segment_id, category_id, is_crowd = entry["id"], entry["category_id"], bool(entry.get("iscrowd", 0))
        if not isinstance(segment_id, int) or not VOID < segment_id <= MAX_SEGMENT_ID:
            raise InputError(f"{where}: segment id {segment_id} is not in 1..{MAX_SEGMENT_ID}; mend the id.")
        if category_id not in label_space:
            raise InputError(
                f"{where}: segment {segment_id} is of category {category_id}, which the file does not list. "
                "Add it to the categories, or mend the segment."
            )
        if is_crowd and not label_space[category_id].is_thing:
            raise InputError(
                f"{where}: segment {segment_id} is a crowd of '{label_space[category_id].name}', which is stuff; "
                "only things form crowds. Set its iscrowd to 0."
            )
        score = entry.get("score")
        rows.append((segment_id, category_id, int(entry.get("area", AREA_NOT_GIVEN)), is_crowd))
        scores.append(np.nan if score is None else float(score))
    ids = [row[0] for row in rows]
    if len(set(ids)) != len(ids):
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        raise InputError(f"{where}: segment ids {repeated} are used twice; ids are unique in a picture. Mend the ids.")
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(_KEYS)), scores


def _to_rows(columns: np.ndarray) -> np.ndarray:
    rows = np.empty(len(columns), _SEGMENT_ROW)
    for name, column in zip(_SEGMENT_ROW.names or (), columns.T, strict=True):
        rows[name] = column
    return rows


def _to_scores(scores: dict[int, list[float]], number: int) -> np.ndarray | None:
    if all(np.isnan(score) for given in scores.values() for score in given):
        return None
    result = np.full(number, np.nan)
    for first, given in scores.items():
        result[first : first + len(given)] = given
    return result


def _require(entry: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is not an object of JSON but {entry!r:.60}; it needs {', '.join(keys)}.")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; it needs {', '.join(keys)}. Complete the file.")
