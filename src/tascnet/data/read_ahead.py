"""Paths of pictures -> pictures, decoded in threads before they are asked for."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import current_thread

from torch import Tensor

from tascnet.data.images import read_image
from tascnet.errors import InputError

READERS = 2
"""Threads that decode; Pillow lets others run meanwhile."""

_THREADS = "read_ahead"

_THREADS = "read_ahead"


def read_ahead(
    paths: Iterable[Path], ahead: int, read: Callable[[Path], Tensor] = read_image
) -> Generator[Tensor | InputError, None, None]:
    """Read pictures in the order of their paths, `ahead` of them before they are asked for.

    However many paths there are, at most `ahead` + 1 pictures are held here. Nothing is read before the first is
    asked for.

    Args:
        paths: of picture files.
        ahead: number of pictures, at least 1.
        read: reads one.

    Yields:
        Each picture, (3, H, W) uint8, or why there is none.
    """
    waiting: deque[Future[Tensor | InputError]] = deque()
    readers = ThreadPoolExecutor(READERS, thread_name_prefix=_THREADS)
    try:
        for path in paths:
            waiting.append(readers.submit(_picture_or_error, path, read))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        # The caller may stop before the end. The garbage collector may then clear this generator away, and it runs in
        # any thread, one of the readers too; a thread cannot wait for itself.
        is_reader = current_thread().name.startswith(_THREADS)
        readers.shutdown(wait=not is_reader, cancel_futures=True)


def _picture_or_error(path: Path, read: Callable[[Path], Tensor]) -> Tensor | InputError:
    try:
        return read(path)
    except InputError as error:
        return error
