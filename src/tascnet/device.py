"""Which device to compute on, and the memory that it took."""

import math
import sys

import torch

from tascnet.errors import InputError


def choose_device(name: str) -> torch.device:
    """ "auto" takes a GPU (CUDA, then Apple's) if there is one; others are taken by their name.

    Raises:
        InputError: there is no such device here.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    numbers = {kind: torch.cuda.device_count() if kind == "cuda" else 1 for kind, is_there in there.items() if is_there}
    if name == "auto":
        return torch.device(next(iter(numbers)))
    kind, colon, index = name.partition(":")
    if kind not in numbers or (colon and not (index.isascii() and index.isdecimal())):
        raise InputError(f"device '{name}' is not available here; choose auto or one of {', '.join(numbers)}.")
    if colon and not 0 <= int(index[:9]) < numbers[kind]:
        several = f"{kind}:0 to {kind}:{numbers[kind] - 1}" if numbers[kind] > 1 else f"{kind} or {kind}:0 alone"
        raise InputError(
            f"device '{name}' is not available here; this machine has {several}. Choose auto or one of them."
        )
    return torch.device(kind, int(index)) if colon else torch.device(kind)


def peak_memory(device: torch.device) -> float:
    """The most memory so far, bytes: what PyTorch held on a CUDA GPU; elsewhere all of this process.

    Worker processes that load data are not counted. NaN on Windows without a CUDA GPU, which does not report it.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return math.nan
    import resource  # noqa: PLC0415 - Windows has no such module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
