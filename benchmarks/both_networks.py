"""The networks, batches and training steps that `network.py` and `train_step.py` measure.

TASCNet-R50 and torchvision's Mask R-CNN R50-FPN with random weights, the same thing categories, proposals and RoIs;
generated streets.
"""

import torch
from measure import Call
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from tascnet.build import build_model
from tascnet.config import Config
from tascnet.data.batch import Batch, collate
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.model.tascnet import TASCNet
from tascnet.structures import Size
from tascnet.training import total_loss

SIZE = Size(512, 1024)
SMALL = (Size(64, 128), 1)
NUM_THINGS = len(STREETS.things)


def prepare_our_step(size: Size, batch_size: int) -> Call:
    model, batch = our_network().train(), batch_of(size, batch_size)
    images = batch.images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    return step_of(model, optimizer, lambda: total_loss(model(images, batch.targets), 1.0, 1.0))


def prepare_peer_step(size: Size, batch_size: int) -> Call:
    model, batch = peer_network(size).train(), batch_of(size, batch_size)
    images = list(batch.images / 255)
    targets = [
        {
            "boxes": target.boxes,
            "labels": target.labels + 1,
            "masks": torch.stack([target.instance_map == number + 1 for number in range(len(target.labels))]).byte(),
        }
        for target in batch.targets
    ]
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    return step_of(model, optimizer, lambda: torch.stack(list(model(images, targets).values())).sum())


def step_of(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of_batch: Call) -> Call:
    def call() -> Tensor:
        loss = loss_of_batch()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return call


def our_network() -> TASCNet:
    torch.manual_seed(0)
    return build_model(Config(), STREETS).to(memory_format=torch.channels_last)


def peer_network(size: Size) -> nn.Module:
    torch.manual_seed(0)
    return maskrcnn_resnet50_fpn(
        weights=None,
        weights_backbone=None,
        num_classes=NUM_THINGS + 1,
        trainable_backbone_layers=5,
        min_size=size.height,
        max_size=size.width,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=1000,
    )


def batch_of(size: Size, batch_size: int) -> Batch:
    scenes = Streets(batch_size, size)
    return collate([scenes[index] for index in range(batch_size)], STREETS)
