"""The network as PyTorch runs it, operation by operation."""

import torch
from torch import Tensor

from tascnet.inference.engines.engine import HeadOutputs
from tascnet.model.folding import make_inference_ready
from tascnet.model.mode import evaluation_mode
from tascnet.model.tascnet import Outputs, TASCNet
from tascnet.structures import Size


class EagerEngine:
    """Run a TASCNet on the device that its weights are on; it is in evaluation mode only while it runs."""

    def __init__(self, model: TASCNet, fold: bool = False):
        """Take over a network.

        Args:
            model: the network.
            fold: make it ready for inference once, in place, which saves time with each image (see
                `tascnet.model.folding`). Only for a network that is neither trained any further nor saved: a network
                that still trains is to be run with the weights that it has at each call.
        """
        self.model = make_inference_ready(model) if fold else model
        self.conventions = model.conventions

    @torch.no_grad()  # not inference_mode, whose tensors can be neither changed nor trained on
    def __call__(self, images: Tensor) -> list[HeadOutputs]:
        """Run the network on (B, 3, H, W) uint8 images."""
        with evaluation_mode(self.model):
            outputs = self.model(images.to(self.model.backbone.pixel_mean.device))
        assert isinstance(outputs, Outputs)  # for the type checker: no targets were given
        size = Size(*images.shape[2:])
        return [
            HeadOutputs(size, logits, instances, outputs.stride, outputs.offset)
            for logits, instances in zip(outputs.stuff_logits, outputs.instances, strict=True)
        ]
