"""What importers share: renamed tensors -> a TASCNet that computes as the network did they come from."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tascnet.build import build_meta_model, build_model
from tascnet.config import Config
from tascnet.data.formats.coco_categories import COCO
from tascnet.errors import InputError
from tascnet.networks.foreign.state_file import State
from tascnet.networks.network import Network, Origin
from tascnet.structures import Category, LabelSpace

_DEPTHS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
"""Blocks of the four stages -> ResNet of bottlenecks."""

NOT_TRAINED = ("num_batches_tracked",)
"""Ends of names of tensors that carry nothing: a counter that batch norms keep."""


@dataclass(frozen=True)
class Renaming:
    """How one maker's names become ours: the first pattern that matches a whole name counts.

    Attributes:
        patterns: regular expression, and what takes the place of the name.
    """

    patterns: Sequence[tuple[str, str]]

    def __call__(self, state: State) -> tuple[State, list[str]]:
        """The tensors under our names, and the names that no pattern matches."""
        renamed, unknown = {}, []
        for name, tensor in state.items():
            pattern, ours = next(((p, ours) for p, ours in self.patterns if re.fullmatch(p, name)), ("", ""))
            if not pattern:
                unknown.append(name)
            elif ours:
                renamed[re.sub(pattern, ours, name)] = tensor
        return renamed, unknown


def build_foreign(
    state: State,
    config: Config,
    label_space: LabelSpace,
    decisions: Sequence[str],
    source: str,
    initial: Sequence[str] = (),
) -> Network:
    """Build the network and fill it; its origin is the source, then a sentence for each decision.

    Args:
        state: tensors under our names.
        config: settings with which our code builds that network and uses it as its makers do.
        label_space: of the network.
        decisions: a sentence for each thing that was adapted, dropped or left at its initial values.
        source: what it is, a few words.
        initial: beginnings of names of tensors that stay at their initial values, the same each time.

    Raises:
        InputError: a tensor is missing, is left over, or has another shape than it should.
    """
    # compared before a network of whatever size takes memory
    wanted = build_meta_model(config, label_space).state_dict()
    needed = {name for name in wanted if not name.startswith(tuple(initial)) and not name.endswith(NOT_TRAINED)}
    state = {name: tensor for name, tensor in state.items() if not name.endswith(NOT_TRAINED)}
    differing = sorted(needed ^ state.keys())
    differing += [name for name in sorted(needed & state.keys()) if state[name].shape != wanted[name].shape]
    if differing:
        name = differing[0]
        raise InputError(
            f"{source}: it is built in a way that is not known here; {len(differing)} tensors are missing, left over "
            f"or of another shape, {name} for one ({_shape(state.get(name))} in the file, {_shape(wanted.get(name))} "
            "expected). Known are the plain R50 and R101 FPN networks."
        )
    integers = [name for name in needed if not state[name].is_floating_point()]
    if integers:
        kind = str(state[integers[0]].dtype).removeprefix("torch.")
        raise InputError(f"{source}: {integers[0]} has the type {kind}, not a floating-point type. Get the file again.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(config, label_space)
    model.load_state_dict(model.state_dict() | state)
    return Network(model.eval(), config, label_space, origin=Origin(weights=(source, *decisions)))


def resnet_of(state: State) -> tuple[str, list[int]]:
    """The timm name of the ResNet under `backbone.network`, and its widths if they are not a ResNet's own.

    Raises:
        InputError: it is no ResNet of bottlenecks, or has convolutions in groups (ResNeXt).
    """
    prefix = "backbone.network.layer"
    blocks = {
        re.findall(r"layer(\d)\.(\d+)\.conv3", name)[0] for name in state if re.match(prefix + r".*conv3\.w", name)
    }
    depths = tuple(sum(stage == str(number) for stage, _ in blocks) for number in (1, 2, 3, 4))
    middle = [state.get(f"{prefix}{number}.0.conv2.weight", torch.empty(0, 0)) for number in (1, 2, 3, 4)]
    if depths not in _DEPTHS or any(weight.shape[0] != weight.shape[1] for weight in middle):
        raise InputError(
            f"its backbone is no plain ResNet-50, 101 or 152: {', '.join(map(str, depths))} bottlenecks in four stages"
            f"{', with convolutions in groups' if depths in _DEPTHS else ''}."
        )
    widths = [weight.shape[0] for weight in middle]
    return _DEPTHS[depths], [] if widths == [64, 128, 256, 512] else widths


def coco_or_numbered(num_things: int, num_stuff: int | None) -> tuple[LabelSpace, str]:
    """The categories of a network that does not name them, and a sentence on them.

    Args:
        num_things: thing categories.
        num_stuff: stuff categories; None where it has no stuff head.
    """
    if num_things == len(COCO.things) and num_stuff in (None, len(COCO.stuff)):
        return COCO, "categories: the file names none; their number is COCO's, so they are taken for COCO's"
    things = [Category(number, f"thing {number}", is_thing=True) for number in range(1, num_things + 1)]
    stuff = [
        Category(num_things + number, f"stuff {number}", is_thing=False) for number in range(1, (num_stuff or 1) + 1)
    ]
    told = f"categories: the file names none, and {num_things} things are not COCO's 80; they are called thing 1, ..."
    return LabelSpace.from_list(LabelSpace((*things, *stuff)).to_list()), told


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else " x ".join(map(str, tensor.shape)) or "a number"
