"""Verbs of the command line: a table of them -> the parser of all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import yaml
from jsonargparse import Namespace, get_loader, set_loader

from tascnet import __version__
from tascnet.commands.arguments import ArgumentParser


@dataclass(frozen=True)
class Verb:
    """A verb of the command line, or an action of a verb.

    Attributes:
        help: a line for the list of verbs.
        parser: makes the parser of its arguments.
        run: does the work: parsed arguments, the whole command as text -> the exit code; None is 0.
        actions: name -> action, of a verb that has several.
    """

    help: str
    parser: Callable[[], ArgumentParser]
    run: Callable[[Namespace, str], int | None]
    actions: Mapping[str, "Verb"] = field(default_factory=dict)


def build_parser(verbs: Mapping[str, Verb]) -> ArgumentParser:
    """Build the parser of the whole command line; the chosen verb is parsed as `verb`, an action of it as `action`."""
    # each value is tried as YAML; a file name that is not UTF-8 is none, and is taken as it is
    set_loader("yaml", get_loader("yaml"), (yaml.YAMLError, UnicodeEncodeError))
    parser = ArgumentParser(
        prog="tascnet",
        version=__version__,
        description="Panoptic segmentation with TASCNet.",
        epilog="Flags are written in full, with underscores or dashes: --batch_size, --batch-size.",
    )
    _add(parser, "verb", verbs)
    return parser


def _add(parser: ArgumentParser, level: str, verbs: Mapping[str, Verb]) -> None:
    """Add verbs to a parser, or actions to a verb."""
    choices = parser.add_subcommands(dest=level, metavar=level.upper())
    for name, verb in verbs.items():
        inner = verb.parser()
        choices.add_subcommand(name, inner, help=verb.help)
        if verb.actions:  # only now: jsonargparse wants the outer level first
            _add(inner, "action", verb.actions)
