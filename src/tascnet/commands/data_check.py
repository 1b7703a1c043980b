"""A data set -> all that is wrong with it: `tascnet data check`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample
from tascnet.commands.data_source import add_source, source_of


def parser() -> ArgumentParser:
    """Build the parser of `tascnet data check`."""
    parser = ArgumentParser(
        description="Read a whole data set and list everything that is wrong with it, not the first problem only. Exit "
        "code 0: no errors (there may be warnings); 1: errors; 2: it cannot be read at all."
    )
    add_source(parser, skip={"group_by", "num_images"})
    parser.add_argument(
        "--output",
        type=Path | None,
        default=None,
        help="folder for check.json with all findings and contact_sheet.png; default: nothing is written",
    )
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Check a data set."""
    from tascnet.commands.console import standard_console
    from tascnet.commands.left_out import EXIT_PROBLEMS
    from tascnet.data_tools.check import check_data

    source = source_of(options)
    is_sound = check_data(
        **source, output=options.output, console=standard_console(), on_bad_sample=options.on_bad_sample
    )
    return 0 if is_sound else EXIT_PROBLEMS
