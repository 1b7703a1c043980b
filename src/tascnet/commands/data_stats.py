"""A data set -> what is in it, counted: `tascnet data stats`."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample
from tascnet.commands.data_source import add_source, source_of

if TYPE_CHECKING:
    from rich.console import Console

    from tascnet.data_tools.stats import Stats


def parser() -> ArgumentParser:
    """Build the parser of `tascnet data stats`."""
    parser = ArgumentParser(
        description="Count a data set: pictures and their sizes, segments and pixels of each category, crowds, void, "
        "instances by size. Photos are not read."
    )
    add_source(parser)
    parser.add_argument(
        "--output", type=Path | None, default=None, help="JSON file for all numbers; default: nothing is written"
    )
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Count a data set."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.data.bad_samples import LeftOut
    from tascnet.data_tools.stats import count_data

    console, left_out = standard_console(), LeftOut(options.on_bad_sample)
    observer = ConsoleObserver(console)
    count_data(
        **source_of(options),
        output=options.output,
        observer=observer,
        left_out=left_out,
        on_counted=lambda name, stats: print_stats(name, stats, console),
    )
    return name_left_out(left_out.errors, observer)


def print_stats(name: str, stats: "Stats", console: "Console") -> None:
    """Print the counts of one split: a table of its categories, and what concerns all of them."""
    from rich.table import Table

    from tascnet.commands.console import MAX_ROWS, cell, print_plain

    values = stats.to_dict()
    table = Table(show_edge=False)
    for column in ("category", "", "segments", "crowds", "pixels %", "pictures"):
        table.add_column(column, justify="left" if column in ("category", "") else "right")
    for category in values["categories"][:MAX_ROWS]:
        table.add_row(
            cell(category["name"]),
            "thing" if category["isthing"] else "stuff",
            str(category["segments"]),
            str(category["crowds"]),
            f"{100 * (category['share'] or 0):.2f}",
            str(category["pictures"]),
        )
    print_plain(console, f"{name}: {values['pictures']} pictures")
    console.print(table)
    if len(values["categories"]) > MAX_ROWS:
        print_plain(
            console, f"{len(values['categories']) - MAX_ROWS} more categories are not printed; --output writes all."
        )
    for title, key in (("height", "height"), ("width", "width"), ("instances a picture", "instances_per_picture")):
        spread = values[key]
        print_plain(console, f"{title}: {spread['min']} to {spread['max']}, median {spread['median']:g}")
    total = stats.small + stats.medium + stats.large
    sizes = f"{stats.small} small (below 32 x 32), {stats.medium} medium, {stats.large} large (96 x 96 and more)"
    print_plain(console, f"instances: {total}: {sizes}; crowds: {values['crowds']}")
    print_plain(console, f"void: {100 * (values['void'] or 0):.2f} % of the pixels")
