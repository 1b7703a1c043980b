"""A small network of every part, and images and scenes for it."""

import torch
from torch import Tensor

from tascnet.model.backbone import Backbone
from tascnet.model.fpn import FPN
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import StuffHead
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import RoISettings, ThingsHead
from tascnet.structures import IGNORE, Size, Target

NUM_STUFF, NUM_THINGS = 2, 3
IMAGE = Size(64, 96)


def network(num_outputs: int = NUM_STUFF + 1, added_channels: int | None = 32, norm: str = "frozen_bn") -> TASCNet:
    """Small everywhere; random weights, the same every time."""
    torch.manual_seed(0)
    backbone = Backbone("mobilenetv3_small_050", norm=norm, added_channels=added_channels)
    fpn = FPN(backbone.channels, backbone.strides, channels=16)
    rpn = RPN(16, fpn.strides, [8, 16, 32, 64, 128], [1.0], RPNSettings(pre_nms=100, post_nms=50))
    settings = RoISettings(samples=64, max_detections=20)
    things_head = ThingsHead(rpn, 16, fpn.strides, NUM_THINGS, 32, 16, 2, settings)
    return TASCNet(backbone, fpn, StuffHead(len(fpn.strides), 16, 16, num_outputs), things_head, NUM_STUFF)


def noise(batch: int, height: int, width: int, seed: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator)


def scene(size: Size, *objects: tuple[int, int, int, int, int]) -> Target:
    """Stuff 0 above, stuff 1 below, rectangles (x0, y0, x1, y1, thing index) in front, a VOID column at the right."""
    semantic = torch.zeros(size, dtype=torch.int64)
    semantic[size.height // 2 :] = 1
    semantic[:, size.width - 1 :] = IGNORE
    instance_map = torch.zeros(size, dtype=torch.int32)
    for index, (x0, y0, x1, y1, thing) in enumerate(objects, start=1):
        instance_map[y0:y1, x0:x1] = index
        semantic[y0:y1, x0:x1] = NUM_STUFF + thing
    rows = torch.tensor(objects).view(-1, 5)
    return Target(rows[:, :4].float(), rows[:, 4], instance_map, semantic)
