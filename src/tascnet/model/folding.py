"""A network made ready for inference: batch norm folded into the convolutions before it, weights in channels_last."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from tascnet.model.backbone import TRIAL_SIDES
from tascnet.model.frozen_norm import joined_pairs, plain_convolution
from tascnet.model.norm_pairs import convolutions_with_norms, has_norms, replace_modules
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import BOX_POOL, MASK_POOL


def make_inference_ready(model: TASCNet) -> TASCNet:
    """Change a network so that it computes the same in less time, for inference alone.

    Batch norm, frozen or trained, is folded into the convolution that it follows; its running statistics are what
    counts, as in evaluation mode. The network is in evaluation mode afterwards, its parameters need no gradient, and
    those of convolutions lie in channels_last. There is one set of weights at any time.

    Args:
        model: on any device, of any number type, in either mode; it cannot be trained any further.

    Returns:
        The same network. Its outputs differ from those that it gave in evaluation mode by rounding. Its state dict
        has other names: save the network before.
    """
    model.eval().requires_grad_(False)
    for part, example in _parts_with_norms(model):
        fold_batch_norm(part, example)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def fold_batch_norm(part: nn.Module, *example: Any) -> int:
    """Fold each batch norm of a module into the convolution that alone feeds it, in place.

    Args:
        part: any module; it runs once in evaluation mode to find the pairs, and keeps its mode.
        example: inputs of its `forward`.

    Returns:
        The number of batch norms that were folded; each left its activation, or nothing, in its place.
    """
    joined = joined_pairs(part)
    folded = _fold_pairs(part, joined)
    replace_modules(part, {convolution: plain_convolution(convolution) for convolution, _ in joined})
    return folded + _fold_pairs(part, convolutions_with_norms(part, *example))


def _fold_pairs(part: nn.Module, pairs: Sequence[tuple[nn.Conv2d, nn.Module]]) -> int:
    for convolution, norm in pairs:
        _fold(convolution, norm)
    replace_modules(part, {norm: _rest_of(norm) for _, norm in pairs})
    return len(pairs)


def _parts_with_norms(model: TASCNet) -> Iterator[tuple[nn.Module, Any]]:
    """The parts that may hold batch norm, each with an example of its input."""
    like, channels = next(model.parameters()), model.fpn.channels
    image = like.new_zeros(1, 3, *TRIAL_SIDES)
    yield model.backbone, image
    if has_norms(model.fpn):
        with torch.no_grad():
            features = model.backbone(image)
        yield model.fpn, features
    yield model.things_head.box_head, like.new_zeros(1, channels, BOX_POOL, BOX_POOL)
    yield model.things_head.mask_head, like.new_zeros(1, channels, MASK_POOL, MASK_POOL)


def _fold(convolution: nn.Conv2d, norm: Any) -> None:
    """Multiply the weights by the scale of a batch norm and add its shift to the bias, computed in float64 or better.

    Half precision would round the scale and the product; where a device lacks float64, float32 is used.
    """
    wide = torch.float32 if convolution.weight.device.type == "mps" else torch.float64

    def widened(values: Tensor | None) -> Tensor | None:
        return None if values is None else values.detach().to(wide)

    weight, bias = fuse_conv_bn_weights(
        widened(convolution.weight),  # type: ignore[arg-type]
        widened(convolution.bias),
        widened(norm.running_mean),  # type: ignore[arg-type]
        widened(norm.running_var),  # type: ignore[arg-type]
        norm.eps,
        widened(norm.weight),
        widened(norm.bias),
    )
    dtype = convolution.weight.dtype
    convolution.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    convolution.bias = nn.Parameter(bias.to(dtype), requires_grad=False)


def _rest_of(norm: nn.Module) -> nn.Module:
    """The activation that timm joins to some batch norms; nothing for the others."""
    activation: Callable[..., Any] | None = getattr(norm, "act", None)
    return activation if isinstance(activation, nn.Module) else nn.Identity()
