"""Several processes of one training on this machine, started and watched."""

import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from torch import multiprocessing
from torch.multiprocessing.spawn import ProcessContext, ProcessExitedException, ProcessRaisedException

from tascnet.errors import InputError, Interrupted
from tascnet.place import interrupts_ignored
from tascnet.progress import SILENT, Observer
from tascnet.training.failures import ProcessLostError
from tascnet.training.interrupts import Interrupts

T = TypeVar("T")

GRACE = 20
"""Seconds that the others are given to end after one has died; then they are killed."""


def start(function: Callable[..., T], arguments: tuple[Any, ...], number: int, observer: Observer = SILENT) -> T:
    """Call a function in several processes at once, each knowing its place; return what process 0 gets from it.

    Args:
        function: of a module, because it is sent to new processes.
        arguments: of the function; an observer follows them.
        number: of processes.
        observer: receives messages and progress of process 0, to which it is sent: it must be possible to pickle it.
            Those of the others are ignored.

    Raises:
        InputError: one of them raised it, or died; the others are ended.
        Interrupted: they were asked to stop, and did.
    """
    answers = get_context("spawn").SimpleQueue()
    with interrupts_ignored():
        context = multiprocessing.start_processes(
            _run,
            (function, arguments, number, observer, _free_port(), answers),
            number,
            join=False,
            start_method="spawn",
        )
    received: list[Any] = []
    with Interrupts(then=lambda: _pass_on(context)) as interrupts:
        try:
            while not context.join(timeout=0.2, grace_period=GRACE):
                _receive(answers, received)
        except (ProcessExitedException, ProcessRaisedException) as error:
            _receive(answers, received)
            raise _cause(error, received, number, interrupts.asked) from error
    _receive(answers, received)
    (result,) = received
    return result


def _run(
    process: int,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    number: int,
    observer: Observer,
    port: int,
    answers: Any,
) -> None:
    """One of the processes."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # it comes from a terminal, too, and when the starting process dies
    places = {"RANK": process, "LOCAL_RANK": process, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
    os.environ |= {name: str(value) for name, value in places.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, torch.get_num_threads() // number))
    try:
        result = function(*arguments, observer if process == 0 else SILENT)
    except (InputError, Interrupted) as error:
        answers.put(error)
        sys.exit(1)
    if process == 0:
        answers.put(result)


def _receive(answers: Any, received: list[Any]) -> None:
    """Empty the queue: a process ends only when its answer has been taken."""
    while not answers.empty():
        received.append(answers.get())


def _cause(
    error: ProcessExitedException | ProcessRaisedException, received: list[Any], number: int, asked: bool
) -> BaseException:
    """What to tell: the error of a process, unless it only noticed the end of another, or was asked to end."""
    errors = [answer for answer in received if isinstance(answer, InputError | Interrupted)]
    told = [answer for answer in errors if not isinstance(answer, ProcessLostError)]
    if told:
        return told[0]
    if asked and isinstance(error, ProcessExitedException) and error.signal_name in ("SIGTERM", "SIGINT"):
        return Interrupted("the processes were about to begin, and have taken no step. Start them again.")
    if isinstance(error, ProcessExitedException) and error.signal_name:
        how = f"process {error.error_index} of {number} was ended by {error.signal_name}; the others have ended, too."
        return InputError(" ".join([how, *(str(lost).split("). ", 1)[-1] for lost in errors[:1])]))
    return errors[0] if errors else error


def _pass_on(context: ProcessContext) -> None:
    for process in context.processes:
        if process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
