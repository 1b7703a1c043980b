"""Inference and training step of TASCNet-R50 beside torchvision's Mask R-CNN R50-FPN, which has no stuff head.

    python benchmarks/network.py

Generated streets of 512 x 1024, random weights, the same thing categories, proposals and RoIs. Every row runs in a
process of its own; memory is resident memory above the network and its input.
"""

import argparse

import torch
from measure import Call, Cost, measure
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn

from tascnet.build import build_model
from tascnet.config import Config
from tascnet.data.batch import Batch, collate
from tascnet.data.streets import STREETS, Streets
from tascnet.model.tascnet import TASCNet
from tascnet.structures import Size
from tascnet.training import total_loss

SIZE = Size(512, 1024)
SMALL = (Size(64, 128), 1)
NUM_THINGS = len(STREETS.things)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    pairs = {
        "inference, batch 1": (prepare_our_inference, prepare_peer_inference, 1),
        "training step, batch 2": (prepare_our_step, prepare_peer_step, 2),
    }
    table = Table(title=f"{SIZE.height} x {SIZE.width}, {arguments.threads} threads")
    for column in ("", "TASCNet-R50", "Mask R-CNN R50-FPN", "ratio of times"):
        table.add_column(column, justify="right" if column else "left")
    for name, (ours, peers, batch_size) in pairs.items():
        our_cost = measure(ours, (SIZE, batch_size), SMALL, arguments.repeats)
        peer_cost = measure(peers, (SIZE, batch_size), SMALL, arguments.repeats)
        ratio = our_cost.milliseconds / peer_cost.milliseconds
        table.add_row(name, _shown(our_cost), _shown(peer_cost), f"{ratio:.2f}")
    Console().print(table)


def prepare_our_inference(size: Size, batch_size: int) -> Call:
    model, batch = _our_network().eval(), _batch(size, batch_size)
    images = batch.images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call() -> Tensor:
        return model(images).stuff_logits

    return call


def prepare_our_step(size: Size, batch_size: int) -> Call:
    model, batch = _our_network().train(), _batch(size, batch_size)
    images = batch.images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    return _step(model, optimizer, lambda: total_loss(model(images, batch.targets), 1.0, 1.0))


def prepare_peer_inference(size: Size, batch_size: int) -> Call:
    model, batch = _peer_network(size).eval(), _batch(size, batch_size)

    @torch.inference_mode()
    def call() -> Tensor:
        return model(list(batch.images / 255))[0]["boxes"]

    return call


def prepare_peer_step(size: Size, batch_size: int) -> Call:
    model, batch = _peer_network(size).train(), _batch(size, batch_size)
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
    return _step(model, optimizer, lambda: torch.stack(list(model(images, targets).values())).sum())


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, loss_of_batch: Call) -> Call:
    def call() -> Tensor:
        loss = loss_of_batch()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return call


def _our_network() -> TASCNet:
    torch.manual_seed(0)
    return build_model(Config(), STREETS).to(memory_format=torch.channels_last)


def _peer_network(size: Size) -> nn.Module:
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


def _batch(size: Size, batch_size: int) -> Batch:
    scenes = Streets(batch_size, size)
    return collate([scenes[index] for index in range(batch_size)], STREETS)


def _shown(cost: Cost) -> str:
    return f"{cost.milliseconds / 1e3:.2f} s, {cost.megabytes:.0f} MB"


if __name__ == "__main__":
    main()
