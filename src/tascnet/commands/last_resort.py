"""Errors that nothing has explained -> a sentence on the screen, and the details in a log file.

Standard output that breaks (a full disk, a reader that has left) does not end the work of a command either.
"""

import io
import os
import platform
import shlex
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from errno import EPIPE
from pathlib import Path
from typing import Any, TextIO

from tascnet.errors import sentence_of

TRACKER_IS_SILENT = "ignore::UserWarning:multiprocessing.resource_tracker"
"""The filter of Python's warnings, as PYTHONWARNINGS takes it."""

MAX_LOGS = 20
"""Log files that are kept; the oldest make room."""


def complain(text: str) -> None:
    """Print one line for the user on standard error; where that is closed or full, nothing.

    Characters that would steer the terminal, as names of files may hold them, are printed as escapes.
    """
    if sys.stderr is None:
        return
    visible = "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)
    with suppress(OSError, ValueError):
        print(f"tascnet: {visible}", file=sys.stderr, flush=True)


def report(error: BaseException, arguments: Sequence[str]) -> None:
    """Print an unexplained error as a sentence, and keep its details in a log file that the sentence names."""
    log = keep_details(error, arguments)
    where = f"The details are in {log}." if log else "The details could not be kept: no folder can be written to."
    complain(f"error: {sentence_of(error)} {where}")


def keep_details(error: BaseException, arguments: Sequence[str]) -> Path | None:
    """Write the traceback of an error, the command and the versions into a new log file.

    Returns:
        The file: in `tascnet/errors` of XDG_STATE_HOME (by default ~/.local/state), else in the folder for temporary
        files; None where neither can be written to.
    """
    try:
        text = _details(error, arguments)
    except Exception:  # no memory, for instance
        text = f"{type(error).__name__}\n"
    for folder in (_state_folder(), Path(tempfile.gettempdir())):
        if folder is not None and (path := _written(folder, text)):
            return path
    return None


def _state_folder() -> Path | None:
    """The user's own folder for logs, made where missing; None where there is none."""
    try:
        state = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser()
        folder = state / "tascnet" / "errors"
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.log"))[: 1 - MAX_LOGS]:  # names begin with the time
            old.unlink()
    except (OSError, RuntimeError):  # RuntimeError: no home
        return None
    return folder


def _written(folder: Path, text: str) -> Path | None:
    """A new file, which only its owner may read; None where it cannot be written."""
    prefix = time.strftime("tascnet-%Y%m%d-%H%M%S-")
    try:
        handle, name = tempfile.mkstemp(prefix=prefix, suffix=".log", dir=folder)
    except OSError:
        return None
    try:
        with open(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        return None
    return Path(name)


def _details(error: BaseException, arguments: Sequence[str]) -> str:
    modules = {name: getattr(sys.modules.get(name), "__version__", None) for name in ("torch", "torchvision", "PIL")}
    facts = {
        "time": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": shlex.join(["tascnet", *arguments]),
        "python": f"{platform.python_version()} on {platform.platform()}",
        "loaded": ", ".join(f"{name} {version}" for name, version in modules.items() if version),
    }
    lines = "".join(f"{name}: {value}\n" for name, value in facts.items())
    return f"{lines}\n{''.join(traceback.format_exception(error))}"


def watch_threads(arguments: Sequence[str]) -> None:
    """From now on, errors in threads, in finalizers and at exit are noted in a log file instead of on the screen.

    For the process of a command only: the hooks of the interpreter stay replaced until it ends, and the processes that
    it starts inherit its filter of warnings.
    """

    def note(error: BaseException | None, where: str) -> None:
        if error is None or isinstance(error, SystemExit | KeyboardInterrupt):
            return
        log = keep_details(error, arguments)
        complain(f"warning: an error {where} did not end the command. Details: {log or 'could not be kept'}.")

    def in_thread(caught: threading.ExceptHookArgs) -> None:
        note(caught.exc_value, "in a thread")

    def in_finalizer(caught: "sys.UnraisableHookArgs") -> None:
        note(caught.exc_value, "while something was cleared away")

    threading.excepthook = in_thread
    sys.unraisablehook = in_finalizer
    # of damaged metadata in a photo, which is read all the same; at most two lines of Python code would be shown
    warnings.filterwarnings("ignore", module=r"PIL\.")
    # where a worker was killed, the tracker (a process of its own) warns of what it cleans up; the error says enough
    os.environ.setdefault("PYTHONWARNINGS", TRACKER_IS_SILENT)


class _Patient(io.RawIOBase):
    """A raw stream that remembers the first failure of another one, and from then on drops what is written."""

    def __init__(self, raw: Any):
        self._raw = raw
        self.failure: OSError | None = None

    def write(self, data: Any) -> int | None:
        """Hand on; once that has failed, drop."""
        if self.failure is None:
            try:
                return self._raw.write(data)
            except OSError as error:
                self.failure = error
        return memoryview(data).nbytes

    def writable(self) -> bool:
        """As a stream that is only written to."""
        return True

    def fileno(self) -> int:
        """Of the other stream."""
        return self._raw.fileno()

    def isatty(self) -> bool:
        """As the other stream."""
        return self._raw.isatty()


class Output:
    """How standard output fared while a command ran."""

    def __init__(self) -> None:
        self._stream: _Patient | None = None

    def failure(self) -> OSError | None:
        """Why something could not be written; None where nothing is lost, or where the reader wanted no more."""
        error = self._stream.failure if self._stream is not None else None
        return None if error is None or error.errno == EPIPE else error

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """While the block runs, writing to standard output and standard error cannot fail.

        The files that a command writes are worth more than what it prints: it continues where the reader of a pipe has
        left or the disk behind `>` is full. Names of files that the encoding lacks are printed as escapes.
        """
        out, err = sys.stdout, sys.stderr
        try:
            sys.stdout, self._stream = _patient(out)
            sys.stderr, _ = _patient(err)
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):  # AttributeError: closed, so None
                    stream.flush()
            sys.stdout, sys.stderr = out, err


def _patient(stream: TextIO) -> tuple[TextIO, _Patient | None]:
    """The same text stream on a `_Patient`; itself where there is no file behind it."""
    try:
        stream.flush()
        stream.fileno()
        raw = getattr(stream.buffer, "raw", stream.buffer)
    except (AttributeError, OSError, ValueError):
        return stream, None
    patient = _Patient(raw)
    wrapped = io.TextIOWrapper(
        io.BufferedWriter(patient),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=getattr(stream, "line_buffering", True),
        write_through=getattr(stream, "write_through", False),
    )
    return wrapped, patient
