"""TASCNet: the parts of Figure 2 joined: images -> outputs, or images and targets -> named losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor, nn

from tascnet.model.averaging import Average, own_count
from tascnet.model.backbone import Backbone
from tascnet.model.fpn import FPN
from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.stuff_head import StuffHead, SummedStuffHead, semantic_labels, stuff_loss
from tascnet.model.tasc_loss import TascForm, tasc_loss, things_probability
from tascnet.model.things_head import PositiveRoIs, ThingsHead
from tascnet.planes.plane import Plane, interpolated
from tascnet.structures import IGNORE, Instances, Size, Target

PAD_MULTIPLE = 32  # sides of the padded images; the levels above stride 32 are rounded up

LOSSES = ("rpn_cls", "rpn_box", "cls", "box", "mask", "stuff", "tasc")
"""Names of the losses: L_rpn_cls, L_rpn_box, L_cls, L_box, L_mask, L_stuff, L_TASC."""


@dataclass(frozen=True, eq=False)
class Outputs:
    """What the network says of a batch.

    Attributes:
        stuff_logits: (B, C, h, w) at that stride of the padded images: K_st stuff channels, then things.
        instances: one `Instances` an image, boxes in pixels of the images that went in.
        stride: of the stuff logits, and of both things masks; 4 or 2.
        offset: pixels, of the points that the logits stand for from the centres of their cells, down and to the right.
    """

    stuff_logits: Tensor
    instances: list[Instances]
    stride: int = 4
    offset: float = 0.0

    def stuff_logits_of(self, image: int, size: Size) -> Plane:
        """The logits of one image without its padding: (C, ceil(H / stride), ceil(W / stride)) over H x W pixels."""
        return Plane.at_stride(self.stuff_logits[image], self.stride, size, self.offset)

    def stuff_logits_at_input(self, image: int, size: Size) -> Plane:
        """The logits of one image, bilinear at the resolution of the input, (C, H, W); much more memory."""
        padded = Size(*(self.stride * cells for cells in self.stuff_logits.shape[-2:]))
        plane = Plane.at_stride(self.stuff_logits[image], self.stride, padded, self.offset)
        return Plane.at_stride(interpolated(plane, padded), 1, size)


class TASCNet(nn.Module):
    """One network for things and stuff, kept consistent by a shared things mask.

    `forward(images)` gives `Outputs`; `forward(images, targets)` gives the named losses. Whether the module is in
    training or evaluation mode does not matter to which of the two comes.
    """

    def __init__(
        self,
        backbone: Backbone,
        fpn: FPN,
        stuff_head: StuffHead | SummedStuffHead,
        things_head: ThingsHead,
        num_stuff: int,
        tasc: TascForm = TascForm(),
        conventions: str = "tascnet",
    ):
        super().__init__()
        self.backbone = backbone
        self.fpn = fpn
        self.stuff_head = stuff_head
        self.things_head = things_head
        self.num_stuff = num_stuff
        self.tasc = tasc
        self.conventions = conventions

    def forward(
        self,
        images: Tensor,
        targets: Sequence[Target] | None = None,
        image_sizes: Sequence[Size] | None = None,
        seeds: Sequence[int] | None = None,
        average: Average = own_count,
    ) -> Outputs | dict[str, Tensor]:
        """Predict, or compute the losses.

        Args:
            images: (B, 3, H, W) red, green, blue, 0-255, any number type.
            targets: one an image, at the size of the (padded) images; with them come losses.
            image_sizes: height and width of each image's content in the upper left corner; all of it by default.
            seeds: one an image, of the draw of anchors and RoIs that the losses look at: an image draws the same
                whatever batch it is in. Without them, torch's own generator draws.
            average: what each loss's sum is divided by; processes that train together agree on it.

        Returns:
            Without targets `Outputs`; with targets a scalar for each name in `LOSSES`, not yet weighted.
        """
        if image_sizes is None:
            image_sizes = [Size(*images.shape[-2:])] * len(images)
        pyramid = self.fpn(self.backbone(self._prepare(images, image_sizes)))
        stuff_logits, stride = self.stuff_head(pyramid), self.stuff_head.stride
        if targets is None:
            instances = self.things_head.detect(pyramid, image_sizes)
            return Outputs(stuff_logits, instances, stride, self.stuff_head.offset)
        generators = None if seeds is None else [torch.Generator().manual_seed(seed) for seed in seeds]
        losses, positives = self.things_head.losses(pyramid, image_sizes, targets, generators, average)
        semantic = torch.stack([_pad_map(target.semantic, stuff_logits.shape[-2:], stride) for target in targets])
        losses["stuff"] = stuff_loss(stuff_logits, semantic, stride, IGNORE, average)
        countable = [_without_crowds(target, self.num_stuff) for target in targets]
        semantic = torch.stack([_pad_map(labels, stuff_logits.shape[-2:], stride) for labels in countable])
        losses["tasc"] = self._tasc_loss(stuff_logits, positives, semantic, average)
        return losses

    def _prepare(self, images: Tensor, image_sizes: Sequence[Size]) -> Tensor:
        """Normalise, and set the padding to zero, the mean colour: black padding would be a dark object."""
        normalized = self.backbone.normalize(images)
        for image, (height, width) in enumerate(image_sizes):
            normalized[image, :, height:] = 0
            normalized[image, :, :, width:] = 0
        height, width = images.shape[-2:]
        return F.pad(normalized, (0, -width % PAD_MULTIPLE, 0, -height % PAD_MULTIPLE))

    def _tasc_loss(
        self, stuff_logits: Tensor, positives: Sequence[PositiveRoIs], semantic: Tensor, average: Average
    ) -> Tensor:
        """L_TASC between the stuff head's things mask and the flattened masks of the things head.

        `semantic` is IGNORE where the annotation does not tell both heads what to find, see `_without_crowds`.
        """
        size, stride, offset = Size(*stuff_logits.shape[-2:]), self.stuff_head.stride, self.stuff_head.offset
        things_mask = torch.stack([roi_flatten(rois.masks, rois.boxes - offset, size, stride) for rois in positives])
        valid = semantic_labels(semantic, stuff_logits.shape[1], stride) != IGNORE
        return tasc_loss(things_probability(stuff_logits, self.num_stuff), things_mask, valid, self.tasc, average)


def _without_crowds(target: Target, num_stuff: int) -> Tensor:
    """(H, W) semantic index of each pixel, IGNORE where things belong to no instance: crowds, and things left out.

    The stuff head learns that there are things; the things head has no instance to find. Where both are right they
    differ.
    """
    uncounted = (target.semantic >= num_stuff) & (target.instance_map == 0)
    return target.semantic.masked_fill(uncounted, IGNORE)


def _pad_map(semantic: Tensor, plane: Sequence[int], stride: int) -> Tensor:
    """Pad a semantic map with IGNORE to the size that belongs to a plane at that stride."""
    height, width = semantic.shape
    return F.pad(semantic, (0, plane[1] * stride - width, 0, plane[0] * stride - height), value=IGNORE)
