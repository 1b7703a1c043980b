from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils.data import DataLoader
from torchvision.ops import masks_to_boxes

from tascnet.data.batch import Batch, collate, make_target, tight_boxes
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

# things come first here, so that data set order and semantic index (stuff first) differ:
# semantic index: sky 0, road 1, car 2, person 3; thing index: car 0, person 1
SPACE = LabelSpace(
    (
        Category(7, "car", True),
        Category(9, "person", True),
        Category(3, "sky", False),
        Category(4, "road", False),
    )
)
CAR, PERSON, SKY, ROAD = 7, 9, 3, 4
#  sky 100, void 0, car 70000, person 5, crowd of persons 6
ID_MAP = [
    [100, 100, 100, 100, 0, 6],
    [100, 70000, 70000, 100, 0, 6],
    [5, 70000, 70000, 70000, 0, 0],
    [5, 0, 0, 0, 0, 5],
]
SEGMENTS = [
    Segment(100, SKY, 0),
    Segment(70000, CAR, 0),
    Segment(6, PERSON, 0, is_crowd=True),
    Segment(5, PERSON, 0),
]


def segmentation(ids: list = ID_MAP, segments: list = SEGMENTS) -> PanopticSegmentation:
    return PanopticSegmentation.from_id_map(torch.tensor(ids), segments)


def sample(height: int, width: int, name: str = "a") -> Sample:
    """A road, with a car in the corner at the bottom right."""
    ids = torch.full((height, width), 1)
    ids[-1, -1] = 2
    image = torch.full((3, height, width), 9, dtype=torch.uint8)
    return Sample(image, PanopticSegmentation.from_id_map(ids, [Segment(1, ROAD, 0), Segment(2, CAR, 0)]), name, 1)


def test_target_of_a_small_world() -> None:
    target = make_target(segmentation(), SPACE)
    assert target.boxes.tolist() == [[1, 1, 4, 3], [0, 2, 6, 4]]  # the person is in two parts
    assert target.boxes.dtype == torch.float32
    assert target.labels.tolist() == [0, 1]
    assert target.instance_map.dtype == torch.int32
    assert target.instance_map.tolist() == [
        [0, 0, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [2, 1, 1, 1, 0, 0],
        [2, 0, 0, 0, 0, 2],
    ]
    assert target.semantic.dtype == torch.int64
    assert target.semantic.tolist() == [  # the crowd is of category person
        [0, 0, 0, 0, -1, 3],
        [0, 2, 2, 0, -1, 3],
        [3, 2, 2, 2, -1, -1],
        [3, -1, -1, -1, -1, 3],
    ]


def test_things_below_the_least_area_are_no_instances() -> None:
    assert len(make_target(segmentation(), SPACE, min_area=3).labels) == 2
    target = make_target(segmentation(), SPACE, min_area=4)  # the person has 3 pixels, the car 5
    assert target.labels.tolist() == [0]
    assert target.boxes.tolist() == [[1, 1, 4, 3]]
    assert target.instance_map.unique().tolist() == [0, 1]
    assert target.semantic[2, 0] == 3


@pytest.mark.parametrize(
    ("ids", "segments", "index"), [([[0, 0]], [], -1), ([[8, 8]], [Segment(8, ROAD, 0)], 1)], ids=["void", "stuff"]
)
def test_target_without_instances(ids: list, segments: list, index: int) -> None:
    target = make_target(segmentation(ids, segments), SPACE)
    assert target.boxes.shape == (0, 4)
    assert target.labels.shape == (0,)
    assert target.instance_map.tolist() == [[0, 0]]
    assert target.semantic.tolist() == [[index, index]]


def test_unknown_category() -> None:
    with pytest.raises(InputError, match="category id 55 is unknown"):
        make_target(segmentation([[1]], [Segment(1, 55, 0)]), SPACE)


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 4)))
def test_tight_boxes_equal_those_of_single_masks(index_map: np.ndarray) -> None:
    present = [region for region in range(1, 5) if (index_map == region).any()]
    boxes = tight_boxes(index_map, 4)
    if present:
        masks = torch.from_numpy(np.stack([index_map == region for region in present]))
        expected = masks_to_boxes(masks).long() + torch.tensor([0, 0, 1, 1])  # torchvision's x1 is the last pixel
        assert boxes[[region - 1 for region in present]].tolist() == expected.tolist()


def test_boxes_of_a_real_picture(shared_data: Path) -> None:
    annotation = CocoPanoptic.from_layout(shared_data / "coco_mini", "val2017").annotation(3)
    index_map = annotation.index_map()
    masks = torch.stack([index_map == k + 1 for k in range(len(annotation.segments))])
    expected = masks_to_boxes(masks).long() + torch.tensor([0, 0, 1, 1])
    assert tight_boxes(index_map.numpy(), len(masks)).tolist() == expected.tolist()


def test_collate_pads_at_the_bottom_and_the_right() -> None:
    batch = collate([sample(3, 5, "a"), sample(6, 2, "b")], SPACE, stride=4)
    assert batch.images.shape == (2, 3, 8, 8)
    assert batch.images.dtype == torch.uint8
    assert batch.image_sizes == [Size(3, 5), Size(6, 2)]
    assert batch.names == ["a", "b"]
    assert len(batch) == 2
    for image, target, (height, width) in zip(batch.images, batch.targets, batch.image_sizes, strict=True):
        content = torch.zeros(8, 8, dtype=torch.bool)
        content[:height, :width] = True
        assert (image[:, content] == 9).all()
        assert (image[:, ~content] == 0).all()
        assert (target.semantic[~content] == -1).all()
        assert (target.semantic[content] >= 0).all()
        assert target.instance_map.nonzero().tolist() == [[height - 1, width - 1]]
        assert target.boxes.tolist() == [[width - 1, height - 1, width, height]]


def test_size_that_is_a_multiple_already_is_kept() -> None:
    assert collate([sample(32, 64)], SPACE).images.shape == (1, 3, 32, 64)
    assert collate([sample(33, 64)], SPACE).images.shape == (1, 3, 64, 64)


def test_collate_takes_what_cannot_be_joined_as_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least one sample"):
        collate([], SPACE)
    odd = Sample(torch.zeros(3, 5, 5, dtype=torch.uint8), sample(5, 6).segmentation, "odd", 1)
    with pytest.raises(ValueError, match="'odd' has an image of"):
        collate([odd], SPACE)


def test_batch_moves_whole() -> None:
    batch = collate([sample(3, 5), sample(6, 2)], SPACE).to("meta")
    assert batch.images.device.type == "meta"
    for target in batch.targets:
        assert {value.device.type for value in vars(target).values()} == {"meta"}


def test_pinning_reaches_every_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    # pinning needs an accelerator; that each tensor is asked to pin itself can be seen without one
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    batch = collate([sample(3, 5), sample(6, 2)], SPACE)
    assert isinstance(batch.pin_memory(), Batch)
    assert len(pinned) == 1 + 2 * 4


def test_in_a_data_loader() -> None:
    samples = [sample(40, 30, str(i)) for i in range(4)]
    loader = DataLoader(samples, batch_size=2, num_workers=1, collate_fn=lambda group: collate(group, SPACE))
    batches = list(loader)
    assert [batch.names for batch in batches] == [["0", "1"], ["2", "3"]]
    assert batches[0].images.shape == (2, 3, 64, 32)
