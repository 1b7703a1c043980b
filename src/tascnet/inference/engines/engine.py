"""The seam between a runtime and everything after the heads."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from tascnet.model.tascnet import Outputs
from tascnet.planes.plane import Plane
from tascnet.structures import Instances, Size


@dataclass(frozen=True, eq=False)
class HeadOutputs:
    """Outputs of both heads for one image.

    Attributes:
        size: height and width of the image as it entered the network, without padding.
        padded_logits: (C, h, w) float, logits of the stuff head, those of the padding included; their padded border
            takes part in the interpolation of `stuff_logits_at_input`.
        instances: detections, with boxes in pixels of the input.
        stride: pixels of the input per cell of the stuff logits.
        offset: pixels from the centres of the cells to the points that the logits stand for, down and to the right.
    """

    size: Size
    padded_logits: Tensor
    instances: Instances
    stride: int = 4
    offset: float = 0.0

    @property
    def stuff_logits(self) -> Plane:
        """The stuff logits without padding: (C, ceil(H / stride), ceil(W / stride)) over the input."""
        return self._outputs().stuff_logits_of(0, self.size)

    def stuff_logits_at_input(self) -> Plane:
        """The stuff logits, bilinear at the resolution of the input, (C, H, W); takes much more memory."""
        return self._outputs().stuff_logits_at_input(0, self.size)

    def _outputs(self) -> Outputs:
        return Outputs(self.padded_logits[None], [self.instances], self.stride, self.offset)


class Engine(Protocol):
    """Run a network: (B, 3, H, W) uint8 RGB images of one size, on any device -> outputs of the heads, one per image.

    The outputs may lie on the engine's device.
    """

    def __call__(self, images: Tensor) -> list[HeadOutputs]:
        """Run the network."""
