"""Damage to the bytes of any file, and files that are not what their name says."""

import bz2
import gzip
import io
import lzma
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from random import Random

Damage = Callable[[bytes, Random], bytes]


def flipped(number: int, start: float = 0) -> Damage:
    """Turn over so many random bits, from a share of the file on."""

    def flip(content: bytes, random: Random) -> bytes:
        changed = bytearray(content)
        for _ in range(number):
            changed[random.randrange(int(len(content) * start), len(content))] ^= 1 << random.randrange(8)
        return bytes(changed)

    return flip


def cut(share: float) -> Damage:
    """Keep the first share of the bytes."""
    return lambda content, random: content[: int(len(content) * share)]


def _zipped(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("content", content)
    return stream.getvalue()


def _middle_zeroed(content: bytes, random: Random) -> bytes:
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


def _middle_removed(content: bytes, random: Random) -> bytes:
    return content[: len(content) // 3] + content[len(content) * 2 // 3 :]


NO_FILE_OF_ITS_KIND: Mapping[str, Damage] = {
    "empty": lambda content, random: b"",
    "one byte": lambda content, random: content[:1],
    "cut at a tenth": cut(0.1),
    "cut at a half": cut(0.5),
    "zeros": lambda content, random: bytes(4096),
    "noise": lambda content, random: random.randbytes(4096),
    "a web page": lambda content, random: b"<!DOCTYPE html><html><body>404 Not Found</body></html>\n",
    "a pointer of git lfs": lambda content, random: (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"4d" * 32 + b"\nsize 12345\n"
    ),
    "gzip": lambda content, random: gzip.compress(content),
    "bzip2": lambda content, random: bz2.compress(content),
    "xz": lambda content, random: lzma.compress(content),
    "zip": lambda content, random: _zipped(content),
    "a harmful pickle": lambda content, random: harmful_pickle("../canary"),
}
"""What is refused in place of any file."""

BROKEN_INSIDE: Mapping[str, Damage] = {
    "cut at nine tenths": cut(0.9),
    "middle zeroed": _middle_zeroed,
    "middle removed": _middle_removed,
    "3 bits flipped": flipped(3),
    "200 bits flipped": flipped(200),
}
"""Damage behind a sound beginning, more or less."""


def harmful_pickle(canary: str) -> bytes:
    """A pickle that writes a file when it is executed: the runner finds it outside of the case's folder."""
    return b"cbuiltins\nexec\n(Vopen(" + repr(canary).encode() + b", 'w')\ntR."


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _link_to(target: str) -> Callable[[Path], None]:
    def link(path: Path) -> None:
        path.unlink(missing_ok=True)
        path.symlink_to(target or path.name)

    return link


NO_FILE: Mapping[str, Callable[[Path], None]] = {
    "a folder": _folder,
    "missing": Path.unlink,
    "a named pipe": _pipe,
    "a dangling link": _link_to("nowhere"),
    "a link to itself": _link_to(""),
    "an endless device": _link_to("/dev/zero"),
}
"""What may stand in a file's place."""


def rewrite(path: Path, damage: Damage, random: Random) -> None:
    """Damage a file."""
    path.write_bytes(damage(path.read_bytes(), random))
