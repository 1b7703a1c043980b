"""A data set as an endless stream of shuffled, augmented training samples that can be entered anywhere."""

from collections.abc import Callable, Sequence, Sized
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from tascnet.data.batch import Batch
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation


class PanopticDataset(Sized, Protocol):
    """What every data set of this project offers."""

    label_space: LabelSpace

    def __getitem__(self, index: int, /) -> Sample:
        """Image and annotation number `index`."""

    def annotation(self, index: int, /) -> PanopticSegmentation:
        """Annotation number `index` alone; where there are photos, none is read."""


class ErrorsAsItems(Dataset[Sample | InputError]):
    """A data set that gives its `InputError`s as items: in a DataLoader, `collate_or_error` hands them on.

    What a worker raises, a DataLoader passes on as the text of the worker's traceback, in which the sentence is lost.
    """

    def __init__(self, dataset: Dataset[Sample]):
        self._dataset = dataset

    def __getitem__(self, index: int) -> Sample | InputError:
        """The item, or why there is none."""
        try:
            return self._dataset[index]
        except InputError as error:
            return error

    def __len__(self) -> int:
        """Number of items."""
        return len(self._dataset)  # type: ignore[arg-type]


def collate_or_error(
    items: Sequence[Sample | InputError], collate: Callable[[Sequence[Sample]], Batch]
) -> Batch | InputError:
    """The batch that `collate` makes of samples, or the first error among the items."""
    samples = []
    for item in items:
        if isinstance(item, InputError):
            return item
        samples.append(item)
    return collate(samples)


class TrainingStream(Dataset[Sample]):
    """Sample number n of a training run, for any n.

    Each epoch is a new permutation of the data set. Order and augmentation of sample n depend on the seed and on n
    alone: they are the same whichever worker loads it, and a resumed run simply enters at the n it had reached.
    """

    def __init__(
        self,
        dataset: PanopticDataset,
        augment: Callable[[Sample], Sample],
        num_samples: int,
        seed: int,
    ):
        """Wrap a data set.

        Args:
            dataset: with at least one sample.
            augment: drawing its random numbers from torch's global generator.
            num_samples: length of the stream.
            seed: of order and augmentation.

        Raises:
            InputError: the data set is empty.
        """
        if len(dataset) == 0:
            raise InputError("the training set has no images; check data.train.")
        self._dataset = dataset
        self._augment = augment
        self._num_samples = num_samples
        self._seed = seed
        self._memory: list[Sample] = []

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, position: int) -> Sample:
        """The sample at that position of the stream, augmented."""
        epoch, offset = divmod(position, len(self._dataset))
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._dataset))
        index = int(order[offset])
        sample = self._memory[index] if self._memory else self._dataset[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self._seed, position]).generate_state(1)[0]))
            return self._augment(sample)

    def keep_in_memory(self, on_image: Callable[[int], None] = lambda done: None) -> None:
        """Read every image now and hold it, before augmentation; `on_image` is called with the number done."""
        for index in range(len(self._dataset)):
            self._memory.append(self._dataset[index])
            on_image(index + 1)
