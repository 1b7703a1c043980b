"""Photos -> their ranking by expected quality: `tascnet triage`."""

from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import (
    ArgumentParser,
    add_batch_size,
    add_device,
    add_on_bad_sample,
    add_use,
    add_weights,
)


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
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.commands.predict import network_and_photos
    from tascnet.data.bad_samples import LeftOut
    from tascnet.triage.ranking import triage_files

    console, left_out = standard_console(), LeftOut(options.on_bad_sample)
    network, photos = network_and_photos(options.inputs, options.weights, console)
    triage_files(
        network,
        photos,
        options.output,
        options.device,
        console,
        options.shown,
        options.batch_size,
        left_out,
        options.use,
    )
    return name_left_out(left_out.errors, ConsoleObserver(console))
