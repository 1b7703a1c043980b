import pytest
import torch
from torch import Tensor
from torchvision import ops

from tascnet.model.roi_align import roi_align

STRIDE = 4


def rois_of(number: int) -> Tensor:
    """RoIs of two images of 80 x 120 pixels: inside, across the border, beyond it, without extent."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(number, 2, generator=generator) * 160 - 30
    sides = torch.rand(number, 2, generator=generator) * 90
    sides[:2] = 0
    image_of = torch.arange(number)[:, None] % 2
    return torch.cat((image_of.float(), corners, corners + sides), dim=1)


@pytest.mark.parametrize("cells", [7, 14])
@pytest.mark.parametrize("sampling_ratio", [0, 1, 2, 3])
def test_values_and_gradients_are_torchvisions(cells: int, sampling_ratio: int) -> None:
    rois = rois_of(60)
    features = torch.randn(2, 5, 20, 30, generator=torch.Generator().manual_seed(1)).requires_grad_()
    weights = torch.randn(60, 5, cells, cells, generator=torch.Generator().manual_seed(2))
    expected = ops.roi_align(features, rois, cells, 1 / STRIDE, sampling_ratio, aligned=True)
    (wanted,) = torch.autograd.grad((expected * weights).sum(), features)

    found = roi_align(features.contiguous(memory_format=torch.channels_last), rois, cells, 1 / STRIDE, sampling_ratio)
    (gradient,) = torch.autograd.grad((found * weights).sum(), features)

    assert expected.abs().max() > 1
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(gradient, wanted, rtol=0, atol=1e-3)


def test_no_rois_give_no_cells_and_a_gradient_of_zero() -> None:
    features = torch.randn(1, 3, 8, 8).requires_grad_()
    found = roi_align(features, torch.zeros(0, 5), 7, 1 / STRIDE, 2)
    found.sum().backward()
    assert found.shape == (0, 3, 7, 7)
    assert features.grad is not None
    assert not features.grad.any()


@pytest.mark.parametrize("trains", [True, False])
def test_half_precision_features_are_read_at_exact_corners(trains: bool) -> None:
    column = torch.arange(512.0).expand(1, 1, 4, 512)  # a value says where it was read
    features = column.to(torch.float16).requires_grad_(trains)
    rois = torch.tensor([[0.0, 1001.0, 2.0, 1003.0, 6.0]])
    found = roi_align(features, rois, 1, 1 / STRIDE, 2)
    assert found.item() == pytest.approx(1002 / STRIDE - 0.5, abs=1e-3)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_inference_of_boxes_of_every_kind(aligned: bool, sampling_ratio: int, dtype: torch.dtype) -> None:
    odd = [
        [0, 0, 0, 0, 0],  # no extent
        [1, 50, 60, 20, 10],  # turned around
        [0, 3, 3, 3.01, 3.02],  # tiny
        [1, -4000, -3000, 5000, 6000],  # huge: more points in a cell than are summed as rows
        [0, 0, 0, 116, 3],  # a strip
        [1, 500, 500, 600, 700],  # beyond the plane
        [0, -90, -80, -20, -10],
        [1, -6, 70, 130, 90],  # over the border
    ]
    rois = torch.cat((torch.tensor(odd, dtype=torch.float32), rois_of(200)))
    features = torch.randn(2, 9, 21, 31, generator=torch.Generator().manual_seed(1)).to(dtype)
    wide = torch.promote_types(dtype, torch.float32)
    with torch.no_grad():
        found = roi_align(features, rois, 7, 1 / STRIDE, sampling_ratio, aligned)
        wanted = ops.roi_align(features.to(wide), rois.to(wide), 7, 1 / STRIDE, sampling_ratio, aligned=aligned)
    assert found.dtype == wide
    assert wanted.abs().max() > 1
    # float32 rounds a point at 700 pixels to 6e-5, and the plane changes by up to 6 from one position to the next
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4 if wide == torch.float32 else 1e-9)


def test_numbers_of_points_as_torchvision_counts_them() -> None:
    sides = torch.arange(1, 400) / 2  # of many sides the cells are whole multiples of a pixel
    rois = torch.stack((sides * 0, sides * 0 + 2, sides * 0 + 2, sides + 2, sides / 2 + 2), dim=1)
    features = torch.randn(1, 3, 60, 60, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(roi_align(features, rois, 7, 0.25, 0), ops.roi_align(features, rois, 7, 0.25, 0, True))


def test_a_box_without_a_place_reads_nothing_and_spoils_no_other() -> None:
    features = torch.ones(1, 2, 9, 9)
    rois = torch.tensor([[0, torch.nan, 0, 9, 9], [0.0, 4, 4, 12, 12]])
    for sampling_ratio in (0, 2):
        found = roi_align(features, rois, 2, 1 / STRIDE, sampling_ratio)
        assert found[1].eq(1).all()


def test_parts_of_many_boxes_are_put_together_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rois = torch.randn(2, 4, 20, 30), rois_of(50)
    whole = [roi_align(features, rois, 7, 1 / STRIDE, ratio) for ratio in (0, 2)]
    monkeypatch.setattr("tascnet.model.roi_align._ROWS_AT_ONCE", 3000)
    parts = [roi_align(features, rois, 7, 1 / STRIDE, ratio) for ratio in (0, 2)]
    torch.testing.assert_close(parts, whole, rtol=0, atol=0)
