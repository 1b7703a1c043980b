"""Frozen batch norm applied to the weights of the convolution before it, in training too.

norm(conv(x, W)) = conv(x, scale W) + shift: the same values and gradients, without a pass over the activations and
without their copies in memory. A weight has far fewer elements than the activations of a large image.
"""

from typing import Any, TypeVar

from timm.layers import Conv2dSame
from timm.layers.norm_act import FrozenBatchNormAct2d
from timm.layers.padding import pad_same
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from tascnet.model.norm_pairs import convolutions_with_norms, replace_modules
from tascnet.precision import full_precision

_FROZEN = (FrozenBatchNorm2d, FrozenBatchNormAct2d)


class JoinedNorm(FrozenBatchNorm2d):  # type: ignore[misc]  # torchvision has no types
    """The statistics and affine values of a frozen batch norm that the convolution before it applies.

    What is left to compute is the activation that timm joins to some norms. Names in the state are those of the norm.
    """

    def __init__(self, norm: FrozenBatchNorm2d | FrozenBatchNormAct2d):
        super().__init__(norm.get_buffer("weight").numel(), norm.eps)
        for name, values in norm.named_buffers(recurse=False):
            self.register_buffer(name, values)
        for name, child in norm.named_children():
            self.add_module(name, child)
        self.train(norm.training)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Factor and summand of each channel, (C,) each, float32 or better."""
        scale = full_precision(self.weight) * (full_precision(self.running_var) + self.eps).rsqrt()
        return scale, full_precision(self.bias) - full_precision(self.running_mean) * scale

    def forward(self, normalized: Tensor) -> Tensor:
        """Apply the activation, if there is one."""
        for child in self.children():
            normalized = child(normalized)
        return normalized


class _Joined(nn.Conv2d):
    """A convolution that applies a frozen batch norm."""

    _norm: tuple[JoinedNorm]

    def join(self, norm: JoinedNorm) -> None:
        """Apply a norm from now on; it stays a module of its own, which a tuple hides from the state of this one."""
        self._norm = (norm,)

    @property
    def norm(self) -> JoinedNorm:
        """The norm that is applied."""
        return self._norm[0]

    def joined_weights(self) -> tuple[Tensor, Tensor]:
        """Scaled weight, and the bias with the shift, in the type of the weight."""
        scale, shift = self.norm.scale_and_shift()
        if self.bias is not None:
            shift = shift + self.bias * scale
        weight = self.weight * scale.view(-1, 1, 1, 1)
        return weight.to(self.weight.dtype), shift.to(self.weight.dtype)


class JoinedConv2d(_Joined):
    """A convolution of PyTorch's that applies a frozen batch norm."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve and normalise."""
        return self._conv_forward(features, *self.joined_weights())


class JoinedConv2dSame(_Joined):
    """A convolution with TensorFlow's padding that applies a frozen batch norm."""

    def forward(self, features: Tensor) -> Tensor:
        """Convolve and normalise."""
        padded = pad_same(features, list(self.kernel_size), list(self.stride), list(self.dilation))
        return self._conv_forward(padded, *self.joined_weights())


_JOINED: dict[type[nn.Conv2d], type[_Joined]] = {nn.Conv2d: JoinedConv2d, Conv2dSame: JoinedConv2dSame}
_PLAIN: dict[type[nn.Conv2d], type[nn.Conv2d]] = {joined: plain for plain, joined in _JOINED.items()}


def join_frozen_norms(part: nn.Module, *example: Any) -> int:
    """Let each convolution apply the frozen batch norm that it alone feeds, in place. Names in the state stay.

    Args:
        part: any module; it runs once in evaluation mode to find the pairs, and keeps its mode.
        example: inputs of its `forward`.

    Returns:
        The number of norms that are applied so; others keep working on activations.
    """
    if not any(isinstance(module, _FROZEN) for module in part.modules()):
        return 0  # without the run
    replacements: dict[nn.Module, nn.Module] = {}
    for convolution, norm in convolutions_with_norms(part, *example):
        if isinstance(norm, _FROZEN) and convolution.padding_mode == "zeros":
            replacements[norm] = joined_norm = JoinedNorm(norm)
            replacements[convolution] = joined = _with_weights_of(convolution, _JOINED[type(convolution)])
            joined.join(joined_norm)
    replace_modules(part, replacements)
    return len(replacements) // 2


def joined_pairs(part: nn.Module) -> list[tuple[nn.Conv2d, JoinedNorm]]:
    """The convolutions inside a module that apply a frozen batch norm, each with that norm."""
    return [(module, module.norm) for module in part.modules() if isinstance(module, _Joined)]


def plain_convolution(joined: nn.Conv2d) -> nn.Conv2d:
    """A convolution with the same weights that applies no norm."""
    return _with_weights_of(joined, _PLAIN[type(joined)])


_Convolution = TypeVar("_Convolution", bound=nn.Conv2d)


def _with_weights_of(convolution: nn.Conv2d, kind: type[_Convolution]) -> _Convolution:
    """A convolution of another class that holds the very parameters of the given one."""
    made = kind(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,  # type: ignore[arg-type]
        convolution.stride,  # type: ignore[arg-type]
        convolution.padding,  # type: ignore[arg-type]
        convolution.dilation,  # type: ignore[arg-type]
        convolution.groups,
        convolution.bias is not None,
        device="meta",
    )
    made.weight, made.bias = convolution.weight, convolution.bias
    return made.train(convolution.training)
