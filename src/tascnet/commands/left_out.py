"""Samples that a command left out: their names on the screen, and the exit code that goes with them."""

from collections.abc import Sequence

from tascnet.errors import InputError
from tascnet.progress import Observer

EXIT_PROBLEMS = 1
"""Done, but something is wrong with the data."""


def name_left_out(errors: Sequence[InputError], observer: Observer) -> int:
    """Report which samples were left out, and why.

    Returns:
        The exit code.
    """
    if not errors:
        return 0
    observer.message(f"left out, because they cannot be used: {len(errors)}")
    for error in errors:
        observer.message(f"  {error}")
    return EXIT_PROBLEMS
