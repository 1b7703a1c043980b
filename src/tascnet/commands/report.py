"""A report on the screen: the figures of report.json as a table."""

from itertools import islice

from rich.console import Console

from tascnet.commands.console import MAX_ROWS, print_plain, quality_table
from tascnet.evaluation.report import Report
from tascnet.evaluation.writing import other_figures, quality_rows


def print_report(report: Report, console: Console) -> None:
    """Print the notes, the qualities as a table, and a line of other figures."""
    for note in report.notes:
        print_plain(console, f"Note: {note}")
    rows = quality_rows(report)
    console.print(quality_table(f"pictures: {report.num_images}", dict(islice(rows.items(), MAX_ROWS))))
    if len(rows) > MAX_ROWS:
        print_plain(
            console, f"{len(rows) - MAX_ROWS} more categories are not printed; the report's files have all (--output)."
        )
    line = "   ".join(f"{name} {value}" for name, value in other_figures(report).items())
    if line:
        print_plain(console, line)
