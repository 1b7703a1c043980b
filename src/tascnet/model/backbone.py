"""Backbone: image -> C2..C5 of any timm network, and C6, C7 of two added stages (Figure 2, left)."""

from collections.abc import Sequence
from difflib import get_close_matches
from itertools import accumulate
from typing import Any, Literal

import timm
import torch
from timm.layers import GroupNormAct, convert_sync_batchnorm, freeze_batch_norm_2d
from timm.models.resnet import Bottleneck
from torch import Tensor, nn

from tascnet.errors import InputError
from tascnet.model.frozen_norm import join_frozen_norms
from tascnet.model.mode import evaluation_mode

STRIDES = (4, 8, 16, 32)
"""Strides of C2..C5, pixels."""

TRIAL_SIDES = (96, 160)
"""Height and width of the image that networks are tried with, pixels: 3 x 5 positions at stride 32, no multiples of
windows of 7 or 8."""

Norm = Literal["frozen_bn", "bn", "sync_bn", "gn"]

_UNFIT = (ValueError, RuntimeError, AttributeError, TypeError, AssertionError, KeyError, IndexError)
"""What timm's networks raise for features or pictures that they cannot do."""

_ANY_SIZE: dict[str, Any] = {"strict_img_size": False, "always_partition": True}
"""What lets timm's Swin transformers take pictures of any size, with shifted windows in their last stage too, as in
the detection networks of the Swin paper: there the last stage sees more than one window."""


class Backbone(nn.Module):
    """Normalise an image as the network was trained, and compute its features at strides 4 to 128.

    Attributes:
        channels: number of channels of each output, C2 first.
        strides: stride of each output in pixels, C2 first.
        pixel_mean, pixel_std: (3, 1, 1) in units of 0-255. They are part of the state: a checkpoint carries the
            normalisation its weights were trained with.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        name: str = "resnet50",
        norm: Norm = "frozen_bn",
        added_channels: int | None = 512,
        freeze_stem: bool = False,
        widths: Sequence[int] = (),
        stride_in_1x1: bool = False,
    ):
        """Build the network with random weights.

        Args:
            name: a timm network with features at strides 4, 8, 16 and 32; a tag behind a dot, as in
                resnet50.a1_in1k, chooses among its pretrained weights.
            norm: what takes the place of the network's batch norm: frozen (statistics and affine of the pretrained
                network stay as they are), trained, synchronised over processes, or group norm for training from
                scratch (our reading: the paper's text on this is not known). A network without batch norm keeps what
                it has.
            added_channels: width of the two added stages C6 and C7; None leaves them out (plain FPN).
            freeze_stem: do not train the layers up to C2, as the field's standard recipe does with pretrained weights.
            widths: of the four stages of a ResNet, for one that is slimmer or wider than its name says; ResNets of all
                depths have 64, 128, 256, 512. Bottlenecks give four times as many channels.
            stride_in_1x1: bottlenecks halve the resolution in their first 1x1 convolution, as the first ResNets did
                and as weights made with Caffe expect, not in the 3x3 one.

        Raises:
            InputError: timm does not know the name, its strides do not fit, it does not take pictures of any size, or
                it is no ResNet where one is needed.
        """
        super().__init__()
        self.network: Any = _feature_network(name, widths)
        if stride_in_1x1:
            _move_strides(self.network, name)
        if norm == "frozen_bn":
            self.network = freeze_batch_norm_2d(self.network)
            join_frozen_norms(self.network, torch.zeros(1, 3, *TRIAL_SIDES))
        elif norm == "sync_bn":
            self.network = convert_sync_batchnorm(self.network)  # PyTorch's own drops activations joined to a norm
        elif norm == "gn":
            self.network = _with_group_norm(self.network)
        self.channels: list[int] = list(self.network.feature_info.channels())
        self.strides: list[int] = list(STRIDES)
        self.added_stages = nn.ModuleList()
        if added_channels is not None:
            for stride in (64, 128):
                self.added_stages.append(AddedStage(self.channels[-1], added_channels))
                self.channels.append(added_channels)
                self.strides.append(stride)
        if freeze_stem:
            _freeze_up_to(self.network, self.network.feature_info.module_name()[0])
        self.set_normalization(self.network.pretrained_cfg["mean"], self.network.pretrained_cfg["std"])

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Set the input normalisation; `mean` and `std` of red, green, blue in units of 0-1."""
        self.register_buffer("pixel_mean", torch.tensor(mean).view(3, 1, 1) * 255)
        self.register_buffer("pixel_std", torch.tensor(std).view(3, 1, 1) * 255)

    def stages(self) -> list[list[nn.Parameter]]:
        """The parameters of the network by the level they lead to, C2 to C5: the stem with C2, no added stages."""
        names = [name for name, _ in self.network.named_parameters()]
        ends = list(accumulate((_end_of(names, name) for name in self.network.feature_info.module_name()), max))
        ends[-1] = len(names)
        parameters = list(self.network.parameters())
        return [parameters[first:last] for first, last in zip([0, *ends[:-1]], ends, strict=True)]

    def normalize(self, images: Tensor) -> Tensor:
        """(..., 3, H, W) of 0-255, any number type -> the same, as the network expects it."""
        return (images.to(self.pixel_mean.dtype) - self.pixel_mean) / self.pixel_std

    def forward(self, images: Tensor) -> list[Tensor]:
        """Normalised images (B, 3, H, W), sides multiples of 32 -> C2, C3, C4, C5 and, where added, C6, C7."""
        features = _channels_first(list(self.network(images)), self.network)
        for stage in self.added_stages:
            features.append(stage(features[-1]))
        return features


class AddedStage(nn.Module):
    """A bottleneck block with stride 2 and group norm: (B, C, H, W) -> (B, channels, H / 2, W / 2), rounded up.

    Two of them follow C5 so that the receptive field covers large images. Group norm, because these stages start
    from random weights at small batches (our reading of a second-hand description).
    """

    def __init__(self, in_channels: int, channels: int):
        super().__init__()
        width = channels // 4
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, width, 1, bias=False),
            group_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False),
            group_norm(width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, channels, 1, bias=False),
            group_norm(channels),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride=2, bias=False),
            group_norm(channels),
        )
        self.activation = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Halve the resolution."""
        return self.activation(self.residual(features) + self.shortcut(features))


def group_norm(channels: int, max_groups: int = 16) -> nn.GroupNorm:
    """Group norm with `max_groups` groups, or the largest smaller number that leaves each group two channels or more.

    One channel alone has no variance where an image is so small that the coarsest level is a single position.
    """
    most = min(max_groups, max(channels // 2, 1))
    groups = next(groups for groups in range(most, 0, -1) if channels % groups == 0)
    return nn.GroupNorm(groups, channels)


def _feature_network(name: str, widths: Sequence[int]) -> Any:
    """The timm network with random weights, giving exactly the features at strides 4, 8, 16, 32 of any picture."""
    _check_name(name)
    settings: dict[str, Any] = {"features_only": True, "pretrained": False}
    if widths:
        settings["channels"] = tuple(widths)
    try:
        network: Any = timm.create_model(name, **settings)
        reductions = network.feature_info.reduction()
        indices = [len(reductions) - 1 - reductions[::-1].index(stride) for stride in STRIDES]
    except _UNFIT as error:
        if "'channels'" in str(error):
            raise InputError(f"backbone '{name}' is no ResNet; leave model.backbone.widths empty.") from error
        raise InputError(
            f"backbone '{name}' has no features at strides 4, 8, 16 and 32 ({error}); choose another, such as resnet50."
        ) from error
    ways: list[dict[str, Any]] = [_ANY_SIZE, {}] if network.pretrained_cfg.get("fixed_input_size") else [{}]
    for options in ways:
        try:
            network = timm.create_model(name, **settings, out_indices=indices, **options)
            _try_features(network)
        except _UNFIT:
            continue
        return network
    raise InputError(
        f"backbone '{name}' does not give features at strides 4, 8, 16 and 32 of pictures of every size; "
        "choose another, such as resnet50, convnext_tiny or swin_tiny_patch4_window7_224."
    )


def _check_name(name: str) -> None:
    """Refuse what timm does not know: a name, or the tag of weights behind its dot."""
    architecture, _, tag = name.partition(".")
    if not timm.is_model(name):
        near = get_close_matches(architecture, timm.list_models(), n=5)
        raise InputError(
            f"backbone '{name}' is not a timm network"
            + (f"; near it are {', '.join(near)}" if near else "")
            + ". timm.list_models() lists them all."
        )
    known = timm.list_pretrained(f"{architecture}.*")
    if tag and name not in known:
        raise InputError(
            f"backbone '{name}': timm has no weights '{tag}' of {architecture}"
            + (f"; it has {', '.join(known)}" if known else "")
            + f". Write one of them, or {architecture} alone."
        )


def _channels_first(features: list[Tensor], network: Any) -> list[Tensor]:
    """Windowed transformers give (B, H, W, C); the pyramid wants (B, C, H, W)."""
    if getattr(network, "output_fmt", "NCHW") == "NHWC":
        return [feature.permute(0, 3, 1, 2) for feature in features]
    return features


@torch.no_grad()
def _try_features(network: Any) -> None:
    """Compute the features of a small picture, which no network was made for.

    Raises:
        ValueError: their sizes or channels are not those that the network announces; or whatever the network raises.
    """
    height, width = TRIAL_SIDES
    with evaluation_mode(network):
        features = _channels_first(list(network(torch.zeros(1, 3, height, width))), network)
    expected = [
        (1, channels, height // stride, width // stride)
        for channels, stride in zip(network.feature_info.channels(), STRIDES, strict=True)
    ]
    if [tuple(feature.shape) for feature in features] != expected:
        raise ValueError(f"its features are {[tuple(feature.shape) for feature in features]}")


def _move_strides(network: nn.Module, name: str) -> None:
    """Let the first 1x1 convolution of each bottleneck take the stride of its 3x3 convolution."""
    bottlenecks = [module for module in network.modules() if isinstance(module, Bottleneck)]
    if not bottlenecks:
        raise InputError(f"backbone '{name}' has no bottlenecks; set model.backbone.stride_in_1x1 to false.")
    for block in bottlenecks:
        block.conv1.stride, block.conv2.stride = block.conv2.stride, block.conv1.stride


def _freeze_up_to(network: nn.Module, last_module: str) -> None:
    """Exclude from training all parameters from the input up to the end of a module, in order of definition."""
    end = _end_of([name for name, _ in network.named_parameters()], last_module)
    if not end:
        raise InputError(f"this backbone has no module {last_module}; set model.backbone.freeze_stem to false.")
    for parameter in list(network.parameters())[:end]:
        parameter.requires_grad_(False)


def _end_of(names: list[str], module: str) -> int:
    """The number of parameters, in order of definition, up to the end of a module; 0 where it has none."""
    prefixes = (module + ".", module.replace(".", "_") + ".")  # timm flattens the names of some networks
    return 1 + max((index for index, name in enumerate(names) if name.startswith(prefixes)), default=-1)


def _with_group_norm(module: nn.Module) -> nn.Module:
    """Replace every batch norm in a network by group norm, keeping activation and dropout that timm joins to it."""
    if isinstance(module, nn.BatchNorm2d):
        groups = group_norm(module.num_features)
        activation = getattr(module, "act", None)
        if activation is None:
            return groups
        joined = GroupNormAct(module.num_features, num_groups=groups.num_groups, apply_act=False)
        joined.act, joined.drop = activation, module.get_submodule("drop")
        return joined
    for child_name, child in module.named_children():
        module.add_module(child_name, _with_group_norm(child))
    return module
