"""What ends a training from outside is a sentence; a mistake of the program stays a traceback."""

import pytest
import torch

from tascnet.errors import InputError, Interrupted
from tascnet.files import UnwritableError
from tascnet.training.failures import ProcessLostError, explained


def explain(error: BaseException, processes: int = 1, asked: bool = False) -> None:
    with explained(lambda: "2 images of 64 x 128 pixels", processes, lambda: "Go on.", lambda: asked):
        raise error


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_no_memory(error: BaseException):
    with pytest.raises(InputError, match=r"memory ran out at a batch of 2 images of 64 x 128.*data.batch_size.*Go on."):
        explain(error)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("DataLoader worker (pid 12) is killed by signal: Killed. ", r"\(pid 12\) is killed by signal: Killed. If"),
        ("DataLoader worker (pid(s) 12, 13) exited unexpectedly", r"\(pid 12, 13\) exited unexpectedly. If"),
    ],
)
def test_a_worker_that_died(text: str, said: str):
    with pytest.raises(InputError, match=rf"a process that loads data {said}.*lower data.workers.*Go on."):
        explain(RuntimeError(text))


@pytest.mark.parametrize(
    "text", ["DataLoader worker (pid 12) is killed by signal: Terminated. ", "[gloo] Connection closed by peer"]
)
def test_a_process_that_died_because_all_were_asked_to_stop(text: str):
    with pytest.raises(Interrupted, match=r"^a process ended before the step was finished, which is not saved. Go on."):
        explain(RuntimeError(text), processes=2, asked=True)


def test_no_memory_is_told_though_it_was_asked_to_stop():
    with pytest.raises(InputError, match="memory ran out"):
        explain(MemoryError(), asked=True)


LOST = RuntimeError("[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:5")


def test_another_process_that_died():
    with pytest.raises(ProcessLostError, match=r"another process of this training has ended .*Connection.*Go on."):
        explain(LOST, processes=2)


@pytest.mark.parametrize("error", [LOST, RuntimeError("shapes differ"), TypeError("gloo")])
def test_a_mistake_of_the_program_stays_one(error: BaseException):
    with pytest.raises(type(error)) as raised:
        explain(error)
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("DataLoader timed out after 300 seconds"), r"no batch has come for 300 seconds.*data.workers"),
        (
            RuntimeError("DataLoader worker (pid 12) is killed by signal: Bus error. It is possible that"),
            r"/dev/shm\) is full.*data.workers",
        ),
        (OSError(28, "No space left on device"), r"no space is left.*/dev/shm.*data.workers"),
        (UnwritableError("cannot write x: No space left on device."), r"cannot write x: No space left on device."),
    ],
)
def test_no_space_and_no_batch(error: Exception, said: str):
    with pytest.raises(InputError, match=rf"{said}.*Go on."):
        explain(error)


def test_other_errors_of_the_system_stay_what_they_are():
    with pytest.raises(FileNotFoundError):
        explain(FileNotFoundError(2, "No such file"))
