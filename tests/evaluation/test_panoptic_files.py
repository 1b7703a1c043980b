"""Files of predictions and annotations: what is measured, and what is said where they are not what they should be."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from tascnet.data.formats.coco import CocoPanoptic, write_coco_panoptic
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.evaluation.panoptic_files import compare_files
from tascnet.evaluation.report import Report
from tascnet.metrics import SegmentationMetrics
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SKY, CAR = 7, 0
SPACE = LabelSpace((Category(CAR, "car", True), Category(SKY, "sky", False)))
NUM_PICTURES = 11  # more than one task of a worker


class Files(NamedTuple):
    predictions: Path
    annotations: Path

    def change(self, which: str, change: Callable[[dict], object]) -> None:
        path = getattr(self, which)
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def picture(number: int, columns: int) -> Sample:
    """(6, 16): a car over the first columns, the sky over the rest."""
    ids = torch.full((6, 16), 3)
    ids[:, :columns] = 5
    segmentation = PanopticSegmentation.from_id_map(ids, [Segment(5, CAR, 0), Segment(3, SKY, 0)])
    return Sample(torch.zeros(3, 6, 16), segmentation, f"photo {number:02d}", number)


ANNOTATED = [picture(number, 8) for number in range(NUM_PICTURES)]
PREDICTED = [picture(number, number % 4 + 5) for number in range(NUM_PICTURES)]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    found = Files(tmp_path / "predicted.json", tmp_path / "truth" / "annotated.json")
    write_coco_panoptic(found.predictions, SPACE, reversed(PREDICTED))
    write_coco_panoptic(found.annotations, SPACE, ANNOTATED)
    return found


def in_memory(predicted: list[PanopticSegmentation]):
    metrics = SegmentationMetrics(SPACE)
    for prediction, sample in zip(predicted, ANNOTATED, strict=True):
        metrics.update(prediction, sample.segmentation, sample.name)
    return metrics.compute()


EXPECTED = in_memory([sample.segmentation for sample in PREDICTED])


class TestFigures:
    def test_are_those_of_the_arrays(self, files: Files):
        report = compare_files(*files)
        assert report.segmentation == EXPECTED  # to the last bit
        assert report.notes == ()
        assert list(report.segmentation.pictures) == [sample.name for sample in ANNOTATED]
        values = report.to_dict()
        # cars: 5/8, 6/8, 7/8 and 1 in turn over 11 pictures, all matched; sky: 8/11, 8/10, 8/9, 1
        assert values["sq"]["per_category"]["car"] == pytest.approx(100 * (3 * 5 / 8 + 3 * 6 / 8 + 3 * 7 / 8 + 2) / 11)
        assert values["rq"]["all"] == 100
        assert values["miou_panoptic"] < 100
        assert not {"ap", "miou", "seconds_per_image", "mean_doubt"} & values.keys()

    def test_do_not_depend_on_the_processes(self, files: Files):
        def spoil(content: dict) -> None:
            for entry in content["annotations"]:
                entry["segments_info"][0]["area"] += 1
            del content["annotations"][5]

        files.change("predictions", spoil)
        report = compare_files(*files, missing="empty", workers=2)
        assert report == compare_files(*files, missing="empty")  # to the last bit
        assert [note.split()[0] for note in report.notes] == ["1", str(files.predictions)]
        assert "wrong areas for 10 segments" in report.notes[1]

    def test_of_predictions_that_list_nothing_but_annotations(self, files: Files):
        """As the format of COCO's results has it."""

        def strip(content: dict) -> None:
            del content["images"], content["categories"]
            for entry in content["annotations"]:
                for segment in entry["segments_info"]:
                    for key in segment.keys() - {"id", "category_id"}:
                        del segment[key]

        files.change("predictions", strip)
        report = compare_files(*files)
        assert (report.segmentation, report.notes) == (EXPECTED, ())

    def test_of_files_in_other_folders(self, files: Files, tmp_path: Path):
        for path, name in zip(files, ("a", "b"), strict=True):
            path.with_suffix("").rename(tmp_path / name)
        with pytest.raises(InputError, match=r"the folder .*predicted does not exist; .*predicted.json refers to"):
            compare_files(*files)
        assert compare_files(*files, tmp_path / "a", tmp_path / "b").segmentation == EXPECTED

    def test_of_real_photos(self, shared_data: Path, tmp_path: Path):
        annotations = shared_data / "coco_mini" / "annotations" / "panoptic_val2017.json"
        dataset = CocoPanoptic(annotations)
        folder = annotations.with_suffix("")
        perfect = compare_files(annotations, annotations, folder, folder)
        assert perfect.num_images == len(dataset) == 50
        assert set(perfect.pq_of_image.values()) == {1.0}
        assert perfect.panoptic.all == perfect.segmentation.boundary.all
        assert perfect.panoptic.all is not None
        assert perfect.panoptic.all.pq == 1


class TestAreas:
    @staticmethod
    def lie(content: dict) -> None:
        for entry in content["annotations"][:3]:
            entry["segments_info"][0]["area"] //= 10

    @pytest.mark.parametrize("which", ["predictions", "annotations"])
    def test_that_lie_change_nothing_and_are_told(self, files: Files, which: str):
        files.change(which, self.lie)
        report = compare_files(*files)
        assert report.segmentation == EXPECTED
        (note,) = report.notes
        assert note == (
            f"{getattr(files, which)} gives wrong areas for 3 segments; the pixels of the PNG files were counted."
        )


class TestMissing:
    @pytest.fixture
    def lacking(self, files: Files) -> Files:
        def drop(content: dict) -> None:
            content["annotations"] = [e for e in content["annotations"] if e["image_id"] not in (4, 9)]

        files.change("predictions", drop)
        return files

    def test_predictions_are_named(self, lacking: Files):
        with pytest.raises(InputError) as caught:
            compare_files(*lacking)
        assert str(caught.value) == (
            f"{lacking.predictions} has no prediction for 2 of 11 annotated pictures: photo 04, photo 09. "
            "Complete it, or count them as empty: --missing empty."
        )

    def test_predictions_count_as_empty_if_told_so(self, lacking: Files):
        report = compare_files(*lacking, missing="empty")
        nothing = PanopticSegmentation.from_id_map(torch.zeros(6, 16, dtype=torch.int32), ())
        predicted = [nothing if number in (4, 9) else sample.segmentation for number, sample in enumerate(PREDICTED)]
        assert report.segmentation == in_memory(predicted)
        assert report.pq_of_image["photo 04"] == report.pq_of_image["photo 09"] == 0
        assert report.notes == ("2 of 11 predictions are missing and count as empty: photo 04, photo 09.",)
        assert report.to_dict()["notes"] == list(report.notes)

    def test_of_many_the_first_are_named(self, files: Files, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr("tascnet.evaluation.panoptic_files.MAX_NAMES", 3)
        files.change("predictions", lambda content: content.update(annotations=content["annotations"][:1]))
        with pytest.raises(InputError, match=r"for 10 of 11 .*: photo 00, photo 01, photo 02 and 7 more"):
            compare_files(*files)

    def test_png(self, files: Files):
        path = files.predictions.with_suffix("") / "photo 04.png"
        path.unlink()
        with pytest.raises(InputError, match=r"photo 04\.png does not exist"):  # from another process, too
            compare_files(*files, missing="empty", workers=1)


def first(content: dict) -> Any:
    return content["annotations"][0]


class TestWrongInput:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda c: first(c).update(image_id=99), r"predictions for 1 pictures that are not annotated: image_id 99"),
            (lambda c: first(c).update(image_id="4"), r"that are not annotated: image_id '4'"),
            (lambda c: first(c).update(image_id=[4]), "a value of the wrong kind"),
            (lambda c: first(c).update(image_id=3), "image id 3 is annotated twice"),
            (lambda c: first(c).pop("image_id"), "annotation number 0 lacks image_id"),
            (lambda c: c.pop("annotations"), "has no list 'annotations'"),
            (lambda c: c["annotations"].clear(), "has no annotations"),
            (lambda c: first(c)["segments_info"][0].update(category_id=5), "category 5, which the file does not list"),
            (lambda c: first(c)["segments_info"].pop(), r"photo 10\.png disagrees with .*predicted\.json: ids 3"),
            (lambda c: first(c)["segments_info"][0].update(id=77), r"disagrees with .*predicted\.json"),
            (lambda c: c["categories"][0].update(name="bus"), r"^category 0 is 'bus' in .*predicted\.json, but 'car'"),
            (lambda c: c.update(categories=[3]), "a value of the wrong kind"),
        ],
    )
    def test_predictions_that_cannot_be_used(self, files: Files, change: Callable[[dict], object], message: str):
        files.change("predictions", change)
        with pytest.raises(InputError, match=message):
            compare_files(*files)

    def test_a_png_of_another_size(self, files: Files):
        write_coco_panoptic(files.predictions.with_name("small.json"), SPACE, [halved(sample) for sample in PREDICTED])
        shutil.copytree(files.predictions.with_name("small"), files.predictions.with_suffix(""), dirs_exist_ok=True)
        with pytest.raises(InputError, match=r"photo 00\.png is 3 x 16 pixels .* says 6 x 16"):
            compare_files(*files)

    def test_files_that_are_not_there(self, files: Files, tmp_path: Path):
        with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
            compare_files(tmp_path / "nowhere.json", files.annotations)
        with pytest.raises(InputError, match=r"nowhere\.json does not exist"):
            compare_files(files.predictions, tmp_path / "nowhere.json")

    def test_a_negative_number_of_processes(self, files: Files):
        with pytest.raises(InputError, match="workers is -1; it must be 0 or more"):
            compare_files(*files, workers=-1)


def halved(sample: Sample) -> Sample:
    segmentation = PanopticSegmentation.from_id_map(sample.segmentation.id_map[::2], sample.segmentation.segments)
    return Sample(sample.image[:, ::2], segmentation, sample.name, sample.image_id)


def test_the_report_of_files_has_no_network(files: Files):
    report = compare_files(*files)
    assert isinstance(report, Report)
    assert (report.miou, report.ap, report.mean_doubt, report.seconds_per_image) == (None, None, None, None)
