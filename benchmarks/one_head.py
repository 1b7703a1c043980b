"""A TASCNet's parts -> a network for stuff alone, a network for things alone, and such a pair used as one network.

All of them are called as a `TASCNet` is, so they are trained and evaluated by the same code. What stands in the place
of a head that is not there computes nothing.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tascnet.model.backbone import Backbone
from tascnet.model.tascnet import Outputs, TASCNet
from tascnet.structures import Instances, Size

THINGS_LOSSES = ("rpn_cls", "rpn_box", "cls", "box", "mask")


class OneHead(TASCNet):
    """With one head there is nothing to keep consistent."""

    def _tasc_loss(self, stuff_logits: Tensor, *_: Any) -> Tensor:
        return stuff_logits.new_zeros(())


class SemanticNetwork(OneHead):
    """Backbone, FPN and stuff head: it finds no instances."""

    def __init__(self, parts: TASCNet):
        super().__init__(parts.backbone, parts.fpn, parts.stuff_head, NoThings(), parts.num_stuff)


class InstanceNetwork(OneHead):
    """Backbone, FPN and things head: to it, every pixel is things.

    The loss "stuff" is that of a constant, without gradient; a weight of 0 keeps it out of the total.
    """

    def __init__(self, parts: TASCNet):
        no_stuff = ThingsEverywhere(parts.stuff_head.classifier.out_channels)
        super().__init__(parts.backbone, parts.fpn, no_stuff, parts.things_head, parts.num_stuff)


class NoThings(nn.Module):
    """In the place of the things head."""

    def losses(self, pyramid: Sequence[Tensor], *_: Any) -> tuple[dict[str, Tensor], list[Any]]:
        """Zeros, and no RoIs."""
        return dict.fromkeys(THINGS_LOSSES, pyramid[0].new_zeros(())), []

    def detect(self, pyramid: Sequence[Tensor], image_sizes: Sequence[Size]) -> list[Instances]:
        """None, in each image."""
        empty = pyramid[0].new_zeros
        nothing = Instances(empty(0, 4), empty(0).long(), empty(0), empty(0, 28, 28))
        return [nothing] * len(image_sizes)


class ThingsEverywhere(nn.Module):
    """In the place of the stuff head: the last channel, which is things, wins in every pixel."""

    stride, offset = 4, 0.0

    def __init__(self, num_outputs: int):
        super().__init__()
        self.num_outputs = num_outputs

    def forward(self, pyramid: Sequence[Tensor]) -> Tensor:
        """P2, P3, ... -> logits (B, C, h, w) at stride 4."""
        images, _, height, width = pyramid[0].shape
        logits = pyramid[0].new_zeros(self.num_outputs)
        logits[-1] = 1
        return logits.view(1, -1, 1, 1).expand(images, -1, height, width)


class Pair(nn.Module):
    """The stuff logits of one network and the instances of another, as the outputs of one."""

    def __init__(self, semantic: SemanticNetwork, instance: InstanceNetwork):
        super().__init__()
        self.semantic, self.instance = semantic, instance
        self.num_stuff = semantic.num_stuff
        self.conventions = "tascnet"

    @property
    def backbone(self) -> Backbone:
        """One of the two; it tells the device, and both take the same input."""
        return self.semantic.backbone

    def forward(self, images: Tensor) -> Outputs:
        """Predict, with one pass through each network."""
        semantic = self.semantic(images)
        return Outputs(semantic.stuff_logits, self.instance(images).instances, semantic.stride, semantic.offset)
