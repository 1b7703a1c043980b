"""Training: a few steps end to end; interrupted and resumed it ends in the same weights, bit by bit."""

import errno
import json
import math
import os
import re
import shutil
import signal
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from edited_checkpoint import forget_checksum
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tascnet.commands.console import ConsoleObserver
from tascnet.config import Config, DatasetConfig
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.streets.dataset import Streets
from tascnet.errors import InputError, Interrupted
from tascnet.evaluation.evaluate import evaluate_checkpoint
from tascnet.evaluation.report import Report
from tascnet.networks import files as network_files
from tascnet.networks.network import Origin
from tascnet.networks.opening import load_network
from tascnet.runs.state import RunState, State, read_state
from tascnet.structures import PanopticSegmentation, Size
from tascnet.training import Progress, loop, resume, total_loss, train
from tascnet.training import run as module

QUIET = Console(quiet=True)
LOSSES = {"rpn_cls", "rpn_box", "cls", "box", "mask", "stuff", "tasc", "total"}


def run(config: Config, folder: Path) -> Path:
    train(config, folder, "tascnet train")
    return folder


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(load_network(folder).path / name)


def assert_same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert not different


@dataclass(frozen=True)
class Annotated:
    """A picture to be written as COCO files."""

    segmentation: PanopticSegmentation
    name: str = "a"
    image_id: int = 1


class TestTheRunFolder:
    def test_has_all_files(self, tiny_run: Path):
        found = {path.relative_to(tiny_run).as_posix() for path in tiny_run.rglob("*") if path.is_file()}
        events = {name for name in found if name.startswith("tensorboard/events")}
        checkpoint_files = (
            "checkpoint.json",
            "config.yaml",
            "model.safetensors",
            "training.json",
            "training.safetensors",
        )
        assert len(events) == 1
        assert found - events == {
            "config.yaml",
            "run.json",
            "state.json",
            "running.lock",
            "metrics.jsonl",
            "report.json",
            "report.md",
            "pictures/best.png",
            "pictures/worst.png",
            "checkpoints/best.json",
            *(f"checkpoints/step_00000{step}/{name}" for step in (1, 2) for name in checkpoint_files),
        }

    def test_every_step_has_its_losses(self, tiny_run: Path):
        steps = [line for line in metrics(tiny_run) if "loss/total" in line]
        assert [line["step"] for line in steps] == [1, 2]
        for line in steps:
            assert {name.removeprefix("loss/") for name in line if name.startswith("loss/")} == LOSSES
            assert all(math.isfinite(value) for value in line.values())
            assert line["images_per_second"] > 0
        assert [line["lr"] for line in steps] == pytest.approx([0.001, 0.0005])  # cosine: half at half time

    def test_every_step_has_its_pace(self, tiny_run: Path):
        for line in (line for line in metrics(tiny_run) if "loss/total" in line):
            assert 0 <= line["data_wait"] < 1
            assert 0.05 < line["memory_gib"] < 64
            assert line["seconds"] > 0
        first, last = (line for line in metrics(tiny_run) if "loss/total" in line)
        assert first["seconds_left"] > 0
        assert last["seconds_left"] == 0

    def test_the_docs_list_every_key(self, tiny_run: Path):
        docs = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
        logged = {name for line in metrics(tiny_run) for name in line}
        assert {name for name in logged if f"`{name}`" not in docs} == set()

    def test_tensorboard_has_curves_and_pictures(self, tiny_run: Path):
        events = EventAccumulator(str(tiny_run / "tensorboard")).Reload()
        assert {"loss/total", "lr", "images_per_second", "data_wait", "val/pq"} <= set(events.Tags()["scalars"])
        names = events.Tags()["images"]  # the validation set has two pictures, fewer than are asked for
        assert len(names) == 2
        assert [image.step for name in names for image in events.Images(name)] == [2, 2]

    def test_the_validation_is_the_report(self, tiny_run: Path):
        (line,) = [line for line in metrics(tiny_run) if "val/pq" in line]
        report = json.loads((tiny_run / "report.json").read_text())
        assert line["step"] == 2
        assert line["val/pq"] == report["pq"]["all"]
        assert line["val/miou"] == report["miou"]
        assert report["images"] == 2

    def test_the_checkpoint_evaluates_to_the_same(self, tiny_run: Path, tmp_path: Path):
        report, _ = evaluate_checkpoint(tiny_run, {}, {}, tmp_path, "cpu")
        written = json.loads((tiny_run / "report.json").read_text())
        again = report.to_dict()
        assert written.pop("step") == 2
        for timing in (written, again):
            timing.pop("seconds_per_image")
        facts = {name: written.pop(name) for name in ("command", "dataset")}
        assert facts["command"] == "tascnet train --config tiny.yaml"
        assert facts["dataset"]["first"] == 1000
        # folded batch norm rounds otherwise
        assert again.pop("mean_doubt") == pytest.approx(written.pop("mean_doubt"), rel=1e-5)
        assert again == written


def test_the_origin_of_the_weights_is_told_and_kept(
    tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "load_imagenet_weights", lambda backbone, name, weights: f"a shelf with {name}")
    config = tiny_config()
    config.model.backbone.weights = "imagenet"
    config.training.steps = 1
    console = Console(file=StringIO(), width=200)
    train(config, tmp_path / "run", "tascnet train", ConsoleObserver(console))
    told = "backbone test_efficientnet: pretrained weights from a shelf with test_efficientnet"
    assert told in console.file.getvalue()  # type: ignore[attr-defined]
    assert load_network(tmp_path / "run").origin.weights == (told,)


class TestResuming:
    @pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
    def test_ends_in_the_same_weights(self, tiny_config: Callable[[], Config], tmp_path: Path, optimizer: str):
        config = tiny_config()
        config.training.steps, config.training.checkpoint_every = 4, 2
        config.data.input.color_jitter = 0.3  # random numbers in the augmentation
        config.optimizer.name, config.training.channels_last = optimizer, True
        straight = run(config, tmp_path / "straight")
        interrupted = tmp_path / "interrupted"
        shutil.copytree(straight, interrupted)
        shutil.rmtree(interrupted / "checkpoints" / "step_000004")
        (interrupted / "report.json").unlink()

        resume(interrupted)

        for name in ("model.safetensors", "training.safetensors"):
            assert_same(tensors(interrupted, name), tensors(straight, name))
        kept = ("step", "loss/total", "lr", "val/pq", "val/miou")
        assert [{name: line.get(name) for name in kept} for line in metrics(interrupted)] == [
            {name: line.get(name) for name in kept} for line in metrics(straight)
        ]
        assert (interrupted / "report.json").exists()

    def test_another_seed_ends_in_other_weights(self, tiny_config: Callable[[], Config], tmp_path: Path):
        """Otherwise equal weights would prove nothing."""
        config = tiny_config()
        config.training.seed = 1
        first = tensors(run(tiny_config(), tmp_path / "first"))
        other = tensors(run(config, tmp_path / "other"))
        assert any(not torch.equal(first[name], other[name]) for name in first)

    def test_the_time_goes_on(self, tiny_config: Callable[[], Config], tiny_run: Path, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_run, folder)
        shutil.rmtree(folder / "checkpoints" / "step_000002")
        file = folder / "checkpoints" / "step_000001" / "training.json"
        facts = json.loads(file.read_text())
        facts["progress"]["seconds"] = 1000.0
        file.write_text(json.dumps(facts))
        resume(folder)
        assert 1000 < load_network(folder).seconds < 1100
        assert load_network(folder).origin == load_network(tiny_run).origin != Origin()

    def test_a_finished_run_takes_no_step(self, tiny_run: Path, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_run, folder)
        resume(folder)
        assert_same(tensors(folder), tensors(tiny_run))
        assert [line["step"] for line in metrics(folder) if "loss/total" in line] == [1, 2]

    def test_a_checkpoint_folder_is_no_run(self, tiny_run: Path):
        checkpoint = tiny_run / "checkpoints" / "step_000002"
        before = sorted(checkpoint.iterdir())
        with pytest.raises(InputError, match="step_000002 is not a run folder"):
            resume(checkpoint)
        assert sorted(checkpoint.iterdir()) == before

    def test_a_run_whose_checkpoints_are_gone(self, tiny_run: Path, tmp_path: Path):
        shutil.copytree(tiny_run, tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        before = metrics(tmp_path / "run")
        with pytest.raises(InputError, match="holds no checkpoint"):
            resume(tmp_path / "run")
        assert metrics(tmp_path / "run") == before

    def test_the_network_keeps_its_order_of_categories(
        self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path
    ):
        """The same categories in another order in the file: their channels in the network must not change places."""
        root = tmp_path / "data"
        shutil.copytree(tiny_coco, root)
        config = tiny_config()
        config.data.train = config.data.val = DatasetConfig(format="coco", root=str(root), split="mini")
        config.training.steps = 3
        straight = run(config, tmp_path / "straight")
        interrupted = tmp_path / "interrupted"
        shutil.copytree(straight, interrupted)
        shutil.rmtree(interrupted / "checkpoints" / "step_000003")
        file = root / "annotations" / "panoptic_mini.json"
        content = json.loads(file.read_text())
        content["categories"].reverse()
        file.write_text(json.dumps(content))

        resume(interrupted)

        assert load_network(interrupted).label_space == load_network(straight).label_space
        assert_same(tensors(interrupted), tensors(straight))


def patch_step(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], None]) -> None:
    """Call something at the beginning of each step, with the number of the step."""
    step = loop.Training._step

    def patched(self: loop.Training, *arguments: Any) -> Any:
        at(self.progress.step)
        return step(self, *arguments)

    monkeypatch.setattr(loop.Training, "_step", patched)


def spoil(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Make the loss of some steps not a number."""
    now = [0]
    total = loop.total_loss
    patch_step(monkeypatch, lambda step: now.__setitem__(0, step))
    monkeypatch.setattr(
        loop, "total_loss", lambda *arguments: total(*arguments) * (math.nan if now[0] in steps else 1.0)
    )


class TestBadSteps:
    def test_a_step_that_is_not_finite_is_not_applied(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = tiny_config()
        config.training.steps = 3
        spoil(monkeypatch, 2)
        folder = run(config, tmp_path)
        first, second = (
            load_file(folder / "checkpoints" / name / "model.safetensors") for name in ("step_000002", "step_000003")
        )
        assert_same(first, second)
        line = metrics(folder)[2]
        assert line["loss/total"] is None
        assert math.isfinite(line["loss/stuff"])
        (file,) = (folder / "bad_batches").iterdir()
        assert file.name == "step_000002.json"
        assert len(json.loads(file.read_text())["batches"][0]["images"]) == 2
        report = json.loads((folder / "report.json").read_text())
        assert report["notes"] == ["1 training steps were not applied, because losses or gradients were not finite."]

    def test_a_gradient_that_is_not_finite(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        clip = loop.Training._clip_gradients
        monkeypatch.setattr(loop.Training, "_clip_gradients", lambda self: clip(self) * math.inf)
        config = tiny_config()
        config.training.steps = 5
        with pytest.raises(InputError, match=r"losses are finite, but the norm of the gradients is inf"):
            run(config, tmp_path)
        assert len(list((tmp_path / "bad_batches").iterdir())) == 3

    def test_two_in_a_row_and_then_two_more_do_not_end_it(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = tiny_config()
        config.training.steps = 6
        spoil(monkeypatch, 0, 1, 3, 4)
        assert (run(config, tmp_path) / "report.json").exists()

    def test_a_run_that_is_resumed_between_them_counts_on(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = tiny_config()
        config.training.steps = 4
        spoil(monkeypatch, 1, 2, 3)
        with pytest.raises(InputError, match="3 steps in a row"):
            run(config, tmp_path)  # the checkpoint of step 3 knows of two
        with pytest.raises(InputError, match="3 steps in a row"):
            resume(tmp_path)


class TestStopping:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_a_signal_ends_it_after_the_step(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
    ):
        config = tiny_config()
        config.training.steps, config.training.checkpoint_every, config.data.workers = 4, 100, 1
        straight = run(config, tmp_path / "straight")
        stopped = tmp_path / "stopped"
        with monkeypatch.context() as patched:
            patch_step(patched, lambda step: os.kill(os.getpid(), number) if step == 1 else None)
            with pytest.raises(Interrupted, match=rf"step 2 is saved. Go on with: tascnet train --resume {stopped}"):
                run(config, stopped)
        assert [path.name for path in (stopped / "checkpoints").iterdir()] == ["step_000002"]
        resume(stopped)
        assert_same(tensors(stopped), tensors(straight))

    def test_a_signal_during_a_validation(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        """The validation is made up for."""
        config = tiny_config()
        config.training.steps, config.training.validate_every = 3, 2
        with monkeypatch.context() as patched:
            predict = loop.Predictor.predict
            patched.setattr(
                loop.Predictor, "predict", lambda *given: (os.kill(os.getpid(), signal.SIGTERM), predict(*given))[1]
            )
            with pytest.raises(Interrupted, match=r"step 2 is saved"):
                run(config, tmp_path)
        resume(tmp_path)
        assert [line["step"] for line in metrics(tmp_path) if "val/pq" in line] == [2, 3]

    def test_on_the_command_line(self, tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tascnet: Any):
        folder = shutil.copytree(tiny_run, tmp_path / "run")
        shutil.rmtree(folder / "checkpoints" / "step_000002")
        patch_step(monkeypatch, lambda step: os.kill(os.getpid(), signal.SIGINT))
        config = folder / "checkpoints" / "step_000001" / "config.yaml"
        config.write_text(config.read_text().replace("steps: 2", "steps: 5"))
        forget_checksum(config.parent)
        said = tascnet("train", "--resume", folder)
        assert said.code == 130
        assert said.err == f"tascnet: stopped: step 2 is saved. Go on with: tascnet train --resume {folder}\n"


class TestCheckpoints:
    def test_a_broken_one_is_named_and_the_one_before_is_taken(self, tiny_run: Path, tmp_path: Path):
        folder = shutil.copytree(tiny_run, tmp_path / "run")
        file = folder / "checkpoints" / "step_000002" / "training.safetensors"
        content = bytearray(file.read_bytes())
        content[-9] ^= 4
        file.write_bytes(content)
        console = Console(file=StringIO(), width=500)
        resume(folder, ConsoleObserver(console))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert re.search(r"not usable, and the one before is taken: .*step_000002\S+ is not what was written", shown)
        assert "going on from step 1" in shown
        assert_same(tensors(folder), tensors(tiny_run))
        assert_same(tensors(folder, "training.safetensors"), tensors(tiny_run, "training.safetensors"))

    def test_a_full_disk_leaves_the_one_before(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = tiny_config()
        save = network_files.save_file

        def full(tensors: dict, path: Path, *metadata: dict) -> None:
            if any((tmp_path / "checkpoints").glob("step_*")):
                path.write_bytes(b"half")
                raise OSError(errno.ENOSPC, "No space left on device")
            save(tensors, path, *metadata)

        monkeypatch.setattr(network_files, "save_file", full)
        with pytest.raises(InputError, match=r"cannot write the checkpoint .*step_000002: .*No space left.*free space"):
            run(config, tmp_path)
        assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
        assert load_network(tmp_path).step == 1

    def test_the_best_stays_beside_the_newest(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        qualities = iter([10.0, 30.0, 20.0, 30.0, 5.0])
        summary = Report.summary
        monkeypatch.setattr(Report, "summary", lambda report: summary(report) | {"pq": pqs[id(report)]})
        pqs: dict[int, float] = {}
        kept = []
        evaluated = loop.Training._evaluate

        def measured(self: loop.Training, *given: Any) -> Report:
            report = evaluated(self, *given)
            kept.append(report)  # so that no id is used twice
            pqs[id(report)] = next(qualities)
            return report

        monkeypatch.setattr(loop.Training, "_evaluate", measured)
        config = tiny_config()
        config.training.steps, config.training.validate_every, config.training.keep_last = 5, 1, 1
        run(config, tmp_path)
        assert json.loads((tmp_path / "checkpoints" / "best.json").read_text()) == {
            "checkpoint": "step_000002",
            "step": 2,
            "pq": 30.0,
            "weights": "raw",
        }
        folders = sorted(path.name for path in (tmp_path / "checkpoints").glob("step_*"))
        assert folders == ["step_000002", "step_000005"]

    def test_what_a_killed_process_left_is_removed(self, tiny_run: Path, tmp_path: Path):
        folder = shutil.copytree(tiny_run, tmp_path / "run")
        (folder / "checkpoints" / ".writing-abc").mkdir()
        (folder / "checkpoints" / ".writing-abc" / "model.safetensors").write_bytes(b"half")
        resume(folder)
        assert not list((folder / "checkpoints").glob(".*"))


class TestGoingOnByItself:
    def test_with_the_same_settings(self, tiny_config: Callable[[], Config], tiny_run: Path, tmp_path: Path):
        folder = shutil.copytree(tiny_run, tmp_path / "run")
        shutil.rmtree(folder / "checkpoints" / "step_000002")
        config = tiny_config()
        config.training.resume_if_exists = True
        run(config, folder)
        assert_same(tensors(folder), tensors(tiny_run))
        assert [line["step"] for line in metrics(folder) if "loss/total" in line] == [1, 2]

    def test_when_torchrun_has_started_it_again(
        self, tiny_config: Callable[[], Config], tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
        folder = shutil.copytree(tiny_run, tmp_path / "run")
        run(tiny_config(), folder)
        assert_same(tensors(folder), tensors(tiny_run))

    def test_other_settings_are_another_run(self, tiny_config: Callable[[], Config], tiny_run: Path):
        config = tiny_config()
        config.training.resume_if_exists, config.optimizer.lr = True, 0.5
        with pytest.raises(InputError, match=r"other settings \(optimizer.lr is 0.5, there it is 0.001\)"):
            run(config, tiny_run)

    def test_an_empty_folder_is_a_new_run(self, tiny_config: Callable[[], Config], tmp_path: Path, tiny_run: Path):
        config = tiny_config()
        config.training.resume_if_exists = True
        assert_same(tensors(run(config, tmp_path)), tensors(tiny_run))


class TestSkipping:
    def broken_coco(self, tiny_coco: Path, tmp_path: Path, number: int) -> Path:
        root = shutil.copytree(tiny_coco, tmp_path / "coco")
        for photo in sorted((root / "mini").glob("*.png"))[:number]:
            photo.write_bytes(photo.read_bytes()[:200])
        return root

    def config(self, tiny_config: Callable[[], Config], root: Path) -> Config:
        config = tiny_config()
        config.data.train = DatasetConfig(format="coco", root=str(root), split="mini")
        config.data.val = DatasetConfig(format="streets", num_images=1, height=64, width=128)
        config.data.on_bad_sample, config.training.steps = "skip", 4
        return config

    def test_another_takes_its_place_and_the_report_says_so(
        self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path
    ):
        config = self.config(tiny_config, self.broken_coco(tiny_coco, tmp_path, 1))
        straight = run(config, tmp_path / "straight")
        (note,) = json.loads((straight / "report.json").read_text())["notes"]
        assert re.fullmatch(r"1 training samples could not be read and were replaced: picture .*000000.png is .*", note)
        # the same again after an interruption, whoever loads
        interrupted = shutil.copytree(straight, tmp_path / "interrupted")
        shutil.rmtree(interrupted / "checkpoints" / "step_000004")
        resume(interrupted)
        assert_same(tensors(interrupted), tensors(straight))
        assert json.loads((interrupted / "report.json").read_text())["notes"] == [note]

    @pytest.mark.parametrize("skip", [True, False])
    def test_in_the_validation(self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path, skip: bool):
        config = self.config(tiny_config, self.broken_coco(tiny_coco, tmp_path, 1))
        config.data.val, config.training.steps, config.training.ema_decay = config.data.train, 1, 0.5
        config.data.train = replace(config.data.train, root=str(tiny_coco))  # whole
        console = Console(file=StringIO(), width=500)
        if not skip:
            config.data.on_bad_sample = "fail"
            with pytest.raises(InputError, match=r"picture .*000000.png is broken"):
                train(config, tmp_path / "run", "tascnet train", ConsoleObserver(console))
            return
        train(config, tmp_path / "run", "tascnet train", ConsoleObserver(console))
        report = json.loads((tmp_path / "run" / "report.json").read_text())
        assert report["images"] == 2
        assert re.match(r"1 of 3 pictures could not be read and were left out .*: .*000000.png is ", report["notes"][0])
        assert re.search(r"left out of the validation: .*000000.png is ", console.file.getvalue())  # type: ignore[attr-defined]

    def test_nothing_can_be_read(self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path):
        config = self.config(tiny_config, self.broken_coco(tiny_coco, tmp_path, 3))
        with pytest.raises(InputError, match=r"10 samples in a row cannot be read; the last: picture .* is broken"):
            run(config, tmp_path / "run")


class TestTheAverage:
    def test_it_follows_the_weights_and_is_measured_beside_them(
        self, tiny_config: Callable[[], Config], tmp_path: Path
    ):
        config = tiny_config()
        config.training.steps, config.training.ema_decay = 4, 0.5
        folder = run(config, tmp_path / "run")
        # by hand: a copy of the weights of step 1 at first, then decays of at most 1/2 by timm's warm-up
        weights = [weights_after(config, tmp_path / f"{steps}", steps) for steps in (1, 2, 3, 4)]
        average = weights[0]
        for step, state in enumerate(weights[1:], start=1):
            decay = 0.0 if step == 1 else min(0.5, 1 - step ** (-2 / 3))
            average = {name: decay * average[name] + (1 - decay) * state[name] for name in average}
        found = tensors(folder, "ema.safetensors")
        name = "stuff_head.classifier.weight"
        assert torch.allclose(found[name], average[name], atol=1e-7)
        assert not torch.equal(found[name], tensors(folder)[name])
        (line,) = [line for line in metrics(folder) if "val/pq" in line]
        report = json.loads((folder / "report.json").read_text())
        assert report["ema"]["pq"] == line["val_ema/pq"]
        assert set(report["ema"]) == {"pq", "pq_things", "pq_stuff", "miou", "ap"}

    def test_it_is_resumed(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.steps, config.training.ema_decay = 3, 0.9
        straight = run(config, tmp_path / "straight")
        interrupted = shutil.copytree(straight, tmp_path / "interrupted")
        shutil.rmtree(interrupted / "checkpoints" / "step_000003")
        resume(interrupted)
        assert_same(tensors(interrupted, "ema.safetensors"), tensors(straight, "ema.safetensors"))


def weights_after(config: Config, folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """The weights after some steps of a run that goes on to step 4."""
    changed = deepcopy(config)
    changed.training.keep_last = 4
    run(changed, folder)
    return load_file(folder / "checkpoints" / f"step_{steps:06d}" / "model.safetensors")


class TestOneTrainingAtATime:
    def test_others_are_refused_and_change_nothing(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config, refused = tiny_config(), []

        def try_others(step: int) -> None:
            monkeypatch.undo()
            before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
            for other in (lambda: train(config, tmp_path, "theirs"), lambda: resume(tmp_path)):
                with pytest.raises(InputError) as error:
                    other()
                refused.append(str(error.value))
            assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

        patch_step(monkeypatch, try_others)
        run(config, tmp_path)
        assert refused[0].startswith(f"{tmp_path} is in use: process {os.getpid()} on ")
        assert "tascnet train" in refused[0]
        assert refused[1].startswith(f"{tmp_path} is in use: process {os.getpid()} on ")
        assert len([line for line in metrics(tmp_path) if "loss/total" in line]) == 2

    def test_a_running_run_is_not_resumed(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        refused = []

        def try_to_resume(step: int) -> None:
            if step == 1:
                with pytest.raises(InputError) as error:
                    resume(tmp_path)
                refused.append(str(error.value))

        patch_step(monkeypatch, try_to_resume)
        run(tiny_config(), tmp_path)
        assert refused[0].startswith(f"{tmp_path} is in use: process {os.getpid()} on ")
        resume(tmp_path)  # it has ended

    def test_one_that_failed_lets_others_in(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def fail(*arguments: Any) -> None:
            raise InputError("no such optimiser")

        with monkeypatch.context() as patched:
            patched.setattr(loop, "build_optimizer", fail)
            with pytest.raises(InputError, match="no such optimiser") as error:
                run(tiny_config(), tmp_path)
        assert error.traceback  # whoever holds it, as a notebook does, holds no lock
        run(tiny_config(), tmp_path)


class TestEditedSettings:
    def test_are_not_used_and_the_user_is_told(self, tiny_run: Path, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_run, folder)
        file = folder / "config.yaml"
        file.write_text(file.read_text().replace("steps: 2", "steps: 7"))
        console = Console(file=StringIO(), width=1000)
        resume(folder, ConsoleObserver(console))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert re.search(
            rf"{file} was edited and is not used \(training.steps is 7, there it is 2 in step_000002", shown
        )
        assert [line["step"] for line in metrics(folder) if "loss/total" in line] == [1, 2]

    def test_may_be_written_in_another_way(self, tiny_run: Path, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_run, folder)
        file = folder / "config.yaml"
        values = yaml.safe_load(file.read_text())
        file.write_text("# a comment\n" + yaml.safe_dump(values, sort_keys=True, default_flow_style=True))
        console = Console(file=StringIO(), width=1000)
        resume(folder, ConsoleObserver(console))
        assert "edited" not in console.file.getvalue()  # type: ignore[attr-defined]


class TestValidationsLeaveNoTrace:
    @pytest.mark.parametrize("average", [0.0, 0.9])
    def test_in_the_weights(self, tiny_config: Callable[[], Config], tmp_path: Path, average: float):
        config = tiny_config()
        config.model.backbone.norm, config.training.ema_decay = "bn", average
        config.training.steps, config.training.checkpoint_every = 5, 5
        kept = []
        for validate_every in (0, 1, 2):
            config.training.validate_every, config.training.show_images = validate_every, 2
            kept.append(run(config, tmp_path / str(validate_every)))
        for name in ("model", "training", *(["ema"] if average else [])):
            for watched in kept[1:]:
                assert_same(tensors(watched, f"{name}.safetensors"), tensors(kept[0], f"{name}.safetensors"))
        statistics = {name: value for name, value in tensors(kept[0]).items() if name.endswith("num_batches_tracked")}
        assert {int(value) for value in statistics.values()} == {5}  # they are trained, at each step

    def test_in_the_mode(self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        config = tiny_config()
        config.model.backbone.norm, config.training.ema_decay = "bn", 0.5
        config.training.steps, config.training.validate_every, config.training.show_images = 4, 1, 1
        modes = []
        step = loop.Training._step

        def noted(self: loop.Training, *arguments: Any) -> Any:
            modes.append([module.training for module in self.model.modules()])
            return step(self, *arguments)

        monkeypatch.setattr(loop.Training, "_step", noted)
        run(config, tmp_path)
        assert len(modes) == 4
        assert all(all(of_step) for of_step in modes)

    def test_in_a_run_that_is_resumed(self, tiny_config: Callable[[], Config], tmp_path: Path):
        """Between a checkpoint and its validation, which is then made first."""
        config = tiny_config()
        config.model.backbone.norm, config.training.ema_decay = "bn", 0.9
        config.training.steps, config.training.validate_every, config.training.checkpoint_every = 6, 2, 3
        straight = run(config, tmp_path / "straight")
        interrupted = tmp_path / "interrupted"
        shutil.copytree(straight, interrupted)
        shutil.rmtree(interrupted / "checkpoints" / "step_000006")
        kept = [line for line in metrics(interrupted) if line["step"] < 4 or "loss/total" in line]
        (interrupted / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        resume(interrupted)
        assert {line["step"] for line in metrics(interrupted) if "val/pq" in line} == {2, 4, 6}
        for name in ("model", "ema", "training"):
            assert_same(tensors(interrupted, f"{name}.safetensors"), tensors(straight, f"{name}.safetensors"))


class TestLimits:
    def test_max_minutes_ends_it_early(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.steps, config.training.max_minutes = 1000, 1e-6
        folder = run(config, tmp_path)
        assert [path.name for path in (folder / "checkpoints").glob("step_*")] == ["step_000001"]
        report = json.loads((folder / "report.json").read_text())
        resume(folder)  # its time is over: no step is taken
        assert [path.name for path in (folder / "checkpoints").glob("step_*")] == ["step_000001"]
        assert json.loads((folder / "report.json").read_text())["pq"] == report["pq"]

    def test_validations_on_the_way(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.steps, config.training.validate_every, config.training.log_every = 3, 1, 2
        config.training.show_images = 1
        folder = run(config, tmp_path)
        lines = metrics(folder)
        assert [line["step"] for line in lines if "val/pq" in line] == [1, 2, 3]
        events = EventAccumulator(str(folder / "tensorboard")).Reload()
        (name,) = events.Tags()["images"]
        assert [image.step for image in events.Images(name)] == [1, 2, 3]
        assert [line["step"] for line in lines if "loss/total" in line] == [1, 2]  # the first, then every second

    def test_a_loss_that_is_not_finite(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.optimizer.lr, config.training.steps = 1e9, 20
        with pytest.raises(InputError, match=r"3 steps in a row were not finite.*Lower optimizer.lr") as error:
            run(config, tmp_path)
        # the checkpoint that is left is one to go back to
        assert all(tensor.isfinite().all() for tensor in tensors(tmp_path).values())
        files = sorted((tmp_path / "bad_batches").iterdir())
        assert len(files) >= 3
        assert all(name.startswith("street") for name in json.loads(files[0].read_text())["batches"][0]["images"])
        assert read_state(tmp_path) == RunState(State.INTERRUPTED, str(error.value))

    @pytest.mark.parametrize(
        ("seconds", "max_minutes", "share"), [(0, 0, 0.25), (30, 1, 0.5), (6, 1, 0.25), (600, 1, 1.0), (600, 0, 0.25)]
    )
    def test_progress_is_the_larger_share(
        self, tiny_config: Callable[[], Config], seconds: float, max_minutes: float, share: float
    ):
        config = tiny_config()
        config.training.steps, config.training.max_minutes = 8, max_minutes
        assert Progress(2, seconds).share(config) == share


def test_the_total_is_the_weighted_sum():
    losses = {"rpn_cls": 1, "rpn_box": 2, "cls": 4, "box": 8, "mask": 16, "stuff": 32, "tasc": 64}
    tensors_of = {name: torch.tensor(float(value)) for name, value in losses.items()}
    assert total_loss(tensors_of, stuff_weight=0.5, consistency_weight=0.25).item() == 31 + 16 + 16


class TestKinds:
    def test_mixed_precision(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.precision = "bf16-mixed"
        line = metrics(run(config, tmp_path))[0]
        assert math.isfinite(line["loss/total"])
        assert all(tensor.dtype == torch.float32 for tensor in tensors(tmp_path).values() if tensor.is_floating_point())

    def test_workers_change_nothing(self, tiny_config: Callable[[], Config], tiny_run: Path, tmp_path: Path):
        config = tiny_config()
        config.data.workers, config.data.keep_in_memory = 1, True
        assert_same(tensors(run(config, tmp_path)), tensors(tiny_run))

    @pytest.mark.parametrize("workers", [0, 1])
    def test_a_broken_photo_is_one_sentence_whoever_reads_it(
        self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path, workers: int
    ):
        root = shutil.copytree(tiny_coco, tmp_path / "coco")
        for photo in (root / "mini").glob("*.png"):
            photo.write_bytes(photo.read_bytes()[:200])
        config = tiny_config()
        config.data.train = config.data.val = DatasetConfig(format="coco", root=str(root), split="mini")
        config.data.workers = workers
        with pytest.raises(InputError, match=r"street_0_00000\d\.png is broken or cut short") as error:
            run(config, tmp_path / "run")
        assert len(str(error.value).splitlines()) == 1

    def test_on_a_terminal(self, tiny_config: Callable[[], Config], tmp_path: Path):
        """There, progress bars are drawn: that of a validation inside that of the training."""
        config = tiny_config()
        config.training.validate_every = 1
        console = Console(force_terminal=True, file=StringIO(), width=200)
        train(config, tmp_path, "tascnet train", ConsoleObserver(console))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "training" in shown
        assert "validation" in shown
        assert "step 1, 0.0 min: pq " in shown
        assert "step 2, 0.0 min: pq " in shown

    def test_gradients_of_several_batches_are_added_up(self, tiny_config: Callable[[], Config], tmp_path: Path):
        """Two batches of one a step are a batch of two, where both images have as many pixels, anchors and RoIs."""
        config = tiny_config()
        config.data.train.num_images, config.data.input.flip = 1, 0.0
        config.loss.tasc, config.optimizer.name = 0.0, "sgd"
        config.model.things_head.roi_samples = 4  # one of them positive in each image
        together = metrics(run(config, tmp_path / "together"))
        config.data.batch_size, config.training.accumulate = 1, 2
        apart = metrics(run(config, tmp_path / "apart"))
        for name in ("rpn_cls", "rpn_box", "cls", "stuff", "total"):
            first, second = ([line[f"loss/{name}"] for line in lines[:2]] for lines in (together, apart))
            assert first[0] == pytest.approx(second[0], rel=1e-5), name
            # the group norms of so small a network make 3e-3 of the gradient out of fp32's rounding
            assert first[1] == pytest.approx(second[1], rel=1e-3), name
        # a gradient twice as large would show: the step changes this loss by more
        assert abs(together[1]["loss/stuff"] / together[0]["loss/stuff"] - 1) > 4e-3

    @pytest.mark.parametrize("fails", [False, True])
    def test_compiling_falls_back(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
    ):
        calls = []

        def compiled(function: Callable, **_: object) -> Callable:
            def call(*arguments: Any) -> Any:
                calls.append(function)
                if fails:
                    raise RuntimeError("no C++ compiler\nwas found")
                return function(*arguments)

            return call

        monkeypatch.setattr(torch, "compile", compiled)
        config = tiny_config()
        config.training.compile = True
        console = Console(file=StringIO(), width=500)
        train(config, tmp_path, "tascnet train", ConsoleObserver(console))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        message = "torch.compile failed (RuntimeError: no C++ compiler was found); training goes on without it."
        assert (message in shown) is fails
        assert (len(calls) > 3) is not fails
        assert_same(tensors(tmp_path), tensors(run(tiny_config(), tmp_path / "plain")))

    def test_clipping_and_the_plain_fpn(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.optimizer.clip_norm, config.training.channels_last, config.model.backbone.added_stages = (
            0.1,
            False,
            False,
        )
        config.model.stuff_head.outputs, config.fusion = "all", replace(config.fusion, method="unguided")
        assert len(metrics(run(config, tmp_path))) == 3

    def test_coco_files_and_crops(self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path):
        config = tiny_config()
        config.data.train = config.data.val = DatasetConfig(format="coco", root=str(tiny_coco), split="mini")
        config.data.input.crop, config.data.input.scale_jitter = [64, 96], (0.5, 2.0)
        run(config, tmp_path)
        assert json.loads((tmp_path / "report.json").read_text())["images"] == 3


class TestRefused:
    """Nothing is written before everything that can be known is known to be usable."""

    def assert_refused(self, config: Config, folder: Path, message: str) -> None:
        with pytest.raises(InputError, match=message):
            run(config, folder)
        assert not folder.exists()

    def test_a_device_that_is_not_there(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        config = tiny_config()
        config.training.accelerator = "cuda"
        self.assert_refused(config, tmp_path / "run", "device 'cuda' is not available here; choose auto or one of")

    def test_synchronised_norm_in_processes_of_a_cpu(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        config = tiny_config()
        config.model.backbone.norm, config.training.devices = "sync_bn", 2
        with pytest.raises(InputError, match=r"norm is sync_bn, but processes on a CPU"):
            run(config, tmp_path)
        for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(value))
        config.training.devices = 1
        with pytest.raises(InputError, match=r"norm is sync_bn, but processes on a CPU"):
            run(config, tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_half_precision_on_a_processor(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.precision = "16-mixed"
        self.assert_refused(config, tmp_path / "run", r"training.precision is 16-mixed.*Set it to 32-true")

    def test_more_devices_than_there_are(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(os, "cpu_count", lambda: 2)
        config = tiny_config()
        config.training.devices = 3
        self.assert_refused(config, tmp_path / "run", r"training.devices is 3, but this machine has 2 processor cores")

    def test_settings_that_cannot_be(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.fusion = replace(config.fusion, score_threshold=7)
        self.assert_refused(config, tmp_path / "run", r"fusion.score_threshold is 7")

    def test_an_unknown_backbone(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.model.backbone.name = "resnet51"
        self.assert_refused(config, tmp_path / "run", r"backbone 'resnet51' is not a timm network; near it are \w+")

    def test_training_and_validation_of_other_categories(
        self, tiny_config: Callable[[], Config], tiny_coco: Path, tmp_path: Path
    ):
        streets = Streets(1, Size(64, 64))
        merge = streets.label_space.merge(lambda category: category.name + "s")
        annotations = tmp_path / "data" / "annotations"
        write_coco_panoptic(
            annotations / "panoptic_other.json", merge.target, [Annotated(merge(streets[0].segmentation))]
        )
        (tmp_path / "data" / "other").mkdir()
        config = tiny_config()
        config.data.val = DatasetConfig(format="coco", root=str(tmp_path / "data"), split="other")
        self.assert_refused(config, tmp_path / "run", r"data.train has \d+ categories and data.val \d+.*Use the same")

    def test_weights_that_cannot_be_had(
        self, tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        def offline(*_: object) -> str:
            raise InputError("cannot get the ImageNet weights")

        monkeypatch.setattr(module, "load_imagenet_weights", offline)
        config = tiny_config()
        config.model.backbone.weights = "imagenet"
        self.assert_refused(config, tmp_path / "run", "cannot get the ImageNet weights")

    def test_a_folder_that_cannot_be_made(self, tiny_config: Callable[[], Config], tmp_path: Path):
        (tmp_path / "file").write_text("")
        with pytest.raises(InputError, match="cannot make the folder"):
            run(tiny_config(), tmp_path / "file" / "run")

    def test_a_folder_that_holds_a_run(self, tiny_config: Callable[[], Config], tiny_run: Path):
        before = {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")}
        with pytest.raises(InputError, match=r"holds the checkpoints of an earlier run"):
            run(tiny_config(), tiny_run)
        assert {path: path.stat().st_mtime_ns for path in tiny_run.rglob("*")} == before


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: 9")])
def test_a_network_that_does_not_fit_into_the_memory(
    tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    def build(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(module, "build_model", build)
    with pytest.raises(InputError, match=r"memory ran out while the network was built: .* 0\.0 GB.*of channels"):
        train(tiny_config(), tmp_path / "run", "tascnet train")
    assert not (tmp_path / "run").exists()
