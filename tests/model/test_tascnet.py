"""The joined network: losses and outputs, padding, both forms of the stuff head, learning."""

import math

import pytest
import torch
from small_network import IMAGE, NUM_STUFF, NUM_THINGS, network, noise, scene
from torch import Tensor

from tascnet.model.averaging import own_count
from tascnet.model.rpn import RPNSettings
from tascnet.model.tasc_loss import Gradient, TascForm
from tascnet.model.tascnet import LOSSES, Outputs, TASCNet
from tascnet.model.things_head import PositiveRoIs, RoISettings
from tascnet.structures import IGNORE, Size, Target


def scenes() -> list[Target]:
    return [scene(IMAGE, (8, 8, 40, 32, 2), (60, 20, 88, 60, 0)), scene(IMAGE)]


@pytest.mark.parametrize("num_outputs", [NUM_STUFF + 1, NUM_STUFF + NUM_THINGS])
@pytest.mark.parametrize("added_channels", [32, None])
def test_targets_decide_what_comes_not_the_mode(num_outputs: int, added_channels: int | None) -> None:
    model = network(num_outputs, added_channels)
    images = noise(2, *IMAGE)
    for mode in (True, False):
        model.train(mode)
        losses = model(images, scenes())
        assert tuple(losses) == LOSSES
        assert all(loss.shape == () and loss.isfinite() and loss.requires_grad for loss in losses.values())
        outputs = model(images)
        assert isinstance(outputs, Outputs)
        assert outputs.stuff_logits.shape == (2, num_outputs, 16, 24)
        assert len(outputs.instances) == 2
        assert all(len(instances) <= 20 for instances in outputs.instances)
        assert all(instances.masks.shape[1:] == (28, 28) for instances in outputs.instances)


@pytest.mark.parametrize("added_channels", [32, None])
@pytest.mark.parametrize("size", [Size(65, 99), Size(1, 1), Size(33, 4)])
def test_images_of_any_size(size: Size, added_channels: int | None) -> None:
    model = network(added_channels=added_channels)
    image = noise(1, *size)
    outputs = model(image)
    height, width = (math.ceil(side / 32) * 8 for side in size)
    assert outputs.stuff_logits.shape == (1, NUM_STUFF + 1, height, width)
    content = outputs.stuff_logits_of(0, size)
    assert content.grid == (math.ceil(size.height / 4), math.ceil(size.width / 4))
    assert content.extent == (size.height / 4, size.width / 4)
    assert torch.equal(content.values, outputs.stuff_logits[0, :, : content.grid.height, : content.grid.width])
    limits = torch.tensor([size.width, size.height] * 2)
    boxes = outputs.instances[0].boxes
    assert ((boxes >= 0) & (boxes <= limits)).all()
    losses = model(image, [scene(size)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()


def test_any_number_type_gives_the_same() -> None:
    model = network()
    images = noise(1, *IMAGE)
    with torch.no_grad():
        expected = model(images).stuff_logits
        for dtype in (torch.float32, torch.float64, torch.int64):
            assert torch.equal(model(images.to(dtype)).stuff_logits, expected)


def test_padding_is_the_mean_colour() -> None:
    model = network()
    images = noise(2, 50, 70)
    before = images.clone()
    sizes = [Size(50, 70), Size(30, 41)]
    prepared = model._prepare(images, sizes)
    assert prepared.shape == (2, 3, 64, 96)
    expected = (images.float() - model.backbone.pixel_mean) / model.backbone.pixel_std
    for image, (height, width) in enumerate(sizes):
        assert torch.equal(prepared[image, :, :height, :width], expected[image, :, :height, :width])
        assert (prepared[image, :, height:] == 0).all()
        assert (prepared[image, :, :, width:] == 0).all()
    assert torch.equal(images, before)
    floats = images.float()
    model._prepare(floats, sizes)
    assert torch.equal(floats, before.float())  # what was given is not painted over


def test_what_lies_in_the_padding_does_not_matter() -> None:
    model = network()
    images, others = noise(2, *IMAGE), noise(2, *IMAGE, seed=2)
    sizes = [Size(40, 96), Size(64, 50)]
    others[0, :, :40] = images[0, :, :40]
    others[1, :, :, :50] = images[1, :, :, :50]
    with torch.no_grad():
        first, second = model(images, image_sizes=sizes), model(others, image_sizes=sizes)
        unmarked = model(others)
    assert not torch.allclose(unmarked.stuff_logits, first.stuff_logits, atol=1e-3)
    assert torch.equal(first.stuff_logits, second.stuff_logits)
    for mine, other in zip(first.instances, second.instances, strict=True):
        assert len(mine) > 0
        assert torch.equal(mine.boxes, other.boxes)


def test_boxes_stay_in_the_content_of_their_image() -> None:
    sizes = [Size(40, 96), Size(64, 50)]
    for size, instances in zip(sizes, network()(noise(2, *IMAGE), image_sizes=sizes).instances, strict=True):
        assert len(instances) > 0
        assert instances.boxes[:, 2].max() <= size.width
        assert instances.boxes[:, 3].max() <= size.height


@pytest.mark.parametrize("added_channels", [32, None])
def test_an_image_is_seen_alike_alone_and_in_a_batch(added_channels: int | None) -> None:
    model = network(added_channels=added_channels)
    images = noise(2, *IMAGE)
    with torch.no_grad():
        together, alone = model(images), model(images[1:])
    assert torch.allclose(together.stuff_logits[1], alone.stuff_logits[0], atol=1e-4)


def test_annotation_may_be_smaller_than_the_padded_image() -> None:
    # 64 x 96 is what the network sees of 61 x 90; the rest must count as VOID
    model = network()
    size = Size(61, 90)
    losses = model(noise(1, *size), [scene(size, (8, 8, 40, 32, 2))])
    padded = scene(IMAGE, (8, 8, 40, 32, 2))
    padded.semantic[:] = IGNORE
    padded.semantic[:61, :90] = scene(size, (8, 8, 40, 32, 2)).semantic
    images = torch.zeros(1, 3, *IMAGE, dtype=torch.uint8)
    images[:, :, :61, :90] = noise(1, *size)
    again = model(images, [padded], [size])
    assert losses["stuff"].item() == pytest.approx(again["stuff"].item(), rel=1e-5)


def active_masks(model: TASCNet, stuff: float, mask: float) -> None:
    """Let the stuff head call every pixel things with probability `stuff`, the mask branch with `mask`."""
    for layer, bias in (
        (model.stuff_head.classifier, [0.0] * NUM_STUFF + [math.log(NUM_STUFF * stuff / (1 - stuff))]),
        (model.things_head.mask_predictor.mask_fcn_logits, [math.log(mask / (1 - mask))] * NUM_THINGS),
    ):
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor(bias)


def annotated_only_inside() -> Target:
    """One object whose edges fall on multiples of 4; everything else is VOID."""
    annotation = scene(IMAGE, (8, 8, 40, 32, 2))
    annotation.semantic[annotation.instance_map == 0] = IGNORE
    return annotation


def test_consistency_loss_worked_out_by_hand() -> None:
    model = network()
    active_masks(model, stuff=0.9, mask=0.7)
    losses = model(noise(1, *IMAGE), [annotated_only_inside()])
    # the annotated box is itself a RoI, so each labelled pixel is covered: 0.9 against 0.7 everywhere
    assert losses["tasc"].item() == pytest.approx(0.2**2, rel=1e-3)
    active_masks(model, stuff=0.9, mask=0.4)
    assert model(noise(1, *IMAGE), [annotated_only_inside()])["tasc"].item() == pytest.approx(0.9**2, rel=1e-3)
    active_masks(model, stuff=0.4, mask=0.7)
    assert model(noise(1, *IMAGE), [annotated_only_inside()])["tasc"].item() == pytest.approx(0.3**2, rel=1e-3)
    model.tasc = TascForm(stuff_mask="confidence")
    assert model(noise(1, *IMAGE), [annotated_only_inside()])["tasc"].item() == pytest.approx(0.7**2, rel=1e-3)


def test_consistency_loss_without_objects_is_what_the_stuff_head_imagines() -> None:
    model = network()
    active_masks(model, stuff=0.9, mask=0.7)
    assert model(noise(1, *IMAGE), [scene(IMAGE)])["tasc"].item() == pytest.approx(0.9**2, rel=1e-3)


@pytest.mark.parametrize("num_outputs", [NUM_STUFF + 1, NUM_STUFF + NUM_THINGS])
@pytest.mark.parametrize("gradient", ["both", "things"])
def test_gradient_of_the_consistency_loss_reaches_the_heads_that_learn(num_outputs: int, gradient: Gradient) -> None:
    model = network(num_outputs)
    model.tasc = TascForm(gradient=gradient)
    model.stuff_head.classifier.bias.data[NUM_STUFF:] += 5
    model.things_head.mask_predictor.mask_fcn_logits.bias.data += 2
    model(noise(2, *IMAGE), scenes())["tasc"].backward()
    stuff_head = [model.stuff_head.classifier, model.fpn]  # the masks do not read P6 and P7
    for part in (
        *(stuff_head if gradient == "both" else []),
        model.things_head.mask_predictor.mask_fcn_logits,
        model.things_head.mask_predictor.conv5_mask,
        model.backbone.added_stages,
    ):
        for parameter in part.parameters():
            assert parameter.grad is not None
            assert parameter.grad.abs().sum() > 0
    # boxes and categories are constants to it
    if gradient == "things":
        assert all(parameter.grad is None for parameter in model.stuff_head.parameters())
    for part in (model.things_head.box_head, model.things_head.box_predictor, model.things_head.rpn):
        assert all(parameter.grad is None for parameter in part.parameters())


def test_losses_together_reach_every_trained_parameter() -> None:
    model = network()
    sum(model(noise(2, *IMAGE), scenes()).values()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_two_images_are_learnt() -> None:
    model = network(norm="gn")
    annotations = [scene(IMAGE, (8, 8, 40, 32, 2)), scene(IMAGE, (52, 24, 84, 56, 0))]
    colors = torch.tensor([[40, 60, 220], [90, 90, 90], [200, 30, 30], [30, 200, 30], [200, 200, 30]])
    images = torch.stack([colors[annotation.semantic.clamp(min=0)].permute(2, 0, 1) for annotation in annotations])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    torch.manual_seed(0)
    course = []
    for _ in range(25):
        losses = model(images, annotations)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        course.append({name: loss.item() for name, loss in losses.items()})
    first, last = course[0], {name: sum(step[name] for step in course[-5:]) / 5 for name in LOSSES}
    assert sum(last.values()) < sum(first.values()) / 3
    assert all(last[name] < first[name] for name in ("rpn_cls", "rpn_box", "cls", "mask", "stuff"))


class Divisors:
    """Records the counts that losses ask an average for, and divides by 1: the losses are sums then."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def __call__(self, count: Tensor) -> Tensor:
        self.counts.append(int(count))
        return torch.ones(())


COUNTED = ("rpn", "roi", "mask", "stuff", "tasc")
"""In this order the losses ask for their averages."""
COUNT_OF = dict(zip(LOSSES, ("rpn", "rpn", "roi", "roi", "mask", "stuff", "tasc"), strict=True))


def test_a_batch_is_its_images_one_by_one() -> None:
    """What each image draws depends on its seed alone, and each loss is a sum over all images by a count over all."""
    model = network()
    model.things_head.rpn.settings = RPNSettings(samples=40, pre_nms=100, post_nms=50)
    model.things_head.settings = RoISettings(samples=16)
    images, targets, seeds = noise(2, *IMAGE), scenes(), [11, 22]
    together = model(images, targets, seeds=seeds)
    sums = dict.fromkeys(LOSSES, 0.0)
    counts = dict.fromkeys(COUNTED, 0)
    for image in (0, 1):
        divisors = Divisors()
        alone = model(images[image][None], [targets[image]], seeds=[seeds[image]], average=divisors)
        for name in LOSSES:
            sums[name] += alone[name].item()
        for name, count in zip(COUNTED, divisors.counts, strict=True):
            counts[name] += count
    assert counts["rpn"] == 80
    assert counts["roi"] == 32
    for name in LOSSES:
        assert together[name].item() == pytest.approx(sums[name] / max(counts[COUNT_OF[name]], 1), rel=1e-4), name


def test_another_seed_draws_others() -> None:
    model = network()
    model.things_head.rpn.settings = RPNSettings(samples=40, pre_nms=100, post_nms=50)
    images, targets = noise(2, *IMAGE), scenes()
    losses = [model(images, targets, seeds=seeds)["rpn_cls"].item() for seeds in ([1, 2], [1, 2], [3, 2])]
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize(
    ("box", "offset", "inside"),
    [
        ([10.25, 6.0, 12.0, 8.0], 0.5, True),  # holds the label's pixel of cell (1, 2), at 6.5, 10.5
        ([10.25, 6.0, 12.0, 8.0], 0.0, False),  # and not its centre, at 6, 10
        ([9.0, 5.0, 10.25, 6.25], 0.5, False),
        ([9.0, 5.0, 10.25, 6.25], 0.0, True),
    ],
)
def test_consistency_is_compared_where_the_stuff_logits_stand(box: list[float], offset: float, inside: bool) -> None:
    model = network().eval()
    model.stuff_head.offset = offset
    logits = torch.zeros(1, NUM_STUFF + 1, 4, 6)
    logits[:, NUM_STUFF] = -50  # no things anywhere
    rois = PositiveRoIs(torch.tensor([box]), torch.ones(1, 28, 28))
    loss = model._tasc_loss(logits, [rois], torch.zeros(1, 16, 24, dtype=torch.int64), own_count)
    assert float(loss) == pytest.approx(float(inside), abs=1e-5)  # the one cell that a head calls things
