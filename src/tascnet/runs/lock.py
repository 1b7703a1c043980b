"""The lock of a run folder: one training at a time writes in it.

The operating system holds the lock on running.lock for the life of the process, so that of a killed process is free
at once, on network drives as soon as the server notices. running.json names the holder; without the lock it means
nothing.
"""

import getpass
import os
import platform
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tascnet.errors import InputError
from tascnet.files import read_json, write_json
from tascnet.runs.state import may_be_alive

LOCK = "running.lock"
HOLDER = "running.json"
GRACE = 20
"""Seconds: so long may children of a dead process keep the lock, which they had from it for an instant."""


class RunLock:
    """The lock of one run folder. A copy in another process does not hold it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._lock: FileLock | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_lock": None}

    @property
    def is_held(self) -> bool:
        """Whether this object holds the lock."""
        return self._lock is not None

    def acquire(self, command: str) -> None:
        """Take the lock, or keep it.

        Args:
            command: what the user called; whoever comes second reads it.

        Raises:
            InputError: another training holds it, or the file cannot be written.
        """
        if self._lock is not None:
            return
        lock = FileLock(self.folder / LOCK, timeout=0)
        try:
            self._take(lock)
        except Timeout as error:
            raise InputError(
                f"{self.folder} is in use: {self._holder()} trains in it. Wait until it has ended, or stop it, or "
                f"choose another --output. If its machine is gone, delete {self.folder / LOCK}."
            ) from error
        except (OSError, NotImplementedError) as error:
            raise InputError(
                f"{self.folder / LOCK} cannot be locked: {error}. Choose a folder that you may write to."
            ) from error
        self._lock = lock
        try:
            write_json(self.folder / HOLDER, _this_process(command), indent=1)
        except BaseException:
            self.release()
            raise

    def _take(self, lock: FileLock) -> None:
        """Take the lock at once; or soon, where its holder is dead and a child of it has yet to notice.

        Raises:
            Timeout: another process holds it.
        """
        try:
            lock.acquire()
        except Timeout:
            facts = self._facts()
            here = facts.get("host") == platform.node()
            if not here or may_be_alive(int(facts["process"])):
                raise
            lock.acquire(timeout=GRACE)

    def release(self) -> None:
        """Let others in; does nothing where the lock is not held."""
        if self._lock is None:
            return
        with suppress(OSError):
            (self.folder / HOLDER).unlink()
        self._lock.release()
        self._lock = None

    def _holder(self) -> str:
        """Who holds the lock, as far as it has said so."""
        facts = self._facts()
        if not facts:
            return "another process"
        where = f"process {facts['process']} on {facts['host']}"
        return f"{where} ({facts['user']}, since {facts['since']}: {facts['command']})"

    def _facts(self) -> dict[str, Any]:
        """All facts about the holder; empty where they cannot be read."""
        try:
            facts = read_json(self.folder / HOLDER)
            return {name: facts[name] for name in ("host", "user", "since", "command")} | {
                "process": int(facts["process"])
            }
        except (InputError, KeyError, TypeError, ValueError, OverflowError):
            return {}


def _this_process(command: str) -> dict[str, str | int]:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):  # a number without a name, as in containers
        user = "a user without a name"
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"host": platform.node(), "process": os.getpid(), "user": user, "since": since, "command": command}
