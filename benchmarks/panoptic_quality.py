"""Speed of panoptic quality on one street-sized image: ours, hotcoco, and the plain way of the official code.

    python benchmarks/panoptic_quality.py

One core, the best of several runs. "from arrays" starts from id maps in memory (hotcoco has no such entrance: its
nearest is run-length codes made beforehand); "from PNG files" includes reading and decoding both pictures. Every row's
PQ is compared with ours, and the script fails if one differs.
"""

import os

os.environ["OMP_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"  # read when the libraries are loaded

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from faster_coco_eval.core import mask as rle
from hotcoco import COCO
from hotcoco.panoptic import PanopticEval
from PIL import Image
from rich.console import Console
from rich.table import Table

from tascnet.metrics import image_panoptic_quality
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

LABEL_SPACE = LabelSpace(tuple(Category(i, f"category {i}", is_thing=i > 11) for i in range(1, 20)))
SAME_TO = 1e-12


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=1024, help="pixels")
    parser.add_argument("--width", type=int, default=2048, help="pixels")
    parser.add_argument("--segments", type=int, default=60, help="segments of the annotation")
    parser.add_argument("--repeats", type=int, default=15, help="runs of each, of which the best counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    annotation = draw_scene(arguments.height, arguments.width, arguments.segments)
    prediction = shift(annotation, rows=3, columns=9)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(prediction, annotation, Path(folder), arguments.repeats)
    print_table(rows, annotation)
    worst = max(abs(pq - rows[0][2]) for _, _, pq in rows)
    if worst > SAME_TO:
        raise SystemExit(f"the PQs differ by up to {worst:.2e}")


def measure(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, folder: Path, repeats: int
) -> list[tuple[str, float, float]]:
    """(what, seconds, PQ) for each way."""
    annotated_file, predicted_file = folder / "annotation" / "0.png", folder / "prediction" / "0.png"
    write_png(annotation, annotated_file)
    write_png(prediction, predicted_file)
    annotated_masks, predicted_masks = to_run_length_codes(annotation), to_run_length_codes(prediction)

    def ours_from_arrays() -> float:
        return all_pq(prediction, annotation)

    def plain_from_arrays() -> float:
        return plain_pq(prediction, annotation)

    def hotcoco_from_codes() -> float:
        evaluation = PanopticEval(annotated_masks, predicted_masks)
        evaluation.evaluate()
        return evaluation.results()["All"]["pq"]

    def ours_from_files() -> float:
        return all_pq(read_png(predicted_file, prediction), read_png(annotated_file, annotation))

    def hotcoco_from_files() -> float:
        evaluation = PanopticEval(
            to_panoptic_json(annotation),
            to_panoptic_json(prediction),
            gt_folder=annotated_file.parent,
            pred_folder=predicted_file.parent,
        )
        evaluation.evaluate()
        return evaluation.results()["All"]["pq"]

    ways: dict[str, Callable[[], float]] = {
        "tascnet, from arrays": ours_from_arrays,
        "hotcoco, from run-length codes": hotcoco_from_codes,
        "plain reference, from arrays": plain_from_arrays,
        "tascnet, from PNG files": ours_from_files,
        "hotcoco, from PNG files": hotcoco_from_files,
    }
    return [(name, best_time(way, repeats), way()) for name, way in ways.items()]


def all_pq(prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> float:
    group = image_panoptic_quality(prediction, annotation, LABEL_SPACE).all
    return group.pq if group else 0.0


def plain_pq(prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> float:
    """The plain way, for images without crowds: `np.unique` over one 64-bit number for each pixel's pair of ids."""
    ids = prediction.id_map.numpy().astype(np.int64)
    predicted_areas = dict(zip(*(values.tolist() for values in np.unique(ids, return_counts=True)), strict=True))
    pairs, counts = np.unique(annotation.id_map.numpy().astype(np.int64) << 24 | ids, return_counts=True)
    shared = {(pair >> 24, pair & 0xFFFFFF): count for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True)}
    predicted_category = {segment.id: segment.category_id for segment in prediction.segments}
    annotated = {segment.id: segment for segment in annotation.segments}
    iou: dict[int, float] = {}
    errors = {category.id: 0.0 for category in LABEL_SPACE.categories}
    matches = dict.fromkeys(errors, 0)
    matched_predictions, matched_annotations = set(), set()
    for (j, i), intersection in shared.items():
        if j == 0 or i == 0 or annotated[j].category_id != predicted_category[i]:
            continue
        overlap = intersection / (predicted_areas[i] + annotated[j].area - intersection - shared.get((0, i), 0))
        if overlap > 0.5:
            category_id = predicted_category[i]
            matches[category_id] += 1
            iou[category_id] = iou.get(category_id, 0.0) + overlap
            matched_predictions.add(i)
            matched_annotations.add(j)
    for j in annotated.keys() - matched_annotations:
        errors[annotated[j].category_id] += 0.5
    for i in predicted_category.keys() - matched_predictions:
        if shared.get((0, i), 0) / predicted_areas[i] <= 0.5:
            errors[predicted_category[i]] += 0.5
    present = [c for c in errors if matches[c] + errors[c] > 0]
    return sum(iou.get(c, 0.0) / (matches[c] + errors[c]) for c in present) / len(present)


def draw_scene(height: int, width: int, num_segments: int) -> PanopticSegmentation:
    """Cells with wavy borders, a twentieth of the image VOID."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    waves = 6 * np.sin(columns / 7) + 5 * np.cos(rows / 5)
    nearest, ids = np.full((height, width), np.inf, np.float32), np.zeros((height, width), np.int32)
    for id_ in rng.choice(256**3 - 1, size=num_segments, replace=False) + 1:
        row, column = rng.random(2) * (height, width)
        distance = np.hypot(rows - row, columns - column) + waves * rng.random()
        ids[distance < nearest] = id_
        nearest = np.minimum(nearest, distance)
    ids[-height // 20 :] = 0
    present = np.unique(ids)[1:].tolist()
    return PanopticSegmentation.from_id_map(ids, [Segment(i, int(rng.integers(1, 20)), 0) for i in present])


def shift(annotation: PanopticSegmentation, rows: int, columns: int) -> PanopticSegmentation:
    """The scene moved around by some pixels, every eighth segment under another category."""
    segments = [
        Segment(segment.id, segment.category_id % 19 + 1 if number % 8 == 0 else segment.category_id, 0)
        for number, segment in enumerate(annotation.segments)
    ]
    return PanopticSegmentation.from_id_map(annotation.id_map.roll((rows, columns), (0, 1)), segments)


def to_run_length_codes(segmentation: PanopticSegmentation) -> COCO:
    """A data set of hotcoco's: one annotation a segment."""
    size = {"height": segmentation.size.height, "width": segmentation.size.width}
    annotations = []
    for number, segment in enumerate(segmentation.segments, start=1):
        code = rle.encode(np.asfortranarray((segmentation.id_map == segment.id).numpy().astype(np.uint8)))
        annotations.append(
            {
                "id": number,
                "image_id": 0,
                "category_id": segment.category_id,
                "segmentation": {"size": list(segmentation.size), "counts": code["counts"].decode()},
                "area": segment.area,
                "iscrowd": 0,
            }
        )
    return COCO({"images": [{"id": 0, **size}], "categories": LABEL_SPACE.to_list(), "annotations": annotations})


def to_panoptic_json(segmentation: PanopticSegmentation) -> dict:
    segments = [
        {"id": segment.id, "category_id": segment.category_id, "area": segment.area, "iscrowd": 0}
        for segment in segmentation.segments
    ]
    return {
        "images": [{"id": 0, "height": segmentation.size.height, "width": segmentation.size.width}],
        "categories": LABEL_SPACE.to_list(),
        "annotations": [{"image_id": 0, "file_name": "0.png", "segments_info": segments}],
    }


def write_png(segmentation: PanopticSegmentation, path: Path) -> None:
    ids = segmentation.id_map.numpy()
    path.parent.mkdir()
    Image.fromarray(np.stack([ids & 255, ids >> 8 & 255, ids >> 16], axis=-1).astype(np.uint8)).save(path)


def read_png(path: Path, segmentation: PanopticSegmentation) -> PanopticSegmentation:
    """The segmentation again, its id map read from the file."""
    with Image.open(path) as picture:
        words = np.frombuffer(picture.convert("RGBA").tobytes(), dtype="<u4") & 0xFFFFFF  # the fourth byte is opacity
    ids = words.astype(np.int32).reshape(segmentation.size)
    return PanopticSegmentation(torch.from_numpy(ids), segmentation.segments)


def best_time(way: Callable[[], float], repeats: int) -> float:
    """Seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        way()
        times.append(time.perf_counter() - start)
    return min(times)


def print_table(rows: list[tuple[str, float, float]], annotation: PanopticSegmentation) -> None:
    height, width = annotation.size
    title = f"Panoptic quality of one image, {height} x {width} pixels, {len(annotation.segments)} segments, one core"
    table = Table("", "seconds", "PQ", "difference from tascnet", title=title)
    for name, seconds, pq in rows:
        table.add_row(name, f"{seconds:.4f}", f"{100 * pq:.4f}", f"{abs(pq - rows[0][2]):.1e}")
    Console().print(table)


if __name__ == "__main__":
    main()
