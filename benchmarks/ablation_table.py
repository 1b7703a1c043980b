"""Rows of results.jsonl -> a table with intervals of paired differences, and a picture."""

import statistics
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from typing import Any, NamedTuple

from ablation_arms import BASELINE
from rich.console import Console
from rich.table import Table

STUDENT_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""The two-sided 95 % quantile of Student's distribution with 1, 2, ... degrees of freedom."""

Arm = tuple[str, str]
"""How it was trained, how it was fused."""


class Interval(NamedTuple):
    """A mean with the half width of its 95 % interval; infinite for a single value."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Interval":
        """Of independent values."""
        if len(values) < 2:
            return cls(values[0], float("inf"))
        quantile = STUDENT_95[min(len(values) - 1, len(STUDENT_95)) - 1]
        return cls(statistics.mean(values), quantile * statistics.stdev(values) / sqrt(len(values)))

    def __str__(self) -> str:
        return f"{self.mean:+.2f}" + (f" ± {self.half_width:.2f}" if self.half_width != float("inf") else "")


def by_arm(rows: Sequence[dict[str, Any]]) -> dict[Arm, dict[int, dict[str, Any]]]:
    """Training and fusion -> seed -> row."""
    arms: dict[Arm, dict[int, dict[str, Any]]] = {BASELINE: {}}
    for row in rows:
        arms.setdefault((row["training"], row["fusion"]), {})[row["seed"]] = row
    return arms


def difference(
    arms: dict[Arm, dict[int, dict[str, Any]]], arm: Arm, figure: str, other: Arm = BASELINE
) -> Interval | None:
    """The mean difference of a figure to another arm's, over the seeds that both have."""
    shared = sorted(arms[arm].keys() & arms[other].keys())
    return Interval.of([arms[arm][seed][figure] - arms[other][seed][figure] for seed in shared]) if shared else None


def print_table(rows: Sequence[dict[str, Any]], console: Console) -> None:
    arms = by_arm(rows)
    table = Table(title=f"PQ and the paired difference to {' + '.join(BASELINE)}, with 95 % interval")
    for name in (
        "training",
        "fusion",
        "seeds",
        "PQ",
        "things",
        "stuff",
        "PQ - base",
        "things - base",
        "mIoU",
        "AP",
        "doubt",
    ):
        table.add_column(name, justify="left" if name in ("training", "fusion") else "right")
    for (training, fusion), seeds in arms.items():
        if not seeds:
            continue
        mean = {name: statistics.mean(row[name] for row in seeds.values()) for name in _figures(seeds)}
        spread = statistics.stdev(row["pq"] for row in seeds.values()) if len(seeds) > 1 else float("nan")
        table.add_row(
            training,
            fusion,
            str(len(seeds)),
            f"{mean['pq']:.2f} ({spread:.2f})",
            *(f"{mean[name]:.2f}" for name in ("pq_things", "pq_stuff")),
            *(str(difference(arms, (training, fusion), name) or "-") for name in ("pq", "pq_things")),
            *(f"{mean[name]:.1f}" for name in ("miou", "ap")),
            f"{mean['doubt']:.4f}",
        )
    console.print(table)


def _figures(seeds: dict[int, dict[str, Any]]) -> list[str]:
    return ["pq", "pq_things", "pq_stuff", "miou", "ap", "doubt"]


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Each arm's differences to the baseline: a dot a seed, and the interval of their mean."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to load

    arms = by_arm(rows)
    shown = [arm for arm in arms if arm != BASELINE and arms[arm].keys() & arms[BASELINE].keys()]
    if not shown:
        return
    figure = Figure(figsize=(8, 0.8 + 0.32 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for height, arm in enumerate(reversed(shown)):
        shared = sorted(arms[arm].keys() & arms[BASELINE].keys())
        values = [arms[arm][seed]["pq"] - arms[BASELINE][seed]["pq"] for seed in shared]
        interval = Interval.of(values)
        if len(values) > 1:
            axes.errorbar(interval.mean, height, xerr=interval.half_width, fmt="o", color="#0072b2", capsize=3)
        axes.plot(values, [height] * len(values), ".", color="#d55e00", markersize=4)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(shown)), [" + ".join(arm) for arm in reversed(shown)])
    axes.set_xlabel(f"PQ less that of {' + '.join(BASELINE)}")
    figure.savefig(path, dpi=120)
