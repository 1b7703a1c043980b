"""Features in bfloat16 or float16: coordinates, scores and log-odds are those of the same values in float32."""

import math

import pytest
import torch
from small_network import network, noise, scene
from torch import Tensor, nn
from torchvision import ops

from tascnet.model.roi_align import roi_align
from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import StuffHead, SummedStuffHead, stuff_loss
from tascnet.model.tasc_loss import TascForm, doubt, tasc_loss, things_probability
from tascnet.model.tascnet import Outputs
from tascnet.model.things_head import RoISettings, ThingsHead, mask_targets, roi_level
from tascnet.planes.paste import interpolation_weights, paste_mask, paste_probabilities
from tascnet.precision import full_precision
from tascnet.structures import IGNORE, Instances, Size, Target

HALVES = [torch.bfloat16, torch.float16]
STRIDES, ANCHOR_SIZES = [16, 32, 64], [48, 96, 192]
WIDE = Size(112, 3333)
CHANNELS, NUM_THINGS = 4, 3


def levels(size: Size, dtype: torch.dtype) -> list[Tensor]:
    return [
        torch.zeros(1, CHANNELS, math.ceil(size.height / stride), math.ceil(size.width / stride), dtype=dtype)
        for stride in STRIDES
    ]


def objects(*boxes: tuple[int, int, int, int]) -> Target:
    instance_map = torch.zeros(WIDE, dtype=torch.int32)
    for index, (x0, y0, x1, y1) in enumerate(boxes, start=1):
        instance_map[y0:y1, x0:x1] = index
    labels = torch.arange(len(boxes)) % NUM_THINGS
    return Target(torch.tensor(boxes).float(), labels, instance_map, torch.full(WIDE, IGNORE))


SCENE = objects((11, 20, 71, 90), (1203, 9, 1262, 75), (2049, 33, 2098, 81), (3001, 2, 3233, 110))


class GivenRPNHead(nn.Module):
    """Logits and deltas of the positions of each level, drawn once; computed in the type of the features."""

    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        generator = torch.Generator().manual_seed(0)
        logits, deltas = [], []
        for level in features:
            # around 40: their sum is beyond float16. Rounded to bfloat16 and clear of float16's small numbers
            drawn = torch.randn(1, 15, *level.shape[-2:], generator=generator).bfloat16().float()
            drawn = drawn.where(drawn.abs() > 1e-2, 0)
            logits.append((drawn[:, :3] * 4 + 40).bfloat16().to(level.dtype))
            deltas.append((drawn[:, 3:] / 4).to(level.dtype))
        return logits, deltas


class GivenRows(nn.Module):
    """The same rows of numbers for RoIs of any values, in the RoIs' type."""

    def __init__(self, *widths: int):
        super().__init__()
        self.widths = widths

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(1)
        first, second = (
            torch.randn(len(cells), width, generator=generator).bfloat16().to(cells) for width in self.widths
        )
        return first * 8, second  # scores near 1, which are equal in half precision


class GivenMasks(nn.Module):
    def forward(self, cells: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(2)
        return torch.randn(len(cells), NUM_THINGS, 28, 28, generator=generator).bfloat16().to(cells)


def rpn(rounded_anchors: bool = True) -> RPN:
    settings = RPNSettings(samples=512, pre_nms=300, post_nms=200)
    network = RPN(CHANNELS, STRIDES, ANCHOR_SIZES, [0.5, 1.0, 2.0], settings, rounded_anchors=rounded_anchors)
    network.head = GivenRPNHead()  # type: ignore[assignment]
    return network


def things_head() -> ThingsHead:
    settings = RoISettings(samples=64, score_threshold=0.01)
    head = ThingsHead(rpn(), CHANNELS, STRIDES, NUM_THINGS, 4, 4, 1, settings)
    head.box_head, head.mask_head = nn.Flatten(), nn.Identity()
    head.box_predictor = GivenRows(1 + NUM_THINGS, 4 + 4 * NUM_THINGS)  # type: ignore[assignment]
    head.mask_predictor = GivenMasks()  # type: ignore[assignment]
    return head


@pytest.mark.parametrize("dtype", [*HALVES, torch.float32, torch.float64])
@pytest.mark.parametrize("rounded", [True, False])
def test_anchors_stand_where_they_should(dtype: torch.dtype, rounded: bool) -> None:
    network = rpn(rounded)
    for stride, size, anchors in zip(STRIDES, ANCHOR_SIZES, network.anchors(levels(WIDE, dtype)), strict=True):
        rows, columns = math.ceil(WIDE.height / stride), math.ceil(WIDE.width / stride)
        found = anchors.view(rows, columns, 3, 4).double()
        for ratio, shape in enumerate([0.5, 1.0, 2.0]):
            high, wide = size * math.sqrt(shape) / 2, size / math.sqrt(shape) / 2
            if rounded:
                high, wide = round(high), round(wide)
            x = torch.arange(columns).double() * stride
            y = torch.arange(rows).double()[:, None] * stride
            expected = torch.stack(torch.broadcast_tensors(x - wide, y - high, x + wide, y + high), dim=-1)
            assert torch.allclose(found[:, :, ratio], expected, rtol=1e-7, atol=1e-5)


@pytest.mark.parametrize("dtype", HALVES)
def test_features_in_half_precision_leave_no_trace_in_the_anchors(dtype: torch.dtype) -> None:
    network = rpn(rounded_anchors=False)
    before = [anchors.clone() for anchors in network.anchors(levels(WIDE, torch.float32))]
    network.anchors(levels(WIDE, dtype))
    for anchors, expected in zip(network.anchors(levels(WIDE, torch.float32)), before, strict=True):
        assert torch.equal(anchors, expected)


def run_rpn(dtype: torch.dtype) -> tuple[Tensor, Tensor, dict[str, float]]:
    (proposals,), losses = rpn()(levels(WIDE, dtype), [WIDE], [SCENE], [torch.Generator().manual_seed(3)])
    return proposals.boxes, proposals.anchors, {name: float(loss) for name, loss in losses.items()}


@pytest.mark.parametrize("dtype", HALVES)
def test_proposals_and_their_losses(dtype: torch.dtype) -> None:
    boxes, anchors, losses = run_rpn(dtype)
    expected_boxes, expected_anchors, expected_losses = run_rpn(torch.float32)
    assert torch.equal(boxes, expected_boxes)
    assert boxes[:, 2].max() > 3000  # beyond float16's whole pixels
    assert torch.equal(anchors, expected_anchors)
    assert losses == expected_losses
    assert losses["rpn_box"] > 0


@pytest.mark.parametrize("dtype", HALVES)
def test_detections(dtype: torch.dtype) -> None:
    (found,), (expected,) = (things_head().detect(levels(WIDE, kind), [WIDE]) for kind in (dtype, torch.float32))
    assert len(found) == 100
    for name in ("boxes", "labels", "scores", "masks"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


@pytest.mark.parametrize("dtype", HALVES)
def test_losses_of_the_things_head(dtype: torch.dtype) -> None:
    (losses, (positive,)), (expected_losses, (expected,)) = (
        things_head().losses(levels(WIDE, kind), [WIDE], [SCENE], [torch.Generator().manual_seed(4)])
        for kind in (dtype, torch.float32)
    )
    assert {name: float(loss) for name, loss in losses.items()} == {
        name: float(loss) for name, loss in expected_losses.items()
    }
    assert losses["box"] > 0
    assert losses["mask"] > 0
    assert torch.equal(positive.boxes, expected.boxes)
    assert torch.equal(positive.masks, expected.masks)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("side", "level"), [(100, 0), (200, 1), (256, 2), (260, 2), (440, 2), (448, 3), (1000, 3)])
def test_level_of_a_roi(dtype: torch.dtype, side: int, level: int) -> None:
    assert roi_level(torch.tensor([[0, 0, side, side]], dtype=dtype), 4).tolist() == [level]


@pytest.mark.parametrize("dtype", HALVES)
def test_boxes_that_come_in_half_precision(dtype: torch.dtype) -> None:
    """Corners that both types hold exactly; what is computed with them is not what these types hold."""
    boxes = torch.tensor([[1200.0, 8, 1264, 72], [3008, 4, 3232, 110], [16, 20, 72, 91]])
    half = boxes.to(dtype)
    assert torch.equal(half.float(), boxes)
    targets = (mask_targets(SCENE.instance_map, each, torch.tensor([1, 3, 0]), 28) for each in (half, boxes))
    assert torch.equal(*targets)
    weights = (interpolation_weights(each[:, 0], each[:, 2], WIDE.width, 28) for each in (half, boxes))
    assert torch.equal(*weights)
    masks = torch.rand(3, 28, 28, generator=torch.Generator().manual_seed(5)).to(dtype)
    flat = (roi_flatten(masks, each, Size(28, 834)) for each in (half, boxes))
    assert torch.equal(*flat)
    for mask, box in zip(masks, boxes, strict=True):
        pasted, expected = paste_mask(mask, box.to(dtype), WIDE), paste_mask(mask.float(), box, WIDE)
        assert pasted.window == expected.window
        assert torch.equal(pasted.pixels, expected.pixels)
    resized = Instances(half, torch.zeros(3, dtype=torch.int64), torch.ones(3), masks).resized(1.003, 0.7)
    assert torch.allclose(resized.boxes, boxes * torch.tensor([1.003, 0.7, 1.003, 0.7]))
    plane = torch.randn(1, 2, 28, 834, generator=torch.Generator().manual_seed(6)).to(dtype)
    rois = torch.cat((torch.zeros(3, 1), boxes), dim=1)
    for ratio in (0, 2):
        expected_cells = ops.roi_align(plane.double(), rois.double(), 7, 0.25, ratio, aligned=True)
        found = roi_align(plane, rois.to(dtype), 7, 0.25, ratio)
        torch.testing.assert_close(found.double(), expected_cells, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_masks_are_laid_into_boxes_in_full_precision_within_autocast(dtype: torch.dtype) -> None:
    masks = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(7)).requires_grad_()
    box = torch.tensor([2011.3, 3.2, 2301.7, 90.1])
    expected = paste_probabilities(masks[0], box, WIDE).values
    (expected_gradient,) = torch.autograd.grad(roi_flatten(masks, box[None], Size(28, 834)).square().sum(), masks)
    with torch.autocast("cpu", dtype=dtype):
        found = paste_probabilities(masks[0], box, WIDE).values
        # users are told not to, but some compute gradients within it
        (gradient,) = torch.autograd.grad(roi_flatten(masks, box[None], Size(28, 834)).square().sum(), masks)
    assert torch.equal(found, expected)
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("dtype", HALVES)
def test_log_odds_of_the_stuff_head(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 6, 300, 401, generator=torch.Generator().manual_seed(8)).to(dtype)
    labels = torch.randint(0, 6, (1, 1200, 1604), generator=torch.Generator().manual_seed(9))
    # a sum over 120,000 pixels
    assert torch.equal(stuff_loss(logits, labels, 4, IGNORE), stuff_loss(logits.float(), labels, 4, IGNORE))
    probability = things_probability(logits, 4)
    assert torch.equal(probability, things_probability(logits.float(), 4))
    things = torch.rand(1, 300, 401, generator=torch.Generator().manual_seed(10)).to(dtype)
    ones, valid = torch.ones_like(things), torch.ones_like(things, dtype=torch.bool)
    form = TascForm(gradient="both")
    loss = tasc_loss(ones, things, valid, form)
    assert torch.equal(loss, tasc_loss(ones.float(), things.float(), valid, form))
    assert loss.isfinite()
    assert torch.equal(doubt(ones, things), doubt(ones.float(), things.float()))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("head", [StuffHead(3, 8, 8, 4), StuffHead(3, 8, 8, 4, stride=2), SummedStuffHead(8, 32, 4)])
def test_logits_of_the_stuff_heads(dtype: torch.dtype, head: nn.Module) -> None:
    pyramid = [torch.randn(1, 8, 16 >> level, 24 >> level) for level in range(4 if head.stride == 4 else 3)]
    pyramid = pyramid if isinstance(head, SummedStuffHead) else pyramid[:3]
    with torch.autocast("cpu", dtype=dtype):
        assert head(pyramid).dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("pure", [True, False], ids=["pure", "autocast"])
def test_a_whole_network(dtype: torch.dtype, pure: bool) -> None:
    model, size = network().eval(), Size(33, 2500)
    model = model.to(dtype) if pure else model
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype, enabled=not pure):
        outputs = model(noise(1, *size))
        losses = model(noise(1, *size), [scene(size, (20, 4, 60, 30, 2), (2101, 3, 2300, 31, 0))], seeds=[1])
    assert isinstance(outputs, Outputs)
    found = outputs.instances[0]
    for tensor in (found.boxes, found.scores, found.masks, outputs.stuff_logits, *losses.values()):
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()
    columns = found.boxes[:, [0, 2]].flatten()
    beyond = columns[(columns > 600) & (columns < size.width)]
    assert len(beyond) >= 5
    assert (beyond != beyond.to(dtype).float()).float().mean() > 0.8  # between what the type can hold


def test_full_precision_widens_and_never_narrows() -> None:
    types = {torch.bfloat16: torch.float32, torch.float16: torch.float32}
    types |= {torch.float32: torch.float32, torch.float64: torch.float64}
    assert {kind: full_precision(torch.zeros(1, dtype=kind)).dtype for kind in types} == types
    kept = torch.zeros(3)
    assert full_precision(kept) is kept
