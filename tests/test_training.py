"""Training: a few steps end to end; interrupted and resumed it ends in the same weights, bit by bit."""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tascnet import training as module
from tascnet.checkpoint import load_checkpoint
from tascnet.config import Config, DatasetConfig
from tascnet.data.coco import write_coco_panoptic
from tascnet.data.streets import Streets
from tascnet.errors import InputError
from tascnet.evaluation import evaluate_checkpoint
from tascnet.run_tools.state import RunState, State, read_state
from tascnet.structures import PanopticSegmentation, Size
from tascnet.training import Progress, resume, total_loss, train

QUIET = Console(quiet=True)
LOSSES = {"rpn_cls", "rpn_box", "cls", "box", "mask", "stuff", "tasc", "total"}


def run(config: Config, folder: Path) -> Path:
    train(config, folder, "tascnet train", QUIET)
    return folder


def metrics(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def tensors(folder: Path, name: str = "model.safetensors") -> dict[str, torch.Tensor]:
    return load_file(load_checkpoint(folder).folder / name)


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
        checkpoint_files = ("checkpoint.json", "config.yaml", "model.safetensors", "training.safetensors")
        assert len(events) == 1
        assert found - events == {
            "config.yaml",
            "run.json",
            "state.json",
            "metrics.jsonl",
            "report.json",
            "report.md",
            "pictures/best.png",
            "pictures/worst.png",
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
        report, _ = evaluate_checkpoint(tiny_run, {}, {}, tmp_path, "cpu", QUIET)
        written = json.loads((tiny_run / "report.json").read_text())
        again = report.to_dict()
        for timing in (written, again):
            timing.pop("seconds_per_image")
        facts = {name: written.pop(name) for name in ("command", "dataset")}
        assert facts["command"] == "tascnet train --config tiny.yaml"
        assert facts["dataset"]["first"] == 1000
        assert again == written


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

        resume(interrupted, QUIET)

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
        file = folder / "checkpoints" / "step_000001" / "checkpoint.json"
        facts = json.loads(file.read_text())
        facts["progress"]["seconds"] = 1000.0
        file.write_text(json.dumps(facts))
        resume(folder, QUIET)
        assert 1000 < load_checkpoint(folder).progress["seconds"] < 1100

    def test_a_finished_run_takes_no_step(self, tiny_run: Path, tmp_path: Path):
        folder = tmp_path / "run"
        shutil.copytree(tiny_run, folder)
        resume(folder, QUIET)
        assert_same(tensors(folder), tensors(tiny_run))
        assert [line["step"] for line in metrics(folder) if "loss/total" in line] == [1, 2]

    def test_a_checkpoint_folder_is_no_run(self, tiny_run: Path):
        checkpoint = tiny_run / "checkpoints" / "step_000002"
        before = sorted(checkpoint.iterdir())
        with pytest.raises(InputError, match="step_000002 is not a run folder"):
            resume(checkpoint, QUIET)
        assert sorted(checkpoint.iterdir()) == before

    def test_a_run_whose_checkpoints_are_gone(self, tiny_run: Path, tmp_path: Path):
        shutil.copytree(tiny_run, tmp_path / "run")
        shutil.rmtree(tmp_path / "run" / "checkpoints")
        before = metrics(tmp_path / "run")
        with pytest.raises(InputError, match="holds no checkpoint"):
            resume(tmp_path / "run", QUIET)
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

        resume(interrupted, QUIET)

        assert load_checkpoint(interrupted).label_space == load_checkpoint(straight).label_space
        assert_same(tensors(interrupted), tensors(straight))


class TestLimits:
    def test_max_minutes_ends_it_early(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.steps, config.training.max_minutes = 1000, 1e-6
        folder = run(config, tmp_path)
        assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step_000001"]
        assert (folder / "report.json").exists()

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
        config.optimizer.lr, config.training.steps = 1e9, 10
        with pytest.raises(
            InputError, match=r"not a finite number at step \d+ .*images street.*Lower optimizer.lr"
        ) as error:
            run(config, tmp_path)
        # the checkpoint that is left is one to go back to
        state = tensors(tmp_path)
        assert load_checkpoint(tmp_path).progress["step"] >= 1
        assert state.keys()
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
        train(config, tmp_path, "tascnet train", console)
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        assert "training" in shown
        assert "validation" in shown
        assert "step 1, 0.0 min: pq " in shown
        assert "step 2, 0.0 min: pq " in shown

    def test_clipping_and_the_plain_fpn(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.optimizer.clip_norm, config.training.channels_last, config.model.backbone.added_stages = (
            0.1,
            False,
            False,
        )
        config.model.stuff_head.outputs, config.fusion.method = "all", "unguided"
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

    def test_half_precision_on_a_processor(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.training.precision = "16-mixed"
        self.assert_refused(config, tmp_path / "run", r"training.precision is 16-mixed.*Set it to 32-true")

    def test_settings_that_cannot_be(self, tiny_config: Callable[[], Config], tmp_path: Path):
        config = tiny_config()
        config.fusion.score_threshold = 7
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
