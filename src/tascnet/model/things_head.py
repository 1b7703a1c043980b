"""Things head: P2..P7 -> boxes, categories and masks of objects: Mask R-CNN (Figure 2, bottom)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import batched_nms, clip_boxes_to_image

from tascnet.model.averaging import Average, own_count
from tascnet.model.fpn import ConvNorm, norm_layer
from tascnet.model.roi_align import roi_align
from tascnet.model.rpn import BOX_LOSS_BETA, RPN, Proposals, large_enough, match, sample
from tascnet.precision import full_precision
from tascnet.structures import Instances, Size, Target

NUM_ROI_LEVELS = 4  # RoIAlign reads P2..P5
BOX_POOL = 7  # cells a side that the box branch sees of a RoI
MASK_POOL = 14  # cells a side that the mask branch sees; its masks have twice as many
CANONICAL_SIDE, CANONICAL_LEVEL = 224, 2  # a RoI of 224 pixels is read from P4, level 2 counted from P2 (FPN paper)
MASK_TARGET_SAMPLES = 3  # samples a side in each cell of a mask target; odd, so that a majority always exists


@dataclass(frozen=True)
class RoISettings:
    """Numbers of the box and mask branches; the defaults are the field's standard recipe (our reading).

    Attributes:
        samples: RoIs an image that the losses look at.
        positive_fraction: at most this share of them holds an object.
        positive_iou: RoIs with at least this IoU to an object are positive, all others background.
        sampling_ratio: points a side that RoIAlign reads in each cell; 0 adapts to the size of the RoI.
        aligned: RoIAlign is half-pixel correct; torchvision's own detectors are trained without.
        score_threshold: detections with a lower score are dropped.
        nms_iou: detections that overlap a better one of their category by more are dropped.
        max_detections: best detections an image that are kept.
        smallest_side: detections with a shorter side are dropped, pixels; with 0, empty ones only.
    """

    samples: int = 512
    positive_fraction: float = 0.25
    positive_iou: float = 0.5
    sampling_ratio: int = 2
    aligned: bool = True
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100
    smallest_side: float = 1e-2


class PositiveRoIs(NamedTuple):
    """The RoIs of one training image that hold an object, for RoI-Flatten.

    boxes: (n, 4) pixels, without gradient; masks: (n, M, M) probabilities of the annotated category, with gradient.
    """

    boxes: Tensor
    masks: Tensor


class ThingsHead(nn.Module):
    """Region proposals, then a box branch (category, refined box) and a mask branch, made of torchvision's parts.

    torchvision's own `RoIHeads` does not fit: it forgets the mask logits in training, which RoI-Flatten needs, and
    its RoIAlign is always off by half a pixel. Box index 0 is the background inside this file; thing index k is box
    category k + 1.
    """

    def __init__(
        self,
        rpn: RPN,
        channels: int,
        strides: Sequence[int],
        num_things: int,
        box_channels: int,
        mask_channels: int,
        num_mask_convs: int,
        settings: RoISettings,
        num_box_convs: int = 0,
        norm: ConvNorm = "none",
        num_unused_classes: int = 0,
    ):
        """Build it with random weights.

        Args:
            rpn: proposes the boxes.
            channels: of every pyramid level.
            strides: of the levels, pixels.
            num_things: K_th.
            box_channels: width of the fully connected layers of the box branch.
            mask_channels: width of the mask branch.
            num_mask_convs: number of its 3x3 convolutions.
            settings: see `RoISettings`.
            num_box_convs: 3x3 convolutions of the box branch, with one fully connected layer behind them; 0 for two
                fully connected layers alone.
            norm: what follows the 3x3 convolutions of both branches.
            num_unused_classes: box classes behind the things that no category has; they take part in the softmax.
        """
        super().__init__()
        self.strides = list(strides[:NUM_ROI_LEVELS])
        self.num_things = num_things
        self.settings = settings
        self.rpn = rpn
        if num_box_convs:
            shape, convs = (channels, BOX_POOL, BOX_POOL), [channels] * num_box_convs
            self.box_head: nn.Module = FastRCNNConvFCHead(shape, convs, [box_channels], norm_layer(norm))
        else:
            self.box_head = TwoMLPHead(channels * BOX_POOL**2, box_channels)
        self.box_predictor = FastRCNNPredictor(box_channels, 1 + num_things + num_unused_classes)
        self.mask_head = MaskRCNNHeads(
            channels, (mask_channels,) * num_mask_convs, dilation=1, norm_layer=norm_layer(norm)
        )
        self.mask_predictor = MaskRCNNPredictor(mask_channels, mask_channels, num_things)
        self.box_coder = BoxCoder((10.0, 10.0, 5.0, 5.0))
        self.matcher = Matcher(settings.positive_iou, settings.positive_iou)
        # small last layers: the first predictions are even, so the first losses are not spent on unlearning noise
        for layer, spread in (
            (self.box_predictor.cls_score, 0.01),
            (self.box_predictor.bbox_pred, 0.001),
            (self.mask_predictor.mask_fcn_logits, 0.001),
        ):
            nn.init.normal_(layer.weight, std=spread)
            nn.init.zeros_(layer.bias)

    def losses(
        self,
        pyramid: Sequence[Tensor],
        image_sizes: Sequence[Size],
        targets: Sequence[Target],
        generators: Sequence[torch.Generator | None] | None = None,
        average: Average = own_count,
    ) -> tuple[dict[str, Tensor], list[PositiveRoIs]]:
        """The five Mask R-CNN losses and each image's positive RoIs.

        Args:
            pyramid: the levels, each (B, channels, h, w).
            image_sizes: height and width of each image's content.
            targets: one an image.
            generators: one an image, on the CPU; they draw anchors and RoIs for the losses. None: torch's own.
            average: what a loss's sum is divided by.

        Returns:
            `rpn_cls`, `rpn_box`, `cls`, `box`, `mask`; the RoIs for RoI-Flatten.
        """
        generators = generators or [None] * len(targets)
        proposals, losses = self.rpn(pyramid, image_sizes, targets, generators, average)
        rois = [self._sample_rois(*image) for image in zip(proposals, targets, generators, strict=True)]

        class_logits, box_deltas = self.box_branch(pyramid, [roi.boxes for roi in rois])
        losses["cls"], losses["box"] = box_losses(
            class_logits,
            box_deltas,
            torch.cat([roi.classes for roi in rois]),
            torch.cat([roi.deltas for roi in rois]),
            average,
        )

        # the positives come first among the RoIs of each image
        boxes = [roi.boxes[: len(roi.instances)] for roi in rois]
        labels = torch.cat([roi.classes[: len(roi.instances)] - 1 for roi in rois])
        mask_logits = self.mask_branch(pyramid, boxes)
        mask_logits = mask_logits[torch.arange(len(labels), device=labels.device), labels]  # (n, M, M)
        wanted = torch.cat(
            [
                mask_targets(target.instance_map, roi_boxes, roi.instances, mask_logits.shape[-1])
                for target, roi_boxes, roi in zip(targets, boxes, rois, strict=True)
            ]
        )
        total = F.binary_cross_entropy_with_logits(mask_logits, wanted.to(mask_logits.dtype), reduction="sum")
        losses["mask"] = total / average(torch.full((), wanted.numel(), device=total.device))
        masks = mask_logits.sigmoid().split([len(image_boxes) for image_boxes in boxes])
        return losses, [PositiveRoIs(*positive) for positive in zip(boxes, masks, strict=True)]

    def detect(self, pyramid: Sequence[Tensor], image_sizes: Sequence[Size]) -> list[Instances]:
        """The objects of each image, best first, boxes in pixels of the images that went in."""
        proposals = [image.boxes for image in self.rpn(pyramid, image_sizes)[0]]
        class_logits, box_deltas = self.box_branch(pyramid, proposals)
        numbers = [len(image_proposals) for image_proposals in proposals]
        found = [
            self._select(*image)
            for image in zip(
                class_logits.split(numbers), box_deltas.split(numbers), proposals, image_sizes, strict=True
            )
        ]
        mask_logits = self.mask_branch(pyramid, [boxes for boxes, _, _ in found])
        labels = torch.cat([image_labels for _, image_labels, _ in found])
        masks = mask_logits[torch.arange(len(labels), device=labels.device), labels].sigmoid()
        masks_of_image = masks.split([len(boxes) for boxes, _, _ in found])
        return [
            Instances(boxes, image_labels, scores, image_masks)
            for (boxes, image_labels, scores), image_masks in zip(found, masks_of_image, strict=True)
        ]

    def box_branch(self, pyramid: Sequence[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """RoIs of all images, n in sum -> class logits (n, 1 + K_th), background first; box deltas (n, 4 + 4 K_th).

        Unused classes, if there are any, come behind the things.
        """
        return self.box_layers(self._pool(pyramid, boxes, BOX_POOL))

    def mask_branch(self, pyramid: Sequence[Tensor], boxes: list[Tensor]) -> Tensor:
        """RoIs of all images, n in sum -> mask logits (n, K_th, M, M)."""
        return self.mask_layers(self._pool(pyramid, boxes, MASK_POOL))

    def box_layers(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The box branch behind RoIAlign: (n, channels, 7, 7) -> class logits and box deltas, float32 or better."""
        class_logits, box_deltas = self.box_predictor(self.box_head(cells))
        return full_precision(class_logits), full_precision(box_deltas)

    def mask_layers(self, cells: Tensor) -> Tensor:
        """The mask branch behind RoIAlign: (n, channels, 14, 14) -> mask logits, float32 or better."""
        return full_precision(self.mask_predictor(self.mask_head(cells)))

    def _pool(self, pyramid: Sequence[Tensor], boxes: list[Tensor], cells: int) -> Tensor:
        """RoIAlign of each box from the level that fits its size -> (n, channels, cells, cells)."""
        image_of = torch.cat([torch.full_like(image_boxes[:, :1], image) for image, image_boxes in enumerate(boxes)])
        rois = torch.cat((image_of, torch.cat(boxes)), dim=1)  # (n, 5)
        level_of = roi_level(rois[:, 1:], len(self.strides))
        pooled = pyramid[0].new_zeros(len(rois), pyramid[0].shape[1], cells, cells)
        # sorted by level, so that a device is waited for once: for the number of RoIs of each level
        numbers = torch.stack([(level_of == level).sum() for level in range(len(self.strides))]).tolist()
        of_level = level_of.argsort(stable=True).split(numbers)
        for level, (stride, here) in enumerate(zip(self.strides, of_level, strict=True)):
            read = roi_align(
                pyramid[level],
                rois[here],
                cells,
                1 / stride,
                self.settings.sampling_ratio,
                self.settings.aligned,
            )
            pooled.index_copy_(0, here, read.to(pooled.dtype))
        return pooled

    @torch.no_grad()
    def _sample_rois(
        self, proposals: Proposals, target: Target, generator: torch.Generator | None = None
    ) -> "_SampledRoIs":
        """Draw the RoIs of one image that the losses look at; the annotated boxes are among the candidates."""
        boxes = target.boxes.to(proposals.boxes.dtype)
        candidates = torch.cat((proposals.boxes, boxes))
        matched = match(self.matcher, boxes, candidates)
        # every anchor has a place, then every object; proposals are where their anchors are
        queue = torch.randperm(proposals.num_anchors + len(boxes), generator=generator).to(matched.device)
        queue = torch.cat((queue[proposals.anchors], queue[proposals.num_anchors :]))
        positive, negative = sample(matched, self.settings.samples, self.settings.positive_fraction, queue)
        instances = matched[positive]
        deltas = candidates.new_zeros(len(positive) + len(negative), 4)
        deltas[: len(positive)] = self.box_coder.encode_single(boxes[instances], candidates[positive])
        classes = torch.zeros(len(deltas), dtype=torch.int64, device=deltas.device)
        classes[: len(positive)] = target.labels[instances] + 1
        return _SampledRoIs(candidates[torch.cat((positive, negative))], classes, deltas, instances)

    def _select(
        self, class_logits: Tensor, box_deltas: Tensor, proposals: Tensor, size: Size
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, labels and scores of one image's detections, best first."""
        things = slice(1, 1 + self.num_things)  # neither background nor unused classes
        scores = class_logits.softmax(-1)[:, things]  # (n, K_th)
        boxes = self.box_coder.decode_single(box_deltas, proposals).view(-1, class_logits.shape[1], 4)[:, things]
        roi, label = torch.where(scores > self.settings.score_threshold)
        score, box = scores[roi, label], clip_boxes_to_image(boxes[roi, label], size)
        keep = large_enough(box, self.settings.smallest_side)
        box, label, score = box[keep], label[keep], score[keep]
        keep = batched_nms(box.float(), score.float(), label, self.settings.nms_iou)[: self.settings.max_detections]
        return box[keep], label[keep], score[keep]


class _SampledRoIs(NamedTuple):
    """The RoIs of one training image, positives first."""

    boxes: Tensor  # (n, 4)
    classes: Tensor  # (n,) 0 background, thing index + 1
    deltas: Tensor  # (n, 4) from RoI to annotated box; only the positives' count
    instances: Tensor  # (positives,) index of the annotated instance


def box_losses(
    class_logits: Tensor, box_deltas: Tensor, classes: Tensor, deltas: Tensor, average: Average = own_count
) -> tuple[Tensor, Tensor]:
    """Cross entropy over all RoIs; smooth L1 of the annotated class's box over the positive ones; both per RoI.

    Args:
        class_logits: (n, 1 + K_th), background first.
        box_deltas: (n, 4 + 4 K_th).
        classes: (n,) 0 background, thing index + 1.
        deltas: (n, 4) from RoI to annotated box; only the positives' count.
        average: what both sums are divided by, from the number of RoIs.
    """
    divisor = average(torch.full((), len(classes), device=classes.device))
    positive = torch.where(classes > 0)[0]
    predicted = box_deltas.unflatten(1, (-1, 4))[positive, classes[positive]]
    cls_loss = F.cross_entropy(class_logits, classes, reduction="sum")
    box_loss = F.smooth_l1_loss(predicted, deltas[positive], beta=BOX_LOSS_BETA, reduction="sum")
    return cls_loss / divisor, box_loss / divisor


def roi_level(boxes: Tensor, num_levels: int) -> Tensor:
    """(n, 4) boxes -> (n,) the pyramid level each is read from, 0 for P2: one up for each doubling of its side."""
    boxes = full_precision(boxes)  # the area of a box of 256 pixels is beyond float16
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6).unbind(1)
    level = CANONICAL_LEVEL + 0.5 * torch.log2(width * height) - math.log2(CANONICAL_SIDE)
    # 1e-6: a box of exactly 112 pixels must not fall to the level below by rounding
    return torch.floor(level + 1e-6).clamp(0, num_levels - 1).long()


def mask_targets(instance_map: Tensor, boxes: Tensor, instances: Tensor, num_samples: int) -> Tensor:
    """Cut the annotated masks to the RoIs: what the mask branch shall predict.

    A cell is object where the majority of the points sampled in it are. Reads one map of all instances, so no mask
    is ever held as a plane of its own.

    Args:
        instance_map: (H, W), k + 1 in the pixels of instance k.
        boxes: (n, 4) RoIs in pixels.
        instances: (n,) the instance each RoI belongs to.
        num_samples: M.

    Returns:
        (n, M, M) bool.
    """
    height, width = instance_map.shape
    boxes = full_precision(boxes)
    points = num_samples * MASK_TARGET_SAMPLES
    fraction = (torch.arange(points, device=boxes.device, dtype=boxes.dtype) + 0.5) / points
    columns = (boxes[:, 0:1] + fraction * (boxes[:, 2:3] - boxes[:, 0:1])).floor().long().clamp(0, width - 1)
    rows = (boxes[:, 1:2] + fraction * (boxes[:, 3:4] - boxes[:, 1:2])).floor().long().clamp(0, height - 1)
    inside = (
        instance_map[rows[:, :, None], columns[:, None, :]] == (instances + 1)[:, None, None]
    )  # (n, points, points)
    cells = inside.view(-1, num_samples, MASK_TARGET_SAMPLES, num_samples, MASK_TARGET_SAMPLES)
    return cells.sum((2, 4)) > MASK_TARGET_SAMPLES**2 // 2
