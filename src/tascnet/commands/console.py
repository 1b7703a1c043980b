"""The screen of a command: text, tables and progress (a live bar on a terminal, a line now and then elsewhere)."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from tascnet.errors import InputError, escape_controls
from tascnet.place import Place
from tascnet.progress import Job

SECONDS_BETWEEN_LINES = 15

MAX_ROWS = 1500
"""So many rows of a table are printed: LVIS has 1,203 categories; 100,000 rows would take minutes to lay out."""


def standard_console() -> Console:
    """Make a console on standard output; of several processes of one training, the first prints alone."""
    try:
        place = Place.from_environment()
    except InputError:  # only training depends on it, and refuses it
        place = None
    return Console(quiet=place is not None and place.process > 0)


class Bar:
    """One running job of known length."""

    def __init__(self, console: Console, progress: Progress, name: str, total: int, done: int):
        self._console = console
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=total, completed=done, note="", seconds_left=None)
        self._total = total
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def update(self, done: int, note: str = "", seconds_left: float | None = None) -> None:
        """Show that `done` parts are finished.

        Args:
            done: parts finished.
            note: what else there is to say; a line feed in it breaks the line on a terminal only.
            seconds_left: until the end; by default estimated from the parts done so far.
        """
        note = escape_controls(note)
        self._progress.update(self._task, completed=done, note=note, seconds_left=seconds_left)
        if not self._console.is_terminal and (time.monotonic() >= self._next_line or done == self._total):
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            left = [] if seconds_left is None else [f"eta {duration(seconds_left)}"]
            print_plain(self._console, "  ".join([f"{self._name} {done}/{self._total}", *note.splitlines(), *left]))

    def move(self, done: int) -> None:
        """Move the bar on a terminal; what is noted beside it stays."""
        self._progress.update(self._task, completed=done)


class ConsoleObserver:
    """Prints messages, and shows jobs as progress bars: an `Observer` (see `tascnet.progress`)."""

    def __init__(self, console: Console):
        self._console = console

    def __reduce__(self) -> tuple[Callable[[bool], "ConsoleObserver"], tuple[bool]]:
        """In another process, it prints on that one's standard output."""
        return _on_standard_output, (self._console.quiet,)

    def message(self, text: str) -> None:
        """Print a message as it is."""
        print_plain(self._console, text)

    def job(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Job]:
        """Show a progress bar while the context lasts."""
        return progress_bar(self._console, name, total, done)


def _on_standard_output(quiet: bool) -> ConsoleObserver:
    return ConsoleObserver(Console(quiet=quiet))


class _Remaining(TimeRemainingColumn):
    """The time that is left: what the job says of it, else rich's estimate."""

    def render(self, task: Task) -> Text:
        seconds = task.fields["seconds_left"]
        return super().render(task) if seconds is None else Text(duration(seconds), style="progress.remaining")


class _Jobs(Progress):
    """Each job's bar, and below it its note, which may be longer than a terminal has room for beside the bar."""

    def get_renderables(self) -> Iterable[RenderableType]:
        for task in self.tasks:
            yield self.make_tasks_table([task])
            yield from (Text(f"  {line}", overflow="fold") for line in task.fields["note"].splitlines())


@contextmanager
def progress_bar(console: Console, name: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show the progress of a job while the block runs."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        _Remaining(),
    )
    with _Jobs(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(console, progress, name, total, done)


def print_plain(console: Console, text: str) -> None:
    """Print text as it is: lines are not broken, so that paths can be copied, and brackets are no markup.

    Control characters, which names from files may hold, are escaped: they could command the terminal.
    """
    console.print(escape_controls(text), highlight=False, markup=False, soft_wrap=True)


def duration(seconds: float) -> str:
    """3725 seconds -> "1:02:05"; from a day on, "2 d 1:02:05"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return (f"{days} d " if days else "") + f"{hours}:{minutes:02}:{seconds:02}"


def cell(text: str) -> str:
    """Text of a file for a cell of a table: no markup, and control characters escaped, as `print_plain` does."""
    return escape(escape_controls(text))


def quality_table(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A table of percentages: row name -> column name -> value, "-" where there is none."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        values = [row.get(column) for column in columns]
        table.add_row(cell(name), *("-" if value is None else f"{value:.1f}" for value in values))
    return table
