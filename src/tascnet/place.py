"""The place of a process among those that train together, as torchrun writes it into the environment."""

import os
from collections.abc import Mapping
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
        if None in values or not 0 <= rank < world or not 0 <= local_rank < local_world or world % local_world:  # type: ignore[operator]
            shown = {name: environment.get(name, "(not set)")[:20] for name in _NAMES}
            found = ", ".join(f"{name}={value}" for name, value in shown.items())
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
