"""Writing files so that a reader never meets half of one."""

import errno
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

UNFINISHED = ".writing-"
"""How the names of folders begin that are not complete, or are on their way out."""

_DISK_TROUBLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS}
"""Full disk, full quota, largest size of a file, broken disk, disk that has become read-only."""


class UnwritableError(InputError):
    """A file cannot be written (a full disk, mostly); the message names the file and the reason."""


def unwritable(path: str | Path, error: OSError) -> UnwritableError:
    """The error that names a file which cannot be written."""
    return UnwritableError(f"cannot write {path}: {error.strerror or error}. Check permission and free space.")


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
        temporary = Path(name)
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # now less what the umask forbids
        mode = temporary.stat().st_mode & 0o777
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}. Choose a folder that you may write to."
        ) from error
    try:
        yield temporary
        _flush_to_disk(temporary)
        temporary.chmod(mode)  # some writers put another file in its place
        _rename(temporary, path)
    except OSError as error:
        with suppress(FileNotFoundError):
            temporary.unlink()
        if error.errno in _DISK_TROUBLE:
            raise unwritable(path, error) from error
        raise
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
        InputError: the folder above cannot be made or written to, or the disk is full.
    """
    path = Path(path)
    make_folder(path.parent)
    try:
        temporary = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=path.parent))
        temporary.rmdir()
        temporary.mkdir()  # now less what the umask forbids
        mode = temporary.stat().st_mode & 0o666
    except OSError as error:
        raise InputError(
            f"cannot write in {path.parent}: {error.strerror}. Choose a folder that you may write to."
        ) from error
    try:
        yield temporary
        for file in temporary.iterdir():
            _flush_to_disk(file)
            file.chmod(mode)
        if path.is_symlink():
            path.unlink()  # the folder that it leads to lies elsewhere, and stays
        elif path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
        _flush_to_disk(path.parent)  # the new name, too
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if error.errno in _DISK_TROUBLE:
            raise unwritable(path, error) from error
        raise
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
        return json.loads(_read_text(Path(path)), object_hook=replace_object)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, a number of 5000 digits; brackets in brackets
        if isinstance(error, InputError):
            raise
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
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}). Mend the file.") from error


def _read_text(path: Path) -> str:
    """The text of a file in UTF-8; what is wrong with its content is left to the caller."""
    try:
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


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
