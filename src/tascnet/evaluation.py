"""Evaluation: a predictor over a data set -> a report: PQ, mIoU, AP, the best and the worst cases."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from tascnet import visualize
from tascnet.build import build_dataset
from tascnet.checkpoint import check_label_space, load_checkpoint
from tascnet.data.images import write_png
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.device import choose_device
from tascnet.display import progress_bar, quality_table, say
from tascnet.errors import InputError
from tascnet.files import check_writable, write_json
from tascnet.metrics import (
    AveragePrecision,
    AveragePrecisionResult,
    MeanIoU,
    MeanIoUResult,
    PanopticQuality,
    PanopticQualityResult,
    image_panoptic_quality,
    match_segments,
)
from tascnet.predictor import Prediction, Predictor
from tascnet.settings import check_dataset
from tascnet.structures import LabelSpace, Size


@dataclass(frozen=True)
class Report:
    """What an evaluation found. Qualities are 0-1.

    Attributes:
        label_space: the categories.
        num_images: pictures evaluated.
        panoptic: PQ, SQ, RQ.
        miou: mean IoU of the stuff head's semantic segmentation, and IoU by category.
        ap: mask AP of the instances.
        mean_doubt: mean over the pictures of |M_st - M_th| where either head sees things.
        seconds_per_image: inference alone, without reading and measuring.
        pq_of_image: name -> PQ of that picture alone; None where neither annotation nor prediction has a segment.
    """

    label_space: LabelSpace
    num_images: int
    panoptic: PanopticQualityResult
    miou: MeanIoUResult
    ap: AveragePrecisionResult
    mean_doubt: float
    seconds_per_image: float
    pq_of_image: dict[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for `report.json`; qualities in percent."""
        groups = {"all": self.panoptic.all, "things": self.panoptic.things, "stuff": self.panoptic.stuff}
        quality: dict[str, Any] = {
            key: {name: None if group is None else 100 * getattr(group, key) for name, group in groups.items()}
            | {
                "per_category": {
                    self.label_space[category].name: 100 * getattr(result, key)
                    for category, result in self.panoptic.per_category.items()
                }
            }
            for key in ("pq", "sq", "rq")
        }
        return quality | {
            "miou": _percent(self.miou.mean_iou),
            "iou_per_category": {
                self.label_space[category].name: 100 * iou for category, iou in self.miou.per_category.items()
            },
            "ap": {name: _percent(value) for name, value in asdict(self.ap).items() if name != "per_category"},
            "mean_doubt": self.mean_doubt,
            "images": self.num_images,
            "seconds_per_image": self.seconds_per_image,
            "pq_of_image": {name: _percent(pq) for name, pq in self.pq_of_image.items()},
        }

    def summary(self) -> dict[str, float | None]:
        """The headline figures in percent, for tables and curves."""
        panoptic = self.panoptic
        return {
            "pq": None if panoptic.all is None else 100 * panoptic.all.pq,
            "pq_things": None if panoptic.things is None else 100 * panoptic.things.pq,
            "pq_stuff": None if panoptic.stuff is None else 100 * panoptic.stuff.pq,
            "miou": _percent(self.miou.mean_iou),
            "ap": _percent(self.ap.ap),
        }


def evaluate(
    predictor: Predictor, dataset: PanopticDataset, on_image: Callable[[int, int], None] = lambda done, total: None
) -> Report:
    """Predict every picture of a data set and compare with its annotation.

    Args:
        predictor: its categories must be the data set's.
        dataset: with at least one picture.
        on_image: called after each picture with the number done and the total.

    Raises:
        InputError: the data set is empty, or a file of it cannot be used.
    """
    if len(dataset) == 0:
        raise InputError("the data set to evaluate on has no images; check data.val.")
    label_space = predictor.label_space
    pq, miou, ap = PanopticQuality(label_space), MeanIoU(label_space), AveragePrecision(label_space)
    doubts: list[float] = []
    pq_of_image: dict[str, float | None] = {}
    seconds = 0.0
    for index in range(len(dataset)):
        sample = dataset[index]
        started = time.perf_counter()
        prediction = predictor.predict(sample.image)
        seconds += time.perf_counter() - started
        pq.update(prediction.segmentation, sample.segmentation)
        miou.update(prediction.semantic, sample.segmentation.semantic_map(label_space))
        ap.update(prediction.instances, sample.segmentation, sample.name)
        doubts.append(prediction.doubt)
        alone = image_panoptic_quality(prediction.segmentation, sample.segmentation, label_space).all
        pq_of_image[sample.name] = None if alone is None else alone.pq
        on_image(index + 1, len(dataset))
    return Report(
        label_space=label_space,
        num_images=len(dataset),
        panoptic=pq.compute(),
        miou=miou.compute(),
        ap=ap.compute(),
        mean_doubt=sum(doubts) / len(doubts),
        seconds_per_image=seconds / len(dataset),
        pq_of_image=pq_of_image,
    )


def write_report(report: Report, folder: Path) -> Path:
    """Write `folder`/report.json; return its path."""
    path = folder / "report.json"
    write_json(path, report.to_dict(), indent=1)
    return path


def write_cases(
    report: Report, predictor: Predictor, dataset: PanopticDataset, folder: Path, number: int = 4
) -> list[Path]:
    """Draw the best and the worst pictures of an evaluation: picture, annotation, prediction, match map, residual.

    Returns:
        The files written: best.png and worst.png.
    """
    rated = sorted((pq, index) for index, pq in enumerate(report.pq_of_image.values()) if pq is not None)
    order = [index for _, index in rated]
    chosen = {"worst": order[:number], "best": order[::-1][:number]}
    paths = []
    for name, indices in chosen.items():
        if not indices:
            continue
        path = folder / f"{name}.png"
        write_png(path, draw_cases(predictor, [dataset[index] for index in indices]))
        paths.append(path)
    return paths


def draw_cases(predictor: Predictor, samples: Sequence[Sample]) -> visualize.Picture:
    """One row a sample: picture, annotation, prediction, match map, residual."""
    titles = ["picture", "annotation", "prediction", "matches", "residual"]
    rows = [draw_case(predictor.predict(sample.image), sample, predictor.label_space) for sample in samples]
    return visualize.grid(rows, titles)


def draw_case(prediction: Prediction, sample: Sample, label_space: LabelSpace) -> list[visualize.Picture]:
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


def _percent(value: float | None) -> float | None:
    return None if value is None else 100 * value


def evaluate_checkpoint(
    path: Path,
    data: Mapping[str, Any],
    fusion: Mapping[str, Any],
    output: Path | None,
    device: str,
    console: Console,
) -> tuple[Report, Path]:
    """Evaluate a checkpoint and write report.json, best.png and worst.png.

    Args:
        path: run folder or checkpoint folder.
        data: fields of `DatasetConfig` that differ from the run's validation set.
        fusion: fields of `FusionConfig` that differ from the run's.
        output: folder for the results; by default `evaluation` beside the checkpoint.
        device: "auto", "cpu", "cuda" or "mps".
        console: for the progress.

    Returns:
        The report, and the folder it was written to.

    Raises:
        InputError: the checkpoint or the data set cannot be used, or their categories differ.
    """
    checkpoint = load_checkpoint(path)
    dataset = build_dataset(check_dataset(replace(checkpoint.config.data.val, **data), "data"))
    check_label_space(checkpoint, dataset.label_space)
    predictor = Predictor(
        checkpoint.model.to(choose_device(device)),
        checkpoint.label_space,
        checkpoint.config.data.input,
        replace(checkpoint.config.fusion, **fusion),
    )
    folder = check_writable(output or path / "evaluation")
    with progress_bar(console, "evaluation", len(dataset)) as bar:
        report = evaluate(predictor, dataset, lambda done, _: bar.update(done))
    write_report(report, folder)
    write_cases(report, predictor, dataset, folder)
    return report, folder


def print_report(report: Report, console: Console) -> None:
    """Print the qualities as a table."""
    values = report.to_dict()
    rows = {
        group: {key.upper(): values[key][group] for key in ("pq", "sq", "rq")} for group in ("all", "things", "stuff")
    }
    for category, quality in values["pq"]["per_category"].items():
        rows[f"  {category}"] = {
            "PQ": quality,
            "SQ": values["sq"]["per_category"][category],
            "RQ": values["rq"]["per_category"][category],
        }
    console.print(quality_table(f"pictures: {report.num_images}", rows))
    ap = values["ap"]
    single = {"mIoU": values["miou"], "AP": ap["ap"], "AP50": ap["ap50"], "AP75": ap["ap75"]}
    shown = "   ".join(f"{name} {'-' if value is None else f'{value:.1f}'}" for name, value in single.items())
    say(console, f"{shown}   {report.seconds_per_image:.2f} s a picture")
