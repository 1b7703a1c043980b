"""How many rows of pixels a PNG holds: Pillow leaves those black that its data does not reach, without a word."""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> numbers a pixel
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG: first column, first row, and the distances of columns and of rows."""

_BLOCK = 1 << 20  # bytes that are inflated at a time


def holds_all_rows(path: Path) -> bool:
    """Whether the pixels of a PNG inflate to as many bytes as its header promises; none of them is kept.

    Args:
        path: a PNG that Pillow has decoded.
    """
    with path.open("rb") as file:
        width, height, depth, color, _, _, interlace = struct.unpack(">IIBBBBB", file.read(29)[16:])
    missing = _promised(width, height, depth * _CHANNELS[color], bool(interlace))
    inflate = zlib.decompressobj()
    for data in _pixel_data(path):
        while data and missing > 0:
            missing -= len(inflate.decompress(data, _BLOCK))
            data = inflate.unconsumed_tail
    return missing <= 0


def _promised(width: int, height: int, bits: int, interlaced: bool) -> int:
    """Bytes of all rows; one goes before each row, for its filter."""
    total = 0
    for x, y, dx, dy in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // dx), -((y - height) // dy)
        total += max(rows, 0) * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total


def _pixel_data(path: Path) -> Iterator[bytes]:
    """The contents of the IDAT chunks, in pieces."""
    with path.open("rb") as file:
        file.seek(8)
        while len(header := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", header)
            if kind == b"IDAT":
                for start in range(0, length, _BLOCK):
                    yield file.read(min(_BLOCK, length - start))
            else:
                file.seek(length, 1)
            file.seek(4, 1)  # the checksum
