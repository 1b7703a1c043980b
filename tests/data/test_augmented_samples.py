"""Whatever is drawn, an augmented sample keeps the invariants of a segmentation: all augmentations in combination."""

from collections import Counter
from itertools import count

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tascnet.data.batch import collate
from tascnet.data.copy_paste import paste_things
from tascnet.data.sample import Sample
from tascnet.data.transforms import Augment
from tascnet.structures import IGNORE, VOID, Category, LabelSpace, PanopticSegmentation, Segment, Size

SPACE = LabelSpace(
    (Category(9, "car", True), Category(2, "sky", False), Category(30, "man", True), Category(4, "road", False))
)
THINGS = frozenset({9, 30})
INDEX = {2: 0, 4: 1, 9: 2, 30: 3}
"""Category id -> semantic index: stuff first."""

sides = st.integers(1, 24)


@st.composite
def samples(draw: st.DrawFn, number: int) -> Sample:
    """Rectangles over VOID, some hidden by others; red is the picture's number, green the id of the pixel."""
    height, width = draw(sides), draw(sides)
    ids = np.zeros((height, width), np.int32)
    segments = {}
    for segment_id in draw(st.lists(st.integers(1, 9), max_size=6, unique=True)):
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        ids[top : top + draw(sides), left : left + draw(sides)] = segment_id
        category_id = draw(st.sampled_from(sorted(INDEX)))
        is_crowd = category_id in THINGS and draw(st.booleans())
        segments[segment_id] = Segment(segment_id, category_id, 0, is_crowd)
    seen = [segments[i] for i in np.unique(ids).tolist() if i]
    image = np.stack([np.full_like(ids, number), ids, 0 * ids], axis=2).astype(np.uint8)
    return Sample(
        torch.from_numpy(image).permute(2, 0, 1), PanopticSegmentation.from_id_map(ids, seen), f"{number}", number
    )


@st.composite
def augmentations(draw: st.DrawFn, at_full_size: bool) -> Augment:
    """Any combination; `at_full_size` leaves pixels as they are: they are moved only."""
    shape = (
        {}
        if at_full_size
        else {
            "scale": draw(st.sampled_from([(1, 1), (0.1, 2.0), (0.5, 0.5), (1.5, 2.0)])),
            "short_sides": draw(st.sampled_from([(), (7,), (3, 12, 20)])),
            "max_long_side": draw(st.sampled_from([None, 10, 40])),
            "color_jitter": draw(st.sampled_from([0, 0.4])),
        }
    )
    return Augment(
        crop=draw(st.none() | st.builds(Size, sides, sides)),
        crop_on_things=draw(st.sampled_from([0, 0.5, 1])),
        thing_ids=THINGS,
        flip_probability=draw(st.sampled_from([0, 0.5, 1])),
        **shape,
    )


def augmented(target: Sample, source: Sample, augment: Augment, pastes: bool, seed: int) -> Sample:
    torch.manual_seed(seed)
    result = augment(target)
    return paste_things(result, augment(source), SPACE) if pastes else result


@settings(max_examples=500, deadline=None)
@given(samples(1), samples(2), augmentations(at_full_size=False), st.booleans(), st.integers(0, 2**32))
def test_ids_areas_boxes_crowds_and_void(
    target: Sample, source: Sample, augment: Augment, pastes: bool, seed: int
) -> None:
    result = augmented(target, source, augment, pastes, seed)
    segmentation = result.segmentation
    ids = segmentation.id_map.numpy()
    assert result.image.shape == (3, *ids.shape)
    assert (result.image.dtype, segmentation.id_map.dtype) == (torch.uint8, torch.int32)
    if augment.crop:
        assert segmentation.size == augment.crop
    counted = Counter(ids.flatten().tolist())
    counted.pop(VOID, None)
    assert {segment.id: segment.area for segment in segmentation.segments} == counted
    assert len(segmentation.segments) == len(counted)
    check_segments(result, target, source if pastes else None)
    check_target(segmentation)


def check_segments(result: Sample, target: Sample, source: Sample | None) -> None:
    """A segment with an id of the target's is that one; the others are things of the source, at most each of them."""
    of_target = {segment.id: (segment.category_id, segment.is_crowd) for segment in target.segmentation.segments}
    pasted = Counter()
    for segment in result.segmentation.segments:
        if segment.id in of_target:  # a free id is free of what augmentation left over, so it may be one of the target
            if (segment.category_id, segment.is_crowd) == of_target[segment.id]:
                continue
            assert source is not None
        assert not segment.is_crowd
        pasted[segment.category_id] += 1
    things = Counter(
        segment.category_id
        for segment in (source.segmentation.segments if source else ())
        if segment.category_id in THINGS and not segment.is_crowd
    )
    assert pasted <= things


def check_target(segmentation: PanopticSegmentation) -> None:
    """What the network is given, beside a plane for each segment."""
    sample = Sample(torch.zeros(3, *segmentation.size, dtype=torch.uint8), segmentation, "", 0)
    target = collate([sample], SPACE, stride=1).targets[0]
    ids = segmentation.id_map.numpy()
    semantic = np.full(ids.shape, IGNORE)
    instances = count()
    for segment in segmentation.segments:
        mask = ids == segment.id
        semantic[mask] = INDEX[segment.category_id]
        if segment.category_id not in THINGS or segment.is_crowd:
            assert not target.instance_map.numpy()[mask].any()
            continue
        number = next(instances)
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert target.boxes[number].tolist() == box
        assert int(target.labels[number]) == INDEX[segment.category_id] - 2
        assert np.array_equal(target.instance_map.numpy() == number + 1, mask)
    assert len(target.boxes) == next(instances)
    assert np.array_equal(target.semantic.numpy(), semantic)


@settings(max_examples=300, deadline=None)
@given(samples(1), samples(2), augmentations(at_full_size=True), st.booleans(), st.integers(0, 2**32))
def test_pixels_and_ids_move_together(
    target: Sample, source: Sample, augment: Augment, pastes: bool, seed: int
) -> None:
    """Every pixel says whose it was and of which segment; what is neither is padding."""
    result = augmented(target, source, augment, pastes, seed)
    picture, old_ids = result.image[0].numpy(), result.image[1].numpy()
    ids = result.segmentation.id_map.numpy()
    segments = {segment.id: segment for segment in result.segmentation.segments}
    assert np.array_equal(ids[picture == 1], old_ids[picture == 1])
    assert not ids[picture == 0].any()
    new_of_old = {}
    for new, old in zip(ids[picture == 2].tolist(), old_ids[picture == 2].tolist(), strict=True):
        assert new_of_old.setdefault(old, new) == new
    assert len(set(new_of_old.values())) == len(new_of_old)
    things = {segment.id: segment for segment in source.segmentation.segments}
    for old, new in new_of_old.items():
        assert not things[old].is_crowd
        assert things[old].category_id in THINGS
        assert segments[new].category_id == things[old].category_id
        assert new not in old_ids[picture == 1]


@settings(max_examples=100, deadline=None)
@given(samples(1), samples(2), augmentations(at_full_size=False), st.integers(0, 2**32))
def test_one_seed_gives_one_sample(target: Sample, source: Sample, augment: Augment, seed: int) -> None:
    first, second = (augmented(target, source, augment, True, seed) for _ in range(2))
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.segmentation.id_map, second.segmentation.id_map)
    assert first.segmentation.segments == second.segmentation.segments
