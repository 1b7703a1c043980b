"""Writing files so that a reader never meets half of one."""

import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from tascnet.errors import InputError
from tascnet.machine import is_disk_full

UNFINISHED = ".writing-"
"""How the names of folders begin that are not complete, or are on their way out."""

_SURROGATES = re.compile("[\ud800-\udfff]")
_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; what is written there takes the name `path` when the block succeeds.

    If the block fails, `path` is left as it was and the temporary file is removed. The temporary name keeps the
    suffix of `path`, because many writers choose their format by it.

    Raises:
        InputError: the folder cannot be made or written to, `path` is a folder, or the disk is full.
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
    except BaseException as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        _explain_full_disk(error, path)
        raise


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path`; it takes the name `path` when the block succeeds.

    If the block fails, `path` is left as it was and the temporary folder is removed. A folder that has the name
    already is replaced. The block may write files, no folders.

    Raises:
        InputError: the folder above cannot be made or written to, or the disk is full.
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
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        _explain_full_disk(error, path)
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
    """Write a text file atomically, in UTF-8; `valid_text` replaces what UTF-8 cannot hold."""
    with atomic_path(path) as temporary:
        temporary.write_text(valid_text(text), encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = None) -> None:
    """Write a JSON file atomically; `valid_text` replaces in its strings what UTF-8 cannot hold."""
    text = json.dumps(value, indent=indent)
    if "\\ud" in text:  # an escape of a surrogate: one by itself is not valid, other programs refuse the file
        text = json.dumps(_with_valid_text(value), indent=indent)
    write_text(path, text)


def valid_text(text: str) -> str:
    """Text that UTF-8 can hold: the bytes of a file name that are not UTF-8, in Python surrogates, become U+FFFD.

    >>> valid_text("caf\\udce9.jpg")
    'caf\ufffd.jpg'
    """
    return _SURROGATES.sub("\ufffd", text)


def _with_valid_text(value: Any) -> Any:
    """The same plain value with `valid_text` in the place of each string."""
    if isinstance(value, str):
        return valid_text(value)
    if isinstance(value, dict):
        return {_with_valid_text(key): _with_valid_text(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_with_valid_text(inner) for inner in value]
    return value


def require_regular(path: Path) -> None:
    """Refuse what is there and is neither a file nor a folder: reading a named pipe would wait for a writer for ever.

    Raises:
        InputError: `path` is a named pipe, a socket or a device, or no file can have that name.
        OSError: there is nothing at `path`, or it cannot be looked at.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:
        raise InputError(f"{str(path)!r} holds a null character, which no file's name can have. Check it.") from error
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        kind = _SPECIAL.get(stat.S_IFMT(mode), "a device")
        raise InputError(f"{path} is {kind}; a file was expected. Copy its content into a file.")


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
        return json.loads(_read_text(Path(path)), object_hook=replace_object)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path} is not valid JSON ({error}). It may be cut short: copy or download it again."
        ) from error


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file.

    Raises:
        InputError: the file is missing, is not text, or is not YAML.
    """
    try:
        return yaml.safe_load(_read_text(Path(path)))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}). Mend the file.") from error


def _read_text(path: Path) -> str:
    """The text of a file in UTF-8; what is wrong with its content is left to the caller."""
    try:
        require_regular(path)
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Check that it is a file that you may read."
        ) from error


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another name.") from error


def _explain_full_disk(error: BaseException, path: Path) -> None:
    if isinstance(error, OSError) and is_disk_full(error):
        raise InputError(
            f"cannot write {path}: {error.strerror}. Free some space, or choose another folder."
        ) from error


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
