"""Every form becomes COCO panoptic files that pass a check and read back equal."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from said import Said
from small_sets import CATEGORIES, save_numbers, write_coco, write_pairs

from tascnet.config import DatasetConfig
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.streets.dataset import Streets
from tascnet.data_tools import sources
from tascnet.data_tools.convert import convert_data
from tascnet.data_tools.sources import find_sources
from tascnet.structures import Size


def write_instances(root: Path) -> Path:
    """Two overlapping cars over sky, and a crowd."""
    outline = [[0, 0, 2.9, 0, 2.9, 1.9, 0, 1.9]]
    content = {
        "images": [{"id": 41, "file_name": "a b.png", "height": 3, "width": 4}],
        "annotations": [
            {"id": 1, "image_id": 41, "category_id": 2, "segmentation": outline},
            {"id": 2, "image_id": 41, "category_id": 2, "segmentation": {"counts": [0, 1, 11], "size": [3, 4]}},
        ],
        "categories": [{"id": 2, "name": "car"}],
    }
    save_numbers(root / "annotations" / "semantic_val" / "a b.png", [[1, 1, 1, 3]] * 3)
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (root / "val").mkdir()
    Image.new("RGB", (4, 3), (9, 9, 9)).save(root / "val" / "a b.png")
    (root / "categories.yaml").write_text(CATEGORIES)
    return root


WRITERS = {
    "coco": lambda root: write_coco(root, 2),
    "png_pairs": lambda root: write_pairs(root, "val", ["a", "é 1"]),
    "png_pairs without splits": lambda root: write_pairs(root, "", ["a"]),
    "coco_instances": write_instances,
}


@pytest.mark.parametrize("form", WRITERS)
def test_it_reads_back_equal(tmp_path: Path, tascnet: Callable[..., Said], form: str) -> None:
    root = WRITERS[form](tmp_path / "from")
    flags = ["--overlaps", "smaller-in-front"]
    said = tascnet("data", "convert", root, "--output", tmp_path / "to", *flags)
    assert said.code == 0, said.err
    (source,) = find_sources(root, "auto", None, DatasetConfig(overlaps="smaller-in-front"))
    before, after = source.open(), CocoPanoptic.from_layout(tmp_path / "to", source.name)
    assert len(before) == len(after) > 0
    assert before.label_space == after.label_space
    for old, new in zip(before, after, strict=True):
        assert torch.equal(old.image, new.image)
        assert torch.equal(old.segmentation.id_map, new.segmentation.id_map)
        assert old.segmentation.segments == new.segmentation.segments
        assert old.name == new.name
        assert new.photo.read_bytes() == old.photo.read_bytes()
        assert isinstance(new.image_id, int)
    assert tascnet("data", "check", tmp_path / "to").code == 0


def test_numbers_of_images_are_kept_and_names_become_numbers(tmp_path: Path) -> None:
    for form, ids in (("coco", [100, 101]), ("png_pairs", [1, 2]), ("coco_instances", [41])):
        root, output = WRITERS[form](tmp_path / form), tmp_path / "to" / form
        convert_data(root, output, "auto", None, "copy", DatasetConfig(overlaps="car"))
        (json_path,) = output.glob("annotations/*.json")
        assert [image["id"] for image in json.loads(json_path.read_text())["images"]] == ids


def test_links_in_place_of_copies(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_pairs(tmp_path / "from", "", ["a"])
    assert tascnet("data", "convert", root, "--output", tmp_path / "to", "--photos", "link").code == 0
    assert (tmp_path / "to" / "all" / "a.jpg").readlink() == (root / "images" / "a.jpg").resolve()
    assert CocoPanoptic.from_layout(tmp_path / "to", "all")[0].image.shape == (3, 3, 4)


def test_images_of_no_file_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streets = Streets(2, Size(64, 128))
    monkeypatch.setattr(sources, "build_dataset", lambda settings: streets)
    convert_data(tmp_path, tmp_path / "to", "streets", None, "copy", DatasetConfig(split="val"))
    after = CocoPanoptic.from_layout(tmp_path / "to", "val")
    assert np.array_equal(after[1].image, streets[1].image)
    assert torch.equal(after.annotation(1).id_map, streets.annotation(1).id_map)


def test_nothing_is_overwritten(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(tmp_path / "set", 1)
    said = tascnet("data", "convert", root, "--output", root)
    assert said.code == 2
    assert "panoptic_mini.json exists. Choose another --output" in said.err


@pytest.mark.parametrize("photos", ["link", "copy"])
@pytest.mark.parametrize("through_a_link", [False, True])
def test_photos_stay_where_the_output_is_the_root(
    tmp_path: Path, tascnet: Callable[..., Said], photos: str, through_a_link: bool
) -> None:
    root = write_instances(tmp_path / "set")
    photo = root / "val" / "a b.png"
    content = photo.read_bytes()
    output = tmp_path / "again" if through_a_link else root
    if through_a_link:
        output.symlink_to(root)
    said = tascnet("data", "convert", root, "--output", output, "--photos", photos, "--overlaps", "car")
    assert said.code == 0, said.err
    assert not photo.is_symlink()
    assert photo.read_bytes() == content
    assert len(CocoPanoptic.from_layout(root, "val")[0].segmentation.segments) > 1


@pytest.mark.parametrize("photos", ["link", "copy"])
def test_another_picture_is_never_replaced(tmp_path: Path, tascnet: Callable[..., Said], photos: str) -> None:
    root, other = write_pairs(tmp_path / "from", "", ["a"]), tmp_path / "to" / "all" / "a.jpg"
    other.parent.mkdir(parents=True)
    other.write_text("the only one")
    flags = ["--output", tmp_path / "to", "--photos", photos]
    said = tascnet("data", "convert", root, *flags)
    assert (said.code, other.read_text()) == (2, "the only one")
    assert f"{other} exists and is another picture. Choose another --output" in said.err
    shutil.copyfile(root / "images" / "a.jpg", other)  # as after a conversion that was interrupted
    assert tascnet("data", "convert", root, *flags).code == 0


@pytest.mark.parametrize("name", ["../../p00.png", "..\\..\\p00.png", "C:\\p00.png", "/tmp/p00.png", "a/../../p00.png"])
@pytest.mark.parametrize("of_what", ["images", "annotations"])
def test_no_name_leads_out_of_the_output(tmp_path: Path, tascnet: Callable[..., Said], name: str, of_what: str) -> None:
    root = write_coco(tmp_path / "deep" / "er" / "set", 1)
    for folder in (tmp_path / "deep", root / "annotations", tmp_path / "deep" / "er"):
        shutil.copy(root / "mini" / "p00.png", folder)  # what the names lead to is there
    path = root / "annotations" / "panoptic_mini.json"
    content = json.loads(path.read_text())
    content[of_what][0]["file_name"] = name
    path.write_text(json.dumps(content))
    output = tmp_path / "home" / "user" / "out"
    said = tascnet("data", "convert", root, "--output", output)
    assert said.code == 2
    assert "leads out of its folder" in said.err
    assert [file for file in (tmp_path / "home").rglob("*") if file.is_file()] == []
    said = tascnet("data", "check", root)
    assert said.code == 1
    assert "file name that leads out of its folder" in said.out


@pytest.mark.parametrize("link", ["mini", "mini/sub", "annotations", "annotations/panoptic_mini"])
def test_no_link_in_the_output_leads_out_of_it(tmp_path: Path, tascnet: Callable[..., Said], link: str) -> None:
    root, elsewhere = write_coco(tmp_path / "set", 1), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (root / "mini" / "sub").mkdir()
    (root / "mini" / "p00.png").rename(root / "mini" / "sub" / "p00.png")
    path = root / "annotations" / "panoptic_mini.json"
    content = json.loads(path.read_text())
    content["images"][0]["file_name"] = "sub/p00.png"
    path.write_text(json.dumps(content))
    (tmp_path / "out" / link).parent.mkdir(parents=True)
    (tmp_path / "out" / link).symlink_to(elsewhere)
    said = tascnet("data", "convert", root, "--output", tmp_path / "out")
    assert said.code == 2
    assert f"outside of {tmp_path}" in said.err
    assert list(elsewhere.iterdir()) == []


def test_a_link_that_leads_nowhere_is_replaced(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root, link = write_pairs(tmp_path / "from", "", ["a"]), tmp_path / "to" / "all" / "a.jpg"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "nowhere")
    assert tascnet("data", "convert", root, "--output", tmp_path / "to", "--photos", "link").code == 0
    assert link.samefile(root / "images" / "a.jpg")


def test_photos_are_needed(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(tmp_path / "set", 1)
    shutil.rmtree(root / "mini")
    said = tascnet("data", "convert", root / "annotations" / "panoptic_mini.json", "--output", tmp_path / "to")
    assert said.code == 2
    assert "was opened without a folder of photos" in said.err
    assert not list((tmp_path / "to").rglob("*.json"))
