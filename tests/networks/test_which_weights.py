"""Of a run one may take the newest weights, their average, or the best: every verb, and from Python."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from said import Said

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.inference.predictor import Predictor
from tascnet.networks.opening import open_network
from tascnet.settings import Use
from tascnet.training import train


@pytest.fixture(scope="module")
def averaged_run(tiny_config: Callable[[], Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps with an average, two checkpoints. Read it, do not write into it."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    config = tiny_config()
    config.training.steps, config.training.ema_decay = 3, 0.9
    train(config, folder, "tascnet train")
    return folder


def weights_in(folder: Path, step: int, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoints/step_{step:06d}/{name}.safetensors")


def assert_same(model: torch.nn.Module, wanted: dict[str, torch.Tensor]) -> None:
    found = model.state_dict()
    assert found.keys() == wanted.keys()
    assert not [name for name in wanted if not torch.equal(found[name], wanted[name])]


def name_best(run: Path, step: int, weights: str) -> None:
    values = {"checkpoint": f"step_{step:06d}", "step": step, "pq": 1.0, "weights": weights}
    (run / "checkpoints" / "best.json").write_text(json.dumps(values))


def test_the_newest_and_its_average(averaged_run: Path):
    raw, average = weights_in(averaged_run, 3, "model"), weights_in(averaged_run, 3, "ema")
    assert any(not torch.equal(raw[name], average[name]) for name in raw)  # otherwise equal weights prove nothing
    assert_same(open_network(averaged_run).model, raw)
    assert_same(open_network(averaged_run, use="average").model, average)
    checkpoint = averaged_run / "checkpoints" / "step_000002"
    average = weights_in(averaged_run, 2, "ema")
    assert_same(open_network(checkpoint, use="average").model, average)
    folded = Predictor.from_checkpoint(checkpoint, use="average").engine.model
    name = "stuff_head.classifier.weight"  # which no norm follows
    assert torch.equal(folded.state_dict()[name], average[name])


@pytest.mark.parametrize(("step", "weights", "file"), [(2, "raw", "model"), (2, "ema", "ema"), (3, "ema", "ema")])
def test_the_best_is_what_the_run_says(averaged_run: Path, tmp_path: Path, step: int, weights: str, file: str):
    run = shutil.copytree(averaged_run, tmp_path / "run")
    name_best(run, step, weights)
    assert_same(open_network(run, use="best").model, weights_in(run, step, file))


def test_an_average_tells_its_origin_and_its_own_figures(averaged_run: Path):
    opened, raw = open_network(averaged_run, use="average"), open_network(averaged_run)
    *first, last = opened.origin.weights
    assert tuple(first) == raw.origin.weights
    assert last == "then averaged over the steps of the training (training.ema_decay 0.9)"
    (line,) = [
        json.loads(text)
        for text in (averaged_run / "metrics.jsonl").read_text().splitlines()
        if "val/pq" in json.loads(text)
    ]
    for figures, prefix in ((opened.evaluation.figures, "val_ema/"), (raw.evaluation.figures, "val/")):
        assert (figures["PQ"], figures["mIoU"]) == (line[f"{prefix}pq"], line[f"{prefix}miou"])


def triage(tascnet: Callable[..., Said], network: Path, photo: Path, output: Path, *options: str) -> object:
    """The measures of one photo."""
    assert tascnet("triage", network, photo, "--output", output, "--device", "cpu", *options).code == 0
    return json.loads((output / "triage.json").read_text())["ranking"]


def test_every_verb_takes_them(averaged_run: Path, tmp_path: Path, tascnet: Callable[..., Said]):
    run = shutil.copytree(averaged_run, tmp_path / "run")
    trained = json.loads((run / "report.json").read_text())
    name_best(run, 3, "ema")
    for use in ("average", "best"):
        assert tascnet("evaluate", run, "--use", use, "--device", "cpu").code == 0
        assert json.loads((run / f"evaluation-{use}" / "report.json").read_text())["miou"] == trained["ema"]["miou"]
    assert trained["ema"]["miou"] != trained["miou"]
    assert "then averaged over the steps" in tascnet("info", run, "--use", "average").out.replace("\n", " ")
    assert tascnet("share", run, tmp_path / "shared", "--use", "average").code == 0
    assert_same(open_network(tmp_path / "shared").model, weights_in(run, 3, "ema"))
    Image.fromarray(np.full((64, 128, 3), 90, dtype=np.uint8)).save(tmp_path / "photo.png")
    photo, options = tmp_path / "photo.png", ("--device", "cpu")
    wanted = tascnet("predict", tmp_path / "shared", photo, "--output", tmp_path / "wanted", *options)
    said = tascnet("predict", run, photo, "--output", tmp_path / "out", "--use", "average", *options)
    assert wanted.code == said.code == 0
    assert (tmp_path / "out/panoptic.json").read_text() == (tmp_path / "wanted/panoptic.json").read_text()
    measured = {
        name: triage(tascnet, network, photo, tmp_path / name, *more)
        for name, network, more in (
            ("of shared", tmp_path / "shared", ()),
            ("of average", run, ("--use", "average")),
            ("of newest", run, ()),
        )
    }
    assert measured["of average"] == measured["of shared"] != measured["of newest"]


@pytest.mark.parametrize(
    ("verb", "use", "said"),
    [
        ("evaluate", "average", "step_000002 holds no averaged weights: they are kept in training with"),
        ("predict", "average", "step_000002 holds no averaged weights"),
        ("triage", "average", "step_000002 holds no averaged weights"),
        ("share", "average", "step_000002 holds no averaged weights"),
        ("info", "average", "step_000002 holds no averaged weights"),
        ("info", "best", "step_000002 has no best checkpoint: there is no best.json in its checkpoints/"),
    ],
)
def test_what_is_not_there(
    tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said], verb: str, use: str, said: str
):
    Image.new("RGB", (64, 64)).save(tmp_path / "photo.png")
    photo = [tmp_path / "photo.png", "--output", tmp_path / "out"]
    more = {"predict": photo, "triage": photo, "share": [tmp_path / "out"]}
    answer = tascnet(verb, tiny_run / "checkpoints" / "step_000002", *more.get(verb, []), "--use", use)
    assert answer.code == 2
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("use", ["average", "best"])
def test_a_file_of_weights_has_neither(panoptic_fpn_file: Path, use: Use):
    with pytest.raises(InputError, match=r"panoptic.pkl (is one file of weights|has no best checkpoint)"):
        open_network(panoptic_fpn_file, use=use)


def test_a_best_that_is_gone(averaged_run: Path, tmp_path: Path):
    run = shutil.copytree(averaged_run, tmp_path / "run")
    name_best(run, 1, "raw")
    with pytest.raises(InputError, match=r"step_000001 does not exist"):
        open_network(run, use="best")
    (run / "checkpoints" / "best.json").write_text("[]")
    with pytest.raises(InputError, match=r"best.json names no checkpoint"):
        open_network(run, use="best")
