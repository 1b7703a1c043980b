"""Pickles of numpy arrays -> plain values, and nothing else: no name in a pickle is ever looked up.

A pickle is a program that may call anything. This reader knows a few names and has a stand-in of its own for each, so
that no code of others runs, nor numpy's own way of restoring arrays, which trusts its input.
"""

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np

_ITEM_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
"""Kind of numbers -> bytes of one; all that an array of weights may hold."""

_PLAIN_TYPES = (str, bytes, bytearray, bool, int, float, complex, type(None), np.ndarray, np.generic)


class ForbiddenError(pickle.UnpicklingError):
    """A pickle wants something that a file of weights has no use for."""


def read_pickle(content: bytes) -> Any:
    """Read a pickle that consists of dicts, lists, tuples, sets, text, numbers and numpy arrays.

    Text of Python 2 is read as Latin-1.

    Args:
        content: the bytes of the file.

    Returns:
        The value. Arrays can be written to and share nothing with `content`.

    Raises:
        ForbiddenError: it wants anything else; that has not been run.
        pickle.UnpicklingError: it is cut short, or no pickle.
    """
    try:
        return _plain(_Reader(io.BytesIO(content), encoding="latin1").load())
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles raise a dozen kinds
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


class _Reader(pickle.Unpickler):
    """Gives stand-ins for names."""

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """The stand-in for a name; a new one each time, so that a pickle cannot change what the next one meets."""
        module = {"__builtin__": "builtins"}.get(module, module.replace("numpy._core", "numpy.core"))
        stand_ins: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): lambda pairs=(): OrderedDict(pairs),
            ("builtins", "set"): lambda items=(): set(items),
            ("builtins", "frozenset"): lambda items=(): frozenset(items),
            ("builtins", "bytes"): lambda: b"",  # how old protocols write none
            ("_codecs", "encode"): lambda text, encoding="latin1": _bytes_of(text),
            ("numpy", "ndarray"): lambda *_: None,  # only named, to say what `_reconstruct` shall make
            ("numpy", "dtype"): lambda name, *_: _Dtype(name),
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
            ("numpy.core.multiarray", "scalar"): lambda dtype, data: _array(data, dtype, (), "C")[()],
            ("numpy.core.numeric", "_frombuffer"): lambda data, dtype, shape, order: _array(data, dtype, shape, order),
        }
        if (module, name) not in stand_ins:
            raise ForbiddenError(f"it wants {module}.{name}")
        return stand_ins[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenError("it refers to parts outside itself")


class _Dtype:
    """A type of plain numbers: one with pointers in it could be made to point anywhere."""

    def __init__(self, name: Any):
        kind, size = str(name)[:1], str(name)[1:]
        if not size.isdecimal() or int(size) not in _ITEM_SIZES.get(kind, ()):
            raise ForbiddenError(f"it holds an array of type {str(name)[:20]!r}")
        self.value = np.dtype(f"{kind}{size}")

    def __setstate__(self, state: Any) -> None:
        """Only the byte order matters."""
        if state[1] not in ("<", ">", "|", "="):
            raise ForbiddenError(f"it has the byte order {str(state[1])[:20]!r}")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array as pickles make it: first nothing, then its state."""

    value: np.ndarray

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, in_columns, data = state
        self.value = _array(data, dtype, shape, "F" if in_columns else "C")


def _array(data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Bytes -> array, a copy in the machine's own byte order."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise ForbiddenError("it describes an array in an unknown way")
    content = _bytes_of(data)
    if min(shape, default=0) < 0 or len(content) != math.prod(shape) * dtype.value.itemsize:
        raise pickle.UnpicklingError(f"an array of shape {shape} does not have the bytes it needs")
    array = np.frombuffer(content, dtype.value).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.value.newbyteorder("="))


def _bytes_of(data: Any) -> bytes:
    """Bytes; old protocols write them as text of Latin-1."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise ForbiddenError(f"it gives a {type(data).__name__} for bytes")
    return bytes(data)


def _plain(value: Any) -> Any:
    """The value, with arrays in place of their stand-ins; raises `ForbiddenError` where it holds anything else."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return type(value)((_plain(key), _plain(item)) for key, item in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return type(value)(_plain(item) for item in value)
    if not isinstance(value, _PLAIN_TYPES):
        raise ForbiddenError("it holds a thing that is neither a container, text, a number nor an array")
    return value
