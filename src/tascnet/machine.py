"""Errors of the machine -> sentences: no memory, a full disk, too many open files."""

import errno
import traceback

from tascnet.errors import InputError, shorten

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
    """An error that nothing has explained, as a sentence or two for a person: what happened and what to do."""
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
