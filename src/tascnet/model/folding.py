"""A network made ready for inference: batch norm folded into the convolutions before it, weights in channels_last."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from timm.layers import Conv2dSame
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.overrides import TorchFunctionMode
from torchvision.ops.misc import FrozenBatchNorm2d

from tascnet.model.mode import evaluation_mode
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import BOX_POOL, MASK_POOL

TRIAL_SIDES = (96, 160)
"""Height and width of the image with which the order of layers is found, pixels."""

_FOLDABLE = (nn.Conv2d, Conv2dSame)
"""Convolutions whose weight is used as it is; subclasses that standardise it first are left alone."""

_NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d)

_Part = TypeVar("_Part", bound=nn.Module)


def inference_ready(model: TASCNet) -> TASCNet:
    """A copy of a network that computes the same in less time, for inference alone.

    Batch norm, frozen or trained, is folded into the convolution that it follows; its running statistics are what
    counts, as in evaluation mode. The copy is in evaluation mode, its parameters need no gradient, and those of
    convolutions lie in channels_last. The given network is not changed; where it is not needed any more, drop it, and
    there is one set of weights again.

    Args:
        model: on any device, of any number type, in either mode.

    Returns:
        The copy, on the same device. Its outputs differ from those of the network in evaluation mode by rounding.
        Its state dict has other names: save the network, not the copy.
    """
    ready = deepcopy(model).eval().requires_grad_(False)
    for part, example in _parts_with_norms(ready):
        fold_batch_norm(part, example)
    return ready.to(memory_format=torch.channels_last)


@torch.no_grad()
def fold_batch_norm(part: nn.Module, *example: Any) -> int:
    """Fold each batch norm of a module into the convolution that alone feeds it, in place.

    The pairs are found in the flow of data, not in names: the part is run once, and a convolution is folded if its
    output goes into one batch norm and nowhere else, whenever it is called.

    Args:
        part: any module; it runs in evaluation mode for the search, and keeps its mode.
        example: inputs of its `forward`.

    Returns:
        The number of batch norms that were folded; each left its activation, or nothing, in its place.
    """
    pairs = _pairs(part, example)
    for convolution, norm in pairs:
        _fold(convolution, norm)
    rest = {norm: _rest_of(norm) for _, norm in pairs}
    for parent in list(part.modules()):
        for name, child in list(parent.named_children()):
            if child in rest:
                setattr(parent, name, rest[child])
    return len(pairs)


def _parts_with_norms(model: TASCNet) -> Iterator[tuple[nn.Module, Any]]:
    """The parts that may hold batch norm, each with an example of its input."""
    like = next(model.parameters())
    image = like.new_zeros(1, 3, *TRIAL_SIDES)
    yield model.backbone, image
    with torch.no_grad():
        features = model.backbone(image)
        channels = model.fpn(features)[0].shape[1]
    yield model.fpn, features
    yield model.things_head.box_head, like.new_zeros(1, channels, BOX_POOL, BOX_POOL)
    yield model.things_head.mask_head, like.new_zeros(1, channels, MASK_POOL, MASK_POOL)


@dataclass
class _Flow:
    """Where the outputs of convolutions went while a module ran.

    Attributes:
        read_by: convolution -> the modules that read its output; None for functions outside of batch norms.
        fed_by: batch norm -> the convolutions whose outputs it got; None for anything else.
        made: number of a tensor -> the tensor, kept so that its number is not given to another, and its maker.
    """

    read_by: dict[nn.Module, set[nn.Module | None]] = field(default_factory=lambda: defaultdict(set))
    fed_by: dict[nn.Module, set[nn.Module | None]] = field(default_factory=lambda: defaultdict(set))
    made: dict[int, tuple[Tensor, nn.Module]] = field(default_factory=dict)


class _Reads(TorchFunctionMode):
    """Notes each function that reads the output of a convolution, and the batch norm at work."""

    def __init__(self, flow: _Flow, at_work: list[nn.Module]):
        super().__init__()
        self.flow, self.at_work = flow, at_work

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") != "__get__":  # shape, dtype and the like read no values
            for tensor in torch.utils._pytree.tree_leaves((args, kwargs)):
                if id(tensor) in self.flow.made:
                    maker = self.flow.made[id(tensor)][1]
                    self.flow.read_by[maker].add(self.at_work[-1] if self.at_work else None)
        return func(*args, **(kwargs or {}))


def _pairs(part: nn.Module, example: tuple[Any, ...]) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions and the batch norms that they may be folded with."""
    flow, at_work = _Flow(), list[nn.Module]()

    def keep_output(module: nn.Module, _: Any, output: Tensor) -> None:
        flow.made[id(output)] = output, module

    def enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        flow.fed_by[module].add(flow.made.get(id(inputs[0]), (None, None))[1])
        at_work.append(module)

    def leave(*_: Any) -> None:
        at_work.pop()

    hooks = []
    for module in part.modules():
        if _is_foldable(module):
            hooks.append(module.register_forward_hook(keep_output))
        elif isinstance(module, _NORMS):
            hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    try:
        with evaluation_mode(part), _Reads(flow, at_work):
            result = part(*example)
    finally:
        for hook in hooks:
            hook.remove()
    for tensor in torch.utils._pytree.tree_leaves(result if not isinstance(result, dict) else list(result.values())):
        if id(tensor) in flow.made:
            flow.read_by[flow.made[id(tensor)][1]].add(None)  # what leaves the part is read elsewhere
    return [
        (convolution, norm)
        for convolution, readers in flow.read_by.items()
        for norm in readers
        if norm is not None and len(readers) == 1 and flow.fed_by[norm] == {convolution} and _has_statistics(norm)
        if isinstance(convolution, nn.Conv2d)
    ]


def _is_foldable(module: nn.Module) -> bool:
    return type(module) in _FOLDABLE and not parametrize.is_parametrized(module)


def _has_statistics(norm: nn.Module) -> bool:
    return getattr(norm, "running_mean", None) is not None


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
