"""The Python in docs/python.md runs as it stands, one block after the other."""

import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from stand_in_detections import StandInDetections

from tascnet import convert

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run(number: int, names: dict[str, Any]) -> None:
    exec(compile(BLOCKS[number], f"python.md, block {number}", "exec"), names)


def test_every_block_runs(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 9
    shutil.copytree(tiny_run, tmp_path / "runs" / "demo")
    (tmp_path / "photos").mkdir()
    generator = np.random.default_rng(0)
    for name in ("photo.jpg", "other.jpg", "photos/a.png", "photos/b.png"):
        Image.fromarray(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(tmp_path / name)
    (tmp_path / "photos" / "c.png").write_text("no picture")
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}

    run(0, names)
    assert capsys.readouterr().out.endswith("torch.Size([64, 96])\n")
    run(1, names)
    with Image.open("overlay.png") as overlay:
        assert overlay.size == (96, 64)
    before = names["result"]
    run(2, names)
    assert names["result"].semantic.shape == (64, 96)
    run(3, names)
    assert torch.equal(names["result"].segmentation.id_map, before.segmentation.id_map)
    run(4, names)
    assert names["network"].label_space == names["predictor"].label_space
    assert (tmp_path / "demo.safetensors").is_file()
    run(5, names)
    assert [p.segmentation.size for p in names["predictions"]] == [s.size for s in names["segmentations"]]
    run(6, names)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["a.png", "b.png", "left"]
    run(7, names)
    assert torch.equal(names["again"].id_map, names["segmentation"].id_map)
    try:
        import supervision  # noqa: F401
    except ImportError:
        monkeypatch.setitem(sys.modules, "supervision", SimpleNamespace(Detections=StandInDetections))
    run(8, names)
    labels = [convert.to_label_map(names[name], names["label_space"]) for name in ("again", "segmentation")]
    assert np.array_equal(labels[0] // 1000, labels[1] // 1000)
