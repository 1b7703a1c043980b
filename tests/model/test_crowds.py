"""Things that belong to no instance: crowds, and things too small to be instances."""

import pytest
import torch
from small_network import IMAGE, NUM_STUFF, NUM_THINGS, network, noise, scene
from torch import Tensor

from tascnet.model.tasc_loss import Normalization, TascForm
from tascnet.model.tascnet import TASCNet
from tascnet.structures import IGNORE, Target

OBJECT = (8, 8, 40, 32, 2)
CROWD, CELLS = (slice(16, 56), slice(48, 88)), (slice(4, 14), slice(12, 22))
"""The same region in pixels and at stride 4."""


def with_crowd(value: int, *objects: tuple[int, int, int, int, int]) -> Target:
    target = scene(IMAGE, *objects)
    target.semantic[CROWD] = value
    return target


def losses_and_gradient(model: TASCNet, target: Target) -> tuple[dict[str, float], Tensor]:
    """The losses, and what L_TASC alone wants of the stuff logits (C, h, w)."""
    seen: list[Tensor] = []
    handle = model.stuff_head.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
    losses = model(noise(1, *IMAGE), [target], seeds=[1])
    handle.remove()
    assert isinstance(losses, dict)
    (gradient,) = torch.autograd.grad(losses["tasc"], seen[0], materialize_grads=True)
    return {name: loss.item() for name, loss in losses.items()}, gradient[0]


@pytest.fixture
def model() -> TASCNet:
    """It calls nearly all pixels things, so that the active pixels are among the crowd's, too."""
    model = network().eval()
    torch.nn.init.normal_(model.stuff_head.classifier.weight, std=0.3)
    model.stuff_head.classifier.bias.data[-1] = 3.0
    return model


@pytest.mark.parametrize("objects", [(), (OBJECT,)])
@pytest.mark.parametrize("normalization", ["valid", "active"])
@pytest.mark.parametrize("thing", range(NUM_THINGS))
def test_a_crowd_is_nothing_to_the_consistency_loss(
    objects: tuple[tuple[int, int, int, int, int], ...], normalization: Normalization, thing: int, model: TASCNet
) -> None:
    model.tasc = TascForm("probability", normalization, "both")
    losses, gradient = losses_and_gradient(model, with_crowd(NUM_STUFF + thing, *objects))
    without, expected = losses_and_gradient(model, with_crowd(IGNORE, *objects))
    assert losses["tasc"] == without["tasc"] > 0
    assert torch.equal(gradient, expected)
    assert (gradient[:, *CELLS] == 0).all()
    assert gradient.abs().sum() > 0
    assert losses["stuff"] != without["stuff"]  # the stuff head learns that there are things


def test_pixels_of_instances_and_of_stuff_count(model: TASCNet) -> None:
    model.tasc = TascForm("probability", "valid", "both")
    for target in (scene(IMAGE, (48, 16, 88, 56, 1)), with_crowd(1)):
        _, gradient = losses_and_gradient(model, target)
        assert (gradient[:, *CELLS].abs().sum(0) > 0).float().mean() > 0.9


def test_an_image_of_a_crowd_alone(model: TASCNet) -> None:
    target = scene(IMAGE)
    target.semantic.fill_(NUM_STUFF)
    losses, gradient = losses_and_gradient(model, target)
    assert losses["tasc"] == 0
    assert not gradient.any()
    assert losses["stuff"] > 0
