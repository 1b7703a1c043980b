"""Stuff head: P2..P7 -> per-pixel logits of all stuff categories and of things (Figure 2, top)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from tascnet.model.averaging import Average, own_count
from tascnet.model.backbone import group_norm


class StuffHead(nn.Module):
    """Fully convolutional: two convolutions a level, everything to stride 4, concatenated, one 1x1 classifier.

    The channels of the output are the K_st stuff categories in the order of their semantic index, then either one
    channel "things" (the paper: "all stuff classes and an additional things mask") or one for each thing category
    (a second-hand reading; it makes the semantic segmentation a direct output).
    """

    def __init__(self, num_levels: int, in_channels: int, channels: int, num_outputs: int):
        super().__init__()
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

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """P2, P3, ... -> logits (B, C, h, w) at stride 4.

        A 1x1 convolution and bilinear upsampling commute, so each level is classified at its own resolution with its
        share of the classifier's weights, then upsampled and summed. That equals classifying the concatenation, and
        spares the concatenated planes: 768 channels at stride 4 with six levels.
        """
        height, width = pyramid[0].shape[-2:]
        shares = self.classifier.weight.chunk(len(self.levels), dim=1)  # each (C, channels, 1, 1)
        logits = torch.zeros((), device=pyramid[0].device)
        for level, share, features in zip(self.levels, shares, pyramid, strict=True):
            part = F.conv2d(level(features), share)
            if part.shape[-2:] != (height, width):
                part = F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)
            logits = logits + part
        assert self.classifier.bias is not None  # for the type checker
        return logits + self.classifier.bias.view(1, -1, 1, 1)


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
    total = F.cross_entropy(logits, labels, ignore_index=ignore, reduction="sum")
    return total / average((labels != ignore).sum())


def semantic_labels(semantic: Tensor, num_outputs: int, stride: int) -> Tensor:
    """(B, H, W) semantic index -> (B, h, w) channel of the stuff head, at the pixel centres of stride `stride`.

    Thing indices beyond the last channel become the last channel: with K_st + 1 channels that is "things".
    """
    return semantic[:, stride // 2 :: stride, stride // 2 :: stride].clamp(max=num_outputs - 1)
