"""Many segments and many categories: the same figures, in memory that grows with what occurs.

The references look at masks pair by pair, as the definitions do.
"""

import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from tascnet.commands.report import print_report
from tascnet.errors import InputError
from tascnet.evaluation.report import Report
from tascnet.evaluation.writing import quality_rows
from tascnet.metrics import (
    AveragePrecision,
    BoundaryMatcher,
    CityscapesAveragePrecision,
    Matching,
    MeanIoU,
    PanopticQuality,
    SegmentationMetrics,
    match_segments,
)
from tascnet.metrics.boundary import band_width
from tascnet.metrics.counting import FEW_KEYS, sum_by_index, tally
from tascnet.structures import (
    IGNORE,
    MAX_SEGMENT_ID,
    VOID,
    Category,
    Instances,
    LabelSpace,
    PanopticSegmentation,
    Segment,
)

SPACE = LabelSpace(
    (
        Category(11, "person", True),
        Category(7, "sky", False),
        Category(0, "car", True),
        Category(2**40, "road", False),
    )
)
THINGS = {category.id for category in SPACE.things}


@st.composite
def segmentations(draw: st.DrawFn, height: int, width: int, crowds: bool) -> PanopticSegmentation:
    """Random maps, ids up to the largest there can be, in either integer type, VOID and crowds among them."""
    number = draw(st.integers(0, 12))
    large = st.integers(1, MAX_SEGMENT_ID)
    ids = draw(st.lists(st.one_of(st.integers(1, 9), large), min_size=number, max_size=number, unique=True))
    palette = np.array([VOID, *ids], dtype=draw(st.sampled_from([np.int32, np.int64])))
    picks = draw(st.lists(st.integers(0, number), min_size=height * width, max_size=height * width))
    id_map = palette[np.array(picks)].reshape(height, width)
    present = set(id_map.ravel().tolist())
    segments = []
    for id_ in ids:
        category_id = draw(st.sampled_from([category.id for category in SPACE.categories]))
        is_crowd = crowds and category_id in THINGS and draw(st.booleans())
        if id_ in present:
            segments.append(Segment(id_, category_id, 0, is_crowd))
    return PanopticSegmentation.from_id_map(id_map, draw(st.permutations(segments)))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[PanopticSegmentation, PanopticSegmentation]:
    height, width = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    annotation = draw(segmentations(height, width, crowds=True))
    # mostly a relabelled copy: two random maps hardly ever match
    if not annotation.segments or draw(st.integers(0, 3)) == 0:
        return draw(segmentations(height, width, crowds=False)), annotation
    id_map = annotation.id_map.numpy().astype(np.int64)
    keep = draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    changed = np.where(np.array(keep).reshape(height, width), id_map, np.roll(id_map, 1, axis=1))
    categories = st.sampled_from([category.id for category in SPACE.categories])
    segments = [
        Segment(each.id, draw(categories) if draw(st.integers(0, 4)) == 0 else each.category_id, 0)
        for each in annotation.segments
        if each.id in changed
    ]
    return PanopticSegmentation.from_id_map(changed, segments), annotation


def iou_of(mask: np.ndarray, other: np.ndarray, void: np.ndarray) -> float:
    return int((mask & other).sum()) / int(((mask & ~void) | other).sum())


def band_of(mask: np.ndarray, distance: int) -> np.ndarray:
    """The pixels of a mask that have one outside of it, or of the image, within `distance` rows and columns."""
    padded = np.pad(mask, distance)
    side = 2 * distance + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side))
    return mask & ~windows.all(axis=(2, 3))


def defined_matching(prediction: PanopticSegmentation, annotation: PanopticSegmentation, distance: int = 0) -> Matching:
    """The definition, pair by pair; with a distance, that of boundary PQ."""
    void = annotation.id_map.numpy() == VOID
    annotated = [(segment, annotation.id_map.numpy() == segment.id) for segment in annotation.segments]
    found, matches, false_positives, ignored = set(), [], [], []
    for predicted in prediction.segments:
        mask, excused, match = prediction.id_map.numpy() == predicted.id, void.copy(), None
        for segment, other in annotated:
            if segment.category_id != predicted.category_id:
                continue
            if segment.is_crowd:
                excused |= other
                continue
            iou = iou_of(mask, other, void)
            if distance:
                iou = min(iou, iou_of(band_of(mask, distance), band_of(other, distance), void))
            if iou > 0.5:
                match = (predicted.id, segment.id, iou)
                found.add(segment.id)
        if match is not None:
            matches.append(match)
        elif 2 * int((mask & excused).sum()) > int(mask.sum()):
            ignored.append(predicted.id)
        else:
            false_positives.append(predicted.id)
    missed = tuple(segment.id for segment, _ in annotated if not segment.is_crowd and segment.id not in found)
    return Matching(tuple(matches), tuple(false_positives), missed, tuple(ignored))  # type: ignore[arg-type]


def defined_confusion(prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> np.ndarray:
    table = np.zeros((len(SPACE.categories), len(SPACE.categories) + 1), dtype=np.int64)
    maps = (each.semantic_map(SPACE).ravel().tolist() for each in (annotation, prediction))
    for row, column in zip(*maps, strict=True):
        if row != IGNORE:
            table[row, column] += 1
    return table


@settings(max_examples=60, deadline=None)
@given(pairs())
def test_matching_is_the_definition_to_the_last_bit_and_in_order(pair):
    assert match_segments(*pair, SPACE) == defined_matching(*pair)
    matcher = BoundaryMatcher(dilation=0.1)
    assert matcher(*pair, SPACE) == defined_matching(*pair, band_width(pair[0].size, 0.1))


@settings(max_examples=30, deadline=None)
@given(st.lists(pairs(), min_size=1, max_size=2))
def test_confusion_is_counted_pixel_by_pixel(images):
    by_segments, by_pixels, merged = MeanIoU(SPACE), MeanIoU(SPACE), MeanIoU(SPACE)
    wanted = np.zeros((len(SPACE.categories), len(SPACE.categories) + 1), dtype=np.int64)
    for pair in images:
        by_segments.update_segmentations(*pair)
        by_pixels.update(*(each.semantic_map(SPACE) for each in pair))
        part = MeanIoU(SPACE)
        part.update_segmentations(*pair)
        merged.merge(part)
        wanted += defined_confusion(*pair)
    for metric in (by_segments, by_pixels, merged):
        np.testing.assert_array_equal(metric.confusion, wanted)
    unions = wanted.sum(axis=1) + wanted[:, :-1].sum(axis=0) - wanted.diagonal()
    ious = {SPACE.by_index[k].id: int(wanted[k, k]) / int(union) for k, union in enumerate(unions) if union}
    result = by_segments.compute()
    assert result.per_category == ious
    assert list(result.per_category) == [category.id for category in SPACE.categories if category.id in ious]
    assert result == merged.compute() == by_pixels.compute()


def test_random_maps_try_every_outcome():
    """The strategy of the tests above reaches matches, errors, and what is ignored."""
    totals: Counter[str] = Counter()

    @settings(max_examples=50, deadline=None, database=None, derandomize=True)
    @given(pairs())
    def look(pair):
        for name, value in vars(match_segments(*pair, SPACE)).items():
            totals[name] += len(value)

    look()
    assert all(totals[name] > 10 for name in ("true_positives", "false_positives", "false_negatives", "ignored"))


@given(st.lists(st.integers(0, 2**20), max_size=40), st.sampled_from([2**20 + 1, 2**50]), st.booleans())
def test_tally_sums_what_occurs(keys, num_keys, dense):
    if dense:  # the other branch
        keys, num_keys = [key % FEW_KEYS for key in keys], FEW_KEYS
    weights = np.arange(1, len(keys) + 1)
    wanted = Counter[int]()
    for key, weight in zip(keys, weights.tolist(), strict=True):
        wanted[key] += weight
    distinct, sums = tally(np.array(keys, dtype=np.int64), num_keys, weights)
    assert distinct.tolist() == sorted(wanted)
    assert dict(zip(distinct.tolist(), sums.tolist(), strict=True)) == wanted
    numbers = tally(np.array(keys, dtype=np.int64), num_keys)
    assert dict(zip(*(values.tolist() for values in numbers), strict=True)) == Counter(keys)


def test_sums_by_index_have_the_length_asked_for():
    assert sum_by_index(np.array([2, 0, 2]), np.array([5, 1, 7]), 4).tolist() == [1, 0, 12, 0]
    assert sum_by_index(np.array([], dtype=np.int64), np.array([], dtype=np.int64), 2).tolist() == [0, 0]


def tiles(side: int, pixels: int, category_ids: list[int], factor: int = 61) -> PanopticSegmentation:
    """A board of side x side segments of pixels x pixels each, ids far apart, categories by turns."""
    numbers = np.arange(side * side).reshape(side, side).repeat(pixels, axis=0).repeat(pixels, axis=1)
    segments = [
        Segment(number * factor + 1, category_ids[number % len(category_ids)], pixels**2)
        for number in range(side * side)
    ]
    return PanopticSegmentation((torch.from_numpy(numbers) * factor + 1).int(), tuple(segments))


@contextmanager
def at_most(megabytes: float) -> Iterator[None]:
    """NumPy's arrays and Python's objects stay below that while the block runs."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < megabytes, f"{peak:.0f} MB"


def test_memory_does_not_grow_with_the_square_of_the_segments():
    """8,100 segments, shifted by a pixel: as a table, their pairs alone would take 500 MB."""
    board = tiles(90, 3, [0, 7, 11])
    moved = PanopticSegmentation.from_id_map(board.id_map.roll(1, 1), board.segments)
    metrics = SegmentationMetrics(SPACE)
    with at_most(60):
        metrics.update(moved, board, "board")
    result = metrics.compute()
    # 2 of 3 columns agree, and the bands are the whole segments: 6 / (9 + 9 - 6)
    assert result.panoptic.all is not None
    assert result.panoptic.all.pq == 0.0
    assert result.pictures["board"].pq == 0.0
    same = SegmentationMetrics(SPACE)
    same.update(board, board, "board")
    assert same.compute().panoptic.per_category[0].true_positives == 2700
    assert same.compute().boundary.all is not None
    assert same.compute().boundary.all.pq == 1.0
    assert same.compute().miou.mean_iou == 1.0


def one_box(box: tuple[float, ...], label: int = 0) -> Instances:
    return Instances(torch.tensor([box]), torch.tensor([label]), torch.tensor([0.9]), torch.ones(1, 28, 28))


def test_masks_of_many_segments_are_those_of_the_map():
    board = tiles(40, 2, [0])
    shuffled = np.random.default_rng(0).permutation(len(board.segments))
    board = PanopticSegmentation(board.id_map, tuple(board.segments[place] for place in shuffled))
    ap = AveragePrecision(SPACE)
    ap.update(one_box((10.0, 10.0, 12.0, 12.0), label=1), board, "board")
    (image,) = ap._images.values()
    assert len(image.annotated) == 1600
    for segment, found in zip(board.segments, image.annotated, strict=True):
        np.testing.assert_array_equal(rle.decode(found["segmentation"]), board.id_map.numpy() == segment.id)
        assert found["area"] == 4


def many(number: int) -> LabelSpace:
    """Half things; ids that are not their places, and a name that two of them share."""
    return LabelSpace.from_list(
        {"id": 3 * number - 3 * place, "name": f"c{max(place, 1)}", "isthing": place % 2} for place in range(number)
    )


@pytest.fixture(scope="module")
def wide() -> LabelSpace:
    """50,000 categories. Quadratic, the check for repeated ids alone takes half a minute."""
    started = time.process_time()
    space = many(50_000)
    assert time.process_time() - started < 10
    return space


def test_fifty_thousand_categories(wide: LabelSpace):
    """As a matrix, their confusion would take 20 GB."""
    started, space = time.process_time(), wide
    board = tiles(30, 3, [category.id for category in space.categories[:900]])
    metrics = SegmentationMetrics(space)
    for name in ("one", "two", "three"):
        metrics.update(board, board, name)
    report = Report(label_space=space, segmentation=metrics.compute())
    rows = quality_rows(report)
    assert time.process_time() - started < 15
    assert len(rows) == 3 + 900
    assert report.panoptic.per_category.keys() == {category.id for category in space.categories[:900]}
    assert list(report.panoptic.per_category) == [category.id for category in space.categories[:900]]
    assert "  c1 (150000)" in rows
    assert "  c2" in rows


def test_average_precision_of_many_categories_holds_the_annotated_ones():
    """COCO's table has 97 KB a category: 2 GB for the things among them."""
    space = many(67_000)
    things = [category.id for category in space.things]
    board = tiles(2, 8, [things[33_000], space.stuff[0].id])
    with at_most(100):
        ap, cityscapes = AveragePrecision(space), CityscapesAveragePrecision(space)
        for name in ("one", "two"):
            for metric in (ap, cityscapes):
                metric.update(one_box((0.0, 0.0, 8.0, 8.0), label=33_000), board, name)
        result = ap.compute()
        assert cityscapes.compute().ap is None  # 64 pixels are too small an object for Cityscapes
    assert result.per_category == {things[33_000]: pytest.approx(51 / 101)}  # one of two segments is found
    large = tiles(2, 16, [things[33_000], space.stuff[0].id])
    cityscapes.update(one_box((0.0, 0.0, 16.0, 16.0), label=33_000), large, "large")
    # the label has more than 15 bits
    assert cityscapes.compute().per_category.keys() == {things[33_000]}


def test_average_precision_without_the_categories_that_are_not_annotated_is_the_same():
    """Against the whole label space given to faster-coco-eval, with detections of things that nobody annotated."""
    rng = np.random.default_rng(5)
    space = LabelSpace(tuple(Category(10 * k, f"c{k}", is_thing=k != 3) for k in range(8)))
    ours = AveragePrecision(space)
    images, annotations, detected = [], [], []
    for number in range(1, 7):
        board = tiles(4, 10, [0, 30, 50])
        # on the tiles, or a little beside them
        boxes = torch.from_numpy(10 * rng.integers(0, 4, size=(12, 2)) + rng.integers(0, 2, size=(12, 2))).float()
        found = Instances(
            torch.cat([boxes, boxes + 10], dim=1),
            torch.from_numpy(rng.integers(0, 7, size=12)),
            torch.from_numpy(rng.random(12)).float(),
            torch.ones(12, 28, 28),
        )
        ours.update(found, board, f"{number}")
        images.append({"id": number, "height": 40, "width": 40})
        for segment in board.segments:
            if space[segment.category_id].is_thing:
                plane = np.asfortranarray((board.id_map.numpy() == segment.id).astype(np.uint8))
                thing = space.thing_index(segment.category_id) + 1
                annotations.append(
                    {"id": len(annotations) + 1, "image_id": number, "category_id": thing, "iscrowd": 0, "area": 100}
                    | {"segmentation": rle.encode(plane)}
                )
        for box, label, score in zip(found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True):
            plane = np.zeros((40, 40), dtype=np.uint8, order="F")
            plane[int(box[1]) : int(box[3]), int(box[0]) : int(box[2])] = 1
            detected.append({"image_id": number, "category_id": label + 1, "score": score})
            detected[-1]["segmentation"] = rle.encode(plane)
    dataset = COCO(
        {"images": images, "annotations": annotations, "categories": [{"id": thing} for thing in range(1, 8)]}
    )
    evaluation = COCOeval_faster(dataset, dataset.loadRes(detected), iouType="segm", print_function=lambda *_: None)
    evaluation.evaluate()
    evaluation.accumulate()
    precision = evaluation.eval["precision"][..., 0, -1]
    result = ours.compute()
    assert result.ap == precision[precision > -1].mean()
    assert 0 < result.ap < 1
    assert result.per_category == {space.things[k].id: precision[:, :, k].mean() for k in (0, 4)}


def test_only_so_many_rows_are_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tascnet.commands.report.MAX_ROWS", 50)
    space = many(150)
    board = tiles(13, 1, [category.id for category in space.categories])
    metrics = SegmentationMetrics(space)
    metrics.update(board, board, "one")
    report = Report(label_space=space, segmentation=metrics.compute())
    print_report(report, Console(width=120))
    printed = capsys.readouterr().out
    assert "c46 " in printed  # behind the three rows of all, things and stuff
    assert "c47 " not in printed
    assert "103 more categories are not printed" in printed
    assert len(report.to_dict()["pq"]["per_category"]) == 150


def test_a_repeated_id_is_named_without_naming_all():
    with pytest.raises(InputError, match=r"ids \[0, 1, 2, 3, 4 and 4995 more\] appear more than once"):
        LabelSpace(tuple(Category(number % 5000, f"c{number}", True) for number in range(10_000)))
    started = time.process_time()
    twice = [Segment(number % 30_000 + 1, 0, 1) for number in range(60_000)]
    with pytest.raises(InputError, match="1, 2, 3, 4, 5 and 29995 more are used twice"):
        PanopticSegmentation.from_id_map(np.zeros((1, 1), dtype=np.int64), twice)
    assert time.process_time() - started < 10


def test_pq_counts_nothing_for_categories_that_do_not_occur():
    metric = PanopticQuality(SPACE)
    assert metric.compute().per_category == {}
    metric.update(tiles(1, 2, [7]), tiles(1, 2, [7]))
    assert list(metric.compute().per_category) == [7]
