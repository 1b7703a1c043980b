"""Sample number n of a training run is the same whoever reads it, and whenever."""

import pickle
from collections import Counter
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from tascnet.data.batch import collate
from tascnet.data.sample import Sample
from tascnet.data.stream import TrainingStream
from tascnet.data.transforms import Augment
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

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


class Scenes:
    """Pictures of one colour and a bird: image i has the value 10 i + 10, its bird the category 2 + i."""

    label_space = LabelSpace((Category(1, "sky", False), *(Category(2 + i, f"bird {i}", True) for i in range(4))))

    def __init__(self, length: int = 4):
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        ids = torch.ones(16, 16, dtype=torch.int32)
        ids[4:9, 3 + index : 8 + index] = 2
        segmentation = PanopticSegmentation.from_id_map(ids, [Segment(1, 1, 0), Segment(2, 2 + index, 0)])
        return Sample(
            torch.full((3, 16, 16), 10 * index + 10, dtype=torch.uint8), segmentation, f"scene {index}", index
        )


def bird_categories(sample: Sample) -> set[int]:
    return {segment.category_id for segment in sample.segmentation.segments if segment.category_id > 1}


def test_things_of_another_image_are_pasted_as_often_as_asked():
    pasting = TrainingStream(Scenes(), keep, 400, 3, copy_paste=0.25)
    sources = []
    for position in range(400):
        sample = pasting[position]
        sample.segmentation.validate(Scenes.label_space)
        sources += bird_categories(sample) - {2 + sample.image_id}
    assert 70 <= len(sources) <= 130  # 100 expected, standard deviation 8.7
    assert set(sources) == {2, 3, 4, 5}


def test_what_is_pasted_is_augmented_too():
    pasting = TrainingStream(Scenes(2), Augment(flip_probability=0.5), 64, 3, copy_paste=1)
    lefts = {
        int((pasted[0].sum(0) > 0).nonzero()[0])
        for pasted in (
            (sample.image == 10 * (1 - int(sample.image_id)) + 10) for sample in map(pasting.__getitem__, range(64))
        )
    }
    assert lefts == {3, 4, 7, 8}  # the birds of scene 0 and 1, as they are and turned


def test_order_and_augmentation_are_the_same_with_and_without_pasting():
    plain, pasting = stream(), TrainingStream(Numbers(7), add_noise, 28, 3, copy_paste=1)
    assert read(pasting, range(28)) == read(plain, range(28))  # there are no things


def test_one_image_has_no_other_to_paste_from():
    with pytest.raises(InputError, match=r"data\.input\.copy_paste takes things from another image.* set it to 0"):
        TrainingStream(Scenes(1), keep, 4, 3, copy_paste=0.5)


FACTORS = np.array([1.0, 1.25, 3.5, 1.0])


def repeated(epochs: int, seed: int = 3) -> list[list[int]]:
    """The images of each epoch; its length is the sum of the factors, 6.75, rounded up."""
    order = [
        sample for sample, _ in read(TrainingStream(Numbers(4), keep, 7 * epochs, seed, 0, FACTORS), range(7 * epochs))
    ]
    return [order[start : start + 7] for start in range(0, 7 * epochs, 7)]


def test_images_come_as_often_as_their_factors_say():
    epochs = repeated(250)
    counts = np.array([np.bincount(epoch, minlength=4) for epoch in epochs])
    wanted = FACTORS * 7 / 6.75  # what is missing to a whole number is spread over all
    assert (counts >= np.floor(wanted)).all()
    assert (counts <= np.ceil(wanted)).all()
    assert counts.mean(0) == pytest.approx(wanted, abs=0.13)  # four standard deviations of a coin's mean


def test_the_repetitions_are_spread_over_the_epoch():
    places = Counter(place for epoch in repeated(200) for place, image in enumerate(epoch) if image == 2)
    assert len(places) == 7
    assert max(places.values()) < 1.5 * min(places.values())


def test_repetitions_depend_on_the_seed_alone():
    assert repeated(5) == repeated(5)
    assert repeated(5) != repeated(5, seed=4)
    whole = TrainingStream(Numbers(4), add_noise, 70, 3, 0, FACTORS)
    at_once = read(whole, range(70))
    assert content([whole[position] for position in (40, 3, 69)]) == [at_once[position] for position in (40, 3, 69)]


def test_factors_of_one_change_nothing():
    """But for the order: that of an epoch with repetitions is drawn anew."""
    once = TrainingStream(Numbers(7), keep, 28, 3, 0, np.ones(7))
    images = [sample for sample, _ in read(once, range(28))]
    assert all(sorted(images[start : start + 7]) == list(range(7)) for start in range(0, 28, 7))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_of_workers_are_those_of_one_process(workers: int):
    """Everything at once: crops around things, jitter, pasting, repetition, targets, collate; entered in the middle."""
    augment = Augment(
        scale=(0.5, 2), crop=Size(12, 14), crop_on_things=0.5, thing_ids=frozenset({2, 3, 4, 5}), color_jitter=0.3
    )
    batches = []
    for number in (0, workers):
        whole = TrainingStream(Scenes(), augment, 24, 5, copy_paste=0.5, repeat_factors=FACTORS)
        loader = DataLoader(
            Subset(whole, range(5, 24)),
            3,
            num_workers=number,
            collate_fn=partial(collate, label_space=Scenes.label_space),
        )
        batches.append(list(loader))
    alone, by_workers = batches
    assert len(alone) == len(by_workers) == 7
    for one, other in zip(alone, by_workers, strict=True):
        assert torch.equal(one.images, other.images)
        assert one.names == other.names
        for ours, theirs in zip(one.targets, other.targets, strict=True):
            for name in ("boxes", "labels", "instance_map", "semantic"):
                assert torch.equal(getattr(ours, name), getattr(theirs, name))
