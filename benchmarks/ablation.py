"""Does consistency pay? Ways to train x ways to fuse x seeds -> PQ, with intervals.

    python benchmarks/ablation.py streets                     # hard streets, five seeds
    python benchmarks/ablation.py coco_mini --root COCO       # a hundred photos, three seeds
    python benchmarks/ablation.py streets --table             # what is there so far

All trainings of a seed see the same pictures in the same order from the same weights, for the same number of steps.
Each training is a run in `--output`; a call goes on where an earlier one was stopped, and measures only what is not in
results.jsonl yet. What a network says of the validation set is kept beside its run, so that another way to fuse costs
no training and no inference.
"""

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import torch
from ablation_arms import FUSIONS, TRAININGS, changed, coco_mini, streets
from ablation_table import draw, print_table
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

from tascnet.build import build_dataset
from tascnet.config import Config, DatasetConfig
from tascnet.data.sample import Sample
from tascnet.files import atomic_path
from tascnet.fusion import Fuser
from tascnet.inference.predictor import Predictor
from tascnet.metrics import AveragePrecision, MeanIoU, SegmentationMetrics
from tascnet.planes.plane import Extent, Plane
from tascnet.structures import Instances, LabelSpace
from tascnet.training import train

STEPS = {"streets": 600, "coco_mini": 600}
SEEDS = {"streets": 5, "coco_mini": 3}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("streets", "coco_mini"))
    parser.add_argument("--root", type=Path, default=Path("data/coco"), help="folder of COCO, for coco_mini")
    parser.add_argument(
        "--trainings", nargs="+", choices=TRAININGS, default=["no TASC", "TASC, things head learns"], metavar="NAME"
    )
    parser.add_argument("--fusions", nargs="+", choices=FUSIONS, default=list(FUSIONS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--processes", type=int, default=2, help="trainings side by side, on one thread each")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--table", action="store_true", help="print what is there")
    arguments = parser.parse_args()
    folder = arguments.output / arguments.data
    if not arguments.table:
        steps = arguments.steps or STEPS[arguments.data]
        seeds = arguments.seeds or range(SEEDS[arguments.data])
        measured = {(row["training"], row["seed"], row["fusion"]) for row in results(folder)}
        jobs = []
        for seed, training in product(seeds, arguments.trainings):
            missing = [fusion for fusion in arguments.fusions if (training, seed, fusion) not in measured]
            if missing:
                config = changed(base(arguments, seed, steps), TRAININGS[training])
                jobs.append((folder, training, seed, config, missing))
        with ProcessPoolExecutor(
            arguments.processes, get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
        ) as pool:
            for rows in pool.map(work, *zip(*jobs, strict=True)):
                add(folder, rows)
    rows = results(folder)
    print_table(rows, Console(width=140))
    draw(rows, folder / "table.png")


def base(arguments: argparse.Namespace, seed: int, steps: int) -> Config:
    return streets(seed, steps) if arguments.data == "streets" else coco_mini(seed, steps, arguments.root)


def work(folder: Path, training: str, seed: int, config: Config, fusions: Sequence[str]) -> list[dict[str, object]]:
    """One training, if it is not there, and its figures with each way to fuse."""
    run = folder / f"{training} {seed}".replace(", ", " ").replace(" ", "_")
    if not (run / "report.json").is_file():
        quick = replace(config, data=replace(config.data, val=replace(config.data.val, num_images=1)))
        train(quick, run, f"ablation: {training}, seed {seed}")
    samples, space = unseen(json.dumps(asdict(config.data.val)))
    said = predictions(run, samples)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    facts = {"training": training, "seed": seed, "steps": config.training.steps, "seconds": lines[-1]["seconds"]}
    return [
        facts | {"fusion": fusion} | measure(said, samples, space, changed(config, FUSIONS[fusion]))
        for fusion in fusions
    ]


@cache
def unseen(settings: str) -> tuple[list[Sample], LabelSpace]:
    """The pictures that measure, read once in a process."""
    dataset = build_dataset(DatasetConfig(**json.loads(settings)))
    return [dataset[index] for index in range(len(dataset))], dataset.label_space


class Said(NamedTuple):
    """What a network says of one picture."""

    stuff_logits: Plane
    instances: Instances
    semantic: Tensor
    doubt: float


def predictions(run: Path, samples: Sequence[Sample]) -> list[Said]:
    """What the network of a run says of each picture, from its file if it has been asked before."""
    path = run / "predictions.safetensors"
    if not path.is_file():
        predictor = Predictor.from_checkpoint(run)
        tensors: dict[str, Tensor] = {}
        for index, sample in enumerate(samples):
            found = predictor.predict(sample.image)
            parts = {name: getattr(found.instances, name) for name in ("boxes", "labels", "scores", "masks")}
            parts |= {"stuff_logits": found.stuff_logits.values, "extent": torch.tensor(found.stuff_logits.extent)}
            parts |= {"semantic": found.semantic.to(torch.uint8)}
            parts["doubt"] = torch.tensor([found.uncertainty], dtype=torch.float64)
            tensors |= {f"{index} {name}": part.contiguous() for name, part in parts.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary)
    tensors = load_file(path)
    return [
        Said(
            Plane(tensors[f"{index} stuff_logits"], Extent(*tensors[f"{index} extent"].tolist())),
            Instances(*(tensors[f"{index} {name}"] for name in ("boxes", "labels", "scores", "masks"))),
            tensors[f"{index} semantic"].long(),
            float(tensors[f"{index} doubt"]),
        )
        for index in range(len(samples))
    ]


def measure(said: Sequence[Said], samples: Sequence[Sample], space: LabelSpace, config: Config) -> dict[str, float]:
    """Figures of one way to fuse; percent, but for the doubt."""
    fuse = Fuser(config.fusion, space)
    panoptic, miou, ap = SegmentationMetrics(space), MeanIoU(space), AveragePrecision(space)
    for picture, sample in zip(said, samples, strict=True):
        annotation = sample.segmentation
        segmentation = fuse(picture.stuff_logits, picture.instances, annotation.size).segmentation
        panoptic.update(segmentation, annotation, sample.name)
        miou.update(picture.semantic, annotation.semantic_map(space))
        ap.update(picture.instances, annotation, sample.name)
    quality = panoptic.compute().panoptic
    groups = {"pq": quality.all, "pq_things": quality.things, "pq_stuff": quality.stuff}
    figures = {name: 100 * group.pq for name, group in groups.items() if group is not None}
    figures |= {"sq": 100 * quality.all.sq, "rq": 100 * quality.all.rq} if quality.all else {}
    figures |= {"miou": 100 * miou.compute().mean_iou, "ap": 100 * ap.compute().ap}
    return figures | {"doubt": sum(picture.doubt for picture in said) / len(said)}


def add(folder: Path, rows: Sequence[dict[str, object]]) -> None:
    """Append results, all at once."""
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def results(folder: Path) -> list[dict[str, object]]:
    path = folder / "results.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


if __name__ == "__main__":
    main()
