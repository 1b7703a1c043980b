"""The folder of a run: what is in it, and that an earlier run is never mixed with a new one."""

import json
import re
import resource
import signal
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.runs.folder import RunFolder, new_run_path
from tascnet.runs.state import State, read_state
from tascnet.settings import from_dict

COMMAND = "tascnet train --config a.yaml"


@pytest.fixture
def run(tiny_config: Callable[[], Config], tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", tiny_config(), COMMAND)


def lines(run: RunFolder) -> list[dict]:
    return [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def test_what_is_known_before_the_first_step(run: RunFolder, tiny_config: Callable[[], Config]):
    assert from_dict(yaml.safe_load((run.path / "config.yaml").read_text())) == tiny_config()
    facts = json.loads((run.path / "run.json").read_text())
    assert facts["command"] == COMMAND
    assert set(facts["packages"]) >= {"torch", "timm", "numpy"}
    assert {"started", "tascnet", "git_commit", "python", "machine", "cuda"} <= facts.keys()
    assert lines(run) == []
    assert run.checkpoints.is_dir()
    assert run.pictures.is_dir()


def test_metrics_are_lines_and_curves(run: RunFolder):
    run.log(1, {"loss/total": 2.5, "lr": 1e-3})
    run.log(2, {"val/ap": None, "val/pq": 40.0})
    run.close()
    assert lines(run) == [{"step": 1, "loss/total": 2.5, "lr": 1e-3}, {"step": 2, "val/ap": None, "val/pq": 40.0}]
    (events,) = (run.path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"loss/total" in content
    assert b"val/pq" in content
    assert b"val/ap" not in content


def test_metrics_that_cannot_be_written(run: RunFolder):
    (run.path / "metrics.jsonl").unlink()
    (run.path / "metrics.jsonl").mkdir()
    with pytest.raises(
        InputError, match=r"cannot write to .*metrics.jsonl: Is a directory. Check .* free space. There"
    ):
        run.log(1, {"lr": 1.0})


def test_how_to_go_on(run: RunFolder):
    assert run.how_to_go_on() == "There is no checkpoint yet: start it again."
    (run.checkpoints / "step_000500").mkdir()
    assert run.how_to_go_on() == f"Go on with: tascnet train --resume {run.path}"


def test_bad_batches_of_steps_that_are_taken_again_are_forgotten(run: RunFolder):
    run.bad_batches.mkdir()
    for step in (3, 4, 5):
        (run.bad_batches / f"step_00000{step}.json").write_text("{}")
    run.forget_after(4)  # step 4 is the next to be taken
    assert [path.name for path in run.bad_batches.iterdir()] == ["step_000003.json"]


def test_what_is_no_number_is_null(run: RunFolder):
    run.log(1, {"loss/total": float("nan"), "lr": float("inf"), "val/ap": None, "data_wait": 0.5})
    run.close()
    (text,) = (run.path / "metrics.jsonl").read_text().splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    values = json.loads(text, parse_constant=refuse)
    assert values == {"step": 1, "loss/total": None, "lr": None, "val/ap": None, "data_wait": 0.5}


def test_pictures_can_be_seen_in_tensorboard(run: RunFolder):
    left_red = np.zeros((40, 60, 3), dtype=np.uint8)
    left_red[:, :30, 0] = 255
    for step in (5, 10):
        run.show(step, {"aachen/a": left_red, "b": left_red})
    run.close()
    events = EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert events.Tags()["images"] == ["pictures/aachen/a", "pictures/b"]
    shown = events.Images("pictures/b")
    assert [(image.step, image.height, image.width) for image in shown] == [(5, 40, 60), (10, 40, 60)]
    decoded = np.asarray(Image.open(BytesIO(shown[1].encoded_image_string)).convert("RGB"))
    assert np.abs(decoded.astype(int) - left_red).mean() < 2


def test_the_state_while_it_runs_and_afterwards(run: RunFolder):
    with run.kept_state():
        run.log(1, {"lr": 1.0})
        assert read_state(run.path).state == State.RUNNING
    assert read_state(run.path).state == State.FINISHED
    (events,) = (run.path / "tensorboard").iterdir()
    assert b"lr" in events.read_bytes()  # written out, without a word of close()


def test_closing_a_run_that_never_logged(run: RunFolder):
    run.close()
    assert not (run.path / "tensorboard").exists()


def test_steps_that_are_taken_again_are_forgotten(run: RunFolder):
    for step in (1, 2, 3, 4):
        run.log(step, {"lr": step / 10})
    run.log(2, {"val/pq": 1.0})
    run.close()
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lr"')  # killed while writing
    run.forget_after(2)
    assert [line["step"] for line in lines(run)] == [1, 2, 2]
    run.log(3, {"lr": 7.0})
    run.close()
    assert lines(run)[-1] == {"step": 3, "lr": 7.0}


def test_a_line_that_was_cut_short_before_the_checkpoint(run: RunFolder):
    (run.path / "metrics.jsonl").write_text('{"step": 1, "lr": 0.1}\n{"st\n[3]\n{"step": 2, "lr": 0.1}')
    run.forget_after(10)
    assert [line["step"] for line in lines(run)] == [1, 2]


def test_no_metrics_at_all(run: RunFolder):
    (run.path / "metrics.jsonl").unlink()
    run.forget_after(10)
    assert lines(run) == []


def test_a_run_with_checkpoints_is_not_overwritten(run: RunFolder, tiny_config: Callable[[], Config]):
    (run.checkpoints / "step_000500").mkdir()
    run.log(500, {"lr": 1.0})
    with pytest.raises(InputError, match=rf"{run.path} holds the checkpoints of an earlier run.*--resume {run.path}"):
        RunFolder.create(run.path, tiny_config(), "another")
    assert json.loads((run.path / "run.json").read_text())["command"] == COMMAND
    assert len(lines(run)) == 1
    run.close()


def test_a_run_that_never_came_to_a_checkpoint_is(run: RunFolder, tiny_config: Callable[[], Config]):
    run.log(1, {"lr": 1.0})
    run.close()
    again = RunFolder.create(run.path, tiny_config(), "another")
    assert lines(again) == []
    assert json.loads((run.path / "run.json").read_text())["command"] == "another"


def test_only_a_run_folder_is_opened(run: RunFolder, tmp_path: Path):
    assert RunFolder.open(run.path).checkpoints == run.checkpoints
    for path in (tmp_path, tmp_path / "nowhere", run.checkpoints):
        with pytest.raises(InputError, match=rf"{path} is not a run folder: there is no run.json in it"):
            RunFolder.open(path)
    assert not (tmp_path / "nowhere").exists()


def test_a_folder_that_cannot_be_made(tiny_config: Callable[[], Config], tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot make the folder .*Choose a folder"):
        RunFolder.create(tmp_path / "file" / "run", tiny_config(), COMMAND)


def test_outside_of_a_working_copy_there_is_no_commit(
    tiny_config: Callable[[], Config], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PATH", "")  # no git either
    run = RunFolder.create(tmp_path, tiny_config(), COMMAND)
    assert json.loads((run.path / "run.json").read_text())["git_commit"] is None


def test_a_new_run_is_named_by_the_second():
    path = new_run_path("overfit8")
    assert path.parent == Path("runs")
    assert re.fullmatch(r"overfit8-20\d{6}-\d{6}", path.name)


@pytest.mark.parametrize("then", ["close", "log more"])
def test_a_full_disk_under_the_curves(run: RunFolder, capfd: pytest.CaptureFixture[str], then: str):
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill() -> None:
        with run.kept_state():
            run.log(1, {"lr": 1.0})
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
            run.show(1, {"a": noise})
            for step in range(2, 2000 if then == "log more" else 2):
                run.show(step, {"a": noise[:9]})

    try:
        with pytest.raises(InputError, match=f"cannot write {run.path}/tensorboard: File too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert "Traceback" not in capfd.readouterr().err
    assert read_state(run.path).state == State.INTERRUPTED


@pytest.mark.parametrize("content", ["", "[1]", "5", "training: [1]", "\0"])
def test_settings_of_a_run_that_are_none(run: RunFolder, content: str):
    (run.path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        run.config()
