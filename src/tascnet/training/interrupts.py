"""Ctrl-C and SIGTERM -> a wish to stop, which the loop grants between two steps."""

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupts:
    """Within the block, Ctrl-C and SIGTERM are remembered; a second Ctrl-C ends the process as ever.

    Attributes:
        asked: whether one of them has come.
    """

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        """Nothing changes before the block is entered; `then` is called when a signal comes."""
        self.asked = False
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
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        self._then()
