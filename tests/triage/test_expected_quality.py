"""The PQ that a network expects of itself: values worked out by hand."""

import math
from statistics import NormalDist

import pytest
import torch
from torch import Tensor

from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Segment, Size
from tascnet.triage.expected_quality import (
    Expected,
    counted_iou,
    expected_iou,
    expected_panoptic_quality,
    expected_stuff,
    expected_things,
    segments_of_detections,
)

SPACE = LabelSpace(
    (
        Category(10, "car", is_thing=True),
        Category(20, "sky", is_thing=False),
        Category(30, "person", is_thing=True),
        Category(40, "road", is_thing=False),
    )
)
CAR, PERSON = 0, 1  # thing indices
SIZE = Size(8, 16)
LEFT, RIGHT = [0.0, 0, 8, 8], [8.0, 0, 16, 8]


def detections(*found: tuple[int, float, list[float]], masks: Tensor | None = None) -> Instances:
    """Of (label, score, box); masks fill their boxes."""
    return Instances(
        boxes=torch.tensor([box for _, _, box in found]).reshape(-1, 4),
        labels=torch.tensor([label for label, _, _ in found], dtype=torch.int64),
        scores=torch.tensor([score for _, score, _ in found], dtype=torch.float64),
        masks=torch.ones(len(found), 28, 28) if masks is None else masks,
    )


def halves(left: Segment | None = None, right: Segment | None = None) -> PanopticSegmentation:
    ids = torch.zeros(SIZE, dtype=torch.int32)
    for segment, columns in ((left, slice(0, 8)), (right, slice(8, 16))):
        if segment is not None:
            ids[:, columns] = segment.id
    return PanopticSegmentation(ids, tuple(segment for segment in (left, right) if segment is not None))


def test_expected_iou_by_hand():
    probability = torch.tensor([[0.9, 0.6], [0.4, 0.1]])
    region = torch.tensor([[True, True], [False, False]])
    assert float(expected_iou(probability, region)) == pytest.approx(1.5 / 2.5)
    assert float(expected_iou(probability, torch.zeros(2, 2, dtype=torch.bool))) == 0
    assert expected_iou(torch.zeros(0, 2, 2), torch.zeros(0, 2, 2, dtype=torch.bool)).tolist() == []


def test_expected_iou_is_the_iou_where_probabilities_are_certain():
    generator = torch.Generator().manual_seed(0)
    truth, region = (torch.rand(3, 5, 7, generator=generator) > 0.4 for _ in range(2))
    iou = (truth & region).sum(dim=(1, 2)) / (truth | region).sum(dim=(1, 2))
    assert torch.allclose(expected_iou(truth.float(), region), iou)


@pytest.mark.parametrize("iou", [0.0, 0.3, 0.5, 0.62, 1.0])
def test_what_an_iou_counts(iou: float):
    assert counted_iou(iou) == pytest.approx(iou * (1 - NormalDist(iou, 0.1).cdf(0.5)), abs=1e-12)


def test_stuff_with_a_segment_and_without():
    # sky in the left half, where it has 0.9 against 0.2 elsewhere; road has 0.3 at most and no segment
    sky = torch.tensor([[0.9, 0.9, 0.2, 0.2]] * 2)
    road = torch.tensor([[0.05, 0.05, 0.3, 0.1]] * 2)
    logits = torch.stack([sky, road, 1 - sky - road]).log()
    found = expected_stuff(logits, halves(left=Segment(7, 20, 64)), SPACE)
    assert found[0] == pytest.approx(Expected(counted_iou(3.6 / 4.8), 1.0))
    assert found[1] == pytest.approx(Expected(0.0, 0.3))


def test_channels_of_all_categories_have_the_stuff_first():
    probability = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None].expand(4, 2, 4)
    found = expected_stuff(probability.log(), halves(), SPACE)
    assert [category.presence for category in found] == pytest.approx([0.1, 0.2])


def test_things_that_are_right_wrong_and_missed():
    # two cars of 0.8 and 0.6, one more of 0.5 that fusion did not use, one too faint; their masks fill their boxes
    one = counted_iou(1.0)
    instances = detections((CAR, 0.8, LEFT), (CAR, 0.6, RIGHT), (CAR, 0.5, [6.0, 0, 9, 8]), (CAR, 0.09, RIGHT))
    cars = halves(Segment(1, 10, 64, score=0.8), Segment(2, 10, 64, score=0.6))
    car, person = expected_things(instances, cars, SPACE)
    assert car == pytest.approx(Expected(1.4 * one / (1.4 + 0.6 / 2 + 0.5 / 2), 1.0))
    assert person == Expected(0.0, 0.0)


def test_things_that_may_be_there_without_a_segment():
    instances = detections((PERSON, 0.4, LEFT), (PERSON, 0.25, RIGHT), (PERSON, 0.1, RIGHT))
    car, person = expected_things(instances, halves(), SPACE)
    assert car == Expected(0.0, 0.0)
    assert person == pytest.approx(Expected(0.0, 1 - 0.6 * 0.75))


def test_a_score_that_fusion_changed_counts_as_changed():
    instances = detections((CAR, 0.9, LEFT))
    car, _ = expected_things(instances, halves(left=Segment(1, 10, 64, score=0.4)), SPACE)
    assert car.quality == pytest.approx(0.4 * counted_iou(1.0) / (0.4 + 0.6 / 2))


def test_a_faint_mask_lowers_the_quality():
    masks = torch.full((1, 28, 28), 0.7)
    masks[0, :14] = 0.3
    instances = detections((CAR, 1.0, LEFT), masks=masks)
    car, _ = expected_things(instances, halves(left=Segment(1, 10, 64, score=1.0)), SPACE)
    assert car.quality == pytest.approx(counted_iou(0.7 / (1 + 0.3)))


def test_the_whole_is_the_mean_weighted_with_presence():
    sky = torch.tensor([[1 - 2e-9, 1 - 2e-9, 1e-9, 1e-9]] * 2)
    logits = torch.stack([sky, torch.full(SIZE_OF_GRID, 1e-9), 1 - sky]).double().log()
    instances = detections((CAR, 0.8, RIGHT), (PERSON, 0.5, LEFT))
    segmentation = halves(Segment(2, 20, 64), Segment(1, 10, 64, score=0.8))
    one = counted_iou(1.0)
    car = 0.8 * one / (0.8 + 0.2 / 2)
    expected = (one + car + 0.5 * 0) / (1 + 1 + 0.5)
    assert expected_panoptic_quality(logits, instances, segmentation, SPACE) == pytest.approx(expected, abs=1e-6)


SIZE_OF_GRID = (2, 4)


def test_where_nothing_is_seen_nothing_is_expected():
    nothing = torch.tensor([-math.inf, -math.inf, 0.0])[:, None, None].expand(3, 2, 4)
    assert expected_panoptic_quality(nothing, detections(), halves(), SPACE) == 0


class TestSegmentsOfDetections:
    def test_the_best_overlap_of_the_same_category_comes_first(self):
        car, person = Segment(3, 10, 64, score=0.9), Segment(5, 30, 64, score=0.8)
        instances = detections(
            (CAR, 0.95, [0.0, 0, 16, 8]),  # IoU 1/2 with the car
            (CAR, 0.9, LEFT),  # IoU 1
            (CAR, 0.85, RIGHT),  # of another category than the segment there
            (PERSON, 0.8, [10.0, 0, 16, 8]),  # IoU 3/4
        )
        assert segments_of_detections(instances, halves(car, person), SPACE) == {1: car, 3: person}

    def test_each_is_given_once(self):
        left, right = Segment(1, 10, 64, score=0.9), Segment(2, 10, 64, score=0.8)
        instances = detections((CAR, 0.9, [0.0, 0, 16, 8]), (CAR, 0.8, LEFT), (CAR, 0.7, LEFT))
        assert segments_of_detections(instances, halves(left, right), SPACE) == {1: left, 0: right}

    def test_stuff_belongs_to_none(self):
        assert segments_of_detections(detections((CAR, 0.9, LEFT)), halves(left=Segment(1, 20, 64)), SPACE) == {}

    def test_boxes_beside_the_photo_and_no_detections(self):
        car = Segment(1, 10, 64, score=0.9)
        assert segments_of_detections(detections((CAR, 0.9, [20.0, 0, 30, 8])), halves(left=car), SPACE) == {}
        assert segments_of_detections(detections(), halves(left=car), SPACE) == {}


def test_a_region_of_more_pixels_than_float16_can_count():
    probability = torch.full((300, 400), 0.75, dtype=torch.float16)
    region = torch.ones(300, 400, dtype=torch.bool)
    assert float(expected_iou(probability, region)) == pytest.approx(0.75, rel=1e-6)
    assert float(expected_iou(probability, torch.zeros_like(region))) == 0
