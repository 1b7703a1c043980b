"""Counts of the keys that occur: memory and time grow with the number of pixels, not with the keys there could be."""

import numpy as np

FEW_KEYS = 2**12
"""So many possible keys get a counter each, however few of them occur: 32 KB."""


def tally(keys: np.ndarray, num_keys: int, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Sum weights by key.

    Args:
        keys: (L,) integers, 0..num_keys-1.
        num_keys: number of possible keys, up to 2**63; a pair of segments of large images has as many.
        weights: (L,) numbers of pixels, above 0; 1 each by default.

    Returns:
        (D,) int64, the keys that occur, ascending; (D,) int64, the sum of the weights of each.
    """
    # bincount sums weights as float64, exact for counts of pixels
    if num_keys <= max(len(keys), FEW_KEYS):
        sums = np.bincount(keys, weights, minlength=num_keys)
        distinct = np.flatnonzero(sums)
        return distinct, sums[distinct].astype(np.int64)
    distinct, places = np.unique(keys, return_inverse=True)
    return distinct.astype(np.int64), np.bincount(places.ravel(), weights).astype(np.int64)


def sum_by_index(indices: np.ndarray, pixels: np.ndarray, length: int) -> np.ndarray:
    """Sum numbers of pixels by an index 0..length-1 -> (length,) int64."""
    sums: np.ndarray = np.bincount(indices, pixels, minlength=length).astype(np.int64)
    return sums
