"""One bad sample among good ones: every verb leaves it out, names it and returns 1; with `fail` it ends with 2."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from said import Said

from tascnet.data.bad_samples import LeftOut
from tascnet.errors import InputError, MemoryShortError
from tascnet.evaluation import panoptic_files
from tascnet.inference.predictor import Predictor

BAD = "street_0_000001.png"


@pytest.fixture
def root(tiny_coco: Path, tmp_path: Path) -> Path:
    """Three streets in COCO's layout, to be damaged."""
    return Path(shutil.copytree(tiny_coco, tmp_path / "root"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def annotation(root: Path) -> Path:
    return sorted((root / "annotations" / "panoptic_mini").iterdir())[1]


Call = Callable[[Path, Path], list[object]]

VERBS: dict[str, Call] = {
    "predict": lambda run, root: ["predict", run, root / "mini", "--output", root / "out", "--device", "cpu"],
    "triage": lambda run, root: ["triage", run, root / "mini", "--output", root / "out", "--device", "cpu"],
    "evaluate": lambda run, root: [
        *("evaluate", run, "--data.format", "coco", "--data.root", root, "--data.split", "mini"),
        *("--data.num_images", 0, "--output", root / "out", "--device", "cpu"),
    ],
    "metrics": lambda run, root: [
        *("metrics", root / "annotations/panoptic_mini.json", root / "annotations/panoptic_mini.json"),
        *("--output", root / "out"),
    ],
    "check": lambda run, root: ["data", "check", root],
    "stats": lambda run, root: ["data", "stats", root, "--output", root / "out" / "stats.json"],
    "convert": lambda run, root: ["data", "convert", root, "--output", root / "out"],
}
READS_PHOTOS = ("predict", "triage", "evaluate", "check", "convert")


@pytest.mark.parametrize("verb", VERBS)
def test_the_same_in_every_verb(tascnet: Callable[..., Said], tiny_run: Path, root: Path, verb: str):
    bad = root / "mini" / BAD if verb in READS_PHOTOS else annotation(root)
    cut(bad)
    call = VERBS[verb](tiny_run, root)
    refused = tascnet(*call, "--on_bad_sample", "fail")
    assert refused.code == 2
    assert refused.err.startswith("tascnet: error: ")
    assert refused.err.count("\n") == 1
    assert str(bad) in refused.err
    assert not list(root.glob("out/*.json"))

    said = tascnet(*call)
    assert (said.code, said.err) == (1, "")
    assert f"{bad} is broken or cut short" in said.out
    assert tascnet(*call[:-2] if verb == "convert" else call, *_elsewhere(verb, root)).out.count(str(bad)) >= 1


def _elsewhere(verb: str, root: Path) -> list[object]:
    return ["--output", root / "out2"] if verb == "convert" else []


def test_predict_writes_the_results_of_the_others(tascnet: Callable[..., Said], tiny_run: Path, root: Path):
    tascnet(*VERBS["predict"](tiny_run, root))
    whole = json.loads((root / "out" / "panoptic.json").read_text())
    first = root / "mini" / "street_0_000000.png"
    cut(first)  # the very first
    assert tascnet(*VERBS["predict"](tiny_run, root), "--batch_size", 2).code == 1
    content = json.loads((root / "out" / "panoptic.json").read_text())
    assert content["images"] == whole["images"][1:]  # with their ids
    assert [entry["image_id"] for entry in content["annotations"]] == [2, 3]


def test_nothing_left_is_refused(tascnet: Callable[..., Said], tiny_run: Path, root: Path):
    for path in [*(root / "mini").iterdir(), *(root / "annotations" / "panoptic_mini").iterdir()]:
        cut(path)
    for verb in VERBS.keys() - {"check"}:
        said = tascnet(*VERBS[verb](tiny_run, root))
        assert said.code == 2, verb
        assert said.err.count("\n") == 1
        assert not list(root.glob("out/*.json"))


def test_convert_and_stats_leave_out_one(tascnet: Callable[..., Said], tiny_run: Path, root: Path):
    cut(annotation(root))
    assert tascnet(*VERBS["stats"](tiny_run, root)).code == 1
    assert json.loads((root / "out" / "stats.json").read_text())["splits"][0]["pictures"] == 2
    said = tascnet(*VERBS["convert"](tiny_run, root))
    assert said.code == 1
    assert "mini: 2 pictures in" in said.out
    assert len(json.loads((root / "out/annotations/panoptic_mini.json").read_text())["annotations"]) == 2


def test_names_that_are_not_utf_8(tascnet: Callable[..., Said], tiny_run: Path, tmp_path: Path):
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"a\xe9.png", b"a\xff.png"):
        Image.new("RGB", (40, 30), (90, 9, 200)).save(os.path.join(os.fsencode(folder), name))
    said = tascnet("predict", tiny_run, folder, "--output", tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.err
    text = (tmp_path / "out" / "panoptic.json").read_text()
    assert "\\udc" not in text
    files = [entry["file_name"] for entry in json.loads(text)["annotations"]]
    assert len(set(files)) == 2
    assert all((tmp_path / "out" / "panoptic" / file).is_file() for file in files)


class TestMemory:
    """The network of these tests fails at photos that are wider than 100 pixels, as if memory ran out."""

    @pytest.fixture
    def predictor(self, tiny_run: Path, monkeypatch: pytest.MonkeyPatch) -> Predictor:
        predictor = Predictor.from_checkpoint(tiny_run)
        forward = predictor.engine.model.forward

        def limited(images: torch.Tensor, *rest: object) -> object:
            if images.shape[3] * len(images) > 100:
                raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 12 bytes.")
            return forward(images, *rest)

        monkeypatch.setattr(predictor.engine.model, "forward", limited)
        return predictor

    def test_a_batch_is_taken_one_by_one_and_only_the_large_photo_is_left_out(
        self, predictor: Predictor, tmp_path: Path
    ):
        for name, width in (("a", 64), ("b", 64), ("c", 130), ("d", 64)):
            Image.new("RGB", (width, 40)).save(tmp_path / f"{name}.png")
        left_out = LeftOut("skip")
        found = predictor.stream(tmp_path, batch_size=3, on_error=lambda _, error: left_out(error))
        assert [path.stem for path, _ in found] == ["a", "b", "d"]
        (error,) = left_out.errors
        assert str(error).startswith(f"{tmp_path / 'c.png'}: memory ran out while a photo of 40 x 130 pixels")

    def test_by_itself_it_is_raised(self, predictor: Predictor):
        with pytest.raises(MemoryShortError, match="40 x 130") as caught:
            predictor.predict(Image.new("RGB", (130, 40)))
        assert isinstance(caught.value, InputError)
        assert isinstance(caught.value, MemoryError)


def _die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_worker_is_one_sentence(tascnet: Callable[..., Said], root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(panoptic_files, "_count", _die)
    json_path = root / "annotations" / "panoptic_mini.json"
    said = tascnet("metrics", json_path, json_path, "--workers", 1)
    assert said.code == 2
    assert said.err.startswith("tascnet: error: a process that compares pictures was ended from outside.")
    assert said.err.count("\n") == 1
