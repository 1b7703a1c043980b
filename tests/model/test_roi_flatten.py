"""RoI-Flatten is compared with full planes made by `grid_sample`, and with numbers worked out by hand."""

import importlib

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tascnet.model.roi_flatten import roi_flatten
from tascnet.structures import Size

SIZE = Size(24, 40)


def flatten_naively(masks: Tensor, boxes: Tensor, size: Size, stride: int = 4) -> Tensor:
    """Section 4 of the method word by word, in float64, one plane an instance."""
    x = torch.arange(size.width, dtype=torch.float64) + 0.5
    y = torch.arange(size.height, dtype=torch.float64) + 0.5
    total, votes = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for mask, box in zip(masks.double(), boxes.double() / stride, strict=True):
        x0, y0, x1, y1 = box.tolist()
        if x1 <= x0 or y1 <= y0:
            continue
        grid_y, grid_x = torch.meshgrid((y - y0) / (y1 - y0) * 2 - 1, (x - x0) / (x1 - x0) * 2 - 1, indexing="ij")
        scores = (mask * (mask > 0.5))[None, None]
        grid = torch.stack([grid_x, grid_y], dim=-1)[None]
        pasted = functional.grid_sample(scores, grid, align_corners=False, padding_mode="zeros")[0, 0]
        pasted = pasted * (((y >= y0) & (y < y1))[:, None] & (x >= x0) & (x < x1))
        total = total + pasted
        votes += pasted > 1e-5  # grid_sample leaves rounding where a pixel centre falls on a sample of zero
    return total / votes.clamp(min=1)


def random_instances(count: int, seed: int = 0, side: float = 60) -> tuple[Tensor, Tensor]:
    """Masks with about half of the samples below the threshold; boxes of all sizes, some beyond the image."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.rand(count, 2, generator=generator) * torch.tensor([SIZE.width * 4.0, SIZE.height * 4.0])
    sides = torch.exp(torch.randn(count, 2, generator=generator)) * side
    boxes = torch.cat([centres - sides / 2, centres + sides / 2], dim=1)
    return torch.rand(count, 7, 7, generator=generator), boxes


@pytest.fixture(params=["one by one", "together"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of pasting: that of a processor and that of an accelerator."""
    if request.param == "together":
        module = importlib.import_module("tascnet.model.roi_flatten")
        monkeypatch.setitem(module._PASTED_AT_ONCE, "cpu", module._WEIGHTS_AT_ONCE)
    return str(request.param)


def test_overlap_is_the_mean(way: str) -> None:
    masks = torch.stack([torch.full((4, 4), 0.8), torch.full((4, 4), 0.6)])
    boxes = torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]])
    flat = roi_flatten(masks, boxes, Size(4, 8), stride=1)
    assert torch.allclose(flat, torch.tensor([0.8, 0.8, 0.7, 0.7, 0.6, 0.6, 0, 0]).expand(4, 8))
    assert flat[:, 6:].count_nonzero() == 0


def test_scores_not_above_the_threshold_are_zero_and_have_no_vote() -> None:
    first = torch.full((4, 4), 0.8)
    first[0, 3] = 0.5
    flat = roi_flatten(
        torch.stack([first, torch.full((4, 4), 0.6)]), torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]]), Size(4, 8), 1
    )
    assert flat[0, 3].item() == pytest.approx(0.6)
    assert flat[1, 3].item() == pytest.approx(0.7)


def test_interpolates_between_samples() -> None:
    # four pixels, two samples: weights .75 | .75 .25 | .25 .75 | .75; along x the samples are 0.8 and 0, along y equal
    mask = torch.tensor([[[0.8, 0.2], [0.8, 0.2]]])
    flat = roi_flatten(mask, torch.tensor([[0.0, 0, 4, 4]]), Size(4, 4), stride=1)
    row = torch.tensor([0.6, 0.6, 0.2, 0.0])
    assert torch.allclose(flat, torch.stack([row * 0.75, row, row, row * 0.75]))


def test_boxes_are_in_pixels_of_the_image() -> None:
    flat = roi_flatten(torch.full((1, 4, 4), 0.9), torch.tensor([[8.0, 4, 16, 8]]), Size(4, 6), stride=4)
    expected = torch.zeros(4, 6)
    expected[1, 2:4] = 0.9
    assert torch.allclose(flat, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("seed", range(3))
def test_equals_full_planes(way: str, dtype: torch.dtype, seed: int) -> None:
    masks, boxes = random_instances(70, seed)
    flat = roi_flatten(masks.to(dtype), boxes.to(dtype), SIZE)
    assert flat.dtype == dtype
    assert (flat > 0).double().mean() > 0.5
    torch.testing.assert_close(flat.double(), flatten_naively(masks, boxes, SIZE), atol=1e-5, rtol=0)


def test_equals_full_planes_where_pixel_centres_fall_on_samples(way: str) -> None:
    generator = torch.Generator().manual_seed(5)
    corners = torch.randint(0, 20, (40, 2), generator=generator) * 4.0
    sides = torch.tensor([7.0, 14.0, 21.0])[torch.randint(0, 3, (40, 2), generator=generator)] * 4
    masks = torch.rand(40, 7, 7, generator=generator)
    boxes = torch.cat([corners, corners + sides], dim=1)
    torch.testing.assert_close(
        roi_flatten(masks, boxes, SIZE).double(), flatten_naively(masks, boxes, SIZE), atol=1e-5, rtol=0
    )


def test_gradient_worked_out_by_hand(way: str) -> None:
    masks = torch.stack([torch.full((4, 4), 0.8), torch.full((4, 4), 0.6)]).requires_grad_()
    flat = roi_flatten(masks, torch.tensor([[0.0, 0, 4, 4], [2, 0, 6, 4]]), Size(4, 5), stride=1)
    flat.sum().backward()
    assert masks.grad is not None
    assert torch.allclose(masks.grad[0], torch.tensor([1, 1, 0.5, 0.5]).expand(4, 4))
    assert torch.allclose(
        masks.grad[1], torch.tensor([0.5, 0.5, 1, 0]).expand(4, 4)
    )  # the last column is off the plane


def test_gradient_equals_that_of_full_planes(way: str) -> None:
    masks, boxes = random_instances(40, seed=2)
    weights = torch.rand(SIZE, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    ours, naive = masks.double().requires_grad_(), masks.double().requires_grad_()
    (roi_flatten(ours, boxes, SIZE) * weights).sum().backward()
    (flatten_naively(naive, boxes, SIZE) * weights).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad, naive.grad)
    assert not ours.grad[masks <= 0.5].any()


def test_gradcheck() -> None:
    masks, boxes = random_instances(3, seed=4)
    masks = torch.where(masks > 0.5, masks * 0.4 + 0.6, masks * 0.8).double()[:, :3, :3].contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda m: roi_flatten(m, boxes, Size(6, 9)), (masks,))


def test_boxes_get_no_gradient() -> None:
    masks, boxes = random_instances(3)
    roi_flatten(masks.requires_grad_(), boxes.requires_grad_(), SIZE).sum().backward()
    assert boxes.grad is None


def test_no_instances_give_zeros_that_join_a_graph() -> None:
    masks = torch.zeros(0, 28, 28, requires_grad=True)
    flat = roi_flatten(masks, torch.zeros(0, 4), SIZE)
    assert torch.equal(flat, torch.zeros(SIZE))
    flat.sum().backward()
    assert masks.grad is not None
    assert masks.grad.shape == (0, 28, 28)


@pytest.mark.parametrize(
    "box", [[-50, -50, -1, -1], [400, 0, 500, 90], [8, 8, 8, 40], [20, 8, 10, 40], [9.0, 9, 9.5, 9.5]]
)
def test_boxes_without_pixels_add_nothing(way: str, box: list[float]) -> None:
    masks, boxes = random_instances(2)
    more = torch.cat([boxes, torch.tensor([box], dtype=boxes.dtype)])
    flat = roi_flatten(torch.cat([masks, torch.ones(1, 7, 7)]), more, SIZE)
    torch.testing.assert_close(flat, roi_flatten(masks, boxes, SIZE))
    assert torch.equal(roi_flatten(torch.ones(1, 7, 7), more[2:], SIZE), torch.zeros(SIZE))


def test_half_precision_is_computed_in_single() -> None:
    masks, boxes = random_instances(10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        flat = roi_flatten(masks, boxes, SIZE)
    assert torch.equal(flat, roi_flatten(masks, boxes, SIZE))
    assert roi_flatten(masks.bfloat16(), boxes, SIZE).dtype == torch.float32
