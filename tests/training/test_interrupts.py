"""Signals are remembered within the block, and do what they always do outside of it."""

import os
import signal
from collections.abc import Iterator

import pytest

from tascnet.training.interrupts import Interrupts


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


def test_more_sigterms_change_nothing():
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.asked
