"""A network -> files that others can use: a folder with a model card, one file, or a repository of the hub."""

import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from tascnet.build import build_meta_model
from tascnet.errors import InputError, shown
from tascnet.files import atomic_folder, atomic_path
from tascnet.networks.card import UNKNOWN_LICENCE, model_card
from tascnet.networks.files import SUFFIX, write_network, write_network_file
from tascnet.networks.foreign.catalog import NETWORK_SUFFIXES
from tascnet.networks.hub import COMMIT_MESSAGE, check_repo_id, upload
from tascnet.networks.network import Evaluation, Network, Origin, facts_of
from tascnet.networks.opening import open_network
from tascnet.progress import SILENT, Observer
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
    observer: Observer = SILENT,
    use: Use = "newest",
) -> None:
    """Write a network for others, send it to the hub, or both.

    Args:
        path: anything that `open_network` opens.
        output: a new folder, or a new file if it ends with .safetensors; None to send only.
        precision: number format of the weights.
        licence: of the weights, as the hub abbreviates it.
        push: owner/name on the hub that it is sent to; None to write only.
        observer: receives what was written and sent.
        use: which weights of a run are shared.

    Raises:
        InputError: there is no usable network, the output exists, has an ending of other files of weights or cannot be
            written, no repository can have the name, or the hub refuses.
    """
    _check_destination(output, push)
    _check_licence(licence)
    network = open_network(path, observer, use)
    if output is not None:
        _write_shared(network, output, precision, licence, f"hf:{push}" if push else output.name)
        before, after = _megabytes(network.path), _megabytes(output)
        observer.message(f"{output}: weights of {after:.1f} MB in {precision}; those of {path} are {before:.1f} MB")
    if push is not None:
        sent = push_network(network, push, precision, licence) if output is None else upload(output, push)
        observer.message(f"sent to {sent}")


def save_network(
    network: Network, path: str | Path, precision: Precision = "float32", licence: str = UNKNOWN_LICENCE
) -> None:
    """Write a network as a new folder with a model card, or as one new file; `open_network` opens both.

    Absolute paths of this machine are left out. A network is saved whole or not at all.

    Args:
        network: of `open_network`, or put together by hand.
        path: a new folder, or a new file if it ends with .safetensors.
        precision: number format of the weights in the files; they are loaded as float32 whichever it is.
        licence: of the weights, as the hub abbreviates it.

    Raises:
        InputError: the path exists, has an ending of other files of weights or cannot be written, the licence is none,
            or a weight is too large for the number format.
    """
    output = Path(path)
    _check_destination(output, None)
    _check_licence(licence)
    _write_shared(network, output, precision, licence, output.name)


def push_network(
    network: Network,
    repo_id: str,
    precision: Precision = "float32",
    licence: str = UNKNOWN_LICENCE,
    private: bool | None = None,
    token: str | bool | None = None,
    branch: str | None = None,
    commit_message: str = COMMIT_MESSAGE,
) -> str:
    """Send weights, settings, categories and a model card to Hugging Face's hub.

    Args:
        network: of `open_network`, or put together by hand.
        repo_id: owner/name; made where missing.
        precision: number format of the weights in the files.
        licence: of the weights, as the hub abbreviates it.
        private: whether a repository that is made is private; by default as the account has it.
        token: that of `hf auth login` by default.
        branch: of the repository; the main branch by default.
        commit_message: for the history of the repository.

    Returns:
        The address of the repository.

    Raises:
        InputError: no repository can have the name, the licence is none, or the hub cannot be reached or refuses.
    """
    _check_destination(None, repo_id)
    _check_licence(licence)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "network"
        _write_shared(network, folder, precision, licence, f"hf:{repo_id}")
        return upload(folder, repo_id, private, token, branch, commit_message)


def _write_shared(network: Network, output: Path, precision: Precision, licence: str, address: str) -> None:
    """Write a network as its output's ending says; `address` is where its users will find it."""
    _check_model(network)
    network = without_local_paths(network)
    if output.suffix == SUFFIX:
        write_shared_file(network, output, precision)
    else:
        write_shared_folder(network, output, precision, model_card(network, address, licence))


def _check_model(network: Network) -> None:
    """Refuse a model that could not be opened again, because its settings describe another one."""
    described = build_meta_model(network.config, network.label_space).state_dict().keys()
    if network.model.state_dict().keys() != described:
        raise InputError(
            "the model of this network is not the one that its settings describe, so it could not be opened again; one "
            "that is folded for inference, as in Predictor.from_checkpoint, is none. Save the network of open_network."
        )


def write_shared_folder(network: Network, folder: Path, precision: Precision, card: str) -> None:
    """Write weights, settings, facts and a model card as one new folder, whole or not at all.

    Raises:
        InputError: it cannot be written, or a weight is too large for the number format.
    """
    tensors = in_precision(network.model, precision)
    try:
        with atomic_folder(folder) as temporary:
            write_network(temporary, tensors, network.config, shared_facts(network))
            (temporary / "README.md").write_text(card, encoding="utf-8")
    except (OSError, SafetensorError) as error:
        raise _unwritable(folder, error) from error


def write_shared_file(network: Network, file: Path, precision: Precision) -> None:
    """Write weights, settings and facts as one file, whole or not at all.

    Raises:
        InputError: it cannot be written, or a weight is too large for the number format.
    """
    tensors = in_precision(network.model, precision)
    try:
        with atomic_path(file) as temporary:
            write_network_file(temporary, tensors, network.config, shared_facts(network))
    except (OSError, SafetensorError) as error:
        raise _unwritable(file, error) from error


def shared_facts(network: Network) -> dict[str, Any]:
    """Facts of a shared network beside settings and weights, as plain values."""
    facts = facts_of(network.label_space, network.step, network.seconds, network.origin)
    return facts | {"measured": network.evaluation.to_dict()}


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


def without_local_paths(network: Network) -> Network:
    """The same, but of each absolute path only the last name: where data lay on this machine is nobody's business."""
    config: Any = _last_names(to_dict(network.config))
    origin: Any = _last_names(network.origin.to_dict())
    evaluation: Any = _last_names(network.evaluation.to_dict())
    origin["command"] = _command_without_paths(network.origin.command)
    return replace(
        network,
        config=network_config(config),
        origin=Origin.from_dict(origin),
        evaluation=Evaluation.from_dict(evaluation),
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


def _check_licence(licence: str) -> None:
    if not licence.strip() or not licence.isprintable() or len(licence) > _LONGEST_LICENCE:
        raise InputError(
            f"--licence is {shown(licence)}; it is a name of up to {_LONGEST_LICENCE} characters, such as apache-2.0."
        )


def _megabytes(network: Path) -> float:
    file = network if network.is_file() else network / f"model{SUFFIX}"
    return file.stat().st_size / 1e6


def _unwritable(path: Path, error: Exception) -> InputError:
    return InputError(f"cannot write {path}: {error}. Check permission and free space.")
