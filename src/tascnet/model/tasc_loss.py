"""Both things masks -> consistency loss; residual map.

M_st is what the stuff head calls things, M_th what the things head does (`roi_flatten`). Both are confidence masks: a
probability where it is above one half, 0 elsewhere. Shapes: (..., h, w) stands for one image or a batch.
"""

from typing import Literal

from torch import Tensor

from tascnet.model.averaging import Average, own_count

Normalization = Literal["valid", "active"]
"""Over which pixels the loss is averaged: all that are not VOID, or those of them that either head calls things."""


def things_probability(stuff_logits: Tensor, num_stuff: int) -> Tensor:
    """The probability that a pixel is things, from the logits of the stuff head: the sum over its things channels.

    Args:
        stuff_logits: (C, h, w) or (B, C, h, w); C is K_st + 1 or K, the K_st stuff categories first.
        num_stuff: K_st.

    Returns:
        (h, w) or (B, h, w), 0..1.
    """
    if not 0 <= num_stuff < stuff_logits.shape[-3]:
        raise ValueError(
            f"stuff logits of {stuff_logits.shape[-3]} channels have no things channel after {num_stuff} of stuff."
        )
    return stuff_logits.softmax(dim=-3)[..., num_stuff:, :, :].sum(dim=-3)


def confidence_mask(probability: Tensor) -> Tensor:
    """The probability where it is above one half, exactly 0 elsewhere; gradient flows where it is kept."""
    return probability.where(probability > 0.5, 0)


def tasc_loss(
    stuff_things: Tensor,
    roi_things: Tensor,
    valid: Tensor,
    normalization: Normalization = "valid",
    average: Average = own_count,
) -> Tensor:
    """Things and Stuff Consistency: the mean squared difference of the two things masks (section 5 of the method).

    Gradient flows into both heads. Averaging over active pixels is our option: with the mean over all pixels the
    gradient of a few small objects is lost in a large image.

    Args:
        stuff_things: (..., h, w) M_st, a confidence mask.
        roi_things: (..., h, w) M_th.
        valid: (..., h, w) bool, True where the annotation is not VOID.
        normalization: "valid" averages over valid pixels; "active" over valid pixels where either mask is above 0.
        average: what the sum is divided by, from the number of those pixels.

    Returns:
        A scalar, 0..1; 0 (part of the graph) where no pixel counts.
    """
    if normalization not in ("valid", "active"):
        raise ValueError(f"normalization is '{normalization}'; it must be 'valid' or 'active'.")
    counted = valid if normalization == "valid" else valid & ((stuff_things > 0) | (roi_things > 0))
    squared = (stuff_things - roi_things).square().where(counted, 0)
    return squared.sum() / average(counted.sum())


def tasc_weight(step: int, weight: float, warmup_steps: int) -> float:
    """The weight of the loss at a training step: linear from 0 at step 0 to `weight` at `warmup_steps`, then constant.

    A warm-up is our reading: at first neither head knows what things are, and the cheapest agreement is on nothing.
    """
    return weight if step >= warmup_steps else weight * step / warmup_steps


def residual(stuff_things: Tensor, roi_things: Tensor) -> Tensor:
    """(..., h, w): where the heads disagree and by how much, 0..1; the picture of the paper's Figure 4."""
    return (stuff_things - roi_things).abs()


def doubt(stuff_things: Tensor, roi_things: Tensor) -> Tensor:
    """The mean residual over pixels that either head calls things, 0..1: a measure of doubt without annotation.

    Args:
        stuff_things: (..., h, w) M_st, a confidence mask.
        roi_things: (..., h, w) M_th.

    Returns:
        (...), one number an image; 0 where both heads see no things.
    """
    active = (stuff_things > 0) | (roi_things > 0)
    disagreement = residual(stuff_things, roi_things).where(active, 0)
    return disagreement.sum(dim=(-2, -1)) / active.sum(dim=(-2, -1)).clamp(min=1)
