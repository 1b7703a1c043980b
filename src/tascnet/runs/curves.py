"""Metrics of one or several runs -> curves in a picture: `tascnet plot`."""

import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tascnet.errors import InputError, escape_controls
from tascnet.files import atomic_path
from tascnet.progress import SILENT, Observer
from tascnet.runs.listing import check_run
from tascnet.runs.record import Metrics, read_metrics, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMATS = (".png", ".svg", ".pdf")
PANEL = (5.2, 4.0)  # inches
DOTS_PER_INCH = 120
PANELS_A_ROW = 3
POINTS_TO_SMOOTH = 40  # as many points or fewer are drawn as they are
SMOOTHING_SHARE = 0.03  # of the points: the reach of the average, which then follows a change within a thirtieth
QUALITIES = {"val/pq": "all", "val/pq_things": "things", "val/pq_stuff": "stuff"}
TITLES = {
    "val/pq": "PQ, percent",
    "val/pq_things": "PQ of things, percent",
    "val/pq_stuff": "PQ of stuff, percent",
    "val/miou": "mIoU, percent",
    "val/ap": "mask AP, percent",
    "loss/total": "total loss",
    "lr": "learning rate",
    "images_per_second": "images / s",
    "data_wait": "share of time waiting for data",
    "memory_gib": "peak memory, GiB",
}
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
"""The palette of Okabe and Ito, which the colour-blind can tell apart, less its yellow; and brown."""
DASHES = ("-", "--", ":")
MARKERS = ("o", "^", "s")


def plot_runs(folders: Sequence[Path], metrics: Sequence[str], output: Path, observer: Observer = SILENT) -> None:
    """Draw the curves of runs into one picture.

    Args:
        folders: of the runs.
        metrics: keys of metrics.jsonl, one panel each; empty for losses, PQ and learning rate.
        output: the picture: .png, .svg or .pdf.
        observer: receives messages.

    Raises:
        InputError: a folder is no run or has no metrics, no run has one of the metrics, the picture cannot be
            written, or matplotlib is missing.
    """
    if output.suffix.lower() not in FORMATS:
        raise InputError(
            f"--output is {output}; curves are drawn as {', '.join(FORMATS)}. Choose a name that ends in one."
        )
    runs = read_runs(folders)
    missing = _missing(runs, metrics)
    figure = draw_curves(runs, metrics)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
    for line in missing:
        observer.message(line)
    observer.message(f"curves of {', '.join(runs)} are in {output}")


def read_runs(folders: Sequence[Path]) -> dict[str, Metrics]:
    """Name -> metrics. Runs are named by their folders; those of equal names by their paths.

    Raises:
        InputError: a folder is no run, is given twice, or has no metrics.
    """
    for folder in folders:
        check_run(folder)
    resolved = [folder.resolve() for folder in folders]
    names = [path.name for path in resolved]
    runs: dict[str, Metrics] = {}
    for folder, path in zip(folders, resolved, strict=True):
        if resolved.count(path) > 1:
            raise InputError(f"{folder} is given twice; give each run once.")
        metrics = read_metrics(folder)
        if not metrics.names():
            raise InputError(f"{folder} has no metrics yet: metrics.jsonl is empty. Plot it when a step was logged.")
        runs[path.name if names.count(path.name) == 1 else str(folder)] = metrics
    return runs


def draw_curves(runs: Mapping[str, Metrics], metrics: Sequence[str] = ()) -> "Figure":
    """Draw one panel for each metric.

    By default: the losses (of one run each part, of several the total), PQ of all, things and stuff, and the learning
    rate. Losses of many points are drawn smoothed, and faintly as they are.

    Raises:
        InputError: matplotlib is missing.
    """
    panels = [[name] for name in metrics] or _default_panels(runs)
    columns = min(len(panels), PANELS_A_ROW)
    rows = math.ceil(len(panels) / columns)
    figure: Figure = _figure_class()(figsize=(columns * PANEL[0], rows * PANEL[1] + 0.4), layout="constrained")
    for position, names in enumerate(panels, start=1):
        _draw_panel(figure.add_subplot(rows, columns, position), names, runs)
    if len(runs) == 1:
        figure.suptitle(next(iter(runs)))
    else:
        handles = [_line_handle(_color(number), name) for number, name in enumerate(runs)]
        figure.legend(handles=handles, loc="outside upper center", ncols=min(len(runs), 4), frameon=False)
    return figure


def smooth(values: Sequence[float], reach: float) -> list[float]:
    """The average of all values so far, in which a value `reach` steps back counts 1/e of the newest.

    It is unbiased from the first value on; NaN is passed over.
    """
    keep = math.exp(-1 / reach)
    total = weight = 0.0
    averages = []
    for value in values:
        if math.isfinite(value):
            total, weight = keep * total + value, keep * weight + 1
        averages.append(total / weight if weight else math.nan)
    return averages


def _default_panels(runs: Mapping[str, Metrics]) -> list[list[str]]:
    """What there is of losses, PQ, learning rate."""
    names = _names(runs)
    losses = [name for name in names if is_loss(name)] if len(runs) == 1 else ["loss/total"]
    losses.sort(key=lambda name: name != "loss/total")  # the total first
    panels = [[name for name in panel if name in names] for panel in (losses, QUALITIES, ["lr"])]
    return [panel for panel in panels if panel] or [names]


def _draw_panel(axes: "Axes", names: Sequence[str], runs: Mapping[str, Metrics]) -> None:
    """One panel: colours tell runs apart, dashes the metrics of a run; of one run, colours tell its metrics apart."""
    styles = _styles(len(runs), names)
    for number, metrics in enumerate(runs.values()):
        for name in names:
            steps, values = metrics.series(name)
            if is_loss(name) and len(values) > POINTS_TO_SMOOTH:
                axes.plot(steps, values, **styles[number][name], alpha=0.18, linewidth=0.8)
                axes.plot(steps, smooth(values, SMOOTHING_SHARE * len(values)), **styles[number][name], linewidth=1.8)
            else:
                few = len(values) <= POINTS_TO_SMOOTH
                marker = MARKERS[names.index(name) % len(MARKERS)] if few else None
                axes.plot(steps, values, **styles[number][name], marker=marker, markersize=5)
    last = max((step_of(line) for metrics in runs.values() for line in metrics.lines), default=1)
    axes.set_xlim(0, 1.03 * last)  # panels side by side have one scale
    _scale_values(axes, names, runs)
    axes.set_title(_title(names), fontsize="medium")
    axes.set_xlabel("training step")
    axes.grid(alpha=0.25)
    if len(names) > 1:
        _legend(axes, names, len(runs))


def _styles(num_runs: int, names: Sequence[str]) -> list[dict[str, dict[str, Any]]]:
    """For each run: name -> colour and dashes."""
    if num_runs == 1:
        return [{name: {"color": _color(rank)} for rank, name in enumerate(names)}]
    return [
        {name: {"color": _color(run), "linestyle": DASHES[rank % len(DASHES)]} for rank, name in enumerate(names)}
        for run in range(num_runs)
    ]


def _scale_values(axes: "Axes", names: Sequence[str], runs: Mapping[str, Metrics]) -> None:
    """Losses fall by powers of ten; all else is read from zero."""
    logged = [metrics.series(name)[1] for metrics in runs.values() for name in names]
    curves = [sorted(filter(math.isfinite, values)) for values in logged]
    positive = [curve for values in curves if (curve := [value for value in values if value > 0])]
    if not positive:
        return
    highest = max(curve[-1] for curve in positive)
    if all(map(is_loss, names)):
        # single steps near zero would take half of the panel from the others; zero itself has no place on this scale
        lowest = min(curve[len(curve) // 50] for curve in positive)
        axes.set_yscale("log")
        axes.set_ylim(lowest / 1.2, highest * 1.2)
        axes.yaxis.set_major_formatter(_plain_number)
        axes.yaxis.set_minor_formatter(_plain_number if highest < 30 * lowest else "")
    elif all(curve[0] >= 0 for curve in curves if curve):
        axes.set_ylim(0, 1.06 * highest)


def _legend(axes: "Axes", names: Sequence[str], num_runs: int) -> None:
    """What the curves within a panel are."""
    handles = []
    for rank, name in enumerate(names):
        dashes = "-" if num_runs == 1 else DASHES[rank % len(DASHES)]
        marker = None if is_loss(name) else MARKERS[rank % len(MARKERS)]
        color = _color(rank) if num_runs == 1 else "#666666"
        handles.append(_line_handle(color, QUALITIES.get(name, name.removeprefix("loss/")), dashes, marker))
    axes.legend(handles=handles, fontsize="small", framealpha=0.8, loc="best", ncols=2 if len(names) > 4 else 1)


def _line_handle(color: str, label: str, dashes: str = "-", marker: str | None = None) -> Any:
    lines, label = import_module("matplotlib.lines"), escape_controls(label)
    return lines.Line2D([], [], color=color, label=label, linestyle=dashes, marker=marker, markersize=5)


def is_loss(name: str) -> bool:
    """Whether a key of metrics.jsonl is that of a loss."""
    return name.startswith("loss/")


def _plain_number(value: float, _: float) -> str:
    return f"{value:g}"


def _title(names: Sequence[str]) -> str:
    if len(names) == 1:
        return TITLES.get(names[0], names[0])
    return "PQ, percent" if names[0] in QUALITIES else "losses"


def _color(rank: int) -> str:
    return COLORS[rank % len(COLORS)]


def _names(runs: Mapping[str, Metrics]) -> list[str]:
    """What at least one of the runs has a value of."""
    return list(dict.fromkeys(name for metrics in runs.values() for name in metrics.names()))


def _missing(runs: Mapping[str, Metrics], names: Sequence[str]) -> list[str]:
    """Says which runs lack which of the metrics.

    Raises:
        InputError: all of them lack one.
    """
    lines = []
    for name in names:
        without = [run for run, metrics in runs.items() if name not in metrics.names()]
        if len(without) == len(runs):
            raise InputError(f"--metrics names {name}, which no run has; they have {', '.join(_names(runs))}.")
        if without:
            lines.append(f"{', '.join(without)}: no {name}")
    return lines


def _figure_class() -> Any:
    """matplotlib's Figure, which needs no screen."""
    try:
        return import_module("matplotlib.figure").Figure
    except ImportError as error:
        raise InputError(
            "curves are drawn by matplotlib, which comes in an extra: pip install 'tascnet[plot]'."
        ) from error
