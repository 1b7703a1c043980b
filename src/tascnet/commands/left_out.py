"""Samples that a command left out: their names on the screen, and the exit code that goes with them."""

from collections.abc import Sequence

from rich.console import Console

from tascnet.console import say
from tascnet.errors import InputError

EXIT_PROBLEMS = 1


def name_left_out(errors: Sequence[InputError], console: Console) -> int:
    """Print why samples were left out.

    Returns:
        The exit code.
    """
    if not errors:
        return 0
    say(console, f"left out, because they cannot be used: {len(errors)}")
    for error in errors:
        say(console, f"  {error}")
    return EXIT_PROBLEMS
