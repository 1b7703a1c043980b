"""The losses of two processes beside those of one with the same images a step, on the CPU.

    python benchmarks/two_processes.py

The demo's network with its ImageNet weights, frozen batch norm, fp32, SGD; generated streets.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tascnet.config import Config
from tascnet.demo import demo_config
from tascnet.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.001)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one = losses(settings(arguments.steps, arguments.lr, batch_size=4, devices=1), Path(folder) / "one")
        two = losses(settings(arguments.steps, arguments.lr, batch_size=2, devices=2), Path(folder) / "two")
    table = Table(title="relative difference of the losses")
    for column in ("step", *one[0], "total of one process"):
        table.add_column(column, justify="right")
    for step, (alone, together) in enumerate(zip(one, two, strict=True), start=1):
        differences = [abs(together[name] - alone[name]) / max(abs(alone[name]), 1e-12) for name in alone]
        table.add_row(str(step), *(f"{value:.0e}" for value in differences), f"{alone['total']:.4f}")
    Console(width=140).print(table)


def settings(steps: int, lr: float, batch_size: int, devices: int) -> Config:
    config = demo_config(minutes=0, steps=steps)
    for scenes, number in ((config.data.train, 100), (config.data.val, 1)):
        scenes.num_images, scenes.height, scenes.width = number, 128, 256
    config.data.batch_size, config.data.keep_in_memory = batch_size, False
    config.optimizer.name, config.optimizer.lr, config.optimizer.warmup_steps = "sgd", lr, 1
    config.training.devices, config.training.log_every, config.training.accelerator = devices, 1, "cpu"
    return config


def losses(config: Config, folder: Path) -> list[dict[str, float]]:
    train(config, folder, "two_processes", Console(quiet=True))
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name.removeprefix("loss/"): value for name, value in line.items() if name.startswith("loss/")}
        for line in lines
        if "loss/total" in line
    ]


if __name__ == "__main__":
    main()
