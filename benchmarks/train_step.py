"""A training step of TASCNet-R50 beside torchvision's Mask R-CNN R50-FPN: time, peak memory, the share of TASC.

    python benchmarks/train_step.py

Batch 2 of 512 x 1024, as in `network.py`; the share of TASC is what a step gets quicker by without RoI-Flatten and the
consistency loss, forward and backward.
"""

import argparse

import torch
from both_networks import SIZE, SMALL, batch_of, our_network, prepare_our_step, prepare_peer_step, step_of
from measure import Call, measure
from rich.console import Console
from rich.table import Table

from tascnet.structures import Size
from tascnet.training import total_loss

BATCH_SIZE = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = {
        "TASCNet-R50": prepare_our_step,
        "the same without TASC": prepare_step_without_tasc,
        "Mask R-CNN R50-FPN": prepare_peer_step,
    }
    table = Table(title=f"training step, batch {BATCH_SIZE} of {SIZE.height} x {SIZE.width}")
    for column in ("", "seconds", "peak memory, MB"):
        table.add_column(column, justify="right" if column else "left")
    seconds = {}
    for name, prepare in rows.items():
        cost = measure(prepare, (SIZE, BATCH_SIZE), SMALL, arguments.repeats)
        seconds[name] = cost.milliseconds / 1e3
        table.add_row(name, f"{seconds[name]:.2f}", f"{cost.megabytes:.0f}")
    ours, without, peer = seconds.values()
    Console().print(table, f"{ours / peer:.2f} times Mask R-CNN's; TASC takes {(ours - without) / ours:.1%} of a step")


def prepare_step_without_tasc(size: Size, batch_size: int) -> Call:
    model, batch = our_network().train(), batch_of(size, batch_size)
    model._tasc_loss = lambda *_: torch.zeros(())  # type: ignore[method-assign]
    images = batch.images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    return step_of(model, optimizer, lambda: total_loss(model(images, batch.targets), 1.0, 1.0))


if __name__ == "__main__":
    main()
