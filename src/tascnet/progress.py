"""Progress of long jobs: messages and jobs of known length, for whoever wants to show them."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Job(Protocol):
    """A running job of known length."""

    def update(self, done: int, note: str = "", seconds_left: float | None = None) -> None:
        """Report that `done` parts are finished.

        Args:
            done: number of finished parts.
            note: figures that belong to this point of the job; may have several lines.
            seconds_left: seconds until the end, where the job has an estimate of its own.
        """

    def move(self, done: int) -> None:
        """Report that `done` parts are finished, and keep the note."""


class Observer(Protocol):
    """Receiver of messages and progress; the command line has one that prints, `SILENT` ignores everything."""

    def message(self, text: str) -> None:
        """Receive one message, which may have several lines."""

    def job(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Job]:
        """Open a job of `total` parts, `done` of which are finished; it ends with the context."""


class _SilentJob:
    def update(self, done: int, note: str = "", seconds_left: float | None = None) -> None:
        pass

    def move(self, done: int) -> None:
        pass


class _Silent:
    def message(self, text: str) -> None:
        pass

    def job(self, name: str, total: int, done: int = 0) -> AbstractContextManager[Job]:
        return nullcontext(_SilentJob())


SILENT: Observer = _Silent()
"""Ignores all messages and progress."""
