"""A data set -> the same in COCO panoptic format: `tascnet data convert`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_on_bad_sample
from tascnet.commands.data_source import add_source, source_of


def parser() -> ArgumentParser:
    """Build the parser of `tascnet data convert`."""
    parser = ArgumentParser(
        description="Write a data set in COCO panoptic format: OUTPUT/annotations/panoptic_SPLIT.json with its PNGs, "
        "photos in OUTPUT/SPLIT/. A png_pairs root without splits becomes the split 'all'."
    )
    add_source(parser)
    parser.add_argument("--output", type=Path, required=True, help="root of the new data set")
    parser.add_argument(
        "--photos", default="copy", choices=["copy", "link"], help="copy the photos, or make symbolic links to them"
    )
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Convert a data set."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.data.bad_samples import LeftOut
    from tascnet.data_tools.convert import convert_data

    observer, left_out = ConsoleObserver(standard_console()), LeftOut(options.on_bad_sample)
    convert_data(
        **source_of(options), output=options.output, photos=options.photos, observer=observer, left_out=left_out
    )
    return name_left_out(left_out.errors, observer)
