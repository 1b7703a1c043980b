"""Pasting is compared with `grid_sample` and with numbers worked out by hand."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tascnet.errors import InputError
from tascnet.planes import paste
from tascnet.planes.paste import covered_pixels, interpolation_weights, paste_instances, paste_mask
from tascnet.structures import Instances, Size


def paste_with_grid_sample(mask: Tensor, box: Tensor, size: Size) -> Tensor:
    """The whole plane by `grid_sample`, 0 in pixels whose centres are outside the box."""
    x0, y0, x1, y1 = box.double().tolist()
    x = torch.arange(size.width, dtype=torch.float64) + 0.5
    y = torch.arange(size.height, dtype=torch.float64) + 0.5
    grid_y, grid_x = torch.meshgrid((y - y0) / (y1 - y0) * 2 - 1, (x - x0) / (x1 - x0) * 2 - 1, indexing="ij")
    grid = torch.stack([grid_x, grid_y], dim=-1)[None]
    pasted = functional.grid_sample(mask.double()[None, None], grid, align_corners=False, padding_mode="zeros")[0, 0]
    inside = ((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1)
    return pasted * inside


def full_plane(mask: Tensor, box: Tensor, size: Size, threshold: float = 0.5) -> Tensor:
    plane = torch.zeros(size, dtype=torch.bool)
    pasted = paste_mask(mask, box, size, threshold)
    plane[pasted.window] = pasted.pixels
    return plane


def test_weights_worked_out_by_hand() -> None:
    # a box from 1 to 5 with two samples, centred at 2 and 4; pixel centres are 0.5, 1.5, 2.5, ...
    weights = interpolation_weights(torch.tensor([1.0]), torch.tensor([5.0]), length=6, num_samples=2)
    by_hand = [[0, 0], [0.75, 0], [0.75, 0.25], [0.25, 0.75], [0, 0.75], [0, 0]]
    assert weights.tolist() == [by_hand]


def test_pixel_centres_on_samples_take_exactly_one_sample() -> None:
    # 28 samples over 28 pixels: 1 / 56 is not a binary fraction, the positions must still be exact
    weights = interpolation_weights(torch.tensor([3.0]), torch.tensor([31.0]), length=40, num_samples=28)[0]
    assert torch.equal(weights[3:31], torch.eye(28))
    assert weights[:3].count_nonzero() == weights[31:].count_nonzero() == 0


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 2.0), (3.0, 1.0), (math.nan, 3.0), (0.0, math.inf), (-math.inf, 2.0), (-9.0, -1.0)]
)
def test_degenerate_boxes_have_no_weights(start: float, end: float) -> None:
    weights = interpolation_weights(torch.tensor([start]), torch.tensor([end]), length=5, num_samples=3)
    assert torch.equal(weights, torch.zeros(1, 5, 3))


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 4.0, (0, 4)),
        (0.5, 1.5, (0, 1)),  # the centre at 1.5 lies on the end, which is outside
        (0.51, 1.51, (1, 2)),
        (0.6, 1.4, (1, 1)),  # between two centres
        (-3.0, 20.0, (0, 8)),
        (9.0, 12.0, (8, 8)),
        (-5.0, -1.0, (0, 0)),
        (5.0, 3.0, (5, 5)),
        (math.nan, 3.0, (0, 0)),
    ],
)
def test_covered_pixels(start: float, end: float, expected: tuple[int, int]) -> None:
    assert covered_pixels(start, end, length=8) == expected


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_equals_grid_sample(seed: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = Size(23, 31)
    mask = torch.rand(7, 7, generator=generator)
    corner = torch.rand(2, generator=generator) * torch.tensor([40.0, 30.0]) - 8
    extent = torch.rand(2, generator=generator) * 25 + 0.2
    box = torch.cat([corner, corner + extent])
    assert torch.equal(full_plane(mask, box, size, threshold), paste_with_grid_sample(mask, box, size) > threshold)


@pytest.mark.parametrize(
    "box", [[2, 3, 9, 10], [0, 0, 31, 23], [-10, -4, 50, 40], [30.4, 22.4, 33, 25], [4.5, 4.5, 11.5, 18.5]]
)
def test_equals_grid_sample_on_chosen_boxes(box: list[float]) -> None:
    mask = torch.rand(7, 7, generator=torch.Generator().manual_seed(1))
    size = Size(23, 31)
    expected = paste_with_grid_sample(mask, torch.tensor(box), size) > 0.4
    assert expected.any()
    assert torch.equal(full_plane(mask, torch.tensor(box), size, 0.4), expected)


def test_crop_is_the_box_and_no_more() -> None:
    pasted = paste_mask(torch.ones(28, 28), torch.tensor([3.0, 1.0, 6.0, 9.0]), Size(5, 40))
    assert (pasted.top, pasted.left) == (1, 3)
    assert pasted.pixels.shape == (4, 3)  # clipped at the fifth row
    assert pasted.pixels.dtype == torch.bool
    assert pasted.pixels.all()
    assert pasted.window == (slice(1, 5), slice(3, 6))


@pytest.mark.parametrize(
    "box",
    [[4, 1, 4, 3], [5, 1, 3, 3], [1, 3, 4, 1], [50, 1, 60, 3], [-9, 1, -2, 3], [0.6, 0, 1.4, 3], [math.nan, 0, 3, 3]],
)
def test_degenerate_boxes_give_empty_crops(box: list[float]) -> None:
    pasted = paste_mask(torch.ones(28, 28), torch.tensor(box), Size(8, 8))
    assert pasted.pixels.numel() == 0
    assert torch.zeros(8, 8)[pasted.window].numel() == 0


def test_half_precision_masks_are_pasted_in_the_precision_of_the_box() -> None:
    mask = torch.rand(5, 5, generator=torch.Generator().manual_seed(3)).half()
    box = torch.tensor([2001.3, 1.0, 2030.9, 20.0])
    size = Size(24, 2048)
    assert torch.equal(full_plane(mask, box, size), paste_with_grid_sample(mask, box, size) > 0.5)


def test_pasting_all_instances() -> None:
    instances = Instances(
        boxes=torch.tensor([[0.0, 0.0, 2.0, 1.0], [1.0, 0.0, 3.0, 2.0]]),
        labels=torch.tensor([2, 0]),
        scores=torch.tensor([0.75, 0.5]),
        masks=torch.stack([torch.ones(28, 28), torch.full((28, 28), 0.5)]),  # 0.5 is not above the threshold
    )
    first, second = paste_instances(instances, Size(2, 4), num_things=3)
    assert (first[:2], second[:2]) == ((2, 0.75), (0, 0.5))
    assert first[2].pixels.tolist() == [[True, True]]
    assert second[2].pixels.tolist() == [[False, False], [False, False]]
    assert second[2].window == (slice(0, 2), slice(1, 3))
    with pytest.raises(InputError, match="label 2 is no thing index; this label space has 2 things"):
        next(paste_instances(instances, Size(2, 4), num_things=2))


@pytest.mark.parametrize("weights", [1, 2000, 2**19])
def test_masks_laid_out_together_are_those_laid_out_one_by_one(weights: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(paste, "_WEIGHTS_AT_ONCE", weights)
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(40, 2, generator=generator) * 90 - 20
    boxes = torch.cat([corners, corners + torch.rand(40, 2, generator=generator) * 50 - 3], dim=1)
    boxes[7], boxes[8, 2] = torch.tensor([-1e6, -1e6, 1e6, 1e6]), torch.nan
    masks, size = torch.rand(40, 28, 28, generator=generator), Size(61, 83)
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        crops = list(paste.paste_each(masks.to(dtype), boxes.to(dtype), size))
        assert len(crops) == 40
        for crop, mask, box in zip(crops, masks.to(dtype), boxes.to(dtype), strict=True):
            alone = paste.paste_probabilities(mask, box, size)
            assert crop.window == alone.window
            assert torch.equal(crop.values, alone.values)
    assert list(paste.paste_each(masks[:0], boxes[:0], size)) == []
