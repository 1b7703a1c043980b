"""Runs -> a picture of their curves: `tascnet plot`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser


def parser() -> ArgumentParser:
    """Build the parser of `tascnet plot`."""
    parser = ArgumentParser(
        description="Draw curves of one or several runs into one picture: losses, PQ of all, things and stuff at each "
        "validation, learning rate. Needs matplotlib: pip install 'tascnet[plot]'."
    )
    parser.add_argument("folders", metavar="RUN", type=Path, nargs="+", help="run folders")
    parser.add_argument("--output", type=Path, default=Path("curves.png"), help="the picture: .png, .svg or .pdf")
    parser.add_argument(
        "--metrics",
        default="",
        help="keys of metrics.jsonl with commas between them, one panel each, such as val/pq,loss/total",
    )
    return parser


def run(options: Namespace, command: str) -> None:
    """Draw the curves of training runs."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.runs.curves import plot_runs

    metrics = [name.strip() for name in options.metrics.split(",") if name.strip()]
    plot_runs(options.folders, metrics, options.output, ConsoleObserver(standard_console()))
