"""What a network costs: parameters and multiply-adds by part, and beside it the two networks it replaces."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tascnet.model.tascnet import PAD_MULTIPLE, TASCNet
from tascnet.model.things_head import BOX_POOL, MASK_POOL
from tascnet.structures import Size


@dataclass(frozen=True)
class Cost:
    """Parameters, and multiply-adds of the inference of one image."""

    parameters: int
    multiply_adds: int

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.parameters + other.parameters, self.multiply_adds + other.multiply_adds)


def cost_by_part(model: TASCNet, size: Size) -> dict[str, Cost]:
    """Parameters and multiply-adds of each part, in the order of Figure 2.

    The things head is counted at its full load: as many RoIs as it takes proposals, and as many masks as it keeps
    detections. Counted are convolutions and matrix products; nothing is computed, so any size is quick.

    Args:
        model: any TASCNet; it is left as it is.
        size: of the image, pixels; sides are rounded up to multiples of 32.
    """
    parts: dict[str, Cost] = {}
    height, width = (-(-side // PAD_MULTIPLE) * PAD_MULTIPLE for side in size)
    images = torch.empty(1, 3, height, width, device="meta")
    model = copy.deepcopy(model).to("meta")

    def count(
        name: str, part: nn.Module | list[nn.Module], compute: Callable[[], Tensor | list[Tensor]]
    ) -> list[Tensor]:
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            result = compute()
        modules = part if isinstance(part, list) else [part]
        parameters = sum(parameter.numel() for module in modules for parameter in module.parameters())
        parts[name] = Cost(parameters, counter.get_total_flops() // 2)
        return result if isinstance(result, list) else [result]

    head = model.things_head
    features = count("backbone", model.backbone, lambda: model.backbone(images))
    pyramid = count("FPN", model.fpn, lambda: model.fpn(features))
    count("stuff head", model.stuff_head, lambda: model.stuff_head(pyramid))
    count("things head: RPN", head.rpn, lambda: head.rpn.head(pyramid[: len(head.rpn.strides)])[0])
    # RoIAlign has no multiply-adds to count, and choosing levels needs real boxes: the branches start behind it
    channels = model.fpn.channels
    rois = torch.empty(head.rpn.settings.post_nms, channels, BOX_POOL, BOX_POOL, device="meta")
    detections = torch.empty(head.settings.max_detections, channels, MASK_POOL, MASK_POOL, device="meta")
    count("things head: boxes", [head.box_head, head.box_predictor], lambda: list(head.box_layers(rois)))
    count("things head: masks", [head.mask_head, head.mask_predictor], lambda: head.mask_layers(detections))
    return parts


def cost_of_two_networks(parts: dict[str, Cost]) -> dict[str, Cost]:
    """The paper's comparison: a semantic network and an instance network of the same parts, each with its backbone."""
    shared = parts["backbone"] + parts["FPN"]
    things = [cost for name, cost in parts.items() if name.startswith("things head")]
    return {
        "semantic network": shared + parts["stuff head"],
        "instance network": sum(things, start=shared),
    }
