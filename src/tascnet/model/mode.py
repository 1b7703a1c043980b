"""Training and evaluation mode of a network."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode for the block; afterwards each of its modules has the mode it had before.

    `model.train()` could not restore it: parts may have been frozen in evaluation mode within a network that trains.
    A network in training mode must not be used by another thread at the same time.
    """
    training = [module for module in model.modules() if module.training]
    if not training:
        yield  # the flags are not touched, so threads may share a network in evaluation mode
        return
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
