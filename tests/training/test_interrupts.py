"""Signals are remembered within the block, and do what they always do outside of it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tascnet.training.interrupts import SAME_WISH, Interrupts


@pytest.fixture(autouse=True)
def _ctrl_c_as_on_a_terminal() -> Iterator[None]:
    """Whatever the tests were started from: a job in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_remembered(number: signal.Signals):
    before = signal.getsignal(number)
    told = []
    with Interrupts(then=lambda: told.append(1)) as interrupts:
        assert not interrupts.asked
        os.kill(os.getpid(), number)
        assert interrupts.asked
    assert told == [1]
    assert signal.getsignal(number) == before


def test_the_second_ctrl_c_ends_it():
    with Interrupts():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_sigterm_that_follows_at_once_changes_nothing():
    """A launcher passes on what the whole group has got."""
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.asked


STUCK = """
import multiprocessing, os, signal, sys, time
from tascnet.training.interrupts import Interrupts

def stuck():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

child = multiprocessing.get_context("fork").Process(target=stuck, daemon=True)
child.start()
with Interrupts():
    print(child.pid, flush=True)
    while True:
        time.sleep(1)
"""


def test_a_second_sigterm_ends_it_at_once_and_its_children():
    process = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    time.sleep(SAME_WISH + 0.5)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == -signal.SIGTERM
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and "Z" not in Path(f"/proc/{child}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
