"""Which device to compute on."""

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
