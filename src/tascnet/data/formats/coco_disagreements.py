"""Panoptic PNGs against the JSON that lists their segments."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tascnet.data.formats.coco_json import AREA_NOT_GIVEN
from tascnet.data.problems import DataError, Kind, first_few
from tascnet.structures import VOID, Segment, run_starts


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


def wrong_area(path: Path, json_path: Path, listed: Segment, area: int) -> DataError:
    """The problem of a segment whose listed area is not its number of pixels."""
    return DataError(
        f"{path} disagrees with {json_path}: segment {listed.id} has {area} pixels in the PNG, but area "
        f"{listed.area} in the JSON. The pixels count; make sure that the PNG belongs to this JSON file.",
        Kind.AREA,
    )
