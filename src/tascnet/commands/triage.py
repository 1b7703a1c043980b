"""Photos -> their ranking by expected quality: `tascnet triage`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import (
    ArgumentParser,
    add_batch_size,
    add_device,
    add_on_bad_sample,
    add_use,
    add_weights,
)

if TYPE_CHECKING:
    from rich.console import Console

    from tascnet.triage.ranking import RankedPhoto

PRINTED = ("expected_loss", "residual", "detection", "entropy")
"""The measures that fit on a screen."""


def parser() -> ArgumentParser:
    """Build the parser of `tascnet triage`."""
    parser = ArgumentParser(
        usage="tascnet triage [NETWORK] PHOTO ... --output FOLDER [--weights NETWORK] [--use WEIGHTS] "
        "[--SETTING VALUE ...]",
        description="Rank photos by the quality that may be expected of their segmentation, the worst first, without "
        "annotation: triage.csv, triage.json, and a picture of the most doubtful.",
    )
    parser.add_argument(
        "inputs",
        type=Path,
        nargs="+",
        help="photos, or folders of photos; before them, where --weights is not given, the network",
    )
    add_weights(parser)
    add_use(parser)
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--shown", type=int, default=12, help="most doubtful photos in the picture and in the table")
    add_batch_size(parser)
    add_device(parser)
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Rank photos by expected quality."""
    from tascnet.commands.console import ConsoleObserver, print_plain, standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.commands.predict import network_and_photos
    from tascnet.data.bad_samples import LeftOut
    from tascnet.triage.ranking import triage_files

    console, left_out = standard_console(), LeftOut(options.on_bad_sample)
    observer = ConsoleObserver(console)
    network, photos = network_and_photos(options.inputs, options.weights, observer)
    ranking = triage_files(
        network,
        photos,
        output=options.output,
        device=options.device,
        observer=observer,
        shown=options.shown,
        batch_size=options.batch_size,
        left_out=left_out,
        use=options.use,
    )
    print_ranking(ranking, options.shown, console)
    print_plain(console, f"triage.csv, triage.json and most_doubtful.png are in {options.output}")
    return name_left_out(left_out.errors, observer)


def print_ranking(ranking: Sequence["RankedPhoto"], number: int, console: "Console") -> None:
    """Print the first photos of a ranking as a table."""
    from rich.table import Table

    from tascnet.commands.console import cell

    shown, total = ranking[:number], len(ranking)
    title = f"The {len(shown)} most doubtful of {total} photos" if len(shown) < total else "Most doubtful first"
    table = Table(title=title, title_justify="left")
    table.add_column("", justify="right")
    table.add_column("photo", overflow="fold")
    for heading in PRINTED:
        table.add_column(heading.replace("_", " "), justify="right")
    for rank, ranked in enumerate(shown, start=1):
        values = [getattr(ranked.doubts, name) for name in PRINTED]
        table.add_row(str(rank), cell(ranked.photo), *(f"{value:.3f}" for value in values))
    console.print(table)
