"""Time and peak memory of one call, each in a process of its own so that nothing is warmed up or kept by another."""

import ctypes
import gc
import multiprocessing
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

Call = Callable[[], torch.Tensor]


class Cost(NamedTuple):
    """What a call costs.

    Attributes:
        milliseconds: the best of several runs.
        megabytes: 10**6 bytes of resident memory at the peak of the first run, above what was held before it.
        result: what it gave.
    """

    milliseconds: float
    megabytes: float
    result: np.ndarray


def measure(prepare: Callable[..., Call], arguments: tuple[Any, ...], small: tuple[Any, ...], repeats: int = 5) -> Cost:
    """Measure the call that `prepare(*arguments)` returns.

    Args:
        prepare: a function of a module (it is sent to the new process); makes the inputs, returns the call.
        arguments: of `prepare`.
        small: arguments for a small call that loads libraries and starts threads before memory is looked at.
        repeats: runs, of which the quickest counts.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure_here, (prepare, arguments, small, repeats, torch.get_num_threads()))


def _measure_here(
    prepare: Callable[..., Call], arguments: tuple[Any, ...], small: tuple[Any, ...], repeats: int, threads: int
) -> Cost:
    torch.set_num_threads(threads)
    prepare(*small)()
    call = prepare(*arguments)
    before = _reset_peak()
    times, peak, result = [], 0, torch.empty(0)
    for _ in range(repeats):
        start = time.perf_counter()
        result = call()
        times.append(time.perf_counter() - start)
        peak = peak or _peak()
    return Cost(min(times) * 1e3, (peak - before) / 1e6, result.numpy())


def _reset_peak() -> int:
    """Give freed memory back to the system, forget the peak so far, and say how many bytes are held."""
    gc.collect()
    if not Path("/proc/self/clear_refs").exists():
        return _peak()  # elsewhere than on Linux the peak cannot be reset: a lower bound is measured
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return _status("VmRSS")


def _peak() -> int:
    """Bytes of resident memory at the highest."""
    if Path("/proc/self/status").exists():
        return _status("VmHWM")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"no {name} in /proc/self/status")
