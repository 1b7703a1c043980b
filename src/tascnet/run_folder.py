"""The folder a training run leaves behind: settings, command, versions, metrics, curves.

runs/NAME/
  config.yaml       the settings, complete
  run.json          command, versions of packages, machine, git commit, start; where the first weights come from
  metrics.jsonl     one line for each logged step and each validation
  tensorboard/      the same as curves
  checkpoints/      the newest checkpoints and the best one, which best.json names
  bad_batches/      steps that were not applied because a loss was not finite
  report.json       the final evaluation
  report.md         the same to read
  pictures/         its best and worst cases
"""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from torch.utils.tensorboard import SummaryWriter

from tascnet import __version__
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import check_writable, make_folder, read_json, read_yaml, write_json, write_text
from tascnet.origin import Origin
from tascnet.settings import from_dict, to_dict

PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")


class Best(NamedTuple):
    """The checkpoint of a run with the highest PQ on the validation set.

    Attributes:
        checkpoint: name of its folder.
        step: its step.
        pq: in percent.
        weights: "raw", or "ema" where the averaged weights have it.
    """

    checkpoint: str
    step: int
    pq: float
    weights: str


class RunFolder:
    """Writes the files of one run."""

    def __init__(self, path: Path):
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.pictures = path / "pictures"
        self.bad_batches = path / "bad_batches"
        self._metrics = path / "metrics.jsonl"
        self._curves: SummaryWriter | None = None

    @classmethod
    def create(cls, path: Path, config: Config, command: str, first_weights: Sequence[str] = ()) -> "RunFolder":
        """Make the folder and write what is known before the first step.

        Args:
            path: the folder.
            config: the settings of the run.
            command: what the user called.
            first_weights: where the network's weights come from, a sentence for each part.

        Raises:
            InputError: it cannot be written to, or holds the checkpoints of an earlier run.
        """
        folder = cls(check_writable(path))
        if cls.holds_checkpoints(path):
            raise InputError(
                f"{path} holds the checkpoints of an earlier run. Choose another --output, or go on with that run: "
                f"tascnet train --resume {path}."
            )
        make_folder(folder.checkpoints)
        make_folder(folder.pictures)
        write_text(path / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
        write_json(path / "run.json", _facts(command) | {"first_weights": list(first_weights)}, indent=1)
        write_text(folder._metrics, "")
        return folder

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of an earlier run.

        Raises:
            InputError: it is none, or cannot be written to.
        """
        if not (path / "run.json").is_file():
            raise InputError(
                f"{path} is not a run folder: there is no run.json in it. Give the folder that holds run.json and "
                "checkpoints/."
            )
        return cls(check_writable(path))

    def command(self) -> str:
        """What the user called to start the run."""
        return str(read_json(self.path / "run.json")["command"])

    def origin(self, weights: Sequence[str], data: Mapping[str, Any]) -> Origin:
        """Where a network that starts here comes from.

        Args:
            weights: where its first weights came from.
            data: what it is trained on.
        """
        return Origin.of_run(read_json(self.path / "run.json"), weights, data)

    @staticmethod
    def holds_checkpoints(path: Path) -> bool:
        """Whether a run in this folder can go on."""
        return any(path.glob("checkpoints/step_*"))

    def config(self) -> Config:
        """The settings of the run.

        Raises:
            InputError: config.yaml is missing or not valid.
        """
        return from_dict(read_yaml(self.path / "config.yaml"))

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will take again, and a line that was cut short."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines() if self._metrics.exists() else []
        kept = [line for line in lines if 0 < _step_of(line) <= step]
        write_text(self._metrics, "".join(line + "\n" for line in kept))
        for file in self.bad_batches.glob("step_*.json"):
            if int(file.stem.removeprefix("step_")) >= step:
                file.unlink()

    def was_validated_at(self, step: int) -> bool:
        """Whether the metrics hold a validation at that step."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines()
        return any(_step_of(line) == step and "val/pq" in line for line in lines)

    def forget_validation(self, step: int) -> None:
        """Drop the metrics of a validation that is made again."""
        lines = self._metrics.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if not (_step_of(line) == step and "val/pq" in line)]
        write_text(self._metrics, "".join(line + "\n" for line in kept))

    def best(self) -> Best | None:
        """The best checkpoint so far; None before the first validation."""
        file = self.checkpoints / "best.json"
        return Best(**read_json(file)) if file.is_file() else None

    def offer_best(self, step: int, pq: float | None, weights: str) -> None:
        """Remember the checkpoint of that step if no earlier one has as high a PQ.

        Args:
            step: of the checkpoint.
            pq: in percent; None where there is none.
            weights: "raw", or "ema" for the averaged ones.
        """
        best = self.best()
        if pq is not None and (best is None or pq > best.pq or best.step >= step):
            write_json(self.checkpoints / "best.json", Best(f"step_{step:06d}", step, pq, weights)._asdict(), indent=1)

    def log(self, step: int, values: Mapping[str, float | None]) -> None:
        """Append one line of metrics, and the same to the curves; None is left out of the curves.

        Raises:
            InputError: the disk is full, or the file cannot be written to any more.
        """
        try:
            with self._metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            raise InputError(
                f"cannot write to {self._metrics}: {error.strerror}. Check permission and free space. "
                f"{self.how_to_go_on()}"
            ) from error
        if self._curves is None:
            self._curves = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
        for name, value in values.items():
            if value is not None:
                self._curves.add_scalar(name, value, step)

    def how_to_go_on(self) -> str:
        """A sentence for somebody whose run has ended before its time."""
        if not self.holds_checkpoints(self.path):
            return "There is no checkpoint yet: start it again."
        return f"Go on with: tascnet train --resume {self.path}"

    def close(self) -> None:
        """Write out what is still in memory."""
        if self._curves is not None:
            self._curves.close()
            self._curves = None


def new_run_path(name: str) -> Path:
    """runs/NAME-DATE-TIME: a folder that no earlier run has used."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _step_of(line: str) -> int:
    """The step of a line of metrics; 0 if the line is not whole, as a run that was killed may leave it."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return 0


def _facts(command: str) -> dict[str, object]:
    return {
        "command": command,
        "started": datetime.now().astimezone().isoformat(timespec="seconds"),
        "tascnet": __version__,
        "git_commit": _git_commit(),
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "machine": platform.machine(),
        "processors": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": sys.platform,
    }


def _git_commit() -> str | None:
    """The commit of the working copy this package runs from; None where it is installed without one."""
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
