"""A checkpoint -> a network that others can use: a folder with a model card, one file, or a repository of the hub."""

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from rich.console import Console
from safetensors import SafetensorError
from torch import Tensor, nn

from tascnet.console import say
from tascnet.errors import InputError, shown
from tascnet.files import atomic_folder, atomic_path
from tascnet.networks.card import model_card
from tascnet.networks.checkpoint import Checkpoint, facts_of
from tascnet.networks.files import SUFFIX, write_network, write_network_file
from tascnet.networks.foreign.catalog import NETWORK_SUFFIXES
from tascnet.networks.hub import check_repo_id, upload
from tascnet.networks.opening import open_network
from tascnet.networks.origin import Measured, Origin
from tascnet.settings import Use, network_config, to_dict

Precision = Literal["float32", "float16", "bfloat16"]
"""Number format of the weights in the files; they are loaded as float32 whichever it is."""

_LONGEST_LICENCE = 100  # characters


def share(
    path: Path,
    output: Path | None,
    precision: Precision,
    licence: str,
    push: str | None,
    console: Console,
    use: Use = "newest",
) -> None:
    """Write a network for others, send it to the hub, or both.

    Args:
        path: anything that `open_network` opens.
        output: a new folder, or a new file if it ends with .safetensors; None to send only.
        precision: number format of the weights.
        licence: of the weights, as the hub abbreviates it.
        push: owner/name on the hub that it is sent to; None to write only.
        console: to say what was done.
        use: which weights of a run are shared.

    Raises:
        InputError: there is no usable network, the output exists, has an ending of other files of weights or cannot be
            written, no repository can have the name, or the hub refuses.
    """
    _check_destination(output, push)
    if not licence.strip() or not licence.isprintable() or len(licence) > _LONGEST_LICENCE:
        raise InputError(
            f"--licence is {shown(licence)}; it is a name of up to {_LONGEST_LICENCE} characters, such as apache-2.0."
        )
    checkpoint = without_local_paths(open_network(path, use=use))
    if output is not None and output.suffix == SUFFIX:
        write_shared_file(checkpoint, output, precision)
    elif output is not None:
        write_shared_folder(
            checkpoint, output, precision, model_card(checkpoint, f"hf:{push}" if push else output.name, licence)
        )
    if output is not None:
        before, after = _megabytes(checkpoint.folder), _megabytes(output)
        say(console, f"{output}: weights of {after:.1f} MB in {precision}; those of {path} are {before:.1f} MB")
    if push is not None:
        with tempfile.TemporaryDirectory() as temporary:
            folder = output or Path(temporary) / "network"
            if output is None:
                write_shared_folder(checkpoint, folder, precision, model_card(checkpoint, f"hf:{push}", licence))
            say(console, f"sent to {upload(folder, push)}")


def write_shared_folder(checkpoint: Checkpoint, folder: Path, precision: Precision, card: str) -> None:
    """Write weights, settings, facts and a model card as one new folder, whole or not at all.

    Raises:
        InputError: it cannot be written, or a weight is too large for the number format.
    """
    tensors = in_precision(checkpoint.model, precision)
    try:
        with atomic_folder(folder) as temporary:
            write_network(temporary, tensors, checkpoint.config, shared_facts(checkpoint))
            (temporary / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise _unwritable(folder, error) from error


def write_shared_file(checkpoint: Checkpoint, file: Path, precision: Precision) -> None:
    """Write weights, settings and facts as one file, whole or not at all.

    Raises:
        InputError: it cannot be written, or a weight is too large for the number format.
    """
    tensors = in_precision(checkpoint.model, precision)
    try:
        with atomic_path(file) as temporary:
            write_network_file(temporary, tensors, checkpoint.config, shared_facts(checkpoint))
    except (OSError, SafetensorError) as error:
        raise _unwritable(file, error) from error


def shared_facts(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a shared network says beside settings and weights, as plain values."""
    facts = facts_of(checkpoint.label_space, checkpoint.progress, checkpoint.origin)
    return facts | {"measured": checkpoint.measured.to_dict()}


def in_precision(model: nn.Module, precision: Precision) -> dict[str, Tensor]:
    """The state of a network with its weights in a number format.

    Weights of convolutions and linear layers take it. Biases, norms and the normalisation of the input stay as they
    are: they are few, and an error in them shifts a whole channel.

    Raises:
        InputError: a weight is too large for the number format.
    """
    dtype: torch.dtype = getattr(torch, precision)
    matrices = {name for name, parameter in model.named_parameters() if parameter.ndim > 1}
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        tensors[name] = tensor.to(dtype) if name in matrices else tensor
        if bool((tensors[name].isinf() & ~tensor.isinf()).any()):
            raise InputError(
                f"{name} holds {tensor.abs().max().item():.3g}, more than {precision} can: "
                f"{torch.finfo(dtype).max:.3g}. Use bfloat16 or float32."
            )
    return tensors


def without_local_paths(checkpoint: Checkpoint) -> Checkpoint:
    """The same, but of each absolute path only the last name: where data lay on this machine is nobody's business."""
    config: Any = _last_names(to_dict(checkpoint.config))
    origin: Any = _last_names(checkpoint.origin.to_dict())
    measured: Any = _last_names(checkpoint.measured.to_dict())
    origin["command"] = _command_without_paths(checkpoint.origin.command)
    return replace(
        checkpoint,
        config=network_config(config),
        origin=Origin.from_dict(origin),
        measured=Measured.from_dict(measured),
    )


def _last_names(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _last_names(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_last_names(entry) for entry in value]
    if not isinstance(value, str):
        return value
    # a path by itself may have blanks in it; in a sentence a path is one word
    return _last_name(value) if PurePath(value).is_absolute() else " ".join(map(_last_name, value.split(" ")))


def _last_name(text: str) -> str:
    return PurePath(text).name or text if PurePath(text).is_absolute() else text


def _command_without_paths(command: str) -> str:
    """A command line with the last names of its absolute paths, --setting=/path among them."""
    try:
        words = shlex.split(command)
    except ValueError:  # no command line: an unclosed quote
        return command
    return shlex.join("=".join(map(_last_name, word.split("="))) for word in words)


def _check_destination(output: Path | None, push: str | None) -> None:
    if output is None and push is None:
        raise InputError(
            "there is nowhere to share to; give OUTPUT (a folder or a .safetensors file), --push, or both."
        )
    if output is not None and (output.exists() or output.is_symlink()):  # a link to nothing is there, too
        raise InputError(f"{output} exists; give another name, or remove it first.")
    if output is not None and output.suffix.lower() in NETWORK_SUFFIXES and output.suffix != SUFFIX:
        raise InputError(
            f"{output} ends as files of weights do that others write; a network is shared as a folder, or as one file "
            f"that ends with {SUFFIX}. Give another name."
        )
    if push is not None:
        check_repo_id(push)
    if output is not None and push is not None and output.suffix == SUFFIX:
        raise InputError(
            f"the hub wants a folder with a model card, {output} is one file. Give a folder, or no OUTPUT."
        )


def _megabytes(network: Path) -> float:
    file = network if network.is_file() else network / f"model{SUFFIX}"
    return file.stat().st_size / 1e6


def _unwritable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot write {path}: {error}. Check permission and free space.")
