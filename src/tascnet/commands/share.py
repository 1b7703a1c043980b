"""A trained network -> a folder or a file for others: `tascnet share`."""

from pathlib import Path
from typing import Literal

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_use
from tascnet.settings import NETWORK


def parser() -> ArgumentParser:
    """Build the parser of `tascnet share`."""
    parser = ArgumentParser(
        usage="tascnet share NETWORK [OUTPUT] [--use WEIGHTS] [--precision FORMAT] [--licence NAME] "
        "[--push OWNER/NAME]",
        description="Write a trained network for others: weights, settings, categories, origin and a model card, "
        "without the state of the optimiser and without paths of this machine. Loading it needs no data.",
    )
    parser.add_argument("checkpoint", metavar="NETWORK", type=Path, help=NETWORK)
    parser.add_argument(
        "output",
        type=Path | None,
        nargs="?",
        default=None,
        help="new folder; or new file, if it ends with .safetensors, which holds all but the model card",
    )
    add_use(parser)
    parser.add_argument(
        "--precision",
        type=Literal["float32", "float16", "bfloat16"],
        default="float32",
        help="number format of the weights; the 16-bit ones halve the size, biases and norms stay in float32",
    )
    parser.add_argument(
        "--licence", default="unknown", help="of the weights, as the hub abbreviates it: apache-2.0, cc-by-4.0, ..."
    )
    parser.add_argument(
        "--push", type=str | None, default=None, help="send it to this repository (OWNER/NAME) on Hugging Face's hub"
    )
    return parser


def run(options: Namespace, command: str) -> None:
    """Write a trained network for others, or send it to the hub."""
    from tascnet.commands.console import ConsoleObserver, standard_console
    from tascnet.networks.sharing import share

    observer = ConsoleObserver(standard_console())
    sharing = options.precision, options.licence, options.push
    share(options.checkpoint, options.output, *sharing, observer, options.use)
