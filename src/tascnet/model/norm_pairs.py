"""The batch norm that each convolution alone feeds, found in the flow of data."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from timm.layers import Conv2dSame
from timm.layers.norm_act import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode
from torchvision.ops.misc import FrozenBatchNorm2d

from tascnet.model.mode import evaluation_mode

_PLAIN = (nn.Conv2d, Conv2dSame)
"""Convolutions whose weight is used as it is; subclasses that standardise it first are left alone."""

_NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, FrozenBatchNormAct2d)


@torch.no_grad()
def convolutions_with_norms(part: nn.Module, *example: Any) -> list[tuple[nn.Conv2d, nn.Module]]:
    """Convolutions and the batch norms that they may be joined with.

    The pairs are found in the flow of data, not in names: the part is run once, and a pair is a convolution whose
    output goes into one batch norm and nowhere else, and a batch norm that reads nothing else, whenever it is called.

    Args:
        part: any module; it runs in evaluation mode for the search, and keeps its mode.
        example: inputs of its `forward`.
    """
    if not has_norms(part):
        return []  # without the run
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
        if _is_plain(module):
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
        if norm is not None and len(readers) == 1 and flow.fed_by[norm] == {convolution}
        if isinstance(convolution, nn.Conv2d) and _has_statistics(norm) and not _is_watched(norm)
    ]


def has_norms(part: nn.Module) -> bool:
    """Whether there is batch norm inside a module, trained or frozen."""
    return any(isinstance(module, _NORMS) for module in part.modules())


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


def _is_plain(module: nn.Module) -> bool:
    return type(module) in _PLAIN and not parametrize.is_parametrized(module) and not _is_watched(module)


def _has_statistics(norm: nn.Module) -> bool:
    return getattr(norm, "running_mean", None) is not None


def _is_watched(module: nn.Module) -> bool:
    """Whether hooks see what a module reads or gives, as timm's do where they collect features."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def replace_modules(part: nn.Module, replacements: Mapping[nn.Module, nn.Module]) -> None:
    """Put modules in the places of others, under all names that these have inside `part`."""
    for parent in list(part.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and child in replacements:
                parent._modules[name] = replacements[child]
