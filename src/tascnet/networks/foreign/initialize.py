"""A trained network -> the initial values of another: what fits is taken over, category by category where they differ.

A network is taken over in units, layers that make no sense apart. A unit is copied if all its tensors have the same
names and shapes in both networks. The last layers are copied by row: a category that both networks know by name keeps
what was learned of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import torch
from torch import Tensor, nn

from tascnet.config import Config
from tascnet.data.problems import first_few
from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.networks.network import Network
from tascnet.structures import LabelSpace

_BACKBONE = "backbone.network"

_PARTS = {
    _BACKBONE: "backbone",
    "things_head.rpn": "proposals",
    "things_head.box_head": "box head",
    "things_head.mask_head": "mask head",
    "things_head.mask_predictor": "mask upsampling",
}
"""Units, and what to call them."""

_LEVELS = {
    "backbone.added_stages": ("added stages", "C", 6),
    "fpn.pyramid.inner_blocks": ("pyramid's laterals", "P", 2),
    "fpn.pyramid.layer_blocks": ("pyramid's outputs", "P", 2),
    "stuff_head.levels": ("stuff head's levels", "P", 2),
}
"""Units of which each level has one: what to call them, and the first of them."""

_LAST_LAYERS = ("stuff_head.classifier.", "things_head.box_predictor.", "things_head.mask_predictor.mask_fcn_logits.")
"""Layers with rows for categories."""

Channel = tuple[str, str]
"""What a row stands for: "stuff" or "thing" and the name of a category, or "" and what else it is."""

_FUNCTION_SETTINGS = (
    "backbone.stride_in_1x1",
    "things_head.anchor_sizes",
    "things_head.anchor_ratios",
    "things_head.sampling_ratio",
    "conventions",
)
"""Settings of the model that change what weights mean but not their shapes."""


@dataclass(frozen=True)
class Initialization:
    """What became of the parts of a network.

    Attributes:
        decisions: readable lines, what was taken over first.
        has_backbone: whether the backbone was taken over, and with it the normalisation of its input.
    """

    decisions: tuple[str, ...]
    has_backbone: bool


def initialize(network: Network, source: Network) -> Initialization:
    """Copy into a network what it shares with a source; all else keeps the values that it has.

    Args:
        network: changed in place.
        source: left as it is.

    Raises:
        InputError: the two share nothing.
    """
    theirs, ours = _Units(source.model), _Units(network.model)
    copied = [name for name in ours.names if ours.copy_from(theirs, name)]
    new = [name for name in ours.names if name not in copied]
    told = [
        *_stuff_rows(network, source, set(copied)),
        *_things_rows(network, source, set(copied)),
    ]
    if not copied:
        raise InputError(
            "the networks share nothing that could be taken over: backbone "
            f"{source.config.model.backbone.name} there, {network.config.model.backbone.name} here, pyramids of "
            f"{source.config.model.pyramid_channels} and {network.config.model.pyramid_channels} channels. Set "
            "model.backbone.name and model.pyramid_channels to those of training.init."
        )
    decisions = [f"taken over: {_grouped(copied)}"]
    if new:
        decisions.append(f"initial values: {_grouped(new)}")
    has_backbone = _BACKBONE in copied
    if has_backbone:
        _copy_normalization(network.model, source.model)
        decisions.append("input: normalised as the source's was, which its backbone expects")
    return Initialization((*decisions, *told, *_other_settings(network.config, source.config)), has_backbone)


class _Units:
    """The tensors of a model, grouped into units."""

    def __init__(self, model: TASCNet):
        self._tensors: dict[str, dict[str, Tensor]] = {}
        for name, tensor in model.state_dict().items():
            unit = _unit_of(name)
            if unit and not name.endswith("num_batches_tracked"):  # a counter, which frozen norms lack
                self._tensors.setdefault(unit, {})[name] = tensor
        self.names = list(self._tensors)

    def copy_from(self, source: "_Units", unit: str) -> bool:
        """Copy a unit, if the source has the same; say whether."""
        ours, theirs = self._tensors[unit], source._tensors.get(unit, {})
        if {name: t.shape for name, t in ours.items()} != {name: t.shape for name, t in theirs.items()}:
            return False
        for name, tensor in ours.items():
            tensor.copy_(theirs[name])
        return True


def _unit_of(name: str) -> str:
    """The unit that a tensor belongs to; none for last layers, and for the normalisation of the input."""
    if name.startswith((*_LAST_LAYERS, "backbone.pixel_")):
        return ""
    for kind in _LEVELS:
        if name.startswith(f"{kind}."):
            return f"{kind}.{name.removeprefix(kind).split('.')[1]}"
    return next(part for part in _PARTS if name.startswith(f"{part}."))


def _grouped(units: Iterable[str]) -> str:
    """Units in words, those of a kind together: "backbone, pyramid's outputs P2 P3 P4 P5"."""
    groups: dict[str, list[str]] = {}
    for unit in units:
        kind, _, number = unit.rpartition(".")
        if kind in _LEVELS:
            words, letter, first = _LEVELS[kind]
            groups.setdefault(words, []).append(f"{letter}{first + int(number)}")
        else:
            groups[_PARTS[unit]] = []
    return ", ".join(" ".join((words, *levels)) for words, levels in groups.items())


def _stuff_rows(network: Network, source: Network, copied: set[str]) -> list[str]:
    ours, theirs = network.model.stuff_head, source.model.stuff_head
    levels = {f"stuff_head.levels.{number}" for number in range(len(ours.levels))}
    if type(ours) is not type(theirs) or ours.classifier.weight.shape[1] != theirs.classifier.weight.shape[1]:
        return ["stuff channels: initial values, because the stuff heads are of different kinds"]
    if not levels <= copied:
        return ["stuff channels: initial values, because the levels that they read are"]
    wanted, there = _stuff_channels(network), _stuff_channels(source)
    _copy_rows(ours.classifier, theirs.classifier, wanted, there)
    return [f"stuff channels: {_told(wanted, there)}"]


def _stuff_channels(network: Network) -> list[Channel]:
    """What the stuff head's channels stand for."""
    stuff = [("stuff", category.name) for category in network.label_space.stuff]
    if network.config.model.stuff_head.outputs == "all":
        return [*stuff, *_things(network.label_space)]
    return [*stuff, ("", "things")]


def _things(space: LabelSpace) -> list[Channel]:
    return [("thing", category.name) for category in space.things]


def _box_classes(network: Network) -> list[Channel]:
    unused = [("unused", str(number)) for number in range(network.config.model.things_head.unused_classes)]
    return [("", "background"), *_things(network.label_space), *unused]


def _things_rows(network: Network, source: Network, copied: set[str]) -> list[str]:
    """Box classes with their box shifts, and mask channels."""
    ours, theirs = network.model.things_head, source.model.things_head
    wanted, there = _things(network.label_space), _things(source.label_space)
    told = []
    if "things_head.box_head" in copied:
        classes, classes_there = _box_classes(network), _box_classes(source)
        _copy_rows(ours.box_predictor.cls_score, theirs.box_predictor.cls_score, classes, classes_there)
        _copy_rows(ours.box_predictor.bbox_pred, theirs.box_predictor.bbox_pred, classes, classes_there)
        told.append(f"box classes: {_told(wanted, there)}")
    else:
        told.append("box classes: initial values, because the box head is")
    if {"things_head.mask_head", "things_head.mask_predictor"} <= copied:
        _copy_rows(ours.mask_predictor.mask_fcn_logits, theirs.mask_predictor.mask_fcn_logits, wanted, there)
        told.append(f"mask channels: {_told(wanted, there)}")
    else:
        told.append("mask channels: initial values, because the mask head is")
    return told


@torch.no_grad()
def _copy_rows(
    layer: nn.Linear | nn.Conv2d, source: nn.Linear | nn.Conv2d, wanted: Sequence[Channel], there: Sequence[Channel]
) -> None:
    """Copy the rows of a last layer that both know by name; a channel has one row, or four neighbouring ones."""
    index_of = {channel: index for index, channel in enumerate(there)}
    shared = [(index, index_of[channel]) for index, channel in enumerate(wanted) if channel in index_of]
    for name, ours in layer.named_parameters():
        rows, rows_there = ours.view(len(wanted), -1), source.get_parameter(name).view(len(there), -1)
        for index, index_there in shared:
            rows[index] = rows_there[index_there]


def _told(wanted: Sequence[Channel], there: Sequence[Channel]) -> str:
    """How many names both know, and which are new."""
    known = set(there)
    new = [channel[1] for channel in wanted if channel not in known]
    if not new:
        return f"all {len(wanted)} taken over by name"
    return f"{len(wanted) - len(new)} of {len(wanted)} taken over by name, initial values for {first_few(new, 5)}"


def _copy_normalization(model: TASCNet, source: TASCNet) -> None:
    model.backbone.pixel_mean.copy_(source.backbone.pixel_mean)
    model.backbone.pixel_std.copy_(source.backbone.pixel_std)


def _other_settings(config: Config, source: Config) -> list[str]:
    """Settings that fit in shape, but with which the weights compute something else than they did."""
    told = []
    for name in _FUNCTION_SETTINGS:
        ours, theirs = (attrgetter(name)(each.model) for each in (config, source))
        if ours != theirs:
            told.append(
                f"model.{name} is {ours} here, {theirs} in the source: set it so to start from what it computes"
            )
    return told
