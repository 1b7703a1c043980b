"""A format of one's own: one module (here: one class) and one row."""

from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from rich.console import Console

from tascnet.build import build_dataset
from tascnet.config import DatasetConfig
from tascnet.data.bad_samples import LeftOut
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.table import FORMATS, Format
from tascnet.data.problems import DataError, Kind, OnProblem
from tascnet.data.sample import Sample
from tascnet.data_tools.check import check_data
from tascnet.data_tools.convert import convert_data
from tascnet.data_tools.sources import find_sources
from tascnet.data_tools.stats import print_stats
from tascnet.files import read_json
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SPACE = LabelSpace((Category(1, "sky", False), Category(2, "car", True)))


class Letters:
    """Images as lines of text: s for sky, c for one car, anything else for void."""

    label_space = SPACE

    def __init__(self, root: str, on_problem: OnProblem) -> None:
        self._files = []
        for path in sorted(Path(root).glob("*.letters")):
            if path.read_text().strip():
                self._files.append(path)
            else:
                on_problem(DataError(f"{path} is empty.", Kind.OTHER))

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        segmentation = self.annotation(index)
        image = torch.zeros(3, *segmentation.size, dtype=torch.uint8)
        name = self._files[index].stem
        return Sample(image=image, segmentation=segmentation, name=name, image_id=name)

    def annotation(self, index: int) -> PanopticSegmentation:
        rows = self._files[index].read_text().split()
        ids = torch.tensor([["sc".find(letter) + 1 for letter in row] for row in rows], dtype=torch.int32)
        present = set(ids.flatten().tolist()) - {0}
        return PanopticSegmentation.from_id_map(ids.numpy(), [Segment(i, i, 0) for i in sorted(present)])


def find_splits(root: Path) -> list[str]:
    return ["all"] if any(root.glob("*.letters")) else []


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setitem(FORMATS, "letters", Format(lambda c, _, found: Letters(c.root, found), find_splits))
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "a.letters").write_text("sssss\nssccs\n...cc\n")
    (folder / "b.letters").write_text("ss\nsc\n")
    return folder


def test_every_name_of_the_settings_has_a_row():
    assert set(get_args(get_type_hints(DatasetConfig)["format"])) == set(FORMATS)


def test_a_new_format_opens_for_training(root):
    dataset = build_dataset(replace(DatasetConfig(root=str(root), split="all", num_images=1), format="letters"))
    assert len(dataset) == 1
    assert [(s.category_id, s.area) for s in dataset[0].segmentation.segments] == [(1, 8), (2, 4)]


def test_a_new_format_is_recognised_counted_and_converted(root, tmp_path):
    console = Console(quiet=True)
    assert [s.settings.format for s in find_sources(root, "auto", None, DatasetConfig())] == ["letters"]
    print_stats(root, "auto", None, DatasetConfig(), tmp_path / "stats.json", console)
    (split,) = read_json(tmp_path / "stats.json")["splits"]
    assert split["format"] == "letters"
    assert {c["name"]: c["pixels"] for c in split["categories"]} == {"sky": 11, "car": 5}
    convert_data(root, tmp_path / "coco", "auto", None, "copy", DatasetConfig(), console, LeftOut())
    written = CocoPanoptic.from_layout(tmp_path / "coco", "all")
    assert [[s.area for s in written.annotation(i).segments] for i in range(2)] == [[8, 4], [3, 1]]


def test_problems_of_a_new_format_reach_the_check(root, tmp_path):
    console = Console(quiet=True)
    assert check_data(root, "letters", None, DatasetConfig(), tmp_path / "out", console)
    (root / "c.letters").write_text("")
    assert not check_data(root, "letters", None, DatasetConfig(), tmp_path / "out", console)
    (split,) = read_json(tmp_path / "out" / "check.json")["splits"]
    assert split["pictures"] == 2
    assert [f["text"] for f in split["findings"] if f["error"]] == [f"{root / 'c.letters'} is empty."]
