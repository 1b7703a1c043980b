"""Sample number n of a training run is the same whoever reads it, and whenever."""

import pickle
from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tascnet.data.sample import Sample
from tascnet.data.stream import TrainingStream
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SPACE = LabelSpace((Category(1, "sky", False), Category(2, "bird", True)))
SEGMENTATION = PanopticSegmentation(torch.ones(2, 2, dtype=torch.int32), (Segment(1, 1, 4),))


class Numbers:
    """Sample i is a picture of the value i. Counts how often each is read."""

    label_space = SPACE

    def __init__(self, length: int):
        self.reads = [0] * length

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> Sample:
        self.reads[index] += 1
        return Sample(torch.full((3, 2, 2), index, dtype=torch.uint8), SEGMENTATION, f"number {index}", index)


def add_noise(sample: Sample) -> Sample:
    """Random augmentation: other pixels each time, drawn from the global generator."""
    return replace(sample, image=torch.randint(0, 256, (3, 2, 2), dtype=torch.uint8))


def keep(sample: Sample) -> Sample:
    return sample


def stream(length: int = 7, num_samples: int = 28, seed: int = 3) -> TrainingStream:
    return TrainingStream(Numbers(length), add_noise, num_samples, seed)


def content(samples: list[Sample]) -> list[tuple[int | str, list[int]]]:
    return [(sample.image_id, sample.image.flatten().tolist()) for sample in samples]


def read(stream: TrainingStream, positions: range) -> list[tuple[int | str, list[int]]]:
    return content([stream[position] for position in positions])


def first(samples: list[Sample]) -> Sample:
    return samples[0]


def test_each_epoch_is_another_permutation():
    order = [sample for sample, _ in read(stream(), range(28))]
    epochs = [order[start : start + 7] for start in range(0, 28, 7)]
    assert all(sorted(epoch) == list(range(7)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) > 1


def test_another_seed_is_another_order_and_another_augmentation():
    for at, changed in ((0, "order"), (1, "augmentation")):
        assert [sample[at] for sample in read(stream(seed=3), range(28))] != [
            sample[at] for sample in read(stream(seed=4), range(28))
        ], changed


def test_the_same_photo_is_augmented_anew_in_each_epoch():
    by_photo: dict[int | str, set[tuple[int, ...]]] = {}
    for photo, pixels in read(stream(), range(28)):
        by_photo.setdefault(photo, set()).add(tuple(pixels))
    assert [len(variants) for variants in by_photo.values()] == [4] * 7


def test_a_run_that_enters_later_reads_the_same():
    whole = read(stream(), range(28))
    torch.manual_seed(99)  # whatever else was drawn in the meantime
    assert read(stream(), range(17, 28)) == whole[17:]
    assert read(stream(num_samples=1000), range(28)) == whole


def test_the_caller_s_random_numbers_are_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    stream()[11]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_same_whichever_worker_reads(workers: int):
    rest = Subset(stream(num_samples=12), range(4, 12))
    loader = DataLoader(rest, batch_size=1, num_workers=workers, collate_fn=first)
    assert content(list(loader)) == read(stream(), range(4, 12))


def test_kept_in_memory_is_read_once_and_is_the_same():
    dataset = Numbers(5)
    kept = TrainingStream(dataset, add_noise, 20, 3)
    done: list[int] = []
    kept.keep_in_memory(done.append)
    assert done == [1, 2, 3, 4, 5]
    assert dataset.reads == [1] * 5
    assert read(kept, range(20)) == read(stream(length=5), range(20))
    assert dataset.reads == [1] * 5
    again = Numbers(5)
    read(TrainingStream(again, add_noise, 20, 3), range(20))
    assert again.reads == [4] * 5


def test_augmentation_does_not_reach_what_is_kept():
    kept = TrainingStream(Numbers(1), add_noise, 2, 3)
    kept.keep_in_memory()
    first_time, second_time = kept[0].image, kept[1].image
    assert not torch.equal(first_time, second_time)
    plain = TrainingStream(Numbers(1), keep, 2, 3)
    plain.keep_in_memory()
    assert torch.equal(plain[0].image, plain[1].image)


def test_its_length_is_that_of_the_run():
    assert len(stream(length=7, num_samples=10)) == 10


def test_an_empty_data_set():
    with pytest.raises(InputError, match=r"the training set has no images; check data\.train"):
        stream(length=0)


def test_a_worker_process_that_is_spawned_gets_the_same():
    sent = pickle.loads(pickle.dumps(stream()))
    assert read(sent, range(9)) == read(stream(), range(9))
