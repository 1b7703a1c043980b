"""Counts against counting by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from said import Said
from small_sets import SPACE, segmentation, write_coco, write_pairs

from tascnet.data_tools.stats import Stats
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment


def test_a_data_set_counted_by_hand(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    """p00: sky 4, cat 3, dog 3, void 2 of 12 pixels. p01: a flock of 2, dogs of 1 and 3 of 2 x 3, no void."""
    flock = [Segment(1, 92, 0, is_crowd=True), Segment(2, 91, 0), Segment(3, 91, 0)]
    root = write_coco(tmp_path / "set", 2, p01=segmentation([[1, 1, 2], [3, 3, 3]], flock))
    said = tascnet("data", "stats", root, "--output", tmp_path / "stats.json")
    assert said.code == 0, said.err
    (split,) = json.loads((tmp_path / "stats.json").read_text())["splits"]
    assert {key: value for key, value in split.items() if key != "categories"} == {
        "split": "mini",
        "format": "coco",
        "pictures": 2,
        "height": {"min": 2, "median": 2.5, "max": 3},
        "width": {"min": 3, "median": 3.5, "max": 4},
        "instances_per_picture": {"min": 2, "median": 2, "max": 2},
        "pixels": 18,
        "void": 2 / 18,
        "instances": {"small": 4, "medium": 0, "large": 0},
        "crowds": 1,
    }
    assert [tuple(category.values()) for category in split["categories"]] == [
        (119, "sky", 0, 1, 0, 4, 1, 4 / 18),
        (184, "tree", 0, 0, 0, 0, 0, 0),
        (90, "cat", 1, 1, 0, 3, 1, 3 / 18),
        (91, "dog", 1, 3, 0, 7, 2, 7 / 18),
        (92, "flock of sheep", 1, 1, 1, 2, 1, 2 / 18),
    ]
    assert "instances: 4: 4 small (below 32 x 32), 0 medium, 0 large (96 x 96 and more); crowds: 1" in said.out
    assert "void: 11.11 % of the pixels" in said.out


@pytest.mark.parametrize(("side", "size"), [(31, "small"), (32, "medium"), (95, "medium"), (96, "large")])
def test_sizes_of_instances_are_coco_s(side: int, size: str) -> None:
    space = LabelSpace((Category(1, "box", True),))
    stats = Stats(space)
    stats.add(PanopticSegmentation.from_id_map(torch.ones(side, side, dtype=torch.int32), [Segment(1, 1, 0)]))
    assert stats.to_dict()["instances"] == {"small": 0, "medium": 0, "large": 0} | {size: 1}


def test_a_set_without_pictures_divides_by_nothing() -> None:
    assert Stats(SPACE).to_dict()["void"] is None


def test_merged_categories_and_the_first_pictures(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    write_pairs(tmp_path / "set", "", ["a", "b", "c"])
    (tmp_path / "groups.yaml").write_text("object: [car, person]\nbackground: [sky]\n")
    flags = ["--group_by", tmp_path / "groups.yaml", "--num_images", 2, "--output", tmp_path / "stats.json"]
    assert tascnet("data", "stats", tmp_path / "set", *flags).code == 0
    (split,) = json.loads((tmp_path / "stats.json").read_text())["splits"]
    assert split["pictures"] == 2
    assert [tuple(category.values())[:5] for category in split["categories"]] == [
        (2, "background", 0, 2, 0),
        (1, "object", 1, 8, 2),
    ]


def test_a_broken_annotation_is_an_error(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_pairs(tmp_path / "set", "", ["a"])
    (root / "instances" / "a.png").write_text("nothing")
    said = tascnet("data", "stats", root)
    assert said.code == 2
    assert "instances/a.png is not a picture that can be read" in said.err


def test_a_folder_as_output_is_refused_before_counting(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    said = tascnet("data", "stats", write_pairs(tmp_path / "set", "", ["a"]), "--output", tmp_path)
    assert (said.code, said.out) == (2, "")
    assert said.err == (
        f"tascnet: error: --output {tmp_path} is a folder. Name a JSON file in it, such as {tmp_path}/stats.json.\n"
    )
