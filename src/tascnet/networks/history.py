"""A checkpoint inside its run's folder -> the same, with what the run's other files tell of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import parse_json, read_json, require_regular
from tascnet.networks.checkpoint import Checkpoint
from tascnet.networks.origin import Measured, Origin, numbers
from tascnet.settings import told_settings

_LOGGED = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff", "miou": "mIoU", "ap": "AP"}
"""Name of a figure in metrics.jsonl, behind val/ or val_ema/ -> its name."""


def with_what_its_run_knows(checkpoint: Checkpoint, averaged: bool = False) -> Checkpoint:
    """Fill in the origin and the measured figures that the checkpoint itself does not hold.

    A checkpoint that is being trained has no figures yet, and those of early versions have no origin: their run
    folder does. A file of the run that is missing or broken is passed over, because nothing but words depends on it.

    Args:
        checkpoint: of a run, or any other, which stays as it is.
        averaged: the figures shall be those of its averaged weights.
    """
    run = checkpoint.folder.resolve().parent.parent
    if checkpoint.folder.resolve().parent != run / "checkpoints" or not (run / "run.json").is_file():
        return checkpoint
    origin = checkpoint.origin
    if origin == Origin():
        weights = _first_weights(checkpoint.config)
        origin = Origin.of_run(_content(run / "run.json"), [weights], told_settings(checkpoint.config.data.train))
    measured = checkpoint.measured
    if measured == Measured():
        measured = _measured(run, checkpoint, averaged)
    return replace(checkpoint, origin=origin, measured=measured)


def _measured(run: Path, checkpoint: Checkpoint, averaged: bool) -> Measured:
    """The run's report where it is about these weights, else what was logged at the checkpoint's step."""
    prefix = "val_ema/" if averaged else "val/"
    logged = _logged_figures(run / "metrics.jsonl", int(checkpoint.progress["step"]), prefix)
    if not logged:
        return Measured()
    data = told_settings(checkpoint.config.data.val)
    if averaged:
        return Measured(figures=logged, data=data)  # a report has all its details of the weights themselves
    report = Measured.from_report(_content(run / "report.json"))
    # the report does not name its step, but its figures are those that were logged there, to the last digit
    is_about_it = all(report.figures.get(name) == value for name, value in logged.items())
    return replace(report, data=data) if is_about_it else Measured(figures=logged, data=data)


def _logged_figures(file: Path, step: int, prefix: str) -> dict[str, float]:
    """What was logged of a validation after a step, by the names behind a prefix; empty if there was none."""
    found: dict[str, float] = {}
    for line in _lines(file):
        if f'"{prefix}' in line:
            values = _parsed(line)
            if values.get("step") == step:
                figures = numbers(values)
                found = {
                    name: figures[prefix + logged] for logged, name in _LOGGED.items() if prefix + logged in figures
                }
    return found


def _lines(file: Path) -> Iterator[str]:
    try:
        require_regular(file)
        with file.open(encoding="utf-8") as lines:
            yield from lines
    except (OSError, UnicodeDecodeError, InputError):
        return


def _parsed(line: str) -> dict[str, Any]:
    """A line as it was logged; nothing if it was cut short."""
    try:
        values = parse_json(line, "a line of metrics")
    except InputError:
        return {}
    return values if isinstance(values, dict) else {}


def _content(file: Path) -> Any:
    try:
        return read_json(file)
    except InputError:
        return {}


def _first_weights(config: Config) -> str:
    backbone = config.model.backbone
    return f"backbone {backbone.name}: {'ImageNet' if backbone.weights == 'imagenet' else 'random'} weights"
