"""Training in two real processes: the losses of one, and an end in good order when one of them is killed."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from safetensors.torch import load_file

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.evaluation import evaluate_checkpoint
from tascnet.settings import to_dict
from tascnet.training import train
from tascnet.training.failures import ProcessLostError
from tascnet.training.processes import start

QUIET = Console(quiet=True)
LOCAL = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}


@pytest.fixture
def calm_config(tiny_config: Callable[[], Config]) -> Config:
    """Small steps of SGD: in larger ones, the rounding errors of an untrained network grow tenfold a step."""
    config = tiny_config()
    config.optimizer.name, config.optimizer.lr = "sgd", 0.0001
    config.data.batch_size, config.training.steps, config.training.checkpoint_every = 4, 10, 5
    config.data.val.num_images = 3  # not divisible by the processes
    config.training.validate_every = 5
    return config


def metrics(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def losses(folder: Path) -> list[dict[str, float]]:
    return [
        {name: value for name, value in line.items() if name.startswith("loss/")}
        for line in metrics(folder)
        if "loss/total" in line
    ]


def test_two_processes_take_the_steps_of_one(calm_config: Config, tmp_path: Path):
    one = tmp_path / "one"
    train(calm_config, one, "tascnet train", QUIET)
    calm_config.data.batch_size, calm_config.training.devices = 2, 2
    two = tmp_path / "two"
    report = train(calm_config, two, "tascnet train", QUIET)
    assert len(losses(two)) == 10
    for ours, reference in zip(losses(two), losses(one), strict=True):
        for name in reference:
            # a loss near 0 is a difference of larger numbers: it is compared in units of the total
            assert ours[name] == pytest.approx(reference[name], rel=1e-5, abs=1e-6), name
    # SGD's momentum is the sum of ten gradients
    name = "checkpoints/step_000010/training.safetensors"
    momentum, expected = load_file(two / name), load_file(one / name)
    print(
        sorted(
            (float((momentum[key] - expected[key]).norm() / expected[key].norm()), key, float(expected[key].norm()))
            for key in expected
        )[-8:]
    )
    assert all((momentum[key] - expected[key]).norm() <= 1e-3 * expected[key].norm() for key in expected)
    # three pictures in two processes, and the same weights in one: the same report
    whole, _ = evaluate_checkpoint(two, {}, {}, tmp_path / "evaluation", "cpu", QUIET)
    figures, expected_figures = report.to_dict(), whole.to_dict()
    for values in (figures, expected_figures):
        assert values.pop("seconds_per_image") > 0
    assert figures == expected_figures
    assert list(report.pq_of_image) == [f"street_0_00100{index}" for index in range(3)]


def answer(value: str, console: Console) -> str:
    process = int(os.environ["RANK"])
    if value == "bad input" and process == 1:
        raise InputError("picture 7 is broken")
    if value == "killed":
        if process == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.5)
        raise ProcessLostError("another process of this training has ended (closed). Go on with: it")
    return f"{value} {process} {console.quiet}" + "x" * 100_000


def test_the_first_process_answers():
    assert start(answer, ("hello",), 2, quiet=False).startswith("hello 0 False")


def test_an_error_of_one_is_the_error_of_all():
    with pytest.raises(InputError, match=r"^picture 7 is broken$"):
        start(answer, ("bad input",), 2, quiet=True)


def test_one_that_is_killed_is_named():
    with pytest.raises(InputError, match=r"^process 1 of 2 was ended by SIGKILL; the others .*too. Go on with: it$"):
        start(answer, ("killed",), 2, quiet=True)


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
    deadline = time.monotonic() + 120
    while not any(folder.glob("checkpoints/step_*/checkpoint.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_torchrun_goes_on_from_the_checkpoint_when_one_of_two_is_killed(calm_config: Config, tmp_path: Path):
    calm_config.data.batch_size, calm_config.training.checkpoint_every = 2, 1
    calm_config.training.validate_every, calm_config.training.steps = 0, 16
    run = tmp_path / "run"
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--max-restarts=1"]
    torchrun += ["--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "--monitor-interval=0.2"]
    command = [*torchrun, "-m", "tascnet", "train", "--config", str(write(calm_config, tmp_path)), "--output", str(run)]
    with started(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        wait_for_checkpoint(run, process)
        os.kill(children(process, "tascnet")[1], signal.SIGKILL)
        said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert "going on from step" in said, said
    assert (run / "report.json").exists()
    # the same losses as of a run that was left alone
    alone = tmp_path / "alone"
    calm_config.training.devices = 2
    train(calm_config, alone, "tascnet train", QUIET)
    assert losses(run) == losses(alone)
    name = "checkpoints/step_000016/model.safetensors"
    first, second = load_file(run / name), load_file(alone / name)
    assert all((first[key] == second[key]).all() for key in second)


def test_the_other_of_two_ends_soon_when_one_is_killed(calm_config: Config, tmp_path: Path):
    calm_config.data.batch_size, calm_config.training.checkpoint_every = 2, 1
    calm_config.training.devices, calm_config.training.steps, calm_config.training.validate_every = 2, 100_000, 0
    run = tmp_path / "run"
    command = [
        sys.executable,
        "-m",
        "tascnet",
        "train",
        "--config",
        str(write(calm_config, tmp_path)),
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
