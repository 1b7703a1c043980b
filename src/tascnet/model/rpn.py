"""Region proposal network: P2..P6 -> boxes that may hold an object."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image

from tascnet.model.averaging import Average, own_count
from tascnet.precision import full_precision
from tascnet.structures import Size, Target

BACKGROUND = Matcher.BELOW_LOW_THRESHOLD
BOX_LOSS_BETA = 1 / 9  # smooth-L1's turning point, as in torchvision

_PAIRS_AT_ONCE = 2**23
"""Pairs of object and candidate whose IoU is held at once: at 36 bytes per pair, 0.3 GB. An image of 1024 x 2048 has
half a million anchors; all its pairs at once would take 18 MB per object."""


@dataclass(frozen=True)
class RPNSettings:
    """Numbers of the region proposal network; the defaults are the field's standard recipe (our reading).

    Attributes:
        samples: anchors an image that the losses look at.
        positive_fraction: at most this share of them holds an object.
        high_iou: anchors with at least this IoU to an object are positive.
        low_iou: anchors with less than this IoU to every object are background.
        nms_iou: proposals that overlap a better one by more are dropped.
        pre_nms: best anchors a level that enter NMS.
        post_nms: proposals an image that leave it.
        smallest_side: proposals with a shorter side are dropped, pixels; with 0, empty ones only.
    """

    samples: int = 256
    positive_fraction: float = 0.5
    high_iou: float = 0.7
    low_iou: float = 0.3
    nms_iou: float = 0.7
    pre_nms: int = 1000
    post_nms: int = 1000
    smallest_side: float = 1e-3


class Proposals(NamedTuple):
    """The proposals of one image, best first.

    boxes: (n, 4) pixels, float32 or better, without gradient; anchors: (n,) number of the anchor that each was shifted
    from, counted through all levels; num_anchors: how many there are.
    """

    boxes: Tensor
    anchors: Tensor
    num_anchors: int


class RPN(nn.Module):
    """Scores and shifts anchors on each pyramid level; the best become proposals."""

    def __init__(
        self,
        channels: int,
        strides: Sequence[int],
        anchor_sizes: Sequence[int],
        anchor_ratios: Sequence[float],
        settings: RPNSettings,
        num_convs: int = 1,
        rounded_anchors: bool = True,
    ):
        """Build it for the first `len(anchor_sizes)` levels of the pyramid.

        Args:
            channels: of every pyramid level.
            strides: of the levels, pixels.
            anchor_sizes: side of the square anchor of each level, pixels.
            anchor_ratios: height / width of the anchors at each position.
            settings: see `RPNSettings`.
            num_convs: 3x3 convolutions before the scores and shifts.
            rounded_anchors: sides of the anchors are brought to whole pixels, as torchvision does.
        """
        super().__init__()
        self.strides = list(strides[: len(anchor_sizes)])
        self.settings = settings
        self.head = RPNHead(channels, len(anchor_ratios), num_convs)
        self.anchor_generator = AnchorGenerator(
            tuple((size,) for size in anchor_sizes), (tuple(anchor_ratios),) * len(anchor_sizes)
        )
        if not rounded_anchors:
            self.anchor_generator.cell_anchors = [centred_anchors(size, anchor_ratios) for size in anchor_sizes]
        self.box_coder = BoxCoder((1.0, 1.0, 1.0, 1.0))
        self.matcher = Matcher(settings.high_iou, settings.low_iou, allow_low_quality_matches=True)

    def forward(
        self,
        pyramid: Sequence[Tensor],
        image_sizes: Sequence[Size],
        targets: Sequence[Target] | None = None,
        generators: Sequence[torch.Generator | None] | None = None,
        average: Average = own_count,
    ) -> tuple[list[Proposals], dict[str, Tensor]]:
        """Propose boxes, and compute the losses where targets are given.

        Args:
            pyramid: the levels, each (B, channels, h, w).
            image_sizes: height and width of each image's content.
            targets: one an image.
            generators: one an image, on the CPU; they draw the anchors that the losses look at. None: torch's own.
            average: what a loss's sum is divided by.

        Returns:
            Proposals of each image, at most post_nms; and the losses `rpn_cls` and `rpn_box`, none without targets.
        """
        levels = list(pyramid[: len(self.strides)])
        logits_by_level, deltas_by_level = self.head(levels)
        logits = [full_precision(_anchor_rows(level, 1).squeeze(2)) for level in logits_by_level]  # each (B, anchors)
        deltas = [full_precision(_anchor_rows(level, 4)) for level in deltas_by_level]  # each (B, anchors, 4)
        anchors = self.anchors(levels)  # each (anchors, 4)
        with torch.no_grad():
            proposals = [
                self._propose([level[image] for level in logits], [level[image] for level in deltas], anchors, size)
                for image, size in enumerate(image_sizes)
            ]
        losses = (
            {}
            if targets is None
            else self._losses(
                torch.cat(logits, 1),
                torch.cat(deltas, 1),
                torch.cat(anchors),
                targets,
                generators or [None] * len(targets),
                average,
            )
        )
        return proposals, losses

    def anchors(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The anchors of each level in pixels of the image, (positions x ratios, 4), float32 or better.

        bfloat16 would move most anchors of a large image, by up to 11 pixels at 1024 x 2048.
        """
        dtype = full_precision(levels[0][:0]).dtype
        self.anchor_generator.set_cell_anchors(dtype, levels[0].device)
        # the levels' own strides: the generator would guess them from sizes that were rounded up at strides 64, 128
        strides = [[torch.full((), stride, device=levels[0].device)] * 2 for stride in self.strides]
        return self.anchor_generator.grid_anchors([list(level.shape[-2:]) for level in levels], strides)

    def _propose(self, logits: list[Tensor], deltas: list[Tensor], anchors: list[Tensor], size: Size) -> Proposals:
        """The proposals of one image."""
        shifts, found, scores, levels, numbers, num_anchors = [], [], [], [], [], 0
        for level, (level_logits, level_deltas, level_anchors) in enumerate(zip(logits, deltas, anchors, strict=True)):
            score, best = level_logits.topk(min(self.settings.pre_nms, len(level_logits)))
            shifts.append(level_deltas[best])
            found.append(level_anchors[best])
            scores.append(score)
            levels.append(torch.full_like(best, level))
            numbers.append(num_anchors + best)
            num_anchors += len(level_anchors)
        boxes = self.box_coder.decode_single(torch.cat(shifts), torch.cat(found))  # it waits for the device: once
        box, score, level_of = clip_boxes_to_image(boxes, size), torch.cat(scores), torch.cat(levels)
        keep = large_enough(box, self.settings.smallest_side)
        keep = keep[score[keep].isfinite()]
        box, score, level_of, number = box[keep], score[keep], level_of[keep], torch.cat(numbers)[keep]
        keep = batched_nms(box.float(), score.float(), level_of, self.settings.nms_iou)[: self.settings.post_nms]
        return Proposals(box[keep], number[keep], num_anchors)

    def _losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        anchors: Tensor,
        targets: Sequence[Target],
        generators: Sequence[torch.Generator | None],
        average: Average,
    ) -> dict[str, Tensor]:
        """Binary cross entropy over sampled anchors; smooth L1 over the positive ones; both per sampled anchor."""
        cls_loss, box_loss, num_sampled = logits.sum() * 0, deltas.sum() * 0, 0
        for image_logits, image_deltas, target, generator in zip(logits, deltas, targets, generators, strict=True):
            boxes = target.boxes.to(anchors.dtype)
            matched = match(self.matcher, boxes, anchors)
            queue = torch.randperm(len(anchors), generator=generator)
            positive, negative = sample(matched, self.settings.samples, self.settings.positive_fraction, queue)
            sampled = torch.cat((positive, negative))
            is_object = torch.zeros_like(image_logits[sampled])
            is_object[: len(positive)] = 1
            wanted = self.box_coder.encode_single(boxes[matched[positive]], anchors[positive])
            cls_loss = cls_loss + F.binary_cross_entropy_with_logits(image_logits[sampled], is_object, reduction="sum")
            box_loss = box_loss + F.smooth_l1_loss(image_deltas[positive], wanted, beta=BOX_LOSS_BETA, reduction="sum")
            num_sampled += len(sampled)
        divisor = average(torch.full((), num_sampled, device=logits.device))  # a tensor of a number would be waited for
        return {"rpn_cls": cls_loss / divisor, "rpn_box": box_loss / divisor}


def large_enough(boxes: Tensor, smallest_side: float) -> Tensor:
    """Indices of the boxes, (n, 4), that are not empty and have both sides of that length or more, pixels."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.where(((sides >= smallest_side) & (sides > 0)).all(1))[0]


def centred_anchors(size: float, ratios: Sequence[float]) -> Tensor:
    """Anchors around the origin, all of area `size` squared, not rounded: (ratios, 4)."""
    half_heights = torch.tensor(ratios).sqrt() * size / 2
    half_widths = (size / 2) ** 2 / half_heights
    return torch.stack((-half_widths, -half_heights, half_widths, half_heights), dim=1)


def match(matcher: Matcher, boxes: Tensor, candidates: Tensor) -> Tensor:
    """Match candidates to objects by IoU, by torchvision's rules, in memory that does not grow with their product.

    Args:
        matcher: holds the thresholds.
        boxes: (n, 4) of the objects.
        candidates: (m, 4), float32 or better.

    Returns:
        (m,) index of each candidate's object, or a negative value: background, or between the thresholds.
    """
    if len(boxes) == 0 or len(candidates) == 0:
        return torch.full((len(candidates),), BACKGROUND, dtype=torch.int64, device=candidates.device)
    chunks = candidates.split(max(_PAIRS_AT_ONCE // len(boxes), 1))
    if len(chunks) == 1:
        return matcher(box_iou(boxes, candidates))
    # the matcher also keeps each object's best candidates: as one more column, every chunk sees the best IoU of all
    best = reduce(torch.maximum, (box_iou(boxes, chunk).amax(1) for chunk in chunks))
    return torch.cat([matcher(torch.cat((box_iou(boxes, chunk), best[:, None]), dim=1))[:-1] for chunk in chunks])


def sample(matched: Tensor, number: int, positive_fraction: float, queue: Tensor) -> tuple[Tensor, Tensor]:
    """Take at most `number` candidates, at most a share of them positive: indices of positives and of negatives.

    Args:
        matched: (n,) what `match` says of each candidate.
        number: how many at most.
        positive_fraction: share of `number` that may be positive.
        queue: (n,) each candidate's place in a shuffled queue; those in front are taken. It is drawn on the CPU, so
            that a seed takes the same on every device, and for what a candidate is (its anchor), not for its rank
            by score: rounding swaps scores that are nearly equal.
    """
    positive = torch.where(matched >= 0)[0]
    negative = torch.where(matched == BACKGROUND)[0]
    num_positive = min(len(positive), int(number * positive_fraction))
    num_negative = min(len(negative), number - num_positive)
    queue = queue.to(matched.device)
    return _in_front(positive, num_positive, queue), _in_front(negative, num_negative, queue)


def _in_front(candidates: Tensor, number: int, queue: Tensor) -> Tensor:
    return candidates[queue[candidates].topk(number, largest=False).indices]


def _anchor_rows(level: Tensor, values: int) -> Tensor:
    """(B, anchors a position x values, h, w) -> (B, h x w x anchors a position, values)."""
    batch, _, height, width = level.shape
    rows = level.view(batch, -1, values, height, width).permute(0, 3, 4, 1, 2)
    return rows.reshape(batch, -1, values)
