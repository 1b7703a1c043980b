"""Files of weights of all kinds give the same tensors, whatever they are called; damaged ones give a sentence."""

import os
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tascnet.errors import InputError
from tascnet.networks.foreign.state_file import read_state

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.tensor([1, 2])}


def arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in STATE.items()}


WRITERS: dict[str, Callable[[Path], Any]] = {
    "safetensors": lambda path: save_file(STATE, path),
    "pth": lambda path: torch.save(STATE, path),
    "pth, ordered": lambda path: torch.save(OrderedDict(STATE), path),
    "pth, old format": lambda path: torch.save(STATE, path, _use_new_zipfile_serialization=False),
    "pth, training": lambda path: torch.save({"model": STATE, "optimizer": {"lr": 1.0}, "epoch": 3}, path),
    "pth, parallel": lambda path: torch.save({f"module.{name}": value for name, value in STATE.items()}, path),
    "pkl": lambda path: path.write_bytes(pickle.dumps(arrays())),
    "pkl, zoo": lambda path: path.write_bytes(pickle.dumps({"model": arrays(), "__author__": "somebody"})),
    "pkl, protocol 0": lambda path: path.write_bytes(pickle.dumps({"state_dict": arrays()}, 0)),
}


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("suffix", [".pkl", ".pth", ".weights"])
def test_what_a_file_is_its_content_says(kind: str, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"file{suffix}"
    WRITERS[kind](path)
    state = read_state(path)
    assert list(state) == list(STATE) if "safetensors" not in kind else set(state) == set(STATE)
    assert all(isinstance(state[name], Tensor) and torch.equal(state[name], STATE[name]) for name in STATE)


class Attack:
    """Calls the shell when it is unpickled."""

    def __init__(self, witness: Path):
        self.witness = witness

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.witness}",)


@pytest.mark.parametrize("kind", ["pkl", "pth", "pth, old format"])
def test_a_malicious_file_gives_one_sentence_and_does_not_run(kind: str, tmp_path: Path) -> None:
    path, witness = tmp_path / "weights", tmp_path / "it_ran"
    content = {"model": {"w": Attack(witness)}}
    if kind == "pkl":
        path.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "pth")
    with pytest.raises(InputError, match=str(path)) as caught:
        read_state(path)
    assert "\n" not in str(caught.value)
    assert not witness.exists()
    if kind == "pkl":
        assert "holds more than arrays (it wants posix.system), so it was not run" in str(caught.value)


@pytest.mark.parametrize("kind", ["safetensors", "pth", "pth, old format", "pkl"])
def test_cut_short(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "weights"
    WRITERS[kind](path)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(InputError, match=rf"{path} .*get it again|{path} is no file of weights"):
        read_state(path)


@pytest.mark.parametrize(
    ("content", "finding"),
    [
        (b"", "is no file of weights"),
        (b"\x89PNG\r\n\x1a\n0000", "is no file of weights"),
        (b"model:\n  backbone: {}\n", "is no file of weights"),
        (pickle.dumps([1, 2]), "holds no tensors by name"),
        (pickle.dumps({"model": {"name": "text"}}), "holds no tensors by name"),
    ],
)
def test_what_is_none(content: bytes, finding: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=finding):
        read_state(path)


def test_missing_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"weights.pth does not exist"):
        read_state(tmp_path / "weights.pth")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_state(tmp_path)
