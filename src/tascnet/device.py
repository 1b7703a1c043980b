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
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name.split(":")[0], False):
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise InputError(f"device '{name}' is not available here; choose auto or one of {there}.")
    return torch.device(name)


def peak_memory(device: torch.device) -> float:
    """The most memory so far, bytes: what PyTorch held on a CUDA GPU; elsewhere all of this process.

    Worker processes that load data are not counted. NaN on Windows without a CUDA GPU, which does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "win32":
        return math.nan
    import resource  # noqa: PLC0415 - Windows has no such module

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
