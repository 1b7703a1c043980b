"""A pretended accelerator: its tensors stay in main memory and are marked, so that a machine without one finds mixes.

Two modes work together. The one for functions answers what Python asks of a tensor (`device`, `to`, `tolist`) and
takes `device=` out of calls. The one for operations sees all that is computed, in the backward pass too: it refuses
operands on two devices, marks results, and counts what makes the host wait.
"""

import traceback
from collections import Counter
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITING = {
    "aten::_local_scalar_dense",  # item, int, float, bool
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::unique_consecutive",
    "aten::bincount",
    "aten::equal",
    "aten::repeat_interleave",
    "torchvision::nms",  # the number of kept boxes
}
"""Operations whose results have a size or a value that the host waits for."""

_INDEXING = {"aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index"}
_COPYING = {"aten::copy_", "aten::_foreach_copy_"}
_LITERALS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}
"""Functions that carry numbers of Python to a device; `torch.full` does not."""


class MixedDevicesError(RuntimeError):
    """An operation on tensors of two devices, or the host reading a device's memory."""


class NoDoublePrecisionError(TypeError):
    """A tensor of 64-bit floating point on a device that has none."""


class PretendedDevice:
    """While it is entered, "cuda" or "mps" is a device that exists.

    Attributes:
        waits: (operation, line of tascnet) -> how often the host waited for the device: numbers read back, results of
            unknown size, and copies in either direction that are not `non_blocking`.
        operations: names and overloads of all that was computed on the device, such as "aten::add.Tensor".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.waits: Counter[tuple[str, str]] = Counter()
        self.operations: set[str] = set()
        self._marked: dict[int, StorageWeakRef] = {}
        self._functions, self._operations = _Functions(self), _Operations(self)

    def __enter__(self) -> Self:
        self._operations.__enter__()
        self._functions.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._functions.__exit__(kind, error, trace)
        self._operations.__exit__(kind, error, trace)

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the pretended device."""
        return tensor.untyped_storage()._cdata in self._marked

    def mark(self, tensor: Tensor) -> None:
        """Put a tensor's memory on the pretended device."""
        if self.kind == "mps" and tensor.dtype in (torch.float64, torch.complex128):
            raise NoDoublePrecisionError(f"MPS has no {tensor.dtype}: {_line()}")
        storage = tensor.untyped_storage()
        self._marked[storage._cdata] = StorageWeakRef(storage)  # so that its number is not given to another one

    def waited(self, name: str) -> None:
        """Note that the host waited for the device."""
        self.waits[name, _line()] += 1

    @property
    def total(self) -> int:
        """How often the host waited."""
        return sum(self.waits.values())


def _line() -> str:
    """The line of tascnet that is at work, innermost."""
    for frame in reversed(traceback.extract_stack()):
        if "/src/tascnet/" in frame.filename:
            return f"{frame.filename.split('/src/tascnet/')[1]}:{frame.lineno} {frame.line}"
    return "outside of tascnet"


def _tensors(*values: Any) -> Iterator[Tensor]:
    return (leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor))


def _as_device(value: Any) -> torch.device | None:
    """A device, if the value is one or names one."""
    if isinstance(value, torch.device):
        return value
    if isinstance(value, str) and value.split(":")[0] in ("cpu", "cuda", "mps"):
        return torch.device(value)
    return None


class _Functions(TorchFunctionMode):
    """What Python asks of tensors."""

    def __init__(self, pretended: PretendedDevice):
        super().__init__()
        self.pretended = pretended

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, here = dict(kwargs or {}), self.pretended
        if func is Tensor.backward:
            return self._backward(args[0])
        if args and isinstance(args[0], Tensor):
            on_device, name = here.holds(args[0]), getattr(func, "__name__", "")
            if func == Tensor.device.__get__:  # made anew at each look, so equal but not the same
                return torch.device(here.kind, 0) if on_device else torch.device("cpu")
            for kind, asked in (("cuda", Tensor.is_cuda), ("mps", Tensor.is_mps), ("cpu", Tensor.is_cpu)):
                if func == asked.__get__:
                    return kind == (here.kind if on_device else "cpu")
            if func in (Tensor.to, Tensor.cpu, Tensor.cuda):
                return self._move(func, args, kwargs)
            if name in ("numpy", "__array__") and on_device and not kwargs.get("force"):
                raise MixedDevicesError(f"numpy() of a tensor on {here.kind}: {_line()}")
            if (name in ("numpy", "__array__") or func is Tensor.tolist) and on_device:
                here.waited(name)
                return func(*args, **kwargs)
        return self._call(func, args, kwargs)

    def _backward(self, loss: Tensor) -> None:
        """Fill the gradients of a scalar, as `loss.backward()` does; functions written in Python ask here again."""
        with self:
            start = (torch.ones_like(loss),)
            torch.autograd.graph._engine_run_backward((loss,), start, False, False, (), True, accumulate_grad=True)

    def _call(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Any other function: without its `device`, on which the result is then."""
        here = self.pretended
        device = kwargs.pop("device", None)
        if device is None:
            # what torch's own Python functions make on the way lies where their operands lie
            inside = getattr(func, "__module__", "") == "torch.nn.functional" and any(
                here.holds(tensor) for tensor in _tensors(args, kwargs)
            )
            here._operations.made_here += inside
            try:
                result = func(*args, **kwargs)
            finally:
                here._operations.made_here -= inside
            if func is Tensor.new_tensor and here.holds(args[0]):
                here.waited(func.__name__)
                here.mark(result)
            return result
        with _NoMarks(here):  # `x.new_zeros(..., device="cpu")` is not where x is
            result = func(*args, **kwargs)
        if torch.device(device).type == here.kind:
            if func in _LITERALS:
                here.waited(func.__name__)
            for tensor in _tensors(result):
                here.mark(tensor)
        return result

    def _move(self, func: Any, args: Any, kwargs: Any) -> Tensor:
        here, (tensor, *rest) = self.pretended, args
        target = here.kind if here.holds(tensor) else "cpu"
        if func is Tensor.cpu:
            target = "cpu"
        elif func is Tensor.cuda:
            target = "cuda"
        dtype = kwargs.pop("dtype", None)
        for value in [*rest, kwargs.pop("device", None), kwargs.pop("other", None)]:
            if isinstance(value, Tensor):
                target, dtype = here.kind if here.holds(value) else "cpu", value.dtype
            elif isinstance(value, torch.dtype):
                dtype = value
            elif _as_device(value) is not None:
                target = torch.device(value).type
        kwargs |= {"non_blocking": True} if any(value is True for value in rest) else {}
        moves = (target == here.kind) != here.holds(tensor)
        if moves and not kwargs.pop("non_blocking", False):
            here.waited("to host" if target == "cpu" else "to device")
        kwargs = {name: value for name, value in kwargs.items() if name in ("copy", "memory_format")}
        if not moves:
            return tensor.to(dtype=dtype or tensor.dtype, **kwargs)
        with _NoMarks(here):
            moved = tensor.to(dtype=dtype or tensor.dtype, **(kwargs | {"copy": True}))
        if target == here.kind:
            here.mark(moved)
        return moved


class _NoMarks:
    """While it is entered, operations are neither checked nor marked: a copy from one device to the other."""

    def __init__(self, pretended: PretendedDevice):
        self._operations = pretended._operations

    def __enter__(self) -> None:
        self._operations.paused += 1

    def __exit__(self, *_: object) -> None:
        self._operations.paused -= 1


class _Operations(TorchDispatchMode):
    """All that is computed."""

    def __init__(self, pretended: PretendedDevice):
        super().__init__()
        self.pretended = pretended
        self.paused = 0
        self.made_here = 0  # how deep in functions whose new tensors are on the device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return func(*args, **kwargs)
        if func._can_decompose():  # in inference mode operations come whole; `item` and `where` are made of others
            with self:
                return func.decompose(*args, **kwargs)
        here, name = self.pretended, func._schema.name
        operands = list(_tensors(args, kwargs))
        on_device = [here.holds(tensor) for tensor in operands]
        if any(on_device):
            here.operations.add(f"{name}.{func._overloadname}")
            self._check(name, args, operands, on_device)
            self._count(name, operands, on_device)
        result = func(*args, **kwargs)
        if name in _COPYING or name == "aten::_local_scalar_dense":
            return result
        lives_on_device = on_device[0] if name in _INDEXING else any(on_device)
        lives_on_device |= not operands and self.made_here > 0
        if lives_on_device:
            for tensor in _tensors(result):
                here.mark(tensor)
        return result

    def _check(self, name: str, args: Any, operands: list[Tensor], on_device: list[bool]) -> None:
        """Refuse what a real device refuses; numbers in main memory (0-dimensional) may meet its tensors."""
        if name in _COPYING:
            return
        pairs = list(zip(operands, on_device, strict=True))
        if name in _INDEXING and on_device[0]:  # positions may lie in main memory, values may not
            values = list(_tensors(args[2:]))
            pairs = [(tensor, here) for tensor, here in pairs if any(tensor is value for value in values)]
        if any(not here and (tensor.ndim > 0 or (name in _INDEXING and not on_device[0])) for tensor, here in pairs):
            places = ", ".join(f"{tuple(t.shape)} on {self.pretended.kind if d else 'cpu'}" for t, d in pairs)
            raise MixedDevicesError(f"{name} of {places}: {_line()}")

    def _count(self, name: str, operands: list[Tensor], on_device: list[bool]) -> None:
        here = self.pretended
        if name in _WAITING:
            here.waited(name)
        elif name in _INDEXING:
            masks = [tensor for tensor in operands[1:] if tensor.dtype in (torch.bool, torch.uint8)]
            if masks:
                here.waited(f"{name} by a mask")
            elif not all(on_device):
                here.waited(f"{name} by positions in main memory")
        elif name in _COPYING and not all(on_device):
            here.waited(name)
