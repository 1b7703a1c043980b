"""Panoptic quality against pictures worked out by hand, a slow reference, and hotcoco on real photos."""

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tascnet.errors import InputError
from tascnet.metrics import (
    CategoryQuality,
    GroupQuality,
    Match,
    PanopticQuality,
    image_panoptic_quality,
    match_segments,
)
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SKY, ROAD, CAR, PERSON = 7, 3, 0, 11
Draw = Callable[..., PanopticSegmentation]

A, B, C = map(ord, "abc")


def test_perfect_prediction_scores_one(draw: Draw, label_space: LabelSpace) -> None:
    scene = draw("ssssss aabb.. aabb.. rrrrrr", a=CAR, b=CAR, s=SKY, r=ROAD)
    result = image_panoptic_quality(scene, scene, label_space)
    assert result.all == GroupQuality(1.0, 1.0, 1.0, num_categories=3)
    assert result.things == GroupQuality(1.0, 1.0, 1.0, num_categories=1)
    assert result.stuff == GroupQuality(1.0, 1.0, 1.0, num_categories=2)
    assert result.per_category == {
        SKY: CategoryQuality(1.0, 1.0, 1.0, 1, 0, 0),
        CAR: CategoryQuality(1.0, 1.0, 1.0, 2, 0, 0),
        ROAD: CategoryQuality(1.0, 1.0, 1.0, 1, 0, 0),
    }
    assert list(result.per_category) == [SKY, CAR, ROAD]  # as in the label space


def test_counts_and_averages(draw: Draw, label_space: LabelSpace) -> None:
    annotation = draw("aabbbb aabbbb rrrrrr rrrccc", a=CAR, b=CAR, c=PERSON, r=ROAD)
    prediction = draw("aaabbb aaabbb rrrrrr rrrrrr", a=CAR, b=CAR, r=ROAD)
    result = image_panoptic_quality(prediction, annotation, label_space)
    # cars: 4 / 6 and 6 / 8; road: 9 / 12; the person is missed
    assert result.per_category[CAR].sq == pytest.approx((4 / 6 + 6 / 8) / 2, abs=1e-15)
    assert result.per_category[ROAD] == CategoryQuality(0.75, 0.75, 1.0, 1, 0, 0)
    assert result.per_category[PERSON] == CategoryQuality(0.0, 0.0, 0.0, 0, 0, 1)
    assert result.things is not None
    assert result.things.pq == pytest.approx((4 / 6 + 6 / 8) / 2 / 2, abs=1e-15)
    assert result.things.rq == 0.5
    assert result.all is not None
    assert result.all.pq == pytest.approx(((4 / 6 + 6 / 8) / 2 + 0.75) / 3, abs=1e-15)
    assert result.all.num_categories == 3


def test_half_errors_in_recognition_quality(draw: Draw, label_space: LabelSpace) -> None:
    annotation = draw("aaabbb ccc...", a=CAR, b=CAR, c=CAR)
    prediction = draw("aaa.bb c..bbb", a=CAR, b=CAR, c=CAR)  # b: 2 / (5 - 3 on VOID + 3 - 2) = 2 / 3; c: 1 / 3
    result = image_panoptic_quality(prediction, annotation, label_space)
    car = result.per_category[CAR]
    assert (car.true_positives, car.false_positives, car.false_negatives) == (2, 1, 1)
    assert car.sq == pytest.approx((1 + 2 / 3) / 2, abs=1e-15)
    assert car.rq == pytest.approx(2 / 3, abs=1e-15)
    assert car.pq == pytest.approx((1 + 2 / 3) / 3, abs=1e-15)


def test_iou_of_exactly_one_half_is_no_match(draw: Draw, label_space: LabelSpace) -> None:
    annotation = draw("aass", a=CAR, s=SKY)
    prediction = draw("aaaa", a=CAR)
    matching = match_segments(prediction, annotation, label_space)
    assert matching.true_positives == ()
    assert matching.false_positives == (A,)
    assert matching.false_negatives == (A, ord("s"))


def test_only_one_category_matches(draw: Draw, label_space: LabelSpace) -> None:
    matching = match_segments(draw("aabb", a=CAR, b=PERSON), draw("aabb", a=CAR, b=CAR), label_space)
    assert matching.true_positives == (Match(A, A, 1.0),)
    assert matching.false_positives == (B,)
    assert matching.false_negatives == (B,)


def test_predicted_void_counts_as_nothing_predicted(draw: Draw, label_space: LabelSpace) -> None:
    matching = match_segments(draw("aaa. ....", a=CAR), draw("aaaa bbbb", a=CAR, b=CAR), label_space)
    assert matching.true_positives == (Match(A, A, 0.75),)  # its fourth pixel is missed, not forgiven
    assert matching.false_negatives == (B,)
    assert matching.false_positives == ()


def test_predicted_pixels_on_annotated_void_belong_to_no_union(draw: Draw, label_space: LabelSpace) -> None:
    matching = match_segments(draw("aaaaaa", a=CAR), draw("aas...", a=CAR, s=SKY), label_space)
    assert matching.true_positives == (Match(A, A, 2 / 3),)  # 2 / (6 + 2 - 2 - 3)


@pytest.mark.parametrize(("picture", "ignored"), [("s...", True), ("ss..", False)])
def test_prediction_mostly_on_void_is_ignored(draw: Draw, label_space: LabelSpace, picture: str, ignored: bool) -> None:
    matching = match_segments(draw("aaaa", a=CAR), draw(picture, s=SKY), label_space)
    assert matching.ignored == ((A,) if ignored else ())
    assert matching.false_positives == (() if ignored else (A,))


@pytest.mark.parametrize(
    ("predicted_category", "picture", "ignored"),
    [
        (CAR, "sccc", True),
        (CAR, "sscc", False),  # exactly one half
        (CAR, "ssc.", False),
        (CAR, "sc..", True),  # crowd and VOID add up
        (PERSON, "sccc", False),  # a crowd of another category excuses nothing
        (PERSON, "scc.", False),
    ],
)
def test_prediction_mostly_on_a_crowd_is_ignored(
    draw: Draw, label_space: LabelSpace, predicted_category: int, picture: str, ignored: bool
) -> None:
    annotation = draw(picture, crowds="c", s=SKY, c=CAR)
    matching = match_segments(draw("aaaa", a=predicted_category), annotation, label_space)
    assert matching.ignored == ((A,) if ignored else ())
    assert matching.false_positives == (() if ignored else (A,))


def test_every_crowd_of_a_category_excuses(draw: Draw, label_space: LabelSpace) -> None:
    # 2 of 6 pixels on the first crowd, 2 on the second: neither alone is more than half, together they are
    annotation = draw("bbssdd", crowds="bd", b=CAR, s=SKY, d=CAR)
    assert match_segments(draw("aaaaaa", a=CAR), annotation, label_space).ignored == (A,)
    # each of two predictions lies on one of the crowds: one that only knew the last would count the first as false
    matching = match_segments(draw("aasscc", a=CAR, s=SKY, c=CAR), annotation, label_space)
    assert matching.ignored == (A, C)
    assert matching.false_positives == ()


def test_a_crowd_is_neither_matched_nor_missed(draw: Draw, label_space: LabelSpace) -> None:
    annotation = draw("ccss", crowds="c", c=CAR, s=SKY)
    matching = match_segments(draw("ccss", c=CAR, s=SKY), annotation, label_space)
    assert [match.prediction_id for match in matching.true_positives] == [ord("s")]
    assert matching.ignored == (C,)
    nothing_found = match_segments(draw("..ss", s=SKY), annotation, label_space)
    assert nothing_found.false_negatives == ()


def test_predicted_crowds_are_plain_segments(draw: Draw, label_space: LabelSpace) -> None:
    annotation = draw("aabb", a=CAR, b=CAR)
    flagged = match_segments(draw("aabb", crowds="ab", a=CAR, b=CAR), annotation, label_space)
    assert flagged == match_segments(annotation, annotation, label_space)
    assert len(flagged.true_positives) == 2


def test_groups_without_anything_to_count_are_absent(draw: Draw, label_space: LabelSpace) -> None:
    nothing = PanopticQuality(label_space).compute()
    assert (nothing.all, nothing.things, nothing.stuff, nothing.per_category) == (None, None, None, {})
    only_stuff = image_panoptic_quality(draw("ss..", s=SKY), draw("sss.", s=SKY), label_space)
    assert only_stuff.things is None
    assert only_stuff.all == only_stuff.stuff == GroupQuality(2 / 3, 2 / 3, 1.0, 1)
    all_ignored = image_panoptic_quality(draw("aaaa", a=CAR), draw("...."), label_space)
    assert all_ignored.all is None
    assert all_ignored.per_category == {}


def test_areas_are_counted_from_the_pixels(label_space: LabelSpace) -> None:
    ids = torch.tensor([[1, 1, 2, 2]], dtype=torch.int32)
    honest = PanopticSegmentation(ids, (Segment(1, CAR, 2), Segment(2, SKY, 2)))
    lying = PanopticSegmentation(ids, (Segment(1, CAR, 100), Segment(2, SKY, 1)))
    assert match_segments(lying, lying, label_space) == match_segments(honest, honest, label_space)


def test_maps_that_are_not_contiguous(draw: Draw, label_space: LabelSpace) -> None:
    scene = draw("aabb aabb ssss", a=CAR, b=CAR, s=SKY)
    turned = PanopticSegmentation(scene.id_map.T.contiguous().T, scene.segments)
    assert not turned.id_map.is_contiguous()
    assert len(match_segments(turned, scene, label_space).true_positives) == 3


@pytest.mark.parametrize(
    ("predicted", "annotated", "message"),
    [
        ("aaa", "aaaa", r"prediction is 1 x 3 .* annotation 1 x 4"),
        ("xaaa", "aaaa", r"segment 120 of the prediction has category id 99"),
        ("aaaa", "xaaa", r"segment 120 of the annotation has category id 99"),
    ],
)
def test_what_cannot_be_compared(
    draw: Draw, label_space: LabelSpace, predicted: str, annotated: str, message: str
) -> None:
    def scene(picture: str) -> PanopticSegmentation:
        return draw(picture, a=CAR, x=99) if "x" in picture else draw(picture, a=CAR)

    metric = PanopticQuality(label_space)
    with pytest.raises(InputError, match=message):
        metric.update(scene(predicted), scene(annotated))
    assert metric.compute() == PanopticQuality(label_space).compute()


@pytest.mark.parametrize("role", ["prediction", "annotation"])
def test_segments_that_do_not_fit_the_map(draw: Draw, label_space: LabelSpace, role: str) -> None:
    good = draw("aabb", a=CAR, b=CAR)
    ghost = PanopticSegmentation(good.id_map, (*good.segments, Segment(5, CAR, 0)))
    orphan = PanopticSegmentation(good.id_map, good.segments[:1])
    for bad, message in [(ghost, f"segment 5 of the {role} has no pixel"), (orphan, "have no segment")]:
        pair = (bad, good) if role == "prediction" else (good, bad)
        with pytest.raises(InputError, match=message):
            match_segments(*pair, label_space)


def test_merging_other_label_spaces_is_refused(label_space: LabelSpace) -> None:
    with pytest.raises(ValueError, match="label space"):
        PanopticQuality(label_space).merge(PanopticQuality(LabelSpace((Category(1, "car", True),))))


def random_pair(rng: np.random.Generator) -> tuple[PanopticSegmentation, PanopticSegmentation]:
    """A random annotation with VOID and crowds, and a copy in which a part of the pixels and categories is changed."""
    ids = rng.integers(0, 8, size=(4, 5)).repeat(2, axis=0).repeat(2, axis=1)
    categories = rng.choice([SKY, ROAD, CAR, CAR, PERSON], size=8)
    annotated = [
        Segment(i, int(c), 0, is_crowd=bool(c in (CAR, PERSON) and rng.random() < 0.4))
        for i, c in enumerate(categories)
    ]
    predicted_ids = np.where(rng.random(ids.shape) < 0.25, rng.integers(0, 8, size=ids.shape), ids)
    predicted = [Segment(i, int(c) if rng.random() < 0.8 else SKY, 0) for i, c in enumerate(categories)]
    return (
        PanopticSegmentation.from_id_map(predicted_ids, [s for s in predicted[1:] if s.id in predicted_ids]),
        PanopticSegmentation.from_id_map(ids, [s for s in annotated[1:] if s.id in ids]),
    )


def slow_matching(prediction: PanopticSegmentation, annotation: PanopticSegmentation) -> tuple[set, set, set, set]:
    """The definition, mask by mask."""
    void = annotation.id_map == 0
    masks = {segment.id: annotation.id_map == segment.id for segment in annotation.segments}
    matches, found, false_positives, ignored = set(), set(), set(), set()
    for predicted in prediction.segments:
        mask = prediction.id_map == predicted.id
        same = [segment for segment in annotation.segments if segment.category_id == predicted.category_id]
        excused = void.clone()
        for segment in same:
            if segment.is_crowd:
                excused |= masks[segment.id]
                continue
            iou = (mask & masks[segment.id]).sum().item() / ((mask & ~void) | masks[segment.id]).sum().item()
            if iou > 0.5:
                matches.add((predicted.id, segment.id, iou))
                found.add(segment.id)
        if not any(match[0] == predicted.id for match in matches):
            (ignored if 2 * (mask & excused).sum() > mask.sum() else false_positives).add(predicted.id)
    missed = {segment.id for segment in annotation.segments if not segment.is_crowd} - found
    return matches, false_positives, missed, ignored


def test_equals_the_definition_on_random_maps(label_space: LabelSpace) -> None:
    rng = np.random.default_rng(0)
    totals = np.zeros(4, dtype=int)
    for _ in range(200):
        prediction, annotation = random_pair(rng)
        matching = match_segments(prediction, annotation, label_space)
        ours = (matching.true_positives, matching.false_positives, matching.false_negatives, matching.ignored)
        assert tuple(map(set, ours)) == slow_matching(prediction, annotation)
        totals += [len(ids) for ids in ours]
    assert (totals > 50).all()  # nothing of this was compared in vain


def test_merging_any_split_in_any_order_is_exact(label_space: LabelSpace) -> None:
    rng = np.random.default_rng(1)
    pairs = [random_pair(rng) for _ in range(60)]
    whole = PanopticQuality(label_space)
    for pair in pairs:
        whole.update(*pair)
    for num_parts in (2, 7):
        parts = [PanopticQuality(label_space) for _ in range(num_parts)]
        for position in rng.permutation(len(pairs)):
            parts[rng.integers(num_parts)].update(*pairs[position])
        merged = pickle.loads(pickle.dumps(parts[0]))
        for part in parts[1:]:
            before = part.compute()
            merged.merge(pickle.loads(pickle.dumps(part)))
            assert part.compute() == before
        assert merged.compute() == whole.compute()  # to the last bit
    assert whole.compute().all is not None


def test_equals_hotcoco_on_photos(photos, hotcoco_evaluation) -> None:
    reference = hotcoco_evaluation.results()
    metric = PanopticQuality(photos.label_space)
    ignored_on_crowds = 0
    for _, prediction, annotation in photos.pairs:
        crowds = [segment for segment in annotation.segments if segment.is_crowd]
        # hotcoco keeps the reference's rule for two crowds of one category, which is not ours; no photo here has them
        assert len({crowd.category_id for crowd in crowds}) == len(crowds)
        metric.update(prediction, annotation)
        for id_ in match_segments(prediction, annotation, photos.label_space).ignored:
            under = annotation.id_map[prediction.id_map == id_]
            ignored_on_crowds += bool((under == 0).float().mean() <= 0.5)
    assert ignored_on_crowds > 0

    result = metric.compute()
    for ours, theirs in [(result.all, "All"), (result.things, "Things"), (result.stuff, "Stuff")]:
        assert ours is not None
        for name in ("pq", "sq", "rq"):
            assert getattr(ours, name) == pytest.approx(reference[theirs][name], abs=1e-12)
        assert ours.num_categories == reference[theirs]["n"]
    for category_id, theirs in reference["per_class"].items():
        ours = result.per_category.get(category_id)
        if ours is None:
            assert theirs["pq"] == -1
            continue
        for name in ("pq", "sq", "rq"):
            assert getattr(ours, name) == pytest.approx(theirs[name], abs=1e-12)
        assert (ours.true_positives, ours.false_positives, ours.false_negatives) == (
            theirs["tp"],
            theirs["fp"],
            theirs["fn"],
        )
