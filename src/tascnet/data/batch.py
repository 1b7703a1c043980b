"""PanopticSegmentation -> Target; samples -> one padded batch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from tascnet.data.sample import Sample
from tascnet.structures import IGNORE, LabelSpace, PanopticSegmentation, Size, Target

STRIDE = 32
"""Pixels: images are padded to multiples of the stride of C5, so that every level halves exactly."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples of any sizes, padded at the bottom and the right to one size.

    Attributes:
        images: (B, 3, H, W) uint8, zero in the padding.
        image_sizes: B sizes, the part of each image that is not padding.
        targets: B targets of size (H, W); IGNORE and no instance in the padding.
        names: B names of samples.
    """

    images: Tensor
    image_sizes: list[Size]
    targets: list[Target]
    names: list[str]

    def __len__(self) -> int:
        return len(self.images)

    def tensors(self) -> list[Tensor]:
        """All tensors of the batch, the images first."""
        return [self.images, *(tensor for target in self.targets for tensor in _tensors(target))]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on another device; non_blocking overlaps the copy where memory is pinned."""
        targets = [
            Target(*(tensor.to(device, non_blocking=non_blocking) for tensor in _tensors(target)))
            for target in self.targets
        ]
        return Batch(self.images.to(device, non_blocking=non_blocking), self.image_sizes, targets, self.names)

    def share_memory(self) -> None:
        """Move the tensors into shared memory, in place, before another process gets the batch.

        Raises:
            RuntimeError: shared memory is full.
        """
        for tensor in self.tensors():
            tensor.share_memory_()

    def pin_memory(self) -> "Batch":
        """The same batch in page-locked memory; a `DataLoader(pin_memory=True)` calls this."""
        targets = [Target(*(tensor.pin_memory() for tensor in _tensors(target))) for target in self.targets]
        return Batch(self.images.pin_memory(), self.image_sizes, targets, self.names)


def collate(samples: Sequence[Sample], label_space: LabelSpace, stride: int = STRIDE, min_area: int = 1) -> Batch:
    """Join samples of any sizes: pad at the bottom and the right to one size, a multiple of `stride`.

    Args:
        samples: at least one.
        label_space: of the samples' annotation.
        stride: pixels.
        min_area: pixels; smaller things are not among the instances, see `make_target`.

    Raises:
        InputError: a segment's category is not in the label space.
    """
    if not samples:
        raise ValueError("a batch needs at least one sample.")
    height = _round_up(max(sample.image.shape[1] for sample in samples), stride)
    width = _round_up(max(sample.image.shape[2] for sample in samples), stride)
    images = torch.zeros(len(samples), 3, height, width, dtype=torch.uint8)
    targets = []
    for image, sample in zip(images, samples, strict=True):
        if sample.segmentation.size != tuple(sample.image.shape[1:]):
            raise ValueError(
                f"sample '{sample.name}' has an image of {tuple(sample.image.shape[1:])} and a segmentation of "
                f"{tuple(sample.segmentation.size)} pixels; both must have one size."
            )
        image[:, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
        target = make_target(sample.segmentation, label_space, min_area)
        targets.append(_pad_target(target, Size(height, width)))
    sizes = [sample.segmentation.size for sample in samples]
    return Batch(images, sizes, targets, [sample.name for sample in samples])


def make_target(segmentation: PanopticSegmentation, label_space: LabelSpace, min_area: int = 1) -> Target:
    """Training target of one image.

    A crowd counts as its category in the semantic map and is no instance; so does a thing of less than `min_area`
    pixels, of which cropping leaves some.

    Args:
        segmentation: annotation of one image.
        label_space: its categories.
        min_area: pixels.

    Raises:
        InputError: a segment's category is not in the label space.
    """
    indices, instance_numbers, labels = [IGNORE], [0], []
    for segment in segmentation.segments:
        indices.append(label_space.semantic_index(segment.category_id))
        is_thing = label_space[segment.category_id].is_thing
        if is_thing and not segment.is_crowd and segment.area >= min_area:
            labels.append(label_space.thing_index(segment.category_id))
            instance_numbers.append(len(labels))
        else:
            instance_numbers.append(0)
    index_map = segmentation.index_map().numpy()
    instance_map = np.array(instance_numbers, dtype=np.int32).take(index_map)  # four times as fast as a Tensor's index
    return Target(
        boxes=torch.from_numpy(tight_boxes(instance_map, len(labels))).float(),
        labels=torch.tensor(labels, dtype=torch.int64),
        instance_map=torch.from_numpy(instance_map),
        semantic=torch.from_numpy(np.array(indices, dtype=np.int64).take(index_map)),
    )


def tight_boxes(index_map: np.ndarray, count: int) -> np.ndarray:
    """The tight box around each of the regions 1..count of a map.

    Pixel (i, j) covers [j, j+1) x [i, i+1), so a region of one pixel has a box of area 1.

    Args:
        index_map: (H, W) integers, 0..count; 0 is no region.
        count: number of regions; each must have pixels.

    Returns:
        (count, 4) int64: x0 y0 x1 y1.
    """
    height, width = index_map.shape
    starts = np.ones((height, width), dtype=bool)  # where a run of equal values begins in its row
    np.not_equal(index_map[:, 1:], index_map[:, :-1], out=starts[:, 1:])
    first = np.flatnonzero(starts)
    rows, left = np.divmod(first, width)
    right = np.append(first[1:], height * width) - rows * width  # every row begins a run, so none passes its row's end
    regions = index_map.ravel()[first]
    boxes = np.tile(np.array([width, height, 0, 0]), (count + 1, 1))
    np.minimum.at(boxes[:, 0], regions, left)
    np.minimum.at(boxes[:, 1], regions, rows)
    np.maximum.at(boxes[:, 2], regions, right)
    np.maximum.at(boxes[:, 3], regions, rows + 1)
    return boxes[1:]


def _pad_target(target: Target, size: Size) -> Target:
    return Target(target.boxes, target.labels, _pad(target.instance_map, size, 0), _pad(target.semantic, size, IGNORE))


def _pad(planes: Tensor, size: Size, value: int) -> Tensor:
    height, width = planes.shape[-2:]
    return functional.pad(planes, (0, size.width - width, 0, size.height - height), value=value)


def _round_up(length: int, stride: int) -> int:
    return -(-length // stride) * stride


def _tensors(target: Target) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return target.boxes, target.labels, target.instance_map, target.semantic
