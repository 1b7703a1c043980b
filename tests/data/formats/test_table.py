"""A sixth format: one module (here: one class and `find_splits`) and one row."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tascnet.build import build_dataset
from tascnet.config import Config, DatasetConfig
from tascnet.data.bad_samples import LeftOut
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.dataset import FormatDataset
from tascnet.data.formats.table import FORMATS, Format, check_dataset
from tascnet.data.problems import DataError, Kind, OnProblem
from tascnet.data.sample import Sample
from tascnet.data_tools.check import check_data
from tascnet.data_tools.convert import convert_data
from tascnet.data_tools.sources import find_sources
from tascnet.data_tools.stats import count_data
from tascnet.errors import InputError
from tascnet.evaluation.evaluate import evaluate_checkpoint
from tascnet.files import read_json
from tascnet.settings import read_config, to_dict
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment
from tascnet.training import train

SPACE = LabelSpace((Category(1, "sky", False), Category(2, "car", True)))


class Letters(FormatDataset):
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
        if len(set(map(len, rows))) > 1:
            raise DataError(f"{self._files[index]} has rows of different lengths.", Kind.OTHER)
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


def in_yaml(tmp_path: Path, tiny_config: Callable[[], Config], **dataset: object) -> Path:
    """A configuration file that trains and validates on letters."""
    values = to_dict(tiny_config())
    values["data"]["train"] = values["data"]["val"] = {"format": "letters", **dataset}
    path = tmp_path / "letters.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_a_new_format_opens_for_training(root):
    dataset = build_dataset(DatasetConfig(format="letters", root=str(root), split="all", num_images=1))
    assert len(dataset) == 1
    assert [(s.category_id, s.area) for s in dataset[0].segmentation.segments] == [(1, 8), (2, 4)]


def test_a_new_format_is_recognised_counted_and_converted(root, tmp_path):
    assert [s.settings.format for s in find_sources(root, "auto", None, DatasetConfig())] == ["letters"]
    count_data(root, "auto", None, DatasetConfig(), tmp_path / "stats.json")
    (split,) = read_json(tmp_path / "stats.json")["splits"]
    assert split["format"] == "letters"
    assert {c["name"]: c["pixels"] for c in split["categories"]} == {"sky": 11, "car": 5}
    convert_data(root, tmp_path / "coco", "auto", None, "copy", DatasetConfig(), left_out=LeftOut())
    written = CocoPanoptic.from_layout(tmp_path / "coco", "all")
    assert [[s.area for s in written.annotation(i).segments] for i in range(2)] == [[8, 4], [3, 1]]


def test_problems_of_a_new_format_reach_the_check(root, tmp_path):
    assert check_data(root, "letters", None, DatasetConfig(), tmp_path / "out")
    (root / "c.letters").write_text("")
    assert not check_data(root, "letters", None, DatasetConfig(), tmp_path / "out")
    (split,) = read_json(tmp_path / "out" / "check.json")["splits"]
    assert split["pictures"] == 2
    assert [f["text"] for f in split["findings"] if f["error"]] == [f"{root / 'c.letters'} is empty."]


def test_what_cannot_be_read_of_a_new_format_is_a_finding(root, tmp_path):
    (root / "b.letters").write_text("ss\ns\n")
    assert not check_data(root, "letters", None, DatasetConfig(), tmp_path / "out")
    (split,) = read_json(tmp_path / "out" / "check.json")["splits"]
    assert [(f["picture"], f["text"]) for f in split["findings"] if f["error"]] == [
        ("number 1", f"{root / 'b.letters'} has rows of different lengths.")
    ]


def test_a_new_format_is_trained_and_evaluated(root, tmp_path, tiny_config):
    config = read_config(in_yaml(tmp_path, tiny_config, root=str(root), split="all"))
    config.training.steps = 1
    train(config, tmp_path / "run", "tascnet train")
    measured, _ = evaluate_checkpoint(tmp_path / "run", {}, {}, tmp_path / "evaluation", "cpu")
    assert measured.num_images == 2
    assert list(measured.segmentation.pictures) == ["a", "b"]


def test_settings_that_a_new_format_needs_are_asked_for(root, tmp_path, tiny_config):
    with pytest.raises(InputError, match=r"data\.train has format letters and needs data\.train\.split; give it"):
        read_config(in_yaml(tmp_path, tiny_config, root=str(root)))


def test_an_unknown_format_is_answered_with_the_known_ones(tmp_path):
    with pytest.raises(InputError, match=r"--format is 'cooc'; it must be one of streets, coco, coco_instances, "):
        find_sources(tmp_path, "cooc", None, DatasetConfig())
    with pytest.raises(InputError, match=r"data\.val\.format is 'cooc'; it must be one of streets, coco, "):
        check_dataset(DatasetConfig(format="cooc"), "data.val")
    with pytest.raises(InputError, match=r"^format is 'cooc'; it must be one of"):
        build_dataset(DatasetConfig(format="cooc"))
