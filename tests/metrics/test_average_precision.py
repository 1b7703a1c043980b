"""Average precision against cases worked out by hand, and faster-coco-eval called directly on whole planes."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from faster_coco_eval import COCO, COCOeval_faster
from faster_coco_eval.core import mask as rle

from tascnet.errors import InputError
from tascnet.metrics import AveragePrecision, AveragePrecisionResult
from tascnet.planes.paste import paste_mask
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Segment

SKY, ROAD, CAR, PERSON = 7, 3, 0, 11
PERSON_INDEX, CAR_INDEX = 0, 1  # thing indices
Draw = Callable[..., PanopticSegmentation]

NOTHING = AveragePrecisionResult(None, None, None, None, None, None, {})


def detections(*found: tuple[int, float, tuple[float, float, float, float]]) -> Instances:
    """Rectangles: thing index, score, box."""
    return Instances(
        boxes=torch.tensor([box for _, _, box in found], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for label, _, _ in found], dtype=torch.int64),
        scores=torch.tensor([score for _, score, _ in found], dtype=torch.float32),
        masks=torch.ones(len(found), 28, 28),
    )


def compute(label_space: LabelSpace, prediction: Instances, annotation: PanopticSegmentation):
    metric = AveragePrecision(label_space)
    metric.update(prediction, annotation, "photo")
    return metric.compute()


@pytest.fixture
def two_cars(draw: Draw) -> PanopticSegmentation:
    return draw("aassss aasbbb sssbbb ssssss", a=CAR, b=CAR, s=SKY)


FIRST_CAR, SECOND_CAR, NOWHERE = (0, 0, 2, 2), (3, 1, 6, 3), (2, 3, 6, 4)


def test_perfect_detections(label_space: LabelSpace, two_cars: PanopticSegmentation) -> None:
    result = compute(label_space, detections((CAR_INDEX, 0.9, FIRST_CAR), (CAR_INDEX, 0.8, SECOND_CAR)), two_cars)
    assert result == AveragePrecisionResult(1.0, 1.0, 1.0, 1.0, None, None, {CAR: 1.0})


@pytest.mark.parametrize(
    ("found", "ap"),
    [
        # precision is 1 at the recalls 0.00, 0.01, ..., 0.50: 51 of 101
        ([(CAR_INDEX, 0.9, FIRST_CAR)], 51 / 101),
        # a false alarm of a lower score costs nothing, of a higher score it halves precision
        ([(CAR_INDEX, 0.9, FIRST_CAR), (CAR_INDEX, 0.8, NOWHERE)], 51 / 101),
        ([(CAR_INDEX, 0.9, NOWHERE), (CAR_INDEX, 0.8, FIRST_CAR)], 51 / 101 / 2),
        # so does a second detection of one car before the other is found: precision 1 to recall 0.5, then 2 / 3
        (
            [(CAR_INDEX, 0.9, FIRST_CAR), (CAR_INDEX, 0.8, FIRST_CAR), (CAR_INDEX, 0.7, SECOND_CAR)],
            (51 + 50 * 2 / 3) / 101,
        ),
        # the right place, the wrong category
        ([(PERSON_INDEX, 0.9, FIRST_CAR)], 0.0),
        # a box outside the image has no pixel
        ([(CAR_INDEX, 0.9, (20, 20, 30, 30))], 0.0),
        ([], 0.0),
    ],
)
def test_by_hand(label_space: LabelSpace, two_cars: PanopticSegmentation, found: list, ap: float) -> None:
    result = compute(label_space, detections(*found), two_cars)
    assert result.ap == pytest.approx(ap, abs=1e-12)
    assert result.ap50 == pytest.approx(ap, abs=1e-12)
    assert result.ap75 == pytest.approx(ap, abs=1e-12)
    assert result.per_category == {CAR: pytest.approx(ap, abs=1e-12)}  # no person was annotated


def test_thresholds_of_iou(label_space: LabelSpace, draw: Draw) -> None:
    # 4 of 6 pixels: right at the thresholds 0.50, 0.55, 0.60, 0.65 of ten
    result = compute(label_space, detections((CAR_INDEX, 0.9, (0, 0, 2, 2))), draw("aaas aaas", a=CAR, s=SKY))
    assert result.ap == pytest.approx(0.4, abs=1e-12)
    assert (result.ap50, result.ap75) == (1.0, 0.0)


def test_categories_are_averaged(label_space: LabelSpace, draw: Draw) -> None:
    annotation = draw("aass bbss", a=CAR, b=PERSON, s=SKY)
    result = compute(label_space, detections((CAR_INDEX, 0.9, (0, 0, 2, 1))), annotation)
    assert result.per_category == {PERSON: 0.0, CAR: 1.0}
    assert list(result.per_category) == [PERSON, CAR]
    assert result.ap == 0.5


def test_crowds_count_neither_as_found_nor_as_missed(label_space: LabelSpace, draw: Draw) -> None:
    annotation = draw("aasccc aasccc", crowds="c", a=CAR, c=CAR, s=SKY)
    on_crowd = [(CAR_INDEX, 0.9, (3, 0, 5, 2)), (CAR_INDEX, 0.85, (4, 0, 6, 2))]
    result = compute(label_space, detections(*on_crowd, (CAR_INDEX, 0.8, FIRST_CAR)), annotation)
    assert result.ap == 1.0
    only_crowd = draw("sssccc sssccc", crowds="c", c=CAR, s=SKY)
    assert compute(label_space, detections(*on_crowd), only_crowd) == NOTHING


def test_sizes_of_objects(label_space: LabelSpace) -> None:
    ids = np.zeros((200, 200), dtype=np.int32)
    ids[:10, :10], ids[20:60, :40], ids[80:, :120] = 1, 2, 3
    annotation = PanopticSegmentation.from_id_map(ids, [Segment(i, CAR, 0) for i in (1, 2, 3)])
    found = detections((CAR_INDEX, 0.9, (0, 0, 10, 10)), (CAR_INDEX, 0.8, (0, 80, 120, 200)))
    result = compute(label_space, found, annotation)
    assert result.ap_small == 1.0
    assert result.ap_medium == 0.0
    assert result.ap_large == 1.0


def test_nothing_annotated(label_space: LabelSpace, draw: Draw) -> None:
    assert AveragePrecision(label_space).compute() == NOTHING
    found = detections((CAR_INDEX, 0.9, FIRST_CAR))
    assert compute(label_space, found, draw("ssss ssss", s=SKY)) == NOTHING
    only_stuff = LabelSpace((Category(SKY, "sky", False),))
    assert compute(only_stuff, detections(), draw("ssss ssss", s=SKY)) == NOTHING


def test_prints_nothing(label_space: LabelSpace, two_cars: PanopticSegmentation, capfd, caplog) -> None:
    with caplog.at_level("INFO"):
        compute(label_space, detections((CAR_INDEX, 0.9, FIRST_CAR)), two_cars)
    assert capfd.readouterr() == ("", "")
    assert caplog.text == ""


def test_what_cannot_be_counted(label_space: LabelSpace, two_cars: PanopticSegmentation, draw: Draw) -> None:
    metric = AveragePrecision(label_space)
    with pytest.raises(InputError, match="label 2 is no thing index; this label space has 2 things"):
        metric.update(detections((2, 0.9, FIRST_CAR)), two_cars, "photo")
    with pytest.raises(InputError, match="category id 99 is unknown"):
        metric.update(detections(), draw("xxss", x=99, s=SKY), "photo")
    metric.update(detections(), two_cars, "photo")  # the failures left no trace
    with pytest.raises(InputError, match="image 'photo' was added twice"):
        metric.update(detections(), two_cars, "photo")
    with pytest.raises(InputError, match="image 'photo' was added twice"):
        metric.merge(pickle.loads(pickle.dumps(metric)))
    with pytest.raises(ValueError, match="label space"):
        metric.merge(AveragePrecision(LabelSpace((Category(1, "car", True),))))


def random_detections(annotation: PanopticSegmentation, label_space: LabelSpace, rng: np.random.Generator) -> Instances:
    """The annotated things, frayed and shifted, some of another category; and boxes that reach out of the image."""
    num_things = len(label_space.things)
    boxes, labels, masks = [], [], []
    for segment in annotation.segments:
        if not label_space[segment.category_id].is_thing:
            continue
        inside = (annotation.id_map == segment.id).numpy()
        rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
        grid = np.linspace(0, 1, 28)
        mask = inside[np.ix_(np.quantile(rows, grid).astype(int), np.quantile(columns, grid).astype(int))]
        for _ in range(rng.integers(0, 3)):
            boxes.append(np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) + rng.normal(0, 1, size=4))
            known = rng.random() < 0.8
            labels.append(label_space.thing_index(segment.category_id) if known else rng.integers(num_things))
            masks.append(mask)
    height, width = annotation.size
    boxes += [[-50, -50, 60, 70], [width - 9.5, -3, width + 80, height + 30], [5, 5, 5, 9], [width, 0, width + 9, 9]]
    boxes.append([0, 0, width, height])  # covers whole columns: runs end one and begin the next
    labels += rng.integers(num_things, size=5).tolist()
    masks += [np.ones((28, 28))] * 5
    probabilities = np.clip(np.array(masks) * 0.8 + rng.normal(0, 0.2, size=(len(masks), 28, 28)), 0, 1)
    return Instances(
        boxes=torch.tensor(np.array(boxes), dtype=torch.float32),
        labels=torch.tensor(np.array(labels)),
        scores=torch.tensor(np.sort(rng.random(len(boxes)).round(2))[::-1].copy()),  # with ties
        masks=torch.tensor(probabilities, dtype=torch.float32),
    )


def call_directly(label_space: LabelSpace, images: list[tuple[Instances, PanopticSegmentation]]):
    """All masks as whole planes, encoded by the library, under the data set's own ids."""
    annotated, detected = [], []
    for number, (prediction, annotation) in enumerate(images):
        for segment in annotation.segments:
            plane = annotation.id_map == segment.id
            annotated.append({
                "id": len(annotated) + 1, "image_id": number, "category_id": segment.category_id,
                "segmentation": rle.encode(np.asfortranarray(plane.numpy().astype(np.uint8))),
                "area": int(plane.sum()), "iscrowd": int(segment.is_crowd),
            })  # fmt: skip
        for box, label, score, mask in zip(
            prediction.boxes, prediction.labels, prediction.scores, prediction.masks, strict=True
        ):
            plane = np.zeros(annotation.size, dtype=np.uint8, order="F")
            pasted = paste_mask(mask, box, annotation.size)
            plane[pasted.window] = pasted.pixels.numpy()
            detected.append({
                "image_id": number, "category_id": label_space.things[int(label)].id, "score": score.item(),
                "segmentation": rle.encode(plane),
            })  # fmt: skip
    sizes = [annotation.size for _, annotation in images]
    dataset = COCO({
        "images": [{"id": i, "height": size.height, "width": size.width} for i, size in enumerate(sizes)],
        "categories": [{"id": category.id} for category in label_space.things],
        "annotations": annotated,
    })  # fmt: skip
    evaluation = COCOeval_faster(dataset, dataset.loadRes(detected), iouType="segm")
    evaluation.run()
    return evaluation


def test_equals_direct_calls_on_photos_however_divided(photos) -> None:
    rng = np.random.default_rng(0)
    label_space = photos.label_space
    annotations = [pair.annotation for pair in photos.pairs]
    annotations.sort(key=lambda annotation: not any(segment.is_crowd for segment in annotation.segments))
    images = [(random_detections(annotation, label_space, rng), annotation) for annotation in annotations[:20]]
    assert any(segment.is_crowd for _, annotation in images for segment in annotation.segments)
    whole = AveragePrecision(label_space)
    parts = [AveragePrecision(label_space) for _ in range(3)]
    for number, (prediction, annotation) in enumerate(images):
        whole.update(prediction, annotation, f"{number:03}")
        parts[number % 3].update(prediction, annotation, f"{number:03}")
    result = whole.compute()

    evaluation = call_directly(label_space, images)
    ours = [result.ap, result.ap50, result.ap75, result.ap_small, result.ap_medium, result.ap_large]
    assert ours == pytest.approx(evaluation.stats[:6].tolist(), abs=1e-12)
    assert all(0.1 < figure < 0.9 for figure in ours)
    by_category = dict(
        zip(evaluation.params.catIds, evaluation.eval["precision"][..., 0, -1].mean((0, 1)), strict=True)
    )
    assert result.per_category == pytest.approx({i: ap for i, ap in by_category.items() if ap > -1}, abs=1e-12)

    merged = pickle.loads(pickle.dumps(parts[2]))
    merged.merge(parts[0])
    merged.merge(pickle.loads(pickle.dumps(parts[1])))
    assert merged.compute() == result
    assert whole.compute() == result  # computing changes nothing
