import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from vistas_layout import BIRD, CAR, EGO, LABELS, ROAD, SKY, UNLABELED, Picture, write_vistas

from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.formats.vistas import Vistas
from tascnet.data.merged import group_categories
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import Category, PanopticSegmentation, Segment

VALUES = np.array(
    [
        [SKY, SKY, SKY, BIRD, BIRD + 1, UNLABELED],
        [SKY, CAR, CAR, BIRD, BIRD + 1, BIRD + 1],
        [ROAD, CAR, CAR + 255, CAR + 255, ROAD, ROAD],
        [ROAD, ROAD, EGO, EGO, EGO, UNLABELED],
    ]
)
FORMS = ["panoptic", "instances"]


def regions(segmentation: PanopticSegmentation) -> set[tuple[int, bool, int, bytes]]:
    """Segments whatever their ids: category, crowd, area, and which pixels."""
    ids = segmentation.id_map.numpy()
    return {(s.category_id, s.is_crowd, s.area, (ids == s.id).tobytes()) for s in segmentation.segments}


def write(root: Path, **arguments: object) -> Path:
    write_vistas(root, "training", [Picture("b c", VALUES), Picture("ä", VALUES[:2])], **arguments)
    return root


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("version", "early"), [("v1.2", False), ("v1.2", True), ("v2.0", False)])
def test_both_forms_of_every_release(tmp_path: Path, form: str, version: str, early: bool) -> None:
    dataset = Vistas(write(tmp_path, version=version, early=early), "training", version, form)
    assert [dataset.sample_name(i) for i in range(len(dataset))] == ["b c", "ä"]
    assert dataset.label_space.categories == (  # numbered as the labels of the config file; ignored ones are missing
        Category(1, "Bird", True, (165, 42, 42), "animal"),
        Category(2, "Road", False, (128, 64, 128), "construction--flat"),
        Category(3, "Car", True, (0, 0, 142), "object--vehicle"),
        Category(5, "Sky", False, (70, 130, 180), "nature"),
    )
    sample = dataset[0]
    assert isinstance(sample, Sample)
    assert (sample.name, sample.image_id, sample.image.shape) == ("b c", "b c", (3, 4, 6))
    segmentation = sample.segmentation.validate(dataset.label_space)
    expected = {BIRD: (1, 2), BIRD + 1: (1, 3), CAR: (3, 3), CAR + 255: (3, 2), ROAD: (2, 5), SKY: (5, 4)}
    assert regions(segmentation) == {
        (category, False, area, (value == VALUES).tobytes()) for value, (category, area) in expected.items()
    }
    assert ((segmentation.id_map == 0).numpy() == ((VALUES == EGO) | (VALUES == UNLABELED))).all()
    assert regions(dataset.annotation(0)) == regions(segmentation)


def test_ids_of_instances(tmp_path: Path) -> None:
    """Value + 1, as value 0 is a bird; stuff has one segment, whatever its number of instance."""
    values = np.array([[BIRD, BIRD + 1, ROAD, ROAD + 7, SKY + 3, EGO + 1]])
    write_vistas(tmp_path, "training", [Picture("a", values)])
    segmentation = Vistas(tmp_path, "training", form="instances").annotation(0)
    assert segmentation.id_map.tolist() == [[1, 2, 257, 257, 1025, 0]]
    assert segmentation.segments == (Segment(1, 1, 1), Segment(2, 1, 1), Segment(257, 2, 2), Segment(1025, 5, 1))


def test_only_the_panoptic_form_knows_crowds(tmp_path: Path) -> None:
    write_vistas(tmp_path, "training", [Picture("a", VALUES, crowds=(CAR,))])
    crowds = {}
    for form in FORMS:
        segments = Vistas(tmp_path, "training", form=form).annotation(0).segments
        crowds[form] = [(segment.category_id, segment.area) for segment in segments if segment.is_crowd]
    assert crowds == {"panoptic": [(3, 3)], "instances": []}


def test_all_void_and_one_pixel(tmp_path: Path) -> None:
    pictures = [Picture("a", np.array([[UNLABELED, EGO]])), Picture("b", np.array([[CAR + 4]]))]
    write_vistas(tmp_path, "training", pictures)
    for form in FORMS:
        dataset = Vistas(tmp_path, "training", form=form)
        assert dataset[0].segmentation.segments == ()
        assert [(s.category_id, s.area) for s in dataset[1].segmentation.segments] == [(3, 1)]


def test_panoptic_files_with_other_ids_are_matched_by_name(tmp_path: Path) -> None:
    """As in datumaro's samples: ids of its own, the full name as name."""
    path = write(tmp_path) / "training" / "v1.2" / "panoptic" / "panoptic_2018.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category |= {"id": category["id"] * 100, "name": category["supercategory"], "supercategory": "thing"}
    for annotation in content["annotations"]:
        for info in annotation["segments_info"]:
            info["category_id"] *= 100
    path.write_text(json.dumps(content))
    by_name = Vistas(tmp_path, "training").annotation(0)
    assert regions(by_name) == regions(Vistas(tmp_path, "training", form="instances").annotation(0))


def test_what_write_coco_panoptic_writes_reads_back_equal(tmp_path: Path) -> None:
    """A submission to the benchmark: its JSON and PNG files put where the official ones are."""
    official = Vistas(write(tmp_path / "official"), "training")
    items = [official[index] for index in range(2)]
    write_coco_panoptic(tmp_path / "out.json", official.label_space, items)
    root = write(tmp_path / "again")
    folder = root / "training" / "v1.2" / "panoptic"
    for path in folder.iterdir():
        path.unlink()
    (tmp_path / "out.json").rename(folder / "panoptic_2018.json")
    for path in (tmp_path / "out").iterdir():
        path.rename(folder / path.name)
    again = Vistas(root, "training")
    assert again.label_space == official.label_space
    for index, item in enumerate(items):
        assert torch.equal(again.annotation(index).id_map, item.segmentation.id_map)
        assert again.annotation(index).segments == item.segmentation.segments
        assert again.image_id(index) == item.image_id


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("version", ["v1.2", "v2.0"])
def test_made_up_samples_of_datumaro(shared_data: Path, form: str, version: str) -> None:
    root = shared_data / "formats" / "mapillary_vistas_dataset"
    train, val = Vistas(root, "train", version, form), Vistas(root, "val", version, form)
    assert train.label_space == val.label_space
    assert [(c.id, c.name, c.is_thing) for c in val.label_space.categories] == [
        (1, "Bird", True),
        (2, "Separator", True),
        (3, "Bicycle", True),
    ]
    columns = {0: [1, 1, 1, 2, 2], 1: [3, 3, 2, 3, 3]}  # category of each of the five columns
    for index, categories in columns.items():
        sample = val[index]
        category_of = {s.id: s.category_id for s in sample.segmentation.segments}
        assert [[category_of[i] for i in row] for row in sample.segmentation.id_map.tolist()] == [categories] * 5
        crowds = [s.category_id for s in sample.segmentation.segments if s.is_crowd]
        assert crowds == ([[1], [3]][index] if form == "panoptic" else [])
    assert sorted(s.category_id for s in train[0].segmentation.segments) == [1, 1, 1, 2, 2]


def test_pickled_it_reads_the_same(tmp_path: Path) -> None:
    for form in FORMS:
        dataset = Vistas(write(tmp_path / form), "training", form=form)
        again = pickle.loads(pickle.dumps(dataset))
        assert again[1].segmentation.segments == dataset[1].segmentation.segments


# what a user can have wrong: (what is done to the data set, the form that meets it, what the error says)


def _png(root: Path, kind: str = "instances") -> Path:
    return root / "training" / "v1.2" / kind / "b c.png"


def _cut_png(root: Path) -> None:
    _png(root).write_bytes(_png(root).read_bytes()[:-30])


def _color_png(root: Path) -> None:
    Image.new("RGB", (6, 4)).save(_png(root))


def _palette_png(root: Path) -> None:
    _png(root).write_bytes(_png(root, "labels").read_bytes())


def _unknown_label(root: Path) -> None:
    Image.fromarray(np.where(VALUES == SKY, 256 * 6 + 3, VALUES).astype(np.uint16)).save(_png(root))


def _smaller_photo(root: Path) -> None:
    Image.new("RGB", (3, 2)).save(root / "training" / "images" / "b c.jpg")


def _smaller_annotation(root: Path) -> None:
    Image.new("RGB", (3, 2)).save(_png(root, "panoptic"))


def _sixteen_bits_in_panoptic(root: Path) -> None:
    _png(root, "panoptic").write_bytes(_png(root).read_bytes())


def _no_png(root: Path) -> None:
    for kind in FORMS:
        _png(root, kind).unlink()


def _no_photo(root: Path) -> None:
    (root / "training" / "images" / "b c.jpg").unlink()


def _loop(root: Path) -> None:
    photo = root / "training" / "images" / "b c.jpg"
    photo.unlink()
    os.symlink(photo, photo)


def _loop_of_folders(root: Path) -> None:
    folder = root / "training" / "images"
    folder.rename(root / "elsewhere")
    os.symlink(folder, folder)


def _half_a_json(root: Path) -> None:
    path = root / "training" / "v1.2" / "panoptic" / "panoptic_2018.json"
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def _change_config(root: Path, change: dict[str, object] | None, number: int = 0) -> None:
    labels = [dict(label) for label in LABELS]
    if change is None:
        del labels[number]["evaluate"]
    else:
        labels[number] |= change
    (root / "config_v1.2.json").write_text(json.dumps({"labels": labels}))


@pytest.mark.parametrize(
    ("harm", "form", "finding"),
    [
        (_cut_png, "instances", r"instances/b c\.png is broken or cut short"),
        (_color_png, "instances", r"b c\.png is a picture of mode RGB; the PNGs in instances hold 256 \* label"),
        (_palette_png, "instances", r"b c\.png is a picture of mode P; .* not of its labels"),
        (_unknown_label, "instances", r"b c\.png holds the value 1539, that is label 6; .*v1\.2\.json has 6 labels"),
        (_smaller_photo, "instances", r"photo .*b c\.jpg is 2 x 3 pixels .*b c\.png says 4 x 6"),
        (_smaller_photo, "panoptic", r"photo .*b c\.jpg is 2 x 3 pixels .*panoptic_2018\.json says 4 x 6"),
        (_smaller_annotation, "panoptic", r"b c\.png is 2 x 3 pixels .* says 4 x 6"),
        (_sixteen_bits_in_panoptic, "panoptic", r"panoptic/b c\.png is a picture of mode I;16; panoptic PNGs hold ids"),
        (_no_png, "instances", r"1 files are missing in .*instances, one is b c\.png; there is a photo"),
        (_no_png, "panoptic", r"panoptic/b c\.png does not exist"),
        (_no_photo, "instances", r"1 files are missing in .*images, one is b c\.jpg; there is an annotation"),
        (_no_photo, "panoptic", r"images/b c\.jpg does not exist"),
        (_loop, "instances", r"images/b c\.jpg cannot be read: .*symbolic links"),
        (_loop, "panoptic", r"images/b c\.jpg cannot be read: .*symbolic links"),
        (_loop_of_folders, "instances", r"the folder .*images cannot be read: Too many levels of symbolic links"),
        (_loop_of_folders, "panoptic", r"the folder .*images does not exist"),
        (_half_a_json, "panoptic", r"panoptic_2018\.json is not valid JSON"),
        (
            lambda root: (root / "config_v1.2.json").unlink(),
            "instances",
            r"config\.json does not exist; the categories",
        ),
        (lambda root: (root / "config_v1.2.json").write_text("{}"), "instances", r"v1\.2\.json has no list 'labels'"),
        (lambda root: (root / "config_v1.2.json").write_text("[1"), "instances", r"v1\.2\.json is not valid JSON"),
        (lambda root: _change_config(root, None), "instances", r"label number 0 lacks evaluate"),
        (lambda root: _change_config(root, {"color": "red"}), "instances", r"label number 0: the color is 'red'"),
        (lambda root: _change_config(root, {"color": [1e999, 0, 0]}), "instances", r"not valid JSON|label number 0"),
        (
            lambda root: _change_config(root, {"color": [1.5, 0, 0]}),
            "instances",
            r"number 0: the color is \[1\.5",
        ),
        (lambda root: _change_config(root, {"name": None}), "instances", r"label number 0: None is not text"),
        (lambda root: _change_config(root, {"readable": True}), "instances", r"label number 0: True is not text"),
        (
            lambda root: _change_config(root, {"name": "x", "readable": "y"}),
            "panoptic",
            r"'Bird' \(animal--bird\), which",
        ),
        (lambda root: _change_config(root, {"instances": False}), "panoptic", r"'Bird' is a thing in .* and stuff in"),
    ],
)
def test_harm_is_one_clear_sentence(tmp_path: Path, harm, form: str, finding: str) -> None:  # type: ignore[no-untyped-def]
    harm(write(tmp_path))
    with pytest.raises(InputError, match=rf"(?s){finding}"):
        Vistas(tmp_path, "training", form=form)[0]


def test_harm_to_one_picture_leaves_the_others(tmp_path: Path) -> None:
    _cut_png(write(tmp_path))
    assert len(Vistas(tmp_path, "training", form="instances")[1].segmentation.segments) == 4


def test_what_is_ignored_is_up_to_the_config(tmp_path: Path) -> None:
    _change_config(write(tmp_path), {"evaluate": False}, number=2)
    for form in FORMS:
        dataset = Vistas(tmp_path, "training", form=form)
        assert [c.name for c in dataset.label_space.categories] == ["Bird", "Road", "Sky"]
        assert sorted(s.category_id for s in dataset.annotation(0).segments) == [1, 1, 2, 5]
    labels = [label | {"evaluate": False} for label in LABELS]
    (tmp_path / "config_v1.2.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(InputError, match="no label with 'evaluate': true"):
        Vistas(tmp_path, "training")


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        ({"split": "train"}, r"folder .*train/v1\.2/panoptic or .*train/panoptic does not exist"),
        ({"version": "v2.0"}, r"config_v2\.0\.json does not exist"),
        ({"version": "1.2"}, r"version of Mapillary Vistas is '1\.2'; it may be v1\.2 or v2\.0"),
        ({"form": "labels"}, r"form of Mapillary Vistas is 'labels'; it may be panoptic or instances"),
    ],
)
def test_wrong_arguments(tmp_path: Path, arguments: dict[str, str], finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        Vistas(write(tmp_path), **{"split": "training"} | arguments)


@pytest.mark.parametrize("form", FORMS)
def test_supercategories_merge(tmp_path: Path, form: str) -> None:
    """Bird is an animal; car is alone in its group of things, road and sky each in theirs of stuff."""
    dataset = group_categories(Vistas(write(tmp_path), "training", form=form), "supercategory")
    names = [(category.id, category.name) for category in dataset.label_space.categories]
    assert names == [(1, "animal"), (2, "construction--flat"), (3, "object--vehicle"), (4, "nature")]
