"""A run folder's own record, as others read it: run.json, metrics.jsonl, report.json.

metrics.jsonl has one line of JSON for each logged step and each validation; it is read while it grows. A line is an
object of numbers. `step` is in every line, counted from 1; null stands for a value that is not a finite number, or that
there is none of. docs/training.md lists the other keys.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tascnet.errors import InputError
from tascnet.files import parse_json, read_json, require_regular

FACTS = "run.json"
METRICS = "metrics.jsonl"
REPORT = "report.json"

_TOO_LARGE = 10**300  # whole numbers beyond it are no floats

Line = dict[str, float | None]


@dataclass(frozen=True)
class Metrics:
    """What a metrics file holds.

    Attributes:
        lines: name -> value, in the order of the file.
        broken: numbers of the lines that cannot be read, counted from 1. A last line that was cut short is none of
            them: a run that was killed leaves one, and one that goes on may be writing it.
    """

    lines: tuple[Line, ...]
    broken: tuple[int, ...] = ()

    def names(self) -> list[str]:
        """What has at least one value; `step` is left out."""
        found = {name: None for line in self.lines for name, value in line.items() if value is not None}
        return [name for name in found if name != "step"]

    def series(self, name: str) -> tuple[list[int], list[float]]:
        """The steps at which `name` was logged, and its values; NaN where it was null."""
        logged = [line for line in self.lines if name in line]
        values = [line[name] for line in logged]
        return [step_of(line) for line in logged], [math.nan if value is None else value for value in values]


def is_run(folder: Path) -> bool:
    """Whether a folder is that of a run."""
    return (folder / FACTS).is_file()


def run_of(checkpoint: Path) -> Path | None:
    """The folder of the run that a checkpoint folder lies in; None where it lies elsewhere."""
    checkpoints = checkpoint.resolve().parent
    return checkpoints.parent if checkpoints.name == "checkpoints" and is_run(checkpoints.parent) else None


def read_facts(folder: Path) -> dict[str, Any]:
    """Read a run's run.json.

    Raises:
        InputError: it is missing, cannot be read, or contains something else.
    """
    facts = read_json(folder / FACTS)
    if not isinstance(facts, dict):
        raise InputError(
            f"{folder / FACTS} holds no facts of a run, but a {type(facts).__name__}. Restore it from a "
            'copy, or write {"command": "", "first_weights": []} into it.'
        )
    return facts


def read_report(folder: Path) -> dict[str, Any]:
    """Read a run's final evaluation; empty where there is none that can be read."""
    try:
        report = read_json(folder / REPORT)
    except InputError:
        return {}
    return report if isinstance(report, dict) else {}


def logged_validation(folder: Path, step: int, prefix: str) -> Line:
    """The values that a validation logged at a step, by their names without the prefix; empty if there was none.

    Args:
        folder: of the run.
        step: after so many steps; the last of several validations at it counts.
        prefix: "val/" for the weights, "val_ema/" for their average.
    """
    try:
        texts = text_of_metrics(folder).split("\n")
    except InputError:
        return {}
    lines = (line for text in texts if f'"{prefix}' in text and (line := parse_line(text)) and step_of(line) == step)
    logged = ({name.removeprefix(prefix): line[name] for name in line if name.startswith(prefix)} for line in lines)
    return next((values for values in reversed(list(logged)) if values), {})


def metrics_line(step: int, values: Mapping[str, float | None]) -> str:
    """One line of the file, as valid JSON: what is not a finite number becomes null."""
    finite = {name: None if value is None or not math.isfinite(value) else value for name, value in values.items()}
    return json.dumps({"step": step, **finite}) + "\n"


def parse_line(text: str) -> Line | None:
    """The numbers of one line; None if it is not whole, or no line of metrics."""
    try:
        values = parse_json(text, METRICS, nan="null")  # earlier versions wrote NaN
    except InputError:
        return None
    if not isinstance(values, dict) or type(values.get("step")) is not int or not 1 <= values["step"] < _TOO_LARGE:
        return None
    return {name: _number(value) for name, value in values.items() if value is None or _is_number(value)}


def step_of(line: Line) -> int:
    """The step of a line that was read."""
    return int(line["step"] or 0)


def read_metrics(folder: Path) -> Metrics:
    """Read the metrics of a run; none where there is no file yet.

    Raises:
        InputError: the file is there and cannot be read.
    """
    texts = text_of_metrics(folder).split("\n")
    parsed = [parse_line(each) for each in texts]
    broken = [number for number, line in enumerate(parsed[:-1], start=1) if line is None and texts[number - 1].strip()]
    return Metrics(tuple(line for line in parsed if line is not None), tuple(broken))


def text_of_metrics(folder: Path) -> str:
    """The metrics file of a run; empty where there is none yet. Bytes that are no text stand as U+FFFD.

    Raises:
        InputError: the file is there and cannot be read.
    """
    path = folder / METRICS
    try:
        require_regular(path)
        return path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Check that it is a file that you may read."
        ) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _number(value: float | None) -> float | None:
    """The same; None for a number that is no float."""
    return value if value is not None and abs(value) < _TOO_LARGE else None
