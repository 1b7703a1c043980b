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
