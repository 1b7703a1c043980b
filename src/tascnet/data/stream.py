"""A data set as an endless stream of shuffled, augmented training samples that can be entered anywhere."""

import math
from collections.abc import Callable, Sized
from typing import Protocol

import numpy as np
import torch
from torch.utils.data import Dataset

from tascnet.data.copy_paste import paste_things
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation


class PanopticDataset(Sized, Protocol):
    """The interface of every data set of this project."""

    label_space: LabelSpace

    def __getitem__(self, index: int, /) -> Sample:
        """Image and annotation number `index`."""

    def annotation(self, index: int, /) -> PanopticSegmentation:
        """Annotation number `index` alone; where there are photos, none is read."""


class TrainingStream(Dataset[Sample]):
    """Sample number n of a training run, for any n.

    Each epoch is a new permutation of the data set, in which images may come several times. Order and augmentation of
    sample n depend on the seed and on n alone: they are the same whichever worker loads it, and a resumed run simply
    enters at the n it had reached.
    """

    def __init__(
        self,
        dataset: PanopticDataset,
        augment: Callable[[Sample], Sample],
        num_samples: int,
        seed: int,
        copy_paste: float = 0.0,
        repeat_factors: np.ndarray | None = None,
    ):
        """Wrap a data set.

        Args:
            dataset: with at least one sample.
            augment: drawing its random numbers from torch's global generator.
            num_samples: length of the stream.
            seed: of order and augmentation.
            copy_paste: probability that things of another image of the epoch, augmented too, are pasted in, 0..1.
            repeat_factors: (len(dataset),) how often each image is shown in an epoch on average, at least 1; None for
                once each.

        Raises:
            InputError: the data set is empty, or there is nothing to paste from.
        """
        if len(dataset) == 0:
            raise InputError("the training set has no images; check data.train.")
        if copy_paste and len(dataset) == 1:
            raise InputError(
                "data.input.copy_paste takes things from another image, but the training set has one image only. "
                "Add images, or set it to 0."
            )
        self._dataset = dataset
        self._augment = augment
        self._num_samples = num_samples
        self._seed = seed
        self._copy_paste = copy_paste
        self._repeat_factors = repeat_factors
        # a whole number, so that the epoch of sample n is known without counting those before it
        self._epoch_length = len(dataset) if repeat_factors is None else math.ceil(repeat_factors.sum())
        self._last_order = -1, np.empty(0, dtype=np.int64)  # epoch and its order: most samples are of the epoch before
        self._memory: list[Sample] = []

    def __len__(self) -> int:
        return self._num_samples

    def __getitem__(self, position: int) -> Sample:
        """The sample at that position of the stream, augmented."""
        epoch, offset = divmod(position, self._epoch_length)
        order = self._order(epoch)
        index = int(order[offset])
        sample = self._read(index)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.SeedSequence([self._seed, position]).generate_state(1)[0]))
            sample = self._augment(sample)
            if self._copy_paste and float(torch.rand(())) < self._copy_paste:
                others = order[order != index]
                source = self._read(int(others[int(torch.randint(len(others), ()))]))
                sample = paste_things(sample, self._augment(source), self._dataset.label_space)
            return sample

    def keep_in_memory(self, on_image: Callable[[int], None] = lambda done: None) -> None:
        """Read every image now and hold it, before augmentation; `on_image` is called with the number done."""
        for index in range(len(self._dataset)):
            self._memory.append(self._dataset[index])
            on_image(index + 1)

    def _read(self, index: int) -> Sample:
        return self._memory[index] if self._memory else self._dataset[index]

    def _order(self, epoch: int) -> np.ndarray:
        """(epoch length,) int64: the image at each place of an epoch."""
        if self._last_order[0] != epoch:
            dice = np.random.default_rng([self._seed, epoch])
            order = dice.permutation(len(self._dataset))
            if self._repeat_factors is not None:
                order = dice.permutation(_repeated(order, self._repeat_factors, self._epoch_length, dice))
            self._last_order = epoch, order
        return self._last_order[1]


def _repeated(order: np.ndarray, factors: np.ndarray, length: int, dice: np.random.Generator) -> np.ndarray:
    """The images of `order`, each as often as its factor, rounded up or down at random, `length` in all.

    The rounding is systematic sampling: the factors are laid end to end, stretched to `length` by less than one part
    in its number, and whoever holds one of the marks at u, u + 1, u + 2, ... is taken. So the mean over epochs is the
    factor, and the sum is the same in all of them.
    """
    ends = factors[order].cumsum()
    ends *= length / ends[-1]
    ends[-1] = length
    marks = np.floor(ends + dice.random()).astype(np.int64)
    return np.repeat(order, np.diff(marks, prepend=0))
