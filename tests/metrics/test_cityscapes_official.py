"""Reading, writing and measuring Cityscapes, compared with the benchmark's own scripts on made-up splits."""

import json
import math
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official_ap  # noqa: N813
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as official_pq  # noqa: N813
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official_iou  # noqa: N813
from cityscapesscripts.helpers.labels import labels as official_labels
from cityscapesscripts.preparation.createPanopticImgs import convert2panoptic
from PIL import Image

from tascnet.convert.cityscapes import write_instances, write_panoptic, write_semantic
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.cityscapes_labels import CITYSCAPES, TRAIN_ID
from tascnet.metrics import CityscapesAveragePrecision, MeanIoU, PanopticQuality
from tascnet.structures import IGNORE, Instances, PanopticSegmentation, Segment, Size

SIZE = Size(90, 160)
CITIES = ["aachen", "ulm", "zürich"]
IGNORED = [0, 1, 2, 3, 4, 5, 6, 9, 10, 14, 15, 16, 18]
CARAVAN, TRAILER = 29, 30
THINGS = [24, 26, 33, 31]  # not all eight: some categories are absent


@dataclass(frozen=True)
class Item:
    name: str
    image_id: str
    segmentation: PanopticSegmentation


def random_values(rng: np.random.Generator, caravans: bool) -> np.ndarray:
    """Tiles of stuff and of what is not evaluated; on them, rectangles: objects of 9 to 900 pixels, and crowds."""
    stuff = [category.id for category in CITYSCAPES.stuff]
    tiles = rng.choice(stuff + IGNORED + [CARAVAN], size=(5, 5))
    values = np.kron(tiles, np.ones((18, 32), int))
    for number in range(rng.integers(6, 16)):
        height, width = rng.integers(3, 31, size=2)
        top, left = rng.integers(0, SIZE.height - height), rng.integers(0, SIZE.width - width)
        label = int(rng.choice(THINGS + [CARAVAN, TRAILER] * caravans))
        values[top : top + height, left : left + width] = label if rng.random() < 0.3 else label * 1000 + number
    return values.astype(np.uint16)


def write_split(root: Path, seed: int, num_pictures: int = 7, caravans: bool = False) -> Path:
    rng = np.random.default_rng(seed)
    for number in range(num_pictures):
        city = CITIES[number % 3]
        values = random_values(rng, caravans)
        folder = root / "gtFine" / "val" / city
        folder.mkdir(parents=True, exist_ok=True)
        stem = f"{city}_{number:06d}_000019"
        Image.fromarray(values).save(folder / f"{stem}_gtFine_instanceIds.png")
        label_ids = np.where(values < 1000, values, values // 1000).astype(np.uint8)
        Image.fromarray(label_ids).save(folder / f"{stem}_gtFine_labelIds.png")
    return root


def random_detections(values: np.ndarray, rng: np.random.Generator) -> Instances:
    """Up to three detections of each region, more or less well placed, some of another category; scores with ties."""
    found = []
    for value in np.unique(values).tolist():
        rows, columns = np.nonzero(values == value)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], float)
        grid = np.linspace(0.01, 0.99, 28)
        mask = (values == value)[
            np.ix_((box[1] + grid * (box[3] - box[1])).astype(int), (box[0] + grid * (box[2] - box[0])).astype(int))
        ]
        label = value if value < 1000 else value // 1000
        for _ in range(rng.integers(0, 4)):
            category = label if label in THINGS and rng.random() < 0.85 else int(rng.choice([*THINGS, 28]))
            moved = box + rng.normal(0, rng.choice([0, 0.5, 3]), size=4)
            found.append((CITYSCAPES.thing_index(category), rng.random().__round__(1), moved, mask))
    found += [(0, 0.5, np.array([-9, -9, -2, -2.0]), np.ones((28, 28)))]  # off the picture
    order = np.argsort([-score for _, score, _, _ in found], kind="stable")
    thing, scores, boxes, masks = zip(*(found[i] for i in order), strict=True)
    return Instances(
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32),
        labels=torch.tensor(thing),
        scores=torch.tensor(scores, dtype=torch.float32),
        masks=torch.tensor(np.array(masks), dtype=torch.float32),
    )


def values_of(root: Path, dataset: Cityscapes, index: int) -> np.ndarray:
    name = dataset.sample_name(index)
    return np.array(Image.open(next((root / "gtFine" / "val").glob(f"*/{name}_gtFine_instanceIds.png"))))


def annotation_files(root: Path, kind: str) -> list[str]:
    return sorted(map(str, (root / "gtFine" / "val").glob(f"*/*_gtFine_{kind}.png")))


@pytest.fixture
def run_official_ap(monkeypatch: pytest.MonkeyPatch):
    """Runs the official evaluation of results in a folder; gives its averages."""

    def run(root: Path, results: Path) -> dict:
        monkeypatch.setattr(np, "in1d", np.isin, raising=False)  # gone from NumPy 2.4
        monkeypatch.setenv("CITYSCAPES_RESULTS", str(results))
        # it would cache the annotation, and write all matches, which NumPy's integers no longer let it do
        monkeypatch.setattr(official_ap, "writeDict2JSON", lambda *_: None)
        args = copy(official_ap.args)
        args.predictionPath = args.predictionWalk = None
        args.gtInstancesFile = str(results / "no cache")
        args.JSONOutput, args.quiet = False, True
        truth = annotation_files(root, "instanceIds")
        predictions = [official_ap.getPrediction(path, args) for path in truth]
        return official_ap.evaluateImgLists(predictions, truth, args)["averages"]

    return run


def assert_equals_official(metric: CityscapesAveragePrecision, averages: dict) -> None:
    result = metric.compute()
    assert result.ap == pytest.approx(averages["allAp"], abs=1e-12)
    assert result.ap50 == pytest.approx(averages["allAp50%"], abs=1e-12)
    for ours, key in ((result.per_category, "ap"), (result.per_category_ap50, "ap50%")):
        theirs = {name: figures[key] for name, figures in averages["classes"].items() if not math.isnan(figures[key])}
        assert {CITYSCAPES[i].name: ap for i, ap in ours.items()} == pytest.approx(theirs, abs=1e-12)


def test_labels_are_the_official_ones() -> None:
    evaluated = [label for label in official_labels if not label.ignoreInEval]
    ours = [(c.id, c.name, c.is_thing, c.color, c.supercategory) for c in CITYSCAPES.categories]
    assert ours == [(label.id, label.name, label.hasInstances, label.color, label.category) for label in evaluated]
    assert {label.id: label.trainId for label in evaluated} == TRAIN_ID
    assert [TRAIN_ID[category.id] for category in CITYSCAPES.by_index] == list(range(19))


@pytest.mark.parametrize("seed", [0, 1])
def test_both_forms_are_read_as_the_official_conversion_has_them(tmp_path: Path, seed: int) -> None:
    root = write_split(tmp_path, seed, caravans=True)
    convert2panoptic(str(root / "gtFine"), setNames=["val"])
    entries = json.loads((root / "gtFine" / "cityscapes_panoptic_val.json").read_text())
    raw, converted = Cityscapes(root, "val", "instance_ids"), Cityscapes(root, "val", "panoptic")
    assert len(raw) == len(converted) == len(entries["annotations"]) == 7
    for index, entry in enumerate(entries["annotations"]):
        assert raw.image_id(index) == converted.image_id(index) == entry["image_id"]
        colors = np.array(Image.open(root / "gtFine" / "cityscapes_panoptic_val" / entry["file_name"]), dtype=np.int32)
        segments = [
            Segment(info["id"], info["category_id"], info["area"], bool(info["iscrowd"]))
            for info in entry["segments_info"]
        ]
        for annotation in (raw.annotation(index).validate(CITYSCAPES), converted.annotation(index)):
            assert annotation.id_map.tolist() == (colors @ np.array([1, 256, 65536], np.int32)).tolist()
            assert list(annotation.segments) == segments
    crowds = [s for i in range(7) for s in raw.annotation(i).segments if s.is_crowd]
    assert len(crowds) > 5
    assert all(CITYSCAPES[s.category_id].is_thing and s.id == s.category_id for s in crowds)


@pytest.mark.parametrize("seed", range(4))
def test_ap_equals_the_official_script(tmp_path: Path, run_official_ap, seed: int) -> None:
    root = write_split(tmp_path / "data", seed, caravans=seed % 2 == 1)
    dataset = Cityscapes(root, "val")
    rng = np.random.default_rng(seed)
    results = tmp_path / "results"
    metric, halves = CityscapesAveragePrecision(CITYSCAPES), [CityscapesAveragePrecision(CITYSCAPES) for _ in range(2)]
    for index in range(len(dataset)):
        detections = random_detections(values_of(root, dataset, index), rng)[: None if index else 0]  # one has none
        name, annotation, void = dataset.sample_name(index), dataset.annotation(index), dataset.excusing_void(index)
        write_instances(results, name, detections, annotation.size)
        metric.update(detections, annotation, name, void)
        halves[index % 2].update(detections, annotation, name, void)
    averages = run_official_ap(root, results)
    assert_equals_official(metric, averages)
    assert 0.1 < averages["allAp"] < averages["allAp50%"] < 0.9
    halves[1].merge(halves[0])
    assert halves[1].compute() == metric.compute()


def test_void_of_the_annotation_differs_by_numbered_caravans_alone(tmp_path: Path, run_official_ap) -> None:
    root = write_split(tmp_path / "data", 9, caravans=True)
    plain = write_split(tmp_path / "plain", 9, caravans=True)
    for path in map(Path, annotation_files(plain, "instanceIds")):  # as if nobody had counted the caravans
        values = np.array(Image.open(path))
        Image.fromarray(np.where(np.isin(values // 1000, [CARAVAN, TRAILER]), values // 1000, values)).save(path)
    dataset = Cityscapes(root, "val")
    rng = np.random.default_rng(9)
    metric, exact = CityscapesAveragePrecision(CITYSCAPES), CityscapesAveragePrecision(CITYSCAPES)
    for index in range(len(dataset)):
        detections = random_detections(values_of(root, dataset, index), rng)
        name, annotation = dataset.sample_name(index), dataset.annotation(index)
        write_instances(tmp_path / "results", name, detections, annotation.size)
        metric.update(detections, annotation, name)
        exact.update(detections, annotation, name, dataset.excusing_void(index))
    assert_equals_official(metric, run_official_ap(plain, tmp_path / "results"))
    assert_equals_official(exact, run_official_ap(root, tmp_path / "results"))
    assert metric.compute().ap > exact.compute().ap  # false detections on caravans are excused


def spoiled(annotation: PanopticSegmentation, rng: np.random.Generator) -> PanopticSegmentation:
    """Moved by a few pixels, some segments dropped, some of another category."""
    ids = np.roll(annotation.id_map.numpy(), rng.integers(-3, 4, size=2), axis=(0, 1))
    category_of = {
        s.id: s.category_id if rng.random() < 0.9 else int(rng.choice(list(CITYSCAPES.by_id)))
        for s in annotation.segments
        if rng.random() < 0.9
    }
    ids = np.where(np.isin(ids, list(category_of)), ids, 0)
    return PanopticSegmentation.from_id_map(
        ids, [Segment(i, category_of[i], 0) for i in np.unique(ids[ids > 0]).tolist()]
    )


def test_panoptic_results_are_what_the_official_script_reads(tmp_path: Path) -> None:
    root = write_split(tmp_path, 5)
    convert2panoptic(str(root / "gtFine"), setNames=["val"])
    dataset, rng = Cityscapes(root, "val"), np.random.default_rng(5)
    items, metric = [], PanopticQuality(CITYSCAPES)
    for index in range(len(dataset)):
        prediction = spoiled(dataset.annotation(index), rng)
        metric.update(prediction, dataset.annotation(index))
        items.append(Item(dataset.sample_name(index), str(dataset.image_id(index)), prediction))
    path = write_panoptic(tmp_path / "results", "val", iter(items))
    assert path == tmp_path / "results" / "cityscapes_panoptic_val.json"

    truth = json.loads((root / "gtFine" / "cityscapes_panoptic_val.json").read_text())
    predicted = {entry["image_id"]: entry for entry in json.loads(path.read_text())["annotations"]}
    categories = {category["id"]: category for category in truth["categories"]}
    pairs = [(entry, predicted[entry["image_id"]]) for entry in truth["annotations"]]
    counts = official_pq.pq_compute_single_core(
        0, pairs, str(root / "gtFine" / "cityscapes_panoptic_val"), str(path.with_suffix("")), categories
    )
    official = official_pq.average_pq(counts, categories)
    result = metric.compute()
    assert result.all is not None
    assert (result.all.pq, result.all.sq, result.all.rq) == pytest.approx(
        [official["All"][key] for key in ("pq", "sq", "rq")], abs=1e-12
    )
    assert 0.2 < result.all.pq < 0.8
    ours = {i: (q.true_positives, q.false_positives, q.false_negatives) for i, q in result.per_category.items()}
    assert ours == {i: (c.tp, c.fp, c.fn) for i in ours if (c := counts[i])}


def test_semantic_results_are_what_the_official_script_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_split(tmp_path, 6)
    dataset, metric = Cityscapes(root, "val"), MeanIoU(CITYSCAPES)
    results = tmp_path / "results"
    for index in range(len(dataset)):
        truth = dataset.annotation(index).semantic_map(CITYSCAPES)
        prediction = truth.roll((2, index), dims=(0, 1))  # IGNORE moves, too
        assert (prediction == IGNORE).any()
        metric.update(prediction, truth)
        path = write_semantic(results, dataset.sample_name(index), prediction)
        read = np.asarray(Image.open(path))
        assert read.dtype == np.uint8
        category_of = {0: IGNORE} | TRAIN_ID
        assert [category_of[value] for value in read.ravel().tolist()] == prediction.ravel().tolist()

    monkeypatch.setattr(np, "in1d", np.isin, raising=False)
    monkeypatch.setenv("CITYSCAPES_RESULTS", str(results))
    args = copy(official_iou.args)
    args.predictionPath = args.predictionWalk = None
    args.evalInstLevelScore, args.JSONOutput, args.quiet = False, False, True
    truths = annotation_files(root, "labelIds")
    predictions = [official_iou.getPrediction(args, truth) for truth in truths]
    official = official_iou.evaluateImgLists(predictions, truths, args)
    result = metric.compute()
    assert result.mean_iou == pytest.approx(official["averageScoreClasses"], abs=1e-12)
    theirs = {name: iou for name, iou in official["classScores"].items() if not math.isnan(iou)}
    assert {CITYSCAPES[i].name: iou for i, iou in result.per_category.items()} == pytest.approx(theirs, abs=1e-12)
