"""What the sum of a loss is divided by: in one process its own count, in several all of theirs."""

from collections.abc import Callable

from torch import Tensor

Average = Callable[[Tensor], Tensor]
"""() number of things that a loss sums over in this process -> () what its sum is divided by, above 0.

A training in several processes averages the gradients of all. The average equals the gradient of one process that
holds all images only if each divides by the *mean* of the counts, not by its own count; the function then asks the
others.
"""


def own_count(count: Tensor) -> Tensor:
    """One process alone: the count itself, at least 1."""
    return count.clamp(min=1)
