"""A network takes over another's weights: what fits tensor by tensor, last layers category by category."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tascnet.build import build_model
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.networks.foreign.initialize import initialize
from tascnet.networks.network import Network
from tascnet.structures import LabelSpace


def space(stuff: list[str], things: list[str]) -> LabelSpace:
    names = [(name, 0) for name in stuff] + [(name, 1) for name in things]
    return LabelSpace.from_list({"id": i, "name": name, "isthing": flag} for i, (name, flag) in enumerate(names, 1))


def network(config: Config, label_space: LabelSpace, seed: int) -> Network:
    torch.manual_seed(seed)
    model = build_model(config, label_space)
    for tensor in model.state_dict().values():  # norms and biases, too, differ from network to network
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    return Network(model, config, label_space)


def state(network: Network) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.model.state_dict().items()}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


SOURCE = space(["road", "sky"], ["car", "person", "dog"])


def test_the_same_network_is_taken_over_whole(tiny_config: Callable[[], Config]) -> None:
    source, target = network(tiny_config(), SOURCE, 0), network(tiny_config(), SOURCE, 1)
    before = state(source)
    result = initialize(target, source)
    assert changed(before, state(source)) == set()
    assert changed(before, state(target)) == set()
    assert result.has_backbone
    assert result.decisions == (
        "taken over: backbone, added stages C6 C7, pyramid's laterals P2 P3 P4 P5 P6 P7, pyramid's outputs P2 P3 P4 P5 "
        "P6 P7, stuff head's levels P2 P3 P4 P5 P6 P7, proposals, box head, mask head, mask upsampling",
        "input: normalised as the source's was, which its backbone expects",
        "stuff channels: all 3 taken over by name",
        "box classes: all 3 taken over by name",
        "mask channels: all 3 taken over by name",
    )


def test_rows_go_by_name(tiny_config: Callable[[], Config]) -> None:
    target_space = space(["grass", "road"], ["dog", "cat", "car"])
    source, target = network(tiny_config(), SOURCE, 0), network(tiny_config(), target_space, 1)
    before = state(target)
    result = initialize(target, source)
    theirs, ours = state(source), state(target)
    for part in ("weight", "bias"):
        stuff = f"stuff_head.classifier.{part}"  # grass, road, things <- road, sky, things
        assert torch.equal(ours[stuff][0], before[stuff][0])
        assert torch.equal(ours[stuff][1:], theirs[stuff][[0, 2]])
        masks = f"things_head.mask_predictor.mask_fcn_logits.{part}"  # dog, cat, car <- car, person, dog
        assert torch.equal(ours[masks][[0, 2]], theirs[masks][[2, 0]])
        assert torch.equal(ours[masks][1], before[masks][1])
        scores = f"things_head.box_predictor.cls_score.{part}"  # background first
        assert torch.equal(ours[scores][[0, 1, 3]], theirs[scores][[0, 3, 1]])
        assert torch.equal(ours[scores][2], before[scores][2])
        shifts = f"things_head.box_predictor.bbox_pred.{part}"  # four rows a class
        assert torch.equal(ours[shifts][4:8], theirs[shifts][12:16])
        assert torch.equal(ours[shifts][8:12], before[shifts][8:12])
        assert torch.equal(ours[shifts][12:16], theirs[shifts][4:8])
    assert "stuff channels: 2 of 3 taken over by name, initial values for grass" in result.decisions
    assert "box classes: 2 of 3 taken over by name, initial values for cat" in result.decisions


def test_a_stuff_category_is_no_thing_of_that_name(tiny_config: Callable[[], Config]) -> None:
    target = network(tiny_config(), space(["car"], ["road"]), 1)
    before = state(target)
    result = initialize(target, network(tiny_config(), SOURCE, 0))
    assert torch.equal(state(target)["stuff_head.classifier.weight"][0], before["stuff_head.classifier.weight"][0])
    assert "mask channels: 0 of 1 taken over by name, initial values for road" in result.decisions


def test_the_normalisation_comes_with_the_backbone(tiny_config: Callable[[], Config]) -> None:
    source, target = network(tiny_config(), SOURCE, 0), network(tiny_config(), SOURCE, 1)
    source.model.backbone.set_normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    initialize(target, source)
    assert torch.equal(target.model.backbone.pixel_mean, source.model.backbone.pixel_mean)
    assert torch.equal(target.model.backbone.pixel_std, source.model.backbone.pixel_std)


def test_another_backbone_keeps_its_own_normalisation(tiny_config: Callable[[], Config]) -> None:
    config = tiny_config()
    config.model.backbone.name = "test_resnet"
    source, target = network(tiny_config(), SOURCE, 0), network(config, SOURCE, 1)
    before = state(target)
    result = initialize(target, source)
    assert not result.has_backbone
    after = state(target)
    same = {name for name in before if torch.equal(before[name], after[name])}
    kept = {name for name in before if name.startswith(("backbone.network.", "backbone.pixel_"))}
    assert kept <= same
    assert any(line.startswith("initial values: backbone") for line in result.decisions)
    assert torch.equal(after["things_head.box_head.fc6.weight"], state(source)["things_head.box_head.fc6.weight"])


def test_statistics_of_batch_norm_mean_nothing_to_group_norm(tiny_config: Callable[[], Config]) -> None:
    config = tiny_config()
    config.model.backbone.norm = "gn"
    assert not initialize(network(config, SOURCE, 1), network(tiny_config(), SOURCE, 0)).has_backbone
    config.model.backbone.norm = "bn"  # here they do: frozen ones only lack its counter
    assert initialize(network(config, SOURCE, 1), network(tiny_config(), SOURCE, 0)).has_backbone


def test_plain_fpn_into_added_stages(tiny_config: Callable[[], Config]) -> None:
    plain = tiny_config()
    plain.model.backbone.added_stages = False
    source, target = network(plain, SOURCE, 0), network(tiny_config(), SOURCE, 1)
    before = state(target)
    result = initialize(target, source)
    after = state(target)
    assert result.decisions[:2] == (
        "taken over: backbone, pyramid's laterals P2 P3 P4 P5, pyramid's outputs P2 P3 P4 P5, stuff head's levels P2 "
        "P3 P4 P5 P6, proposals, box head, mask head, mask upsampling",
        "initial values: added stages C6 C7, pyramid's laterals P6 P7, pyramid's outputs P6 P7, stuff head's levels P7",
    )
    assert any("stuff channels: initial values" in line for line in result.decisions)
    new = ("backbone.added_stages", "stuff_head.classifier", "fpn.pyramid.inner_blocks.5", "fpn.pyramid.layer_blocks.4")
    assert not any(name.startswith(new) for name in changed(before, after))


def test_summed_head_into_concatenating_head(tiny_config: Callable[[], Config]) -> None:
    summed = tiny_config()
    summed.model.stuff_head.merge = "sum"
    target = network(tiny_config(), SOURCE, 1)
    before = state(target)
    result = initialize(target, network(summed, SOURCE, 0))
    assert not any(name.startswith("stuff_head") for name in changed(before, state(target)))
    assert "stuff channels: initial values, because the stuff heads are of different kinds" in result.decisions


def test_one_channel_for_things_and_one_for_each(tiny_config: Callable[[], Config]) -> None:
    each = tiny_config()
    each.model.stuff_head.outputs = "all"
    source, target = network(each, SOURCE, 0), network(tiny_config(), SOURCE, 1)
    result = initialize(target, source)
    name = "stuff_head.classifier.weight"
    assert torch.equal(state(target)[name][:2], state(source)[name][:2])
    assert "stuff channels: 2 of 3 taken over by name, initial values for things" in result.decisions


def test_box_classes_that_no_category_has(tiny_config: Callable[[], Config]) -> None:
    with_unused = tiny_config()
    with_unused.model.things_head.unused_classes = 2
    source, target = network(with_unused, SOURCE, 0), network(tiny_config(), SOURCE, 1)
    initialize(target, source)
    name = "things_head.box_predictor.bbox_pred.weight"
    assert torch.equal(state(target)[name], state(source)[name][:16])


def test_settings_that_change_what_weights_mean_are_told(tiny_config: Callable[[], Config]) -> None:
    other = tiny_config()
    other.model.conventions = "torchvision"
    told = initialize(network(tiny_config(), SOURCE, 1), network(other, SOURCE, 0)).decisions
    assert "model.conventions is tascnet here, torchvision in the source" in "\n".join(told)


def test_networks_that_share_nothing(tiny_config: Callable[[], Config]) -> None:
    other = copy.deepcopy(tiny_config())
    other.model.backbone.name = "test_resnet"
    other.model.backbone.added_channels = 64
    other.model.pyramid_channels = 16
    other.model.stuff_head.channels = 16
    other.model.things_head.box_channels = 8
    other.model.things_head.mask_channels = 4
    with pytest.raises(InputError, match=r"share nothing.*test_resnet there, test_efficientnet here.*training\.init"):
        initialize(network(tiny_config(), SOURCE, 1), network(other, SOURCE, 0))
