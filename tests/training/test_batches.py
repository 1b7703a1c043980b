"""Who loads what: the samples of a step are the same however many processes share them, and bad ones are replaced."""

from functools import partial

import pytest
import torch

from tascnet.data.batch import collate
from tascnet.data.sample import Sample
from tascnet.data.streets import STREETS, Streets
from tascnet.errors import InputError
from tascnet.structures import Size
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
