"""Files of weights made elsewhere -> name -> tensor. What a file is, its first bytes say, not its name."""

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tascnet.errors import InputError
from tascnet.weights.unpickle import ForbiddenError, read_pickle

State = dict[str, Tensor]
"""Name -> tensor."""

_OLD_TORCH_FILE = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:-1]
"""How files of torch begin that are not zip archives: with a number that PyTorch chose, pickled."""

_FIRST_OPCODES = (b"\x80", b"(", b"c", b"}", b"]")
"""How pickles begin: with their protocol, or if it is an old one with a container or a name."""

_WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Entries of a checkpoint that hold the network, as detectron2 and the usual training loops write them."""


def read_state(path: str | Path) -> State:
    """Read the tensors of a file of weights; no code that is in it runs.

    Args:
        path: a .safetensors file, a file that `torch.save` wrote (.pth, .pt), or a pickle of numpy arrays (.pkl).

    Returns:
        The tensors of the network, on the CPU. What else a checkpoint holds, such as an optimiser's state, is left out.

    Raises:
        InputError: the file is missing, damaged, of another kind, or wants code to be run.
    """
    path = Path(path)
    content = _read(path)
    state = _tensors(content)
    if not state:
        raise InputError(f"{path} holds no tensors by name. Give a file with the weights of a network.")
    if all(name.startswith("module.") for name in state):  # from a network in DistributedDataParallel
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    """What the file holds."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
        if zipfile.is_zipfile(path) or start.startswith(_OLD_TORCH_FILE):
            return torch.load(path, map_location="cpu", weights_only=True)
        if start[8:9] == b"{":  # behind 8 bytes with the length of this header
            return load_file(path)
        if start[:1] in _FIRST_OPCODES:
            return read_pickle(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist. Check the path.") from error
    except OSError as error:
        raise InputError(
            f"{path} cannot be read: {error.strerror or error}. Check that it is a file of weights."
        ) from error
    except ForbiddenError as error:
        raise InputError(
            f"{path} is a pickle that holds more than arrays ({error}), so it was not run; it may be malicious. "
            "Get the weights from a source you trust, as .safetensors if you can."
        ) from error
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as weights ({_first_line(error)}). It may be cut short, or hold more than tensors: "
            "get it again, or save its state_dict as .safetensors."
        ) from error
    raise InputError(f"{path} is no file of weights. Give a .safetensors file, a .pth of torch.save, or a zoo's .pkl.")


def _tensors(content: Any) -> State:
    """The entries of a dict that are tensors; of a checkpoint, those of the network in it."""
    if not isinstance(content, Mapping):
        return {}
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return _tensors(content[wrapper])
    state: State = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            state[str(name)] = value
        elif isinstance(value, np.ndarray):
            state[str(name)] = torch.from_numpy(value)
    return state


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(". ") if lines else type(error).__name__
