"""The networks of `benchmarks/one_against_two.py` against the TASCNet that their parts come from."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tascnet.build import build_model
from tascnet.config import Config
from tascnet.data.batch import collate
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.fusion import Fuser
from tascnet.inference.predictor import Predictor
from tascnet.model.cost import cost_by_part, cost_of_two_networks
from tascnet.model.tascnet import TASCNet
from tascnet.structures import Size
from tascnet.training import total_loss

TINY = Size(64, 128)
SCRIPT = runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "one_head.py"))
SEMANTIC, INSTANCE, PAIR = (SCRIPT[name] for name in ("SemanticNetwork", "InstanceNetwork", "Pair"))


@pytest.fixture
def networks(tiny_config: Callable[[], Config]) -> list[TASCNet]:
    """Two, with different weights."""
    found = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        found.append(build_model(tiny_config(), STREETS))
    return found


def test_each_network_has_the_parameters_that_the_comparison_counts(networks: list[TASCNet]):
    two = cost_of_two_networks(cost_by_part(networks[0], TINY))
    for network, name in ((SEMANTIC(networks[0]), "semantic network"), (INSTANCE(networks[0]), "instance network")):
        assert sum(parameter.numel() for parameter in network.parameters()) == two[name].parameters
    assert not any("things_head" in name for name in SEMANTIC(networks[0]).state_dict())
    assert not any("stuff_head" in name for name in INSTANCE(networks[0]).state_dict())


@pytest.mark.parametrize(
    ("kind", "losses", "stuff_weight"),
    [(SEMANTIC, ["stuff"], 1.0), (INSTANCE, ["rpn_cls", "rpn_box", "cls", "box", "mask"], 0.0)],
    ids=["semantic", "instance"],
)
def test_one_head_learns_from_its_own_losses_alone(
    networks: list[TASCNet], kind: Callable[[TASCNet], TASCNet], losses: list[str], stuff_weight: float
):
    """Gradients are those of TASCNet's own losses of that head, and no loss else is in the total."""
    whole = networks[0].train()
    scenes = Streets(2, TINY)
    batch = collate([scenes[0], scenes[1]], STREETS)

    def gradients(network: TASCNet, total: Callable[[dict[str, Tensor]], Tensor]) -> tuple[float, dict[str, Tensor]]:
        whole.zero_grad()
        value = total(network(batch.images, batch.targets, batch.image_sizes, [5, 6]))
        value.backward()
        found = whole.named_parameters()
        return value.item(), {name: p.grad.clone() for name, p in found if p.grad is not None and p.grad.any()}

    wanted, wanted_gradients = gradients(whole, lambda found: torch.stack([found[name] for name in losses]).sum())
    value, found = gradients(kind(whole), lambda found: total_loss(found, stuff_weight, 0.5))
    assert value == pytest.approx(wanted, rel=1e-6)
    assert wanted_gradients
    torch.testing.assert_close(found, wanted_gradients)


def test_a_pair_of_one_networks_parts_predicts_what_that_network_predicts(
    networks: list[TASCNet], tiny_config: Callable[[], Config]
):
    config = tiny_config()
    image = Streets(1, TINY)[0].image
    whole = networks[0]
    wanted, found = (
        Predictor(network, STREETS, config.data.input, config.fusion).predict(image)
        for network in (whole, PAIR(SEMANTIC(whole), INSTANCE(whole)))
    )
    assert len(wanted.instances) > 0
    torch.testing.assert_close(vars(found.instances), vars(wanted.instances), rtol=0, atol=0)
    torch.testing.assert_close(found.stuff_logits.values, wanted.stuff_logits.values, rtol=0, atol=0)
    assert found.segmentation.segments == wanted.segmentation.segments
    assert torch.equal(found.segmentation.index_map(), wanted.segmentation.index_map())


def test_a_pair_fuses_the_stuff_of_one_with_the_instances_of_the_other(
    networks: list[TASCNet], tiny_config: Callable[[], Config]
):
    config = tiny_config()
    image = Streets(1, TINY)[0].image
    one, other = networks
    pair: Any = PAIR(SEMANTIC(one), INSTANCE(other))
    prediction = Predictor(pair, STREETS, config.data.input, config.fusion).predict(image)
    with torch.inference_mode():
        outputs = one.eval()(image[None]), other.eval()(image[None])
    wanted = Fuser(config.fusion, STREETS)(
        outputs[0].stuff_logits_of(0, TINY), outputs[1].instances[0], TINY
    ).segmentation
    assert {segment.score is None for segment in wanted.segments} == {True, False}  # both stuff and instances
    assert not torch.equal(outputs[0].stuff_logits, outputs[1].stuff_logits)
    assert prediction.segmentation.segments == wanted.segments
    assert torch.equal(prediction.segmentation.index_map(), wanted.index_map())
