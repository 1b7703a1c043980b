"""Training in two real processes: the losses of one, and an end in good order when one of them is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import yaml
from edited_checkpoint import forget_checksum
from rich.console import Console
from safetensors.torch import load_file
from torch import distributed

from tascnet.commands.console import ConsoleObserver
from tascnet.config import Config
from tascnet.errors import InputError, Interrupted
from tascnet.evaluation.evaluate import evaluate_checkpoint
from tascnet.evaluation.report import Report
from tascnet.progress import Observer
from tascnet.settings import to_dict
from tascnet.training import resume, train
from tascnet.training.processes import start

QUIET = Console(quiet=True)
LOCAL = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}


STEPS = 10
RESTARTED_STEPS = 12
PARTS = ("model", "ema", "training")  # the files of a checkpoint that hold tensors


@pytest.fixture(scope="module")
def calm_config(tiny_config: Callable[[], Config]) -> Callable[[], Config]:
    """Small steps of SGD: in larger ones, the rounding errors of an untrained network grow tenfold a step.

    That steps are taken at all is seen in the biases, which begin at 0, and in the momentum, the sum of the gradients.
    """

    def make() -> Config:
        config = tiny_config()
        config.optimizer.name, config.optimizer.lr, config.optimizer.clip_norm = "sgd", 0.00001, 5.0
        config.data.batch_size, config.data.val.num_images = 2, 3  # not divisible by the processes
        config.data.keep_in_memory = True  # drawing the streets anew takes half of the time
        training = config.training
        training.devices, training.steps, training.checkpoint_every = 2, STEPS, 5
        training.validate_every, training.ema_decay, training.show_images = 5, 0.9, 0
        return config

    return make


@pytest.fixture(scope="module")
def restarted_config(calm_config: Callable[[], Config]) -> Callable[[], Config]:
    """Of a run that is killed on its way: a checkpoint at each step."""

    def make() -> Config:
        config = calm_config()
        config.training.checkpoint_every, config.training.validate_every = 1, 0
        config.training.steps = RESTARTED_STEPS
        return config

    return make


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in line.items() if name.startswith("loss/")}
        for line in metrics(folder)
        if "loss/total" in line
    ]


def tensors(folder: Path, step: int, part: str) -> dict[str, torch.Tensor]:
    return load_file(folder / f"checkpoints/step_{step:06d}/{part}.safetensors")


def copied_up_to_step_5(run: Path, folder: Path, strategy: str = "") -> Path:
    """A run as it was at step 5, perhaps with another strategy in its settings."""
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints/step_000010")
    for file in folder.rglob("config.yaml") if strategy else ():
        values = yaml.safe_load(file.read_text())
        values["training"]["strategy"] = strategy
        file.write_text(yaml.safe_dump(values))
        if file.parent != folder:
            forget_checksum(file.parent)
    return folder


def in_turn(runs: list[tuple[Config | None, Path]], observer: Observer) -> tuple[dict[str, Report], str]:
    """Trainings one after the other in the same processes; without a config, one that has begun goes on."""
    reports = {}
    for config, folder in runs:
        reports[folder.name] = train(config, folder, "x", observer) if config else resume(folder, observer)
        distributed.destroy_process_group()
        os.environ["MASTER_PORT"] = str(int(os.environ["MASTER_PORT"]) + 1)  # this one may be taken for a while
    return (
        reports,
        f"process {os.environ['RANK']}, {type(observer).__name__}" + " " * 100_000,
    )  # more than a pipe holds


def trained_norm_config(config: Config, validate_every: int) -> Config:
    """Of a run whose network has a state that steps change and its mode decides about."""
    config.model.backbone.norm, config.data.workers = "bn", 1
    config.training.validate_every, config.training.show_images = validate_every, 1
    config.training.steps = config.training.checkpoint_every = 5
    return config


class Runs(NamedTuple):
    """Runs of the same images a step, each in a folder of the same name.

    one: in one process. ddp, fsdp: in two. left_alone: of the restarted config, in two. ddp_from_one, fsdp_from_one:
    begun in one process that accumulates, gone on in two from step 5. unwatched, watched: with trained batch norm, in
    two, without validations on the way and with them.
    """

    folder: Path
    reports: dict[str, Report]
    said: str


@pytest.fixture(scope="module")
def runs(
    calm_config: Callable[[], Config],
    restarted_config: Callable[[], Config],
    tmp_path_factory: pytest.TempPathFactory,
) -> Runs:
    folder = tmp_path_factory.mktemp("runs")
    config = calm_config()
    config.training.devices, config.training.validate_every, config.data.batch_size = 1, 0, 4
    train(config, folder / "one", "x")
    config.data.batch_size, config.training.accumulate = 2, 2
    train(config, folder / "accumulated", "x")
    sharded = calm_config()
    sharded.training.strategy = "fsdp"
    together = [
        (calm_config(), folder / "ddp"),
        (sharded, folder / "fsdp"),
        (restarted_config(), folder / "left_alone"),
        (None, copied_up_to_step_5(folder / "accumulated", folder / "ddp_from_one", "ddp")),
        (None, copied_up_to_step_5(folder / "accumulated", folder / "fsdp_from_one", "fsdp")),
        (trained_norm_config(calm_config(), validate_every=0), folder / "unwatched"),
        (trained_norm_config(calm_config(), validate_every=2), folder / "watched"),
    ]
    return Runs(folder, *start(in_turn, (together,), 2, ConsoleObserver(Console())))


def assert_close(run: Path, reference: Path) -> None:
    assert len(losses(run)) == len(losses(reference)) == STEPS
    for ours, expected in zip(losses(run), losses(reference), strict=True):
        for name in expected:
            # a loss near 0 is a difference of larger numbers: it is compared in units of the total
            assert ours[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-6), name


@pytest.mark.parametrize(
    ("run", "reference"),
    [("ddp", "one"), ("fsdp", "one"), ("fsdp", "ddp"), ("fsdp_from_one", "ddp_from_one")],
)
def test_all_take_the_same_steps(runs: Runs, run: str, reference: str):
    assert_close(runs.folder / run, runs.folder / reference)
    for part in PARTS:
        ours, expected = (tensors(runs.folder / name, 10, part) for name in (run, reference))
        assert ours.keys() == expected.keys()
        assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in expected.items()}
        far = [k for k in expected if (ours[k] - expected[k]).norm() > 1e-3 * expected[k].norm()]
        assert not far, part


@pytest.mark.parametrize("part", PARTS)
def test_validations_leave_no_trace_in_the_weights(runs: Runs, part: str):
    watched, unwatched = (tensors(runs.folder / name, 5, part) for name in ("watched", "unwatched"))
    assert watched.keys() == unwatched.keys()
    assert [name for name in watched if not torch.equal(watched[name], unwatched[name])] == []
    assert sum("val/pq" in line for line in metrics(runs.folder / "watched")) == 3


@pytest.mark.parametrize("run", ["ddp", "fsdp", "watched"])
def test_the_report_of_two_is_that_of_one(runs: Runs, run: str, tmp_path: Path):
    """Three pictures in two processes, and the same weights in one."""
    whole, _ = evaluate_checkpoint(runs.folder / run, {}, {}, tmp_path, "cpu")
    figures, expected = runs.reports[run].to_dict(), whole.to_dict()
    assert figures.pop("ema").keys() == whole.summary().keys()
    for values in (figures, expected):
        assert values.pop("seconds_per_image") > 0
    # `evaluate_checkpoint` folds batch norm into the convolutions, which rounds otherwise
    assert figures.pop("mean_doubt") == pytest.approx(expected.pop("mean_doubt"), rel=1e-5)
    assert figures == expected
    assert list(runs.reports[run].pq_of_image) == [f"street_0_00100{index}" for index in range(3)]


def test_what_was_split_goes_on_in_one_process(runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 1, "LOCAL_WORLD_SIZE": 1}.items():
        monkeypatch.setenv(name, str(value))  # as torchrun does
    for run in ("ddp", "fsdp"):
        resume(copied_up_to_step_5(runs.folder / run, tmp_path / run))
    assert_close(tmp_path / "fsdp", tmp_path / "ddp")
    assert losses(tmp_path / "fsdp")[:5] == losses(runs.folder / "fsdp")[:5]
    assert losses(tmp_path / "fsdp")[5:] != losses(runs.folder / "fsdp")[5:]  # it did take the steps


def test_the_first_process_answers(runs: Runs):
    assert runs.said == "process 0, ConsoleObserver" + " " * 100_000


def wait_without_end(told: Path, observer: Observer) -> None:
    told.touch()
    time.sleep(600)


def test_ctrl_c_before_a_process_can_answer_it(tmp_path: Path):
    told = tmp_path / "begun"

    def press() -> None:
        while not told.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    finger = threading.Thread(target=press, daemon=True)
    finger.start()
    with pytest.raises(Interrupted, match="have taken no step"):
        start(wait_without_end, (told,), 1)
    finger.join()


def refuse(value: str, observer: Observer) -> None:
    if os.environ["RANK"] == "1":
        raise InputError(f"picture {value} is broken")


def test_an_error_of_one_is_the_error_of_all():
    with pytest.raises(InputError, match=r"^picture 7 is broken$"):
        start(refuse, ("7",), 2)


def write(config: Config, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    return path


@contextmanager
def started(command: list[str], **streams: int) -> Iterator[subprocess.Popen]:
    """A command that is ended with the block, whatever happens in it."""
    process = subprocess.Popen(command, env=LOCAL, text=True, start_new_session=True, **streams)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children(process: subprocess.Popen, command: str) -> list[int]:
    """Ids of the child processes whose command line holds a word."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(process.pid), "-o", "pid=,args="], capture_output=True, text=True, check=False
    ).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if command in line]


def wait_for_checkpoint(folder: Path, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 600  # a machine that does other work, too
    while not any(folder.glob("checkpoints/step_*/checkpoint.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_torchrun_goes_on_from_the_checkpoint_when_one_of_two_is_killed(
    restarted_config: Callable[[], Config], runs: Runs, tmp_path: Path
):
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=1"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--monitor-interval=0.2"]
    command = [
        *torchrun,
        "-m",
        "tascnet",
        "train",
        "--config",
        str(write(restarted_config(), tmp_path)),
        "--output",
        str(run),
    ]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for_checkpoint(run, process)
        os.kill(children(process, "tascnet")[1], signal.SIGKILL)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "going on from step" in said, said
    assert (run / "report.json").exists()
    alone = runs.folder / "left_alone"
    assert losses(run) == losses(alone)
    first, second = (tensors(folder, RESTARTED_STEPS, "model") for folder in (run, alone))
    assert all((first[name] == second[name]).all() for name in second)


def test_the_other_of_two_ends_soon_when_one_is_killed(restarted_config: Callable[[], Config], tmp_path: Path):
    config = restarted_config()
    config.training.steps = 100_000
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "tascnet",
        "train",
        "--config",
        str(write(config, tmp_path)),
        "--output",
        str(run),
    ]
    with started(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        wait_for_checkpoint(run, process)
        killed = time.monotonic()
        os.kill(children(process, "spawn_main")[0], signal.SIGKILL)
        _, said = process.communicate(timeout=60)
    assert time.monotonic() - killed < 60
    assert process.returncode == 2
    (line,) = [line for line in said.splitlines() if line.startswith("tascnet: error")]
    assert "of 2 was ended by SIGKILL" in line
    assert line.endswith(f"Go on with: tascnet train --resume {run}")
