"""The metrics of segmentations together: equal to each by itself, however the pictures were divided."""

import pickle
from collections.abc import Callable

import pytest

from tascnet.errors import InputError
from tascnet.metrics import BoundaryMatcher, MeanIoU, PanopticQuality, PictureQuality, SegmentationMetrics
from tascnet.structures import LabelSpace, PanopticSegmentation

SKY, ROAD, CAR = 7, 3, 0
Draw = Callable[..., PanopticSegmentation]
Pairs = dict[str, tuple[PanopticSegmentation, PanopticSegmentation]]


@pytest.fixture
def pairs(draw: Draw) -> Pairs:
    return {
        "shifted": (draw("saaas rrrrr rrrrr", s=SKY, a=CAR, r=ROAD), draw("ssaaa rrrrr rr...", s=SKY, a=CAR, r=ROAD)),
        "one third": (draw("aaaaaa", a=CAR), draw("aaaass", a=CAR, s=SKY)),
        "empty": (draw("...."), draw("....")),
        "sky": (draw("ssss ss..", s=SKY), draw("ssss ssss", s=SKY)),
    }


def together(label_space: LabelSpace, pairs: Pairs, *names: str) -> SegmentationMetrics:
    metrics = SegmentationMetrics(label_space)
    for name in names:
        metrics.update(*pairs[name], name)
    return metrics


def test_each_is_what_it_is_alone(label_space: LabelSpace, pairs: Pairs) -> None:
    panoptic, boundary = PanopticQuality(label_space), PanopticQuality(label_space, BoundaryMatcher())
    miou = MeanIoU(label_space)
    for prediction, annotation in pairs.values():
        panoptic.update(prediction, annotation)
        boundary.update(prediction, annotation)
        miou.update(prediction.semantic_map(label_space), annotation.semantic_map(label_space))
    result = together(label_space, pairs, *pairs).compute()
    assert (result.panoptic, result.boundary, result.miou) == (panoptic.compute(), boundary.compute(), miou.compute())
    assert list(result.pictures.items()) == [
        # the car shares 2 of 4 pixels, which is no match, the sky 1 of 3; the road is found: IoU 7 / 7
        ("shifted", PictureQuality(1 / 3, 0.0, 1 / 2)),
        ("one third", PictureQuality((4 / 6) / 2, 4 / 6, 0.0)),
        ("empty", PictureQuality(None, None, None)),
        ("sky", PictureQuality(6 / 8, None, 6 / 8)),
    ]


def test_merging_is_exact_and_keeps_the_order(label_space: LabelSpace, pairs: Pairs) -> None:
    whole = together(label_space, pairs, *pairs).compute()
    merged = together(label_space, pairs, "shifted")
    merged.merge(pickle.loads(pickle.dumps(together(label_space, pairs, "one third", "empty"))))
    merged.merge(together(label_space, pairs, "sky"))
    assert merged.compute() == whole
    assert list(merged.compute().pictures) == list(whole.pictures)


def test_a_picture_counts_once(label_space: LabelSpace, pairs: Pairs) -> None:
    metrics = together(label_space, pairs, "sky", "shifted")
    before = metrics.compute()
    with pytest.raises(InputError, match="image 'sky' was added twice"):
        metrics.update(*pairs["one third"], "sky")
    with pytest.raises(InputError, match=r"image 'shifted' was added twice \(2 such in all\)"):
        metrics.merge(together(label_space, pairs, "sky", "shifted", "empty"))
    assert metrics.compute() == before
