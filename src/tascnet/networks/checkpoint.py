"""Where the networks of a run lie: its checkpoints by step, the newest and the best of them.

    step_000500/
      model.safetensors, config.yaml, checkpoint.json    the network, see files.py
      ema.safetensors                                    its averaged weights, where they are kept
      ...                                                all else a training needs to resume, see training/state.py

A checkpoint is written under another name and renamed when it is complete.
"""

import re
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from tascnet.errors import InputError
from tascnet.files import UNFINISHED, read_json
from tascnet.networks.files import SUFFIX
from tascnet.networks.hub import download, hub_id, plain_hub_id
from tascnet.settings import NETWORK

EMA_FILE = "ema.safetensors"  # the averaged weights, where they are kept
BEST_FILE = "best.json"  # names the checkpoint of a run that has the best PQ


def checkpoint_path(folder: Path, step: int) -> Path:
    """Path of the checkpoint of a step in the folder of a run's checkpoints."""
    return folder / f"step_{step:06d}"


def remove_old_checkpoints(folder: Path, keep_last: int, keep_also: Collection[str] = ()) -> None:
    """Remove all checkpoints in a folder but the newest `keep_last`, and those named in `keep_also`."""
    for old in _by_step(folder.glob("step_*"))[:-keep_last]:
        if old.name not in keep_also:
            _remove(old)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left in the folder of a run's checkpoints, half written or half removed."""
    for leftover in folder.glob(f"{UNFINISHED}*"):
        shutil.rmtree(leftover, ignore_errors=True)


def find_checkpoint(path: str | Path) -> Path:
    """A checkpoint folder, the newest checkpoint of a run folder, a network in one file, or one of the hub, fetched.

    Raises:
        InputError: there is none.
    """
    path = Path(path)
    if not path.exists() and (repo_id := hub_id(path)) is not None:
        path = download(repo_id)
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


def holds_checkpoint(path: str | Path) -> bool:
    """Whether something is a checkpoint folder, or a run folder with a checkpoint in it."""
    return bool(_checkpoints(Path(path)))


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
