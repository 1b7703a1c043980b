"""Feature pyramid: C2..C7 -> P2..P7, all with the same number of channels (Figure 2)."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool
from torchvision.ops.misc import FrozenBatchNorm2d

ConvNorm = Literal["none", "frozen_bn", "bn"]
"""What follows the convolutions of pyramid and heads."""


def norm_layer(norm: ConvNorm) -> Callable[[int], nn.Module] | None:
    """What torchvision's parts take as `norm_layer`: makes the norm of a number of channels; None for a bias alone."""
    layers: dict[ConvNorm, Callable[[int], nn.Module] | None] = {
        "none": None,
        "frozen_bn": FrozenBatchNorm2d,
        "bn": nn.BatchNorm2d,
    }
    return layers[norm]


class FPN(nn.Module):
    """Laterals on every backbone level, top-down from the coarsest to P2.

    With the added stages the pyramid is P2..P7. Over a plain backbone (C2..C5) it is the plain FPN: P2..P5, and P6
    is P5 subsampled.

    Attributes:
        channels: number of channels of every level.
        strides: stride of each level in pixels, P2 first.
    """

    def __init__(
        self, in_channels: Sequence[int], strides: Sequence[int], channels: int = 256, norm: ConvNorm = "none"
    ):
        super().__init__()
        plain = len(in_channels) == 4
        self.channels = channels
        self.strides = [*strides, strides[-1] * 2] if plain else list(strides)
        self.pyramid = FeaturePyramidNetwork(
            list(in_channels),
            channels,
            extra_blocks=LastLevelMaxPool() if plain else None,
            norm_layer=norm_layer(norm),
        )

    def freeze_unread(self, num_read: int) -> None:
        """Exclude from training the output convolutions of the levels that no head reads, from `num_read` on.

        They have no gradient, and training in several processes ends where a trained parameter has none. They stay in
        the state, which is the same for all heads.
        """
        for block in self.pyramid.layer_blocks[num_read:]:
            block.requires_grad_(False)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """C2, C3, ... -> P2, P3, ...: each (B, channels, H / stride, W / stride), rounded up."""
        levels = OrderedDict((str(level), feature) for level, feature in enumerate(features, start=2))
        return list(self.pyramid(levels).values())
