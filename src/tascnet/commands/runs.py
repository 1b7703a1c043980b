"""A folder of runs -> a table of them: `tascnet runs`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser
from tascnet.errors import escape_controls

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tascnet.runs.listing import Order, Run

STATE_STYLES = {"running": "green", "finished": "", "interrupted": "yellow"}
BREAKABLE = {"run": 8, "config": 6, "started": 10}  # columns that may be broken -> characters they keep
UNLIMITED = 10_000  # characters


def parser() -> ArgumentParser:
    """Build the parser of `tascnet runs`."""
    parser = ArgumentParser(
        description="List training runs: state (running, finished, interrupted), steps, best and last PQ, start, time "
        "spent on steps."
    )
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path("runs"), help="folder that holds runs, or one run; default runs"
    )
    parser.add_argument("--sort", default="started", choices=["started", "name", "pq"], help="latest or best first")
    parser.add_argument("--json", action="store_true", help="print JSON, for other programs")
    return parser


def run(options: Namespace, command: str) -> None:
    """List training runs."""
    from tascnet.commands.console import standard_console

    print_runs(options.folder, options.sort, options.json, standard_console())


def print_runs(folder: Path, order: "Order", as_json: bool, console: "Console") -> None:
    """Print the runs of a folder as a table, or as one JSON object with `runs` and `problems`.

    Raises:
        InputError: the folder does not exist or cannot be read.
    """
    from rich.console import Console

    from tascnet.commands.console import print_plain
    from tascnet.runs.listing import find_runs, sort_runs

    runs, problems = find_runs(folder)
    runs = sort_runs(runs, order)
    if as_json:
        print_plain(console, json.dumps({"runs": [asdict(run) for run in runs], "problems": problems}, indent=1))
        return
    if runs:
        # a file has no width that a table must fit
        wide = console if console.is_terminal else Console(file=console.file, width=UNLIMITED)
        wide.print(runs_table(runs))
    else:
        print_plain(console, f"{folder} holds no runs. tascnet demo and tascnet train write some.")
    for run in runs:
        for note in (*([f"{run.state}: {run.reason}"] if run.reason else []), *run.notes):
            print_plain(console, f"{run.name}: {note}")
    for name, problem in problems.items():
        print_plain(console, f"{name}: {problem}")


def runs_table(runs: list["Run"]) -> "Table":
    """One row a run. Where it is narrow, names, dates and the titles of columns are broken, numbers are not."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    rows = [_row(run) for run in runs]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in rows[0]:
        table.add_column(
            column,
            justify="left" if column in ("run", "config", "state") else "right",
            overflow="fold",
            min_width=BREAKABLE.get(column) or max(len(row[column]) for row in rows),
        )
    for run, row in zip(runs, rows, strict=True):
        cells = [Text(value) for value in row.values()]
        cells[list(row).index("state")].style = STATE_STYLES[run.state]
        table.add_row(*cells)
    return table


def _row(run: "Run") -> dict[str, str]:
    """Title of a column -> what a run has there."""
    from tascnet.commands.console import duration

    return {
        "run": escape_controls(run.name),
        "config": escape_controls(run.config) or "-",
        "state": run.state,
        "steps": f"{run.step}/{'?' if run.steps is None else run.steps}",
        "best PQ": _shown(run.best_pq),
        "last PQ": _shown(run.last_pq),
        "started": escape_controls(run.started[:16].replace("T", " ")) or "-",
        "trained": "-" if run.seconds is None else duration(run.seconds),
    }


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
