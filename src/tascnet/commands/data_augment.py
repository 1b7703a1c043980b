"""A configuration -> the first samples of its training, drawn: `tascnet data augment`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_changes, given
from tascnet.config import DatasetConfig, InputConfig


def parser() -> ArgumentParser:
    """Build the parser of `tascnet data augment`."""
    parser = ArgumentParser(
        usage="tascnet data augment CONFIG --output FILE.png [--samples NUMBER] [--data.train.SETTING VALUE ...] "
        "[--data.input.SETTING VALUE ...]",
        description="Draw the samples with which a training begins, scaled, cropped, turned and pasted as the network "
        "sees them, each beside its annotation.",
    )
    parser.add_argument("path", metavar="CONFIG", type=Path, help="configuration file (YAML) or run folder")
    parser.add_argument("--output", type=Path, required=True, help="PNG file for the sheet")
    parser.add_argument("--samples", type=int, default=12, help="number of samples")
    add_changes(parser, {"data.train": DatasetConfig, "data.input": InputConfig})
    return parser


def run(options: Namespace, command: str) -> None:
    """Draw augmented samples."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.data_tools.augmented import draw_augmented

    changes = {"train": given(options.data.train), "input": given(options.data.input)}
    draw_augmented(options.path, changes, options.samples, options.output, ConsoleObserver(standard_console()))
