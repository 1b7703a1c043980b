"""Cases that misbehave on purpose, to test the runner: python -m damaged.misbehaving FILE writes their verdicts."""

import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import tascnet.cli

from .cases import Case, Place, works
from .runner import run_cases


def _compute() -> None:
    while True:
        pass


def _take_memory() -> None:
    len(b"x" * 400_000_000)


def _raise() -> None:
    raise ZeroDivisionError


MISBEHAVIOUR: Mapping[str, Callable[[], object]] = {
    "sleeps": lambda: time.sleep(1000),
    "computes for ever": _compute,
    "takes memory": _take_memory,
    "raises": _raise,
    "kills itself": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "writes beside its folder": lambda: Path("../stray").write_text("x"),
}
ENDLESS = ("sleeps", "computes for ever")


def _misbehaving(action: Callable[[], object]) -> Callable[[Place], list[object]]:
    """The command line is replaced by the action, in the child alone."""

    def prepare(place: Place) -> list[object]:
        tascnet.cli.main = lambda arguments: (action(), 0)[1]
        return []

    return prepare


def _broken(place: Place) -> list[object]:
    raise LookupError("a case that cannot be prepared")


def main() -> None:
    """Run them and write name -> verdict."""
    cases = [
        Case("faults", name, _misbehaving(action), works(), seconds=1 if name in ENDLESS else 20, megabytes=200)
        for name, action in MISBEHAVIOUR.items()
    ]
    cases += [Case("faults", "is a broken case", _broken, works()), Case("faults", "prints help", _help, works())]
    with tempfile.TemporaryDirectory() as world:
        results = list(run_cases(cases, Path(world), seed=0, jobs=2))
    Path(sys.argv[1]).write_text(json.dumps({result.case.name: result.judged.verdict for result in results}))


def _help(place: Place) -> list[object]:
    return ["--help"]


if __name__ == "__main__":
    main()
