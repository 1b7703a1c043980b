"""Boundary PQ against cases worked out by hand, and one erosion a segment."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest

from tascnet.errors import InputError
from tascnet.metrics import BoundaryMatcher, Match, PanopticQuality, match_segments
from tascnet.metrics.boundary import band_width, boundary_bands
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

SKY, ROAD, CAR, PERSON = 7, 3, 0, 11
Draw = Callable[..., PanopticSegmentation]

A, S = map(ord, "as")

SQUARE = 7 * "aaaaaaa "
HOLED = 3 * "aaaaaaa " + "aaa.aaa " + 3 * "aaaaaaa "


def eroded(mask: np.ndarray, times: int) -> np.ndarray:
    """A mask less its outermost pixels, so many times: 3 x 3 erosions, where the outside of the image is no object."""
    for _ in range(times):
        padded = np.pad(mask, 1)
        height, width = mask.shape
        mask = np.all([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
    return mask


def slow_bands(id_map: np.ndarray, distance: int) -> dict[int, np.ndarray]:
    """Segment id -> its band, one after the other."""
    masks = {id_: id_map == id_ for id_ in np.unique(id_map).tolist() if id_ != 0}
    return {id_: mask & ~eroded(mask, distance) for id_, mask in masks.items()}


def slow_matching(
    prediction: PanopticSegmentation, annotation: PanopticSegmentation, distance: int
) -> tuple[set, set, set, set]:
    """The definition, mask by mask."""
    ids = {"prediction": prediction.id_map.numpy(), "annotation": annotation.id_map.numpy()}
    void = ids["annotation"] == 0
    bands = {role: slow_bands(id_map, distance) for role, id_map in ids.items()}
    matches, found, false_positives, ignored = set(), set(), set(), set()
    for predicted in prediction.segments:
        mask, band = ids["prediction"] == predicted.id, bands["prediction"][predicted.id]
        excused = void.copy()
        for segment in annotation.segments:
            if segment.category_id != predicted.category_id:
                continue
            other, other_band = ids["annotation"] == segment.id, bands["annotation"][segment.id]
            if segment.is_crowd:
                excused |= other
                continue
            iou = int((mask & other).sum()) / int(((mask & ~void) | other).sum())
            boundary_iou = int((band & other_band).sum()) / int(((band & ~void) | other_band).sum())
            if min(iou, boundary_iou) > 0.5:
                matches.add((predicted.id, segment.id, min(iou, boundary_iou)))
                found.add(segment.id)
        if not any(match[0] == predicted.id for match in matches):
            (ignored if 2 * (mask & excused).sum() > mask.sum() else false_positives).add(predicted.id)
    missed = {segment.id for segment in annotation.segments if not segment.is_crowd} - found
    return matches, false_positives, missed, ignored


def as_sets(matching) -> tuple[set, set, set, set]:
    return (
        set(matching.true_positives),
        set(matching.false_positives),
        set(matching.false_negatives),
        set(matching.ignored),
    )


class TestBands:
    @pytest.mark.parametrize(
        ("distance", "picture", "band"),
        [
            # the edge of the image is an outline, and so are VOID and the neighbour; corners are near, too
            (1, "aaaaaa aaaaaa aaaaab aaaaab aaaa.b", "111111 1...11 1...11 1..111 1111.1"),
            (2, "aaaaa aaaaa aaaaa aaaaa aaaaa", "11111 11111 11.11 11111 11111"),
            (2, "aaaa aaaa aaaa aaaa aaaa", "1111 1111 1111 1111 1111"),
            (1, "..... .aaa. .aaa. .aaa. .....", "..... .111. .1.1. .111. ....."),
            (1, "a", "1"),
            (3, "....", "...."),
        ],
    )
    def test_by_hand(self, distance: int, picture: str, band: str):
        ids = np.array([[0 if letter == "." else ord(letter) for letter in row] for row in picture.split()])
        wanted = np.array([[letter == "1" for letter in row] for row in band.split()])
        assert np.array_equal(boundary_bands(ids.astype(np.int32), distance), wanted)

    @pytest.mark.parametrize("shape", [(1, 40), (40, 1), (23, 37), (30, 30), (0, 5), (5, 0)])
    @pytest.mark.parametrize("distance", [1, 2, 3, 7])
    def test_equals_one_erosion_a_segment(self, shape: tuple[int, int], distance: int):
        rng = np.random.default_rng(distance)
        height, width = shape
        coarse = rng.integers(0, 4, size=(height // 8 + 1, width // 8 + 1))
        ids = coarse.repeat(8, axis=0).repeat(8, axis=1)[:height, :width].astype(np.int32)
        ids[rng.random(shape) < 0.005] = 3
        fast = boundary_bands(ids, distance)
        assert np.array_equal(fast, sum(slow_bands(ids, distance).values(), np.zeros(shape, dtype=bool)))
        assert distance > 2 or min(shape) < 20 or 0 < fast.sum() < (ids != 0).sum()  # some of it is inside

    def test_equals_one_erosion_a_segment_on_photos(self, photos):
        for _, _, annotation in photos.pairs[:8]:
            ids = np.ascontiguousarray(annotation.id_map.numpy()[::3, ::3])
            distance = band_width(Size(*ids.shape))
            assert 4 <= distance <= 6
            assert np.array_equal(boundary_bands(ids, distance), sum(slow_bands(ids, distance).values()))

    def test_width(self):
        assert band_width(Size(1024, 2048)) == 46  # 45.79...
        assert band_width(Size(1024, 2048), 0.005) == 11
        assert band_width(Size(480, 640)) == 16  # exactly
        assert band_width(Size(3, 4)) == 1

    @pytest.mark.parametrize("dilation", [0, -0.02, 1.01, float("nan")])
    def test_no_width(self, dilation: float):
        with pytest.raises(InputError, match=r"the dilation is .* it is a share of the diagonal"):
            BoundaryMatcher(dilation)


class TestMatching:
    def test_a_shift_shows_more_than_in_iou(self, draw: Draw, label_space: LabelSpace):
        # 6 x 6 pixels shifted by one column. IoU: 30 / 42. The bands are rings of 20 pixels that share 5 in the
        # upper and 5 in the lower row: 10 / 30.
        annotation = draw("ssssssssss " + 6 * "saaaaaasss " + "ssssssssss", a=CAR, s=SKY)
        prediction = draw("ssssssssss " + 6 * "ssaaaaaass " + "ssssssssss", a=CAR, s=SKY)
        assert match_segments(prediction, annotation, label_space).true_positives[0] == Match(A, A, 30 / 42)
        matching = BoundaryMatcher()(prediction, annotation, label_space)
        assert (matching.false_positives, matching.false_negatives) == ((A,), (A,))
        # sky: IoU 38 / 50. Its bands share the edge of the image, 32 pixels; one has a column of 6 beside the car in
        # addition, the other two of them
        assert matching.true_positives == (Match(S, S, 32 / 50),)

    def test_the_smaller_of_both(self, draw: Draw, label_space: LabelSpace):
        # both bands have the outer ring of 24 pixels, the predicted one has also the 8 around the hole
        (match,) = BoundaryMatcher(0.1)(draw(HOLED, a=CAR), draw(SQUARE, a=CAR), label_space).true_positives
        assert match.iou == 24 / 32
        (match,) = match_segments(draw(HOLED, a=CAR), draw(SQUARE, a=CAR), label_space).true_positives
        assert match.iou == 48 / 49
        # a thin segment is all band: both IoUs are the same
        (match,) = BoundaryMatcher()(draw("aaa.", a=CAR), draw("aaaa", a=CAR), label_space).true_positives
        assert match.iou == 3 / 4

    def test_pixels_on_void_belong_to_no_union(self, draw: Draw, label_space: LabelSpace):
        # of the predicted ring of 28 pixels, 9 lie on VOID: two of the upper row, two of the lower, 5 of the right
        # column; the annotated ring of 24 shares with it the left column and the rest of both rows
        annotation = draw(7 * "aaaaaaa.. ", a=CAR)
        prediction = draw(7 * "aaaaaaaaa ", a=CAR)
        (match,) = BoundaryMatcher(0.1)(prediction, annotation, label_space).true_positives
        assert match.iou == 19 / (24 + 28 - 9 - 19)

    def test_a_band_of_the_whole_image_is_plain_iou(self, label_space: LabelSpace):
        rng = np.random.default_rng(2)
        for _ in range(30):
            pair = random_pair(rng)
            assert BoundaryMatcher(1.0)(*pair, label_space) == match_segments(*pair, label_space)

    @pytest.mark.parametrize("dilation", [0.02, 0.05, 0.08])
    def test_equals_the_definition_on_random_maps(self, label_space: LabelSpace, dilation: float):
        rng = np.random.default_rng(0)
        totals, differences = np.zeros(4, dtype=int), 0
        for _ in range(60):
            pair = random_pair(rng)
            ours = as_sets(BoundaryMatcher(dilation)(*pair, label_space))
            assert ours == slow_matching(*pair, band_width(pair[0].size, dilation))
            totals += [len(ids) for ids in ours]
            differences += ours != as_sets(match_segments(*pair, label_space))
        assert (totals > 10).all()  # nothing of this was compared in vain
        assert differences > 10

    def test_equals_the_definition_on_photos(self, photos):
        with_crowd = [pair for pair in photos.pairs if any(segment.is_crowd for segment in pair.annotation.segments)]
        assert len(with_crowd) > 3
        for _, prediction, annotation in with_crowd[:4] + photos.pairs[:4]:
            pair = thinned(prediction), thinned(annotation)
            matching = BoundaryMatcher()(*pair, photos.label_space)
            assert as_sets(matching) == slow_matching(*pair, band_width(pair[0].size))

    def test_what_cannot_be_compared(self, draw: Draw, label_space: LabelSpace):
        with pytest.raises(InputError, match=r"prediction is 1 x 3 .* annotation 1 x 4"):
            BoundaryMatcher()(draw("aaa", a=CAR), draw("aaaa", a=CAR), label_space)
        good = draw("aabb", a=CAR, b=CAR)
        ghost = PanopticSegmentation(good.id_map, (*good.segments, Segment(5, CAR, 0)))
        with pytest.raises(InputError, match="segment 5 of the annotation has no pixel"):
            BoundaryMatcher()(good, ghost, label_space)


class TestQuality:
    def test_means_over_matches(self, draw: Draw, label_space: LabelSpace):
        metric = PanopticQuality(label_space, BoundaryMatcher(0.1))
        metric.update(draw(HOLED, a=CAR), draw(SQUARE, a=CAR))
        metric.update(draw("aaaa", a=CAR), draw("aass", a=CAR, s=SKY))
        result = metric.compute()
        car = result.per_category[CAR]
        assert (car.true_positives, car.false_positives, car.false_negatives) == (1, 1, 1)
        assert (car.sq, car.rq, car.pq) == (0.75, 0.5, 0.375)
        assert result.stuff is not None
        assert result.stuff.pq == 0

    def test_merging_any_split_in_any_order_is_exact(self, label_space: LabelSpace):
        rng = np.random.default_rng(1)
        pairs = [random_pair(rng) for _ in range(40)]
        whole = PanopticQuality(label_space, BoundaryMatcher())
        for pair in pairs:
            whole.update(*pair)
        parts = [PanopticQuality(label_space, BoundaryMatcher()) for _ in range(4)]
        for position in rng.permutation(len(pairs)):
            parts[rng.integers(4)].update(*pairs[position])
        merged = pickle.loads(pickle.dumps(parts[0]))
        for part in parts[1:]:
            merged.merge(pickle.loads(pickle.dumps(part)))
        assert merged.compute() == whole.compute()  # to the last bit
        group = whole.compute().all
        assert group is not None
        assert 0.5 < group.sq < 1

    def test_other_ways_of_matching_are_not_merged(self, label_space: LabelSpace):
        metric = PanopticQuality(label_space, BoundaryMatcher())
        for other in (PanopticQuality(label_space), PanopticQuality(label_space, BoundaryMatcher(0.005))):
            with pytest.raises(ValueError, match="cannot be merged"):
                metric.merge(other)
        with pytest.raises(ValueError, match="label space"):
            metric.merge(PanopticQuality(LabelSpace((Category(1, "car", True),)), BoundaryMatcher()))


def random_pair(rng: np.random.Generator) -> tuple[PanopticSegmentation, PanopticSegmentation]:
    """A random annotation with VOID and crowds, and a copy in which borders and some categories are changed."""
    ids = rng.integers(0, 8, size=(3, 4)).repeat(8, axis=0).repeat(8, axis=1)
    categories = rng.choice([SKY, ROAD, CAR, CAR, PERSON], size=8)
    annotated = [
        Segment(i, int(c), 0, is_crowd=bool(c in (CAR, PERSON) and rng.random() < 0.4))
        for i, c in enumerate(categories)
    ]
    shifted = np.roll(ids, rng.integers(0, 2, size=2), axis=(0, 1))
    holes = (rng.random((6, 8)) < 0.1).repeat(4, axis=0).repeat(4, axis=1)
    predicted_ids = np.where(holes, rng.integers(0, 8), shifted)
    predicted = [Segment(i, int(c) if rng.random() < 0.8 else SKY, 0) for i, c in enumerate(categories)]
    return (
        PanopticSegmentation.from_id_map(predicted_ids, [s for s in predicted[1:] if s.id in predicted_ids]),
        PanopticSegmentation.from_id_map(ids, [s for s in annotated[1:] if s.id in ids]),
    )


def thinned(segmentation: PanopticSegmentation) -> PanopticSegmentation:
    """Every third pixel."""
    ids = segmentation.id_map.numpy()[::3, ::3]
    return PanopticSegmentation.from_id_map(ids, [s for s in segmentation.segments if (ids == s.id).any()])
