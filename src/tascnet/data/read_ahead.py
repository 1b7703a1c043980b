"""Paths of pictures -> pictures, decoded in threads before they are asked for."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from torch import Tensor

from tascnet.data.images import read_image
from tascnet.errors import InputError

READERS = 2
"""Threads that decode; Pillow lets others run meanwhile."""


def read_ahead(
    paths: Iterable[Path], ahead: int, read: Callable[[Path], Tensor] = read_image
) -> Iterator[Tensor | InputError]:
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
    with ThreadPoolExecutor(READERS, thread_name_prefix="read_ahead") as readers:
        try:
            for path in paths:
                waiting.append(readers.submit(_picture_or_error, path, read))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # the caller may stop before the end
            readers.shutdown(cancel_futures=True)


def _picture_or_error(path: Path, read: Callable[[Path], Tensor]) -> Tensor | InputError:
    try:
        return read(path)
    except InputError as error:
        return error
