"""Training and validation sets of the same categories, listed in another order or in other colours."""

import json
from pathlib import Path

import pytest
from small_sets import write_coco

from tascnet.config import Config, DatasetConfig
from tascnet.errors import InputError
from tascnet.training.run import _open_data


def config_of(root: Path) -> Config:
    config = Config()
    config.data.train = DatasetConfig(format="coco", root=str(root), split="train")
    config.data.val = DatasetConfig(format="coco", root=str(root), split="val")
    return config


def categories_of(root: Path) -> tuple[dict, Path]:
    path = root / "annotations" / "panoptic_val.json"
    return json.loads(path.read_text()), path


def test_order_and_colours_may_differ(tmp_path: Path) -> None:
    root = write_coco(write_coco(tmp_path, 1, "train"), 1, "val")
    content, path = categories_of(root)
    content["categories"].reverse()
    content["categories"][0]["color"] = [9, 9, 9]
    path.write_text(json.dumps(content))
    train, val = _open_data(config_of(root))
    assert [c.id for c in train.label_space.categories] == [c.id for c in reversed(val.label_space.categories)]
    assert train[0].segmentation.segments == val[0].segmentation.segments


@pytest.mark.parametrize("change", [{"name": "heaven"}, {"isthing": 1}, {"id": 7}])
def test_other_categories_are_named(tmp_path: Path, change: dict) -> None:
    root = write_coco(write_coco(tmp_path, 1, "train"), 1, "val")
    content, path = categories_of(root)
    content["categories"][0].update(change)  # the sky
    if "id" in change:
        content["annotations"][0]["segments_info"][0]["category_id"] = 7
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"data.train has 5 categories and data.val 5; they differ, for instance in '"):
        _open_data(config_of(root))


def test_order_may_differ_where_categories_are_merged(tmp_path: Path) -> None:
    root = write_coco(write_coco(tmp_path, 1, "train"), 1, "val")
    group = {"sky": "out", "tree": "out", "cat": "pet", "dog": "pet", "flock of sheep": "farm"}
    for split in ("train", "val"):
        path = root / "annotations" / f"panoptic_{split}.json"
        content = json.loads(path.read_text())
        for category in content["categories"]:
            category["supercategory"] = group[category["name"]]
        if split == "val":
            content["categories"].reverse()
        path.write_text(json.dumps(content))
    config = config_of(root)
    config.data.train.group_by = config.data.val.group_by = "supercategory"
    train, val = _open_data(config)
    assert train[0].segmentation.segments == val[0].segmentation.segments
