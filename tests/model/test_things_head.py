"""Things head: mask targets, RoI levels, losses and detections, against naive versions and torchvision's RoIAlign."""

import math

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.ops import box_iou, clip_boxes_to_image, roi_align

from tascnet.model.rpn import RPN, Proposals, RPNSettings
from tascnet.model.things_head import MASK_POOL, RoISettings, ThingsHead, box_losses, mask_targets, roi_level
from tascnet.structures import IGNORE, Instances, Size, Target

STRIDES = [4, 8, 16, 32, 64, 128]
CHANNELS, NUM_THINGS = 6, 3
IMAGE = Size(64, 96)
DEFAULTS = RoISettings()


def things_head(settings: RoISettings = DEFAULTS, **rpn: int) -> ThingsHead:
    torch.manual_seed(5)
    proposals = RPN(CHANNELS, STRIDES, [8, 16, 32, 64, 128], [1.0], RPNSettings(**rpn))
    head = ThingsHead(proposals, CHANNELS, STRIDES, NUM_THINGS, 10, 8, 2, settings)
    # scores that differ from anchor to anchor, so that proposals do not hang on rounding
    torch.nn.init.normal_(proposals.head.cls_logits.weight, std=0.5)
    return head


def pyramid(batch: int = 2) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return [
        torch.randn(
            batch, CHANNELS, math.ceil(IMAGE.height / stride), math.ceil(IMAGE.width / stride), generator=generator
        )
        for stride in STRIDES
    ]


def target(*objects: tuple[int, int, int, int, int]) -> Target:
    """Rectangles: x0, y0, x1, y1, thing index; none overlap."""
    instance_map = torch.zeros(IMAGE, dtype=torch.int32)
    for index, (x0, y0, x1, y1, _) in enumerate(objects, start=1):
        instance_map[y0:y1, x0:x1] = index
    rows = torch.tensor(objects).view(-1, 5)
    return Target(rows[:, :4].float(), rows[:, 4], instance_map, torch.full(IMAGE, IGNORE))


TWO_OBJECTS = target((8, 8, 40, 30, 2), (60, 20, 90, 60, 0))
NOTHING = target()


# Mask targets


def shapes() -> tuple[Tensor, Tensor]:
    """Three discs and a bar in one map, and their boxes."""
    rows, columns = torch.arange(IMAGE.height)[:, None], torch.arange(IMAGE.width)[None, :]
    instance_map = torch.zeros(IMAGE, dtype=torch.int32)
    boxes = []
    for index, (row, column, radius) in enumerate([(20, 20, 15), (40, 60, 20), (12, 80, 6)], start=1):
        disc = (rows - row) ** 2 + (columns - column) ** 2 <= radius**2
        instance_map[disc] = index
        boxes.append([column - radius, row - radius, column + radius + 1, row + radius + 1])
    instance_map[60:64, 0:50] = 4
    return instance_map, torch.tensor([*boxes, [0, 60, 50, 64]], dtype=torch.float32)


def naive_mask_target(instance_map: Tensor, box: list[float], instance: int, cells: int) -> list[list[bool]]:
    """Three by three points a cell, one after another; a point outside the image reads the nearest pixel."""
    height, width = instance_map.shape
    x0, y0, x1, y1 = box
    result = []
    for row in range(cells):
        line = []
        for column in range(cells):
            votes = 0
            for down in (1 / 6, 1 / 2, 5 / 6):
                for right in (1 / 6, 1 / 2, 5 / 6):
                    y = math.floor(y0 + (row + down) / cells * (y1 - y0))
                    x = math.floor(x0 + (column + right) / cells * (x1 - x0))
                    pixel = instance_map[min(max(y, 0), height - 1), min(max(x, 0), width - 1)]
                    votes += int(pixel) == instance + 1
            line.append(votes >= 5)
        result.append(line)
    return result


def test_mask_targets_equal_the_naive_version() -> None:
    instance_map, boxes = shapes()
    # jittered, beyond the image, and one box on a neighbour's object
    rois = boxes[[0, 1, 2, 3, 1]] + torch.tensor(
        [[0.3, -0.7, 1.2, 0.4], [-5.1, 2.2, 3.3, 9.7], [0.1, 0.1, 0.1, 0.1], [-4.2, -6.1, 7.3, 5.9], [0, 0, 0, 0]]
    )
    instances = torch.tensor([0, 1, 2, 3, 0])
    cells = 7
    result = mask_targets(instance_map, rois, instances, cells)
    expected = [
        naive_mask_target(instance_map, roi.double().tolist(), int(instance), cells)
        for roi, instance in zip(rois, instances, strict=True)
    ]
    assert result.tolist() == expected
    assert 0.2 < result[:4].float().mean() < 0.95
    assert not result[4].all()


def test_mask_target_of_a_rectangle_worked_out_by_hand() -> None:
    # a box of 8 x 4 pixels, the object in its left 6 x 4: 4 x 4 cells of 2 x 1 pixels, three columns of them object
    instance_map = torch.zeros(10, 20, dtype=torch.int32)
    instance_map[3:7, 5:11] = 2
    result = mask_targets(instance_map, torch.tensor([[5.0, 3, 13, 7]]), torch.tensor([1]), 4)
    assert result.tolist() == [[[True, True, True, False]] * 4]
    assert not mask_targets(instance_map, torch.tensor([[5.0, 3, 13, 7]]), torch.tensor([0]), 4).any()


def test_mask_targets_agree_with_roi_align_of_full_planes() -> None:
    instance_map, boxes = shapes()
    generator = torch.Generator().manual_seed(7)
    instances = torch.arange(4).repeat(20)
    rois = clip_boxes_to_image(boxes[instances] + torch.randn(80, 4, generator=generator), IMAGE)
    planes = torch.stack([(instance_map == k + 1).float() for k in range(4)])[:, None]
    aligned = roi_align(planes, torch.cat((instances[:, None].float(), rois), 1), 28, 1.0, 3, aligned=True)[:, 0]
    agrees = mask_targets(instance_map, rois, instances, 28) == (aligned > 0.5)
    assert agrees.float().mean() > 0.99
    # reading bilinearly rounds corners off; where it is not torn between both sides there is no doubt
    assert agrees[(aligned - 0.5).abs() > 0.2].float().mean() > 0.9999


def test_no_mask_targets() -> None:
    result = mask_targets(
        torch.zeros(8, 8, dtype=torch.int32), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 28
    )
    assert result.shape == (0, 28, 28)


# RoI levels and pooling


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (224, 224, 2),  # the canonical RoI: P4
        (112, 112, 1),
        (111.9, 112, 0),
        (223.9, 223.9, 1),
        (56, 56, 0),
        (448, 448, 3),
        (448, 112, 2),  # as large as 224 x 224
        (4, 4, 0),
        (2000, 2000, 3),  # clamped to P5
        (0, 0, 0),
    ],
)
def test_roi_level_by_hand(width: float, height: float, level: int) -> None:
    box = torch.tensor([[30.0, 40.0, 30 + width, 40 + height]])
    assert roi_level(box, num_levels=4).tolist() == [level]


def test_roi_level_does_not_round_a_boundary_down() -> None:
    lefts = torch.linspace(0, 1000, 997)
    boxes = torch.stack((lefts, lefts, lefts + 112, lefts + 112), 1).double()
    assert (roi_level(boxes, num_levels=4) == 1).all()


def test_pooling_equals_roi_align_of_the_level_that_fits() -> None:
    head = things_head()
    sides = [40, 112, 224, 448, 900, 20]
    first = torch.tensor([[7.0, 3.0, 7 + side, 3 + side] for side in sides[:4]])
    second = torch.tensor([[0.0, 5.0, side, 5.0 + side] for side in sides[4:]])
    generator = torch.Generator().manual_seed(8)
    levels = [torch.randn(2, CHANNELS, 512 // stride, 512 // stride, generator=generator) for stride in STRIDES]
    pooled = head._pool(levels, [first, second], 7)
    assert pooled.shape == (6, CHANNELS, 7, 7)
    image_and_level = [(0, 0), (0, 1), (0, 2), (0, 3), (1, 3), (1, 0)]
    for cells, box, (image, level) in zip(pooled, torch.cat((first, second)), image_and_level, strict=True):
        features, ratio = levels[level][image : image + 1].double(), head.settings.sampling_ratio
        expected = roi_align(features, [box[None].double()], 7, 1 / STRIDES[level], ratio, aligned=True)
        torch.testing.assert_close(cells.double(), expected[0], rtol=1e-5, atol=2e-6)


def test_pooling_is_right_to_half_a_pixel() -> None:
    # features that hold their own column: what is pooled must be the column of each cell's centre
    columns = (torch.arange(24) + 0.5) * 4  # centre of each position in pixels of the image
    level = columns.expand(1, CHANNELS, 16, 24)
    pooled = things_head()._pool([level] * 6, [torch.tensor([[20.0, 8.0, 62.0, 50.0]])], 7)
    assert pooled[0, 0, 0].tolist() == pytest.approx([20 + 6 * (cell + 0.5) for cell in range(7)], rel=1e-5)


# Losses


def test_losses_are_finite_and_reach_every_parameter() -> None:
    head = things_head()
    losses, positives = head.losses(pyramid(), [IMAGE] * 2, [TWO_OBJECTS, NOTHING])
    assert set(losses) == {"rpn_cls", "rpn_box", "cls", "box", "mask"}
    assert all(loss.shape == () and loss.isfinite() and loss > 0 for loss in losses.values())
    sum(losses.values()).backward()
    for name, parameter in head.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert len(positives) == 2
    assert len(positives[1].boxes) == 0


def test_even_first_predictions() -> None:
    losses, _ = things_head().losses(pyramid(), [IMAGE] * 2, [TWO_OBJECTS, TWO_OBJECTS])
    assert losses["cls"].item() == pytest.approx(math.log(NUM_THINGS + 1), rel=0.05)
    assert losses["mask"].item() == pytest.approx(math.log(2), rel=0.05)


def test_positive_rois_are_near_their_objects_and_carry_gradient() -> None:
    head = things_head()
    _, (positive, _) = head.losses(pyramid(), [IMAGE] * 2, [TWO_OBJECTS, NOTHING])
    overlaps = box_iou(TWO_OBJECTS.boxes, positive.boxes)
    assert (overlaps.amax(0) >= 0.5).all()
    # the annotated boxes themselves are among the candidates
    assert overlaps.amax(1).tolist() == pytest.approx([1, 1])
    assert positive.masks.shape == (len(positive.boxes), 2 * MASK_POOL, 2 * MASK_POOL)
    assert positive.masks.requires_grad
    assert not positive.boxes.requires_grad
    assert ((positive.masks > 0) & (positive.masks < 1)).all()


def test_a_batch_without_any_object() -> None:
    head = things_head()
    losses, positives = head.losses(pyramid(), [IMAGE] * 2, [NOTHING, NOTHING])
    assert losses["box"].item() == losses["mask"].item() == losses["rpn_box"].item() == 0
    assert losses["cls"] > 0
    assert [tuple(positive.masks.shape) for positive in positives] == [(0, 28, 28)] * 2
    # all parameters stay in the graph, as distributed training wants it
    sum(losses.values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    assert head.mask_predictor.mask_fcn_logits.weight.grad.abs().sum() == 0


def test_masks_and_mask_loss_are_those_of_the_annotated_category() -> None:
    head = things_head()
    torch.nn.init.zeros_(head.mask_predictor.mask_fcn_logits.weight)
    head.mask_predictor.mask_fcn_logits.bias.data = torch.tensor([1.0, -9.0, 2.0])
    full = target((0, 0, 96, 64, 2))  # every cell of every RoI is object
    losses, (positive,) = head.losses(pyramid(1), [IMAGE], [full])
    assert positive.masks.unique().tolist() == [pytest.approx(1 / (1 + math.exp(-2)))]
    assert losses["mask"].item() == pytest.approx(math.log(1 + math.exp(-2)))


def proposed(boxes: torch.Tensor) -> Proposals:
    return Proposals(boxes, torch.arange(len(boxes)), len(boxes))


def test_class_and_box_loss_worked_out_by_hand() -> None:
    # RPN scores and shifts do not matter: the only candidates are the ones given here
    head = things_head(RoISettings(samples=100))
    torch.nn.init.zeros_(head.box_predictor.cls_score.weight)
    torch.nn.init.zeros_(head.box_predictor.bbox_pred.weight)
    head.box_predictor.cls_score.bias.data = torch.tensor([0.0, 1.0, 2.0, 3.0])
    deltas = torch.zeros(4, 4)
    deltas[3] = torch.tensor([0.05, 0.0, 0.0, 2.0])  # of thing index 2; the other categories' do not count
    deltas[1] = 100.0
    head.box_predictor.bbox_pred.bias.data = deltas.flatten()
    proposals = [proposed(torch.tensor([[8.0, 8.0, 40.0, 30.0], [60.0, 40.0, 80.0, 60.0]]))]
    head.rpn.forward = lambda *_: (proposals, {})  # type: ignore[method-assign]
    losses, _ = head.losses(pyramid(1), [IMAGE], [target((8, 8, 40, 30, 2))])
    # three RoIs: the object's box twice (proposed, annotated), and background
    partition = math.log(1 + math.e + math.e**2 + math.e**3)
    assert losses["cls"].item() == pytest.approx((2 * (partition - 3) + partition) / 3, rel=1e-5)
    # smooth L1, turning point 1/9: 0.05^2 / 2 x 9, and 2 - 1/18; two RoIs of three
    assert losses["box"].item() == pytest.approx(2 * (0.05**2 * 4.5 + 2 - 1 / 18) / 3, rel=1e-5)


def test_box_losses_equal_torchvisions() -> None:
    generator = torch.Generator().manual_seed(7)
    logits, deltas = torch.randn(9, 4, generator=generator), torch.randn(9, 16, generator=generator)
    classes, wanted = torch.tensor([0, 3, 1, 0, 0, 2, 2, 0, 1]), torch.randn(9, 4, generator=generator)
    reference = fastrcnn_loss(logits, deltas, [classes], [wanted])
    assert [float(loss) for loss in box_losses(logits, deltas, classes, wanted)] == pytest.approx(
        [float(loss) for loss in reference], rel=1e-6
    )


def test_box_losses_without_a_roi_are_zero() -> None:
    losses = box_losses(torch.zeros(0, 4), torch.zeros(0, 16), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    assert [float(loss) for loss in losses] == [0, 0]


def test_sampled_rois_are_a_quarter_objects() -> None:
    head = things_head(RoISettings(samples=8))
    near = TWO_OBJECTS.boxes.repeat(10, 1) + torch.rand(20, 4, generator=torch.Generator().manual_seed(9))
    far = torch.tensor([[0.0, 50.0, 10.0, 60.0]]).repeat(20, 1)
    rois = head._sample_rois(proposed(torch.cat((near, far))), TWO_OBJECTS)
    assert len(rois.boxes) == 8
    assert len(rois.instances) == 2
    # classes: 0 is background, thing index + 1
    assert rois.classes.tolist() == [*(TWO_OBJECTS.labels[rois.instances] + 1).tolist(), 0, 0, 0, 0, 0, 0]
    matched = TWO_OBJECTS.boxes[rois.instances]
    assert (box_iou(rois.boxes[:2], matched).diagonal() > 0.5).all()
    # moving a RoI by its deltas gives the annotated box
    moved = head.box_coder.decode_single(rois.deltas[:2], rois.boxes[:2])
    assert torch.allclose(moved, matched, atol=1e-3)


def test_the_same_rois_are_drawn_where_rounding_swaps_proposals() -> None:
    """What is drawn hangs on the anchors that proposals came from, not on their ranks by score."""
    head = things_head(RoISettings(samples=16))
    uniform = torch.Generator().manual_seed(5)
    corners = torch.rand(200, 2, generator=uniform) * 60
    boxes = torch.cat((corners, corners + 10 + torch.rand(200, 2, generator=uniform) * 30), dim=1)
    anchors = torch.randperm(1000, generator=uniform)[:200]
    ranks = torch.arange(200).view(-1, 2).flip(1).flatten()  # each with its neighbour
    drawn, again, other = (
        head._sample_rois(
            Proposals(boxes[order], anchors[order], 1000), TWO_OBJECTS, torch.Generator().manual_seed(seed)
        )
        for order, seed in ((torch.arange(200), 1), (ranks, 1), (ranks, 2))
    )
    assert torch.equal(drawn.boxes, again.boxes)
    assert torch.equal(drawn.classes, again.classes)
    assert not torch.equal(drawn.boxes, other.boxes)


# Detections


def detector(settings: RoISettings) -> ThingsHead:
    """A head that calls every proposal thing index 1, with a mask of its own for each category."""
    head = things_head(settings, post_nms=40)
    for layer, bias in (
        (head.box_predictor.cls_score, [0.0, 0.0, 5.0, 0.0]),
        (head.box_predictor.bbox_pred, [0.0] * 16),
        (head.mask_predictor.mask_fcn_logits, [-3.0, 2.0, 0.5]),
    ):
        torch.nn.init.zeros_(layer.weight)
        layer.bias.data = torch.tensor(bias)
    return head


def test_detections_of_a_head_set_by_hand() -> None:
    head = detector(RoISettings(max_detections=5, nms_iou=0.4))
    levels = pyramid()
    sizes = [IMAGE, Size(50, 70)]
    proposals, _ = head.rpn(levels, sizes)
    found = head.detect(levels, sizes)
    assert len(found) == 2
    for instances, size, (candidates, _, _) in zip(found, sizes, proposals, strict=True):
        assert len(instances) == 5
        assert instances.labels.tolist() == [1] * 5
        assert instances.scores.tolist() == pytest.approx([math.exp(5) / (math.exp(5) + 3)] * 5)
        assert torch.allclose(instances.masks, torch.full((5, 28, 28), 1 / (1 + math.exp(-2))))
        # no shifts: each detection is a proposal, and none overlaps another by more than allowed
        nearest = (instances.boxes[:, None] - candidates).abs().amax(2).amin(1)
        assert nearest.max() < 1e-4
        assert box_iou(instances.boxes, instances.boxes).fill_diagonal_(0).max() <= 0.4
        assert (instances.boxes >= 0).all()
        assert (instances.boxes[:, 2] <= size.width).all()
        assert (instances.boxes[:, 3] <= size.height).all()


def test_no_detection_in_any_image() -> None:
    head = detector(RoISettings(score_threshold=0.999))
    for instances in head.detect(pyramid(), [IMAGE] * 2):
        assert len(instances) == 0
        assert instances.boxes.shape == (0, 4)
        assert instances.masks.shape == (0, 28, 28)
        assert instances.labels.dtype == torch.int64


def test_detections_in_one_image_of_two() -> None:
    head = detector(RoISettings(score_threshold=0.9))
    first, second = head.detect(pyramid(), [IMAGE, Size(0, 0)])  # an image without content has no proposal
    assert len(first) > 0
    assert len(second) == 0
    assert len(first.masks) == len(first)


def test_detections_of_an_untrained_head_are_well_formed() -> None:
    head = things_head(RoISettings(max_detections=30))
    torch.nn.init.normal_(head.box_predictor.cls_score.weight, std=2.0)
    torch.nn.init.normal_(head.box_predictor.bbox_pred.weight, std=1.0)
    for instances in head.detect(pyramid(), [IMAGE] * 2):
        assert isinstance(instances, Instances)
        assert 0 < len(instances) <= 30
        assert instances.labels.unique().numel() > 1
        assert instances.labels.min() >= 0
        assert instances.labels.max() < NUM_THINGS
        assert (instances.scores.diff() <= 0).all()
        assert ((instances.scores > 0.05) & (instances.scores <= 1)).all()
        assert ((instances.masks >= 0) & (instances.masks <= 1)).all()
        x0, y0, x1, y1 = instances.boxes.unbind(1)
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= IMAGE.width)).all()
        assert ((y0 >= 0) & (y0 < y1) & (y1 <= IMAGE.height)).all()


def logits_of(*probabilities: list[float]) -> Tensor:
    return torch.tensor(probabilities).log()


def test_selection_worked_out_by_hand() -> None:
    head = things_head(RoISettings(score_threshold=0.2, nms_iou=0.5))
    proposals = torch.tensor([[10.0, 10, 30, 30], [10, 10, 30, 31], [50, 20, 90, 60]])
    class_logits = logits_of([0.1, 0.5, 0.3, 0.1], [0.1, 0.6, 0.1, 0.2001], [0.3, 0.1, 0.15, 0.45])
    deltas = torch.zeros(3, 4, 4)
    deltas[2, 3] = torch.tensor([5.0, 0.0, 0.0, 0.0])  # right by half the width, beyond the image
    deltas[2, 1] = 1.0  # another category's shift
    boxes, labels, scores = head._select(class_logits, deltas.flatten(1), proposals, IMAGE)
    # category 0: the second proposal beats the first; category 1 keeps the first, category 2 the second and the third
    assert labels.tolist() == [0, 2, 1, 2]
    assert scores.tolist() == pytest.approx([0.6, 0.45, 0.3, 0.2001], abs=1e-4)
    assert boxes.tolist() == [[10, 10, 30, 31], [70, 20, 96, 60], [10, 10, 30, 30], [10, 10, 30, 31]]
    limited = things_head(RoISettings(score_threshold=0.2, nms_iou=0.5, max_detections=2))
    assert limited._select(class_logits, deltas.flatten(1), proposals, IMAGE)[1].tolist() == [0, 2]


def test_a_detection_shifted_out_of_the_image_is_dropped() -> None:
    head = things_head()
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 1, 0] = 100.0  # ten widths to the right
    boxes, labels, _ = head._select(
        logits_of([0.1, 0.5, 0.4, 1e-9]), deltas.flatten(1), torch.tensor([[10.0, 10, 30, 30]]), IMAGE
    )
    assert labels.tolist() == [1]
    assert boxes.tolist() == [[10, 10, 30, 30]]
