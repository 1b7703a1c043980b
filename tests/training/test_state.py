"""The state of a training: written whole, read back, and a changed byte is found."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tascnet.errors import InputError
from tascnet.training.state import Progress, read_state, write_state

PROGRESS = Progress(step=7, seconds=1.5, images_per_step=4, bad_steps=2, bad_in_a_row=1, skipped=["a is broken"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's folder with its state."""
    save_file({"x": torch.arange(1000.0)}, tmp_path / "model.safetensors")
    write_state(tmp_path, PROGRESS, nn.Linear(2, 2).state_dict(), {"scale": 512.0, "_growth_tracker": 3})
    return tmp_path


def test_it_comes_back(folder: Path):
    saved = read_state(folder)
    assert saved.progress == PROGRESS
    assert saved.scaler == {"scale": 512.0, "_growth_tracker": 3}


def test_the_average_is_written_and_restored(folder: Path):
    other = nn.Linear(2, 2)
    read_state(folder).restore_average(other)
    assert torch.equal(other.weight, load_file(folder / "ema.safetensors")["weight"])


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors"])
def test_one_changed_byte_is_found(folder: Path, name: str):
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name} is not what was written"):
        read_state(folder)


def test_a_file_that_is_gone(folder: Path):
    (folder / "ema.safetensors").unlink()
    with pytest.raises(InputError, match=r"training.json lacks a usable entry \(FileNotFoundError"):
        read_state(folder)


def test_an_entry_that_is_gone(folder: Path):
    values = json.loads((folder / "training.json").read_text())
    values["progress"].pop("images_per_step")
    (folder / "training.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match=r"lacks a usable entry \(KeyError: 'images_per_step'\)"):
        read_state(folder)
