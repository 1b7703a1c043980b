"""Who loads what: the samples of a step are the same however many processes share them, and bad ones are replaced."""

import multiprocessing
import signal
import time
from functools import partial

import pytest
import torch

from tascnet.data.batch import Batch, collate
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.errors import InputError
from tascnet.structures import Size
from tascnet.training import batches
from tascnet.training.batches import (
    MAX_SUBSTITUTES,
    Loaded,
    Shares,
    _collate,
    _WithSubstitutes,
    by_step,
    image_seeds,
    load_batches,
)
from tascnet.training.failures import explained


class Stream:
    """Sample n is street n % 4; some positions cannot be read."""

    def __init__(self, length: int, broken: set[int]):
        self._streets, self._length, self._broken = Streets(4, Size(64, 64)), length, broken

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, position: int) -> Sample:
        if position in self._broken:
            raise InputError(f"picture {position} is broken")
        return self._streets[position % 4]


@pytest.mark.parametrize(("batch_size", "rounds", "processes"), [(2, 1, 1), (2, 3, 2), (1, 2, 3), (3, 1, 4)])
def test_the_processes_take_each_sample_of_a_step_once(batch_size: int, rounds: int, processes: int):
    shares = [Shares(batch_size, rounds, processes, process) for process in range(processes)]
    number = batch_size * rounds * processes
    assert {share.images_per_step for share in shares} == {number}
    for step in (0, 1, 7):
        taken = [p for share in shares for round_ in range(rounds) for p in share.positions(step, round_)]
        assert sorted(taken) == list(range(step * number, (step + 1) * number))


def test_rounds_by_hand():
    """The picture at the top of the module, at step 1."""
    shares = Shares(batch_size=2, rounds=2, processes=2, process=1)
    assert [list(shares.positions(1, round_)) for round_ in (0, 1)] == [[10, 11], [14, 15]]


def test_seeds_belong_to_positions():
    assert image_seeds(3, range(4, 6)) == image_seeds(3, range(8))[4:6]
    assert len(set(image_seeds(3, range(1000)))) == 1000
    assert not set(image_seeds(3, range(100))) & set(image_seeds(4, range(100)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_brings_the_batches_of_its_process(workers: int):
    stream, shares = Stream(24, set()), Shares(batch_size=2, rounds=2, processes=2, process=1)
    loader = load_batches(stream, shares, range(1, 3), STREETS, workers, False, skip=False)  # type: ignore[arg-type]
    steps = list(by_step(loader, rounds=2))
    names = [[name for loaded in step for name in loaded.or_raise().names] for step in steps]
    assert names == [[stream[p].name for p in (10, 11, 14, 15)], [stream[p].name for p in (18, 19, 22, 23)]]


def test_a_sample_that_cannot_be_read_is_an_error_or_is_replaced():
    stream = Stream(8, {1, 9})
    error, _ = _WithSubstitutes(stream, skip=False)[1]  # type: ignore[arg-type]
    assert str(error) == "picture 1 is broken"
    sample, problems = _WithSubstitutes(stream, skip=True)[1]  # type: ignore[arg-type]
    assert isinstance(sample, Sample)
    assert torch.equal(sample.image, stream[17].image)  # 1 and 1 + 8 are broken
    assert problems == ["picture 1 is broken", "picture 9 is broken"]


def test_a_data_set_of_which_nothing_can_be_read_is_an_error():
    stream = Stream(8, {3 + 8 * attempt for attempt in range(MAX_SUBSTITUTES)})
    error, problems = _WithSubstitutes(stream, skip=True)[3]  # type: ignore[arg-type]
    assert isinstance(error, InputError)
    assert str(error) == "10 samples in a row cannot be read; the last: picture 75 is broken"
    assert len(problems) == MAX_SUBSTITUTES


def test_a_batch_tells_what_was_replaced():
    dataset = _WithSubstitutes(Stream(8, {1, 2}), skip=True)  # type: ignore[arg-type]
    loaded = _collate([dataset[position] for position in range(4)], partial(collate, label_space=STREETS))
    assert len(loaded.or_raise()) == 4
    assert loaded.problems == ["picture 1 is broken", "picture 2 is broken"]


def test_an_error_takes_the_place_of_its_batch():
    with pytest.raises(InputError, match="no"):
        Loaded(InputError("no"), []).or_raise()


class Stuck(Stream):
    """From sample 2 on, a drive does not answer; SIGTERM changes nothing."""

    def __getitem__(self, position: int) -> Sample:
        if position >= 2:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        return super().__getitem__(position)


def test_a_worker_that_hangs_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(batches, "BATCH_TIMEOUT", 3)
    loader = load_batches(
        Stuck(8, set()), Shares(2, 1, 1, 0), range(4), STREETS, workers=1, pin_memory=False, skip=False
    )
    found = by_step(loader, 1)
    next(found)
    (worker,) = multiprocessing.active_children()
    in_a_sentence = explained(lambda: "?", 1, lambda: "Go on.")
    with pytest.raises(InputError, match=r"no batch has come for 3 seconds.*data.workers.*Go on."), in_a_sentence:
        next(found)
    worker.join(timeout=10)
    assert worker.exitcode == -signal.SIGKILL


def test_a_full_shared_memory_is_told(monkeypatch: pytest.MonkeyPatch):
    def fill(batch: Batch) -> None:
        raise RuntimeError("unable to allocate shared memory(shm) for file: No space left on device (28)")

    monkeypatch.setattr(Batch, "share_memory", fill)  # workers are forked, and have it
    shares = Shares(2, 1, 1, 0)
    arguments = (Stream(8, set()), shares, range(2), STREETS)
    ((loaded,), *_) = by_step(load_batches(*arguments, workers=1, pin_memory=False, skip=True), 1)
    with pytest.raises(
        InputError, match=r"batch of 2 images \(0.1 MB\): shared memory \(/dev/shm\).*No space left.*workers"
    ):
        loaded.or_raise()
    ((loaded,), *_) = by_step(load_batches(*arguments, workers=0, pin_memory=False, skip=True), 1)
    assert len(loaded.or_raise()) == 2  # nothing is shared


def test_a_batch_from_a_worker_is_shared_already():
    loader = load_batches(
        Stream(4, set()), Shares(2, 1, 1, 0), range(2), STREETS, workers=1, pin_memory=False, skip=False
    )
    for (loaded,) in by_step(loader, 1):
        batch = loaded.or_raise()
        assert all(tensor.is_shared() for tensor in batch.tensors() if tensor.numel())
        assert len(batch.tensors()) == 1 + 4 * len(batch)
