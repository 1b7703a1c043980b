"""The lock of a run folder: one holder at a time, named to the others, and free as soon as its process is gone."""

import json
import os
import pickle
import platform
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tascnet.errors import InputError
from tascnet.runs.lock import HOLDER, LOCK, RunLock

HOLD = """
import os, sys, time
from pathlib import Path
from tascnet.runs.lock import RunLock
lock = RunLock(Path(sys.argv[1]))
lock.acquire("tascnet train --config theirs.yaml")
if sys.argv[2:]:
    up, started = os.pipe()
    if os.fork() == 0:  # a process that loads data
        os.write(started, b"!")  # only now has it run what Python runs in a new child
        os.closerange(1, 3)
        time.sleep(30)
        os._exit(0)  # not on to the pipe, where it would wait for ever
    os.read(up, 1)
print("locked", flush=True)
time.sleep(60)
"""


def holder(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, *arguments], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    return process


def test_another_process_is_named(tmp_path: Path):
    process = holder(tmp_path)
    with pytest.raises(InputError) as error:
        RunLock(tmp_path).acquire("ours")
    process.kill()
    process.wait()
    for part in (tmp_path, f"process {process.pid} on {platform.node()}", "tascnet train --config theirs.yaml"):
        assert str(part) in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_that_of_a_dead_process_is_taken_over(tmp_path: Path, number: signal.Signals):
    process = holder(tmp_path)
    process.send_signal(number)
    process.wait()
    assert (tmp_path / HOLDER).exists()  # it had no time to remove it
    lock = RunLock(tmp_path)
    lock.acquire("ours")
    assert str(os.getpid()) in (tmp_path / HOLDER).read_text()
    lock.release()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_its_children_do_not_keep_it(tmp_path: Path):
    process = holder(tmp_path, "with a child")
    process.kill()
    process.wait()
    RunLock(tmp_path).acquire("ours")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"process": "x", "host": 1}', "\0\0", "9" * 5000])
def test_a_holder_that_cannot_be_read(tmp_path: Path, content: str):
    lock = RunLock(tmp_path)
    lock.acquire("first")
    (tmp_path / HOLDER).write_text(content)
    with pytest.raises(InputError, match="another process trains in it"):
        RunLock(tmp_path).acquire("second")
    lock.release()


@pytest.mark.parametrize("content", ["", "4711", "\0"])
def test_files_alone_lock_nothing(tmp_path: Path, content: str):
    """A folder may be a copy of one that was in use."""
    (tmp_path / LOCK).write_text(content)
    (tmp_path / HOLDER).write_text('{"process": 1, "host": "elsewhere", "user": "x", "since": "y", "command": "z"}')
    RunLock(tmp_path).acquire("ours")


def test_it_is_free_again_after_release(tmp_path: Path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.acquire("first")
    first.acquire("first")  # it is held already
    second.release()  # not by this one
    with pytest.raises(InputError, match="in use"):
        second.acquire("second")
    first.release()
    assert not (tmp_path / HOLDER).exists()
    second.acquire("second")
    second.release()


def test_a_copy_in_another_process_does_not_hold_it(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire("first")
    copied = pickle.loads(pickle.dumps(lock))
    copied.release()
    with pytest.raises(InputError, match="in use"):
        copied.acquire("second")
    lock.release()


def test_a_folder_that_cannot_be_written_to(tmp_path: Path):
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match="cannot be locked"):
        RunLock(tmp_path).acquire("ours")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_dead_process_is_waited_for(tmp_path: Path):
    """It keeps the lock for the instant between its birth and its first step, which a busy machine makes long."""
    holder_of_it = RunLock(tmp_path)
    holder_of_it.acquire("theirs")
    facts = json.loads((tmp_path / HOLDER).read_text())
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    (tmp_path / HOLDER).write_text(json.dumps(facts | {"process": dead.pid}))
    threading.Timer(1.5, holder_of_it.release).start()
    RunLock(tmp_path).acquire("ours")
    assert not holder_of_it.is_held


def test_waits_for_nothing(tmp_path: Path):
    lock = RunLock(tmp_path)
    lock.acquire("first")
    started = time.monotonic()
    with pytest.raises(InputError):
        RunLock(tmp_path).acquire("second")
    assert time.monotonic() - started < 5
    lock.release()
