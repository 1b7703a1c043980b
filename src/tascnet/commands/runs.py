"""A folder of runs -> a table of them: `tascnet runs`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser


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
    from tascnet.runs.listing import print_runs

    print_runs(options.folder, options.sort, options.json, standard_console())
