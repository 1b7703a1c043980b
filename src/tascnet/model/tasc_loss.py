"""Both things masks -> consistency loss; residual map.

M_st is what the stuff head calls things, M_th what the things head does (`roi_flatten`). Both are confidence masks: a
probability where it is above one half, 0 elsewhere. Shapes: (..., h, w) stands for one image or a batch.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor

from tascnet.model.averaging import Average, own_count
from tascnet.precision import full_precision

StuffMask = Literal["confidence", "probability"]
Normalization = Literal["valid", "active"]
Gradient = Literal["both", "things"]


@dataclass(frozen=True)
class TascForm:
    """A reading of the consistency loss. The literal one (section 5 of the method) is "confidence" and "both",
    averaged over "valid" pixels; docs/experiments.md compares them, and others that measured worse.

    Attributes:
        stuff_mask: what of the stuff head is compared: its confidence mask, or its probability as it is. The
            confidence mask has no gradient where the stuff head misses a thing: there the loss only lowers the masks
            of the things head. The probability is raised there, and the two heads come closer; PQ was the same.
        normalization: over which pixels the loss is averaged: all that are valid (neither VOID nor a crowd), or those
            of them that either head calls things. With the mean over all pixels the gradient of a few small objects is
            lost in a large image.
        gradient: which heads learn from it: both, or the things head alone. The stuff head has an annotation for every
            pixel, a better teacher than the masks of some RoIs; the masks learn inside of their boxes only, and gain
            from the stuff head.
    """

    stuff_mask: StuffMask = "probability"
    normalization: Normalization = "active"
    gradient: Gradient = "things"

    def __post_init__(self) -> None:
        for name, allowed in (
            ("stuff_mask", StuffMask),
            ("normalization", Normalization),
            ("gradient", Gradient),
        ):
            if getattr(self, name) not in get_args(allowed):
                raise ValueError(
                    f"{name} is '{getattr(self, name)}'; it must be one of {', '.join(get_args(allowed))}."
                )


def things_probability(stuff_logits: Tensor, num_stuff: int) -> Tensor:
    """The probability that a pixel is things, from the logits of the stuff head: the sum over its things channels.

    Args:
        stuff_logits: (C, h, w) or (B, C, h, w); C is K_st + 1 or K, the K_st stuff categories first.
        num_stuff: K_st.

    Returns:
        (h, w) or (B, h, w), 0..1, float32 or better.
    """
    if not 0 <= num_stuff < stuff_logits.shape[-3]:
        raise ValueError(
            f"stuff logits of {stuff_logits.shape[-3]} channels have no things channel after {num_stuff} of stuff."
        )
    return full_precision(stuff_logits).softmax(dim=-3)[..., num_stuff:, :, :].sum(dim=-3)


def confidence_mask(probability: Tensor) -> Tensor:
    """The probability where it is above one half, exactly 0 elsewhere; gradient flows where it is kept."""
    return probability.where(probability > 0.5, 0)


def tasc_loss(
    things_probability: Tensor,
    roi_things: Tensor,
    valid: Tensor,
    form: TascForm = TascForm(),
    average: Average = own_count,
) -> Tensor:
    """Things and Stuff Consistency: how far the things masks of the two heads are apart (section 5 of the method).

    Args:
        things_probability: (..., h, w) of the stuff head, 0..1.
        roi_things: (..., h, w) M_th, a confidence mask.
        valid: (..., h, w) bool, True where the annotation is not VOID, nor things without an instance (crowds).
        form: which reading of the loss.
        average: what the sum is divided by, from the number of pixels that count.

    Returns:
        A scalar, 0 or more; 0 (part of the graph) where no pixel counts.
    """
    things_probability, roi_things = full_precision(things_probability), full_precision(roi_things)
    confident = confidence_mask(things_probability)
    active = (confident > 0) | (roi_things > 0)
    counted = valid & active if form.normalization == "active" else valid
    stuff_things = confident if form.stuff_mask == "confidence" else things_probability
    if form.gradient == "things":
        stuff_things = stuff_things.detach()
    squared = (stuff_things - roi_things).square().where(counted, 0)
    return squared.sum() / average(counted.sum())


def tasc_weight(step: int, weight: float, warmup_steps: int) -> float:
    """The weight of the loss at a training step: linear from 0 at step 0 to `weight` at `warmup_steps`, then constant.

    A warm-up is our reading: at first neither head knows what things are, and the cheapest agreement is on nothing.
    """
    return weight if step >= warmup_steps else weight * step / warmup_steps


def residual(stuff_things: Tensor, roi_things: Tensor) -> Tensor:
    """(..., h, w): where the heads disagree and by how much, 0..1; the picture of the paper's Figure 4."""
    return (full_precision(stuff_things) - full_precision(roi_things)).abs()


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
