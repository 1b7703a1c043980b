r"""How well doubt without annotation tells the true PQ of a picture: rank correlations of `tascnet triage`'s measures.

    python benchmarks/triage.py runs/demo --data.first 4000000 --data.num_images 200 \
        --fit.first 3000000 --fit.num_images 200

The pictures of --data are measured: Spearman's rank correlation of each measure, two rivals among them (score of
detections, entropy of the stuff head), with 1 - PQ of the picture alone, with 95 % intervals from resampled pictures.
Settings that are not given are those of the run's validation set. With --fit, a second table shows what each measure
adds to `expected_loss` on other pictures, by least squares and cross-validation. --table and --fit_table name CSV files
that keep the measures: they are written where they do not exist and read where they do, so that no picture is predicted
twice.
"""

import csv
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jsonargparse import ArgumentParser
from rich.console import Console

from tascnet.build import build_dataset
from tascnet.commands.console import progress_bar
from tascnet.config import DatasetConfig
from tascnet.data.formats.table import check_dataset
from tascnet.data.stream import PanopticDataset
from tascnet.device import choose_device
from tascnet.files import atomic_path
from tascnet.inference.predictor import Predictor
from tascnet.metrics import PanopticQuality
from tascnet.networks.network import check_label_space
from tascnet.networks.opening import open_network
from tascnet.triage.ranking import MEASURES, measure_doubt

RIVALS = ("detection", "entropy")
RESAMPLES = 2000

Row = dict[str, Any]
"""name, pq (0..1) and the measures of one picture."""


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("network", metavar="NETWORK", type=Path, help="a run, or whatever tascnet evaluate takes")
    parser.add_argument("--table", type=Path | None, default=None, help="CSV of the pictures of --data")
    parser.add_argument("--fit_table", type=Path | None, default=None, help="CSV of the pictures of --fit")
    parser.add_argument("--threads", type=int, default=1)
    for group in ("data", "fit"):
        parser.add_class_arguments(DatasetConfig, group)
        parser.set_defaults({f"{group}.{field.name}": None for field in fields(DatasetConfig)})
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    changes = {group: {k: v for k, v in vars(options[group]).items() if v is not None} for group in ("data", "fit")}

    rows = table_of(options.network, changes["data"], options.table)
    fitting = table_of(options.network, changes["fit"], options.fit_table) if changes["fit"] else []
    common = {row["name"] for row in rows} & {row["name"] for row in fitting}
    if common:
        raise SystemExit(f"{len(common)} pictures are in both --fit and --data, {min(common)} for one; give others.")
    columns = {name: np.array([row[name] for row in rows]) for name in MEASURES}
    if fitting:
        print_choice(fitting)
    loss = 1 - np.array([row["pq"] for row in rows])
    print_table(columns, loss)
    error = columns["expected_loss"] - loss
    print(f"\nexpected loss less (1 - PQ): mean {error.mean():.3f}, mean size {np.abs(error).mean():.3f}")


def table_of(network: Path, changes: Mapping[str, Any], file: Path | None) -> list[Row]:
    """The rows of a file, or those of a data set, which are written to it."""
    if file is not None and file.exists():
        with file.open(encoding="utf-8", newline="") as opened:
            return [{k: v if k == "name" else float(v) for k, v in row.items()} for row in csv.DictReader(opened)]
    rows = measure(network, changes)
    if file is not None:
        with atomic_path(file) as temporary, temporary.open("w", encoding="utf-8", newline="") as opened:
            writer = csv.DictWriter(opened, ["name", "pq", *MEASURES])
            writer.writeheader()
            writer.writerows(rows)
    return rows


def measure(network: Path, changes: Mapping[str, Any]) -> list[Row]:
    """Predict the pictures of a data set; those in which PQ counts nothing are left out."""
    opened = open_network(network)
    dataset: PanopticDataset = build_dataset(check_dataset(replace(opened.config.data.val, **changes), "data"))
    check_label_space(opened, dataset.label_space)
    predictor = Predictor(
        opened.model.to(choose_device("auto")), opened.label_space, opened.config.data.input, opened.config.fusion
    )
    rows = []
    with progress_bar(Console(), "pictures", len(dataset)) as bar:
        for index in range(len(dataset)):
            sample = dataset[index]
            prediction = predictor.predict(sample.image)
            alone = PanopticQuality(predictor.label_space)
            alone.update(prediction.segmentation, sample.segmentation)
            quality = alone.compute().all
            if quality is not None:
                doubts = measure_doubt(prediction, predictor.label_space, predictor.score_threshold)
                rows.append({"name": sample.name, "pq": quality.pq} | vars(doubts))
            bar.update(index + 1)
    return rows


def print_choice(rows: list[Row]) -> None:
    """What other measures add to the expected loss, and what they are worth without it."""
    others = [name for name in MEASURES if name != "expected_loss"]
    print("\n| fitted | rank correlation, cross-validated |\n|---|---|")
    for names in (["expected_loss"], *(["expected_loss", name] for name in others), others):
        print(f"| {' + '.join(names)} | {cross_validated(rows, names):.3f} |")
    print()


def cross_validated(rows: list[Row], names: list[str]) -> float:
    """The rank correlation of predictions by least squares with 1 - PQ; mean over 20 divisions into five parts."""
    inputs = np.array([[1.0, *(row[name] for name in names)] for row in rows])
    loss = 1 - np.array([row["pq"] for row in rows])
    generator, correlations = np.random.default_rng(0), []
    for _ in range(20):
        part = generator.permutation(len(rows)) % 5
        predicted = np.empty(len(rows))
        for left_out in range(5):
            seen = part != left_out
            solution = np.linalg.lstsq(inputs[seen], loss[seen], rcond=None)[0]
            predicted[~seen] = inputs[~seen] @ solution
        correlations.append(rank_correlation(predicted, loss))
    return float(np.mean(correlations))


def ranks(values: np.ndarray) -> np.ndarray:
    """1, 2, ... in ascending order; equal values have the mean of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, -1..1; 0 where one of them does not vary, of which nothing can be told."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(ranks(a), ranks(b))[0, 1])


def print_table(columns: Mapping[str, np.ndarray], loss: np.ndarray) -> None:
    """The correlation of each measure with the loss, the best first, and how far it is above each rival."""
    generator = np.random.default_rng(0)
    draws = generator.integers(len(loss), size=(RESAMPLES, len(loss)))
    resampled = {
        name: np.array([rank_correlation(values[draw], loss[draw]) for draw in draws])
        for name, values in columns.items()
    }
    print(f"{len(loss)} pictures, mean PQ {100 * (1 - loss.mean()):.1f}, standard deviation {100 * loss.std():.1f}\n")
    print("| measure | rank correlation with 1 - PQ | above detection | above entropy |")
    print("|---|---|---|---|")
    correlations = {name: rank_correlation(values, loss) for name, values in columns.items()}
    for name in sorted(correlations, key=lambda name: -correlations[name]):
        cells = [with_interval(correlations[name], resampled[name])]
        for rival in RIVALS:
            difference = correlations[name] - correlations[rival]
            cells.append("-" if name == rival else with_interval(difference, resampled[name] - resampled[rival]))
        print(f"| {name} | {' | '.join(cells)} |")


def with_interval(value: float, resampled: np.ndarray) -> str:
    """A value and the middle 95 % of its resamples."""
    low, high = np.percentile(resampled, [2.5, 97.5])
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
