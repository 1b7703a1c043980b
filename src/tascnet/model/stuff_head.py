"""Stuff head: P2..P7 -> per-pixel logits of all stuff categories and of things (Figure 2, top)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from tascnet.errors import InputError
from tascnet.model.averaging import Average, own_count
from tascnet.model.backbone import group_norm
from tascnet.precision import full_precision

LABEL_OFFSET = 0.5
"""Pixels from the centre of a cell, which lies between pixels, to the centre of the pixel whose label the loss reads,
down and to the right. The mean over the cell, or over its four middle pixels, makes blurred edges (docs/results.md)."""

NUM_SUMMED_LEVELS = 4  # Panoptic FPN's head reads P2..P5
SUMMED_GROUPS = 32  # of its group norms


class StuffHead(nn.Module):
    """Fully convolutional: two convolutions a level, everything to stride 4, concatenated, one 1x1 classifier.

    The channels of the output are the K_st stuff categories in the order of their semantic index, then either one
    channel "things" (the paper: "all stuff classes and an additional things mask") or one for each thing category
    (a second-hand reading; it makes the semantic segmentation a direct output).
    """

    def __init__(
        self,
        num_levels: int,
        in_channels: int,
        channels: int,
        num_outputs: int,
        stride: int = 4,
        offset: float = LABEL_OFFSET,
    ):
        """Build it with random weights.

        Args:
            num_levels: of the pyramid, the finest at stride 4.
            in_channels: of every level.
            channels: of its convolutions.
            num_outputs: C.
            stride: of the logits, 4 or 2. For 2, our addition, the features at stride 4 tell for each of the four
                pixels that a cell is made of by how much its logits differ from the interpolated ones.
            offset: pixels, of the points that the logits stand for from the centres of their cells.
        """
        if stride not in (2, 4):
            raise ValueError(f"the stride of the stuff head is {stride}; it must be 2 or 4.")
        super().__init__()
        self.stride, self.offset = stride, offset
        self.levels = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels, channels, 3, padding=1, bias=False),
                group_norm(channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 3, padding=1, bias=False),
                group_norm(channels),
                nn.ReLU(inplace=True),
            )
            for _ in range(num_levels)
        )
        self.classifier = nn.Conv2d(num_levels * channels, num_outputs, 1)
        if stride == 2:
            self.detail = nn.Conv2d(channels, 4 * num_outputs, 1)
            for parameter in self.detail.parameters():
                nn.init.zeros_(parameter)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """P2, P3, ... -> logits (B, C, h, w) at stride 4, or (B, C, 2 h, 2 w) at stride 2, float32 or better.

        A 1x1 convolution and bilinear upsampling commute, so each level is classified at its own resolution with its
        share of the classifier's weights, then upsampled and summed. That equals classifying the concatenation, and
        spares the concatenated planes: 768 channels at stride 4 with six levels.

        A level is upsampled by the ratio of strides and cut to h x w, not stretched to it: where h is no multiple of
        the ratio, the last cells of P6 and P7 reach beyond the image.
        """
        height, width = pyramid[0].shape[-2:]
        shares = self.classifier.weight.chunk(len(self.levels), dim=1)  # each (C, channels, 1, 1)
        assert self.classifier.bias is not None  # for the type checker
        finest = self.levels[0](pyramid[0])
        logits = full_precision(F.conv2d(finest, shares[0], self.classifier.bias))  # six levels are summed in it
        coarser = zip(self.levels[1:], shares[1:], pyramid[1:], strict=True)
        for doublings, (level, share, features) in enumerate(coarser, start=1):
            part = F.conv2d(level(features), share)
            part = F.interpolate(part, scale_factor=2**doublings, mode="bilinear", align_corners=False)
            logits = logits + part[..., :height, :width]
        if self.stride == 4:
            return logits
        coarse = F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=False)
        return coarse + F.pixel_shuffle(self.detail(finest), 2)


class SummedStuffHead(nn.Module):
    """Panoptic FPN's semantic head: each of P2..P5 convolved and upsampled twofold until stride 4, then summed.

    P2 and P3 pass one convolution, P4 two, P5 three. Coarser levels are not read. The channels of the output are those
    of `StuffHead`.
    """

    stride = 4

    def __init__(self, in_channels: int, channels: int, num_outputs: int, offset: float = LABEL_OFFSET):
        """Build it with random weights.

        Args:
            in_channels: of every pyramid level.
            channels: of its convolutions, a multiple of 32, the number of groups of its norms.
            num_outputs: C.
            offset: pixels, of the points that the logits stand for from the centres of their cells.

        Raises:
            InputError: the channels do not divide into the groups.
        """
        if channels % SUMMED_GROUPS:
            raise InputError(
                f"model.stuff_head.channels is {channels}; with merge 'sum' it must be a multiple of {SUMMED_GROUPS}, "
                "the number of groups of its norms."
            )
        super().__init__()
        self.offset = offset
        self.levels = nn.ModuleList(_climb(doublings, in_channels, channels) for doublings in range(NUM_SUMMED_LEVELS))
        self.classifier = nn.Conv2d(channels, num_outputs, 1)

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """P2, P3, P4, P5 (more are ignored) -> logits (B, C, h, w) at stride 4, float32 or better."""
        features: Tensor = self.levels[0](pyramid[0])
        for level, level_features in zip(self.levels[1:], pyramid[1:NUM_SUMMED_LEVELS], strict=True):
            features = features + level(level_features)
        return full_precision(self.classifier(features))


class _SummedNorm(nn.GroupNorm):
    """Group norm that also takes one value a group, as 32 channels have where P5 is a single position.

    PyTorch's module refuses it; the variance is 0 and the result the bias.
    """

    def forward(self, input: Tensor) -> Tensor:
        return torch.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)


def _climb(doublings: int, in_channels: int, channels: int) -> nn.Sequential:
    """From one level to stride 4: convolution, norm, activation before each doubling, and once where there is none."""
    steps: list[nn.Module] = []
    for step in range(max(doublings, 1)):
        convolution = nn.Conv2d(channels if step else in_channels, channels, 3, padding=1, bias=False)
        steps.append(nn.Sequential(convolution, _SummedNorm(SUMMED_GROUPS, channels), nn.ReLU(inplace=True)))
        if doublings:
            steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False))
    return nn.Sequential(*steps)


def stuff_loss(logits: Tensor, semantic: Tensor, stride: int, ignore: int, average: Average = own_count) -> Tensor:
    """Cross entropy at the resolution of the logits, VOID ignored.

    Args:
        logits: (B, C, h, w).
        semantic: (B, H, W) semantic index at the resolution of the images.
        stride: H / h.
        ignore: the value of VOID in `semantic`.
        average: what the sum is divided by, from the number of pixels that are not VOID.

    Returns:
        The mean over the pixels that are not VOID; zero where all are.
    """
    labels = semantic_labels(semantic, logits.shape[1], stride)
    total = F.cross_entropy(full_precision(logits), labels, ignore_index=ignore, reduction="sum")
    return total / average((labels != ignore).sum())


def semantic_labels(semantic: Tensor, num_outputs: int, stride: int) -> Tensor:
    """(B, H, W) semantic index -> (B, h, w) channel of the stuff head, of the pixel at `LABEL_OFFSET` of each cell.

    Thing indices beyond the last channel become the last channel: with K_st + 1 channels that is "things".
    """
    return semantic[:, stride // 2 :: stride, stride // 2 :: stride].clamp(max=num_outputs - 1)
