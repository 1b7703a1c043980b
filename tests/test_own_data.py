"""Every command of docs/own_data.md runs, on data made here and with a tiny network; its YAML is read as it stands."""

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tascnet.cli import main
from tascnet.config import Config
from tascnet.settings import from_dict, to_dict

PAGE = (Path(__file__).parents[1] / "docs" / "own_data.md").read_text(encoding="utf-8")
FILES = dict(zip(("categories", "groups", "config"), re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL), strict=True))
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
HEIGHT, WIDTH = 64, 128
CAR, PERSON = (40, 20, 60, 60), (24, 80, 60, 100)  # top, left, bottom, right


def paint(numbers: np.ndarray, box: tuple[int, int, int, int], value: int) -> None:
    top, left, bottom, right = box
    numbers[top:bottom, left:right] = value


def photo(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8))


def write_pairs(folder: Path, seed: int) -> None:
    """Sky over a road with a car and a person, and a corner that nobody labelled."""
    categories = np.ones((HEIGHT, WIDTH), np.uint8)
    categories[32:] = 2
    instances = np.zeros_like(categories)
    for number, (box, category) in enumerate(((CAR, 3), (PERSON, 4)), start=1):
        paint(categories, box, category)
        paint(instances, box, number)
    paint(categories, (0, 0, 8, 8), 255)
    for name, picture in (("categories", Image.fromarray(categories)), ("instances", Image.fromarray(instances))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture.save(folder / name / f"{seed}.png")
    (folder / "images").mkdir(exist_ok=True)
    photo(seed).save(folder / "images" / f"{seed}.jpg")


def write_polygons(root: Path) -> None:
    """A picture with a car, and a person in front of it."""
    corners = [[20, 30, 70, 30, 70, 60, 20, 60]], [[60, 20, 80, 20, 80, 60, 60, 60]]
    annotations = [
        {"id": number, "image_id": 1, "category_id": number + 2, "segmentation": polygon}
        for number, polygon in enumerate(corners, start=1)
    ]
    categories = [{"id": 3, "name": "car"}, {"id": 4, "name": "person"}]
    images = [{"id": 1, "file_name": "one.jpg", "height": HEIGHT, "width": WIDTH}]
    (root / "annotations" / "semantic_train").mkdir(parents=True)
    (root / "train").mkdir()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_train.json").write_text(json.dumps(content))
    Image.new("L", (WIDTH, HEIGHT), 2).save(root / "annotations" / "semantic_train" / "one.png")
    photo(9).save(root / "train" / "one.jpg")
    (root / "categories.yaml").write_text(FILES["categories"])


def shrunk(config: Config) -> str:
    """The configuration of the page, with the network and the two steps of the tests."""
    values = yaml.safe_load(FILES["config"])
    tiny = to_dict(config)
    values |= {name: tiny[name] for name in ("model", "fusion", "optimizer", "training")}
    values["data"] |= {"input": {}, "workers": 0}
    return yaml.safe_dump(values)


def test_the_commands_run(
    tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, split in ((1, "train"), (2, "train"), (3, "val")):
        write_pairs(tmp_path / "mydata" / split, seed)
    (tmp_path / "mydata" / "categories.yaml").write_text(FILES["categories"])
    (tmp_path / "groups.yaml").write_text(FILES["groups"])
    (tmp_path / "mydata.yaml").write_text(shrunk(tiny_config()))
    write_polygons(tmp_path / "polygons")
    assert len(COMMANDS) == 10
    for command in COMMANDS:
        program, *arguments = shlex.split(command)
        assert program == "tascnet"
        assert main(arguments) == 0, command + capsys.readouterr().err
    for made in (
        "checked/check.json",
        "checked/contact_sheet.png",
        "stats.json",
        "mydata_coco/annotations/panoptic_train.json",
        "mydata_coco/val/3.jpg",
        "polygons_coco/annotations/panoptic_train/one.png",
        "runs/mydata/report.json",
        "runs/mydata/evaluation/worst.png",
        "results/overlays/3.png",
        "results/panoptic.json",
    ):
        assert (tmp_path / made).is_file(), made
    assert json.loads((tmp_path / "checked" / "check.json").read_text())["splits"][0]["findings"] == []


def test_the_configuration_is_valid() -> None:
    config = from_dict(yaml.safe_load(FILES["config"]))
    assert (config.data.train.format, config.data.val.split) == ("png_pairs", "val")


def test_polygons_of_the_page_overlap(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """So the page's flag is needed, and the default refuses."""
    write_polygons(tmp_path / "polygons")
    assert main(["data", "check", str(tmp_path / "polygons")]) == 1
    assert "annotation 2 overlap" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "polygons" / "train")
    assert main(["data", "check", str(tmp_path / "polygons")]) == 2
