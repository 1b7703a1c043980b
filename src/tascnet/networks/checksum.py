"""Checksums of tensors and of plain values: SHA-256 of what they mean, whatever the file is that holds them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def checksum_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of a file of tensors.

    Args:
        tensors: name -> dense tensor on the CPU, of any shape and number format; their order does not matter.

    Returns:
        Hexadecimal digits. They cover names, number formats, shapes and values to the last bit.
    """
    checksum = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        checksum.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        checksum.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return checksum.hexdigest()


def checksum_of_values(values: Any) -> str:
    """Checksum of plain values as JSON or YAML hold them, in hexadecimal digits; layout and order do not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
