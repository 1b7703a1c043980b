"""What a network is, where it comes from, and what it costs."""

from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser, add_use
from tascnet.errors import InputError
from tascnet.settings import NETWORK, Use, read_config

if TYPE_CHECKING:
    from rich.console import Console

    from tascnet.model.backbone import Backbone
    from tascnet.networks.network import Network
    from tascnet.structures import LabelSpace

_CONFIG_SUFFIXES = (".yaml", ".yml", ".json")

MAX_SIDE = 100_000
"""Height and width up to which the cost of a network is counted, pixels; PyTorch counts the bytes with 64 bits."""


def parser() -> ArgumentParser:
    """Build the parser of `tascnet info`."""
    parser = ArgumentParser(
        usage="tascnet info NETWORK [--use WEIGHTS] [--height PIXELS] [--width PIXELS] [--stuff NUMBER] "
        "[--things NUMBER]\n       tascnet info --environment",
        description="Parameters and multiply-adds of a network by part, beside two separate networks of the same "
        "parts; of a checkpoint also its categories, figures and origin. Or, with --environment, this machine.",
    )
    parser.add_argument(
        "path", metavar="NETWORK", type=Path | None, nargs="?", default=None, help=f"a config file (YAML), {NETWORK}"
    )
    parser.add_argument(
        "--environment",
        action="store_true",
        help="print versions, processor, memory and GPUs of this machine, as a bug report needs them",
    )
    add_use(parser)
    parser.add_argument("--height", type=int, default=512, help="of the input, pixels")
    parser.add_argument("--width", type=int, default=1024, help="of the input, pixels")
    parser.add_argument("--stuff", type=int, default=11, help="stuff categories, where the config alone does not tell")
    parser.add_argument("--things", type=int, default=8, help="thing categories, where the config alone does not tell")
    return parser


def run(options: Namespace, command: str) -> None:
    """Describe a network or this machine.

    Raises:
        InputError: neither or both are named, or the network cannot be used.
    """
    if options.environment == (options.path is not None):
        raise InputError("info takes either a network or config file, or --environment. Give one of them.")
    if options.environment:
        from tascnet.commands.environment import environment

        print("\n".join(f"{name}: {text}" for name, text in environment().items()))
        return
    from tascnet.commands.console import standard_console

    print_info(
        options.path, options.height, options.width, options.stuff, options.things, standard_console(), options.use
    )


def print_info(
    path: Path, height: int, width: int, num_stuff: int, num_things: int, console: "Console", use: Use = "newest"
) -> None:
    """Print parameters and multiply-adds by part, and those of two separate networks; of a checkpoint also its past.

    Args:
        path: config file (YAML or JSON), or what `open_network` opens.
        height: of the input, pixels.
        width: of the input, pixels.
        num_stuff: stuff categories, for a config file: it does not say how many the data has.
        num_things: thing categories, likewise.
        console: to print on.
        use: which weights of a run, of which origin and figures are told.

    Raises:
        InputError: the path is none of these, or the numbers are not positive.
    """
    from rich.table import Table

    from tascnet.build import build_meta_model
    from tascnet.commands.console import ConsoleObserver, print_plain
    from tascnet.model.cost import Cost, cost_by_part, cost_of_two_networks
    from tascnet.networks.opening import open_network
    from tascnet.structures import Size

    if min(height, width, num_stuff, num_things) < 1:
        raise InputError("height, width, stuff and things must be at least 1.")
    if max(height, width) > MAX_SIDE:
        raise InputError(f"{height} x {width} pixels is too large; height and width are up to {MAX_SIDE:,}.")
    if path.suffix in _CONFIG_SUFFIXES and not path.is_dir():
        label_space = _numbered_label_space(num_stuff, num_things)
        model = build_meta_model(read_config(path), label_space)  # its cost needs no values
    else:
        network = open_network(path, ConsoleObserver(console), use)
        model, label_space = network.model, network.label_space
        print_plain(console, f"{network.path}{f': after {network.step} steps' if network.step else ''}")
        for name, text in told_facts(network).items():
            print_plain(console, f"  {name:<13}{text}")
    parts = cost_by_part(model, Size(height, width))
    total = sum(parts.values(), start=Cost(0, 0))
    two = cost_of_two_networks(parts)
    both = sum(two.values(), start=Cost(0, 0))
    rows = [*parts.items(), ("TASCNet", total), *two.items(), ("two networks", both)]
    table = Table(
        title=f"{len(label_space.stuff)} stuff + {len(label_space.things)} thing categories, {height} x {width} pixels",
        title_justify="left",
    )
    for column in ("", "parameters, M", "multiply-adds, G", "share of two networks"):
        table.add_column(column, justify="left" if not column else "right")
    for name, cost in rows:
        share = f"{cost.parameters / both.parameters:.0%} / {cost.multiply_adds / both.multiply_adds:.0%}"
        table.add_row(
            name,
            f"{cost.parameters / 1e6:.2f}",
            f"{cost.multiply_adds / 1e9:.2f}",
            share if name in ("TASCNet", "two networks") else "",
            style="bold" if name in ("TASCNet", "two networks") else "",
            end_section=name in ("things head: masks", "TASCNet", "instance network"),
        )
    console.print(table)


def told_facts(network: "Network") -> dict[str, str]:
    """Readable facts of a network: name -> text; "unknown" where its files do not contain them."""
    from tascnet.networks.network import told

    space, origin, evaluation = network.label_space, network.origin, network.evaluation
    figures = ", ".join(f"{name} {value:.1f}" for name, value in evaluation.figures.items())
    pictures = f"{evaluation.images} pictures of " if evaluation.images else ""
    facts = {
        f"{len(space.things)} things": ", ".join(category.name for category in space.things),
        f"{len(space.stuff)} stuff": ", ".join(category.name for category in space.stuff),
        "measured": f"{figures}; on {pictures}{told(evaluation.data) or 'unknown data'}" if figures else "",
        "weights from": "; ".join(origin.weights),
        "trained on": told(origin.data),
        "command": origin.command,
        "started": origin.started,
        "tascnet": origin.version(),
        "input": _normalization(network.model.backbone),
        "checksum": "right" if network.has_checksum else "none: an earlier version, or another program, wrote it",
    }
    return {name: text or "unknown" for name, text in facts.items()}


def _normalization(backbone: "Backbone") -> str:
    mean, std = (
        " ".join(f"{value:.4g}" for value in values.flatten().tolist())
        for values in (backbone.pixel_mean, backbone.pixel_std)
    )
    return f"red, green, blue of 0-255, less {mean}, divided by {std}"


def _numbered_label_space(num_stuff: int, num_things: int) -> "LabelSpace":
    """A stand-in with the right numbers of categories."""
    from tascnet.structures import Category, LabelSpace

    stuff = [Category(number, f"stuff {number}", is_thing=False) for number in range(1, num_stuff + 1)]
    things = [Category(num_stuff + number, f"thing {number}", is_thing=True) for number in range(1, num_things + 1)]
    return LabelSpace((*stuff, *things))
