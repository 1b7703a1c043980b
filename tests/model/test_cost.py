"""Cost of a network: every part counted by hand."""

import pytest
import torch

from tascnet.model.backbone import Backbone
from tascnet.model.cost import Cost, cost_by_part, cost_of_two_networks
from tascnet.model.fpn import FPN
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import StuffHead
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import RoISettings, ThingsHead
from tascnet.structures import Size

PARTS = ["backbone", "FPN", "stuff head", "things head: RPN", "things head: boxes", "things head: masks"]
WIDTH, STUFF_WIDTH, BOX_WIDTH, MASK_WIDTH = 8, 4, 10, 6
NUM_OUTPUTS, NUM_THINGS, PROPOSALS, DETECTIONS = 3, 2, 20, 7
POSITIONS = [16 * 24, 8 * 12, 4 * 6, 2 * 3, 1 * 2, 1 * 1]  # of the levels of 64 x 96 pixels
BACKBONE_CHANNELS = [64, 128, 256, 512, 16, 16]


@pytest.fixture(scope="module")
def model() -> TASCNet:
    backbone = Backbone("resnet18", added_channels=16)
    fpn = FPN(backbone.channels, backbone.strides, WIDTH)
    rpn = RPN(WIDTH, fpn.strides, [32, 64, 128, 256, 512], [0.5, 1.0, 2.0], RPNSettings(post_nms=PROPOSALS))
    settings = RoISettings(max_detections=DETECTIONS)
    things_head = ThingsHead(rpn, WIDTH, fpn.strides, NUM_THINGS, BOX_WIDTH, MASK_WIDTH, 2, settings)
    return TASCNet(backbone, fpn, StuffHead(6, WIDTH, STUFF_WIDTH, NUM_OUTPUTS), things_head, num_stuff=2)


@pytest.fixture(scope="module")
def parts(model: TASCNet) -> dict[str, Cost]:
    return cost_by_part(model, Size(64, 96))


def test_parameters_of_the_parts_sum_to_the_model(model: TASCNet, parts: dict[str, Cost]) -> None:
    assert list(parts) == PARTS
    everything = sum(parameter.numel() for parameter in model.parameters())
    assert sum(cost.parameters for cost in parts.values()) == everything


def test_fpn(parts: dict[str, Cost]) -> None:
    # a 1x1 lateral and a 3x3 convolution a level
    assert parts["FPN"] == Cost(
        parameters=sum(channels * WIDTH + WIDTH + 9 * WIDTH**2 + WIDTH for channels in BACKBONE_CHANNELS),
        multiply_adds=sum(
            positions * (channels * WIDTH + 9 * WIDTH**2)
            for positions, channels in zip(POSITIONS, BACKBONE_CHANNELS, strict=True)
        ),
    )


def test_stuff_head(parts: dict[str, Cost]) -> None:
    # each level: two 3x3 convolutions with a norm each, and its share of the classifier, at its own resolution
    convolutions = 9 * WIDTH * STUFF_WIDTH + 9 * STUFF_WIDTH**2
    classifier = STUFF_WIDTH * NUM_OUTPUTS
    assert parts["stuff head"] == Cost(
        parameters=6 * (convolutions + 4 * STUFF_WIDTH + classifier) + NUM_OUTPUTS,
        multiply_adds=sum(POSITIONS) * (convolutions + classifier),
    )


def test_rpn(parts: dict[str, Cost]) -> None:
    # one 3x3 convolution, then 3 scores and 12 shifts a position, on the five levels that have anchors
    weights = 9 * WIDTH**2 + (3 + 12) * WIDTH
    assert parts["things head: RPN"] == Cost(
        parameters=weights + WIDTH + 3 + 12, multiply_adds=sum(POSITIONS[:5]) * weights
    )


def test_box_branch_at_its_full_load(parts: dict[str, Cost]) -> None:
    classes = NUM_THINGS + 1
    weights = 49 * WIDTH * BOX_WIDTH + BOX_WIDTH**2 + BOX_WIDTH * (classes + 4 * classes)
    assert parts["things head: boxes"] == Cost(
        parameters=weights + 2 * BOX_WIDTH + 5 * classes, multiply_adds=PROPOSALS * weights
    )


def test_mask_branch_at_its_full_load(parts: dict[str, Cost]) -> None:
    convolutions = 9 * WIDTH * MASK_WIDTH + 9 * MASK_WIDTH**2
    upsampling, logits = 4 * MASK_WIDTH**2, MASK_WIDTH * NUM_THINGS  # 2x2 with stride 2, then 1x1
    assert parts["things head: masks"] == Cost(
        parameters=convolutions + upsampling + logits + 3 * MASK_WIDTH + NUM_THINGS,
        multiply_adds=DETECTIONS * (14**2 * (convolutions + upsampling) + 28**2 * logits),
    )


def test_backbone_is_counted_with_its_added_stages(model: TASCNet, parts: dict[str, Cost]) -> None:
    # the known ResNet-18 at 224 x 224 has 1.8 billion; without its classifier, at 64 x 96, and two small stages
    per_pixel = 1.814e9 / 224**2
    assert parts["backbone"].multiply_adds == pytest.approx(64 * 96 * per_pixel, rel=0.02)
    added = sum(parameter.numel() for parameter in model.backbone.added_stages.parameters())
    network = sum(parameter.numel() for parameter in model.backbone.network.parameters())
    assert added > 0
    assert parts["backbone"].parameters == added + network


def test_sizes_are_rounded_up_to_what_the_network_sees(model: TASCNet, parts: dict[str, Cost]) -> None:
    assert cost_by_part(model, Size(33, 65)) == parts
    assert cost_by_part(model, Size(65, 96))["FPN"].multiply_adds > parts["FPN"].multiply_adds


def test_two_networks_cost_a_backbone_and_a_pyramid_more(parts: dict[str, Cost]) -> None:
    two = cost_of_two_networks(parts)
    assert list(two) == ["semantic network", "instance network"]
    assert two["semantic network"].parameters == sum(parts[name].parameters for name in PARTS[:3])
    assert two["instance network"].multiply_adds == sum(
        parts[name].multiply_adds for name in PARTS if name != "stuff head"
    )
    ours = sum(parts.values(), start=Cost(0, 0))
    assert sum(two.values(), start=Cost(0, 0)) == ours + parts["backbone"] + parts["FPN"]


def test_the_model_is_left_as_it_is(model: TASCNet) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    parameters = list(model.parameters())
    cost_by_part(model, Size(64, 96))
    assert model.training
    assert all(now is then for now, then in zip(model.parameters(), parameters, strict=True))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(value.device.type == "cpu" for value in model.state_dict().values())
