"""The folder a training run leaves behind: settings, command, versions, metrics, curves.

runs/NAME/
  config.yaml       the settings, complete
  run.json          command, versions of packages, machine, git commit, start; where the first weights come from
  state.json        running, finished or interrupted
  running.lock      keeps other trainings out of the folder
  running.json      who trains in it at present
  metrics.jsonl     one line for each logged step and each validation
  tensorboard/      the same as curves, and pictures of the validations
  checkpoints/      the newest checkpoints and the best one, which best.json names
  bad_batches/      steps that were not applied because a loss was not finite
  report.json       the final evaluation
  report.md         the same to read
  pictures/         its best and worst cases
"""

import platform
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard import SummaryWriter

from tascnet import __version__
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import (
    UnwritableError,
    check_writable,
    make_folder,
    read_json,
    unwritable,
    write_json,
    write_text,
)
from tascnet.runs.lock import RunLock
from tascnet.runs.record import (
    FACTS,
    METRICS,
    Line,
    is_run,
    metrics_line,
    parse_line,
    read_facts,
    step_of,
    text_of_metrics,
)
from tascnet.runs.state import keep_state
from tascnet.settings import read_config, to_dict
from tascnet.visualize import Picture

PACKAGES = ("torch", "torchvision", "timm", "lightning-fabric", "numpy", "pillow")
JPEG_QUALITY = 85  # of pictures in TensorBoard


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
        self._lock = RunLock(path)
        self.checkpoints = path / "checkpoints"
        self.pictures = path / "pictures"
        self.bad_batches = path / "bad_batches"
        self._metrics = path / METRICS
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
            InputError: it cannot be written to, holds the checkpoints of an earlier run, or another training is in it.
        """
        folder = cls(check_writable(path))
        with folder.locked(command):
            folder._begin(config, command, first_weights)
        return folder

    def _begin(self, config: Config, command: str, first_weights: Sequence[str]) -> None:
        if self.holds_checkpoints(self.path):
            raise InputError(
                f"{self.path} holds the checkpoints of an earlier run. Choose another --output, or go on with that "
                f"run: tascnet train --resume {self.path}."
            )
        make_folder(self.checkpoints)
        make_folder(self.pictures)
        write_text(self.path / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
        write_json(self.path / FACTS, _facts(command) | {"first_weights": list(first_weights)}, indent=1)
        write_text(self._metrics, "")

    @classmethod
    def open(cls, path: Path) -> "RunFolder":
        """The folder of an earlier run.

        Raises:
            InputError: it is none, or cannot be written to.
        """
        if not is_run(path):
            raise InputError(
                f"{path} is not a run folder: there is no run.json in it. Give the folder that holds run.json and "
                "checkpoints/."
            )
        return cls(check_writable(path))

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Keep other trainings out of the folder while the block runs.

        Args:
            command: what the user called; it is named to others.

        Raises:
            InputError: another training is in it; its process is named.
        """
        before = self._lock.is_held
        self._lock.acquire(command)
        try:
            yield
        finally:
            if not before:
                self._lock.release()

    def command(self) -> str:
        """What the user called to start the run."""
        return str(self.facts().get("command", ""))

    def facts(self) -> dict[str, Any]:
        """The content of run.json.

        Raises:
            InputError: it cannot be read.
        """
        return read_facts(self.path)

    @staticmethod
    def holds_checkpoints(path: Path) -> bool:
        """Whether a run in this folder can go on."""
        return any(path.glob("checkpoints/step_*"))

    def config(self) -> Config:
        """The settings of the run.

        Raises:
            InputError: config.yaml is missing or not valid.
        """
        return read_config(self.path / "config.yaml")

    def forget_after(self, step: int) -> None:
        """Drop the metrics of steps that a resumed run will take again, and a line that was cut short."""
        self._keep_lines(lambda line: step_of(line) <= step)
        for file in self.bad_batches.glob("step_*.json"):
            if int(file.stem.removeprefix("step_")) >= step:
                file.unlink()

    def was_validated_at(self, step: int) -> bool:
        """Whether the metrics hold a validation at that step."""
        return any(_is_validation(line, step) for _, line in self._lines())

    def forget_validation(self, step: int) -> None:
        """Drop the metrics of a validation that is made again."""
        self._keep_lines(lambda line: not _is_validation(line, step))

    def _keep_lines(self, wanted: Callable[[Line], bool]) -> None:
        write_text(self._metrics, "".join(text + "\n" for text, line in self._lines() if wanted(line)))

    def _lines(self) -> list[tuple[str, Line]]:
        """The whole lines of the metrics, as they are written and as they are read."""
        texts = text_of_metrics(self.path).split("\n")
        return [(text, line) for text in texts if (line := parse_line(text))]

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
                file.write(metrics_line(step, values))
        except OSError as error:
            raise InputError(
                f"cannot write to {self._metrics}: {error.strerror}. Check permission and free space. "
                f"{self.how_to_go_on()}"
            ) from error
        with self._writing_curves():
            for name, value in values.items():
                if value is not None:
                    self._tensorboard(step).add_scalar(name, value, step)

    def show(self, step: int, pictures: Mapping[str, Picture]) -> None:
        """Show pictures in TensorBoard, each under its name with a slider over the steps."""
        with self._writing_curves():
            writer: Any = self._tensorboard(step).file_writer
            for name, picture in pictures.items():
                # add_image() would write PNGs, five times as large
                height, width, _ = picture.shape
                image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=_jpeg(picture))
                summary = Summary(value=[Summary.Value(tag=f"pictures/{name}", image=image)])
                writer.add_summary(summary, step)

    @contextmanager
    def kept_state(self) -> Iterator[None]:
        """While the block runs, state.json says that the run goes on; afterwards, how it ended. Curves are closed.

        Raises:
            InputError: state.json cannot be written, or another training is in the folder.
        """
        with self.locked(self.command()), keep_state(self.path), _no_traceback_of_curves():
            try:
                yield
            except BaseException:
                with suppress(UnwritableError):  # the first error matters more
                    self.close()
                raise
            self.close()

    def how_to_go_on(self) -> str:
        """A sentence for somebody whose run has ended before its time."""
        if not self.holds_checkpoints(self.path):
            return "There is no checkpoint yet: start it again."
        return f"Go on with: tascnet train --resume {self.path}"

    def close(self) -> None:
        """Write out what is still in memory.

        Raises:
            InputError: the disk is full.
        """
        if self._curves is not None:
            curves, self._curves = self._curves, None
            with self._writing_curves():
                curves.close()

    @contextmanager
    def _writing_curves(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise unwritable(self.path / "tensorboard", error) from error

    def _tensorboard(self, step: int) -> SummaryWriter:
        """The event file. It is opened when first used, and then hides what earlier ones hold from `step` on."""
        if self._curves is None:
            self._curves = SummaryWriter(str(self.path / "tensorboard"), purge_step=step)
        return self._curves


@contextmanager
def _no_traceback_of_curves() -> Iterator[None]:
    """A full disk stops TensorBoard's thread; its error is raised again where curves are written next, or closed."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        of_curves = type(arguments.thread).__module__.startswith("tensorboard")
        if not (of_curves and isinstance(arguments.exc_value, OSError)):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def new_run_path(name: str) -> Path:
    """runs/NAME-DATE-TIME: a folder that no earlier run has used."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _is_validation(line: Line, step: int) -> bool:
    return step_of(line) == step and "val/pq" in line


def _jpeg(picture: Picture) -> bytes:
    buffer = BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


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
