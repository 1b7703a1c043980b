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
_SEGMENT_ROW = np.dtype(
    [("id", np.int32), ("category_id", np.int64), ("area", np.int64), ("is_crowd", np.bool_), ("score", np.float64)]
)


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
    """

    label_space: LabelSpace
    pictures: list[Picture]
    rows: np.ndarray

    def segments_of(self, picture: Picture) -> list[Segment]:
        """The segments that are listed for a picture; area is `AREA_NOT_GIVEN` where the file has none."""
        rows = self.rows[picture.first_segment : picture.end_segment].tolist()
        return [
            Segment(segment_id, category_id, area, is_crowd, None if np.isnan(score) else score)
            for segment_id, category_id, area, is_crowd, score in rows
        ]


def read_coco_json(path: Path) -> CocoJson:
    """Read the JSON file of a COCO panoptic data set.

    Raises:
        InputError: the file is missing or broken, lacks a key, breaks a rule of the format, or annotates no picture.
    """
    content = _read_content(path)
    label_space = _read_label_space(path, content["categories"])
    try:
        images = _read_images(path, content["images"])
        return CocoJson(label_space, *_read_pictures(path, content, images, label_space))
    except InputError:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # a word where a number belongs, and the like
        raise InputError(f"{path} holds a value of the wrong kind ({error}). Mend the file.") from error


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
        extra = [
            entry["image_id"]
            for entry in content["annotations"]
            if isinstance(entry, Mapping) and "image_id" in entry and entry["image_id"] not in images
        ]
        if extra:
            raise InputError(
                f"{path} has predictions for {len(extra)} pictures that are not annotated: image_id "
                f"{', '.join(map(repr, extra[:5]))}{', ...' if len(extra) > 5 else ''}. "
                "Use the annotation that belongs to them, or take them out."
            )
        return CocoJson(annotated.label_space, *_read_pictures(path, content, images, annotated.label_space))
    except InputError:
        raise
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{path} holds a value of the wrong kind ({error}). Mend the file.") from error


def _check_names(path: Path, categories: list[Any], label_space: LabelSpace) -> None:
    """Check that where predictions list their categories, an id means the same as in the annotation."""
    for entry in categories:
        name = str(entry.get("name"))
        if entry.get("id") in label_space and name != label_space[entry["id"]].name:
            raise InputError(
                f"category {entry['id']} is '{name}' in {path}, but '{label_space[entry['id']].name}' in the "
                "annotation. Compare files of the same categories."
            )


def _read_content(path: Path, keys: tuple[str, ...] = ("images", "annotations", "categories")) -> dict[str, list[Any]]:
    content = read_json(path)
    for key in keys:
        if not isinstance(content, dict) or not isinstance(content.get(key), list):
            raise InputError(
                f"{path} has no list '{key}'; COCO panoptic files have {', '.join(keys)}. "
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
    path: Path, content: dict[str, list[Any]], images: Mapping[int | str, tuple[str, Size]], label_space: LabelSpace
) -> tuple[list[Picture], np.ndarray]:
    """The annotated pictures in the order of `annotations`, and one `_SEGMENT_ROW` for each of their segments."""
    pictures: list[Picture] = []
    rows: list[np.ndarray] = []
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
        rows.append(_read_segments(where, entry["segments_info"], label_space))
        end = first + len(rows[-1])
        pictures.append(Picture(image_id, image_file, segmentation_file, size, first, end))
        first = end
    return pictures, np.concatenate(rows)


def _read_images(path: Path, entries: list[Any]) -> dict[int | str, tuple[str, Size]]:
    images: dict[int | str, tuple[str, Size]] = {}
    for position, entry in enumerate(entries):
        where = f"{path}, image number {position}"
        _require(entry, ("id", "file_name", "height", "width"), where)
        if entry["id"] in images:
            raise InputError(f"{where}: the id {entry['id']} comes twice among the images. Keep one of them.")
        images[entry["id"]] = str(entry["file_name"]), Size(int(entry["height"]), int(entry["width"]))
    return images


def _read_segments(where: str, entries: list[Any], label_space: LabelSpace) -> np.ndarray:
    rows = []
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
        rows.append(
            (segment_id, category_id, entry.get("area", AREA_NOT_GIVEN), is_crowd, np.nan if score is None else score)
        )
    ids = [row[0] for row in rows]
    if len(set(ids)) != len(ids):
        repeated = sorted({i for i in ids if ids.count(i) > 1})
        raise InputError(f"{where}: segment ids {repeated} are used twice; ids are unique in a picture. Mend the ids.")
    return np.array(rows, dtype=_SEGMENT_ROW)


def _require(entry: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(entry, Mapping):
        raise InputError(f"{where} is not an object of JSON but {entry!r:.60}; it needs {', '.join(keys)}.")
    missing = [key for key in keys if key not in entry]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}; it needs {', '.join(keys)}. Complete the file.")
