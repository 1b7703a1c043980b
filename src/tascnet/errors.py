"""User-facing errors: printed as one message, exit code 2; and the messages of errors of the machine."""

import errno
import re
import traceback
from itertools import islice

MAX_MESSAGE = 2000
"""Characters of a message that are kept; a longer one loses its middle."""

_MOST_ENTRIES = 6  # of a list or a group, in a message

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, colour it, turn the direction of its text, or cannot be encoded: control
characters but for tabs and line feeds, marks of bidirectional text (Unicode's UAX 9), and halves of surrogate pairs."""


class InputError(ValueError):
    """A file, a folder or a setting of the user that cannot be used.

    The message is one sentence or two: the file or setting, what was found, what was wanted, what to do.
    The command line prints it and exits with code 2; in Python it is a `ValueError`. Control characters in it, which a
    file may have brought, are escaped, and its length is bounded.
    """

    def __init__(self, text: object = ""):
        super().__init__(shorten(escape_controls(str(text)), MAX_MESSAGE))


class Interrupted(KeyboardInterrupt):
    """A long job has stopped in good order on request; the message explains how to resume it."""


def escape_controls(text: str) -> str:
    """The text with control characters written out, as "\\x1b" for that which begins a terminal's commands."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def shorten(text: str, most: int = 200) -> str:
    """A text of a file for a message: whole, or its beginning and its end with an ellipsis between them."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 5]} ... {text[-end:]}"


def shown(value: object, most: int = 80) -> str:
    """A value of a file for a message: as Python writes it, but never whole if it is long, deep or a huge number.

    Args:
        value: plain values of JSON or YAML, however large or nested.
        most: characters of the result.
    """
    return shorten(escape_controls(_written(value, most, depth=3)), most)


def _written(value: object, most: int, depth: int) -> str:
    """Like `repr`, without looking at more of the value than can be shown."""
    if isinstance(value, str | bytes):
        return repr(value[:most]) if len(value) <= most else repr(value[:most])[:-1]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of about {round(value.bit_length() * 0.30103):,} digits"
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return repr(value)
    opening, closing = ("{", "}") if isinstance(value, dict | set | frozenset) else ("[", "]")
    if isinstance(value, tuple):
        opening, closing = "(", ")"
    if not value or depth == 0:
        return opening + ("..." if value else "") + closing
    if isinstance(value, dict):
        texts = [
            f"{_written(key, most, 0)}: {_written(entry, most, depth - 1)}"
            for key, entry in islice(value.items(), _MOST_ENTRIES)
        ]
    else:
        texts = [_written(entry, most, depth - 1) for entry in islice(value, _MOST_ENTRIES)]
    return opening + ", ".join(texts) + (", ..." if len(value) > _MOST_ENTRIES else "") + closing


# ---- errors of the machine

_NO_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "not enough memory",
    "bad_alloc",
    "bad allocation",
    "ALLOC_FAILED",  # cuBLAS, cuDNN
    "failed to map segment",  # a library as it is loaded
)
"""Parts of the messages of PyTorch, of C++, of the CUDA libraries and of the loader of libraries."""

_DISK_FULL = {errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, *([errno.EDQUOT] if hasattr(errno, "EDQUOT") else [])}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_NO_HANDLES = {errno.EMFILE, errno.ENFILE}


class MemoryShortError(InputError, MemoryError):
    """Memory ran out over one image; others may fit."""


def is_no_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, of the CPU or of a GPU."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    return isinstance(error, RuntimeError | OSError | ImportError) and any(words in str(error) for words in _NO_MEMORY)


def is_disk_full(error: BaseException) -> bool:
    """Whether an error means that a file could not grow: the disk, a quota or a limit of its size is full, or the disk
    is broken or has become read-only.
    """
    return isinstance(error, OSError) and error.errno in _DISK_FULL


def is_forbidden(error: BaseException) -> bool:
    """Whether an error means that a file or folder may not be read or written, or that its name leads nowhere."""
    return isinstance(error, OSError) and error.errno in _FORBIDDEN and error.filename is not None


def sentence_of(error: BaseException) -> str:
    """One or two sentences about an unexpected error: the cause, and the next step."""
    if is_no_memory(error):
        return "memory ran out. Close other programs, or use smaller images, a smaller batch or fewer worker processes."
    if isinstance(error, OSError):
        return _sentence_of_system_error(error)
    if isinstance(error, RecursionError):
        return "something in the input is nested too deeply to be read. Check the files."
    text = " ".join(traceback.format_exception_only(error)[-1].split())
    return f"an unexpected error, {text[:300].rstrip('.')}. This is a fault of the program: please report it."


def _sentence_of_system_error(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    if is_disk_full(error):
        return f"cannot write {error.filename or 'a file'}: {reason}. Free some space, or choose another folder."
    if error.errno in _NO_HANDLES:
        return f"{reason}. Raise the limit (ulimit -n), or use fewer worker processes."
    if error.filename is None:
        return f"the system reports: {reason}. Check the disks and the memory of this machine."
    return f"cannot use {shorten(str(error.filename))}: {reason}. Check the path and its permissions."
