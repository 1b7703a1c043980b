"""What a call of the command line left on the screen."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Said:
    """Exit code, standard output and standard error of one call."""

    code: int
    out: str
    err: str
