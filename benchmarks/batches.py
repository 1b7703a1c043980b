"""The demo's network over a folder of photos: one after the other, in batches, and streamed.

    python benchmarks/batches.py --checkpoint runs/demo

Without a checkpoint the weights are random. Photos are generated streets, written as PNGs. Every row is the quickest of
several passes over all photos, in turns.
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from tascnet.build import build_model
from tascnet.commands.demo import demo_config
from tascnet.data.images import write_png
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.device import choose_device
from tascnet.inference.predictor import Predictor
from tascnet.structures import Size

SIZE = Size(256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, default=None)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--batch_sizes", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    predictor = make_predictor(arguments.checkpoint, choose_device(arguments.device))
    with TemporaryDirectory() as folder:
        paths = [Path(folder, f"{index:04}.png") for index in range(arguments.photos)]
        streets = Streets(len(paths), SIZE)
        for index, path in enumerate(paths):
            write_png(path, streets[index].image.permute(1, 2, 0).numpy())
        seconds = quickest(ways(predictor, paths, arguments.batch_sizes), arguments.repeats)
    table = Table(title=f"{len(paths)} photos of {SIZE.height} x {SIZE.width}, {arguments.threads} threads")
    for column in ("", "photos a second", "beside one by one"):
        table.add_column(column, justify="right" if column else "left")
    for name, time_taken in seconds.items():
        ratio = seconds["one by one"] / time_taken
        table.add_row(name, f"{len(paths) / time_taken:.2f}", f"{ratio:.2f}")
    Console().print(table)


def make_predictor(checkpoint: Path | None, device: torch.device) -> Predictor:
    """Of a checkpoint, or with the random weights of a network just born."""
    if checkpoint is not None:
        return Predictor.from_checkpoint(checkpoint, device)
    config = demo_config(minutes=1, steps=1)
    torch.manual_seed(0)
    return Predictor(build_model(config, STREETS).to(device), STREETS, config.data.input, config.fusion)


def ways(predictor: Predictor, paths: Sequence[Path], batch_sizes: Sequence[int]) -> Mapping[str, Callable[[], object]]:
    """All ways to go over the photos."""
    rows: dict[str, Callable[[], object]] = {"one by one": lambda: [predictor.predict(path) for path in paths]}
    for size in batch_sizes:
        rows[f"in batches of {size}"] = lambda size=size: predictor.predict_batch(paths, size)
    for size in (1, *batch_sizes):
        rows[f"streamed, in batches of {size}"] = lambda size=size: [None for _ in predictor.stream(paths, size)]
    return rows


def quickest(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the quickest of several passes; taken in turns, so that other work on the machine meets them alike."""
    best = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


if __name__ == "__main__":
    main()
