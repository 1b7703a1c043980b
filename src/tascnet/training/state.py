"""Checkpoints as a training writes them: the network, and beside it all that is needed to resume exactly.

    training.safetensors    the optimiser's state
    ema.safetensors         the averaged weights, where they are kept
    training.json           counters, the scaler of 16-bit gradients, checksums of the files with tensors

Random numbers need no state: each draw depends on the seed and on the step or the place of the sample alone.
"""

import json
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import torch
from safetensors import SafetensorError
from torch import Tensor, nn, optim
from torch.distributed.tensor import DTensor, distribute_tensor

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import UnwritableError, atomic_folder, read_json
from tascnet.networks.checkpoint import EMA_FILE, checkpoint_path, remove_old_checkpoints
from tascnet.networks.files import load_weights, read_tensors, write_network, write_tensors
from tascnet.networks.network import Origin, facts_of
from tascnet.structures import LabelSpace

STATE_FILE = "training.json"
OPTIMIZER_FILE = "training.safetensors"
NUM_KEPT = 2  # newest checkpoints of a run that stay
_CHUNK = 2**24  # bytes read at a time


@dataclass
class Progress:
    """How far a training has come.

    Attributes:
        step: steps taken, those included that were not applied.
        seconds: time spent on them; validations do not count.
        images_per_step: images of a step over all processes; the sample that comes next follows from it.
        bad_steps: steps that were not applied because a loss or a gradient was not finite.
        bad_in_a_row: how many of them the last ones are.
        skipped: why samples could not be read, each reason once.
    """

    step: int = 0
    seconds: float = 0.0
    images_per_step: int = 0
    bad_steps: int = 0
    bad_in_a_row: int = 0
    skipped: list[str] = field(default_factory=list)

    def share(self, config: Config) -> float:
        """0 at the start, 1 at the end: the larger of the shares of steps and of time."""
        limits = [self.step / config.training.steps]
        if config.training.max_minutes:
            limits.append(self.seconds / 60 / config.training.max_minutes)
        return min(1.0, max(limits))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Self:
        """From the values that `asdict` gives.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: they are not.
        """
        step, images, bad, in_a_row = (
            int(values[name]) for name in ("step", "images_per_step", "bad_steps", "bad_in_a_row")
        )
        seconds = float(values["seconds"])
        if min(step, images, bad, in_a_row) < 0 or not 0 <= seconds < math.inf:
            raise ValueError("a counter is negative or without end")
        return cls(step, seconds, images, bad, in_a_row, [str(reason) for reason in values["skipped"]])


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer_state: Mapping[str, Tensor],
    config: Config,
    label_space: LabelSpace,
    progress: Progress,
    origin: Origin = Origin(),  # noqa: B008 - frozen
    ema: Mapping[str, Tensor] | None = None,
    scaler: Mapping[str, Any] = MappingProxyType({}),
    keep_last: int = NUM_KEPT,
    keep_also: Collection[str] = (),
) -> Path:
    """Write `folder`/step_NNNNNN atomically and remove old ones; return its path.

    Args:
        folder: of all checkpoints of a run.
        weights: the network's `state_dict`.
        optimizer_state: the `optimizer_tensors` of its optimiser.
        config: the settings of the run.
        label_space: the network's categories.
        progress: counters of the training so far.
        origin: where the network comes from.
        ema: the averaged weights; None where there are none.
        scaler: state of the scaler of 16-bit gradients; empty where there is none.
        keep_last: so many of the newest checkpoints stay.
        keep_also: names of others that stay, too.

    Raises:
        InputError: it cannot be written (no permission, disk full); the earlier checkpoints are as they were.
    """
    final = checkpoint_path(folder, progress.step)
    facts = facts_of(label_space, progress.step, progress.seconds, origin)
    try:
        with atomic_folder(final) as temporary:
            write_network(temporary, weights, config, facts)
            write_tensors(temporary / OPTIMIZER_FILE, optimizer_state)
            write_state(temporary, progress, ema, scaler)
    except (OSError, SafetensorError, UnwritableError) as error:
        raise InputError(
            f"cannot write the checkpoint {final}: {error}. Check permission and free space; "
            "tascnet train --resume goes on from the checkpoint before."
        ) from error
    remove_old_checkpoints(folder, keep_last, keep_also)
    return final


def write_state(folder: Path, progress: Progress, ema: Mapping[str, Tensor] | None, scaler: Mapping[str, Any]) -> None:
    """Add to a checkpoint what only a training needs; the last thing that is written.

    Args:
        folder: with the files of tensors, not yet under its final name.
        progress: counters.
        ema: the averaged weights; None where there are none.
        scaler: state of the scaler of 16-bit gradients; empty where there is none.
    """
    if ema is not None:
        write_tensors(folder / EMA_FILE, ema)
    checksums = {file.name: _checksum(file) for file in sorted(folder.glob("*.safetensors"))}
    values = {"progress": asdict(progress), "scaler": dict(scaler), "crc32": checksums}
    (folder / STATE_FILE).write_text(json.dumps(values, indent=1), encoding="utf-8")


@dataclass(frozen=True)
class SavedState:
    """The part of a checkpoint that goes on training."""

    folder: Path
    progress: Progress
    scaler: dict[str, Any]

    def restore_average(self, ema: nn.Module) -> None:
        """Put an averaged network, not yet split over processes, back into the state that was saved."""
        load_weights(ema, read_tensors(self.folder / EMA_FILE), self.folder / EMA_FILE)

    def restore(self, optimizer: optim.Optimizer, scaler: torch.amp.GradScaler | None) -> None:
        """Put optimiser and scaler back into the state that was saved."""
        load_optimizer(self.folder, optimizer)
        if scaler is not None:
            scaler.load_state_dict(self.scaler)


def read_state(folder: Path) -> SavedState:
    """Read a checkpoint's state and check that no byte of its tensors has changed.

    Raises:
        InputError: a file is missing, broken, or not the one that was written.
    """
    file = folder / STATE_FILE
    values = read_json(file)
    try:
        progress, scaler, checksums = Progress.from_values(values["progress"]), values["scaler"], values["crc32"]
        for name, checksum in checksums.items():
            if _checksum(folder / name) != checksum:
                raise InputError(f"{folder / name} is not what was written (its checksum differs).")
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise InputError(f"{file} lacks a usable entry ({reason}). Use another checkpoint.") from error
    return SavedState(folder, progress, scaler)


def load_optimizer(folder: Path, optimizer: optim.Optimizer) -> None:
    """Put the optimiser back into the state it was saved in.

    Raises:
        InputError: the file is missing or cut short.
    """
    tensors = read_tensors(folder / OPTIMIZER_FILE)
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = _laid_out_as(parameters[int(number)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser: number of the parameter and name of the entry, with a dot between them -> tensor."""
    state = optimizer.state_dict()["state"]
    return {
        f"{parameter}.{key}": torch.as_tensor(value)
        for parameter, values in state.items()
        for key, value in values.items()
        if value is not None
    }


def _laid_out_as(parameter: Tensor, tensor: Tensor) -> Tensor:
    """The tensor as the parameter lies in memory, because fused optimisers go through both; or split over processes."""
    if tensor.shape != parameter.shape:
        return tensor
    if isinstance(parameter, DTensor):  # each process keeps its part of what all have read
        return distribute_tensor(
            tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
        )
    return torch.empty_like(parameter, dtype=tensor.dtype, device="cpu").copy_(tensor)


def _checksum(file: Path) -> int:
    checksum = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            checksum = zlib.crc32(chunk, checksum)
    return checksum
