"""Photos -> overlays, and files as a benchmark wants them: `tascnet predict`."""

from pathlib import Path
from typing import Literal

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
    """Build the parser of `tascnet predict`."""
    parser = ArgumentParser(
        usage="tascnet predict [NETWORK] PHOTO ... --output FOLDER [--weights NETWORK] [--use WEIGHTS] "
        "[--SETTING VALUE ...]",
        description="Segment photos: an overlay for each, and all results as a benchmark wants them, ready to be sent "
        "to its server; by default in COCO panoptic format (JSON and PNG).",
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
    parser.add_argument("--names", type=bool, default=True, help="write the categories' names into the overlays")
    parser.add_argument(
        "--benchmark",
        type=Literal["coco", "vistas", "cityscapes"],
        default="coco",
        help="whose files are written: COCO panoptic; the same with names as ids (Vistas); or the semantic, instance "
        "and panoptic results of Cityscapes",
    )
    parser.add_argument(
        "--image_info",
        type=Path | None,
        default=None,
        help="COCO JSON file whose images give the ids of the photos by file name; default 1, 2, ...",
    )
    add_batch_size(parser)
    add_device(parser)
    add_on_bad_sample(parser)
    return parser


def run(options: Namespace, command: str) -> int:
    """Segment photos."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.commands.left_out import name_left_out
    from tascnet.commands.predict import network_and_photos, predict_files
    from tascnet.data.bad_samples import LeftOut

    observer, left_out = ConsoleObserver(standard_console()), LeftOut(options.on_bad_sample)
    network, photos = network_and_photos(options.inputs, options.weights, observer)
    predict_files(
        network,
        photos,
        output=options.output,
        names=options.names,
        device=options.device,
        observer=observer,
        benchmark=options.benchmark,
        image_info=options.image_info,
        batch_size=options.batch_size,
        use=options.use,
        left_out=left_out,
    )
    return name_left_out(left_out.errors, observer)
