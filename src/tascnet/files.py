"""Writing files so that a reader never meets half of one."""

import codecs
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tascnet.errors import InputError

_MARKS = {  # byte order mark -> encoding; that of UTF-32 begins like that of UTF-16
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ARCHIVES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_HEAD = 512  # bytes, in which all of them show

UNFINISHED = ".writing-"
"""How the names of folders begin that are not complete, or are on their way out."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there takes the name `path` when the block succeeds.

    If the block fails, `path` is left as it was and the temporary file is removed. The temporary name keeps the
    suffix of `path`, because many writers choose their format by it.

    Raises:
        InputError: the folder cannot be made or written to, or `path` is a folder.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:64]}.", suffix=path.suffix, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}. Choose a folder that you may write to."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(0o666 & ~_umask())
        _rename(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it takes the name `path` when the block succeeds.

    If the block fails, `path` is left as it was and the temporary folder is removed. A folder that has the name
    already is replaced. The block may write files, no folders.

    Raises:
        InputError: the folder above cannot be made or written to.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}. Choose a folder that you may write to."
        ) from error
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush_to_disk(file)
            file.chmod(0o666 & ~_umask())
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        _flush_to_disk(path.parent)  # the new name, too
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def make_folder(path: str | Path) -> Path:
    """Make a folder and its parents where missing; return it.

    Raises:
        InputError: it cannot be made, or a file has that name.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path}: {error.strerror}. Choose a folder that you may write to."
        ) from error
    return path


def check_inside(path: str | Path, folder: str | Path) -> None:
    """Make sure that a file to be written lies in a folder, whatever symbolic links there are between the two.

    Raises:
        InputError: a link, or "..", leads out of the folder.
    """
    target = Path(path).parent.resolve()
    if not target.is_relative_to(Path(folder).resolve()):
        raise InputError(
            f"{path} is not written: it leads to {target}, outside of {folder}. Remove the link, or choose another "
            "output folder."
        )


def check_writable(folder: str | Path) -> Path:
    """Make `folder` if needed and prove that it can be written to, before hours of work depend on it.

    Raises:
        InputError: it cannot be made or written to.
    """
    folder = make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise InputError(
            f"cannot write in {folder}: {error.strerror}. Choose a folder that you may write to."
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file atomically, in UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write a JSON file atomically."""
    write_text(path, json.dumps(value, indent=indent))


def read_json(path: str | Path, replace_object: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Read a JSON file.

    Args:
        path: the file, in UTF-8.
        replace_object: called with each object as soon as it is read, inner ones first; what it returns takes the
            object's place. It keeps the whole of a large file from being held as Python objects.

    Raises:
        InputError: the file is missing, is not text, or is not JSON (cut short, for instance).
    """
    try:
        return json.loads(read_text(path), object_hook=replace_object)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). It may be cut short: copy or download it again."
        ) from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        InputError: the file is missing, is not text, or is not YAML.
    """
    try:
        return yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}). Mend the file.") from error


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, which is not part of the text.

    Raises:
        InputError: the file is missing or cannot be read, is an archive, or is in another encoding.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Check that it is a file that you may read."
        ) from error
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        kind = archive_kind(content[:_HEAD])
        if kind:
            raise InputError(f"{path} is an archive ({kind}). Unpack it, and name what is in it.") from error
        raise InputError(
            f"{path} is not text in UTF-8: byte {error.start} cannot be read. It may be in another encoding, such as "
            "GBK, Shift JIS or Windows-1252, or be no text at all. Save it in UTF-8, or check the path."
        ) from error


def archive_kind(head: bytes) -> str:
    """The kind of archive that begins with these bytes, 262 of them or more; empty where it is none."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for start, kind in _ARCHIVES.items() if head.startswith(start)), "")


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another name.") from error


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
