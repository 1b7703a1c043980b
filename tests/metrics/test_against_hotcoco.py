"""PQ beside hotcoco where the photos have little to say: crowds, VOID, groups that are absent."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tascnet.data.formats.coco import encode_ids
from tascnet.data.images import write_png
from tascnet.metrics import PanopticQuality, PanopticQualityResult, match_segments
from tascnet.structures import VOID, LabelSpace, PanopticSegmentation, Segment

SKY, CAR = 7, 0
Draw = Callable[..., PanopticSegmentation]
Pairs = list[tuple[PanopticSegmentation, PanopticSegmentation]]


def ask_hotcoco(pairs: Pairs, label_space: LabelSpace, folder: Path) -> dict:
    """hotcoco's results for predictions and annotations, through files as COCO's own code reads them."""
    from hotcoco.panoptic import PanopticEval

    entries: dict[str, list] = {"prediction": [], "annotation": []}
    for number, pair in enumerate(pairs):
        for role, segmentation in zip(entries, pair, strict=True):
            write_png(folder / role / f"{number}.png", encode_ids(segmentation.id_map))
            segments = [
                {"id": s.id, "category_id": s.category_id, "area": s.area, "iscrowd": int(s.is_crowd)}
                for s in segmentation.segments
            ]
            entries[role].append({"image_id": number, "file_name": f"{number}.png", "segments_info": segments})
    images = [{"id": number, "height": a.size.height, "width": a.size.width} for number, (_, a) in enumerate(pairs)]
    evaluation = PanopticEval(
        {"images": images, "categories": label_space.to_list(), "annotations": entries["annotation"]},
        {"annotations": entries["prediction"]},
        gt_folder=folder / "annotation",
        pred_folder=folder / "prediction",
    )
    evaluation.evaluate()
    results: dict = evaluation.results()
    return results


def compute(pairs: Pairs, label_space: LabelSpace) -> PanopticQualityResult:
    metric = PanopticQuality(label_space)
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def assert_equal(ours: PanopticQualityResult, theirs: dict) -> None:
    for group, name in [(ours.all, "All"), (ours.things, "Things"), (ours.stuff, "Stuff")]:
        assert (0 if group is None else group.num_categories) == theirs[name]["n"]
        for figure in ("pq", "sq", "rq") if group else ():
            assert getattr(group, figure) == pytest.approx(theirs[name][figure], abs=1e-12)
    for category_id, expected in theirs["per_class"].items():
        quality = ours.per_category.get(category_id)
        counts = (expected["tp"], expected["fp"], expected["fn"])
        if quality is None:
            assert counts == (0, 0, 0)
            continue
        assert (quality.true_positives, quality.false_positives, quality.false_negatives) == counts
        for figure in ("pq", "sq", "rq"):
            assert getattr(quality, figure) == pytest.approx(expected[figure], abs=1e-12)


def halved(segmentation: PanopticSegmentation) -> PanopticSegmentation:
    """Every second pixel."""
    ids = segmentation.id_map.numpy()[::2, ::2]
    return PanopticSegmentation.from_id_map(ids, [s for s in segmentation.segments if (ids == s.id).any()])


def crowded(
    annotation: PanopticSegmentation, label_space: LabelSpace, rng: np.random.Generator
) -> PanopticSegmentation:
    """All things of some categories in one crowd each, and a quarter of the picture VOID."""
    ids = annotation.id_map.numpy().copy()
    height, width = ids.shape
    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
    ids[top : top + height // 2, left : left + width // 2] = VOID
    things = sorted({s.category_id for s in annotation.segments if label_space[s.category_id].is_thing})
    crowds = {category_id for category_id in things if rng.random() < 0.6}
    crowd_of: dict[int, int] = {}
    segments = []
    for segment in annotation.segments:
        if segment.category_id not in crowds:
            segments.append(segment)
        elif segment.category_id in crowd_of:
            ids[ids == segment.id] = crowd_of[segment.category_id]
        else:
            crowd_of[segment.category_id] = segment.id
            segments.append(Segment(segment.id, segment.category_id, 0, is_crowd=True))
    return PanopticSegmentation.from_id_map(ids, [s for s in segments if (ids == s.id).any()])


def test_many_crowds_and_much_void(photos, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = []
    reasons: Counter[str] = Counter()
    for _, prediction, annotation in photos.pairs[:60]:
        pair = halved(prediction), crowded(halved(annotation), photos.label_space, rng)
        pairs.append(pair)
        reasons["crowds"] += sum(segment.is_crowd for segment in pair[1].segments)
        matching = match_segments(*pair, photos.label_space)
        for id_ in matching.ignored:
            under = pair[1].id_map[pair[0].id_map == id_]
            reasons["ignored for VOID" if (under == VOID).float().mean() > 0.5 else "ignored for a crowd"] += 1
        reasons["false alarms"] += len(matching.false_positives)
        reasons["matches that reach over VOID"] += sum(
            bool((pair[1].id_map[pair[0].id_map == match.prediction_id] == VOID).any())
            for match in matching.true_positives
        )
    assert min(reasons.values()) >= 20, reasons  # nothing of this was compared in vain
    assert len(reasons) == 5
    assert_equal(compute(pairs, photos.label_space), ask_hotcoco(pairs, photos.label_space, tmp_path))


def test_crowds_in_pieces_are_the_crowd(photos, tmp_path: Path) -> None:
    """Where a category has several crowds, hotcoco, like the official code, is wrong: it is asked about one instead."""
    rng = np.random.default_rng(1)
    whole, in_pieces = [], []
    for _, prediction, annotation in photos.pairs[:40]:
        prediction, annotation = halved(prediction), crowded(halved(annotation), photos.label_space, rng)
        whole.append((prediction, annotation))
        ids, segments = annotation.id_map.numpy().copy(), list(annotation.segments)
        for crowd in [segment for segment in segments if segment.is_crowd]:
            columns = np.nonzero(ids == crowd.id)[1]
            new_id = max(segment.id for segment in segments) + 1
            ids[(ids == crowd.id) & (np.arange(ids.shape[1]) > np.median(columns))] = new_id
            if (ids == new_id).any():
                segments.append(Segment(new_id, crowd.category_id, 0, is_crowd=True))
        in_pieces.append((prediction, PanopticSegmentation.from_id_map(ids, segments)))
    ours = compute(in_pieces, photos.label_space)
    assert ours == compute(whole, photos.label_space)
    assert_equal(ours, ask_hotcoco(whole, photos.label_space, tmp_path / "whole"))
    asked_about_pieces = ask_hotcoco(in_pieces, photos.label_space, tmp_path / "in pieces")
    with pytest.raises(AssertionError):
        assert_equal(ours, asked_about_pieces)


def test_of_several_crowds_the_reference_knows_the_last(draw: Draw, label_space: LabelSpace, tmp_path: Path) -> None:
    annotation = draw("bbbbss dddsss", crowds="bd", b=CAR, s=SKY, d=CAR)
    prediction = draw("aaaass dddsss", a=CAR, s=SKY, d=CAR)  # each of the two cars lies on a crowd
    theirs = ask_hotcoco([(prediction, annotation)], label_space, tmp_path)
    assert theirs["per_class"][CAR]["fp"] == 1
    assert match_segments(prediction, annotation, label_space).false_positives == ()


@pytest.mark.parametrize("is_thing", [True, False])
def test_groups_that_are_absent(photos, is_thing: bool, tmp_path: Path) -> None:
    def only(segmentation: PanopticSegmentation) -> PanopticSegmentation:
        kept = [s for s in segmentation.segments if photos.label_space[s.category_id].is_thing == is_thing]
        ids = segmentation.id_map.numpy()
        return PanopticSegmentation.from_id_map(np.where(np.isin(ids, [s.id for s in kept]), ids, VOID), kept)

    pairs = [(only(halved(prediction)), only(halved(annotation))) for _, prediction, annotation in photos.pairs[:10]]
    ours, theirs = compute(pairs, photos.label_space), ask_hotcoco(pairs, photos.label_space, tmp_path)
    assert (ours.stuff if is_thing else ours.things) is None
    assert ours.all == (ours.things if is_thing else ours.stuff)
    assert ours.all is not None
    assert ours.all.num_categories > 5
    assert_equal(ours, theirs)
