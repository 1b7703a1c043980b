"""A folder of runs -> what became of each."""

import math
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Literal

from tascnet.errors import InputError
from tascnet.files import read_yaml
from tascnet.runs.record import Metrics, is_run, read_facts, read_metrics, step_of
from tascnet.runs.state import State, read_state

Order = Literal["started", "name", "pq"]


@dataclass(frozen=True)
class Run:
    """What is known of a run.

    Attributes:
        name: of its folder.
        path: its folder.
        state: whether it goes on.
        reason: what interrupted it; empty where it was not, or nobody could say.
        config: name of the configuration file, without .yaml; "demo" for a demo.
        step: steps of the optimiser taken, as far as they were logged.
        steps: upper bound of the steps; None if config.yaml does not tell.
        best_pq: of all validations, percent.
        best_step: its step.
        last_pq: of the last validation, percent.
        started: ISO 8601, with the offset from UTC.
        seconds: spent on steps, validations not counted.
        notes: what is wrong with its files.
    """

    name: str
    path: str
    state: State
    reason: str
    config: str
    step: int
    steps: int | None
    best_pq: float | None
    best_step: int | None
    last_pq: float | None
    started: str
    seconds: float | None
    notes: tuple[str, ...]


def read_run(folder: Path) -> Run:
    """Gather what the files of a run folder tell.

    Raises:
        InputError: it is no run folder, or its run.json or metrics.jsonl cannot be read.
    """
    check_run(folder)
    started, command = _start(folder)
    metrics = read_metrics(folder)
    notes = [f"lines of metrics.jsonl that cannot be read: {len(metrics.broken)}"] if metrics.broken else []
    state, reason = State.INTERRUPTED, ""
    try:
        found = read_state(folder)
        state, reason = found.state, found.reason
    except InputError as error:
        notes.append(str(error))
    steps = None
    try:
        steps = _planned_steps(folder)
    except InputError as error:
        notes.append(str(error))
    best_step, best_pq = _best(metrics)
    _, pqs = metrics.series("val/pq")
    _, seconds = metrics.series("seconds")
    return Run(
        name=folder.resolve().name,
        path=str(folder),
        state=state,
        reason=reason,
        config=_config_name(command),
        step=max(map(step_of, metrics.lines), default=0),
        steps=steps,
        best_pq=best_pq,
        best_step=best_step,
        last_pq=_last(pqs),
        started=started,
        seconds=_last(seconds),
        notes=tuple(notes),
    )


def find_runs(folder: Path) -> tuple[list[Run], dict[str, str]]:
    """The runs in a folder, or the one that it is; and what else lies there.

    Returns:
        The runs, the latest first; and name -> what is wrong, for folders that are no runs or cannot be read.

    Raises:
        InputError: the folder does not exist or cannot be read.
    """
    if is_run(folder):
        return [read_run(folder)], {}
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder} cannot be read as a folder of runs: {error.strerror}. Give the folder that runs are in, or "
            "train a first one: tascnet demo."
        ) from error
    runs, problems = [], {}
    for path in inside:
        try:
            runs.append(read_run(path))
        except InputError as error:
            problems[path.name] = str(error)
    return sort_runs(runs, "started"), problems


def sort_runs(runs: list[Run], order: Order) -> list[Run]:
    """By start, the latest first; by name; or by the best PQ, the highest first."""
    if order == "name":
        return sorted(runs, key=lambda run: run.name)
    key: Callable[[Run], tuple[float, str]] = (
        (lambda run: (-1.0 if run.best_pq is None else run.best_pq, run.started))
        if order == "pq"
        else (lambda run: (_timestamp(run.started), run.name))
    )
    return sorted(runs, key=key, reverse=True)


def check_run(folder: Path) -> None:
    """See that a folder is that of a run.

    Raises:
        InputError: it is not.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder. Give the folder of a run; tascnet runs lists those in runs/.")
    if not is_run(folder):
        raise InputError(
            f"{folder} is not a run folder: there is no run.json in it. Give the folder that holds run.json."
        )


def _start(folder: Path) -> tuple[str, str]:
    """When the run was started, and by which command."""
    facts = read_facts(folder)
    return str(facts.get("started", "")), str(facts.get("command", ""))


def _planned_steps(folder: Path) -> int | None:
    values = read_yaml(folder / "config.yaml")
    try:
        return int(values["training"]["steps"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _best(metrics: Metrics) -> tuple[int | None, float | None]:
    """Step and value of the best PQ of all validations; the first of several equal ones."""
    steps, values = metrics.series("val/pq")
    found = [(value, step) for step, value in zip(steps, values, strict=True) if math.isfinite(value)]
    if not found:
        return None, None
    value, step = max(found, key=lambda pair: (pair[0], -pair[1]))
    return step, value


def _last(values: list[float]) -> float | None:
    return values[-1] if values and math.isfinite(values[-1]) else None


def _config_name(command: str) -> str:
    """tascnet train --config configs/a.yaml -> a."""
    try:
        words = shlex.split(command)
    except ValueError:
        return ""
    names = [word.removeprefix("--config=") for word in words if word.startswith("--config=")]
    names += [after for word, after in pairwise(words) if word == "--config"]
    if names:
        return Path(names[-1]).stem
    return "demo" if words[1:2] == ["demo"] else ""


def _timestamp(started: str) -> float:
    """Seconds since 1970; a run that does not know its start counts as the oldest."""
    try:
        time = datetime.fromisoformat(started)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return -math.inf
