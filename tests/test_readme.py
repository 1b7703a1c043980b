"""The README's Python runs as it stands, and its file tree names files that exist."""

import re
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tascnet.build import build_model, build_optimizer
from tascnet.commands.demo import demo_config
from tascnet.data.streets.dataset import STREETS
from tascnet.inference.predictor import Predictor
from tascnet.training.state import Progress, optimizer_tensors, save_checkpoint

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    config = demo_config(minutes=1, steps=1)
    torch.manual_seed(0)
    model = build_model(config, STREETS)
    optimizer = build_optimizer(config.optimizer, model)
    progress = Progress(1, 1.0)
    checkpoints, state = tmp_path / "runs/demo/checkpoints", optimizer_tensors(optimizer)
    save_checkpoint(checkpoints, model.state_dict(), state, config, STREETS, progress)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side, as phones store what was taken upright: it is seen 90 wide and 60 high
    Image.fromarray(np.full((90, 60, 3), 90, dtype=np.uint8)).save(tmp_path / "photo.jpg", exif=exif)
    monkeypatch.chdir(tmp_path)

    exec(compile(code, "README.md", "exec"), {})

    segmentation = Predictor.from_checkpoint("runs/demo")("photo.jpg")
    assert len(capsys.readouterr().out.splitlines()) == len(segmentation.segments)
    assert Image.open("overlay.png").size == (90, 60)


def test_python_of_the_readme_has_six_lines():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) == 6


def test_every_path_of_the_file_tree_exists():
    tree = re.search(r"```text\n(.*?)```", README, re.DOTALL)
    assert tree is not None
    lines = [line for line in tree.group(1).splitlines() if line.strip()]
    assert len(lines) <= 24
    named = [re.split(r"\s{2,}", line)[0].replace(",", "").split() for line in lines]
    paths = [path for line in named for path in line]  # behind the first of a line, without src/tascnet/
    for path in paths:
        assert (ROOT / path).exists() or (ROOT / "src/tascnet" / path).exists(), path


def test_every_part_is_in_the_file_tree():
    for part in (ROOT / "src/tascnet").iterdir():
        if part.name not in {"__init__.py", "__pycache__", "py.typed"}:
            assert re.search(rf"\b{re.escape(part.name)}\b", README), part.name


def test_links_and_pictures_of_the_readme_exist():
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if not target.startswith("http"):
            assert (ROOT / target).exists(), target
