"""Weights that others have trained, by name: `tascnet weights`."""

from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser
from tascnet.commands.verbs import Verb

if TYPE_CHECKING:
    from rich.console import Console


def parser() -> ArgumentParser:
    """Build the parser of `tascnet weights`, without its actions."""
    return ArgumentParser(description="Weights known by name: list them, download them.")


def run(options: Namespace, command: str) -> int | None:
    """Run the chosen action."""
    return ACTIONS[options.action].run(options[options.action], command)


def list_parser() -> ArgumentParser:
    """Build the parser of `tascnet weights list`."""
    return ArgumentParser(
        description="Show known weights: who trained them on what, their licence and size, what their authors measured."
    )


def run_list(options: Namespace, command: str) -> None:
    """Print a table of known weights."""
    from tascnet.commands.console import standard_console

    print_known(standard_console())


def get_parser() -> ArgumentParser:
    """Build the parser of `tascnet weights get`."""
    parser = ArgumentParser(
        description="Download known weights into the cache (TASCNET_HOME, else ~/.cache/tascnet), or check those that "
        "are there; print their path."
    )
    parser.add_argument("name", type=str, help="a name that tascnet weights list shows")
    return parser


def run_get(options: Namespace, command: str) -> None:
    """Download known weights and print their path alone, for $(tascnet weights get NAME)."""
    from rich.console import Console

    from tascnet.commands.console import ConsoleObserver
    from tascnet.networks.foreign.catalog import get

    print(get(options.name, ConsoleObserver(Console(stderr=True))))


def print_known(console: "Console") -> None:
    """Print a table of known weights; those that have been downloaded are marked."""
    from rich import box
    from rich.table import Table

    from tascnet.commands.console import print_plain
    from tascnet.networks.foreign.catalog import KNOWN, cached
    from tascnet.networks.foreign.download import cache_folder

    table = Table(box=box.SIMPLE_HEAD, padding=0)
    table.add_column("name, source, data, categories, licence")
    for column in ("MB", "PQ", "AP", "here"):
        table.add_column(column, justify="right")
    for name, weights in KNOWN.items():
        origin = f"  {weights.source}, {weights.data}, {weights.categories}, {weights.licence}"
        measured = ("-" if value is None else f"{value:.1f}" for value in (weights.pq, weights.mask_ap))
        table.add_row(
            f"[bold]{name}[/bold]\n{origin}", f"{weights.megabytes}", *measured, "yes" if cached(name) else ""
        )
    console.print(table)
    print_plain(console, "PQ and mask AP, in percent, are those that the sources publish for COCO val2017.")
    print_plain(console, f"Downloads go to {cache_folder() / 'weights'}.")


ACTIONS = {
    "list": Verb("show known weights", list_parser, run_list),
    "get": Verb("download known weights", get_parser, run_get),
}
