"""How often images come, worked out by hand; and categories that are known without reading a pixel."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from cityscapes_layout import write_cityscapes_layout
from vistas_layout import BIRD, CAR, EGO, ROAD, SKY, Picture, write_vistas

from tascnet.build import build_dataset
from tascnet.config import DatasetConfig
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.formats.vistas import Vistas
from tascnet.data.rare import categories_of_images, listed_categories, repeat_factors
from tascnet.data.stream import PanopticDataset
from tascnet.data.streets.dataset import Streets
from tascnet.structures import Size


def test_factors_by_hand() -> None:
    """Of four images, category 1 is in all, 2 in two, 3 in one; categories in less than 0.64 of them are repeated."""
    categories = [{1, 2}, {1}, {1, 2, 3}, {1}]
    factors = repeat_factors(categories, 0.64)
    assert factors.tolist() == pytest.approx([(0.64 / 0.5) ** 0.5, 1, (0.64 / 0.25) ** 0.5, 1])


def test_nothing_is_shown_less_than_once() -> None:
    assert repeat_factors([{1}, {1, 2}, set()], 0.1).tolist() == [1, 1, 1]
    assert repeat_factors([{1}, set(), set(), set()], 1).tolist() == [2, 1, 1, 1]
    assert repeat_factors([], 0.5).shape == (0,)


def test_an_image_with_a_category_twice_counts_once() -> None:
    assert repeat_factors([[1, 1], [2]], 1).tolist() == pytest.approx([2**0.5, 2**0.5])


def by_pixels(dataset: PanopticDataset) -> list[set[int]]:
    return [{s.category_id for s in dataset.annotation(i).segments} for i in range(len(dataset))]


@pytest.mark.parametrize(
    "narrowed", [{}, {"num_images": 2}, {"group_by": "supercategory"}, {"num_images": 2, "group_by": "supercategory"}]
)
def test_coco_lists_them(tiny_coco: Path, tmp_path: Path, narrowed: dict) -> None:
    whole = build_dataset(DatasetConfig(format="coco", root=str(tiny_coco), split="mini", **narrowed))
    root = tmp_path / "coco"
    shutil.copytree(tiny_coco, root)
    for png in (root / "annotations" / "panoptic_mini").iterdir():
        png.unlink()
    without_pixels = build_dataset(DatasetConfig(format="coco", root=str(root), split="mini", **narrowed))
    done: list[int] = []
    assert categories_of_images(without_pixels, done.append) == by_pixels(whole)
    assert done == list(range(1, len(whole) + 1))


def test_a_group_that_becomes_void_is_not_listed(tiny_coco: Path, tmp_path: Path) -> None:
    names = json.loads((tiny_coco / "annotations" / "panoptic_mini.json").read_text())["categories"]
    groups = tmp_path / "groups.yaml"
    void = [category["name"] for category in names if category["isthing"]]
    stuff = [category["name"] for category in names if not category["isthing"]]
    groups.write_text(json.dumps({"background": stuff, "void": void}))
    dataset = build_dataset(DatasetConfig(format="coco", root=str(tiny_coco), split="mini", group_by=str(groups)))
    assert categories_of_images(dataset) == [{1}, {1}, {1}] == by_pixels(dataset)


def test_cityscapes_lists_them_in_its_panoptic_form_only(tmp_path: Path) -> None:
    write_cityscapes_layout(tmp_path)
    pixels = Cityscapes(tmp_path, "train")
    assert listed_categories(pixels, 0) is None
    assert categories_of_images(pixels) == [{7, 23, 26}] * 3  # road, sky, car; caravans are not evaluated
    folder = tmp_path / "gtFine"
    write_coco_panoptic(folder / "cityscapes_panoptic_train.json", CITYSCAPES, [pixels[i] for i in range(3)])
    panoptic = Cityscapes(tmp_path, "train", "panoptic")
    for png in (folder / "cityscapes_panoptic_train").iterdir():
        png.unlink()
    assert categories_of_images(panoptic) == [{7, 23, 26}] * 3


def test_vistas_lists_them_in_its_panoptic_form_only(tmp_path: Path) -> None:
    values = np.full((4, 6), SKY)
    values[1:3, :2], values[1:3, 3:5], values[3] = CAR, BIRD, EGO  # the own car is not evaluated
    write_vistas(tmp_path, "training", [Picture("a", values), Picture("b", np.full((4, 6), ROAD))])
    instances = Vistas(tmp_path, "training", form="instances")
    assert listed_categories(instances, 0) is None
    wanted = by_pixels(instances)
    assert [len(categories) for categories in wanted] == [3, 1]
    panoptic = Vistas(tmp_path, "training", form="panoptic")
    for png in (tmp_path / "training" / "v1.2" / "panoptic").glob("*.png"):
        png.unlink()
    assert categories_of_images(panoptic) == wanted


def test_where_nothing_is_listed_the_annotation_is_read() -> None:
    streets = Streets(3, Size(64, 128))
    assert listed_categories(streets, 0) is None
    assert categories_of_images(streets) == by_pixels(streets)


def test_photos_are_not_read(tiny_coco: Path, tmp_path: Path) -> None:
    root = tmp_path / "coco"
    shutil.copytree(tiny_coco, root)
    for photo in (root / "mini").iterdir():
        photo.unlink()
    dataset = build_dataset(DatasetConfig(format="coco", root=str(root), split="mini"))
    assert len(categories_of_images(dataset)) == 3
