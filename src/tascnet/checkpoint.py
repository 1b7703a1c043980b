"""Checkpoints: a folder with weights, settings, categories and, to go on training, the state of the optimiser.

    step_000500/
      model.safetensors       the weights, and the normalisation of the input
      config.yaml             the settings of the run
      checkpoint.json         format version, step, categories
      training.safetensors    the optimiser's state
      ...                     what else a training needs to go on, see training/state.py

No file is a pickle. A checkpoint is written under another name and renamed when it is complete.
"""

import json
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn, optim

from tascnet import __version__
from tascnet.build import build_model
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.files import UNFINISHED, atomic_folder, read_json
from tascnet.model.tascnet import TASCNet
from tascnet.settings import from_dict, to_dict
from tascnet.structures import LabelSpace

FORMAT_VERSION = 1
NUM_KEPT = 2  # newest checkpoints of a run that stay


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory.

    Attributes:
        folder: where it was read from.
        model: the network with its weights, on the CPU, in evaluation mode.
        config: the settings it was trained with.
        label_space: its categories.
        progress: `step` and `seconds` of training so far.
    """

    folder: Path
    model: TASCNet
    config: Config
    label_space: LabelSpace
    progress: dict[str, float]


def save_checkpoint(
    folder: Path,
    model: nn.Module,
    optimizer: optim.Optimizer,
    config: Config,
    label_space: LabelSpace,
    progress: Mapping[str, float],
    write_more: Callable[[Path], None] = lambda folder: None,
    keep_last: int = NUM_KEPT,
    keep_also: Collection[str] = (),
) -> Path:
    """Write `folder`/step_NNNNNN atomically and remove old ones; return its path.

    Args:
        folder: of all checkpoints of a run.
        model: the network.
        optimizer: its optimiser.
        config: the settings of the run.
        label_space: the network's categories.
        progress: `step` and `seconds` so far.
        write_more: writes further files into the checkpoint, after all others.
        keep_last: so many of the newest checkpoints stay.
        keep_also: names of others that stay, too.

    Raises:
        InputError: it cannot be written (no permission, disk full); the earlier checkpoints are as they were.
    """
    final = folder / f"step_{int(progress['step']):06d}"
    facts = {
        "format_version": FORMAT_VERSION,
        "tascnet": __version__,
        "progress": progress,
        "categories": label_space.to_list(),
    }
    try:
        with atomic_folder(final) as temporary:
            write_tensors(temporary / "model.safetensors", model.state_dict())
            write_tensors(temporary / "training.safetensors", _optimizer_tensors(optimizer))
            (temporary / "config.yaml").write_text(yaml.safe_dump(to_dict(config), sort_keys=False), encoding="utf-8")
            (temporary / "checkpoint.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
            write_more(temporary)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"cannot write the checkpoint {final}: {error}. Check permission and free space; "
            "tascnet train --resume goes on from the checkpoint before."
        ) from error
    for old in _by_step(folder.glob("step_*"))[:-keep_last]:
        if old.name not in keep_also:
            _remove(old)
    return final


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left in the folder of a run's checkpoints, half written or half removed."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint folder, or the newest checkpoint of a run folder.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if (path / "checkpoint.json").is_file():
        return path
    return find_checkpoints(path)[-1]


def find_checkpoints(path: Path) -> list[Path]:
    """The checkpoints of a run folder, the newest last.

    Raises:
        InputError: there is none.
    """
    files = [*path.glob("step_*/checkpoint.json"), *path.glob("checkpoints/step_*/checkpoint.json")]
    found = _by_step(file.parent for file in files)
    if not found:
        what = "does not exist" if not path.exists() else "holds no checkpoint"
        raise InputError(
            f"{path} {what}. Give a run folder or a checkpoint folder (with checkpoint.json and model.safetensors)."
        )
    return found


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint; needs no access to the training data.

    Raises:
        InputError: files are missing or cut short, a newer version wrote them, or weights and settings disagree.
    """
    folder = find_checkpoint(path)
    facts = read_json(folder / "checkpoint.json")
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{folder / 'checkpoint.json'} has format version {version}; this tascnet reads up to {FORMAT_VERSION}. "
            "Upgrade tascnet."
        )
    try:
        label_space = LabelSpace.from_list(facts["categories"])
        progress = {name: float(facts["progress"][name]) for name in ("step", "seconds")}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{folder / 'checkpoint.json'} lacks a usable entry ({type(error).__name__}: {error}). "
            "Use another checkpoint."
        ) from error
    config = _read_config(folder / "config.yaml")
    model = build_model(config, label_space)
    load_weights(model, folder / "model.safetensors")
    return Checkpoint(folder, model.eval(), config, label_space, progress)


def load_optimizer(folder: Path, optimizer: optim.Optimizer) -> None:
    """Put the optimiser back into the state it was saved in.

    Raises:
        InputError: the file is missing or cut short.
    """
    tensors = _read_tensors(folder / "training.safetensors")
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        parameter, key = name.split(".", 1)
        state.setdefault(int(parameter), {})[key] = tensor
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


def load_weights(model: nn.Module, file: Path) -> None:
    """Load all weights and buffers of a network.

    Raises:
        InputError: the file is missing, cut short, or another network's.
    """
    state = _read_tensors(file)
    wanted = model.state_dict()
    missing, unexpected = sorted(set(wanted) - set(state)), sorted(set(state) - set(wanted))
    if missing or unexpected:
        raise InputError(
            f"{file} does not belong to its config.yaml: {len(missing)} tensors are missing{_first(missing)}, "
            f"{len(unexpected)} are unexpected{_first(unexpected)}. Restore the original files."
        )
    for name, tensor in state.items():
        if tensor.shape != wanted[name].shape:
            raise InputError(
                f"{file}: {name} has shape {tuple(tensor.shape)}, config.yaml asks for {tuple(wanted[name].shape)}. "
                "Restore the original files."
            )
    model.load_state_dict(state)


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise InputError(f"{file} does not exist; the checkpoint is incomplete. Use another checkpoint.") from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} cannot be read ({error}); it may be cut short. Use another checkpoint.") from error


def _read_config(file: Path) -> Config:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{file} cannot be read ({error}). Use another checkpoint.") from error
    if not isinstance(values, dict):
        raise InputError(f"{file} holds no settings. Use another checkpoint.")
    try:
        return from_dict(values)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _optimizer_tensors(optimizer: optim.Optimizer) -> dict[str, Tensor]:
    state = optimizer.state_dict()["state"]
    return {
        f"{parameter}.{key}": torch.as_tensor(value)
        for parameter, values in state.items()
        for key, value in values.items()
        if value is not None
    }


def write_tensors(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name. safetensors stores plain row-major tensors that share no memory."""
    save_file({name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}, file)


def _remove(folder: Path) -> None:
    """Remove a checkpoint; under another name first, so that half of one is never taken for a whole."""
    doomed = folder.with_name(f"{UNFINISHED}{folder.name}")
    folder.rename(doomed)
    shutil.rmtree(doomed)


def _by_step(folders: Iterable[Path]) -> list[Path]:
    """Checkpoint folders by their step; as text, step_1000000 would come before step_999999."""
    steps = {folder: folder.name.removeprefix("step_") for folder in folders}
    return sorted((folder for folder, step in steps.items() if step.isdecimal()), key=lambda folder: int(steps[folder]))


def _first(names: list[str]) -> str:
    return f" ({names[0]}, ...)" if names else ""
