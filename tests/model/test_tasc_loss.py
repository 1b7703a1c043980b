"""Consistency loss: numbers worked out by hand."""

import pytest
import torch
from torch import Tensor

from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.tasc_loss import (
    Gradient,
    Normalization,
    TascForm,
    confidence_mask,
    doubt,
    residual,
    tasc_loss,
    tasc_weight,
    things_probability,
)
from tascnet.structures import Size

STUFF_THINGS = torch.tensor([[0.8, 0.6, 0.0, 0.0]])
ROI_THINGS = torch.tensor([[0.6, 0.0, 0.9, 0.0]])
ALL_VALID = torch.ones(1, 4, dtype=torch.bool)


def logits_of(probabilities: list[float]) -> Tensor:
    """(C, 1, 1) logits whose softmax is those probabilities."""
    return torch.tensor(probabilities).log()[:, None, None]


def test_things_probability_is_the_last_channel_of_stuff_and_things() -> None:
    assert things_probability(logits_of([0.1, 0.2, 0.7]), num_stuff=2).tolist() == [[pytest.approx(0.7)]]


def test_things_probability_sums_all_thing_categories() -> None:
    logits = logits_of([0.1, 0.2, 0.3, 0.25, 0.15])
    assert things_probability(logits, num_stuff=2).tolist() == [[pytest.approx(0.7)]]
    batch = torch.stack([logits, logits_of([0.5, 0.3, 0.1, 0.05, 0.05])])
    probabilities = things_probability(batch, num_stuff=2)
    assert probabilities.shape == (2, 1, 1)
    assert probabilities.flatten().tolist() == [pytest.approx(0.7), pytest.approx(0.2)]


def test_logits_without_things_are_refused() -> None:
    with pytest.raises(ValueError, match="3 channels"):
        things_probability(torch.zeros(3, 2, 2), num_stuff=3)


def test_confidence_mask_keeps_what_is_above_one_half() -> None:
    assert confidence_mask(torch.tensor([0.2, 0.5, 0.75, 1.0])).tolist() == [0, 0, 0.75, 1]


@pytest.mark.parametrize(("normalization", "pixels"), [("valid", 4), ("active", 3)])
def test_loss_worked_out_by_hand(normalization: Normalization, pixels: int) -> None:
    # squared differences .04 + .36 + .81 + 0; the last pixel is things for neither head
    loss = tasc_loss(STUFF_THINGS, ROI_THINGS, ALL_VALID, TascForm(normalization=normalization))
    assert loss.item() == pytest.approx(1.21 / pixels)


@pytest.mark.parametrize(("normalization", "pixels"), [("valid", 3), ("active", 2)])
def test_void_pixels_do_not_count(normalization: Normalization, pixels: int) -> None:
    valid = torch.tensor([[True, True, False, True]])
    roi_things = ROI_THINGS.clone().requires_grad_()
    loss = tasc_loss(STUFF_THINGS, roi_things, valid, TascForm(normalization=normalization))
    assert loss.item() == pytest.approx(0.4 / pixels)
    loss.backward()
    assert roi_things.grad is not None
    assert roi_things.grad[0, 2] == 0
    assert roi_things.grad[0, 0] != 0


@pytest.mark.parametrize("normalization", ["valid", "active"])
def test_loss_is_zero_and_in_the_graph_where_no_pixel_counts(normalization: Normalization) -> None:
    stuff_things = STUFF_THINGS.clone().requires_grad_()
    loss = tasc_loss(
        stuff_things, ROI_THINGS, torch.zeros_like(ALL_VALID), TascForm(normalization=normalization, gradient="both")
    )
    assert loss.item() == 0
    loss.backward()
    assert torch.equal(stuff_things.grad, torch.zeros(1, 4))


def test_active_loss_is_zero_where_no_head_sees_things() -> None:
    assert tasc_loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool)) == 0


def test_unknown_forms_are_refused() -> None:
    with pytest.raises(ValueError, match="normalization is 'all'"):
        TascForm(normalization="all")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="must be one of both, things"):
        TascForm(gradient="none")  # type: ignore[arg-type]


def test_a_probability_below_one_half_counts_where_it_is_asked_for() -> None:
    probability = torch.tensor([[0.8, 0.4, 0.3, 0.2]])
    form = TascForm(stuff_mask="probability")
    # active are pixels 0 and 2, as with confidence masks: squared differences .04 and .36, not .81
    assert tasc_loss(probability, ROI_THINGS, ALL_VALID, form).item() == pytest.approx(0.40 / 2)
    form = TascForm(stuff_mask="confidence")
    assert tasc_loss(probability, ROI_THINGS, ALL_VALID, form).item() == pytest.approx(0.85 / 2)


def test_the_stuff_head_learns_of_things_it_misses_from_its_probability_alone() -> None:
    for stuff_mask, learns in (("confidence", False), ("probability", True)):
        probability = torch.tensor([[0.3]], requires_grad=True)
        form = TascForm(stuff_mask=stuff_mask, gradient="both")
        tasc_loss(probability, torch.tensor([[0.9]]), torch.tensor([[True]]), form).backward()
        assert (probability.grad.item() < 0) == learns  # descent raises it


@pytest.mark.parametrize(("gradient", "learn"), [("both", (True, True)), ("things", (False, True))])
def test_the_head_that_shall_learn_does(gradient: Gradient, learn: tuple[bool, bool]) -> None:
    heads = [torch.tensor([[0.8]], requires_grad=True), torch.tensor([[0.6]], requires_grad=True)]
    tasc_loss(*heads, torch.tensor([[True]]), TascForm(gradient=gradient)).backward()
    assert tuple(head.grad is not None for head in heads) == learn


def test_a_batch_is_averaged_over_its_pixels_not_over_its_images() -> None:
    valid = torch.stack([ALL_VALID, torch.tensor([[True, False, False, False]])])
    form = TascForm(normalization="valid")
    loss = tasc_loss(torch.stack([STUFF_THINGS] * 2), torch.stack([ROI_THINGS] * 2), valid, form)
    assert loss.item() == pytest.approx((1.21 + 0.04) / 5)


def both_heads(num_stuff: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Stuff logits, mask logits, loss: things left half for the stuff head, right half for the things head."""
    stuff_logits = torch.zeros(num_stuff + 1, 4, 8)
    stuff_logits[-1, :, :5] = 4
    stuff_logits.requires_grad_()
    mask_logits = torch.full((1, 4, 4), 2.0, requires_grad=True)
    roi_things = roi_flatten(mask_logits.sigmoid(), torch.tensor([[16.0, 0, 32, 16]]), Size(4, 8), stride=4)
    probability = things_probability(stuff_logits, num_stuff)
    form = TascForm(stuff_mask="confidence", gradient="both")
    return stuff_logits, mask_logits, tasc_loss(probability, roi_things, torch.ones(4, 8, dtype=torch.bool), form)


def test_gradient_reaches_the_stuff_head() -> None:
    stuff_logits, _, loss = both_heads()
    loss.backward()
    assert stuff_logits.grad is not None
    things = stuff_logits.grad[-1]
    assert (things[:, :4] > 0).all()  # only the stuff head sees things here: descent lowers its logit
    assert (things[:, 5:] == 0).all()  # below one half there: no gradient


def test_gradient_reaches_the_things_head() -> None:
    _, mask_logits, loss = both_heads()
    loss.backward()
    assert mask_logits.grad is not None
    assert (mask_logits.grad[0, :, 1:] > 0).all()  # things for the mask alone: descent lowers its logits
    assert (mask_logits.grad[0, :, 0] < 0).all()  # the stuff head is surer there (.96 > .88): descent raises them


def test_residual_is_the_absolute_difference() -> None:
    assert torch.allclose(residual(STUFF_THINGS, ROI_THINGS), torch.tensor([[0.2, 0.6, 0.9, 0.0]]))


def test_doubt_is_the_mean_residual_over_active_pixels() -> None:
    assert doubt(STUFF_THINGS, ROI_THINGS).item() == pytest.approx(1.7 / 3)
    both = doubt(torch.stack([STUFF_THINGS, torch.zeros(1, 4)]), torch.stack([ROI_THINGS, torch.zeros(1, 4)]))
    assert both.tolist() == [pytest.approx(1.7 / 3), 0]


@pytest.mark.parametrize(("step", "expected"), [(0, 0), (25, 0.5), (50, 1), (100, 2), (1000, 2)])
def test_weight_warms_up_linearly(step: int, expected: float) -> None:
    assert tasc_weight(step, weight=2, warmup_steps=100) == pytest.approx(expected)


def test_weight_without_warmup_is_full_from_the_start() -> None:
    assert tasc_weight(0, weight=2, warmup_steps=0) == 2
