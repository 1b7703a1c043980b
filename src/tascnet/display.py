"""What a person sees while a long job runs: a live progress bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

SECONDS_BETWEEN_LINES = 15


class Bar:
    """One running job of known length."""

    def __init__(self, console: Console, progress: Progress, name: str, total: int, done: int):
        self._console = console
        self._progress = progress
        self._name = name
        self._task = progress.add_task(name, total=total, completed=done, note="")
        self._total = total
        self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES

    def update(self, done: int, note: str = "") -> None:
        """Show that `done` parts are finished, with a short note."""
        self._progress.update(self._task, completed=done, note=note)
        if not self._console.is_terminal and (time.monotonic() >= self._next_line or done == self._total):
            self._next_line = time.monotonic() + SECONDS_BETWEEN_LINES
            say(self._console, f"{self._name} {done}/{self._total}  {note}")


@contextmanager
def progress_bar(console: Console, name: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Show the progress of a job while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("eta"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(console, progress, name, total, done)


def say(console: Console, text: str) -> None:
    """Print text as it is: lines are not broken, so that paths can be copied, and brackets are no markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def quality_table(title: str, rows: Mapping[str, Mapping[str, float | None]]) -> Table:
    """A table of percentages: row name -> column name -> value, "-" where there is none."""
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        values = [row.get(column) for column in columns]
        table.add_row(escape(name), *("-" if value is None else f"{value:.1f}" for value in values))
    return table
