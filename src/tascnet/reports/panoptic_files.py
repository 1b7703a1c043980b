"""COCO panoptic files of predictions and of annotations -> a report: `tascnet metrics`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

import numpy as np
from rich.console import Console

from tascnet.data.coco import join_stuff, read_segmentation, wrong_areas
from tascnet.data.coco_json import CocoJson, Picture, read_coco_json, read_coco_predictions
from tascnet.data.file_names import find_file, unique_names
from tascnet.display import progress_bar
from tascnet.errors import InputError
from tascnet.metrics import SegmentationMetrics
from tascnet.reports.report import Report, unannotated_note
from tascnet.structures import LabelSpace, PanopticSegmentation, Segment, Size

PICTURES_A_TASK = 8
"""A process is given so many pictures at a time."""

MAX_NAMES = 20
"""So many missing pictures are named; of more, the number is given."""


class _File(NamedTuple):
    """A PNG, and what the JSON says of it."""

    png: Path
    json: Path
    segments: list[Segment]


class _Pair(NamedTuple):
    """The files of one picture; without prediction, it counts as empty."""

    name: str
    size: Size
    prediction: _File | None
    annotation: _File


@dataclass
class _Counts:
    """Metrics of some pictures; segments whose area in the JSON is not that of the PNG; pieces of stuff, joined."""

    metrics: SegmentationMetrics
    wrong_predicted: int = 0
    wrong_annotated: int = 0
    joined: int = 0

    def merge(self, other: "_Counts") -> None:
        self.metrics.merge(other.metrics)
        self.wrong_predicted += other.wrong_predicted
        self.wrong_annotated += other.wrong_annotated
        self.joined += other.joined


def compare_files(
    predictions: Path,
    annotations: Path,
    prediction_folder: Path | None = None,
    annotation_folder: Path | None = None,
    missing: Literal["error", "empty"] = "error",
    workers: int = 0,
    console: Console | None = None,
) -> Report:
    """Compare the pictures of two COCO panoptic files, matched by image_id.

    The categories are those of the annotations. Areas are counted from the pixels; where the JSON files say something
    else, the report has a note of it, and likewise of missing predictions that count as empty.

    Args:
        predictions: the JSON file of the predictions; of its lists, only `annotations` is needed.
        annotations: the JSON file of the annotations.
        prediction_folder: holds the PNG files; None for the path of the JSON less its suffix.
        annotation_folder: the same for the annotations.
        missing: "error" refuses predictions that lack a picture, "empty" counts nothing as predicted there.
        workers: processes that read and compare; 0 does it in this one. The figures are the same to the last bit.
        console: for the progress; None for none.

    Raises:
        InputError: a file or folder is missing or broken, breaks a rule of the format, predictions are missing, or
            are there for pictures that are not annotated.
    """
    if workers < 0:
        raise InputError(f"workers is {workers}; it must be 0 or more.")
    annotated = read_coco_json(annotations)
    predicted = read_coco_predictions(predictions, annotated)
    pairs = _pair_up(
        (predictions, prediction_folder or predictions.with_suffix(""), predicted),
        (annotations, annotation_folder or annotations.with_suffix(""), annotated),
    )
    without = [pair.name for pair in pairs if pair.prediction is None]
    if without and missing == "error":
        raise InputError(
            f"{predictions} has no prediction for {len(without)} of {len(pairs)} annotated pictures: "
            f"{_names(without)}. Complete it, or count them as empty: --missing empty."
        )
    found = _count_all(pairs, annotated.label_space, workers, console or Console(quiet=True))
    return Report(
        label_space=annotated.label_space,
        segmentation=found.metrics.compute(),
        notes=(
            *([unannotated_note(annotated.unannotated, len(pairs))] if annotated.unannotated else []),
            *_missing_notes(without, len(pairs)),
            *_area_notes(predictions, found.wrong_predicted),
            *_area_notes(annotations, found.wrong_annotated),
            *_joined_notes(found.joined),
        ),
    )


def _pair_up(predictions: tuple[Path, Path, CocoJson], annotations: tuple[Path, Path, CocoJson]) -> list[_Pair]:
    """Predictions and annotations of one image_id, in the order of the annotations; each: JSON, folder, content."""
    for json_path, folder, _ in (predictions, annotations):
        if not folder.is_dir():
            raise InputError(f"the folder {folder} does not exist; {json_path} refers to files in it.")
    prediction_of = {picture.image_id: picture for picture in predictions[2].pictures}
    pairs = []
    names = unique_names(PurePath(picture.image_file) for picture in annotations[2].pictures)
    for picture, name in zip(annotations[2].pictures, names, strict=True):
        prediction = prediction_of.get(picture.image_id)
        pairs.append(
            _Pair(
                name=name,
                size=picture.size,
                prediction=None if prediction is None else _file(*predictions, prediction),
                annotation=_file(*annotations, picture),
            )
        )
    return pairs


def _file(json_path: Path, folder: Path, content: CocoJson, picture: Picture) -> _File:
    return _File(find_file(folder, picture.segmentation_file), json_path, content.segments_of(picture))


def _count_all(pairs: Sequence[_Pair], label_space: LabelSpace, workers: int, console: Console) -> _Counts:
    tasks = [pairs[first : first + PICTURES_A_TASK] for first in range(0, len(pairs), PICTURES_A_TASK)]
    total = _Counts(SegmentationMetrics(label_space))
    with progress_bar(console, "pictures", len(pairs)) as bar, _counted(tasks, label_space, workers) as results:
        done = 0
        for task, counts in zip(tasks, results, strict=True):
            total.merge(counts)
            done += len(task)
            bar.update(done)
    return total


@contextmanager
def _counted(tasks: Sequence[Sequence[_Pair]], label_space: LabelSpace, workers: int) -> Iterator[Iterator[_Counts]]:
    """The counts of each task, in order, made in this process or in others."""
    count = partial(_count, label_space)
    if workers == 0:
        yield map(count, tasks)
        return
    # not by fork: a copy of a process with threads, as torch starts them, may wait for ever
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            yield pool.map(count, tasks)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _count(label_space: LabelSpace, pairs: Sequence[_Pair]) -> _Counts:
    counts = _Counts(SegmentationMetrics(label_space))
    for pair in pairs:
        annotation = _read(pair.annotation, pair.size)
        counts.wrong_annotated += len(wrong_areas(pair.annotation.segments, annotation))
        if pair.prediction is None:
            prediction = PanopticSegmentation.from_id_map(np.zeros(pair.size, dtype=np.int32), ())
        else:
            prediction = _read(pair.prediction, pair.size)
            counts.wrong_predicted += len(wrong_areas(pair.prediction.segments, prediction))
        both = join_stuff(prediction, label_space), join_stuff(annotation, label_space)
        counts.joined += sum(len(whole.segments) for whole in (prediction, annotation))
        counts.joined -= sum(len(whole.segments) for whole in both)
        counts.metrics.update(*both, pair.name)
    return counts


def _read(file: _File, size: Size) -> PanopticSegmentation:
    return read_segmentation(file.png, file.json, size, file.segments)


def _missing_notes(without: Sequence[str], total: int) -> list[str]:
    if not without:
        return []
    return [f"{len(without)} of {total} predictions are missing and count as empty: {_names(without)}."]


def _area_notes(json_path: Path, number: int) -> list[str]:
    if number == 0:
        return []
    return [f"{json_path} gives wrong areas for {number} segments; the pixels of the PNG files were counted."]


def _joined_notes(pieces: int) -> list[str]:
    if pieces == 0:
        return []
    return [f"Stuff was in several segments of its image; they are joined, {pieces} fewer, as the format wants it."]


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
