"""The files of a network: weights, settings and facts, as a folder of three files or as one file.

    FOLDER/model.safetensors    the weights, and the normalisation of the input
    FOLDER/config.yaml          the settings
    FOLDER/checkpoint.json      the facts: format version, categories, origin, measured figures

    NAME.safetensors            the same; settings and facts are JSON texts in the metadata of the file

No file is a pickle.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tascnet.config import Config
from tascnet.data.problems import first_few
from tascnet.errors import InputError
from tascnet.files import atomic_path, read_json, read_yaml, write_json, write_text
from tascnet.settings import network_config, to_dict

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_TEXTS = {"config", "checkpoint"}  # in the metadata of a network's one file
NUM_NAMED = 3  # so many of the tensors that differ are named


@dataclass(frozen=True)
class NetworkFiles:
    """What the files of a network hold.

    Attributes:
        path: the folder or the file.
        facts: the facts as plain values; their format version is one that is known.
        config: the settings.
        tensors: name -> tensor, in the number format of the file.
    """

    path: Path
    facts: Mapping[str, Any]
    config: Config
    tensors: Mapping[str, Tensor]


def write_network(folder: Path, tensors: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]) -> None:
    """Write the three files into a folder that is there, each whole or not at all."""
    with atomic_path(folder / "model.safetensors") as temporary:
        write_tensors(temporary, tensors)
    write_text(folder / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
    write_json(folder / "checkpoint.json", _versioned(facts), indent=1)


def write_network_file(path: Path, tensors: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]) -> None:
    """Write all into one file."""
    texts = {"config": json.dumps(to_dict(config)), "checkpoint": json.dumps(_versioned(facts))}
    write_tensors(path, tensors, texts)


def read_network(path: Path) -> NetworkFiles:
    """Read a network's folder or file.

    Raises:
        InputError: files are missing or cut short, a newer version wrote them, or the settings are not valid.
    """
    if path.is_file():
        return _read_file(path)
    facts = _known_version(read_json(path / "checkpoint.json"), path / "checkpoint.json")
    settings = path / "config.yaml"
    if not settings.exists():
        raise _incomplete(settings)
    return NetworkFiles(path, facts, _config(read_yaml(settings), settings), read_tensors(path / "model.safetensors"))


def whole_network(path: Path) -> Path:
    """The folder of a network, if a path leads to the weights in it, which mean nothing by themselves."""
    is_part = path.name == "model.safetensors" and (path.parent / "checkpoint.json").is_file()
    return path.parent if is_part else path


def is_network_file(path: Path) -> bool:
    """Whether a file holds a network with its settings and facts, as `write_network_file` writes it."""
    try:
        with safe_open(path, "pt") as file:
            return set(file.metadata() or {}) >= _TEXTS
    except (SafetensorError, OSError):
        return False


def load_weights(model: nn.Module, found: Mapping[str, Tensor], path: Path) -> None:
    """Put all tensors into a network, in the network's own number format.

    Args:
        model: the network.
        found: name -> tensor.
        path: where they come from, for the error.

    Raises:
        InputError: names or shapes differ; it names the first of each kind.
    """
    wanted = model.state_dict()
    missing, unexpected = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    reshaped = [
        f"{name} has shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    differing = {"missing": missing, "not known": unexpected, "of another shape": reshaped}
    if any(differing.values()):
        counts = "; ".join(
            f"{len(names)} {how} ({first_few(names, NUM_NAMED)})" for how, names in differing.items() if names
        )
        raise InputError(
            f"the weights in {path} are not those of the network that its settings describe. Of "
            f"{len(wanted)} tensors: {counts}. Restore the original files."
        )
    model.load_state_dict(dict(found))


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file.

    Raises:
        InputError: it is missing, cut short, or something else.
    """
    try:
        return load_file(file)
    except FileNotFoundError as error:
        raise _incomplete(file) from error
    except (SafetensorError, OSError) as error:
        raise InputError(f"{file} cannot be read ({error}); it may be cut short. Use another checkpoint.") from error


def write_tensors(file: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write a safetensors file, with texts in its metadata. It stores plain row-major tensors that share no memory."""
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    save_file(plain, file, {"format": "pt", **texts})


def _read_file(path: Path) -> NetworkFiles:
    tensors = read_tensors(path)
    with safe_open(path, "pt") as file:
        texts = file.metadata() or {}
    if not set(texts) >= _TEXTS:
        raise InputError(
            f"{path} holds weights without settings and categories. Give the folder that it belongs to, "
            "with config.yaml and checkpoint.json, or a file that tascnet share has written."
        )
    try:
        facts, values = json.loads(texts["checkpoint"]), json.loads(texts["config"])
    except json.JSONDecodeError as error:
        raise InputError(f"the metadata of {path} is not valid JSON ({error}). Use another file.") from error
    return NetworkFiles(path, _known_version(facts, path), _config(values, path), tensors)


def _versioned(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, **facts}


def _known_version(facts: Any, where: Path) -> dict[str, Any]:
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if not isinstance(version, int) or version > FORMAT_VERSION:
        raise InputError(
            f"{where} has format version {version}; this tascnet reads up to {FORMAT_VERSION}. Upgrade tascnet."
        )
    return dict(facts)


def _incomplete(missing: Path) -> InputError:
    return InputError(f"{missing} does not exist; the checkpoint is incomplete. Use another checkpoint.")


def _config(values: Any, where: Path) -> Config:
    if not isinstance(values, dict):
        raise InputError(f"{where} holds no settings. Use another checkpoint.")
    try:
        return network_config(values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
