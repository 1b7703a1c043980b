"""The files of a network: weights, settings and facts, as a folder of three files or as one file.

    FOLDER/model.safetensors    the weights, and the normalisation of the input
    FOLDER/config.yaml          the settings
    FOLDER/checkpoint.json      the facts: format version, categories, origin, measured figures

    NAME.safetensors            the same; settings and facts are JSON texts in the metadata of the file

No file is a pickle. Files of tensors carry a checksum of their content in their metadata, and the facts one of all that
predictions depend on beside the weights: settings and categories. Every reader compares them. Files that were written
before there were checksums are read without.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tascnet.config import Config
from tascnet.data.problems import first_few
from tascnet.errors import InputError, shorten, shown
from tascnet.files import atomic_path, parse_json, read_json, read_yaml, write_json, write_text
from tascnet.settings import network_config, to_dict

FORMAT_VERSION = 1
SUFFIX = ".safetensors"
_TEXTS = {"config", "checkpoint"}  # in the metadata of a network's one file
NUM_NAMED = 3  # so many of the tensors that differ are named
_CHECKSUM = "sha256"  # its name in the metadata of a file of tensors, and in the facts
_FORMATS = (torch.float32, torch.float16, torch.bfloat16)  # of weights, as they are shared


@dataclass(frozen=True)
class FileContent:
    """Content of the files of a network, from which a model has yet to be built.

    Attributes:
        path: the folder or the file.
        facts: the facts as plain values; their format version is one that is known.
        config: the settings.
        settings: the same as plain values, as the file holds them.
        tensors: name -> tensor, in the number format of the file.
        has_checksum: whether the weights carry a checksum, which then is right; those of early versions have none.
    """

    path: Path
    facts: Mapping[str, Any]
    config: Config
    settings: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    has_checksum: bool = False


@dataclass(frozen=True)
class _TensorFile:
    """The content of a safetensors file: tensors, texts of the metadata, and whether a checksum was there."""

    tensors: dict[str, Tensor]
    texts: dict[str, str]
    has_checksum: bool


def write_network(folder: Path, tensors: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]) -> None:
    """Write the three files into a folder that is there, each whole or not at all."""
    with atomic_path(folder / "model.safetensors") as temporary:
        write_tensors(temporary, tensors)
    write_text(folder / "config.yaml", yaml.safe_dump(to_dict(config), sort_keys=False))
    write_json(folder / "checkpoint.json", _versioned(facts, config), indent=1)


def write_network_file(path: Path, tensors: Mapping[str, Tensor], config: Config, facts: Mapping[str, Any]) -> None:
    """Write all into one file."""
    texts = {"config": json.dumps(to_dict(config)), "checkpoint": json.dumps(_versioned(facts, config))}
    write_tensors(path, tensors, texts)


def read_network(path: Path) -> FileContent:
    """Read a network's folder or file.

    Raises:
        InputError: files are missing, cut short or changed, a newer version wrote them, or the settings are not valid.
    """
    if path.is_file():
        return _read_file(path)
    facts = _known_version(read_json(path / "checkpoint.json"), path / "checkpoint.json")
    settings = path / "config.yaml"
    if not settings.exists():
        raise _incomplete(settings)
    values = read_yaml(settings)
    config = _config(values, settings)
    weights = _read_tensors(path / "model.safetensors")
    return FileContent(path, facts, config, values, weights.tensors, weights.has_checksum)


def check_texts(files: FileContent) -> None:
    """Compare settings and categories with the checksum that was written with them; where there is none, do nothing.

    It comes after all checks that can name what is wrong.

    Raises:
        InputError: they have changed since.
    """
    wanted = files.facts.get(_CHECKSUM)
    if wanted is not None and wanted != _checksum_of_texts(files.facts, files.settings):
        is_file = files.path.is_file()
        where = files.path if is_file else f"{files.path / 'config.yaml'} or checkpoint.json beside it"
        way_out = "" if is_file else f" To use it as it is, remove the entry {_CHECKSUM} from checkpoint.json."
        raise InputError(
            f"{where} is not as it was written: the checksum of settings and categories differs, so it was damaged or "
            f"edited. Use another copy.{way_out}"
        )


def whole_network(path: Path) -> Path:
    """The folder of a network, if a path leads to the weights in it, which mean nothing by themselves."""
    is_part = path.name == "model.safetensors" and (path.parent / "checkpoint.json").is_file()
    return path.parent if is_part else path


def is_network_file(path: Path) -> bool:
    """Whether a file holds a network with its settings and facts, as `write_network_file` writes it."""
    try:
        with path.open("rb") as start:
            if start.read(9)[8:] != b"{":  # behind 8 bytes with the length of the header; others are not mapped whole
                return False
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
        InputError: names or shapes differ, or a tensor is of another type or not finite; it names the first of them.
    """
    check_fit(model.state_dict(), found, path)
    model.load_state_dict(dict(found))


def check_fit(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor], path: Path) -> None:
    """Make sure that tensors are those of a network, and are weights that can be computed with.

    Args:
        wanted: the network's state; it may be on the meta device, since only names, shapes and types are read.
        found: name -> tensor.
        path: where they come from, for the error.

    Raises:
        InputError: names or shapes differ, or a tensor is of another type or not finite; it names the first of them.
    """
    missing, unexpected = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    reshaped = [
        f"{name} has shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in found and found[name].shape != tensor.shape
    ]
    differing = {"missing": missing, "not known": unexpected, "of another shape": reshaped}
    if any(differing.values()):
        counts = "; ".join(
            f"{len(names)} {how} ({first_few(map(shorten, names), NUM_NAMED)})"
            for how, names in differing.items()
            if names
        )
        raise InputError(
            f"the weights in {path} are not those of the network that its settings describe. Of "
            f"{len(wanted)} tensors: {counts}. Restore the original files."
        )
    for name, tensor in wanted.items():
        formats = _FORMATS if tensor.is_floating_point() else (tensor.dtype,)
        if found[name].dtype not in formats:
            raise InputError(
                f"the weights in {path} cannot be used: {shorten(name)} has the type {_type_name(found[name])}, not "
                f"{' or '.join(str(each).removeprefix('torch.') for each in formats)}. Use another copy."
            )
        check_finite(found[name], name, path)


def check_finite(tensor: Tensor, name: str, path: Path) -> None:
    """Make sure that no value of a tensor is NaN or infinite.

    Raises:
        InputError: naming the tensor, and how many of its values are not finite.
    """
    if not bool(tensor.isfinite().all()):
        count = int((~tensor.isfinite()).sum())
        raise InputError(
            f"the weights in {path} cannot be used: {shorten(name)} holds {count:,} of {tensor.numel():,} values that "
            "are not finite (NaN or infinity). The file was damaged, or its training diverged; use another copy or an "
            "earlier checkpoint."
        )


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Read a safetensors file, and compare its checksum if it carries one.

    Raises:
        InputError: it is missing, cut short, something else, or not as it was written.
    """
    return _read_tensors(file).tensors


def write_tensors(file: Path, tensors: Mapping[str, Tensor], texts: Mapping[str, str] = MappingProxyType({})) -> None:
    """Write a safetensors file with its checksum, and with texts in its metadata.

    It stores plain row-major tensors that share no memory. Equal content gives equal bytes.
    """
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    metadata = {"format": "pt", **texts, _CHECKSUM: checksum_of_tensors(plain)}
    save_file(plain, file, metadata)
    _sort_metadata(file)


def _sort_metadata(file: Path) -> None:
    """Bring the texts of a safetensors file's header into order; the library writes them in another one each time."""
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        content = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(content) == length:
            stream.seek(8)
            stream.write(content)


def _read_tensors(file: Path) -> _TensorFile:
    with _readable(file), safe_open(file, "pt") as opened:
        texts = dict(opened.metadata() or {})
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 - it is no dict
    wanted = texts.pop(_CHECKSUM, None)
    if wanted is not None and wanted != checksum_of_tensors(tensors):
        raise InputError(
            f"{file} is not as it was written: its checksum differs, so it was damaged. Use another copy or another "
            "checkpoint."
        )
    return _TensorFile(tensors, texts, has_checksum=wanted is not None)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    """Errors of a safetensors file that is opened in the block, as sentences."""
    try:
        if file.exists() and not file.is_file() and not file.is_dir():  # to open a pipe could wait for ever
            raise InputError(f"{file} is a pipe or a device, not a file. Use another checkpoint.")
        yield
    except FileNotFoundError as error:
        raise _incomplete(file) from error
    except (SafetensorError, OSError, ValueError, KeyError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{file} cannot be read ({shorten(str(error))}); it may be cut short. Use another checkpoint."
        ) from error


def _read_file(path: Path) -> FileContent:
    content = _read_tensors(path)
    if not set(content.texts) >= _TEXTS:
        raise InputError(
            f"{path} holds weights without settings and categories. Give the folder that it belongs to, "
            "with config.yaml and checkpoint.json, or a file that tascnet share has written."
        )
    texts = {name: parse_json(content.texts[name], f"the metadata of {path}") for name in sorted(_TEXTS)}
    facts, values = _known_version(texts["checkpoint"], path), texts["config"]
    return FileContent(path, facts, _config(values, path), values, content.tensors, content.has_checksum)


def checksum_of_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Checksum of a file of tensors.

    Args:
        tensors: name -> dense tensor on the CPU, of any shape and number format; their order does not matter.

    Returns:
        Hexadecimal digits. They cover names, number formats, shapes and values to the last bit.
    """
    checksum = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        checksum.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        checksum.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return checksum.hexdigest()


def checksum_of_values(values: Any) -> str:
    """Checksum of plain values as JSON or YAML hold them, in hexadecimal digits; layout and order do not matter."""
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()


def _type_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _versioned(facts: Mapping[str, Any], config: Config) -> dict[str, Any]:
    return {"format_version": FORMAT_VERSION, **facts, _CHECKSUM: _checksum_of_texts(facts, to_dict(config))}


def _checksum_of_texts(facts: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """Of all that predictions depend on beside the weights; other facts are words."""
    return checksum_of_values({"config": settings, "categories": facts.get("categories")})


def _known_version(facts: Any, where: Path) -> dict[str, Any]:
    version = facts.get("format_version") if isinstance(facts, dict) else None
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:
        named = shorten(version) if isinstance(version, str) else shown(version)
        raise InputError(
            f"{where} has format version {named}; this tascnet reads from 1 up to {FORMAT_VERSION}. Upgrade tascnet, "
            "or get the file again."
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
