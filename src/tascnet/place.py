"""Processes that work together: the place of one among them, as torchrun defines it, and how others are started."""

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tascnet.errors import InputError

_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_RANK")
_RESTARTS = "TORCHELASTIC_RESTART_COUNT"


@dataclass(frozen=True)
class Place:
    """Where a process stands, as torchrun tells it, or `training.processes.start` does.

    Attributes:
        process: its number.
        processes: how many there are on all machines.
        on_machine: how many there are on this machine.
    """

    process: int = 0
    processes: int = 1
    on_machine: int = 1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Place | None":
        """None where nobody has started several processes; RANK by itself, as other programs leave it, starts none.

        Raises:
            InputError: the variables are incomplete, no numbers, or contradict each other.
        """
        if "LOCAL_RANK" not in environment or "WORLD_SIZE" not in environment:
            return None
        values = [_number(environment.get(name)) for name in _NAMES]
        rank, world, local_world, local_rank = values
        fits = None not in values and 0 <= rank < world and 0 <= local_rank < local_world  # type: ignore[operator]
        if not fits or world % local_world:  # type: ignore[operator]
            found = ", ".join(f"{name}={environment.get(name, '(not set)')[:20]}" for name in _NAMES)
            raise InputError(
                f"the environment variables of torchrun do not fit together: {found}. Start several processes with "
                f"torchrun or --devices; for one process: unset {' '.join(_NAMES)}."
            )
        return cls(rank, world, local_world)  # type: ignore[arg-type]


def restarts(environment: Mapping[str, str] = os.environ) -> int:
    """How often torchrun has started the processes again.

    Raises:
        InputError: its variable holds no number.
    """
    found = environment.get(_RESTARTS, "0")
    number = _number(found)
    if number is None:
        raise InputError(f"{_RESTARTS} is {found[:20]!r}, which is no number of restarts. Unset it.")
    return number


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else None


@contextmanager
def interrupts_ignored() -> Iterator[None]:
    """Let processes that are started within the block ignore Ctrl-C, which a terminal sends to all of them.

    The first process stops the others; by themselves, they would print tracebacks.
    """
    if threading.current_thread() is not threading.main_thread():  # elsewhere Python allows no handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
