"""Panoptic copy-paste: things of one training sample laid into another one."""

from dataclasses import replace
from itertools import count, islice

import numpy as np
import torch

from tascnet.data.sample import Sample
from tascnet.data.transforms import recount
from tascnet.structures import LabelSpace, PanopticSegmentation, Segment


def paste_things(sample: Sample, source: Sample, label_space: LabelSpace) -> Sample:
    """Copy things of `source` into `sample`, in front of all that is there.

    After "Simple Copy-Paste" (Ghiasi et al. 2021), whose pictures are scaled, cropped and flipped each by itself before
    this, and whose pasted edges are not blended. Of n things in the source, 1 to n are drawn, their number evenly;
    crowds, stuff and VOID are never pasted. A thing is pasted as it is visible in the source, so it stays cut off where
    something hid it. Of pictures of different sizes, the smaller side lies at a random place along the larger one.
    Things of `sample` that are hidden whole leave the segments; areas are counted again.

    Args:
        sample: what is pasted into; it stays as it is.
        source: another sample of the same data set.
        label_space: of both.

    Returns:
        A sample of the size, name and id of `sample`. Segments that were there keep their ids; pasted ones have new
        ids.
    """
    size, source_size = sample.segmentation.size, source.segmentation.size
    rows, source_rows = _common(size.height, source_size.height)
    columns, source_columns = _common(size.width, source_size.width)
    pasted_ids, pasted = _draw_things(source.segmentation, label_space, sample.segmentation)
    window = torch.from_numpy(pasted_ids[source_rows, source_columns])
    is_pasted = window != 0
    image, id_map = sample.image.clone(), sample.segmentation.id_map.clone()
    image[:, rows, columns] = torch.where(
        is_pasted, source.image[:, source_rows, source_columns], image[:, rows, columns]
    )
    id_map[rows, columns] = torch.where(is_pasted, window, id_map[rows, columns])
    return replace(sample, image=image, segmentation=recount(id_map, (*sample.segmentation.segments, *pasted)))


def _draw_things(
    segmentation: PanopticSegmentation, label_space: LabelSpace, beside: PanopticSegmentation
) -> tuple[np.ndarray, tuple[Segment, ...]]:
    """Some of the things, under ids that are free in `beside`: (H, W) int32, 0 where there is none; and segments."""
    segments = segmentation.segments
    things = [
        number
        for number, segment in enumerate(segments)
        if label_space[segment.category_id].is_thing and not segment.is_crowd
    ]
    number_drawn = 1 + int(torch.randint(len(things), ())) if things else 0
    drawn = [things[i] for i in torch.randperm(len(things))[:number_drawn].tolist()]
    taken = {segment.id for segment in beside.segments}
    free_ids = list(islice((i for i in count(1) if i not in taken), number_drawn))
    new_ids = np.zeros(len(segments) + 1, dtype=np.int32)  # by `index_map`, in which 0 is VOID
    for number, free_id in zip(drawn, free_ids, strict=True):
        new_ids[number + 1] = free_id
    renamed = (replace(segments[number], id=free_id) for number, free_id in zip(drawn, free_ids, strict=True))
    return new_ids.take(segmentation.index_map().numpy()), tuple(renamed)


def _common(length: int, source_length: int) -> tuple[slice, slice]:
    """Where a side and that of the source lie on each other: the shorter one at a random place along the longer."""
    shorter = min(length, source_length)
    first = int(torch.randint(abs(length - source_length) + 1, ()))
    place, whole = slice(first, first + shorter), slice(0, shorter)
    return (place, whole) if length > source_length else (whole, place)
