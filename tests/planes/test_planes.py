"""Planes over images: cells lie where they were computed, whatever the sizes."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tascnet.model.stuff_head import LABEL_OFFSET, semantic_labels
from tascnet.planes.plane import Extent, InterpolatedCrops, Plane, at_cells, interpolated, interpolated_argmax
from tascnet.structures import Size

SIDES = [1, 2, 3, 4, 5, 33, 37, 65, 126, 127, 128, 129, 333]


def noise(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def value_at(values: Tensor, row: float, column: float) -> Tensor:
    """Bilinear by hand: `row` and `column` count cells from the plane's edge; beyond the outer centres clamped."""
    height, width = values.shape[-2:]
    y, x = min(max(row - 0.5, 0), height - 1), min(max(column - 0.5, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, across = y - top, x - left
    upper = values[..., top, left] * (1 - across) + values[..., top, right] * across
    lower = values[..., bottom, left] * (1 - across) + values[..., bottom, right] * across
    return upper * (1 - down) + lower * down


def placed_by_hand(plane: Plane, size: Size) -> Tensor:
    rows = [(i + 0.5) * plane.extent.rows / size.height - plane.offset for i in range(size.height)]
    columns = [(j + 0.5) * plane.extent.columns / size.width - plane.offset for j in range(size.width)]
    return torch.stack([torch.stack([value_at(plane.values, y, x) for x in columns], -1) for y in rows], -2)


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("width", SIDES)
def test_an_edge_is_found_where_it_is(width: int, stride: int) -> None:
    """Linear evidence for an edge at every third pixel, on the plane of a padded input."""
    cells = 128 * 3 // stride
    centres = (torch.arange(cells) + 0.5) * stride
    for edge in range(0, width + 1, 3):
        evidence = (centres - edge).expand(2, cells)
        plane = Plane.at_stride(torch.stack([-evidence, evidence]), stride, Size(stride, width))
        left = int((interpolated_argmax(plane, Size(stride, width)) == 0).sum(1)[0])
        half_cell = stride // 2  # beyond the outermost centres the evidence is constant
        if half_cell < edge < plane.grid.width * stride - half_cell:
            assert abs(left - edge) <= 0.5
        # the same at another size of the image
        left = int((interpolated_argmax(plane, Size(stride, 3 * width)) == 0).sum(1)[0])
        if half_cell < edge < plane.grid.width * stride - half_cell:
            assert abs(left - 3 * edge) <= 1


@pytest.mark.parametrize("input_size", [Size(1, 1), Size(5, 7), Size(13, 6), Size(12, 19)])
@pytest.mark.parametrize("size", [Size(1, 1), Size(5, 7), Size(9, 30), Size(31, 3)])
@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_interpolation_of_a_plane_at_any_place(input_size: Size, size: Size, stride: int, offset: float) -> None:
    plane = Plane.at_stride(noise(5, 20, 20), stride, input_size, offset)
    wanted = placed_by_hand(plane, size)
    torch.testing.assert_close(interpolated(plane, size), wanted, rtol=0, atol=1e-5)
    clear = wanted.topk(2, dim=0).values.diff(dim=0).abs()[0] > 1e-4  # elsewhere rounding decides
    assert torch.equal(interpolated_argmax(plane, size).long()[clear], wanted.argmax(0)[clear])


def test_cells_beyond_the_image_are_cut_off() -> None:
    plane = Plane.at_stride(torch.arange(64.0).view(8, 8), 4, Size(17, 8))
    assert (plane.grid, plane.extent) == (Size(5, 2), Extent(4.25, 2.0))
    assert plane.values.tolist() == torch.arange(64.0).view(8, 8)[:5, :2].tolist()


@pytest.mark.parametrize(
    ("size", "stride"), [(Size(h, w), s) for h in SIDES[:9] for w in (1, 6, 31) for s in (1, 2, 4)]
)
def test_the_pixel_at_the_centre_of_each_cell(size: Size, stride: int) -> None:
    image_map = torch.arange(size.height * size.width).view(tuple(size))
    plane = Plane.at_stride(torch.zeros(400, 400), stride, size)
    found = at_cells(image_map, plane)
    assert found.shape == tuple(plane.grid)
    for row in range(plane.grid.height):
        for column in range(plane.grid.width):
            y = min((2 * row + 1) * stride // 2, size.height - 1)
            x = min((2 * column + 1) * stride // 2, size.width - 1)
            assert found[row, column] == image_map[y, x]


@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize(("height", "width"), [(64, 32), (37, 33), (6, 5), (2, 130)])
def test_cells_are_placed_where_the_loss_reads_their_labels(height: int, width: int, stride: int) -> None:
    image_map = torch.arange(height * width).view(height, width)
    plane = Plane.at_stride(torch.zeros(70, 70), stride, Size(height, width), LABEL_OFFSET)
    labels = semantic_labels(image_map[None], height * width, stride)[0]
    assert torch.equal(at_cells(image_map, plane)[: labels.shape[0], : labels.shape[1]], labels)
    # a logit that is large in one cell is largest in the pixel that was read
    hot = torch.zeros(1, *plane.grid)
    hot[0, 0, 0] = 1
    peak = interpolated(plane.with_values(hot), Size(height, width))[0]
    assert peak[: stride // 2 + 1, : stride // 2 + 1].min() == 1
    if height > stride:
        assert peak[stride // 2 + 1, 0] < 1


def test_ids_at_the_centres_of_cells_are_exact() -> None:
    image_map = torch.tensor([[2**31 - 1, 2**31 - 2], [2**24 + 1, 0]])
    assert torch.equal(at_cells(image_map, torch.zeros(2, 2)), image_map)


@pytest.mark.parametrize(
    ("coarse", "fine"),
    [
        ((9, 13), (36, 52)),
        ((9, 13), (35, 50)),
        ((9, 13), (9, 13)),
        ((9, 13), (5, 4)),
        ((1, 1), (7, 3)),
        ((1, 8), (3, 40)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("smooth", [True, False])
def test_argmax_equals_interpolation_then_argmax(
    coarse: tuple[int, int], fine: tuple[int, int], dtype: torch.dtype, smooth: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, *coarse, generator=generator)
    if smooth:
        logits = functional.interpolate(torch.randn(1, 6, 2, 2, generator=generator), size=coarse, mode="bilinear")[0]
    logits = logits.to(dtype)
    computed = logits.float() if dtype == torch.bfloat16 else logits
    expected = functional.interpolate(computed[None], size=fine, mode="bilinear", align_corners=False)[0].argmax(0)
    assert torch.equal(interpolated_argmax(logits, Size(*fine)).long(), expected)
    plane = functional.interpolate(computed[None], size=fine, mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(interpolated(logits, Size(*fine)), plane)


def test_a_channel_that_is_second_in_all_corners_can_win_between_them() -> None:
    # channel 0 is best left, channel 1 right; in the middle they have 0.5 each and channel 2 has 0.9
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.9, 0.9]]])
    assert interpolated_argmax(logits, Size(1, 8)).tolist() == [[0, 0, 2, 2, 2, 2, 1, 1]]


@pytest.mark.parametrize(("height", "width"), [(65, 130), (64, 67), (1, 1), (3, 500)])
def test_crops_are_those_of_the_whole_interpolated(height: int, width: int):
    size = Size(height, width)
    values = torch.randn(2, -(-height // 4), -(-width // 4), generator=torch.Generator().manual_seed(0))
    plane = Plane.at_stride(values, 4, size, 0.5)
    crops, whole = InterpolatedCrops(plane, size), interpolated(plane, size)
    for window in ((slice(0, height), slice(0, width)), (slice(height // 3, height), slice(0, width // 2 + 1))):
        assert torch.equal(crops[window], whole[..., window[0], window[1]])
    assert crops[slice(0, 0), slice(0, 0)].shape == (2, 0, 0)
