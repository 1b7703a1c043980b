"""Cityscapes and Mapillary Vistas are recognised, checked, counted and converted, whatever is wrong with a picture."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from said import Said
from vistas_layout import CAR, ROAD, SKY, UNLABELED, Picture, write_vistas

from tascnet.config import DatasetConfig
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data_tools.sources import find_sources


def check(root: Path, tascnet: Callable[..., Said], *flags: str) -> dict[str, dict]:
    """Split -> what check.json says."""
    tascnet("data", "check", root, "--output", root.parent / "out", *flags)
    splits = json.loads((root.parent / "out" / "check.json").read_text())["splits"]
    return {split["split"]: split for split in splits}


def errors(split: dict) -> set[tuple[str, str]]:
    """Picture and kind of all errors."""
    return {(finding["picture"], finding["kind"]) for finding in split["findings"] if finding["error"]}


def write_city(root: Path, split: str, name: str, values: list) -> tuple[Path, Path]:
    photo = root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png"
    annotation = root / "gtFine" / split / "ulm" / f"{name}_gtFine_instanceIds.png"
    for path in (photo, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint16)).save(annotation)
    Image.new("RGB", (len(values[0]), len(values))).save(photo)
    return photo, annotation


class TestCityscapes:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """Six pictures in train, one in val, and a placeholder in test."""
        for name in "abcdef":
            write_city(tmp_path / "set", "train", f"ulm_{name}", [[7, 26001, 26002, 0]])
        write_city(tmp_path / "set", "val", "ulm_v", [[7, 26001, 26002, 24]])
        write_city(tmp_path / "set", "test", "ulm_t", [[0, 1]])
        return tmp_path / "set"

    def test_splits_are_found_without_the_test_split(self, root: Path):
        (root / "gtFine" / "cityscapes_panoptic_val").mkdir()
        (root / "gtFine" / "cityscapes_panoptic_val.json").write_text("{}")
        (root / "gtFine" / "cityscapes_panoptic_more.json").write_text("{}")
        found = find_sources(root, "auto", None, DatasetConfig())
        assert [(s.settings.format, s.name) for s in found] == [("cityscapes", n) for n in ("more", "train", "val")]

    def test_every_problem_names_its_picture(self, root: Path, tascnet: Callable[..., Said]):
        train = root / "gtFine" / "train" / "ulm"
        (train / "ulm_a_gtFine_instanceIds.png").unlink()
        (root / "leftImg8bit" / "train" / "ulm" / "ulm_b_leftImg8bit.png").unlink()
        write_city(root, "train", "ulm_c", [[7, 99]])
        Image.new("L", (4, 1)).save(train / "ulm_d_gtFine_instanceIds.png")
        Image.new("RGB", (9, 1)).save(root / "leftImg8bit" / "train" / "ulm" / "ulm_e_leftImg8bit.png")
        splits = check(root, tascnet)
        assert errors(splits["train"]) == {
            ("ulm_a", "file missing"),
            ("ulm_b", "annotation without image"),
            ("ulm_c", "unknown category"),
            ("ulm_d", "PNG that holds no ids"),
            ("ulm_e", "sizes differ"),
        }
        assert splits["train"]["pictures"] == 4
        assert (splits["val"]["errors"], splits["val"]["pictures"]) == (0, 1)

    @pytest.mark.parametrize("is_empty", [False, True])
    def test_without_photos(self, root: Path, tascnet: Callable[..., Said], is_empty: bool):
        (root / "leftImg8bit" / "train").rename(root / "elsewhere")
        if is_empty:
            (root / "leftImg8bit" / "train").mkdir()
        found = check(root, tascnet)["train"]
        kinds = {"annotation without image": 6} if is_empty else {"file missing": 1}
        assert {kind: number for kind, number in found["kinds"].items() if "categor" not in kind} == kinds
        assert (found["pictures"], found["with_photos"]) == ((0, True) if is_empty else (6, False))
        if not is_empty:
            said = tascnet("data", "stats", root)
            assert said.code == 0, said.err
            assert "train: 6 pictures" in said.out

    def test_two_pictures_of_one_name(self, root: Path, tascnet: Callable[..., Said]):
        for tree in ("gtFine", "leftImg8bit"):
            (root / tree / "train" / "bonn").symlink_to(root / tree / "val" / "ulm")
            for file in (root / tree / "val" / "ulm").iterdir():
                file.rename(file.with_name(file.name.replace("ulm_v", "ulm_a")))
        found = check(root, tascnet)["train"]
        assert (found["kinds"]["image id used twice"], found["errors"], found["pictures"]) == (2, 2, 6)

    def test_conversion(self, root: Path, tascnet: Callable[..., Said], tmp_path: Path):
        said = tascnet("data", "convert", root, "--output", tmp_path / "to")
        assert said.code == 0, said.err
        sample = CocoPanoptic.from_layout(tmp_path / "to", "val")[0]
        assert (sample.name, sample.segmentation.id_map.tolist()) == ("ulm_v", [[7, 26001, 26002, 24]])


VALUES = np.array([[ROAD, CAR, CAR + 1, SKY]])


class TestVistas:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        root = tmp_path / "set"
        write_vistas(root, "training", [Picture(name, VALUES) for name in "abcd"])
        write_vistas(root, "validation", [Picture("v", VALUES)])
        (root / "testing" / "images").mkdir(parents=True)
        return root

    @pytest.mark.parametrize("early", [False, True])
    def test_splits_are_found_without_the_testing_split(self, tmp_path: Path, early: bool):
        write_vistas(tmp_path, "validation", [Picture("v", VALUES)], early=early)
        write_vistas(tmp_path, "training", [Picture("a", VALUES)], early=early)
        (tmp_path / "testing" / "images").mkdir(parents=True)
        found = find_sources(tmp_path, "auto", None, DatasetConfig())
        assert [(s.settings.format, s.name) for s in found] == [("vistas", n) for n in ("training", "validation")]

    def test_the_panoptic_form(self, root: Path, tascnet: Callable[..., Said]):
        folder = root / "training" / "v1.2" / "panoptic"
        (folder / "a.png").unlink()
        (root / "training" / "images" / "b.jpg").unlink()
        content = json.loads((folder / "panoptic_2018.json").read_text())
        del content["annotations"][2]["segments_info"][0]
        (folder / "panoptic_2018.json").write_text(json.dumps(content))
        (folder / "d.png").rename(folder / "e.png")
        splits = check(root, tascnet)
        assert errors(splits["training"]) == {
            ("a", "file missing"),
            ("b", "file missing"),
            ("c", "id in the PNG, not in the JSON"),
            ("d", "file missing"),
        }
        assert splits["training"]["kinds"]["file that nothing refers to"] == 1
        assert (splits["validation"]["errors"], splits["validation"]["pictures"]) == (0, 1)

    def test_the_form_instances(self, root: Path, tascnet: Callable[..., Said]):
        folder = root / "training" / "v1.2" / "instances"
        (folder / "a.png").unlink()
        (root / "training" / "images" / "b.jpg").unlink()
        Image.fromarray(np.array([[UNLABELED + 256]], np.uint16)).save(folder / "c.png")
        Image.new("L", (4, 1)).save(folder / "d.png")
        found = check(root, tascnet, "--form", "instances")["training"]
        assert errors(found) == {
            ("a", "file missing"),
            ("b", "annotation without image"),
            ("c", "unknown category"),
            ("d", "PNG that holds no ids"),
        }
        assert found["pictures"] == 2

    def test_what_all_splits_lack_is_said_once(self, root: Path, tascnet: Callable[..., Said]):
        said = tascnet("data", "check", root, "--version", "v2.0")
        assert (said.code, said.out) == (2, "")
        assert said.err.count("config_v2.0.json does not exist") == 1

    def test_counting_and_conversion(self, root: Path, tascnet: Callable[..., Said], tmp_path: Path):
        said = tascnet("data", "stats", root)
        assert said.code == 0, said.err
        assert "training: 4 pictures" in said.out
        assert "instances: 8: 8 small" in said.out
        assert tascnet("data", "convert", root, "--output", tmp_path / "to").code == 0
        assert len(CocoPanoptic.from_layout(tmp_path / "to", "training")[3].segmentation.segments) == 4
