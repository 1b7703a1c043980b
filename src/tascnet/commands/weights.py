"""Weights that others have trained, by name: `tascnet weights`."""

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser
from tascnet.commands.verbs import Verb


def parser() -> ArgumentParser:
    """Build the parser of `tascnet weights`, without its actions."""
    return ArgumentParser(description="Weights known by name: list them, download them.")


def run(options: Namespace, command: str) -> int | None:
    """Run the chosen action."""
    return ACTIONS[options.action].run(options[options.action], command)


def list_parser() -> ArgumentParser:
    """Build the parser of `tascnet weights list`."""
    return ArgumentParser(
        description="Show known weights: who trained them on what, their licence and size, what their authors measured."
    )


def run_list(options: Namespace, command: str) -> None:
    """Print a table of known weights."""
    from tascnet.commands.console import standard_console
    from tascnet.networks.foreign.catalog import print_known

    print_known(standard_console())


def get_parser() -> ArgumentParser:
    """Build the parser of `tascnet weights get`."""
    parser = ArgumentParser(
        description="Download known weights into the cache (TASCNET_HOME, else ~/.cache/tascnet), or check those that "
        "are there; print their path."
    )
    parser.add_argument("name", type=str, help="a name that tascnet weights list shows")
    return parser


def run_get(options: Namespace, command: str) -> None:
    """Download known weights and print their path alone, for $(tascnet weights get NAME)."""
    from rich.console import Console

    from tascnet.networks.foreign.catalog import get

    print(get(options.name, Console(stderr=True)))


ACTIONS = {
    "list": Verb("show known weights", list_parser, run_list),
    "get": Verb("download known weights", get_parser, run_get),
}
