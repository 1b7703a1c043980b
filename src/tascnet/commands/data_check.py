"""A data set -> all that is wrong with it: `tascnet data check`."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample
from tascnet.commands.data_source import add_source, source_of

if TYPE_CHECKING:
    from rich.console import Console

    from tascnet.data_tools.check import Check
    from tascnet.data_tools.walk import Finding


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


EXAMPLES = 3
"""Sentences a kind that are printed; check.json holds all."""


def run(options: Namespace, command: str) -> int:
    """Check a data set."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.commands.left_out import EXIT_PROBLEMS
    from tascnet.data_tools.check import check_data

    console = standard_console()
    is_sound = check_data(
        **source_of(options),
        output=options.output,
        observer=ConsoleObserver(console),
        on_bad_sample=options.on_bad_sample,
        on_checked=lambda check: print_check(check, console),
    )
    return 0 if is_sound else EXIT_PROBLEMS


def print_check(check: "Check", console: "Console") -> None:
    """Print the findings of one split: a table of their kinds, and examples of each."""
    from rich.table import Table

    from tascnet.commands.console import print_plain

    if check.failure is not None:
        print_plain(console, f"{check.source.name} ({check.source.settings.format}) cannot be read: {check.failure}")
        return
    photos = "" if check.with_photos else ", annotation alone (no folder of photos)"
    print_plain(console, f"{check.source.name} ({check.source.settings.format}): {check.num_pictures} pictures{photos}")
    if not check.findings:
        print_plain(console, "  nothing is wrong")
        return
    table = Table(show_edge=False)
    table.add_column("")
    table.add_column("number", justify="right")
    table.add_column("what")
    by_kind: dict[str, list[Finding]] = {}
    for finding in sorted(check.findings, key=lambda finding: not finding.is_error):
        by_kind.setdefault(str(finding.kind), []).append(finding)
    for kind, found in by_kind.items():
        table.add_row("error" if found[0].is_error else "warning", str(len(found)), kind)
    console.print(table)
    for kind, found in by_kind.items():
        for finding in found[:EXAMPLES]:
            print_plain(console, f"  {finding.text}")
        if len(found) > EXAMPLES:
            print_plain(console, f"  ... {len(found) - EXAMPLES} more of kind '{kind}'")
    print_plain(console, f"errors: {check.num_errors}, warnings: {len(check.findings) - check.num_errors}")
