"""Kill trainings with SIGKILL at random moments, go on, and compare with one that was left alone, bit by bit.

    python benchmarks/kill_test.py

A small network with trained batch norm on generated streets, two processes that load data, an average of the weights, a
checkpoint every other step, a validation with pictures every third. Equal means: every loss of every step, the
weights, their average and the optimiser's state, to the last bit.
"""

import argparse
import json
import multiprocessing
import os
import random
import signal
import tempfile
import time
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tascnet.commands.demo import demo_config
from tascnet.config import Config
from tascnet.networks.checkpoint import find_checkpoint
from tascnet.runs.folder import RunFolder
from tascnet.training import resume, train

TENSORS = ("model.safetensors", "ema.safetensors", "training.safetensors")
COMPARED = ("step", "loss/", "lr", "val/", "val_ema/")
"""Beginnings of the names of metrics that a resumed run must repeat; others tell of time and memory."""
TOO_LATE = "the end"
"""The run had ended before it was killed; this does not count."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--kills_per_run", type=int, default=2)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dice = random.Random(arguments.seed)
    config = small_config(arguments.steps)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.perf_counter()
        in_process(folder / "alone", config).join()
        duration = time.perf_counter() - started
        reference = result(folder / "alone")
        table = Table(title=f"{arguments.steps} steps; a run that is left alone takes {duration:.0f} s")
        for column in ("run", "killed after steps", "equal"):
            table.add_column(column, justify="right")
        kills = equal = runs = 0
        while kills < arguments.kills:
            number = min(arguments.kills_per_run, arguments.kills - kills)
            run = folder / f"run {runs}"
            steps = sorted(dice.randrange(arguments.steps) for _ in range(number))
            moments = [kill(run, config, step, dice.uniform(0, duration / arguments.steps)) for step in steps]
            in_process(run, config).join()
            is_equal = result(run) == reference
            kills += len(moments) - moments.count(TOO_LATE)
            runs, equal = runs + 1, equal + is_equal
            table.add_row(str(runs), ", ".join(moments), "yes" if is_equal else "NO")
        Console().print(table, f"{kills} kills, {runs} runs, {equal} of them bit-equal")


def small_config(steps: int) -> Config:
    """The demo's parts, smaller, with everything that has a state."""
    config = demo_config(minutes=0, steps=steps)
    for scenes, number in ((config.data.train, 7), (config.data.val, 1)):
        scenes.num_images, scenes.height, scenes.width = number, 64, 128
    config.data.input.color_jitter, config.data.batch_size, config.data.workers = 0.3, 2, 2
    config.data.keep_in_memory = False
    config.model.backbone.name, config.model.backbone.weights = "test_efficientnet", "random"
    config.model.backbone.freeze_stem, config.model.backbone.norm = False, "bn"
    config.training.checkpoint_every, config.training.log_every, config.training.ema_decay = 2, 1, 0.9
    config.training.validate_every, config.training.show_images = 3, 1
    config.training.accelerator = "cpu"
    return config


def in_process(folder: Path, config: Config) -> multiprocessing.context.ForkProcess:
    """Train, or go on, in a process of its own; forked, so that it does not import everything again."""
    process = multiprocessing.get_context("fork").Process(target=train_or_resume, args=(folder, config))
    process.start()
    return process


def train_or_resume(folder: Path, config: Config) -> None:
    os.setpgrp()  # so that the processes that load data are killed with it
    if RunFolder.holds_checkpoints(folder):
        resume(folder)
    else:
        train(config, folder, "kill_test")


def kill(folder: Path, config: Config, step: int, seconds: float) -> str:
    """Start or go on, and kill so many seconds after a step; returns the number of steps that were taken by then."""
    process = in_process(folder, config)
    while steps_logged(folder) < step and process.exitcode is None:
        time.sleep(0.005)
    process.join(timeout=seconds)
    if process.exitcode is not None:
        return TOO_LATE
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return str(steps_logged(folder))


def steps_logged(folder: Path) -> int:
    file = folder / "metrics.jsonl"
    return file.read_text().count('"loss/total"') if file.exists() else 0


def result(folder: Path) -> tuple[list[dict[str, float]], list[bytes]]:
    """What must be equal: losses, learning rates and figures of validations, and the bytes of all tensors."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    kept = [{name: value for name, value in line.items() if name.startswith(COMPARED)} for line in lines]
    checkpoint = find_checkpoint(folder)
    return kept, [(checkpoint / name).read_bytes() for name in TENSORS]


if __name__ == "__main__":
    main()
