"""COCO panoptic files of predictions and of annotations -> a report: `tascnet metrics`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePath
from typing import Literal, NamedTuple

import numpy as np

from tascnet.config import OnBadSample
from tascnet.data.file_names import find_file, unique_names
from tascnet.data.formats.coco import join_stuff, read_segmentation, wrong_areas
from tascnet.data.formats.coco_json import CocoJson, Picture, read_coco_json, read_coco_predictions
from tascnet.errors import InputError
from tascnet.evaluation.report import Report, left_out_note, unannotated_note
from tascnet.metrics import SegmentationMetrics
from tascnet.place import interrupts_ignored
from tascnet.progress import SILENT, Observer
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
    """The files of one picture, with its place in the annotations; without prediction, it counts as empty."""

    place: int
    name: str
    size: Size
    prediction: _File | None
    annotation: _File


@dataclass
class _Counts:
    """The findings in some pictures: the metrics, segments whose area in the JSON is not that of the PNG, pieces of
    stuff that were joined, and why pictures, by their place, were left out.
    """

    metrics: SegmentationMetrics
    wrong_predicted: int = 0
    wrong_annotated: int = 0
    joined: int = 0
    left_out: dict[int, str] = field(default_factory=dict)

    def merge(self, other: "_Counts") -> None:
        self.metrics.merge(other.metrics)
        self.wrong_predicted += other.wrong_predicted
        self.wrong_annotated += other.wrong_annotated
        self.joined += other.joined
        self.left_out |= other.left_out


_Count = Callable[[Sequence[_Pair]], _Counts]
"""Finds the counts of the pictures of a task."""


def compare_files(
    predictions: Path,
    annotations: Path,
    prediction_folder: Path | None = None,
    annotation_folder: Path | None = None,
    missing: Literal["error", "empty"] = "error",
    workers: int = 0,
    observer: Observer = SILENT,
    on_bad_sample: OnBadSample = "fail",
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
        observer: receives the progress.
        on_bad_sample: "skip" leaves out pictures whose PNGs cannot be used, and the report has a note of it.

    Raises:
        InputError: a file or folder is missing or broken, breaks a rule of the format, predictions are missing, or
            are there for pictures that are not annotated; or a process of `workers` was ended from outside.
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
    count = partial(_count, annotated.label_space, on_bad_sample)
    found = _count_all(pairs, _Counts(SegmentationMetrics(annotated.label_space)), count, workers, observer)
    measured = len(pairs) - len(found.left_out)
    if not measured and found.left_out:
        first = next(iter(found.left_out.values()))
        raise InputError(f"none of {len(pairs)} pictures can be compared. The first: {first}")
    return Report(
        label_space=annotated.label_space,
        segmentation=found.metrics.compute(),
        notes=(
            *([unannotated_note(annotated.unannotated, len(pairs))] if annotated.unannotated else []),
            *_missing_notes(without, len(pairs)),
            *_area_notes(predictions, found.wrong_predicted),
            *_area_notes(annotations, found.wrong_annotated),
            *_joined_notes(found.joined),
            *([left_out_note(list(found.left_out.values()), measured)] if found.left_out else []),
        ),
        left_out=found.left_out,
    )


def _pair_up(predictions: tuple[Path, Path, CocoJson], annotations: tuple[Path, Path, CocoJson]) -> list[_Pair]:
    """Predictions and annotations of one image_id, in the order of the annotations; each: JSON, folder, content."""
    for json_path, folder, _ in (predictions, annotations):
        if not folder.is_dir():
            raise InputError(f"the folder {folder} does not exist; {json_path} refers to files in it.")
    prediction_of = {picture.image_id: picture for picture in predictions[2].pictures}
    pairs = []
    names = unique_names(PurePath(picture.image_file) for picture in annotations[2].pictures)
    for place, (picture, name) in enumerate(zip(annotations[2].pictures, names, strict=True)):
        prediction = prediction_of.get(picture.image_id)
        pairs.append(
            _Pair(
                place=place,
                name=name,
                size=picture.size,
                prediction=None if prediction is None else _file(*predictions, prediction),
                annotation=_file(*annotations, picture),
            )
        )
    return pairs


def _file(json_path: Path, folder: Path, content: CocoJson, picture: Picture) -> _File:
    return _File(find_file(folder, picture.segmentation_file), json_path, content.segments_of(picture))


def _count_all(pairs: Sequence[_Pair], total: _Counts, count: _Count, workers: int, observer: Observer) -> _Counts:
    """Add what `count` finds in all pairs to `total`, which is returned."""
    tasks = [pairs[first : first + PICTURES_A_TASK] for first in range(0, len(pairs), PICTURES_A_TASK)]
    with (
        observer.job("pictures", len(pairs)) as job,
        _counted(tasks, count, workers) as results,
    ):
        done = 0
        for task, counts in zip(tasks, results, strict=True):
            total.merge(counts)
            done += len(task)
            job.update(done)
    return total


@contextmanager
def _counted(tasks: Sequence[Sequence[_Pair]], count: _Count, workers: int) -> Iterator[Iterator[_Counts]]:
    """The counts of each task, in order, made in this process or in others."""
    if workers == 0:
        yield map(count, tasks)
        return
    # not by fork: a copy of a process with threads, as torch starts them, may wait for ever
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"))
    try:
        with interrupts_ignored():  # the processes start here
            results = pool.map(count, tasks)
        yield results
    except BrokenProcessPool as error:
        raise InputError(
            "a process that compares pictures was ended from outside. If that was not you, memory ran out: lower "
            "--workers, or compare in one process with --workers 0."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)  # not without waiting: its thread would fail at exit


def _count(label_space: LabelSpace, on_bad_sample: OnBadSample, pairs: Sequence[_Pair]) -> _Counts:
    counts = _Counts(SegmentationMetrics(label_space))
    for pair in pairs:
        try:
            annotation = _read(pair.annotation, pair.size)
            prediction = _read_prediction(pair)
        except InputError as error:
            if on_bad_sample == "fail":
                raise
            counts.left_out[pair.place] = str(error)
            continue
        counts.wrong_annotated += len(wrong_areas(pair.annotation.segments, annotation))
        if pair.prediction is not None:
            counts.wrong_predicted += len(wrong_areas(pair.prediction.segments, prediction))
        both = join_stuff(prediction, label_space), join_stuff(annotation, label_space)
        counts.joined += sum(len(whole.segments) for whole in (prediction, annotation))
        counts.joined -= sum(len(whole.segments) for whole in both)
        counts.metrics.update(*both, pair.name)
    return counts


def _read_prediction(pair: _Pair) -> PanopticSegmentation:
    if pair.prediction is None:
        return PanopticSegmentation.from_id_map(np.zeros(pair.size, dtype=np.int32), ())
    return _read(pair.prediction, pair.size)


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
