"""COCO's categories in the package are those of the official files."""

from pathlib import Path

from tascnet.data.formats.coco_categories import COCO
from tascnet.data.formats.coco_json import read_label_space
from tascnet.files import read_json


def test_numbers() -> None:
    assert len(COCO.things) == 80
    assert len(COCO.stuff) == 53
    assert [category.id for category in COCO.categories] == sorted(category.id for category in COCO.categories)
    assert (COCO[1].name, COCO[90].name, COCO[92].name, COCO[200].name) == (
        "person", "toothbrush", "banner", "rug-merged",
    )  # fmt: skip


def test_are_those_of_the_annotation(shared_data: Path) -> None:
    path = shared_data / "coco_mini" / "annotations" / "panoptic_val2017.json"
    assert read_label_space(path, read_json(path)["categories"]) == COCO
