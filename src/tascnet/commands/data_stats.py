"""A data set -> what is in it, counted: `tascnet data stats`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample
from tascnet.commands.data_source import add_source, source_of


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
    from tascnet.commands.console import standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.data.bad_samples import LeftOut
    from tascnet.data_tools.stats import print_stats

    console, left_out = standard_console(), LeftOut(options.on_bad_sample)
    print_stats(**source_of(options), output=options.output, console=console, left_out=left_out)
    return name_left_out(left_out.errors, console)
