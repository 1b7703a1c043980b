"""The losses of two processes beside those of one with the same images a step; then what validations change. CPU.

    python benchmarks/two_processes.py

The demo's network with its ImageNet weights, frozen batch norm, fp32, SGD; generated streets; a validation every third
step. After that, two processes with trained batch norm, an average of the weights and processes that load data, once
with validations and once without: all tensors of the last checkpoint must be equal to the last bit.
"""

import argparse
import json
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tascnet.commands.demo import demo_config
from tascnet.config import Config
from tascnet.networks.checkpoint import find_checkpoint
from tascnet.training import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.001)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        one = losses(settings(arguments.steps, arguments.lr, batch_size=4, devices=1), Path(folder) / "one")
        two = losses(settings(arguments.steps, arguments.lr, batch_size=2, devices=2), Path(folder) / "two")
        watched = trained_norm(arguments.steps, arguments.lr, validate_every=2, folder=Path(folder) / "watched")
        unwatched = trained_norm(arguments.steps, arguments.lr, validate_every=0, folder=Path(folder) / "unwatched")
    table = Table(title="relative difference of the losses")
    for column in ("step", *one[0], "total of one process"):
        table.add_column(column, justify="right")
    for step, (alone, together) in enumerate(zip(one, two, strict=True), start=1):
        differences = [abs(together[name] - alone[name]) / max(abs(alone[name]), 1e-12) for name in alone]
        table.add_row(str(step), *(f"{value:.0e}" for value in differences), f"{alone['total']:.4f}")
    console = Console(width=140)
    console.print(table)
    different = [name for name in unwatched if watched[name] != unwatched[name]]
    shown = f"differ in {', '.join(different)}" if different else f"are bit-equal in {', '.join(unwatched)}"
    console.print(f"norm: bn, EMA, workers, two processes: validate_every 0 and 2 {shown}")


def settings(steps: int, lr: float, batch_size: int, devices: int) -> Config:
    config = demo_config(minutes=0, steps=steps)
    for scenes, number in ((config.data.train, 100), (config.data.val, 1)):
        scenes.num_images, scenes.height, scenes.width = number, 128, 256
    config.data.batch_size, config.data.keep_in_memory = batch_size, False
    config.optimizer.name, config.optimizer.lr, config.optimizer.warmup_steps = "sgd", lr, 1
    config.training.devices, config.training.log_every, config.training.accelerator = devices, 1, "cpu"
    config.training.validate_every, config.training.show_images = 3, 1
    return config


def trained_norm(steps: int, lr: float, validate_every: int, folder: Path) -> dict[str, bytes]:
    """The files of tensors of the last checkpoint."""
    config = settings(steps, lr, batch_size=2, devices=2)
    config.model.backbone.norm, config.model.backbone.freeze_stem = "bn", False
    config.data.workers, config.training.ema_decay = 2, 0.9
    config.training.validate_every = validate_every
    train(config, folder, "two_processes")
    return {file.name: file.read_bytes() for file in sorted(find_checkpoint(folder).glob("*.safetensors"))}


def losses(config: Config, folder: Path) -> list[dict[str, float]]:
    train(config, folder, "two_processes")
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {name.removeprefix("loss/"): value for name, value in line.items() if name.startswith("loss/")}
        for line in lines
        if "loss/total" in line
    ]


if __name__ == "__main__":
    main()
