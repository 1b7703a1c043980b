"""Parts that the parsers of several verbs share: the parser itself, flags of one name and one meaning, paths.

Nothing here imports torch or rich, so that `tascnet --help` is quick.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import jsonargparse
import yaml
from jsonargparse import ActionConfigFile, Namespace

from tascnet.config import OnBadSample
from tascnet.errors import escape_controls, shorten
from tascnet.files import at_home, read_yaml, require_regular
from tascnet.settings import NETWORK, Use, read_settings

MAX_ERROR = 600
"""Characters of the parser's own messages."""


class ArgumentParser(jsonargparse.ArgumentParser):
    """A parser that takes flags in full only, with dashes or underscores between their words.

    Its errors are safe to print: they quote values of files, which may be of any size and content.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        # an abbreviation that is unique today may become ambiguous, or another flag's name, with the next release
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def _parse_optional(self, arg_string: str) -> Any:
        """Find the flag that an argument names, as argparse does for each argument."""
        name, equals, value = arg_string.partition("=")
        known = f"--{name[2:].replace('-', '_')}"
        if name.startswith("--") and name not in self._option_string_actions and known in self._option_string_actions:
            return super()._parse_optional(known + equals + value)  # type: ignore[no-untyped-call]
        return super()._parse_optional(arg_string)  # type: ignore[no-untyped-call]

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print a message with the usage, for an unknown flag also the one most like it, and exit."""
        if unknown := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
            known = [name for name in self._option_string_actions if name.startswith("--")]
            near = difflib.get_close_matches(f"--{unknown[1][2:].replace('-', '_')}", known, n=1)
            message = f"{shorten(message, MAX_ERROR // 2)}{f'; is {near[0]} meant?' if near else ''}"
        super().error(escape_controls(shorten(message, MAX_ERROR)), ex)


class ConfigFile(ActionConfigFile):
    """--config FILE, read first with the project's own reader, which bounds what a file can ask for."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Check the file, then let the parser read it, or the text of today where it is of an earlier version."""
        path = str(at_home(str(values)))
        settings = read_settings(path)
        is_of_today = settings == read_yaml(path)
        content = path if is_of_today else yaml.safe_dump(settings)
        super().__call__(parser, namespace, content, option_string)  # type: ignore[no-untyped-call]
        namespace[self.dest][-1] = path  # the parser notes none for a text


def refuse_pipes(arguments: Sequence[str]) -> None:
    """Refuse a --config that is a named pipe: the parser opens it, and would wait for a writer for ever."""
    for flag, value in pairwise([*arguments, ""]):
        name, equals, behind = flag.partition("=")
        path = Path(behind if equals else value)
        if name == "--config" and path.exists():
            require_regular(path)


def with_homes(options: Namespace) -> Namespace:
    """The options with "~" replaced in all paths: a shell leaves it alone in quotes and in --output=~/x."""
    for name, value in vars(options).items():
        if isinstance(value, Namespace):
            with_homes(value)
        elif isinstance(value, Path):
            setattr(options, name, at_home(value))
        elif isinstance(value, list) and value and isinstance(value[0], Path):
            setattr(options, name, [at_home(path) for path in value])
    return options


def given(options: Namespace) -> dict[str, Any]:
    """The settings that the user gave; the others are None."""
    return {name: value for name, value in vars(options).items() if value is not None}


def add_on_bad_sample(parser: ArgumentParser) -> None:
    """Add the flag of every verb that reads many images."""
    parser.add_argument(
        "--on_bad_sample",
        type=OnBadSample,
        default="skip",
        help="photos or annotation that cannot be used: skip leaves them out, names them, and the exit code is 1; fail "
        "ends the command at the first, with exit code 2",
    )


def add_weights(parser: ArgumentParser) -> None:
    """Add the flag that names the network where a verb takes photos alone."""
    parser.add_argument(
        "--weights",
        type=str | None,
        default=None,
        help=f"the network: {NETWORK}; where none is named, panoptic-fpn-r50-coco if it has been downloaded",
    )


def add_batch_size(parser: ArgumentParser) -> None:
    """Add the flag of every verb that predicts photos."""
    parser.add_argument(
        "--batch_size", type=int, default=1, help="photos that go through the network together, where of one size"
    )


def add_device(parser: ArgumentParser) -> None:
    """Add the flag of every verb that computes with a network that exists."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")


def add_use(parser: ArgumentParser) -> None:
    """Add the flag of every verb that opens a run."""
    parser.add_argument(
        "--use",
        type=Use,
        default="newest",
        help="which weights of a run: those of its newest checkpoint; their average, where training.ema_decay has kept "
        "one; or those with the best PQ so far, be they averaged or not",
    )


def add_changes(parser: ArgumentParser, groups: Mapping[str, type]) -> None:
    """Add flags for settings that a file or a run gives; None where the user leaves them so."""
    for name, settings in groups.items():
        parser.add_class_arguments(settings, name)
        parser.set_defaults({f"{name}.{field.name}": None for field in fields(settings)})
