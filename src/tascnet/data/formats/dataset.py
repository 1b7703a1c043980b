"""Base classes of the data sets that formats open, with defaults for all that checks and evaluations ask of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import Tensor
from torch.utils.data import Dataset

from tascnet.data.images import Exif, has_doubtful_turn, read_image, read_photo
from tascnet.data.problems import DataError, Kind
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import LabelSpace, PanopticSegmentation, Size

Read = TypeVar("Read")


class Problems(list[DataError]):
    """A list of problems that can be given as `on_problem`."""

    def __call__(self, problem: DataError) -> None:
        """Append a problem."""
        self.append(problem)

    def attempt(self, read: Callable[..., Read], *arguments: Any) -> Read | None:
        """The value that `read` returns; None, and a problem, where it raises."""
        try:
            return read(*arguments)
        except DataError as problem:
            self(problem)
        except InputError as error:
            self(DataError(str(error), Kind.OTHER))
        return None


class Inspected(NamedTuple):
    """As much of a sample as can be read, and every problem of it.

    Attributes:
        name: of the sample.
        image: (3, H, W) uint8; None where it cannot be read or the data set has none.
        segmentation: the annotation; None where it cannot be read.
        problems: in the order in which they were found.
    """

    name: str
    image: Tensor | None
    segmentation: PanopticSegmentation | None
    problems: Problems


class FormatDataset(Dataset[Sample], ABC):
    """A data set as a format opens it, a `PanopticDataset`; a format overrides what its files can give.

    Attributes:
        label_space: the categories.
        has_photos: False where annotation alone can be read.
    """

    label_space: LabelSpace
    has_photos: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """Number of samples."""

    @abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """Image and annotation number `index`."""

    @abstractmethod
    def annotation(self, index: int) -> PanopticSegmentation:
        """Annotation number `index` alone."""

    def sample_name(self, index: int) -> str:
        """Name of a sample, without reading it."""
        return f"number {index}"

    def inspect(self, index: int) -> Inspected:
        """Read a sample that may be broken: whatever is wrong becomes a problem, nothing raises `InputError`."""
        problems = Problems()
        sample = problems.attempt(self.__getitem__, index)
        if sample is None:
            return Inspected(self.sample_name(index), None, None, problems)
        return Inspected(sample.name, sample.image, sample.segmentation, problems)

    def inspect_files(self) -> Iterator[DataError]:
        """Problems that belong to no sample: entries without annotation, files that nothing refers to."""
        return iter(())

    def unannotated(self) -> list[str]:
        """Images that the data set lists without annotation; an evaluation notes them."""
        return []

    def excusing_void(self, index: int) -> Tensor | None:
        """(H, W) bool: VOID for Cityscapes' AP, where it differs from that of the annotation; None where it does not.

        Args:
            index: of the sample.
        """
        return None


class PhotoDataset(FormatDataset):
    """A data set with image files, which are read apart from their annotation.

    Attributes:
        exif: whether EXIF tags turn images, "apply" or "ignore"; may be set.
    """

    exif: Exif = "apply"

    @abstractmethod
    def photo_path(self, index: int) -> Path:
        """The image file."""

    def inspect(self, index: int) -> Inspected:
        """Read image and annotation, each also where the other is broken; they must have one size."""
        problems = Problems()
        segmentation = self.inspect_annotation(index, problems)
        size = None if segmentation is None else segmentation.size
        image = self.inspect_photo(index, size, "its annotation", problems)
        return Inspected(self.sample_name(index), image, segmentation, problems)

    def inspect_annotation(self, index: int, problems: Problems) -> PanopticSegmentation | None:
        """The annotation as far as it can be used; None where it cannot be read."""
        return problems.attempt(self.annotation, index)

    def inspect_photo(self, index: int, size: Size | None, source: str | Path, problems: Problems) -> Tensor | None:
        """(3, H, W) uint8; None where there is no image or it cannot be read.

        Args:
            index: of the sample.
            size: that the image must have; None for any.
            source: what requires that size, for the message.
            problems: takes what is wrong.
        """
        if not self.has_photos:
            return None
        path = self.photo_path(index)
        if size is None:
            return problems.attempt(read_image, path)
        image = problems.attempt(read_photo, path, size, source, None, self.exif)
        if image is not None and self.exif == "apply" and has_doubtful_turn(path):
            text = (
                f"{path}: its EXIF tag turns or mirrors it, and its size does not show whether it was annotated so. If "
                "the annotation is of the stored pixels, set exif to ignore."
            )
            problems(DataError(text, Kind.TURNED))
        return image
