"""Evaluation: a predictor over a data set -> a report: PQ, boundary PQ, mIoU, AP, the best and the worst cases."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tascnet import visualize
from tascnet.build import build_dataset, innermost
from tascnet.config import OnBadSample
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.dataset import FormatDataset
from tascnet.data.formats.table import check_dataset
from tascnet.data.images import write_png
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.device import choose_device
from tascnet.errors import InputError, MemoryShortError, is_no_memory
from tascnet.evaluation.report import Report, left_out_note, unannotated_note
from tascnet.evaluation.writing import write_report
from tascnet.files import check_writable
from tascnet.fusion import Dropped
from tascnet.inference.engines.eager import EagerEngine
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.metrics import (
    AveragePrecision,
    CityscapesAveragePrecision,
    MeanIoU,
    SegmentationMetrics,
    match_segments,
)
from tascnet.networks.network import check_label_space
from tascnet.networks.opening import open_network
from tascnet.progress import SILENT, Observer
from tascnet.settings import Use, change_fusion, told_settings
from tascnet.structures import LabelSpace, Size

FIXED_CASE_SIDE = 256
"""Pixels. Five pictures of that size beside each other fit a screen."""


def evaluate(
    predictor: Predictor,
    dataset: PanopticDataset,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    on_bad_sample: OnBadSample = "fail",
) -> Report:
    """Predict every picture of a data set and compare with its annotation.

    Args:
        predictor: its categories must be the data set's.
        dataset: with at least one picture.
        on_image: called after each picture with the number done and the total.
        on_bad_sample: "skip" leaves out pictures that cannot be read or that need too much memory, and the report
            says so.

    Raises:
        InputError: the data set is empty, or a file of it, or all of them, cannot be used.
    """
    part = evaluate_part(predictor, dataset, 0, 1, on_image, on_bad_sample)
    return join_parts([part], dataset)


class EvaluatedPart:
    """The metrics of some pictures of a data set; they can be sent between processes, and joined."""

    def __init__(self, label_space: LabelSpace):
        self.metrics = SegmentationMetrics(label_space)
        self.miou, self.ap = MeanIoU(label_space), AveragePrecision(label_space)
        self.cityscapes_ap = CityscapesAveragePrecision(label_space) if label_space == CITYSCAPES else None
        self.doubts: list[float] = []
        self.dropped = Dropped()
        self.seconds = 0.0
        self.left_out: dict[int, str] = {}

    def merge(self, other: "EvaluatedPart") -> None:
        """Add the pictures of another part behind those already here."""
        self.metrics.merge(other.metrics)
        self.miou.merge(other.miou)
        self.ap.merge(other.ap)
        if self.cityscapes_ap is not None and other.cityscapes_ap is not None:
            self.cityscapes_ap.merge(other.cityscapes_ap)
        self.doubts += other.doubts
        self.dropped = self.dropped.plus(other.dropped)
        self.seconds += other.seconds
        self.left_out |= other.left_out


def evaluate_part(
    predictor: Predictor,
    dataset: PanopticDataset,
    part: int,
    parts: int,
    on_image: Callable[[int, int], None] = lambda done, total: None,
    on_bad_sample: OnBadSample = "fail",
) -> EvaluatedPart:
    """Predict the pictures of one part of a data set and compare; the parts differ in size by one at most.

    Args:
        predictor: its categories must be the data set's.
        dataset: with at least one picture.
        part: which of the parts, from 0.
        parts: how many there are.
        on_image: called after each picture with the number done and the total.
        on_bad_sample: "skip" leaves out pictures that cannot be read.

    Raises:
        InputError: the data set is empty, or a file of it cannot be used.
    """
    if len(dataset) == 0:
        raise InputError("the data set to evaluate on has no images; check data.val.")
    label_space, source = predictor.label_space, innermost(dataset)
    found = EvaluatedPart(label_space)
    indices = range(len(dataset) * part // parts, len(dataset) * (part + 1) // parts)
    for done, index in enumerate(indices, start=1):
        try:
            sample = dataset[index]
            started = time.perf_counter()
            prediction = _predict(predictor, sample)
        except InputError as error:
            if on_bad_sample == "fail":
                raise
            found.left_out[index] = str(error)
            on_image(done, len(indices))
            continue
        found.seconds += time.perf_counter() - started
        found.metrics.update(prediction.segmentation, sample.segmentation, sample.name)
        found.miou.update(prediction.semantic, sample.segmentation.semantic_map(label_space))
        found.ap.update(prediction.instances, sample.segmentation, sample.name)
        if found.cityscapes_ap is not None:
            void = source.excusing_void(index) if isinstance(source, FormatDataset) else None
            found.cityscapes_ap.update(prediction.instances, sample.segmentation, sample.name, void)
        found.doubts.append(prediction.uncertainty)
        found.dropped = found.dropped.plus(prediction.dropped)
        on_image(done, len(indices))
    return found


def _predict(predictor: Predictor, sample: Sample) -> Result:
    """The prediction of a sample with all that is measured; where the memory is too small, the error names it."""
    try:
        prediction = predictor.predict(sample.image)
        _ = prediction.semantic, prediction.uncertainty  # computed when first read: here, memory may run out
        return prediction
    except MemoryShortError as error:
        raise MemoryShortError(f"{sample.photo or sample.name}: {error}") from error
    except (MemoryError, RuntimeError) as error:
        if not is_no_memory(error):
            raise
        height, width = sample.image.shape[1:]
        raise MemoryShortError(
            f"{sample.photo or sample.name}: memory ran out while an image of {height} x {width} pixels (height x "
            "width) was evaluated. Make it smaller, or close other programs."
        ) from error


def join_parts(parts: Sequence[EvaluatedPart], dataset: PanopticDataset) -> Report:
    """The report of a whole data set, to the last bit the same however many parts it was evaluated in.

    Args:
        parts: all of them, in their order; they are used up.
        dataset: that they are parts of.

    Raises:
        InputError: no picture of it could be read.
    """
    whole, *others = parts
    for other in others:
        whole.merge(other)
    measured = len(whole.doubts)
    if not measured:
        first = next(iter(whole.left_out.values()))
        raise InputError(f"no picture of the data set to evaluate on can be read; the first: {first}")
    notes = _notes(dataset, innermost(dataset))
    if whole.left_out:
        notes = (*notes, left_out_note(list(whole.left_out.values()), measured))
    return Report(
        label_space=whole.metrics.label_space,
        segmentation=whole.metrics.compute(),
        miou=whole.miou.compute(),
        ap=whole.ap.compute(),
        cityscapes_ap=None if whole.cityscapes_ap is None else whole.cityscapes_ap.compute(),
        mean_doubt=sum(whole.doubts) / measured,
        dropped=whole.dropped,
        seconds_per_image=whole.seconds / measured,
        notes=notes,
        left_out=whole.left_out,
    )


def _notes(dataset: PanopticDataset, source: PanopticDataset) -> tuple[str, ...]:
    """Says so where the figures are of a part of the data only."""
    notes = []
    if len(dataset) < len(source):
        notes.append(f"Only the first {len(dataset)} of {len(source)} pictures were measured.")
    if isinstance(source, FormatDataset) and (unannotated := source.unannotated()):
        notes.append(unannotated_note(unannotated, len(source)))
    return tuple(notes)


def write_cases(
    report: Report, predictor: Predictor, dataset: PanopticDataset, folder: Path, number: int = 4
) -> list[Path]:
    """Draw the best and the worst pictures of an evaluation: picture, annotation, prediction, match map, residual.

    Returns:
        The files written: best.png and worst.png.
    """
    position = dict(zip(report.segmentation.pictures, _readable(dataset, report.left_out), strict=True))
    order = [position[name] for name, _ in report.ranking()]
    chosen = {"worst": order[:number], "best": order[::-1][:number]}
    paths = []
    for name, indices in chosen.items():
        if not indices:
            continue
        path = folder / f"{name}.png"
        write_png(path, draw_cases(predictor, [dataset[index] for index in indices]))
        paths.append(path)
    return paths


def fixed_cases(
    predictor: Predictor, dataset: PanopticDataset, number: int, left_out: Collection[int] = ()
) -> dict[str, visualize.Picture]:
    """Draw the same few pictures after each validation, small, to see how they change.

    Args:
        predictor: of the network as it is.
        dataset: pictures spread evenly over it are taken, all of it where it has fewer.
        number: of pictures.
        left_out: places in the data set whose pictures cannot be read.

    Returns:
        Name -> picture, annotation, prediction, match map and residual side by side, each at most 256 pixels a side.
    """
    readable = _readable(dataset, left_out)
    number = min(number, len(readable))
    samples = [dataset[readable[rank * len(readable) // number]] for rank in range(number)]
    return {sample.name: draw_cases(predictor, [sample], FIXED_CASE_SIDE) for sample in samples}


def _readable(dataset: PanopticDataset, left_out: Collection[int]) -> list[int]:
    """The places in a data set whose pictures can be read, in order."""
    return [index for index in range(len(dataset)) if index not in left_out]


def draw_cases(
    predictor: Predictor, samples: Sequence[Sample], max_side: int = visualize.MAX_CELL_SIDE
) -> visualize.Picture:
    """One row a sample: picture, annotation, prediction, match map, residual; each of sides up to `max_side` pixels."""
    titles = ["picture", "annotation", "prediction", "matches", "residual"]
    rows = [draw_case(predictor.predict(sample.image), sample, predictor.label_space) for sample in samples]
    return visualize.grid(rows, titles, max_cell_side=max_side)


def draw_case(prediction: Result, sample: Sample, label_space: LabelSpace) -> list[visualize.Picture]:
    """The row of one sample."""
    matching = match_segments(prediction.segmentation, sample.segmentation, label_space)
    return [
        visualize.to_picture(sample.image),
        visualize.draw_segmentation(sample.segmentation, label_space, sample.image),
        visualize.draw_segmentation(prediction.segmentation, label_space, sample.image),
        visualize.draw_match_map(
            prediction.segmentation,
            sample.segmentation,
            matched_ids={match.prediction_id for match in matching.true_positives},
            missed_ids=matching.false_negatives,
            ignored_ids=matching.ignored,
        ),
        visualize.draw_residual(prediction.residual, sample.image, Size(*sample.image.shape[1:])),
    ]


def evaluate_checkpoint(
    path: Path,
    data: Mapping[str, Any],
    fusion: Mapping[str, Any],
    output: Path | None,
    device: str,
    observer: Observer = SILENT,
    command: str = "",
    use: Use = "newest",
    on_bad_sample: OnBadSample = "fail",
) -> tuple[Report, Path]:
    """Evaluate a checkpoint and write report.json, report.md, best.png and worst.png.

    Args:
        path: what `open_network` opens.
        data: fields of `DatasetConfig` that differ from the run's validation set.
        fusion: fields of `FusionOptions` that differ from the run's.
        output: folder for the results; by default `evaluation` in the folder `path`, or runs/NAME-evaluation where
            `path` is no folder; with "-average" or "-best" behind it where `use` says so.
        device: "auto", "cpu", "cuda" or "mps".
        observer: receives the progress.
        command: what the user called, for the report.
        use: which weights of a run.
        on_bad_sample: "skip" leaves out pictures that cannot be read or that need too much memory, and the report
            says so.

    Returns:
        The report, and the folder it was written to.

    Raises:
        InputError: the checkpoint or the data set cannot be used, or their categories differ.
    """
    checkpoint = open_network(path, observer, use)
    settings = check_dataset(replace(checkpoint.config.data.val, **data), "data")
    dataset = build_dataset(settings)
    check_label_space(checkpoint, dataset.label_space)
    predictor = Predictor(
        EagerEngine(checkpoint.model.to(choose_device(device)), fold=True),
        checkpoint.label_space,
        checkpoint.config.data.input,
        change_fusion(checkpoint.config.fusion, fusion),
    )
    folder = check_writable(output or _evaluation_of(path, use))
    with observer.job("evaluation", len(dataset)) as job:
        report = evaluate(predictor, dataset, lambda done, _: job.update(done), on_bad_sample)
    write_report(report, folder, command, told_settings(settings), checkpoint.step)
    write_cases(report, predictor, dataset, folder)
    return report, folder


def _evaluation_of(network: Path, use: Use) -> Path:
    """Where an evaluation goes: that of what is no folder beside the runs, because files lie in caches, too."""
    name = "evaluation" if use == "newest" else f"evaluation-{use}"
    return network / name if network.is_dir() else Path("runs") / f"{network.stem}-{name}"
