"""The Python in docs/metrics.md runs as it stands."""

import re
from pathlib import Path

import pytest

from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.streets.dataset import Streets
from tascnet.structures import Size

PAGE = (Path(__file__).parents[1] / "docs" / "metrics.md").read_text(encoding="utf-8")
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_from_python(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(CODE[0], "metrics.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    # the sky is shifted onto itself; the car shares 58 of 62 columns, of which none is void of the annotation but 2
    assert lines[0] == f"PQ {(1 + 58 / 60) / 2:.4f}, of things {58 / 60:.4f}"
    assert lines[1].startswith("car CategoryQuality(pq=0.96")
    assert lines[2].startswith("sky CategoryQuality(pq=1.0")
    assert 0.8 < float(lines[3].removeprefix("boundary PQ ")) < (1 + 58 / 60) / 2
    assert lines[4] == f"mIoU {(1 + 58 / 60) / 2:.4f}"
    assert lines[5].startswith("Matching(true_positives=(Match(prediction_id=7, annotation_id=7, iou=1.0)")


def test_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    streets = Streets(2, Size(64, 128))
    for name in ("predictions.json", "annotations.json"):
        write_coco_panoptic(tmp_path / name, streets.label_space, [streets[0], streets[1]])
    monkeypatch.chdir(tmp_path)
    exec(compile(CODE[1], "metrics.md", "exec"), {})
    out = capsys.readouterr().out
    assert "'pq': 100.0" in out
    assert "PictureQuality(pq=1.0, pq_things=1.0, pq_stuff=1.0)" in out


def test_there_are_no_other_examples() -> None:
    assert len(CODE) == 2
