"""File names as data sets list them -> paths inside their folder, and names of images that differ."""

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import chain, count
from pathlib import Path, PurePath, PurePosixPath

from tascnet.data.problems import DataError, Kind
from tascnet.files import valid_text
from tascnet.values import shown

_DRIVE = re.compile(r"[A-Za-z]:")
_UNUSABLE = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")  # control characters, halves of characters


def relative_name(value: object, where: str) -> str:
    """The name of a file inside its folder, with "/" between its parts.

    Backslashes, which files from Windows have, become "/". Names are read from files of strangers, so none may lead
    out of the folder, on any system: `data convert` also writes under these names.

    Args:
        value: as the file has it.
        where: the entry, for the error.

    Raises:
        DataError: it is no text, names no file, is absolute, begins with a drive ("C:"), has a part "..", or holds a
            control character.
    """
    if not isinstance(value, str) or _UNUSABLE.search(value):
        raise DataError(
            f"{where} has the file_name {shown(value)}; it is text without control characters. Correct it.",
            Kind.BROKEN_ENTRY,
        )
    if leads_out(value):
        raise DataError(
            f"{where} has the file_name {shown(value)}, which leads out of its folder; names are relative to it and "
            "have no '..'. Correct it.",
            Kind.OUTSIDE,
        )
    path = PurePosixPath(value.replace("\\", "/"))
    if not path.name:
        raise DataError(f"{where} has the file_name '{value}'; name its file.", Kind.BROKEN_ENTRY)
    return path.as_posix()


def leads_out(name: str) -> bool:
    """Whether a name leads out of its folder on any system: absolute, with a drive, or with a part "..".

    Symbolic links are not followed: `files.check_inside` does that where files are written.
    """
    name = name.replace("\\", "/")
    # Windows drops blanks and dots at the end of a part: ".. " is ".." there
    climbs = any(len(part.rstrip(" ")) > 1 and not part.strip(" .") for part in name.split("/"))
    return name.startswith("/") or _DRIVE.match(name) is not None or climbs


def find_file(folder: Path, name: str) -> Path:
    """The file of a name in a folder, also where it is spelt otherwise on disk.

    Tried are composed and decomposed letters ("é" is one character or two: macOS and Linux differ), the suffix in
    small letters and in capitals, and a backslash in the name itself, as unpacking on Linux leaves it.

    Args:
        folder: where it is.
        name: as `relative_name` returns it.

    Returns:
        The path of an existing file; `folder` / `name` where there is none.
    """
    return next(
        (path for path in (folder / other for other in _spellings(name)) if os.path.exists(path)), folder / name
    )


def _spellings(name: str) -> Iterator[str]:
    yield name
    for form in ("NFC", "NFD"):
        written = PurePosixPath(unicodedata.normalize(form, name))
        for suffix in dict.fromkeys((written.suffix, written.suffix.lower(), written.suffix.upper())):
            yield written.with_suffix(suffix).as_posix()
    if "/" in name:
        yield name.replace("/", "\\")


def unique_names(files: Iterable[PurePath], ending: str = "") -> list[str]:
    """A name for each of several files: its path without suffix, with the suffix or a number where two would be equal.

    Capitals do not make a difference, because some file systems ignore them.

    Args:
        files: relative paths.
        ending: of the name without suffix; where a file has it, it is left out, too.
    """
    names: list[str] = []
    taken: set[str] = set()
    for file in (PurePath(valid_text(str(file))) for file in files):
        stem = file.with_suffix("").as_posix().removesuffix(ending)
        numbered = (f"{stem}_{number}" for number in count(2))
        candidates = chain([stem, file.with_name(file.name.replace(".", "_")).as_posix()], numbered)
        name = next(candidate for candidate in candidates if candidate.lower() not in taken)
        taken.add(name.lower())
        names.append(name)
    return names
