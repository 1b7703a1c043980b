"""Evaluation: figures worked out by hand for predictions made by hand."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapes_layout import write_cityscapes_layout
from PIL import Image
from torch import Tensor

from tascnet.build import build_dataset
from tascnet.config import Config, DatasetConfig, FusionOptions, InputConfig
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import Streets
from tascnet.errors import InputError, MemoryShortError
from tascnet.evaluation import evaluate as module
from tascnet.evaluation.evaluate import (
    FIXED_CASE_SIDE,
    draw_cases,
    evaluate,
    evaluate_checkpoint,
    evaluate_part,
    fixed_cases,
    join_parts,
    write_cases,
)
from tascnet.evaluation.report import Report
from tascnet.evaluation.writing import to_markdown
from tascnet.fusion import Dropped
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.metrics import CityscapesAveragePrecision
from tascnet.planes.plane import Plane
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Segment, Size

SKY, GRASS, BIRD = 3, 7, 90
SPACE = LabelSpace(
    (
        Category(BIRD, "bird", True, (200, 0, 0)),
        Category(SKY, "sky", False, (0, 0, 200)),
        Category(GRASS, "grass", False, (0, 200, 0)),
    )
)
NO_INSTANCES = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 28, 28))


@dataclass
class Case:
    annotation: PanopticSegmentation
    prediction: PanopticSegmentation
    instances: Instances = NO_INSTANCES
    semantic: PanopticSegmentation | None = None  # what the stuff head says; None for the same as the prediction


class Cases:
    """A data set of pictures: the first of the value 0, the second of the value 1, ..."""

    label_space = SPACE

    def __init__(self, *cases: Case):
        self.cases = cases

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: int) -> Sample:
        annotation = self.cases[index].annotation
        image = torch.full((3, *annotation.size), index, dtype=torch.uint8)
        return Sample(image, annotation, f"picture {index}", index)


class KnowsTheAnswer:
    """Predicts what the case of that picture says."""

    label_space = SPACE

    def __init__(self, *cases: Case):
        self.cases = cases

    def predict(self, image: Tensor) -> Result:
        case = self.cases[int(image[0, 0, 0])]
        result = Result(image, case.prediction, case.instances, SPACE, Dropped(1, 2, 3))
        semantic = case.prediction if case.semantic is None else case.semantic
        vars(result).update(semantic=semantic.semantic_map(SPACE).clamp(min=0), uncertainty=0.25)
        vars(result).update(residual=Plane.covering(torch.zeros(2, 2)))
        return result


def segmentation(ids: Tensor, *segments: tuple[int, int]) -> PanopticSegmentation:
    """Ids and (id, category)s."""
    return PanopticSegmentation.from_id_map(ids, [Segment(i, category, 0) for i, category in segments])


class ShortOfMemory(Result):
    """A result whose semantic map does not fit into the memory."""

    @cached_property
    def semantic(self) -> Tensor:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes.")


class ShortOfMemoryAtTheSecond(KnowsTheAnswer):
    def predict(self, image: Tensor) -> Result:
        if int(image[0, 0, 0]) != 1:
            return super().predict(image)
        return ShortOfMemory(image, HALVES, NO_INSTANCES, SPACE, Dropped())


def test_memory_that_runs_out_behind_the_prediction_skips_that_image_only():
    cases = (PERFECT, PERFECT, PERFECT)
    predictor = ShortOfMemoryAtTheSecond(*cases)
    report = evaluate(predictor, Cases(*cases), on_bad_sample="skip")  # type: ignore[arg-type]
    assert list(report.left_out) == [1]
    assert report.left_out[1].startswith("picture 1: memory ran out while an image of 4 x 8 pixels")
    assert report.num_images == 2
    with pytest.raises(MemoryShortError, match="picture 1: memory ran out"):
        evaluate(predictor, Cases(*cases))  # type: ignore[arg-type]


def evaluate_cases(*cases: Case) -> Report:
    return evaluate(KnowsTheAnswer(*cases), Cases(*cases))  # type: ignore[arg-type]


def left_and_right(left: int, right: int, columns: int = 4) -> Tensor:
    """(4, 8): `left` in the first columns, `right` in the others."""
    ids = torch.full((4, 8), right)
    ids[:, :columns] = left
    return ids


HALVES = segmentation(left_and_right(1, 2), (1, SKY), (2, GRASS))
ONLY_SKY = segmentation(torch.ones(4, 8, dtype=torch.int64), (1, SKY))
SIX_COLUMNS_OF_SKY = segmentation(left_and_right(1, 2, columns=6), (1, SKY), (2, GRASS))
NOTHING = segmentation(torch.zeros(4, 8, dtype=torch.int64))

PERFECT = Case(HALVES, HALVES)
WORSE = Case(ONLY_SKY, SIX_COLUMNS_OF_SKY)
EMPTY = Case(NOTHING, NOTHING)


def bird_case() -> Case:
    """A bird of 40 x 40 pixels on grass, found exactly."""
    ids = torch.full((64, 64), 1)
    ids[10:50, 20:60] = 2
    bird = Instances(
        boxes=torch.tensor([[20.0, 10.0, 60.0, 50.0]]),
        labels=torch.tensor([0]),
        scores=torch.tensor([0.9]),
        masks=torch.ones(1, 28, 28),
    )
    annotation = segmentation(ids, (1, GRASS), (2, BIRD))
    return Case(annotation, annotation, bird)


class TestFigures:
    def test_the_annotation_itself_is_perfect(self):
        report = evaluate_cases(bird_case(), PERFECT)
        values = report.to_dict()
        for quality in ("pq", "sq", "rq"):
            assert values[quality] == {
                "all": 100.0,
                "things": 100.0,
                "stuff": 100.0,
                "per_category": {"bird": 100.0, "sky": 100.0, "grass": 100.0},
            }
        assert values["miou"] == 100.0
        assert values["ap"]["ap"] == pytest.approx(100)
        assert values["ap"]["ap50"] == pytest.approx(100)
        assert values["images"] == 2
        assert values["pq_of_image"] == {"picture 0": 100.0, "picture 1": 100.0}
        assert values["mean_doubt"] == 0.25
        assert values["dropped_by_fusion"] == {"low_score": 2, "overlap": 4, "small_stuff": 6}
        assert values["seconds_per_image"] > 0

    def test_a_figure_for_everything_that_went_wrong(self):
        values = evaluate_cases(PERFECT, WORSE).to_dict()
        # sky: found twice, with IoU 1 and 24 / 32. Grass: found once with IoU 1, and once where there is none.
        assert values["sq"]["per_category"] == {"sky": 87.5, "grass": 100.0}
        assert values["rq"]["per_category"] == pytest.approx({"sky": 100.0, "grass": 100 / 1.5})
        assert values["pq"]["per_category"] == pytest.approx({"sky": 87.5, "grass": 100 / 1.5})
        assert values["pq"]["all"] == values["pq"]["stuff"] == pytest.approx((87.5 + 100 / 1.5) / 2)
        assert values["pq"]["things"] is None
        # IoU over all pixels: sky (16 + 24) / (16 + 32), grass 16 / (16 + 8)
        assert values["iou_per_category"] == pytest.approx({"sky": 500 / 6, "grass": 200 / 3})
        assert values["miou"] == pytest.approx(75)
        assert values["ap"]["ap"] is None
        # of the second picture alone: sky 3/4, grass 0
        assert values["pq_of_image"] == {"picture 0": 100.0, "picture 1": 37.5}

    def test_the_stuff_head_and_the_fused_result_are_measured_apart(self):
        values = evaluate_cases(Case(HALVES, ONLY_SKY, semantic=SIX_COLUMNS_OF_SKY)).to_dict()
        # the stuff head: sky 16 / 24, grass 8 / 16; fused: sky 16 / 32, grass 0
        assert values["iou_per_category"] == pytest.approx({"sky": 200 / 3, "grass": 50})
        assert values["miou"] == pytest.approx(175 / 3)
        assert values["iou_panoptic_per_category"] == {"sky": 50, "grass": 0}
        assert values["miou_panoptic"] == 25

    def test_nothing_annotated_and_nothing_found(self):
        report = evaluate_cases(EMPTY)
        assert set(report.summary().values()) == {None}
        assert report.pq_of_image == {"picture 0": None}
        assert json.loads(json.dumps(report.to_dict()))["pq"]["all"] is None

    def test_the_headline_figures(self):
        summary = evaluate_cases(PERFECT, WORSE).summary()
        assert summary == pytest.approx(
            {"pq": 925 / 12, "pq_things": None, "pq_stuff": 925 / 12, "miou": 75, "ap": None}
        )

    def test_progress_is_told_after_each_picture(self):
        told = []
        evaluate(KnowsTheAnswer(PERFECT, WORSE), Cases(PERFECT, WORSE), lambda *done: told.append(done))
        assert told == [(1, 2), (2, 2)]

    def test_an_empty_data_set(self):
        with pytest.raises(InputError, match=r"the data set to evaluate on has no images; check data\.val"):
            evaluate_cases()


class TestFiles:
    def test_the_best_and_the_worst_are_drawn(self, tmp_path: Path):
        cases = (WORSE, EMPTY, PERFECT)
        predictor, dataset = KnowsTheAnswer(*cases), Cases(*cases)
        paths = write_cases(evaluate_cases(*cases), predictor, dataset, tmp_path, number=1)  # type: ignore[arg-type]
        assert sorted(path.name for path in paths) == ["best.png", "worst.png"]
        for name, index in (("worst", 0), ("best", 2)):
            drawn = np.asarray(Image.open(tmp_path / f"{name}.png"))
            assert np.array_equal(drawn, draw_cases(predictor, [dataset[index]]))  # type: ignore[arg-type]
        assert not np.array_equal(*(np.asarray(Image.open(path)) for path in paths))

    @pytest.mark.parametrize(
        ("number", "indices"),
        [(0, []), (1, [0]), (2, [0, 2]), (3, [0, 1, 3]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])],
    )
    def test_fixed_cases_are_spread_evenly(self, number: int, indices: list[int]):
        cases = (PERFECT, WORSE, EMPTY, PERFECT, WORSE)
        predictor, dataset = KnowsTheAnswer(*cases), Cases(*cases)
        drawn = fixed_cases(predictor, dataset, number)  # type: ignore[arg-type]
        assert list(drawn) == [f"picture {index}" for index in indices]
        for index in indices:
            assert np.array_equal(drawn[f"picture {index}"], draw_cases(predictor, [dataset[index]]))  # type: ignore[arg-type]

    def test_fixed_cases_are_small(self):
        blank = segmentation(torch.zeros(300, 1200, dtype=torch.int64))
        cases = (Case(blank, blank),)
        (drawn,) = fixed_cases(KnowsTheAnswer(*cases), Cases(*cases), 1).values()  # type: ignore[arg-type]
        height, width, _ = drawn.shape
        assert 5 * FIXED_CASE_SIDE < width < 5.3 * FIXED_CASE_SIDE
        assert FIXED_CASE_SIDE // 4 < height < FIXED_CASE_SIDE // 2

    def test_where_no_picture_has_a_figure_none_is_drawn(self, tmp_path: Path):
        assert write_cases(evaluate_cases(EMPTY), KnowsTheAnswer(EMPTY), Cases(EMPTY), tmp_path) == []  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []


class WithHoles(Cases):
    """The same, but some pictures cannot be read."""

    def __init__(self, *cases: Case, broken: set[int]):
        super().__init__(*cases)
        self.broken = broken

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise InputError(f"photo {index} is cut short.")
        return super().__getitem__(index)


class TestUnreadablePictures:
    cases = (WORSE, PERFECT, EMPTY, PERFECT, WORSE)

    def evaluate(self, broken: set[int], parts: int = 1) -> Report:
        dataset, predictor = WithHoles(*self.cases, broken=broken), KnowsTheAnswer(*self.cases)
        found = [evaluate_part(predictor, dataset, part, parts, on_bad_sample="skip") for part in range(parts)]  # type: ignore[arg-type]
        return join_parts(found, dataset)

    def test_one_ends_the_evaluation_unless_told_otherwise(self):
        dataset = WithHoles(*self.cases, broken={1})
        with pytest.raises(InputError, match=r"^photo 1 is cut short.$"):
            evaluate(KnowsTheAnswer(*self.cases), dataset)  # type: ignore[arg-type]

    @pytest.mark.parametrize("parts", [1, 2, 5])
    def test_it_is_left_out_and_told(self, parts: int):
        report = self.evaluate({0, 3}, parts)
        left = [self.cases[index] for index in (1, 2, 4)]
        assert report.panoptic == evaluate_cases(*left).panoptic
        assert list(report.pq_of_image) == ["picture 1", "picture 2", "picture 4"]
        assert report.mean_doubt == 0.25
        assert report.dropped == Dropped(3, 6, 9)
        assert report.left_out == {0: "photo 0 is cut short.", 3: "photo 3 is cut short."}
        (note,) = report.notes
        assert note.startswith("2 of 5 pictures could not be read and were left out of the measurement: photo 0 is cut")
        assert report.to_dict()["left_out"] == ["photo 0 is cut short.", "photo 3 is cut short."]

    def test_the_others_are_drawn(self, tmp_path: Path):
        dataset, predictor = WithHoles(*self.cases, broken={0, 3}), KnowsTheAnswer(*self.cases)
        report = self.evaluate({0, 3})
        write_cases(report, predictor, dataset, tmp_path, number=1)  # type: ignore[arg-type]
        for name, index in (("worst", 4), ("best", 1)):
            drawn = np.asarray(Image.open(tmp_path / f"{name}.png"))
            assert np.array_equal(drawn, draw_cases(predictor, [dataset[index]]))  # type: ignore[arg-type]
        assert list(fixed_cases(predictor, dataset, 2, report.left_out)) == ["picture 1", "picture 2"]  # type: ignore[arg-type]

    def test_none_can_be_read(self):
        with pytest.raises(InputError, match=r"no picture of the data set to evaluate on can be read.*photo 0 is cut"):
            self.evaluate({0, 1, 2, 3, 4}, parts=2)


class TestCheckpoint:
    def evaluate(self, run: Path, output: Path | None, data: dict, fusion: dict) -> tuple[Report, Path]:
        return evaluate_checkpoint(run, data, fusion, output, "cpu")

    def test_beside_the_run_unless_told_otherwise(self, tiny_run: Path, tmp_path: Path):
        run = tmp_path / "run"
        shutil.copytree(tiny_run, run)
        report, folder = self.evaluate(run, None, {}, {})
        assert folder == run / "evaluation"
        assert sorted(path.name for path in folder.iterdir()) == ["best.png", "report.json", "report.md", "worst.png"]
        assert report.num_images == 2
        assert (run / "report.json").read_bytes() == (tiny_run / "report.json").read_bytes()

    def test_of_the_run_s_data_set_other_pictures(self, tiny_run: Path, tmp_path: Path):
        report, _ = self.evaluate(tiny_run, tmp_path, {"num_images": 1, "first": 1001}, {})
        trained = json.loads((tiny_run / "report.json").read_text())
        # the run's second picture; all else is as in the run
        name = list(trained["pq_of_image"])[1]
        assert report.to_dict()["pq_of_image"] == {name: trained["pq_of_image"][name]}

    def test_fusion_as_in_the_run_but_for_what_is_given(
        self, tiny_run: Path, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        used: list[FusionOptions] = []

        class Noting(Predictor):
            def __init__(self, model, label_space: LabelSpace, inputs: InputConfig, fusion: FusionOptions):
                used.append(fusion)
                super().__init__(model, label_space, inputs, fusion)

        monkeypatch.setattr(module, "Predictor", Noting)
        self.evaluate(tiny_run, tmp_path, {"num_images": 1}, {"unclaimed": "stuff"})
        assert used == [replace(tiny_config().fusion, unclaimed="stuff")]

    def test_coco_files_of_the_same_categories(self, tiny_run: Path, tiny_coco: Path, tmp_path: Path):
        data = {"format": "coco", "root": str(tiny_coco), "split": "mini", "num_images": 0}
        report, _ = self.evaluate(tiny_run, tmp_path, data, {})
        assert report.num_images == 3

    def test_other_categories(self, tiny_run: Path, tiny_coco: Path, tmp_path: Path):
        data = {"format": "coco", "root": str(tiny_coco), "split": "mini", "group_by": "supercategory"}
        with pytest.raises(InputError, match=r"step_000002 was trained for \d+ categories, the data set has \d+; "):
            self.evaluate(tiny_run, tmp_path / "out", data, {})
        assert not (tmp_path / "out").exists()

    def test_a_data_set_without_a_place(self, tiny_run: Path, tmp_path: Path):
        with pytest.raises(InputError, match=r"data has format coco and needs data.root and data.split; give it"):
            self.evaluate(tiny_run, tmp_path / "out", {"format": "coco"}, {})

    def test_a_fusion_that_cannot_be(self, tiny_run: Path, tmp_path: Path):
        with pytest.raises(InputError, match="score_threshold is 7"):
            self.evaluate(tiny_run, tmp_path / "out", {}, {"score_threshold": 7})
        assert not (tmp_path / "out").exists()

    def test_a_folder_that_cannot_be_made(self, tiny_run: Path, tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot make the folder"):
            self.evaluate(tiny_run, tmp_path / "file" / "out", {}, {})


class TestOnDataSets:
    def test_what_is_not_measured_is_said(self, tiny_run: Path, tiny_coco: Path, tmp_path: Path):
        root = shutil.copytree(tiny_coco, tmp_path / "coco")
        json_path = root / "annotations" / "panoptic_mini.json"
        content = json.loads(json_path.read_text())
        del content["annotations"][0]
        json_path.write_text(json.dumps(content))
        asked = DatasetConfig(format="coco", root=str(root), split="mini", num_images=1)
        report = evaluate(Predictor.from_checkpoint(tiny_run), build_dataset(asked))
        assert report.num_images == 1
        assert report.notes == (
            "Only the first 1 of 2 pictures were measured.",
            "1 of 3 photos of the data set have no annotation and were not measured: street_0_000000.png.",
        )
        assert evaluate(Predictor.from_checkpoint(tiny_run), Streets(1, Size(64, 128))).notes == ()

    def test_cityscapes_are_measured_by_their_own_rules(
        self, cityscapes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """Also behind what shortens the data set, numbered caravans are no void: 8 x 40 pixels in each picture."""
        voids = []

        class Recorder(CityscapesAveragePrecision):
            def update(self, prediction, annotation, name, void=None):
                voids.append((int(void.sum()), int((annotation.id_map == 0).sum())))
                super().update(prediction, annotation, name, void)

        monkeypatch.setattr(module, "CityscapesAveragePrecision", Recorder)
        write_cityscapes_layout(tmp_path)
        dataset = build_dataset(DatasetConfig(format="cityscapes", root=str(tmp_path), split="val", num_images=2))
        report = evaluate(Predictor.from_checkpoint(cityscapes_run), dataset)
        assert voids == [(0, 320), (0, 320)]
        assert report.cityscapes_ap is not None
        assert report.to_dict()["cityscapes_ap"]["per_category"].keys() == {"car"}
        assert "Cityscapes AP" in to_markdown(report, "tascnet evaluate", {})
