"""Inference and training step of TASCNet-R50 beside torchvision's Mask R-CNN R50-FPN, which has no stuff head.

    python benchmarks/network.py

Generated streets of 512 x 1024, random weights, the same thing categories, proposals and RoIs. Every row runs in a
process of its own; memory is resident memory above the network and its input.
"""

import argparse

import torch
from both_networks import SIZE, SMALL, batch_of, our_network, peer_network, prepare_our_step, prepare_peer_step
from measure import Call, Cost, measure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tascnet.structures import Size


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
    model, batch = our_network().eval(), batch_of(size, batch_size)
    images = batch.images.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def call() -> Tensor:
        return model(images).stuff_logits

    return call


def prepare_peer_inference(size: Size, batch_size: int) -> Call:
    model, batch = peer_network(size).eval(), batch_of(size, batch_size)

    @torch.inference_mode()
    def call() -> Tensor:
        return model(list(batch.images / 255))[0]["boxes"]

    return call


def _shown(cost: Cost) -> str:
    return f"{cost.milliseconds / 1e3:.2f} s, {cost.megabytes:.0f} MB"


if __name__ == "__main__":
    main()
