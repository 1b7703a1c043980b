"""Pickles of numpy arrays -> plain values, and nothing else: no name in a pickle is ever looked up.

A pickle is a program that may call anything. This reader knows a few names and has a stand-in of its own for each, so
that no code of others runs, nor numpy's own way of restoring arrays, which trusts its input. The program is checked
before it runs: a few bytes could otherwise ask for gigabytes of memo, or nest values until the stack overflows.
"""

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tascnet.errors import shorten, shown

MAX_OPERATIONS = 500_000
"""Steps of a pickle that is read; detectron2's largest zoo file takes about 20,000."""

MAX_DEPTH = 50
"""Levels of nesting of values; weights have fewer than ten."""

_OPERATIONS = {operation.code: operation for operation in pickletools.opcodes}

_IN_PLACE = ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD")
"""Operations that change the container below what they take from the stack."""

_ITEM_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8), "c": (8, 16)}
"""Kind of numbers -> bytes of one; all that an array of weights may hold."""

_TYPES = frozenset(f"{kind}{size}" for kind, sizes in _ITEM_SIZES.items() for size in sizes)

_MOST_DIMENSIONS = 32  # of numpy's arrays

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
        _check_operations(content)
        return _Plain()(_Reader(content).load())
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles raise a dozen kinds
        raise pickle.UnpicklingError(f"{type(error).__name__}: {error}") from error


def _check_operations(content: bytes) -> None:
    """Go through a pickle's operations without running them, with the depth of each value in place of the value.

    Raises:
        ForbiddenError: it has too many operations, nests too deeply, or numbers its memo beyond their count, for which
            pickle would reserve memory.
    """
    stack: list[int | None] = []  # depth of each value; None for a mark
    memo: dict[int, int] = {}
    for count, (operation, argument) in enumerate(_operations(content)):
        name = operation.name
        if count > MAX_OPERATIONS:
            raise ForbiddenError(f"it takes more than {MAX_OPERATIONS:,} steps")
        if name == "MARK":
            stack.append(None)
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            number = len(memo) if name == "MEMOIZE" else int(argument)
            if number > count:
                raise ForbiddenError(f"it numbers its values up to {shown(number)} after {count:,} steps")
            memo[number] = stack[-1] or 0
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument), 0))
        elif name == "DUP":
            stack.append(stack[-1])
        else:
            taken = _take(stack, operation)
            depth = max((1 + each for each in taken), default=0)
            if name in _IN_PLACE and taken:
                depth = max(taken[0], max((1 + each for each in taken[1:]), default=0))
            if depth > MAX_DEPTH:
                raise ForbiddenError(f"its values are nested more than {MAX_DEPTH} levels deep")
            stack += [depth] * len(operation.stack_after)


def _operations(content: bytes) -> Iterator[tuple[pickletools.OpcodeInfo, Any]]:
    """The operations of a pickle with their arguments, as `pickletools.genops`, which refuses Latin-1 of Python 2."""
    file = io.BytesIO(content)
    while code := file.read(1):
        operation = _OPERATIONS[code.decode("latin1")]
        if operation.name == "STRING":
            yield operation, file.readline()
        else:
            yield operation, operation.arg.reader(file) if operation.arg else None
        if operation.name == "STOP":
            return


def _take(stack: list[int | None], operation: pickletools.OpcodeInfo) -> list[int]:
    """Take off the stack what an operation takes off it, and return it, the lowest first."""
    kinds = operation.stack_before
    if pickletools.markobject in kinds:
        start = len(stack) - 1 - stack[::-1].index(None)
        start -= kinds.index(pickletools.markobject)  # the container below the mark
    elif operation.name == "POP":
        start = len(stack) - 1
    else:
        start = len(stack) - len(kinds)
    taken = stack[max(start, 0) :]
    del stack[max(start, 0) :]
    return [depth for depth in taken if depth is not None]


class _Reader(pickle.Unpickler):
    """Gives stand-ins for names."""

    def __init__(self, content: bytes):
        super().__init__(io.BytesIO(content), encoding="latin1")
        # an array is made of bytes that the file holds once, as text of twice that size in old protocols
        self._bytes_left = 4 * len(content) + 2**16

    def _array(self, data: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
        return _array(self._bytes(data), dtype, shape, order)

    def _bytes(self, data: Any) -> bytes:
        """Bytes for a stand-in; a file that has the same ones copied again and again is refused."""
        self._bytes_left -= len(data) if isinstance(data, str | bytes | bytearray) else 0
        if self._bytes_left < 0:
            raise ForbiddenError("its arrays are many times larger than the file")
        return _bytes_of(data)

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """The stand-in for a name; a new one each time, so that a pickle cannot change what the next one meets."""
        module = {"__builtin__": "builtins"}.get(module, module.replace("numpy._core", "numpy.core"))
        stand_ins: dict[tuple[str, str], Callable[..., Any]] = {
            ("collections", "OrderedDict"): lambda pairs=(): OrderedDict(pairs),
            ("builtins", "set"): lambda items=(): set(items),
            ("builtins", "frozenset"): lambda items=(): frozenset(items),
            ("builtins", "bytes"): lambda: b"",  # how old protocols write none
            ("_codecs", "encode"): lambda text, encoding="latin1": self._bytes(text),
            ("numpy", "ndarray"): lambda *_: None,  # only named, to say what `_reconstruct` shall make
            ("numpy", "dtype"): lambda name, *_: _Dtype(name),
            ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(self._array),
            ("numpy.core.multiarray", "scalar"): lambda dtype, data: self._array(data, dtype, (), "C")[()],
            ("numpy.core.numeric", "_frombuffer"): self._array,
        }
        if (module, name) not in stand_ins:
            raise ForbiddenError(f"it wants {shorten(f'{module}.{name}')}")
        return stand_ins[module, name]

    def persistent_load(self, pid: Any) -> Any:
        raise ForbiddenError("it refers to parts outside itself")


class _Dtype:
    """A type of plain numbers: one with pointers in it could be made to point anywhere."""

    def __init__(self, name: Any):
        if isinstance(name, bytes):  # of Python 2
            name = name.decode("latin1")
        if not isinstance(name, str) or name not in _TYPES:
            raise ForbiddenError(f"it holds an array of type {shown(name, 20)}")
        kind, size = name[:1], name[1:]
        self.value = np.dtype(f"{kind}{size}")

    def __setstate__(self, state: Any) -> None:
        """Only the byte order matters."""
        if state[1] not in ("<", ">", "|", "="):
            raise ForbiddenError(f"it has the byte order {shown(state[1], 20)}")
        self.value = self.value.newbyteorder(state[1])


class _Array:
    """An array as pickles make it: first nothing, then its state."""

    value: np.ndarray

    def __init__(self, make: Callable[[Any, Any, Any, Any], np.ndarray]):
        self._make = make

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, in_columns, data = state
        self.value = self._make(data, dtype, shape, "F" if in_columns else "C")


def _array(content: bytes, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    """Bytes -> array, a copy in the machine's own byte order."""
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or order not in ("C", "F"):
        raise ForbiddenError("it describes an array in an unknown way")
    if len(shape) > _MOST_DIMENSIONS or not all(isinstance(n, int) and 0 <= n < 2**63 for n in shape):
        raise pickle.UnpicklingError(f"an array cannot have the shape {shown(shape)}")
    if len(content) != math.prod(shape) * dtype.value.itemsize:
        raise pickle.UnpicklingError(f"an array of shape {shown(shape)} does not have the bytes it needs")
    array = np.frombuffer(content, dtype.value).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(dtype.value.newbyteorder("="))


def _bytes_of(data: Any) -> bytes:
    """Bytes; old protocols write them as text of Latin-1."""
    if isinstance(data, str):
        return data.encode("latin1")
    if not isinstance(data, bytes | bytearray):
        raise ForbiddenError(f"it gives a {type(data).__name__} for bytes")
    return bytes(data)


class _Plain:
    """The values, with arrays in place of their stand-ins. What occurs several times is converted once.

    Raises:
        ForbiddenError: a value holds anything else, or itself.
    """

    def __init__(self) -> None:
        self._done: dict[int, tuple[Any, Any]] = {}  # id of a value -> the value, which must live on, and the result
        self._open: set[int] = set()

    def __call__(self, value: Any) -> Any:
        """The plain form of one value."""
        if isinstance(value, _Array):
            return value.value
        if not isinstance(value, dict | list | tuple | set | frozenset):
            if not isinstance(value, _PLAIN_TYPES):
                raise ForbiddenError("it holds a thing that is neither a container, text, a number nor an array")
            return value
        if id(value) in self._open:
            raise ForbiddenError("it holds a container that is inside of itself")
        if id(value) not in self._done:
            self._open.add(id(value))
            items = (
                ((self(key), self(item)) for key, item in value.items())
                if isinstance(value, dict)
                else map(self, value)
            )
            self._done[id(value)] = value, type(value)(items)
            self._open.remove(id(value))
        return self._done[id(value)][1]
