"""A training step of TASCNet-R50 beside torchvision's Mask R-CNN R50-FPN: time, peak memory, the share of TASC.

    python benchmarks/train_step.py

Batch 2 of 512 x 1024, as in `network.py`. TASC is RoI-Flatten and the consistency loss, forward and backward, measured
alone on what a step hands to it: beside a whole step, its share is less than what steps differ by.
"""

import argparse
from typing import Any

import torch
from both_networks import SIZE, SMALL, batch_of, our_network, prepare_our_step, prepare_peer_step
from measure import Call, measure
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tascnet.structures import Size

BATCH_SIZE = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {
        "TASCNet-R50": prepare_our_step,
        "TASC in it": prepare_tasc_alone,
        "Mask R-CNN R50-FPN": prepare_peer_step,
    }
    table = Table(title=f"training step, batch {BATCH_SIZE} of {SIZE.height} x {SIZE.width}")
    for column in ("", "seconds", "peak memory, MB"):
        table.add_column(column, justify="right" if column else "left")
    seconds = {}
    for name, prepare in rows.items():
        cost = measure(prepare, (SIZE, BATCH_SIZE), SMALL, arguments.repeats)
        seconds[name] = cost.milliseconds / 1e3
        table.add_row(name, f"{seconds[name]:.3f}", f"{cost.megabytes:.0f}")
    ours, tasc, peer = seconds.values()
    Console().print(table, f"{ours / peer:.2f} times Mask R-CNN's; TASC takes {tasc / ours:.1%} of a step")


def prepare_tasc_alone(size: Size, batch_size: int) -> Call:
    model, batch = our_network().train(), batch_of(size, batch_size)
    handed: list[Any] = []
    tasc_loss = model._tasc_loss

    def keep(*arguments: Any) -> Tensor:
        handed[:] = arguments
        return tasc_loss(*arguments)

    model._tasc_loss = keep  # type: ignore[method-assign]
    model(batch.images.contiguous(memory_format=torch.channels_last), batch.targets)
    logits, positives, *others = handed
    logits = logits.detach().requires_grad_()
    positives = [rois._replace(masks=rois.masks.detach().requires_grad_()) for rois in positives]

    def call() -> Tensor:
        loss = tasc_loss(logits, positives, *others)
        loss.backward()
        return loss.detach()

    return call


if __name__ == "__main__":
    main()
