"""Checkpoints: a folder with weights, settings, categories and, to go on training, the state of the optimiser.

    step_000500/
      model.safetensors       the weights, and the normalisation of the input
      config.yaml             the settings of the run
      checkpoint.json         format version, step, categories, origin
      training.safetensors    the optimiser's state
      ...                     what else a training needs to go on, see training/state.py

No file is a pickle. A checkpoint is written under another name and renamed when it is complete. Without the last file
it is a network to be shared; such a network can also be one file (files.py).
"""

import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, optim
from torch.distributed.tensor import DTensor, distribute_tensor

from tascnet import __version__
from tascnet.build import build_meta_model, build_model
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import UNFINISHED, UnwritableError, atomic_folder, read_json
from tascnet.model.tascnet import TASCNet
from tascnet.networks.files import (
    SUFFIX,
    check_fit,
    check_texts,
    load_weights,
    read_network,
    read_tensors,
    write_network,
    write_tensors,
)
from tascnet.networks.hub import download, hub_id, plain_hub_id
from tascnet.networks.origin import Measured, Origin
from tascnet.settings import NETWORK
from tascnet.structures import LabelSpace

EMA_FILE = "ema.safetensors"  # the averaged weights, where they are kept
BEST_FILE = "best.json"  # names the checkpoint of a run that has the best PQ
NUM_KEPT = 2  # newest checkpoints of a run that stay


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        folder: where it was read from: a folder, or the one file that holds all.
        model: the network with its weights, on the CPU, in evaluation mode.
        config: the settings it was trained with.
        label_space: its categories.
        progress: `step` and `seconds` of training so far.
        origin: where it comes from; empty where the files do not say.
        measured: what was measured of it; empty where the files do not say.
        has_checksum: whether its weights carried a checksum, which then was right.
    """

    folder: Path
    model: TASCNet
    config: Config
    label_space: LabelSpace
    progress: dict[str, float]
    origin: Origin = field(default_factory=Origin)
    measured: Measured = field(default_factory=Measured)
    has_checksum: bool = False


def save_checkpoint(
    folder: Path,
    weights: Mapping[str, Tensor],
    optimizer_state: Mapping[str, Tensor],
    config: Config,
    label_space: LabelSpace,
    progress: Mapping[str, float],
    origin: Origin = Origin(),  # noqa: B008 - frozen
    write_more: Callable[[Path], None] = lambda folder: None,
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
        progress: `step` and `seconds` so far.
        origin: where the network comes from.
        write_more: writes further files into the checkpoint, after all others.
        keep_last: so many of the newest checkpoints stay.
        keep_also: names of others that stay, too.

    Raises:
        InputError: it cannot be written (no permission, disk full); the earlier checkpoints are as they were.
    """
    final = folder / f"step_{int(progress['step']):06d}"
    try:
        with atomic_folder(final) as temporary:
            write_network(temporary, weights, config, facts_of(label_space, progress, origin))
            write_tensors(temporary / "training.safetensors", optimizer_state)
            write_more(temporary)
    except (OSError, SafetensorError, UnwritableError) as error:
        raise InputError(
            f"cannot write the checkpoint {final}: {error}. Check permission and free space; "
            "tascnet train --resume goes on from the checkpoint before."
        ) from error
    for old in _by_step(folder.glob("step_*"))[:-keep_last]:
        if old.name not in keep_also:
            _remove(old)
    return final


def facts_of(label_space: LabelSpace, progress: Mapping[str, float], origin: Origin) -> dict[str, Any]:
    """What a checkpoint says beside settings and weights, as plain values."""
    return {
        "tascnet": __version__,
        "progress": dict(progress),
        "categories": label_space.to_list(),
        "origin": origin.to_dict(),
    }


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left in the folder of a run's checkpoints, half written or half removed."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint folder, the newest checkpoint of a run folder, a network in one file, or one of the hub, fetched.

    Raises:
        InputError: there is none.
    """
    repo_id = hub_id(path)
    path = Path(path) if repo_id is None else download(repo_id)
    if path.is_file() and path.suffix == SUFFIX:
        return path
    return find_checkpoints(path)[-1]


def find_checkpoints(path: Path) -> list[Path]:
    """A checkpoint folder by itself, or the checkpoints of a run folder, the newest last.

    Raises:
        InputError: there is none.
    """
    found = _checkpoints(path)
    if not found:
        what = "does not exist" if not path.exists() else "holds no checkpoint"
        on_hub = f" On Hugging Face's hub it would be hf:{path}." if plain_hub_id(path) and not path.exists() else ""
        raise InputError(f"{path} {what}. Give {NETWORK}.{on_hub}")
    return found


def best_checkpoint(path: Path) -> tuple[Path, bool]:
    """The checkpoint of a run with the best PQ at a validation, and whether its averaged weights have it.

    Args:
        path: run folder.

    Raises:
        InputError: it is none, or has not been validated.
    """
    file = path / "checkpoints" / BEST_FILE
    if not file.is_file():
        raise InputError(
            f"{path} has no best checkpoint: there is no {file.name} in its checkpoints/. Give the folder of a run "
            "that has been validated, or take its newest checkpoint."
        )
    best = read_json(file)
    name = best.get("checkpoint") if isinstance(best, dict) else None
    if not isinstance(name, str) or not re.fullmatch(r"step_\d+", name):  # a path could lead anywhere
        raise InputError(f"{file} names no checkpoint. Take the newest checkpoint of the run.")
    return file.parent / name, best.get("weights") == "ema"


def with_average(checkpoint: Checkpoint) -> Checkpoint:
    """The same with the averaged weights that were saved beside its own; it shares the network.

    Raises:
        InputError: there are none.
    """
    file = checkpoint.folder / EMA_FILE
    if not file.is_file():
        raise InputError(
            f"{checkpoint.folder} holds no averaged weights: they are kept in training with training.ema_decay. "
            "Take the weights themselves."
        )
    load_weights(checkpoint.model, read_tensors(file), file)
    decay = checkpoint.config.training.ema_decay
    averaged = f"then averaged over the steps of the training (training.ema_decay {decay:g})"
    return replace(checkpoint, origin=replace(checkpoint.origin, weights=(*checkpoint.origin.weights, averaged)))


def holds_checkpoint(path: str | Path) -> bool:
    """Whether something is a checkpoint folder, or a run folder with a checkpoint in it."""
    return bool(_checkpoints(Path(path)))


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; needs no access to the training data.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder, the folder or the one file of a shared
            network, or hf:owner/name on Hugging Face's hub.

    Raises:
        InputError: files are missing or cut short, a newer version wrote them, or weights and settings disagree.
    """
    files = read_network(find_checkpoint(path))
    facts = files.facts
    try:
        label_space = LabelSpace.from_list(facts["categories"])
        progress = {name: float(facts["progress"][name]) for name in ("step", "seconds")}
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        where = files.path if files.path.is_file() else files.path / "checkpoint.json"
        raise InputError(
            f"{where} lacks a usable entry ({type(error).__name__}: {error}). Use another checkpoint."
        ) from error
    meta_model = build_meta_model(files.config, label_space)  # compared before a network of any size takes memory
    check_fit(meta_model.state_dict(), files.tensors, files.path)
    check_texts(files)
    model = build_model(files.config, label_space)
    load_weights(model, files.tensors, files.path)
    origin, measured = Origin.from_dict(facts.get("origin")), Measured.from_dict(facts.get("measured"))
    return Checkpoint(
        files.path, model.eval(), files.config, label_space, progress, origin, measured, files.has_checksum
    )


def load_optimizer(folder: Path, optimizer: optim.Optimizer) -> None:
    """Put the optimiser back into the state it was saved in.

    Raises:
        InputError: the file is missing or cut short.
    """
    tensors = read_tensors(folder / "training.safetensors")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, key = name.split(".", 1)
        state.setdefault(int(number), {})[key] = _laid_out_as(parameters[int(number)], tensor)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def check_label_space(checkpoint: Checkpoint, label_space: LabelSpace) -> None:
    """Make sure that a checkpoint speaks of the same categories as a data set.

    Raises:
        InputError: naming the first difference.
    """
    ours = {(c.id, c.name, c.is_thing) for c in checkpoint.label_space.categories}
    theirs = {(c.id, c.name, c.is_thing) for c in label_space.categories}
    if ours != theirs:
        differing = sorted(ours ^ theirs)[0]
        raise InputError(
            f"{checkpoint.folder} was trained for {len(ours)} categories, the data set has {len(theirs)}; they differ, "
            f"for instance in '{differing[1]}' (id {differing[0]}). "
            "Use data with the same categories (and the same group_by)."
        )


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


def _checkpoints(path: Path) -> list[Path]:
    """The folder itself if it is a checkpoint, or the checkpoints of a run, the newest last."""
    if (path / "checkpoint.json").is_file():
        return [path]
    files = [*path.glob("step_*/checkpoint.json"), *path.glob("checkpoints/step_*/checkpoint.json")]
    return _by_step(file.parent for file in files)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; under another name first, so that half of one is never taken for a whole.

    Of a symbolic link only the link: the folder that it leads to was put elsewhere by somebody.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    doomed = folder.with_name(f"{UNFINISHED}{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _by_step(folders: Iterable[Path]) -> list[Path]:
    """Checkpoint folders by their step; as text, step_1000000 would come before step_999999."""
    steps = {folder: folder.name.removeprefix("step_") for folder in folders}
    return sorted((folder for folder, step in steps.items() if step.isdecimal()), key=lambda folder: int(steps[folder]))
