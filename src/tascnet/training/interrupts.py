"""Ctrl-C and SIGTERM -> a wish to stop, which the loop grants between two steps."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)

SAME_WISH = 1.0
"""Seconds within which a SIGTERM repeats the first signal: a launcher passes on what the whole group has got."""


class Interrupts:
    """Within the block, Ctrl-C and SIGTERM are remembered; a second one ends the process, whatever it waits for.

    Attributes:
        asked: whether one of them has come.
    """

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        """Nothing changes before the block is entered; `then` is called when a signal comes."""
        self.asked, self._since = False, 0.0
        self._then = then
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        repeated = self.asked
        if not repeated:
            self.asked, self._since = True, time.monotonic()
        self._then()
        if repeated and number == signal.SIGINT:
            raise KeyboardInterrupt
        if repeated and time.monotonic() - self._since > SAME_WISH:
            _end_at_once()


def _end_at_once() -> None:
    """End this process by SIGTERM, and its children, which may be stuck, by SIGKILL. Checkpoints are whole anyway."""
    if hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler would raise an error here
    for child in multiprocessing.active_children():
        child.kill()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
