"""Which samples a process loads for which step, and the loader that brings them.

Sample number n of a run is the same whoever loads it. A step takes the next `images_per_step` samples; of a step,
process r takes the r-th part of each round of batches:

    round 0:  process 0: 0 1   process 1: 2 3
    round 1:  process 0: 4 5   process 1: 6 7     (two processes, batches of two, two rounds a step)
"""

import multiprocessing
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from tascnet.data.batch import Batch, collate
from tascnet.data.sample import Sample
from tascnet.data.stream import TrainingStream
from tascnet.errors import InputError
from tascnet.structures import LabelSpace

BATCH_TIMEOUT = 300
"""Seconds. A batch takes some; a worker that has sent none for so long is stuck."""

MAX_SUBSTITUTES = 10
"""So many samples are tried in the place of one that cannot be read, before the data set is held to be broken."""


@dataclass(frozen=True)
class Shares:
    """How the samples of a step are shared out.

    Attributes:
        batch_size: images of a batch.
        rounds: batches of one process in one step, whose gradients are added up.
        processes: number of processes.
        process: which of them this one is.
    """

    batch_size: int
    rounds: int
    processes: int
    process: int

    @property
    def images_per_step(self) -> int:
        """Images of a step over all processes."""
        return self.batch_size * self.rounds * self.processes

    def positions(self, step: int, round_: int) -> range:
        """The samples that this process has in a round of a step."""
        first = step * self.images_per_step + (round_ * self.processes + self.process) * self.batch_size
        return range(first, first + self.batch_size)


def image_seeds(seed: int, positions: Iterable[int]) -> list[int]:
    """One seed for each sample of a run, from the run's seed and the sample's position alone."""
    sequences = (np.random.SeedSequence([seed, position, 1]) for position in positions)
    return [int(sequence.generate_state(1)[0]) for sequence in sequences]


class Loaded(NamedTuple):
    """A batch, or why there is none; and why samples were replaced."""

    batch: Batch | InputError
    problems: list[str]

    def or_raise(self) -> Batch:
        """The batch, or the error that is in its place."""
        if isinstance(self.batch, InputError):
            raise self.batch
        return self.batch


def load_batches(
    stream: TrainingStream,
    shares: Shares,
    steps: range,
    label_space: LabelSpace,
    workers: int,
    pin_memory: bool,
    skip: bool,
) -> DataLoader[Any]:
    """A loader of this process's batches of some steps, each a `Loaded`.

    Args:
        stream: all samples of the run.
        shares: who takes which.
        steps: which steps.
        label_space: of the stream.
        workers: processes that load; 0 loads in this one.
        pin_memory: for quick copies to a GPU.
        skip: replace samples that cannot be read by others, or give the error.
    """
    return DataLoader(
        _WithSubstitutes(stream, skip),
        batch_sampler=_Positions(shares, steps),
        num_workers=workers,
        collate_fn=partial(_collate, collate=partial(collate, label_space=label_space)),
        pin_memory=pin_memory,
        worker_init_fn=_outlive_signals,
        timeout=BATCH_TIMEOUT if workers else 0,
    )


def by_step(loaded: Iterable[Loaded], rounds: int) -> Iterator[list[Loaded]]:
    """Group the batches of each step."""
    iterator = _leaving_no_workers(loaded)
    for first in iterator:
        yield [first, *(next(iterator) for _ in range(rounds - 1))]


def _leaving_no_workers(loaded: Iterable[Loaded]) -> Iterator[Loaded]:
    """Iterate; where that ends before its time, end the workers, for which Python would wait at its exit.

    A worker that hangs (on a network drive, for instance) answers no SIGTERM.
    """
    before = multiprocessing.active_children()
    iterator = iter(loaded)
    workers = [child for child in multiprocessing.active_children() if child not in before]
    try:
        yield from iterator
    finally:
        getattr(iterator, "_shutdown_workers", lambda: None)()  # torch's way, which asks them
        for worker in workers:
            if worker.is_alive():
                worker.kill()


class _Positions(Sampler[list[int]]):
    """The positions of each batch, step by step."""

    def __init__(self, shares: Shares, steps: range):
        self._shares, self._steps = shares, steps

    def __iter__(self) -> Iterator[list[int]]:
        for step in self._steps:
            for round_ in range(self._shares.rounds):
                yield list(self._shares.positions(step, round_))

    def __len__(self) -> int:
        return len(self._steps) * self._shares.rounds


class _Item(NamedTuple):
    """A sample, or why there is none; and why others could not take its place."""

    sample: Sample | InputError
    problems: list[str]


class _WithSubstitutes(Dataset[_Item]):
    """The stream, with its `InputError`s as items: raised in a worker, their sentence would be lost in a traceback.

    Where samples may be skipped, the place of one that cannot be read is taken by the sample at the same place of a
    run twice as long, then three times as long: another picture, and the same one whenever the run is repeated.
    """

    def __init__(self, stream: TrainingStream, skip: bool):
        self._stream, self._attempts = stream, MAX_SUBSTITUTES if skip else 1

    def __len__(self) -> int:
        return len(self._stream)

    def __getitem__(self, position: int) -> _Item:
        problems: list[str] = []
        for attempt in range(self._attempts):
            try:
                return _Item(self._stream[position + attempt * len(self._stream)], problems)
            except InputError as error:
                problems.append(str(error))
        if self._attempts == 1:
            return _Item(InputError(problems[0]), [])
        return _Item(
            InputError(f"{self._attempts} samples in a row cannot be read; the last: {problems[-1]}"), problems
        )


def _collate(items: Sequence[_Item], collate: Callable[[Sequence[Sample]], Batch]) -> Loaded:
    """The batch of the samples, or the first error among the items."""
    problems = [problem for item in items for problem in item.problems]
    samples: list[Sample] = []
    for item in items:
        if isinstance(item.sample, InputError):
            return Loaded(item.sample, problems)
        samples.append(item.sample)
    batch = collate(samples)
    if get_worker_info() is not None:
        try:
            batch.share_memory()  # here, because torch would do it where an error is lost, and the batch with it
        except (RuntimeError, OSError) as error:
            return Loaded(_shared_memory_full(batch, error), problems)
    return Loaded(batch, problems)


def _shared_memory_full(batch: Batch, error: Exception) -> InputError:
    megabytes = sum(tensor.nbytes for tensor in batch.tensors()) / 1e6
    return InputError(
        f"a process that loads data cannot pass on its batch of {len(batch)} images ({megabytes:.1f} MB): shared "
        f"memory (/dev/shm) is full ({' '.join(str(error).split())[:200]}). Give it more (docker run --shm-size 8g, or "
        "--ipc=host), or lower data.workers; with data.workers 0, none is used."
    )


def _outlive_signals(worker: int) -> None:
    """Let a worker live on through Ctrl-C and a first SIGTERM, which reach all processes: the step needs its batch."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _forgive_once)


def _forgive_once(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
