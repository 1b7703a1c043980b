"""Time of a whole evaluation of street-sized pictures, metrics only: PQ, boundary PQ, both mIoUs and AP.

    python benchmarks/evaluation.py

No inference and no reading: every process prepares a few annotations with spoiled copies as predictions, and takes them
in turn. Then the clock runs, over the pictures, over the merging of what the processes counted, and over the figures.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read when the libraries are loaded

import argparse
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from panoptic_quality import LABEL_SPACE, draw_scene, shift
from rich.console import Console
from rich.table import Table

from tascnet.metrics import AveragePrecision, BoundaryMatcher, MeanIoU, PanopticQuality
from tascnet.structures import Instances, PanopticSegmentation

NUM_SCENES = 4
NUM_SEGMENTS = 60
SHIFTS = ((3, 9), (-5, 2), (0, 30))  # rows, columns


class Case(NamedTuple):
    """One picture: what is annotated, and what a network would say of it."""

    annotation: PanopticSegmentation
    prediction: PanopticSegmentation
    semantic: torch.Tensor  # of the stuff head
    instances: Instances


class Metrics(NamedTuple):
    """What one process counts."""

    panoptic: PanopticQuality
    boundary: PanopticQuality
    miou: MeanIoU
    miou_panoptic: MeanIoU
    ap: AveragePrecision


cases: list[Case] = []  # of a process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=500, help="to evaluate")
    parser.add_argument("--height", type=int, default=1024, help="pixels")
    parser.add_argument("--width", type=int, default=2048, help="pixels")
    parser.add_argument("--instances", type=int, default=50, help="detections in a picture")
    parser.add_argument("--processes", type=int, default=2, help="that share the pictures")
    arguments = parser.parse_args()

    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(arguments.processes + 1)
    size = arguments.height, arguments.width
    with context.Pool(arguments.processes, prepare, (barrier, size, arguments.instances)) as pool:
        barrier.wait()
        started = time.perf_counter()
        parts = [range(first, arguments.pictures, arguments.processes) for first in range(arguments.processes)]
        results = pool.map(count, parts, chunksize=1)
        merged = time.perf_counter()
        metrics, seconds = results[0]
        for others, more in results[1:]:
            seconds.update(more)
            for metric, other in zip(metrics, others, strict=True):
                metric.merge(other)
        computed = time.perf_counter()
        figures = [metric.compute() for metric in metrics]
        ended = time.perf_counter()
    print_table(seconds, arguments, computed - merged, ended - computed, ended - started)
    pq, boundary_pq, miou, miou_panoptic, ap = figures
    print(
        f"PQ {pq.all.pq:.4f}  boundary PQ {boundary_pq.all.pq:.4f}  mIoU {miou.mean_iou:.4f}  "
        f"of the panoptic result {miou_panoptic.mean_iou:.4f}  AP {ap.ap:.4f}"
    )


def prepare(barrier: multiprocessing.Barrier, size: tuple[int, int], num_instances: int) -> None:
    """Make the cases of this process, then wait for the others."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    for seed in range(NUM_SCENES):
        annotation = shift(draw_scene(*size, NUM_SEGMENTS), rows=17 * seed, columns=101 * seed)
        for rows, columns in SHIFTS:
            prediction = shift(annotation, rows, columns)
            semantic = shift(prediction, 1, 1).semantic_map(LABEL_SPACE)
            cases.append(Case(annotation, prediction, semantic, detections(annotation, num_instances, rng)))
    barrier.wait()


def detections(annotation: PanopticSegmentation, number: int, rng: np.random.Generator) -> Instances:
    """Ovals: some of the size and place of annotated things, the others anywhere, 20 to 300 pixels long."""
    things = [segment for segment in annotation.segments if LABEL_SPACE[segment.category_id].is_thing]
    boxes = []
    for segment in things[:number]:
        rows, columns = np.nonzero(annotation.id_map.numpy() == segment.id)
        boxes.append([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    labels = [LABEL_SPACE.thing_index(segment.category_id) for segment in things[:number]]
    rest = number - len(boxes)
    corners = rng.random((rest, 2)) * annotation.size[::-1]
    boxes += np.concatenate([corners, corners + rng.uniform(20, 300, (rest, 2))], axis=1).tolist()
    labels += rng.integers(len(LABEL_SPACE.things), size=rest).tolist()
    grid = np.linspace(-1, 1, 28)
    oval = torch.tensor(grid[:, None] ** 2 + grid**2 < 1).float()
    return Instances(
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32),
        labels=torch.tensor(labels),
        scores=torch.tensor(np.sort(rng.random(number))[::-1].copy()),
        masks=oval.expand(number, 28, 28),
    )


def count(numbers: range) -> tuple[Metrics, Counter[str]]:
    """Metrics over pictures of these numbers, and the processor time that each took, seconds."""
    metrics = Metrics(
        PanopticQuality(LABEL_SPACE),
        PanopticQuality(LABEL_SPACE, BoundaryMatcher()),
        MeanIoU(LABEL_SPACE),
        MeanIoU(LABEL_SPACE),
        AveragePrecision(LABEL_SPACE),
    )
    seconds: Counter[str] = Counter()
    for number in numbers:
        for name, step in steps_of(metrics, cases[number % len(cases)], str(number)).items():
            started = time.process_time()
            step()
            seconds[name] += time.process_time() - started
    return metrics, seconds


def steps_of(metrics: Metrics, case: Case, name: str) -> dict[str, Callable[[], None]]:
    """The updates of one picture."""
    prediction, annotation = case.prediction, case.annotation
    return {
        "PQ": lambda: metrics.panoptic.update(prediction, annotation),
        "boundary PQ": lambda: metrics.boundary.update(prediction, annotation),
        "mIoU of the stuff head": lambda: metrics.miou.update(case.semantic, annotation.semantic_map(LABEL_SPACE)),
        "mIoU of the panoptic result": lambda: metrics.miou_panoptic.update_segmentations(prediction, annotation),
        "AP": lambda: metrics.ap.update(case.instances, annotation, name),
    }


def print_table(
    seconds: Counter[str], arguments: argparse.Namespace, merging: float, computing: float, whole: float
) -> None:
    title = (
        f"Evaluation of {arguments.pictures} pictures, {arguments.height} x {arguments.width} pixels, {NUM_SEGMENTS} "
        f"segments, {arguments.instances} detections, {arguments.processes} processes"
    )
    table = Table("", "processor ms a picture", "seconds by the clock", title=title)
    for name, total in seconds.items():
        table.add_row(name, f"{1e3 * total / arguments.pictures:.1f}", "")
    table.add_section()
    for name, total in {"merging": merging, "computing the figures": computing, "whole": whole}.items():
        table.add_row(name, "", f"{total:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
