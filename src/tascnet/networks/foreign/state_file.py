"""Files of weights made elsewhere -> name -> tensor. What a file is, its first bytes say, not its name."""

import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from tascnet.errors import InputError, shorten, shown
from tascnet.networks.files import check_finite
from tascnet.networks.foreign.unpickle import ForbiddenError, read_pickle

State = dict[str, Tensor]
"""Name -> tensor."""

_OLD_TORCH_FILE = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)[:-1]
"""How files of torch begin that are not zip archives: with a number that PyTorch chose, pickled."""

_FIRST_OPCODES = (b"\x80", b"(", b"c", b"}", b"]")
"""How pickles begin: with their protocol, or if it is an old one with a container or a name."""

_WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Entries of a checkpoint that hold the network, as detectron2 and the usual training loops write them."""


MOST_WRAPPERS = 4
"""Levels of such entries that are looked into; a file could hold itself."""

MOST_TIMES = 16
"""Bytes of the tensors for each byte of their file: several may share their values, as tied weights do."""

_WANTED_NAME = re.compile(r"(?:GLOBAL|global:?|Trying to instantiate a class|class) +([\w.]+\.\w+)")
"""How PyTorch's reader of weights names what a file wants that is more than tensors."""


def read_state(path: str | Path) -> State:
    """Read the tensors of a file of weights; no code that is in it runs.

    Args:
        path: a .safetensors file, a file that `torch.save` wrote (.pth, .pt), or a pickle of numpy arrays (.pkl).

    Returns:
        The tensors of the network, on the CPU. What else a checkpoint holds, such as an optimiser's state, is left out.

    Raises:
        InputError: the file is missing, damaged, of another kind, or wants code to be run; or a tensor is not one of
            plain finite numbers.
    """
    path = Path(path)
    state = _tensors(_read(path))
    if not state:
        raise InputError(f"{path} holds no tensors by name. Give a file with the weights of a network.")
    _check_tensors(state, path)
    if all(name.startswith("module.") for name in state):  # from a network in DistributedDataParallel
        return {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return state


def _read(path: Path) -> Any:
    """What the file holds."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():  # to open a pipe could wait for ever
            raise InputError(f"{path} is a pipe or a device. Give a file of weights.")
        with path.open("rb") as file:
            start = file.read(64)
        if zipfile.is_zipfile(path):
            _check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
        if start.startswith(_OLD_TORCH_FILE):
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
    except InputError:
        raise
    except Exception as error:  # PyTorch and pickle raise a dozen kinds for damaged files
        wanted = _WANTED_NAME.search(str(error))
        if wanted is not None:
            raise InputError(
                f"{path} holds more than tensors: it wants {shorten(wanted[1])} of the library that wrote it, so it "
                "was not read further; it may be malicious. If you trust it, save its state_dict alone, with that "
                "library installed: torch.save(torch.load(FILE, weights_only=False)['state_dict'], NEW_FILE)."
            ) from error
        raise InputError(
            f"{path} cannot be read as weights ({_first_line(error)}). It may be cut short, or hold more than tensors: "
            "get it again, or save its state_dict as .safetensors."
        ) from error
    raise InputError(f"{path} is no file of weights. Give a .safetensors file, a .pth of torch.save, or a zoo's .pkl.")


def _check_archive(path: Path) -> None:
    """Make sure that a zip archive inflates to no more than it is: `torch.save` compresses nothing.

    Raises:
        InputError: entries are compressed, have the same name, or have together more bytes than the file.
        zipfile.BadZipFile: it is damaged.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    compressed = [entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    size, inside = path.stat().st_size, sum(entry.file_size for entry in entries)
    if compressed or inside > size:
        raise InputError(
            f"{path} is an archive of {size:,} bytes with {inside:,} bytes in it"
            f"{f', of which {shown(compressed[0].filename)} is compressed' if compressed else ''}. torch.save never "
            "compresses, so somebody has packed it again, and it may be meant to fill the memory. Unpack it if a file "
            "of weights is inside; otherwise get it again."
        )
    repeated = [name for name, count in Counter(entry.filename for entry in entries).items() if count > 1]
    if repeated:
        raise InputError(f"{path} is an archive that holds {shown(repeated[0])} more than once. Get it again.")


def _check_tensors(state: State, path: Path) -> None:
    """Make sure that tensors are plain finite numbers, and together not much larger than their file.

    A few bytes can stand for a tensor of any size whose elements all lie in one place.

    Raises:
        InputError: naming the first tensor that is not so.
    """
    allowed, total = MOST_TIMES * path.stat().st_size + 2**20, 0
    for name, tensor in state.items():
        where = f"{path}: the tensor {shorten(name)}"
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise InputError(f"{where} is sparse, quantized or without values. Save it as a dense tensor of numbers.")
        if tensor.is_complex():
            raise InputError(f"{where} holds complex numbers. Give a file with the weights of a network.")
        total += tensor.numel() * tensor.element_size()
        if total > allowed:
            raise InputError(
                f"{where} has the shape {shown(tuple(tensor.shape))}, for which the file of {path.stat().st_size:,} "
                "bytes is too small. It may be meant to fill the memory; get the weights from another source."
            )
        check_finite(tensor, name, path)


def _tensors(content: Any) -> State:
    """The entries of a dict that are tensors; of a checkpoint, those of the network in it."""
    for _ in range(MOST_WRAPPERS):
        inner = [content[each] for each in _WRAPPERS if isinstance(content, Mapping) and each in content]
        content = next((value for value in inner if isinstance(value, Mapping)), content)
    if not isinstance(content, Mapping):
        return {}
    state: State = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            state[str(name)] = value
        elif isinstance(value, np.ndarray):
            state[str(name)] = torch.from_numpy(value)
    return state


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return shorten(lines[0].rstrip(". ")) if lines else type(error).__name__
