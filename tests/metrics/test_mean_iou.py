"""Mean IoU against maps worked out by hand, a slow reference, and hotcoco on real photos."""

import pickle

import numpy as np
import pytest
import torch

from tascnet.errors import InputError
from tascnet.metrics import MeanIoU
from tascnet.structures import IGNORE, Category, LabelSpace

# semantic indices: 0 sky, 1 road, 2 person, 3 car (stuff first, then things)
SKY, ROAD, CAR, PERSON = 7, 3, 0, 11
_ = IGNORE


def compute(label_space: LabelSpace, prediction: list, annotation: list):
    metric = MeanIoU(label_space)
    metric.update(torch.tensor(prediction), torch.tensor(annotation))
    return metric.compute()


def test_by_hand(label_space: LabelSpace) -> None:
    annotation = [[0, 0, 0, 1], [1, 1, 3, 3]]
    prediction = [[0, 0, 1, 1], [1, 3, 3, 3]]
    result = compute(label_space, prediction, annotation)
    assert result.per_category == {SKY: 2 / 3, CAR: 2 / 3, ROAD: 2 / 4}  # nobody saw a person
    assert list(result.per_category) == [SKY, CAR, ROAD]  # as in the label space
    assert result.mean_iou == pytest.approx((2 / 3 + 2 / 3 + 1 / 2) / 3, abs=1e-15)


def test_a_category_only_predicted_counts(label_space: LabelSpace) -> None:
    result = compute(label_space, [[0, 2]], [[0, 0]])
    assert result.per_category == {PERSON: 0.0, SKY: 0.5}
    assert result.mean_iou == 0.25


def test_annotated_void_is_left_out(label_space: LabelSpace) -> None:
    result = compute(label_space, [[0, 0, 2, _]], [[0, _, _, _]])
    assert result.per_category == {SKY: 1.0}


def test_predicted_void_is_a_miss_only(label_space: LabelSpace) -> None:
    result = compute(label_space, [[0, 0, _, 1]], [[0, 0, 0, 1]])
    assert result.per_category == {SKY: 2 / 3, ROAD: 1.0}


def test_pixels_of_all_images_are_added_up(label_space: LabelSpace) -> None:
    metric = MeanIoU(label_space)
    metric.update(torch.tensor([[0]]), torch.tensor([[0]]))
    metric.update(torch.tensor([[1, 1, 1]]), torch.tensor([[0, 0, 0]]))
    assert metric.compute().per_category[SKY] == 0.25  # not the mean of 1 and 0


@pytest.mark.parametrize("annotation", [[[_, _]], [[]]])
def test_nothing_annotated(label_space: LabelSpace, annotation: list) -> None:
    metric = MeanIoU(label_space)
    metric.update(torch.zeros(torch.tensor(annotation).shape, dtype=torch.int64), torch.tensor(annotation).long())
    assert metric.compute().mean_iou is None
    assert metric.compute().per_category == {}


@pytest.mark.parametrize(
    ("prediction", "annotation", "message"),
    [
        ([[0, 0]], [[0]], r"predicted semantic map is \(1, 2\), the annotated one \(1, 1\)"),
        ([[4]], [[0]], r"predicted semantic map has values from 4 to 4; .* 0\.\.3"),
        ([[0]], [[255]], "annotated semantic map has values from 255"),
        ([[-2]], [[0]], "predicted semantic map has values from -2"),
    ],
)
def test_what_cannot_be_compared(label_space: LabelSpace, prediction: list, annotation: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        compute(label_space, prediction, annotation)


def test_equals_the_definition_on_random_maps_however_divided(label_space: LabelSpace) -> None:
    rng = np.random.default_rng(0)
    maps = rng.integers(-1, 3, size=(9, 2, 6, 7))  # index 3, a car, is never seen
    whole, parts = MeanIoU(label_space), [MeanIoU(label_space) for _ in range(3)]
    for number, (prediction, annotation) in enumerate(torch.from_numpy(maps)):
        whole.update(prediction, annotation)
        parts[number % 2].update(prediction.to(torch.int16), annotation)  # the third sees nothing
    merged = pickle.loads(pickle.dumps(parts[2]))
    merged.merge(parts[1])
    merged.merge(parts[0])
    assert merged.compute() == whole.compute()

    predicted, annotated = maps[:, 0], maps[:, 1]
    labelled = annotated != IGNORE
    expected = {
        category_id: ((predicted == index) & (annotated == index)).sum()
        / (((predicted == index) | (annotated == index)) & labelled).sum()
        for category_id, index in {PERSON: 2, SKY: 0, ROAD: 1}.items()
    }
    assert whole.compute().per_category == expected
    assert whole.compute().mean_iou == pytest.approx(np.mean(list(expected.values())), abs=1e-15)


def test_merging_other_label_spaces_is_refused(label_space: LabelSpace) -> None:
    with pytest.raises(ValueError, match="label space"):
        MeanIoU(label_space).merge(MeanIoU(LabelSpace((Category(1, "car", True),))))


def test_equals_hotcoco_on_photos(photos, hotcoco_evaluation) -> None:
    metric = MeanIoU(photos.label_space)
    for _, prediction, annotation in photos.pairs:
        metric.update(prediction.semantic_map(photos.label_space), annotation.semantic_map(photos.label_space))
    result, report = metric.compute(), hotcoco_evaluation.report()
    assert result.mean_iou == pytest.approx(report["metrics"]["mIoU"], abs=1e-12)
    theirs = {name: figures["IoU"] for name, figures in report["per_class"].items() if "IoU" in figures}
    ours = {photos.label_space[category_id].name: iou for category_id, iou in result.per_category.items()}
    assert len(ours) > 100
    assert ours == pytest.approx(theirs, abs=1e-12)
