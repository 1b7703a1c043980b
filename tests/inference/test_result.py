"""Result: computed when it is read, drawn, saved and converted, whatever the size and the segments."""

import json
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tascnet import convert, fusion
from tascnet.config import ConventionsName, FusionOptions, InputConfig
from tascnet.data.formats.coco import decode_ids
from tascnet.errors import InputError
from tascnet.inference import result as result_module
from tascnet.inference.engines.engine import HeadOutputs
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import SAVED_FILES, Result
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Segment, Size

SPACE = LabelSpace((Category(5, "天空", False), Category(9, "小鸟", True)))
NOBODY = Instances(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0), torch.zeros(0, 28, 28))
SIZES = [Size(33, 65), Size(34, 67), Size(5, 3), Size(1, 1), Size(1, 40)]


class FakeEngine:
    """Finds sky everywhere, and a bird in the left half."""

    def __call__(self, images: Tensor) -> list[HeadOutputs]:
        height, width = images.shape[2:]
        logits = torch.zeros(2, -(-height // 4), -(-width // 4))
        logits[0] = 1.0
        boxes = torch.tensor([[0.0, 0.0, width / 2, height]])
        bird = Instances(boxes, torch.tensor([0]), torch.tensor([0.9]), torch.ones(1, 28, 28))
        return [HeadOutputs(Size(height, width), logits, bird) for _ in images]


def predictor(method: str = "joint", conventions: ConventionsName = "tascnet") -> Predictor:
    fusion = FusionOptions(method=method, min_stuff_area=0)  # type: ignore[arg-type]
    return Predictor(FakeEngine(), SPACE, InputConfig(), fusion, conventions)


def image(size: Size) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)


def by_hand(size: Size, *segments: Segment) -> Result:
    """A result without a network: one row of pixels per segment, the last takes the rest."""
    ids = np.zeros(size, dtype=np.int32)
    for row, segment in enumerate(segments):
        ids[row:] = segment.id
    segmentation = PanopticSegmentation.from_id_map(ids, segments)
    return Result(torch.zeros(3, *size, dtype=torch.uint8), segmentation, NOBODY, SPACE)


@pytest.mark.parametrize("method", ["joint", "mask-guided", "unguided"])
def test_each_intermediate_is_computed_once_and_only_when_read(monkeypatch: pytest.MonkeyPatch, method: str):
    calls: list[str] = []
    for module, name in (
        (fusion, "interpolated_argmax"),
        (fusion, "rescored"),
        (result_module, "semantic_from_best"),
        (result_module, "residual"),
        (result_module, "doubt"),
        (result_module, "roi_flatten"),
    ):
        true = getattr(module, name)

        def counted(*args: object, true=true, name=name, **options: object) -> object:
            calls.append(name)
            return true(*args, **options)

        monkeypatch.setattr(module, name, counted)
    found = predictor(method).predict(image(Size(33, 65)))
    at_once = ["interpolated_argmax"] + (["rescored"] if method == "joint" else [])
    assert calls == at_once
    for _ in range(2):
        assert (found.semantic.shape, found.residual.grid, found.uncertainty) == ((33, 65), (9, 17), pytest.approx(1))
    assert sorted(calls) == sorted([*at_once, "semantic_from_best", "roi_flatten", "residual", "doubt"])


@pytest.mark.parametrize("conventions", ["tascnet", "detectron2"])
def test_the_semantic_map_is_that_of_the_logits_without_a_known_argmax(conventions: ConventionsName):
    found = predictor(conventions=conventions).predict(image(Size(34, 67)))
    heads = found.intermediates.head_outputs  # type: ignore[union-attr]
    logits = heads.stuff_logits_at_input() if conventions == "detectron2" else heads.stuff_logits
    assert torch.equal(found.semantic, fusion.semantic_from_stuff(logits, found.instances, SPACE, Size(34, 67)))


@pytest.mark.parametrize("size", SIZES)
def test_all_forms_agree_with_the_segmentation(size: Size, tmp_path: Path):
    found = predictor().predict(image(size))
    assert found.segmentation.segments
    assert found.plot().size == (size.width, size.height)
    again = convert.from_coco(*found.to_coco(), SPACE)
    assert again.segments == found.segmentation.segments
    assert torch.equal(again.id_map, found.segmentation.id_map)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert (plain["height"], plain["width"]) == size
    assert [entry["category"] for entry in plain["segments"]] == [
        SPACE[segment.category_id].name for segment in found.segmentation.segments
    ]
    for segment in found.segmentation.segments:
        mask = found.mask(segment.id)
        assert (mask.dtype, mask.shape, int(mask.sum())) == (np.bool_, size, segment.area)
    shown = Image.open(BytesIO(found._repr_png_()))
    assert (shown.format, shown.size) == ("PNG", (size.width, size.height))
    folder = found.save(tmp_path / "结果")
    assert sorted(file.name for file in folder.iterdir()) == sorted(SAVED_FILES)
    written = json.loads((folder / "panoptic.json").read_text(encoding="utf-8"))
    pixels = np.array(Image.open(folder / "panoptic.png"))
    assert (decode_ids(pixels) == found.segmentation.id_map.numpy()).all()
    (annotation,) = written["annotations"]
    assert convert.from_coco(annotation, pixels, SPACE).segments == found.segmentation.segments
    assert LabelSpace.from_list(written["categories"]) == SPACE


def test_one_segment_and_none():
    whole = by_hand(Size(1, 1), Segment(7, 5, 1))
    assert repr(whole) == "<Result 1 x 1, 1 segment: 1 天空>"
    assert whole.to_dict()["segments"] == [
        {
            "id": 7,
            "category_id": 5,
            "category": "天空",
            "isthing": False,
            "area": 1,
            "bbox": [0, 0, 1, 1],
            "iscrowd": False,
            "score": None,
        }
    ]
    none = by_hand(Size(3, 2))
    assert repr(none) == "<Result 3 x 2, 0 segments>"
    assert none.to_dict() == {"height": 3, "width": 2, "segments": []}
    assert none.plot().size == (2, 3)


def test_a_notebook_gets_a_small_picture():
    wide = by_hand(Size(2, 3000), Segment(1, 5, 6000))
    assert Image.open(BytesIO(wide._repr_png_())).width == 1024


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".JPG", "JPEG"), (".webp", "WEBP"), (".tif", "TIFF")])
def test_pictures_are_written_by_suffix(tmp_path: Path, suffix: str, kind: str):
    path = by_hand(Size(9, 7), Segment(1, 5, 63)).save(tmp_path / f"图{suffix}")
    with Image.open(path) as picture:
        assert (picture.format, picture.size) == (kind, (7, 9))
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_other_files_is_kept(tmp_path: Path):
    found = by_hand(Size(4, 4), Segment(1, 5, 16))
    folder = tmp_path / "mine"
    found.save(folder)
    found.save(folder)  # an earlier result is replaced
    (folder / "diary.txt").write_text("precious")
    with pytest.raises(InputError, match=r"contains diary\.txt, which would be lost"):
        found.save(folder)
    assert (folder / "diary.txt").read_text() == "precious"
    assert len(list(folder.iterdir())) == 4
    with pytest.raises(InputError, match=r"suffix '\.mp4' is not known"):
        found.save(tmp_path / "film.mp4")
    with pytest.raises(InputError, match=r"long\.jpg"):
        by_hand(Size(1, 70000), Segment(1, 5, 70000)).save(tmp_path / "long.jpg")  # JPEG ends at 65,535
    assert list(tmp_path.iterdir()) == [folder]


def test_errors():
    found = by_hand(Size(4, 4), Segment(3, 5, 16))
    with pytest.raises(InputError, match=r"no segment 1\. Ids are 3\."):
        found.mask(1)
    with pytest.raises(InputError, match="0 marks pixels without a segment"):
        found.mask(0)
    with pytest.raises(InputError, match="no outputs of a network"):
        _ = found.semantic


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    monkeypatch.setitem(sys.modules, "supervision", None)
    found = by_hand(Size(4, 4))
    with pytest.raises(InputError, match=r"tascnet\[dataframe\]"):
        found.to_dataframe()
    with pytest.raises(InputError, match=r"tascnet\[supervision\]"):
        found.to_supervision()


def test_a_table_has_one_row_per_segment():
    pytest.importorskip("pandas")
    table = by_hand(Size(2, 2), Segment(1, 9, 2, score=0.5), Segment(2, 5, 2)).to_dataframe()
    assert table["category"].tolist() == ["小鸟", "天空"]
    assert list(by_hand(Size(2, 2)).to_dataframe().columns) == list(table.columns)
