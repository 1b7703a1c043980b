"""Files written so that a reader never meets half of one; JSON and YAML read so that no content does harm."""

import codecs
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NoReturn

import yaml

from tascnet.errors import InputError, is_disk_full, shown

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

Nan = Literal["refuse", "null", "keep"]
"""Treatment of NaN and Infinity, which are no JSON."""

UNFINISHED = ".writing-"
"""How the names of folders begin that are not complete, or are on their way out."""

MAX_DEPTH = 100
"""Levels of nesting that a YAML file may have; settings and lists of categories have fewer than ten."""

MAX_YAML_BYTES = 16 * 10**6
"""Size of a YAML file, bytes; 100,000 categories have about 5 million."""

MAX_ALIASED = 10_000
"""Entries that the aliases of a YAML file may add; ten lists of nine aliases each stand for 3 billion."""

MAX_SCALAR = 100_000
"""Characters of one entry in a YAML file: reading takes time with the square of a long number's digits."""

MAX_BITS = 1000
"""Size of an integer in a YAML file; a larger one could not even become a float."""

_SAFE_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # PyYAML is also built without libyaml
_SURROGATES = re.compile("[\ud800-\udfff]")
_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket"}


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


def at_home(path: str | Path) -> Path:
    """Replace the "~" or "~user" with which a path begins by that home folder, as a shell does where it is not quoted.

    The path stays as it is where something of that very name is there, or where there is no such home.
    """
    path = Path(path)
    try:
        return path if path.exists() else path.expanduser()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: no such user
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


def read_json(
    path: str | Path, replace_object: Callable[[dict[str, Any]], Any] | None = None, nan: Nan = "refuse"
) -> Any:
    """Read a JSON file.

    Args:
        path: the file, in UTF-8.
        replace_object: called with each object as soon as it is read, inner ones first; what it returns takes the
            object's place. It keeps the whole of a large file from being held as Python objects.
        nan: NaN and Infinity, which pandas writes where a value is missing, are an error, become None, or are kept for
            a caller that checks all values.

    Raises:
        InputError: the file is missing, is not text, or is not JSON (cut short, for instance).
    """
    return parse_json(read_text(path, "JSON"), str(path), replace_object, nan)


def parse_json(
    text: str | bytes,
    name: str,
    replace_object: Callable[[dict[str, Any]], Any] | None = None,
    nan: Nan = "refuse",
) -> Any:
    """Read JSON; the one reader for all JSON that is not of this process.

    JSON has no NaN and Infinity, which Python writes and reads.

    Args:
        text: the JSON; bytes are in UTF-8.
        name: of its source, for the error.
        replace_object, nan: as in `read_json`.

    Raises:
        InputError: it is not JSON, is nested too deeply, or holds a number that is none or is too long.
    """

    def refuse(constant: str) -> NoReturn:
        raise InputError(f"{name} is not valid JSON: it holds {constant}. Write a number, or null where there is none.")

    try:
        constant = {"refuse": refuse, "null": _none, "keep": None}[nan]
        return json.loads(text, object_hook=replace_object, parse_constant=constant)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name} is not valid JSON ({error}). It may be cut short: copy or download it again."
        ) from error
    except RecursionError as error:
        raise InputError(f"{name} is not valid JSON here: its brackets are nested too deeply. Correct it.") from error
    except InputError:
        raise
    except ValueError as error:  # of int: more digits than Python converts
        raise InputError(
            f"{name} is not valid JSON here: it holds a number of thousands of digits. Correct it."
        ) from error


def _none(constant: str) -> None:
    """In the place of NaN."""


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file: plain values only, with bounds on nesting and on what aliases multiply.

    Raises:
        InputError: the file is missing, is not text, is not YAML, or is beyond the bounds of this module.
    """
    path = Path(path)
    text = read_text(path, "YAML", MAX_YAML_BYTES)
    try:
        _check_events(yaml.parse(text, Loader=_SAFE_LOADER), path)
        return yaml.load(text, Loader=_Loader)
    except InputError:
        raise
    except (yaml.YAMLError, RecursionError) as error:
        raise InputError(f"{path} is not valid YAML ({' '.join(str(error).split())}). Correct the file.") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:  # as PyYAML raises them
        raise InputError(
            f"{path} is not valid YAML: it holds a value that is not of its type, such as the date 2024-99-99 or a "
            f"number of thousands of digits ({error}). Correct it, or write text in quotes."
        ) from error


class _Loader(_SAFE_LOADER):  # type: ignore[misc]  # one of two classes, by what is installed
    """PyYAML's safe loader, with a bound on integers."""


def _bounded_int(loader: Any, node: yaml.Node) -> int:
    value: int = loader.construct_yaml_int(node)
    if value.bit_length() > MAX_BITS:
        raise ValueError(shown(value))
    return value


_Loader.add_constructor("tag:yaml.org,2002:int", _bounded_int)


def _check_events(events: Iterable[yaml.Event], path: Path) -> None:
    """Check the nesting of a YAML file and the size of what its aliases stand for, before any of it is built."""
    entries = aliased = 0
    sizes: dict[str, int] = {}  # anchor -> entries of its value, those of aliases in it included
    containers: list[tuple[str | None, int]] = []  # anchor, entries before it
    for event in events:
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in containers):
                raise InputError(f"{path}: the value of &{event.anchor} contains itself. Correct the file.")
            size = sizes.get(str(event.anchor), 0)
            entries, aliased = entries + size, aliased + size
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = containers.pop()
            if anchor:
                sizes[anchor] = entries - before
        elif isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.CollectionStartEvent):
                containers.append((event.anchor, entries))
            elif event.anchor:
                sizes[event.anchor] = 1
            entries += 1
        if len(containers) > MAX_DEPTH:
            raise InputError(f"{path} is nested more than {MAX_DEPTH} levels deep. Correct the file.")
        if aliased > MAX_ALIASED:
            raise InputError(
                f"{path}: its aliases (*name) stand for more than {MAX_ALIASED:,} entries. Write them without aliases."
            )
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_SCALAR:
            raise InputError(
                f"{path} holds an entry of {len(event.value):,} characters ({shown(event.value)}), more than "
                f"{MAX_SCALAR:,}. Correct the file."
            )


def read_text(path: str | Path, kind: str = "text", most_bytes: int | None = None) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark, which is not part of the text.

    Args:
        path: the file.
        kind: the format that is expected, for the error.
        most_bytes: size up to which it is read; None for no bound.

    Raises:
        InputError: the file is missing, cannot be read, is too large, an archive, a pipe, or in another encoding.
    """
    path = Path(path)
    try:
        require_regular(path)
        if most_bytes is not None and path.stat().st_size > most_bytes:
            raise InputError(
                f"{path} has {path.stat().st_size:,} bytes, more than the {most_bytes:,} of any {kind} file that is "
                "read here. Give another file."
            )
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror}. Check that it is a file that you may read."
        ) from error
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        raise _not_text(path, kind, content, f"byte {error.start} cannot be read") from error
    if "\0" in text:
        raise _not_text(path, kind, content, "it holds zero bytes")
    return text


def archive_kind(head: bytes) -> str:
    """The kind of archive that begins with these bytes, 262 of them or more; empty where it is none."""
    if head[257:262] == b"ustar":
        return "tar"
    return next((kind for start, kind in _ARCHIVES.items() if head.startswith(start)), "")


def _not_text(path: Path, kind: str, content: bytes, why: str) -> InputError:
    """The error for bytes that are not text in an encoding that is read."""
    archive = archive_kind(content[:_HEAD])
    if archive:
        return InputError(f"{path} is an archive ({archive}). Unpack it, and give the file in it.")
    if content[:2].count(0) == 1:
        return InputError(f"{path} is not valid {kind}: it is text in UTF-16 without a mark. Save it in UTF-8.")
    return InputError(
        f"{path} is not valid {kind}: it is not text in UTF-8, {why}. It may be in another encoding, such as GBK, "
        "Shift JIS or Windows-1252, or not be text at all. Save it in UTF-8, or check the path."
    )


def _rename(temporary: Path, path: Path) -> None:
    try:
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}. Choose another name.") from error


def _explain_full_disk(error: BaseException, path: Path) -> None:
    if isinstance(error, OSError) and is_disk_full(error):
        raise unwritable(path, error) from error


def _flush_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
