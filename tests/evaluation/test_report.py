"""A report as values, as a table and as Markdown: the same figures, worked out by hand."""

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tascnet.commands.report import print_report
from tascnet.evaluation.report import NUM_WORST, Report
from tascnet.evaluation.writing import other_figures, quality_rows, to_markdown, write_report
from tascnet.fusion import Dropped
from tascnet.metrics import AveragePrecisionResult, MeanIoUResult, SegmentationMetrics
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SKY, GRASS, BIRD = 3, 7, 90
SPACE = LabelSpace((Category(BIRD, "bird", True), Category(SKY, "sky", False), Category(GRASS, "grass | lawn", False)))


def halves(left: int, right: int, columns: int) -> PanopticSegmentation:
    """(4, 8): one category in the first columns, another in the rest."""
    ids = torch.full((4, 8), 2)
    ids[:, :columns] = 1
    segments = [Segment(1, left, 0), Segment(2, right, 0)]
    return PanopticSegmentation.from_id_map(ids, [s for s in segments if (ids == s.id).any()])


def report_of(*pairs: tuple[PanopticSegmentation, PanopticSegmentation], **others) -> Report:
    metrics = SegmentationMetrics(SPACE)
    for number, pair in enumerate(pairs):
        metrics.update(*pair, f"picture {number}")
    return Report(SPACE, metrics.compute(), **others)


# sky 4 of 6 columns found, grass 2 of 2 with 2 too many: IoU 4 / 6 and 2 / 4, so grass is no match
FOUR_OF_SIX = (halves(SKY, GRASS, 4), halves(SKY, GRASS, 6))
PERFECT = (halves(BIRD, SKY, 3), halves(BIRD, SKY, 3))

REPORT = report_of(
    FOUR_OF_SIX,
    PERFECT,
    miou=MeanIoUResult(0.5, {SKY: 0.75, GRASS: 0.25}),
    ap=AveragePrecisionResult(0.4, 0.9, 0.3, 0.1, None, 0.5, {BIRD: 0.4}),
    mean_doubt=0.125,
    dropped=Dropped(7, 3, 1),
    seconds_per_image=0.256,
    notes=("Mind the gap.",),
)


class TestValues:
    def test_by_hand(self):
        values = REPORT.to_dict()
        assert values["pq"] == {
            "all": pytest.approx((100 + 100 * (4 / 6 + 1) / 2 + 0) / 3),
            "things": 100,
            "stuff": pytest.approx(100 * (4 / 6 + 1) / 4),
            "per_category": {"bird": 100, "sky": pytest.approx(100 * (4 / 6 + 1) / 2), "grass | lawn": 0},
        }
        # bands are one pixel: of 24 annotated and 16 predicted pixels of sky, 16 and 12 are in the band; they share
        # the edge of the image in the first four columns (4 + 4 + 2) and nothing more: 10 / 18
        assert values["boundary_sq"]["per_category"]["sky"] == pytest.approx(100 * (10 / 18 + 1) / 2)
        assert values["boundary_pq"]["per_category"]["bird"] == 100
        assert values["boundary_rq"]["stuff"] == 50
        # of all pixels: sky (16 + 20) / (24 + 20), grass 8 / 16, bird 1
        assert values["iou_panoptic_per_category"] == {
            "bird": 100,
            "sky": pytest.approx(100 * 36 / 44),
            "grass | lawn": 50,
        }
        assert values["miou_panoptic"] == pytest.approx((100 + 3600 / 44 + 50) / 3)
        assert values["iou_per_category"] == {"sky": 75, "grass | lawn": 25}
        assert values["ap"] == {
            "ap": 40, "ap50": 90, "ap75": 30, "ap_small": 10, "ap_medium": None, "ap_large": 50
        }  # fmt: skip
        assert values["ap_per_category"] == {"bird": 40}
        assert (values["miou"], values["images"], values["seconds_per_image"]) == (50, 2, 0.256)
        assert (values["mean_doubt"], values["notes"]) == (0.125, ["Mind the gap."])
        assert values["dropped_by_fusion"] == {"low_score": 7, "overlap": 3, "small_stuff": 1}
        assert values["pq_of_image"] == {"picture 0": pytest.approx(100 / 3), "picture 1": 100}
        assert values["worst"] == [
            {"name": "picture 0", "pq": pytest.approx(100 / 3), "pq_things": None, "pq_stuff": pytest.approx(100 / 3)},
            {"name": "picture 1", "pq": 100, "pq_things": 100, "pq_stuff": 100},
        ]

    def test_twenty_of_the_worst_are_named(self):
        pairs = [FOUR_OF_SIX if number in (3, 24) else PERFECT for number in range(25)]
        nothing = PanopticSegmentation.from_id_map(torch.zeros(4, 8, dtype=torch.int32), ())
        worst = report_of((nothing, nothing), *pairs).to_dict()["worst"]
        assert len(worst) == NUM_WORST == 20
        assert [entry["name"] for entry in worst[:3]] == ["picture 25", "picture 4", "picture 1"]
        assert "picture 0" not in {entry["name"] for entry in worst}  # there was nothing to find in it

    def test_what_was_not_measured_is_left_out(self):
        values = report_of(PERFECT).to_dict()
        assert (
            not {"miou", "iou_per_category", "ap", "ap_per_category", "mean_doubt", "dropped_by_fusion"} & values.keys()
        )
        assert "seconds_per_image" not in values
        assert report_of(PERFECT).summary() == {"pq": 100, "pq_things": 100, "pq_stuff": 100, "miou": None, "ap": None}


class TestTables:
    def test_the_rows(self):
        rows = quality_rows(REPORT)
        assert list(rows) == ["all", "things", "stuff", "  bird", "  sky", "  grass | lawn"]
        assert list(rows["all"]) == ["PQ", "SQ", "RQ", "boundary PQ", "IoU stuff head", "IoU panoptic", "AP"]
        assert rows["things"] == {
            "PQ": 100, "SQ": 100, "RQ": 100, "boundary PQ": 100, "IoU stuff head": None, "IoU panoptic": 100, "AP": 40,
        }  # fmt: skip
        values = REPORT.to_dict()
        for group in ("all", "things", "stuff"):
            for column, key in {"PQ": "pq", "SQ": "sq", "RQ": "rq", "boundary PQ": "boundary_pq"}.items():
                assert rows[group][column] == values[key][group]
        assert rows["all"]["IoU stuff head"] == values["miou"]
        assert rows["all"]["IoU panoptic"] == pytest.approx(values["miou_panoptic"], abs=1e-12)
        assert rows["all"]["AP"] == values["ap"]["ap"]
        assert rows["  sky"]["IoU stuff head"] == 75
        assert rows["stuff"]["AP"] is None

    def test_columns_of_what_was_measured_only(self):
        assert list(quality_rows(report_of(PERFECT))["all"]) == ["PQ", "SQ", "RQ", "boundary PQ", "IoU panoptic"]
        assert other_figures(report_of(PERFECT)) == {}

    def test_on_the_console(self):
        console = Console(file=StringIO(), width=100)
        print_report(REPORT, console)
        lines = [line.rstrip() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]
        assert lines[:2] == ["Note: Mind the gap.", "pictures: 2"]
        row_of = {line.split()[1]: line.replace("│", " ").split()[1:] for line in lines if line.startswith("│")}
        assert row_of["all"] == ["61.1", "61.1", "66.7", "59.3", "50.0", "77.3", "40.0"]
        assert row_of["bird"] == ["100.0", "100.0", "100.0", "100.0", "-", "100.0", "40.0"]
        assert lines[-1] == (
            "AP50 90.0   AP75 30.0   AP small 10.0   AP medium -   AP large 50.0   seconds a picture 0.26"
            "   dropped by fusion 7 low scores, 3 covered instances, 1 small stuff"
        )

    def test_in_markdown(self):
        page = to_markdown(REPORT, "tascnet evaluate run", {"format": "streets", "root": "", "first": 7})
        lines = page.splitlines()
        assert lines[0] == "# Evaluation"
        assert "**Note: Mind the gap.**" in lines
        assert "- data set: format streets, first 7" in lines
        assert "- command: `tascnet evaluate run`" in lines
        assert "- pictures: 2" in lines
        assert "- seconds a picture: 0.26" in lines
        assert "- dropped by fusion: 7 low scores, 3 covered instances, 1 small stuff" in lines
        assert "| all | 61.1 | 61.1 | 66.7 | 59.3 | 50.0 | 77.3 | 40.0 |" in lines
        assert "| grass \\| lawn | 0.0 | 0.0 | 0.0 | 0.0 | 25.0 | 50.0 | - |" in lines
        assert lines[-2:] == ["| picture 0 | 33.3 | - | 33.3 |", "| picture 1 | 100.0 | 100.0 | 100.0 |"]

    def test_nothing_to_count(self):
        nothing = PanopticSegmentation.from_id_map(torch.zeros(4, 8, dtype=torch.int32), ())
        report = report_of((nothing, nothing))
        assert quality_rows(report)["all"].keys() == {"PQ", "SQ", "RQ", "boundary PQ", "IoU panoptic"}
        assert set(quality_rows(report)["all"].values()) == {None}
        assert to_markdown(report, "", {}).endswith(
            "| picture | PQ | PQ things | PQ stuff |\n| --- | ---: | ---: | ---: |\n"
        )


def test_files(tmp_path: Path):
    dataset = {"format": "streets", "first": 7}
    path = write_report(REPORT, tmp_path / "new", "tascnet evaluate run", dataset)
    assert path == tmp_path / "new" / "report.json"
    values = json.loads(path.read_text())
    assert values == json.loads(json.dumps(REPORT.to_dict())) | {"command": "tascnet evaluate run", "dataset": dataset}
    assert {"pq", "sq", "rq", "miou", "ap", "seconds_per_image"} <= values.keys()
    assert (path.parent / "report.md").read_text() == to_markdown(REPORT, "tascnet evaluate run", dataset)


def test_ranking_breaks_ties_by_name():
    report = replace(report_of(PERFECT, FOUR_OF_SIX, FOUR_OF_SIX), notes=())
    assert [name for name, _ in report.ranking()] == ["picture 1", "picture 2", "picture 0"]
