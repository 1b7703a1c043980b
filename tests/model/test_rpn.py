"""Region proposals: anchors by hand, losses and proposals against torchvision's own network."""

import math

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.models.detection._utils import Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou, remove_small_boxes

from tascnet.model.rpn import BACKGROUND, RPN, RPNSettings, large_enough, match, sample
from tascnet.structures import Size, Target

STRIDES = [4, 8, 16, 32, 64]
ANCHOR_SIZES, RATIOS = [8, 16, 32, 64, 128], [0.5, 1.0, 2.0]
EVERYTHING = RPNSettings(samples=10**6)
"""As many samples as there are anchors: nothing is left to chance."""


def rpn(settings: RPNSettings, anchor_sizes: list[int] = ANCHOR_SIZES, strides: list[int] = STRIDES) -> RPN:
    """A network whose scores and shifts differ clearly from anchor to anchor."""
    torch.manual_seed(3)
    network = RPN(6, strides, anchor_sizes, RATIOS, settings)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network


def pyramid(height: int, width: int, batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [
        torch.randn(batch, 6, math.ceil(height / stride), math.ceil(width / stride), generator=generator)
        for stride in STRIDES
    ]


def target(*boxes: tuple[float, float, float, float]) -> Target:
    """Only the boxes matter here."""
    labels = torch.zeros(len(boxes), dtype=torch.int64)
    return Target(torch.tensor(boxes).view(-1, 4).float(), labels, torch.zeros(1, 1), torch.zeros(1, 1))


def torchvisions(ours: RPN) -> RegionProposalNetwork:
    settings = ours.settings
    theirs = RegionProposalNetwork(
        AnchorGenerator(tuple((size,) for size in ANCHOR_SIZES), (tuple(RATIOS),) * len(ANCHOR_SIZES)),
        ours.head,
        settings.high_iou,
        settings.low_iou,
        settings.samples,
        settings.positive_fraction,
        {"training": settings.pre_nms, "testing": settings.pre_nms},
        {"training": settings.post_nms, "testing": settings.post_nms},
        settings.nms_iou,
    )
    return theirs.train()  # without it, it computes no losses


TARGETS = [target((10, 12, 40, 50), (60, 60, 128, 120), (100, 4, 109, 11)), target()]
CONTENT = [Size(128, 128), Size(90, 75)]


@pytest.mark.parametrize("settings", [EVERYTHING, RPNSettings(samples=10**6, pre_nms=50, post_nms=20, nms_iou=0.3)])
def test_proposals_and_losses_equal_torchvisions(settings: RPNSettings) -> None:
    ours = rpn(settings)
    levels = pyramid(128, 128)  # divisible by all strides: the case that torchvision guesses right
    proposals, losses = ours(levels, CONTENT, TARGETS)
    images = ImageList(torch.zeros(2, 3, 128, 128), [tuple(size) for size in CONTENT])
    theirs, their_losses = torchvisions(ours)(
        images, dict(enumerate(levels)), [{"boxes": annotation.boxes} for annotation in TARGETS]
    )
    for (mine, _, _), reference in zip(proposals, theirs, strict=True):
        assert torch.allclose(mine, reference, atol=1e-4)
        assert len(mine) == settings.post_nms or settings is EVERYTHING
    assert losses["rpn_cls"].item() == pytest.approx(their_losses["loss_objectness"].item(), rel=1e-5)
    assert losses["rpn_box"].item() == pytest.approx(their_losses["loss_rpn_box_reg"].item(), rel=1e-5)
    assert losses["rpn_box"] > 0


def test_anchors_by_hand() -> None:
    # stride 64 of 96 x 128 pixels: 2 x 2 positions, 64 pixels apart (not 48, as 96 / 2 suggests)
    network = RPN(6, [64], [32], RATIOS, EVERYTHING)
    (anchors,) = network.anchors([torch.zeros(1, 6, 2, 2)])
    # 32 x 32 pixels of area; height / width 1/2: 22.6 x 45.3, its half 11.3 x 22.6, rounded
    shapes = [[-23, -11, 23, 11], [-16, -16, 16, 16], [-11, -23, 11, 23]]
    expected = [
        [x + x0, y + y0, x + x1, y + y1] for x, y in [(0, 0), (64, 0), (0, 64), (64, 64)] for x0, y0, x1, y1 in shapes
    ]
    assert anchors.tolist() == expected


def test_every_level_has_its_own_stride_and_size_where_sizes_were_rounded_up() -> None:
    network = rpn(EVERYTHING)
    levels = pyramid(96, 96, batch=1)
    assert [level.shape[-1] for level in levels] == [24, 12, 6, 3, 2]
    for anchors, level, stride, size in zip(network.anchors(levels), levels, STRIDES, ANCHOR_SIZES, strict=True):
        height, width = level.shape[-2:]
        assert anchors.shape == (height * width * 3, 4)
        centers = (anchors[:, :2] + anchors[:, 2:]).view(height, width, 3, 2) / 2
        columns, rows = torch.arange(width) * stride, torch.arange(height) * stride
        assert torch.equal(centers[..., 0], columns.view(1, -1, 1).expand(height, width, 3).float())
        assert torch.equal(centers[..., 1], rows.view(-1, 1, 1).expand(height, width, 3).float())
        sides = (anchors[:, 2:] - anchors[:, :2]).view(-1, 3, 2)
        assert torch.equal(sides[:, 1], torch.full_like(sides[:, 1], size))


def test_only_the_levels_with_an_anchor_size_are_read() -> None:
    network = rpn(EVERYTHING, anchor_sizes=[8, 16])
    assert network.strides == [4, 8]
    levels = pyramid(64, 64)
    noise = [torch.full_like(level, math.nan) for level in levels[2:]]
    proposals, _ = network(levels, [Size(64, 64)] * 2)
    same, _ = network(levels[:2] + noise, [Size(64, 64)] * 2)
    assert torch.equal(proposals[0].boxes, same[0].boxes)


def hand_set_network(scores: list[float], settings: RPNSettings) -> tuple[RPN, list[Tensor]]:
    """One level of one row, an anchor of 8 x 8 pixels every 16; its scores are given, its shifts zero."""
    network = RPN(1, [16], [8], [1.0], settings)
    for parameter in network.parameters():
        torch.nn.init.zeros_(parameter)
    network.head.conv[0][0].weight.data[0, 0, 1, 1] = 1  # passes what is positive
    network.head.cls_logits.weight.data.fill_(1)
    return network, [torch.tensor(scores).view(1, 1, 1, -1)]


def test_proposals_are_best_first() -> None:
    network, levels = hand_set_network([1.0, 4.0, 2.0, 3.0], RPNSettings(post_nms=3))
    (proposals,), losses = network(levels, [Size(16, 64)])
    # centres 16, 48, 32; upper halves are outside the image
    assert proposals.boxes.tolist() == [[12, 0, 20, 4], [44, 0, 52, 4], [28, 0, 36, 4]]
    assert proposals.anchors.tolist() == [1, 3, 2]
    assert losses == {}


def test_proposals_lie_in_the_content_of_their_image() -> None:
    network, levels = hand_set_network([1.0, 4.0, 2.0, 3.0], RPNSettings())
    (proposals,), _ = network(levels, [Size(3, 30)])
    # the anchor at 48 is all padding; those at 32 and 16 are cut at column 30, row 3
    assert proposals.boxes.tolist() == [[12, 0, 20, 3], [28, 0, 30, 3], [0, 0, 4, 3]]


def test_anchors_with_broken_scores_or_shifts_propose_nothing() -> None:
    network = RPN(1, [16], [8], [1.0], RPNSettings())
    (anchors,) = network.anchors([torch.zeros(1, 1, 1, 4)])
    shifts = torch.zeros(4, 4)
    shifts[3] = math.nan
    proposals = network._propose([torch.tensor([math.nan, math.inf, 2.0, 3.0])], [shifts], [anchors], Size(16, 64))
    assert proposals.boxes.tolist() == [[28, 0, 36, 4]]


def test_proposals_carry_no_gradient_but_losses_do() -> None:
    network = rpn(EVERYTHING)
    proposals, losses = network(pyramid(64, 96), [Size(64, 96)] * 2, [target((10, 12, 40, 50)), target()])
    assert not any(image_proposals.boxes.requires_grad for image_proposals in proposals)
    sum(losses.values()).backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_losses_without_any_object() -> None:
    network = rpn(EVERYTHING)
    levels = pyramid(64, 96)
    _, losses = network(levels, [Size(64, 96)] * 2, [target(), target()])
    # every anchor is background: the mean of log(1 + e^score)
    scores = torch.cat([logits.flatten() for logits in network.head(levels)[0]])
    assert losses["rpn_cls"].item() == pytest.approx(F.softplus(scores).mean().item(), rel=1e-5)
    assert losses["rpn_box"].item() == 0
    losses["rpn_box"].backward()  # in the graph all the same
    assert network.head.bbox_pred.weight.grad.abs().sum() == 0


def test_losses_by_hand() -> None:
    # anchors of 8 x 8 at (0, 0), (16, 0), (32, 0), (48, 0); the object is the second, moved right by a pixel
    network, levels = hand_set_network([0.5, 2.0, 1.0, 0.0], EVERYTHING)
    _, losses = network(levels, [Size(16, 64)], [target((13, -4, 21, 4))])
    # IoU 7 x 8 / (64 + 8) = 0.78: positive; all others are background
    expected = math.log(1 + math.exp(-2)) + sum(math.log(1 + math.exp(score)) for score in (0.5, 1.0, 0.0))
    assert losses["rpn_cls"].item() == pytest.approx(expected / 4)
    # wanted shift 1 / 8, beyond the turning point at 1 / 9: |x| - beta / 2
    assert losses["rpn_box"].item() == pytest.approx((1 / 8 - 1 / 18) / 4)


def test_match_by_hand() -> None:
    matcher = RPN(1, [16], [8], [1.0], EVERYTHING).matcher
    objects = torch.tensor([[0.0, 0, 10, 10], [100, 100, 110, 110]])
    candidates = torch.tensor([[0.0, 0, 10, 8], [0, 0, 10, 5], [0, 0, 10, 2], [50, 50, 60, 60], [100, 100, 104, 110]])
    # IoU 0.8 positive; 0.5 between the thresholds; 0.2 and 0 background; 0.4, but nothing fits the second better
    assert box_iou(objects, candidates).amax(0).tolist() == pytest.approx([0.8, 0.5, 0.2, 0, 0.4])
    assert match(matcher, objects, candidates).tolist() == [0, -2, BACKGROUND, BACKGROUND, 1]
    assert match(matcher, objects[:0], candidates).tolist() == [BACKGROUND] * 5


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (8, (4, 4)),  # enough of both: half and half
        (40, (10, 25)),  # all that there are
        (24, (10, 14)),  # background fills up what objects leave
        (3, (1, 2)),  # half of three, rounded down
    ],
)
def test_sample_sizes(number: int, expected: tuple[int, int]) -> None:
    matched = torch.tensor([3] * 10 + [BACKGROUND] * 25 + [-2] * 5)
    positive, negative = sample(matched, number, positive_fraction=0.5, queue=torch.randperm(40))
    assert (len(positive), len(negative)) == expected
    assert len(positive.unique()) == len(positive)
    assert len(negative.unique()) == len(negative)
    assert (matched[positive] == 3).all()
    assert (matched[negative] == BACKGROUND).all()


def test_sample_takes_those_in_front_of_the_queue() -> None:
    matched = torch.tensor([BACKGROUND, 0, BACKGROUND, -2, 1, BACKGROUND])
    positive, negative = sample(matched, 3, 0.5, torch.tensor([4, 3, 0, 1, 2, 5]))
    assert (positive.tolist(), negative.tolist()) == ([4], [2, 0])


def test_sample_draws_each_candidate_equally_often() -> None:
    torch.manual_seed(0)
    matched = torch.full((10,), BACKGROUND)
    drawn = torch.cat([sample(matched, 5, 0.5, torch.randperm(10))[1] for _ in range(400)])
    assert all(150 < count < 250 for count in drawn.bincount(minlength=10))  # 200 each; deviation 10


def test_anchors_that_are_not_rounded() -> None:
    """Side 8: of ratio 1/2 it is 8 sqrt(2) wide and 8 / sqrt(2) high, of ratio 2 the other way round."""
    network = RPN(6, STRIDES, ANCHOR_SIZES, RATIOS, EVERYTHING, rounded_anchors=False)
    first = network.anchors(pyramid(16, 16))[0][:3]
    long, short = 4 * 2**0.5, 2 * 2**0.5
    wanted = torch.tensor([[-long, -short, long, short], [-4, -4, 4, 4], [-short, -long, short, long]])
    torch.testing.assert_close(first, wanted)
    rounded = rpn(EVERYTHING).anchors(pyramid(16, 16))[0][:3]
    assert rounded.tolist() == [[-6, -3, 6, 3], [-4, -4, 4, 4], [-3, -6, 3, 6]]


def crowded(objects: int, candidates: int, seed: int) -> tuple[Tensor, Tensor]:
    """Objects on a grid, so that IoUs are equal often, and candidates around some of them; both have doubles."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 40, (objects, 2), generator=generator) * 8
    sides = torch.randint(1, 6, (objects, 2), generator=generator) * 8
    boxes = torch.cat((corners, corners + sides), dim=1).float()
    nearby = boxes[torch.randint(0, max(objects - 1, 1), (candidates,), generator=generator)]
    nearby = nearby + torch.randint(-1, 2, (candidates, 4), generator=generator) * 4
    return boxes, nearby


@pytest.mark.parametrize("pairs", [1, 7, 100, 2500, 10**9])
@pytest.mark.parametrize(("objects", "candidates"), [(1, 50), (9, 301), (60, 203), (300, 5)])
@pytest.mark.parametrize("low_quality", [True, False])
def test_matching_in_parts_equals_torchvisions(
    pairs: int, objects: int, candidates: int, low_quality: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tascnet.model.rpn._PAIRS_AT_ONCE", pairs)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=low_quality)
    for seed in range(3):
        boxes, nearby = crowded(objects, candidates, seed)
        assert torch.equal(match(matcher, boxes, nearby), matcher(box_iou(boxes, nearby)))
        # nothing overlaps it: all candidates are its best, and torchvision keeps what they fit best
        alone = torch.cat((boxes, torch.tensor([[5000.0, 5000, 5010, 5010]])))
        assert torch.equal(match(matcher, alone, nearby), matcher(box_iou(alone, nearby)))
        without_extent = torch.cat((boxes, torch.tensor([[8.0, 8, 8, 8]])))  # an IoU that is no number
        nearby[::5] = torch.tensor([8.0, 8, 8, 8])
        assert torch.equal(match(matcher, without_extent, nearby), matcher(box_iou(without_extent, nearby)))


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_matching_holds_the_same_memory_for_a_crowd_as_for_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tascnet.model.rpn._PAIRS_AT_ONCE", 20_000)
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    largest = []
    for objects in (10, 100, 1000):
        boxes, nearby = crowded(objects, 2000, seed=0)
        with LargestTensor() as made:
            match(matcher, boxes, nearby)
        largest.append(made.elements)
    # corners of the overlaps: two numbers a pair
    assert max(largest) <= 2 * 20_000 + 2 * 1000
    assert largest[0] == 2 * 20_000


def test_nothing_to_match() -> None:
    matcher = Matcher(0.7, 0.3, allow_low_quality_matches=True)
    some = torch.tensor([[0.0, 0, 8, 8]])
    assert match(matcher, torch.zeros(0, 4), some).tolist() == [BACKGROUND]
    assert match(matcher, some, torch.zeros(0, 4)).shape == (0,)


def test_boxes_of_any_positive_size_stay_where_nothing_else_is_asked_for() -> None:
    """Thin, empty, inverted, a point, and one without a number."""
    boxes = torch.tensor(
        [[0, 0, 4, 4], [1, 1, 1 + 2e-4, 9], [3, 3, 3, 9], [5, 5, 4, 9], [2, 2, 2, 2], [0, 0, torch.nan, 4.0]]
    )
    assert large_enough(boxes, 0.0).tolist() == [0, 1]
    assert large_enough(boxes, 1e-3).tolist() == [0]
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(500, 2, generator=generator)
    many = torch.cat((corners, corners + 0.002 * torch.rand(500, 2, generator=generator)), dim=1)
    assert torch.equal(large_enough(many, 1e-3), remove_small_boxes(many, 1e-3))
    assert 50 < len(large_enough(many, 1e-3)) < 450


@pytest.mark.parametrize(("smallest_side", "expected"), [(1e-3, 0), (0.0, 1)])
def test_thin_proposals_stay_where_nothing_else_is_asked_for(smallest_side: float, expected: int) -> None:
    """One anchor of 16 x 16 pixels around the corner, shrunk to a width of 16 exp(-10.4) = 4.9e-4 pixels."""
    network = RPN(6, [4], [16], [1.0], RPNSettings(smallest_side=smallest_side))
    anchors = network.anchors([torch.zeros(1, 6, 1, 1)])
    shift = torch.tensor([[0.25, 0.25, -10.4, 0.0]])  # 4 pixels to the right and down
    found = network._propose([torch.zeros(1)], [shift], anchors, Size(32, 32))
    assert len(found.boxes) == expected
