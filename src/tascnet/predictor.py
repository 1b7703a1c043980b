"""Predictor: a photo -> its panoptic segmentation, at the photo's own size. The only inference path."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tascnet.build import Fusion, build_fusion
from tascnet.config import FusionConfig, InputConfig
from tascnet.data.images import read_image, rgb_tensor
from tascnet.data.transforms import resize_photo, size_to_fit
from tascnet.fusion import semantic_from_stuff
from tascnet.model.roi_flatten import roi_flatten
from tascnet.model.tasc_loss import confidence_mask, doubt, residual, things_probability
from tascnet.model.tascnet import STRIDE, Outputs, TASCNet
from tascnet.opening import open_network
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Size

Photo = str | Path | Image.Image | np.ndarray | Tensor
"""A path, a Pillow image, (H, W, 3) uint8 RGB, or a (3, H, W) uint8 tensor."""


@dataclass(frozen=True, eq=False)
class Prediction:
    """All that the network says of one photo, on the CPU.

    Attributes:
        segmentation: the fused result, at the photo's size.
        instances: detections before fusion, boxes in pixels of the photo.
        semantic: (H, W) int64, semantic index of each pixel from the stuff head, at the photo's size.
        residual: (h, w) float, 0-1: where the two things masks disagree (Figure 4), at stride 4 of the input.
        doubt: mean residual over the pixels that either head calls things, 0-1; needs no annotation.
    """

    segmentation: PanopticSegmentation
    instances: Instances
    semantic: Tensor
    residual: Tensor
    doubt: float


class Predictor:
    """A trained network with everything needed to apply it to photos."""

    def __init__(self, model: TASCNet, label_space: LabelSpace, inputs: InputConfig, fusion: FusionConfig):
        """Wrap a network; it stays on its device.

        Args:
            model: the network.
            label_space: its categories.
            inputs: how photos become its input; only the sizes matter here.
            fusion: how the outputs of its heads become one segmentation.
        """
        self.model = model.eval()
        self.label_space = label_space
        self._inputs = inputs
        self._score_threshold = fusion.score_threshold
        self._via_input = fusion.via_input
        self._fuse: Fusion = build_fusion(fusion, label_space)

    @classmethod
    def from_checkpoint(
        cls, path: str | Path, device: torch.device | str = "cpu", fusion: FusionConfig | None = None
    ) -> Self:
        """Load a checkpoint folder, the newest checkpoint of a run folder, or a file of weights made elsewhere.

        Args:
            path: the folder or file.
            device: where to compute.
            fusion: other fusion settings than those the checkpoint was trained with.

        Raises:
            InputError: there is no usable network.
        """
        checkpoint = open_network(path)
        model = checkpoint.model.to(device)
        return cls(model, checkpoint.label_space, checkpoint.config.data.input, fusion or checkpoint.config.fusion)

    def __call__(self, photo: Photo) -> PanopticSegmentation:
        """The panoptic segmentation of a photo, at its own size.

        Raises:
            InputError: the photo cannot be read.
        """
        return self.predict(photo).segmentation

    @torch.inference_mode()
    def predict(self, photo: Photo) -> Prediction:
        """The segmentation, and what it was made from."""
        image = read_image(photo) if isinstance(photo, str | Path) else rgb_tensor(photo)
        size = Size(*image.shape[1:])
        input_size = size_to_fit(size, self._inputs.short_side or None, self._inputs.max_long_side)
        if input_size != size:
            image = resize_photo(image, input_size, self._inputs.resize_with)
        outputs = self.model(image[None].to(self.model.backbone.pixel_mean.device))
        assert isinstance(outputs, Outputs)  # for the type checker: no targets were given
        stuff_logits = outputs.stuff_logits_of(0, input_size)
        instances = outputs.instances[0]
        in_photo = instances.resized(size.width / input_size.width, size.height / input_size.height)
        stuff_mask, things_mask = self._things_masks(stuff_logits, instances)
        if self._via_input:
            stuff_logits = outputs.stuff_logits_at_input(0, input_size)
        return Prediction(
            segmentation=self._fuse(stuff_logits, in_photo, size),
            instances=in_photo.to("cpu"),
            semantic=semantic_from_stuff(stuff_logits, in_photo, self.label_space, size),
            residual=residual(stuff_mask, things_mask).cpu(),
            doubt=float(doubt(stuff_mask, things_mask)),
        )

    def _things_masks(self, stuff_logits: Tensor, instances: Instances) -> tuple[Tensor, Tensor]:
        """M_st, and M_th of the detections that fusion would use."""
        sure = instances[instances.scores >= self._score_threshold]
        things_mask = roi_flatten(sure.masks, sure.boxes, Size(*stuff_logits.shape[-2:]), STRIDE)
        stuff_mask = confidence_mask(things_probability(stuff_logits, self.model.num_stuff))
        return stuff_mask, things_mask
