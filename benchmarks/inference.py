"""Where the time of a prediction goes: the network, and each way to fuse what it says.

    python benchmarks/inference.py runs/demo

A trained network on unseen generated streets, one picture at a time; the median over the pictures.
"""

import argparse
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table

from tascnet.build import build_dataset
from tascnet.fusion import Fuser
from tascnet.networks.opening import open_network
from tascnet.structures import Size

METHODS = ("unguided", "mask-guided", "joint")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="a run whose validation set is generated streets")
    parser.add_argument("--pictures", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    times = milliseconds(arguments.network, arguments.pictures)
    whole = times["network"] + times["unguided"]
    table = Table(title=f"{arguments.pictures} pictures, {arguments.threads} threads")
    for column in ("part", "ms", "beside network + un-guided"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for part, value in times.items():
        table.add_row(part, f"{value:.1f}", f"{100 * value / whole:.1f} %")
    table.add_row("joint less un-guided", f"{times['joint'] - times['unguided']:.1f}", "")
    Console().print(table)
    print(f"joint fusion makes a prediction {100 * (times['joint'] - times['unguided']) / whole:.1f} % longer")


@torch.inference_mode()
def milliseconds(network: Path, pictures: int) -> dict[str, float]:
    """Part of a prediction -> its median time."""
    opened = open_network(network)
    model, config = opened.model.eval(), opened.config
    dataset = build_dataset(replace(config.data.val, num_images=pictures + 1))
    fusions = {method: Fuser(replace(config.fusion, method=method), opened.label_space) for method in METHODS}
    times: dict[str, list[float]] = defaultdict(list)
    for index in range(pictures + 1):
        image = dataset[index].image
        size = Size(*image.shape[1:])
        start = time.perf_counter()
        outputs = model(image[None])
        times["network"].append(time.perf_counter() - start)
        for method, fuse in fusions.items():
            start = time.perf_counter()
            fuse(outputs.stuff_logits_of(0, size), outputs.instances[0], size)
            times[method].append(time.perf_counter() - start)
    return {part: 1e3 * median(values[1:]) for part, values in times.items()}  # the first warms up


if __name__ == "__main__":
    main()
