"""Small networks in detectron2's layout, with random weights, and what it computes from them, written naively."""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

STEM, WIDTHS, PYRAMID, HEAD = 8, (4, 8, 8, 16), 32, 16


def detectron2_state(num_things: int, num_stuff: int | None, blocks: Sequence[int] = (3, 4, 6, 3)) -> dict[str, Tensor]:
    """The tensors of a Panoptic FPN, or of a Mask R-CNN where there is no stuff."""
    state: dict[str, Tensor] = {}

    def convolution(name: str, out: int, into: int, side: int, norm: str = "", bias: bool = True) -> None:
        state[f"{name}.weight"] = torch.randn(out, into, side, side) * (2 / (into * side**2)) ** 0.5
        if norm:
            state[f"{name}.norm.weight"], state[f"{name}.norm.bias"] = torch.rand(out) + 0.5, torch.randn(out) * 0.1
        if norm == "bn":
            state[f"{name}.norm.running_mean"] = torch.randn(out) * 0.1
            state[f"{name}.norm.running_var"] = torch.rand(out) + 0.5
        elif not norm and bias:
            state[f"{name}.bias"] = torch.randn(out) * 0.1

    bottom = "backbone.bottom_up"
    convolution(f"{bottom}.stem.conv1", STEM, 3, 7, "bn")
    state[f"{bottom}.stem.conv1.weight"] /= 50  # photos are 0-255
    into = STEM
    for stage, (width, number) in enumerate(zip(WIDTHS, blocks, strict=True), start=2):
        for block in range(number):
            name = f"{bottom}.res{stage}.{block}"
            if block == 0:
                convolution(f"{name}.shortcut", width * 4, into, 1, "bn")
            convolution(f"{name}.conv1", width, into, 1, "bn")
            convolution(f"{name}.conv2", width, width, 3, "bn")
            convolution(f"{name}.conv3", width * 4, width, 1, "bn")
            into = width * 4
        convolution(f"backbone.fpn_lateral{stage}", PYRAMID, into, 1)
        convolution(f"backbone.fpn_output{stage}", PYRAMID, PYRAMID, 3)
    convolution("proposal_generator.rpn_head.conv", PYRAMID, PYRAMID, 3)
    convolution("proposal_generator.rpn_head.objectness_logits", 3, PYRAMID, 1)
    convolution("proposal_generator.rpn_head.anchor_deltas", 12, PYRAMID, 1)
    for name, out, before in (("fc1", HEAD, PYRAMID * 49), ("fc2", HEAD, HEAD)):
        state[f"roi_heads.box_head.{name}.weight"] = torch.randn(out, before) / before**0.5
        state[f"roi_heads.box_head.{name}.bias"] = torch.randn(out)
    for name, out in (("cls_score", num_things + 1), ("bbox_pred", num_things * 4)):
        state[f"roi_heads.box_predictor.{name}.weight"] = torch.randn(out, HEAD)
        state[f"roi_heads.box_predictor.{name}.bias"] = torch.randn(out)
    for number in (1, 2, 3, 4):
        convolution(f"roi_heads.mask_head.mask_fcn{number}", HEAD, PYRAMID if number == 1 else HEAD, 3)
    convolution("roi_heads.mask_head.deconv", HEAD, HEAD, 2)
    convolution("roi_heads.mask_head.predictor", num_things, HEAD, 1)
    if num_stuff is not None:
        for level, number in ((2, 1), (3, 1), (4, 2), (5, 3)):
            for step in range(number):
                convolution(f"sem_seg_head.p{level}.{step * 2}", 32, 32 if step else PYRAMID, 3, "gn")
        convolution("sem_seg_head.predictor", num_stuff + 1, 32, 1)
    return state


def naive_features(
    state: Mapping[str, Tensor], image_bgr: Tensor, blocks: Sequence[int] = (3, 4, 6, 3)
) -> list[Tensor]:
    """res2..res5 of (1, 3, h, w) blue, green, red, 0-255, by detectron2's names."""

    def convolved(name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
        x = F.conv2d(x, state[f"{name}.weight"], None, stride, padding)
        mean, variance, weight, bias = (
            state[f"{name}.norm.{part}"].view(1, -1, 1, 1) for part in ("running_mean", "running_var", "weight", "bias")
        )
        return (x - mean) / (variance + 1e-5).sqrt() * weight + bias

    bottom = "backbone.bottom_up"
    x = image_bgr - torch.tensor([103.53, 116.28, 123.675]).view(1, 3, 1, 1)
    x = F.max_pool2d(convolved(f"{bottom}.stem.conv1", x, 2, 3).relu(), 3, 2, 1)
    features = []
    for stage, number in enumerate(blocks, start=2):
        for block in range(number):
            name, stride = f"{bottom}.res{stage}.{block}", 2 if stage > 2 and block == 0 else 1
            shortcut = convolved(f"{name}.shortcut", x, stride) if block == 0 else x
            x = convolved(f"{name}.conv1", x, stride).relu()
            x = convolved(f"{name}.conv2", x, 1, 1).relu()
            x = (convolved(f"{name}.conv3", x) + shortcut).relu()
        features.append(x)
    return features


def naive_semantic_logits(state: Mapping[str, Tensor], pyramid: Sequence[Tensor]) -> Tensor:
    """Logits at stride 4 of P2..P5, by detectron2's names: things first."""
    total = torch.zeros(())
    for level, x in zip((2, 3, 4, 5), pyramid, strict=True):
        for step in range(max(level - 2, 1)):
            name = f"sem_seg_head.p{level}.{step * 2}"
            x = F.conv2d(x, state[f"{name}.weight"], padding=1)
            grouped = x.view(1, 32, -1)
            grouped = (grouped - grouped.mean(2, keepdim=True)) / (
                grouped.var(2, keepdim=True, correction=0) + 1e-5
            ).sqrt()
            scale, shift = (state[f"{name}.norm.{part}"].view(1, -1, 1, 1) for part in ("weight", "bias"))
            x = (grouped.view_as(x) * scale + shift).relu()
            if level > 2:
                x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        total = total + x
    return F.conv2d(total, state["sem_seg_head.predictor.weight"], state["sem_seg_head.predictor.bias"])
