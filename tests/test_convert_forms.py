"""What goes into another library's form comes back, and the form is what that library itself makes and takes."""

import sys
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_in_detections import StandInDetections

from tascnet import convert
from tascnet.data.formats.coco import encode_ids
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SKY, ROAD, TREE, CAR, BIRD = 0, 7, 40, 3, 200  # category ids as data sets have them: 0 among them, no order
SPACE = LabelSpace(
    (
        Category(CAR, "car", True),
        Category(SKY, "sky", False),
        Category(BIRD, "bird", True),
        Category(ROAD, "road", False),
        Category(TREE, "tree", False),
    )
)
THINGS = (CAR, BIRD)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=StandInDetections))


@st.composite
def segmentations(draw: st.DrawFn) -> PanopticSegmentation:
    """Up to 6 x 6 pixels with up to six segments of any categories, crowds and scores among them, and VOID."""
    height, width = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    numbers = st.sampled_from([0, 1, 2, 9, 300, 70_000, 2**24 - 1])
    ids = np.array(draw(st.lists(numbers, min_size=height * width, max_size=height * width))).reshape(height, width)
    segments = []
    for number in draw(st.permutations(sorted(set(ids.ravel().tolist()) - {0}))):
        category = draw(st.sampled_from([category.id for category in SPACE.categories]))
        is_crowd = category in THINGS and draw(st.booleans())
        score = draw(st.none() | st.floats(0, 1))
        segments.append(Segment(number, category, 0, is_crowd, score))
    return PanopticSegmentation.from_id_map(ids, segments)


def assert_same(first: PanopticSegmentation, second: PanopticSegmentation) -> None:
    assert torch.equal(first.id_map, second.id_map)
    assert set(first.segments) == set(second.segments)


def regions(segmentation: PanopticSegmentation, scores: bool, crowds_merge: bool) -> list[tuple[Any, ...]]:
    """Category, crowd, score and pixels of each segment, without ids; stuff of one category is one region."""
    pixels: dict[tuple[Any, ...], list[int]] = {}
    for segment in segmentation.segments:
        is_thing = segment.category_id in THINGS
        merges = not is_thing or (segment.is_crowd and crowds_merge)
        score = segment.score if scores and is_thing else None
        key = (segment.category_id, segment.is_crowd, score, None if merges else segment.id)
        pixels.setdefault(key, []).extend(torch.where(segmentation.id_map.flatten() == segment.id)[0].tolist())
    return sorted(((*key[:3], tuple(sorted(where))) for key, where in pixels.items()), key=repr)


class TestRoundTrips:
    @given(segmentations())
    def test_coco(self, segmentation: PanopticSegmentation):
        annotation, ids = convert.to_coco(segmentation, 12, "a.png")
        assert_same(convert.from_coco(annotation, ids, SPACE), segmentation)
        assert_same(convert.from_coco(annotation, encode_ids(ids), SPACE), segmentation)

    @given(segmentations())
    def test_numpy(self, segmentation: PanopticSegmentation):
        assert_same(convert.from_numpy(*convert.to_numpy(segmentation, SPACE), SPACE), segmentation)

    @given(segmentations())
    def test_huggingface(self, segmentation: PanopticSegmentation):
        assert_same(convert.from_huggingface(convert.to_huggingface(segmentation, SPACE), SPACE), segmentation)

    @given(segmentations())
    def test_label_map(self, segmentation: PanopticSegmentation):
        back = convert.from_label_map(convert.to_label_map(segmentation, SPACE), SPACE).validate(SPACE)
        assert regions(back, False, True) == regions(segmentation, False, True)

    @pytest.mark.usefixtures("stand_in")
    def test_supervision(self):
        check_supervision()

    def test_supervision_itself(self):
        supervision = pytest.importorskip("supervision")
        detections, _ = convert.to_supervision(two_cars(), SPACE)
        assert isinstance(detections, supervision.Detections)
        assert detections.area.tolist() == [4, 2]  # the library's own count, of the masks
        assert detections[detections.class_id == CAR].confidence.tolist() == [0.75, 0.5]
        assert convert.from_supervision(supervision.Detections.empty(), np.full((2, 2), ROAD), SPACE).size == (2, 2)
        check_supervision()


@settings(deadline=None)
@given(segmentations())
def check_supervision(segmentation: PanopticSegmentation) -> None:
    back = convert.from_supervision(*convert.to_supervision(segmentation, SPACE), SPACE)
    assert regions(back, True, False) == regions(segmentation, True, False)


def two_cars() -> PanopticSegmentation:
    """Sky above; a car of 2 x 2 pixels, one of 2 x 1, and VOID below."""
    ids = [[5, 5, 5, 5], [8, 8, 0, 6], [8, 8, 0, 6]]
    segments = [Segment(5, SKY, 4), Segment(8, CAR, 4, score=0.75), Segment(6, CAR, 2, score=0.5)]
    return PanopticSegmentation.from_id_map(np.array(ids), segments)


class TestByHand:
    """What each form looks like."""

    def test_coco(self):
        annotation, ids = convert.to_coco(two_cars(), 12, "a.png")
        assert annotation == {
            "image_id": 12,
            "file_name": "a.png",
            "segments_info": [
                {"id": 5, "category_id": SKY, "area": 4, "bbox": [0, 0, 4, 1], "iscrowd": 0},
                {"id": 8, "category_id": CAR, "area": 4, "bbox": [0, 1, 2, 2], "iscrowd": 0, "score": 0.75},
                {"id": 6, "category_id": CAR, "area": 2, "bbox": [3, 1, 1, 2], "iscrowd": 0, "score": 0.5},
            ],
        }
        assert ids.tolist() == [[5, 5, 5, 5], [8, 8, 0, 6], [8, 8, 0, 6]]

    def test_numpy(self):
        ids, segments = convert.to_numpy(two_cars(), SPACE)
        assert ids.dtype == np.int32
        assert segments[0] == {
            "id": 5, "category_id": SKY, "category": "sky", "isthing": False, "area": 4, "iscrowd": False, "score": None
        }  # fmt: skip
        assert [segment["score"] for segment in segments] == [None, 0.75, 0.5]
        ids[:] = 0  # a copy
        assert two_cars().id_map.count_nonzero() == 10

    def test_label_map(self):
        labels = convert.to_label_map(two_cars(), SPACE)
        assert labels.tolist() == [[0, 0, 0, 0], [3001, 3001, -1, 3002], [3001, 3001, -1, 3002]]
        assert convert.to_label_map(two_cars(), SPACE, 10)[1].tolist() == [31, 31, -1, 32]

    def test_huggingface(self):
        result = convert.to_huggingface(two_cars(), SPACE)
        assert result["segmentation"].tolist() == [[5, 5, 5, 5], [8, 8, 0, 6], [8, 8, 0, 6]]
        assert result["segments_info"] == [
            {"id": 5, "label_id": SKY, "was_fused": True, "score": None},
            {"id": 8, "label_id": CAR, "was_fused": False, "score": 0.75},
            {"id": 6, "label_id": CAR, "was_fused": False, "score": 0.5},
        ]

    @pytest.mark.usefixtures("stand_in")
    def test_supervision(self):
        detections, semantic = convert.to_supervision(two_cars(), SPACE)
        assert detections.xyxy.tolist() == [[0, 1, 2, 3], [3, 1, 4, 3]]
        assert detections.mask.astype(int).tolist() == [
            [[0, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 0]],
            [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]],
        ]
        assert detections.class_id.tolist() == [CAR, CAR]
        assert detections.confidence.tolist() == [0.75, 0.5]
        assert {name: values.tolist() for name, values in detections.data.items()} == {
            "class_name": ["car", "car"], "segment_id": [8, 6], "is_crowd": [False, False]
        }  # fmt: skip
        assert semantic.tolist() == [[SKY] * 4, [CAR, CAR, -1, CAR], [CAR, CAR, -1, CAR]]


class TestFromOthers:
    """What other programs make, in its variants."""

    def test_huggingface_that_counts_from_zero_and_marks_void_by_minus_one(self):
        result = {
            "segmentation": torch.tensor([[0, 0, -1], [1, 1, -1]]),
            "segments_info": [{"id": 0, "label_id": ROAD, "score": 0.5}, {"id": 1, "label_id": CAR, "score": 0.25}],
        }
        back = convert.from_huggingface(result, SPACE)
        assert back.id_map.tolist() == [[1, 1, 0], [2, 2, 0]]
        assert back.segments == (Segment(1, ROAD, 2, False, 0.5), Segment(2, CAR, 2, False, 0.25))

    def test_huggingface_that_lists_fused_stuff_twice_and_has_labels_of_its_own(self):
        infos = [
            {"id": 1, "label_id": 11, "was_fused": True, "score": 0.5},
            {"id": 2, "label_id": 12, "was_fused": False, "score": 0.75},
            {"id": 1, "label_id": 11, "was_fused": True, "score": 0.625},
        ]
        result = {"segmentation": torch.tensor([[1, 2, 1, 0]]), "segments_info": infos}
        back = convert.from_huggingface(result, SPACE, category_of={11: TREE, 12: BIRD})
        assert back.segments == (Segment(1, TREE, 2, False, 0.625), Segment(2, BIRD, 1, False, 0.75))

    def test_transformers_itself(self):
        """A result that MaskFormer's post-processing makes of masks given by hand."""
        transformers = pytest.importorskip("transformers")
        processor = transformers.MaskFormerImageProcessor()
        masks = torch.full((1, 3, 4, 4), -20.0)  # three queries: road below, a car on its left, a bird above
        masks[0, 0, 2:, 2:] = masks[0, 1, 2:, :2] = masks[0, 2, 0, :] = 20
        classes = torch.full((1, 3, 4), -20.0)  # labels: 0 road, 1 car, 2 bird, 3 nothing
        classes[0, range(3), range(3)] = 20
        outputs = SimpleNamespace(class_queries_logits=classes, masks_queries_logits=masks)
        (result,) = processor.post_process_panoptic_segmentation(outputs, label_ids_to_fuse={0}, target_sizes=[(4, 4)])
        back = convert.from_huggingface(result, SPACE, category_of={0: ROAD, 1: CAR, 2: BIRD})
        found = {(segment.category_id, segment.is_crowd) for segment in back.segments}
        assert found == {(ROAD, False), (CAR, False), (BIRD, False)}
        assert back.semantic_map(SPACE)[3].tolist() == [SPACE.semantic_index(i) for i in (CAR, CAR, ROAD, ROAD)]

    def test_overlapping_detections(self):
        """The better one takes the pixels; what is left without pixels, or is a thing without detection, is dropped."""
        masks = np.array([[[1, 1, 0, 0]], [[0, 1, 1, 0]], [[0, 1, 0, 0]]], dtype=bool)
        detections = StandInDetections(np.zeros((3, 4)), masks, np.array([0.25, 0.75, 0.5]), np.array([CAR, BIRD, CAR]))
        back = convert.from_supervision(detections, np.array([[TREE, TREE, CAR, CAR]]), SPACE)  # type: ignore[arg-type]
        assert back.id_map.tolist() == [[1, 2, 2, 0]]
        assert set(back.segments) == {Segment(1, CAR, 1, False, 0.25), Segment(2, BIRD, 2, False, 0.75)}


IDS = np.array([[1, 1]])
GOOD = {"id": 1, "category_id": CAR}


class TestWrongInput:
    @pytest.mark.parametrize(
        ("ids", "segments", "words"),
        [
            (IDS, [{"id": 1}], "lacks category_id"),
            (IDS, [{"id": 1, "category_id": 99}], "category id 99 is unknown"),
            (IDS, [3], "a segment is a dictionary with id and category_id; got 3"),
            (IDS, [{"id": "one", "category_id": CAR}], "holds a value of the wrong kind"),
            (IDS, [GOOD, GOOD], "used twice"),
            (IDS, [], "have no segment"),
            (IDS, [GOOD, {"id": 2, "category_id": CAR}], "have no pixel"),
            (IDS, [{"id": 1, "category_id": ROAD, "iscrowd": 1}], "only things form crowds"),
            (np.array([[1.0]]), [GOOD], "an id map is .height, width. of integers; got .* float64"),
            (np.array([1]), [GOOD], "an id map is .height, width. of integers"),
        ],
    )
    def test_segments(self, ids: np.ndarray, segments: list[Mapping[str, Any]], words: str):
        with pytest.raises(InputError, match=words):
            convert.from_numpy(ids, segments, SPACE)
        with pytest.raises(InputError, match=words):
            convert.from_coco({"segments_info": segments}, ids, SPACE)

    def test_no_annotation(self):
        with pytest.raises(InputError, match=r"has segments_info; \{'id': 1\} lacks"):
            convert.from_coco({"id": 1}, IDS, SPACE)
        with pytest.raises(InputError, match=r"a COCO annotation is a dictionary with segments_info; got \[1\]"):
            convert.from_coco([1], IDS, SPACE)  # type: ignore[arg-type]

    def test_huggingface(self):
        with pytest.raises(InputError, match="lacks segments_info"):
            convert.from_huggingface({"segmentation": torch.ones(1, 1)}, SPACE)
        infos = [{"id": 1, "label_id": CAR}, {"id": 1, "label_id": BIRD}]
        with pytest.raises(InputError, match="the categories 3 and 200 share the id 1"):
            convert.from_huggingface({"segmentation": IDS, "segments_info": infos}, SPACE)
        with pytest.raises(InputError, match="label_id 3 is not in category_of"):
            convert.from_huggingface({"segmentation": IDS, "segments_info": infos}, SPACE, {})
        with pytest.raises(InputError, match="lacks label_id"):
            convert.from_huggingface({"segmentation": IDS, "segments_info": [{"id": 1}]}, SPACE)

    def test_more_instances_than_a_label_map_can_hold(self):
        with pytest.raises(InputError, match="2 instances of 'car' or more, which a label_divisor of 2"):
            convert.to_label_map(two_cars(), SPACE, label_divisor=2)
        with pytest.raises(InputError, match="category id 99 is unknown"):
            convert.from_label_map(np.array([[99_000]]), SPACE)

    def test_detections(self):
        masks, boxes = np.ones((1, 1, 2), dtype=bool), np.zeros((1, 4))
        semantic = np.array([[ROAD, ROAD]])
        for detections, words in (
            (StandInDetections(boxes, None, None, np.array([CAR])), "have mask and class_id; one of them is None"),
            (StandInDetections(boxes, masks[..., :1], None, np.array([CAR])), "do not belong together"),
            (StandInDetections(boxes, masks, None, np.array([ROAD])), "of 'road', which is stuff"),
            (StandInDetections(boxes, masks, None, np.array([99])), "category id 99 is unknown"),
        ):
            with pytest.raises(InputError, match=words):
                convert.from_supervision(detections, semantic, SPACE)  # type: ignore[arg-type]

    def test_supervision_is_not_installed(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setitem(sys.modules, "supervision", None)
        with pytest.raises(InputError, match=r"pip install 'tascnet\[supervision\]'"):
            convert.to_supervision(two_cars(), SPACE)
