"""state.json: whether a run goes on, has ended, or was cut off without a word.

The process that trains writes the file and renews its time every 20 s, from a thread of its own: so a step or a
validation may take as long as it likes. Whoever reads it takes a run for interrupted that says it goes on, but gave no
sign for 2 minutes, or whose process is known to be gone.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tascnet.errors import InputError
from tascnet.files import read_json, write_json

STATE = "state.json"
SECONDS_BETWEEN_SIGNS = 20.0
SECONDS_UNTIL_LOST = 120.0  # six signs: clocks of two machines may differ, and network drives lag


class State(StrEnum):
    """What has become of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class RunState:
    """The state of a run, and what cut it off; empty where it was not, or is not known."""

    state: State
    reason: str = ""


@contextmanager
def keep_state(folder: Path) -> Iterator[None]:
    """Say in state.json that the run goes on while the block runs, and how it ended.

    Raises:
        InputError: the file cannot be written at the start.
    """
    path = folder / STATE
    _write(path, State.RUNNING)
    ended = threading.Event()
    signs = threading.Thread(target=_give_signs, args=(path, ended), name="state.json", daemon=True)
    signs.start()
    try:
        yield
    except BaseException as error:
        with suppress(InputError, OSError):  # the disk may be full; what the error says matters more
            _write(path, State.INTERRUPTED, _reason(error))
        raise
    else:
        _write(path, State.FINISHED)
    finally:
        ended.set()
        signs.join()


def read_state(folder: Path, now: float | None = None) -> RunState:
    """The state of the run in a folder.

    Args:
        folder: of the run. Without state.json, as earlier versions left it, a run with a report is finished.
        now: seconds since 1970; by default the present.

    Raises:
        InputError: state.json cannot be read.
    """
    path = folder / STATE
    if not path.is_file():
        return RunState(State.FINISHED if (folder / "report.json").is_file() else State.INTERRUPTED)
    values = read_json(path)
    try:
        said, host, process = State(values["state"]), str(values["host"]), int(values["process"])
        reason = str(values["reason"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is no state of a run ({error!r}). Delete it: a run with a report.json then counts as finished, "
            "any other as interrupted."
        ) from error
    if said == State.RUNNING:
        age = (time.time() if now is None else now) - path.stat().st_mtime
        if age > SECONDS_UNTIL_LOST or (host == platform.node() and not may_be_alive(process)):
            return RunState(State.INTERRUPTED)
    return RunState(said, reason)


def _write(path: Path, state: State, reason: str = "") -> None:
    write_json(path, {"state": state, "reason": reason, "host": platform.node(), "process": os.getpid()}, indent=1)


def _give_signs(path: Path, ended: threading.Event) -> None:
    while not ended.wait(SECONDS_BETWEEN_SIGNS):
        with suppress(OSError):  # a drive that is away for a while must not end this
            os.utime(path)


def _reason(error: BaseException) -> str:
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, KeyboardInterrupt):
        return "Ctrl-C"
    return " ".join(f"{type(error).__name__} {error}".split())


def may_be_alive(process: int) -> bool:
    """False if this machine has no such process. Windows cannot be asked without harm: there, only time tells."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
