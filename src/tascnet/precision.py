"""The number type of coordinates, scores and log-odds: float32 or better, whatever type the features have."""

import torch
from torch import Tensor


def full_precision(tensor: Tensor) -> Tensor:
    """The tensor in float32; float64 stays float64.

    Half precision is for features. bfloat16 separates whole pixels up to 256 and float16 up to 2048, areas overflow
    float16 from 256 x 256 pixels on, and scores near 1 become equal.
    """
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
