"""Cityscapes' average precision against cases worked out by hand; `test_cityscapes_official.py` has the script's."""

import pickle

import numpy as np
import pytest
import torch

from tascnet.errors import InputError
from tascnet.metrics import CityscapesAveragePrecision, CityscapesAveragePrecisionResult
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Segment

SKY, CAR, PERSON = 7, 0, 11
SPACE = LabelSpace((Category(PERSON, "person", True), Category(SKY, "sky", False), Category(CAR, "car", True)))
PERSON_INDEX, CAR_INDEX = 0, 1  # thing indices

Box = tuple[int, int, int, int]  # x0 y0 x1 y1
FIRST, SECOND, THIRD, SMALL = (0, 0, 10, 10), (10, 0, 20, 10), (20, 0, 30, 10), (30, 0, 39, 11)  # 100, ..., 99 pixels


def annotate(*things: tuple[Box, int], crowds: tuple[int, ...] = (), sky: Box | None = None) -> PanopticSegmentation:
    """20 x 40 pixels: rectangles of a category, numbered from 1; the rest is VOID."""
    ids = np.zeros((20, 40), dtype=np.int32)
    segments = []
    for number, ((x0, y0, x1, y1), category) in enumerate(things, start=1):
        ids[y0:y1, x0:x1] = number
        segments.append(Segment(number, category, 0, number in crowds))
    if sky:
        ids[sky[1] : sky[3], sky[0] : sky[2]] = 99
        segments.append(Segment(99, SKY, 0))
    return PanopticSegmentation.from_id_map(ids, segments)


def detect(*found: tuple[Box, float], label: int = CAR_INDEX) -> Instances:
    """Rectangles and scores."""
    return Instances(
        boxes=torch.tensor([box for box, _ in found], dtype=torch.float32).reshape(-1, 4),
        labels=torch.full((len(found),), label),
        scores=torch.tensor([score for _, score in found]),
        masks=torch.ones(len(found), 28, 28),
    )


def measure(*images: tuple[Instances, PanopticSegmentation]) -> CityscapesAveragePrecisionResult:
    metric = CityscapesAveragePrecision(SPACE)
    for number, (prediction, annotation) in enumerate(images):
        metric.update(prediction, annotation, str(number))
    return metric.compute()


def cars(*boxes: Box, crowds: tuple[int, ...] = (), sky: Box | None = None) -> PanopticSegmentation:
    return annotate(*((box, CAR) for box in boxes), crowds=crowds, sky=sky)


def test_everything_found() -> None:
    one = CityscapesAveragePrecisionResult(1.0, 1.0, {CAR: 1.0}, {CAR: 1.0})
    assert measure((detect((FIRST, 0.9), (SECOND, 0.9)), cars(FIRST, SECOND))) == one


def test_area_under_the_curve() -> None:
    # points (recall, precision): (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3); widths 1/4, 1/4, 1/4, 1/4
    prediction = detect((FIRST, 0.9), ((0, 10, 10, 20), 0.8), (SECOND, 0.7))
    expected = (1 + 1 + 1 / 2 + 2 / 3) / 4
    result = measure((prediction, cars(FIRST, SECOND, sky=(0, 10, 40, 20))))
    assert result.ap50 == pytest.approx(expected, abs=1e-15)
    # one point for detections of equal score: (0, 1), (1, 2/3), widths 1/2, 1/2
    tied = Instances(prediction.boxes, prediction.labels, torch.full((3,), 0.9), prediction.masks)
    result = measure((tied, cars(FIRST, SECOND, sky=(0, 10, 40, 20))))
    assert result.ap50 == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)


def test_ap_is_the_mean_over_ten_ious_and_the_categories() -> None:
    # 80 of 100 pixels: IoU 0.8 passes 0.50 to 0.75, and 0.80, which arange gives as 0.8000000000000003, not
    annotation = annotate((FIRST, CAR), (SECOND, PERSON))
    result = measure((detect(((0, 0, 10, 8), 0.9)), annotation))
    assert result == CityscapesAveragePrecisionResult(
        pytest.approx(0.3), 0.5, {PERSON: 0.0, CAR: pytest.approx(0.6)}, {PERSON: 0.0, CAR: 1.0}
    )


def test_an_iou_of_half_is_no_match() -> None:
    sky = (0, 10, 40, 20)
    assert measure((detect(((0, 0, 10, 5), 0.9)), cars(FIRST, sky=sky))).ap50 == 0
    assert measure((detect(((0, 0, 10, 6), 0.9)), cars(FIRST, sky=sky))).ap50 == 1


def test_the_best_of_several_matches_is_true_and_the_others_are_false() -> None:
    # (0, 1), (1, 1), (1, 1/2): the last has width 0
    prediction = detect((FIRST, 0.9), ((0, 0, 10, 9), 0.8))
    assert measure((prediction, cars(FIRST))).ap50 == 1
    # of two images, each with a car; the worse twin comes before the second image's: (1/2, 1), (1/2, 1/2), (1, 2/3)
    result = measure((prediction, cars(FIRST)), (detect((FIRST, 0.7)), cars(FIRST)))
    assert result.ap50 == pytest.approx((1 + 1 + 1 / 2 + 2 / 3) / 4, abs=1e-15)


# a false detection that is better than the only true one: points (0, 1), (0, 0), (1, 1/2), widths 0, 1/2, 1/2
WITH_FALSE_FIRST = 0.25
CASES = {
    "on sky": ((0, 10, 10, 20), {"sky": (0, 10, 40, 20)}, WITH_FALSE_FIRST),
    "on void": ((0, 10, 10, 20), {}, 1.0),
    "half on void": ((0, 10, 10, 20), {"sky": (0, 10, 5, 20)}, WITH_FALSE_FIRST),
    "more than half on void": ((0, 10, 10, 20), {"sky": (0, 10, 4, 20)}, 1.0),
    "crowd matched": ((10, 0, 20, 9), {"crowds": (2,)}, 1.0),
    "half on a crowd": ((10, 0, 20, 20), {"crowds": (2,), "sky": (0, 10, 40, 20)}, WITH_FALSE_FIRST),
    "most on a crowd": ((10, 0, 20, 19), {"crowds": (2,), "sky": (0, 10, 40, 20)}, 1.0),
    "small matched": ((30, 0, 39, 11), {}, 1.0),
    "partly on a small one": ((30, 0, 39, 20), {"sky": (0, 11, 40, 20)}, 1.0),  # 99 of 180
    "a third on a small one": ((12, 0, 39, 11), {"sky": (11, 0, 30, 20)}, WITH_FALSE_FIRST),
}


@pytest.mark.parametrize(("box", "options", "expected"), CASES.values(), ids=CASES)
def test_what_excuses_a_detection(box: Box, options: dict, expected: float) -> None:
    boxes = (FIRST, SECOND, SMALL) if "crowds" in options else (FIRST, SMALL)
    result = measure((detect((box, 0.9), (FIRST, 0.5)), cars(*boxes, **options)))
    assert result.ap50 == expected


def test_only_crowds_and_small_objects_of_its_category_excuse_a_detection() -> None:
    annotation = annotate((FIRST, CAR), (SECOND, PERSON), (SMALL, PERSON), crowds=(2,))
    for box in (SECOND, SMALL):
        assert measure((detect((box, 0.9), (FIRST, 0.5)), annotation)).ap50 == WITH_FALSE_FIRST


def test_a_pixel_of_a_small_crowd_excuses_twice() -> None:
    # 50 of 150 pixels on a crowd of 50: counted twice, two thirds are excused
    annotation = cars(FIRST, (10, 0, 20, 5), crowds=(2,), sky=(10, 5, 20, 20))
    prediction = detect(((10, 0, 20, 15), 0.9), (FIRST, 0.5))
    assert measure((prediction, annotation)).ap50 == 1
    larger = cars(FIRST, (10, 0, 20, 10), crowds=(2,), sky=(10, 10, 20, 20))
    assert measure((detect(((10, 0, 20, 20), 0.9), (FIRST, 0.5)), larger)).ap50 == WITH_FALSE_FIRST


def test_small_objects_and_crowds_are_not_looked_for() -> None:
    nothing = CityscapesAveragePrecisionResult(None, None, {}, {})
    assert measure((detect((SMALL, 0.9)), cars(SMALL))) == nothing
    assert measure((detect((FIRST, 0.9)), cars(FIRST, crowds=(1,)))) == nothing
    assert measure((detect(), cars(FIRST, SMALL))).ap == 0  # the one of 100 pixels is
    assert CityscapesAveragePrecision(SPACE).compute() == nothing


def test_objects_whose_detections_are_all_ignored_are_missed() -> None:
    # here the official script breaks off with an IndexError
    assert measure((detect(((0, 10, 10, 20), 0.9)), cars(FIRST))).ap == 0


def test_given_void_takes_the_place_of_the_annotation_s() -> None:
    annotation, prediction = cars(FIRST), detect(((0, 10, 10, 20), 0.9), (FIRST, 0.5))
    metric = CityscapesAveragePrecision(SPACE)
    metric.update(prediction, annotation, "photo", void=torch.zeros(20, 40, dtype=torch.bool))
    assert metric.compute().ap50 == WITH_FALSE_FIRST
    with pytest.raises(InputError, match=r"void of image 'other' is \(20, 39\), its annotation \(20, 40\)"):
        metric.update(prediction, annotation, "other", void=torch.zeros(20, 39, dtype=torch.bool))


def test_state_is_small_and_can_be_sent_and_merged() -> None:
    whole, part = CityscapesAveragePrecision(SPACE), CityscapesAveragePrecision(SPACE)
    ids = np.zeros((500, 500), dtype=np.int32)
    ids[:400, :400] = 1
    annotation = PanopticSegmentation.from_id_map(ids, [Segment(1, CAR, 0)])
    prediction = detect(((0, 0, 400, 300), 0.9), ((5, 5, 400, 400), 0.8))
    whole.update(prediction, annotation, "b")
    whole.update(detect(), annotation, "a")
    part.update(prediction, annotation, "b")
    sent = pickle.dumps(part)
    assert len(sent) < 2000
    merged = CityscapesAveragePrecision(SPACE)
    merged.update(detect(), annotation, "a")
    merged.merge(pickle.loads(sent))
    assert merged.compute() == whole.compute()
    with pytest.raises(InputError, match="image 'b' was added twice"):
        merged.merge(part)
    with pytest.raises(InputError, match="image 'b' was added twice"):
        merged.update(prediction, annotation, "b")
    with pytest.raises(ValueError, match="same label space"):
        merged.merge(CityscapesAveragePrecision(LabelSpace(SPACE.categories[:1])))


def test_wrong_labels_and_categories_are_refused_and_nothing_is_added() -> None:
    metric = CityscapesAveragePrecision(SPACE)
    with pytest.raises(InputError, match="label 2 is no thing index; this label space has 2 things"):
        metric.update(detect((FIRST, 0.9), label=2), cars(FIRST), "photo")
    with pytest.raises(InputError, match="category id 5 is unknown"):
        metric.update(detect((FIRST, 0.9)), annotate((FIRST, 5)), "photo")
    metric.update(detect((FIRST, 0.9)), cars(FIRST), "photo")
    assert metric.compute().ap == 1
