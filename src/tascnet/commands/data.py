"""Actions on a data set: `tascnet data`."""

from jsonargparse import Namespace

from tascnet.commands import data_augment, data_check, data_convert, data_stats
from tascnet.commands.arguments import ArgumentParser
from tascnet.commands.verbs import Verb

ACTIONS = {
    "check": Verb("read all of a data set and list all that is wrong", data_check.parser, data_check.run),
    "stats": Verb("pictures, segments by category, sizes of instances", data_stats.parser, data_stats.run),
    "convert": Verb("write a data set in COCO panoptic format", data_convert.parser, data_convert.run),
    "augment": Verb("draw the samples with which a training begins", data_augment.parser, data_augment.run),
}


def parser() -> ArgumentParser:
    """Build the parser of `tascnet data`, without its actions."""
    return ArgumentParser(description="Check, count or convert a data set, or see how it is augmented.")


def run(options: Namespace, command: str) -> int | None:
    """Run the chosen action."""
    return ACTIONS[options.action].run(options[options.action], command)
