"""The first images of a data set, as a data set."""

from torch.utils.data import Dataset

from tascnet.data.rare import listed_categories
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation


class FirstImages(Dataset[Sample]):
    """The first `number` images of any data set, with all its categories.

    Attributes:
        label_space: the data set's.
        source: the data set.
    """

    label_space: LabelSpace
    source: PanopticDataset

    def __init__(self, dataset: PanopticDataset, number: int):
        """Wrap a data set.

        Raises:
            InputError: it has fewer images.
        """
        if not 0 < number <= len(dataset):
            raise InputError(
                f"num_images is {number}, but the data set has {len(dataset)} images; lower it, or set 0 for all."
            )
        self.label_space = dataset.label_space
        self.source = dataset
        self._number = number

    def __len__(self) -> int:
        """Number of images."""
        return self._number

    def __getitem__(self, index: int) -> Sample:
        """Image and annotation."""
        return self.source[range(self._number)[index]]

    def annotation(self, index: int) -> PanopticSegmentation:
        """Annotation alone."""
        return self.source.annotation(range(self._number)[index])

    def listed_categories(self, index: int) -> frozenset[int] | None:
        """Category ids, where `source` lists them without reading pixels."""
        return listed_categories(self.source, range(self._number)[index])
