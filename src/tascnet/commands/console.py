"""The screen of a command: what its verbs print on, and what shows their progress."""

from rich.console import Console

from tascnet.console import MAX_ROWS, ConsoleObserver, cell, duration, progress_bar, quality_table
from tascnet.console import say as print_plain
from tascnet.errors import InputError
from tascnet.place import Place

__all__ = [
    "MAX_ROWS",
    "ConsoleObserver",
    "cell",
    "duration",
    "print_plain",
    "progress_bar",
    "quality_table",
    "standard_console",
]


def standard_console() -> Console:
    """Make a console on standard output; of several processes of one training, the first prints alone."""
    try:
        place = Place.from_environment()
    except InputError:  # only training depends on it, and refuses it
        place = None
    return Console(quiet=place is not None and place.process > 0)
