"""Feature pyramid: against a pyramid written out by hand with the same weights."""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

from tascnet.model.fpn import FPN

IN_CHANNELS = [3, 4, 5, 6, 7, 8]
SIZES = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]  # 64 x 96 pixels at strides 4 to 128, rounded up


def features(num_levels: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, channels, *size, generator=generator)
        for channels, size in zip(IN_CHANNELS[:num_levels], SIZES[:num_levels], strict=True)
    ]


def by_hand(fpn: FPN, levels: list[Tensor]) -> list[Tensor]:
    """Laterals, added from the coarsest down by repeating positions, then a 3x3 convolution each."""
    laterals = [
        F.conv2d(level, block[0].weight, block[0].bias)
        for level, block in zip(levels, fpn.pyramid.inner_blocks, strict=True)
    ]
    for fine in reversed(range(len(levels) - 1)):
        height, width = laterals[fine].shape[-2:]
        rows = torch.arange(height) * laterals[fine + 1].shape[-2] // height
        columns = torch.arange(width) * laterals[fine + 1].shape[-1] // width
        laterals[fine] = laterals[fine] + laterals[fine + 1][:, :, rows][..., columns]
    return [
        F.conv2d(lateral, block[0].weight, block[0].bias, padding=1)
        for lateral, block in zip(laterals, fpn.pyramid.layer_blocks, strict=True)
    ]


def test_six_levels_with_added_stages() -> None:
    fpn = FPN(IN_CHANNELS, [4, 8, 16, 32, 64, 128], channels=9)
    pyramid = fpn(features(6))
    assert fpn.strides == [4, 8, 16, 32, 64, 128]
    assert fpn.channels == 9
    assert [tuple(level.shape) for level in pyramid] == [(2, 9, *size) for size in SIZES]
    for level, expected in zip(pyramid, by_hand(fpn, features(6)), strict=True):
        assert torch.allclose(level, expected, atol=1e-5)


def test_plain_pyramid_subsamples_p5() -> None:
    fpn = FPN(IN_CHANNELS[:4], [4, 8, 16, 32], channels=9)
    pyramid = fpn(features(4))
    assert fpn.strides == [4, 8, 16, 32, 64]
    assert len(pyramid) == 5
    for level, expected in zip(pyramid, by_hand(fpn, features(4)), strict=False):
        assert torch.allclose(level, expected, atol=1e-5)
    assert torch.equal(pyramid[4], pyramid[3][:, :, ::2, ::2])


def test_the_coarsest_level_reaches_p2_everywhere() -> None:
    fpn = FPN(IN_CHANNELS, [4, 8, 16, 32, 64, 128], channels=9)
    other = features(6)
    other[5] = other[5] + 1
    difference = (fpn(other)[0] - fpn(features(6))[0]).abs().amax(1)
    assert (difference > 1e-6).all()
