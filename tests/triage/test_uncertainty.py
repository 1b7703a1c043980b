"""Measures of doubt: values worked out by hand, and naive references."""

import math

import pytest
import torch
from torch import Tensor

from tascnet.planes.plane import Plane
from tascnet.structures import Instances, PanopticSegmentation, Segment, Size
from tascnet.triage.uncertainty import (
    detection_doubt,
    dropped_share,
    instance_residuals,
    soft_residual,
    stuff_entropy,
    uncertain_share,
    void_share,
)

PHOTO, GRID = Size(8, 16), Size(2, 4)


def detections(scores: list[float], boxes: list[list[float]] | None = None, masks: Tensor | None = None) -> Instances:
    number = len(scores)
    return Instances(
        boxes=torch.tensor(boxes if boxes is not None else [[0.0, 0, 8, 8]] * number).reshape(number, 4),
        labels=torch.zeros(number, dtype=torch.int64),
        scores=torch.tensor(scores),
        masks=torch.ones(number, 28, 28) if masks is None else masks,
    )


def halves(left_score: float | None = 0.9) -> PanopticSegmentation:
    """Left half a segment, right half VOID but for its last column, which is stuff."""
    ids = torch.zeros(PHOTO, dtype=torch.int32)
    ids[:, :8], ids[:, 15] = 1, 2
    return PanopticSegmentation(ids, (Segment(1, 5, 64, score=left_score), Segment(2, 6, 8)))


def test_entropy_of_certainty_of_a_tie_and_of_both():
    certain, tie = torch.tensor([60.0, 0, 0]), torch.zeros(3)
    logits = torch.stack([certain, tie], dim=1)[:, None]  # (3, 1, 2)
    assert stuff_entropy(logits) == pytest.approx(0.5)
    assert stuff_entropy(certain[:, None, None]) == pytest.approx(0, abs=1e-6)
    two_of_four = torch.tensor([50.0, 50, 0, 0])[:, None, None]
    assert stuff_entropy(two_of_four) == pytest.approx(math.log(2) / math.log(4))


def test_void_share():
    assert void_share(halves()) == pytest.approx(7 / 16)


@pytest.mark.parametrize(
    ("scores", "doubt"),
    [([0.9, 0.7, 0.2], 0.2), ([0.5], 0.5), ([0.4], 1.0), ([], 1.0)],
)
def test_doubt_of_detections(scores: list[float], doubt: float):
    assert detection_doubt(detections(scores), score_threshold=0.5) == pytest.approx(doubt)


@pytest.mark.parametrize(
    ("scores", "share"),
    [([0.9], 0), ([0.9, 0.6], 1 / 2), ([0.9, 0.6, 0.5, 0.4], 2 / 3), ([0.4], 0), ([], 0)],
)
def test_dropped_share(scores: list[float], share: float):
    assert dropped_share(detections(scores), halves(), score_threshold=0.5) == pytest.approx(share)


@pytest.mark.parametrize(
    ("scores", "share"),
    [([0.9], 0), ([0.9, 0.3], 1 / 2), ([0.9, 0.49, 0.11, 0.3], 3 / 4), ([0.9, 0.5, 0.1, 0.05], 0)],
)
def test_uncertain_share(scores: list[float], share: float):
    assert uncertain_share(detections(scores), halves()) == pytest.approx(share)


def test_where_there_is_nothing_no_detection_is_uncertain():
    assert uncertain_share(detections([]), halves(left_score=None)) == 0
    assert uncertain_share(detections([0.3]), halves(left_score=None)) == 1


def test_the_residual_of_instances_is_that_of_their_pixels():
    residual = torch.tensor([[0.1, 0.2, 1, 1], [0.3, 0.6, 1, 1]])
    assert instance_residuals(residual, halves()) == pytest.approx([0.3])


def test_instances_too_small_for_the_residual_have_none():
    ids = torch.zeros(PHOTO, dtype=torch.int32)
    ids[0, 0] = 1
    tiny = PanopticSegmentation(ids, (Segment(1, 5, 1, score=0.9),))
    assert instance_residuals(torch.ones(GRID), tiny) == []


def logits_of(things: Tensor) -> Tensor:
    """(2, h, w) logits, one stuff channel, whose things probability is the given one."""
    return torch.stack([torch.zeros_like(things), things.logit()])


def test_soft_residual_by_hand():
    # the box covers the left half; away from its rim two equal detections of 1/2 make 3/4 there
    things = torch.tensor([[0.75, 0.75, 0.25, 0.25]] * 2)
    both = detections([0.5, 0.5], [[-8.0, -8, 8, 16]] * 2)
    assert soft_residual(logits_of(things), both, 1, PHOTO) == pytest.approx((4 * 0 + 4 * 0.25) / 8, abs=1e-6)
    assert soft_residual(logits_of(things), detections([]), 1, PHOTO) == pytest.approx(0.5)


def test_soft_residual_counts_faint_detections_and_faint_masks():
    things = torch.full(GRID, 0.02)
    everywhere = [[-32.0, -32, 48, 40]]
    faint = detections([0.1], everywhere, torch.full((1, 28, 28), 0.2))
    assert soft_residual(logits_of(things), faint, 1, PHOTO) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("offset", [0.0, 0.5])
@pytest.mark.parametrize("size", [Size(24, 36), Size(21, 35)])
def test_soft_residual_equals_full_planes(size: Size, offset: float):
    generator = torch.Generator().manual_seed(0)
    things, grid = torch.rand(6, 9, generator=generator) * 0.9 + 0.05, Size(6, 9)
    corners = torch.rand(5, 2, generator=generator) * 12
    boxes = torch.cat([corners, corners + 4 + torch.rand(5, 2, generator=generator) * 14], dim=1)
    masks, scores = torch.rand(5, 28, 28, generator=generator), torch.rand(5, generator=generator)
    instances = Instances(boxes, torch.zeros(5, dtype=torch.int64), scores, masks)
    total = 0.0
    for row in range(grid.height):
        for column in range(grid.width):
            nothing = 1.0
            for box, mask, score in zip(boxes, masks, scores, strict=True):
                point = (4 * row + 2 + offset, 4 * column + 2 + offset)  # pixels
                nothing *= 1 - float(score) * sample(mask, box, *point)
            total += abs(float(things[row, column]) - (1 - nothing))
    plane = Plane.at_stride(logits_of(things), 4, size, offset)
    assert soft_residual(plane, instances, 1, size) == pytest.approx(total / 54, abs=1e-5)


def sample(mask: Tensor, box: Tensor, y: float, x: float) -> float:
    """A mask at a point of the plane: bilinear, zero beyond its samples, nothing outside its box."""
    x0, y0, x1, y1 = box.tolist()
    if not (x0 <= x < x1 and y0 <= y < y1):
        return 0.0
    row, column = (y - y0) / (y1 - y0) * 28 - 0.5, (x - x0) / (x1 - x0) * 28 - 0.5
    value = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < 28 and 0 <= j < 28:
                value += float(mask[i, j]) * (1 - abs(row - i)) * (1 - abs(column - j))
    return value
