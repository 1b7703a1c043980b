"""Load a network by run folder, checkpoint, file, catalog name or Hub id."""

from dataclasses import replace
from pathlib import Path

from tascnet.build import build_meta_model, build_model
from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.networks.checkpoint import EMA_FILE, best_checkpoint, find_checkpoint
from tascnet.networks.files import (
    check_fit,
    check_texts,
    is_network_file,
    load_weights,
    read_network,
    read_tensors,
    whole_network,
)
from tascnet.networks.foreign.catalog import resolve
from tascnet.networks.foreign.foreign import read_foreign
from tascnet.networks.hub import download, plain_hub_id
from tascnet.networks.network import Evaluation, Network, Origin, numbers
from tascnet.progress import SILENT, Observer
from tascnet.runs.record import logged_validation, read_facts, read_report, run_of
from tascnet.settings import Use, told_settings
from tascnet.structures import LabelSpace

_LOGGED = {"pq": "PQ", "pq_things": "PQ things", "pq_stuff": "PQ stuff", "miou": "mIoU", "ap": "AP"}
"""Name of a figure in metrics.jsonl, behind val/ or val_ema/ -> its name."""


def open_network(path: str | Path, observer: Observer = SILENT, use: Use = "newest") -> Network:
    """Open a network: the one function that turns a name or a path into it.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder, the folder or the one file of a shared network,
            a file of weights made elsewhere (`networks.foreign`), a name that `tascnet weights list` shows, or
            hf:owner/name on Hugging Face's hub. A network known by name is downloaded once.
        observer: receives the progress of a download.
        use: which weights of a run are taken; of a checkpoint folder by itself, "average" are its averaged weights.

    Raises:
        InputError: there is no usable network, or it cannot be downloaded; or it has no average, or is no run with a
            best checkpoint, where these are wanted.
    """
    path = whole_network(resolve(path, observer))
    averaged = use == "average"
    if use == "best":
        path, averaged = best_checkpoint(path)
    if not path.is_file() or is_network_file(path):
        network = fill_from_run(load_network(path), averaged)
        return _with_average(network) if averaged else network
    if averaged:
        raise InputError(
            f"{path} is one file of weights, beside which there is no average. Take the weights themselves."
        )
    return read_foreign(path)


def from_pretrained(
    name_or_path: str | Path,
    *,
    force_download: bool = False,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
) -> Network:
    """Open a network as `open_network` does; owner/name alone is also looked up on Hugging Face's hub.

    Args:
        name_or_path: anything that `open_network` opens. Here, as in other libraries, owner/name alone is also looked
            up on the hub, unless a folder `owner` is in the current one; a mistyped path with one slash therefore asks
            the hub. `open_network` and `Predictor.from_checkpoint` never do.
        force_download: fetch again what is in the hub's cache.
        token: for private repositories; that of `hf auth login` by default.
        cache_dir: folder of the cache; the hub client's own by default.
        local_files_only: do not go online.
        revision: branch, tag or commit on the hub; the main branch by default.

    Raises:
        InputError: there is no usable network of that name.
    """
    path, repo_id = name_or_path, plain_hub_id(name_or_path)
    if repo_id is not None:
        path = download(repo_id, revision, cache_dir, force_download, local_files_only, token)
    return open_network(path)


def load_network(path: str | Path) -> Network:
    """Read a network from its own files alone; needs no access to the training data, and no other file of its run.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder, the folder or the one file of a shared
            network, or hf:owner/name on Hugging Face's hub.

    Raises:
        InputError: files are missing or cut short, a newer version wrote them, or weights and settings disagree.
    """
    files = read_network(find_checkpoint(path))
    facts = files.facts
    try:
        label_space = LabelSpace.from_list(facts["categories"])
        step, seconds = int(facts["progress"]["step"]), float(facts["progress"]["seconds"])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError) as error:
        where = files.path if files.path.is_file() else files.path / "checkpoint.json"
        raise InputError(
            f"{where} lacks a usable entry ({type(error).__name__}: {error}). Use another checkpoint."
        ) from error
    meta_model = build_meta_model(files.config, label_space)  # compared before a network of any size takes memory
    check_fit(meta_model.state_dict(), files.tensors, files.path)
    check_texts(files)
    model = build_model(files.config, label_space)
    model.load_state_dict(dict(files.tensors))
    return Network(
        model.eval(),
        files.config,
        label_space,
        step,
        seconds,
        Origin.from_dict(facts.get("origin")),
        Evaluation.from_dict(facts.get("measured")),
        files.path,
        files.has_checksum,
    )


def fill_from_run(network: Network, averaged: bool = False) -> Network:
    """Fill in the origin and the figures that a checkpoint itself does not hold, from the other files of its run.

    A checkpoint that is being trained has no figures yet, and those of early versions have no origin: their run
    folder does. A file of the run that is missing or broken is passed over, because nothing but words depends on it.

    Args:
        network: of a run, or any other, which is returned as it is.
        averaged: the figures are to be those of its averaged weights.
    """
    run = run_of(network.path)
    if run is None:
        return network
    origin, evaluation = network.origin, network.evaluation
    if origin == Origin():
        origin = Origin.of_run(_facts(run), [_first_weights(network.config)], told_settings(network.config.data.train))
    if evaluation == Evaluation():
        evaluation = _evaluation(run, network, averaged)
    return replace(network, origin=origin, evaluation=evaluation)


def _with_average(network: Network) -> Network:
    """The same network with the averaged weights that were saved beside its own; both share one model.

    Raises:
        InputError: there are none.
    """
    file = network.path / EMA_FILE
    if not file.is_file():
        raise InputError(
            f"{network.path} holds no averaged weights: they are kept in training with training.ema_decay. "
            "Take the weights themselves."
        )
    load_weights(network.model, read_tensors(file), file)
    decay = network.config.training.ema_decay
    averaged = f"then averaged over the steps of the training (training.ema_decay {decay:g})"
    return replace(network, origin=replace(network.origin, weights=(*network.origin.weights, averaged)))


def _evaluation(run: Path, network: Network, averaged: bool) -> Evaluation:
    """The run's report where it is of these weights, else the validation that was logged at the network's step."""
    data = told_settings(network.config.data.val)
    if not averaged:  # a report has all its details of the weights themselves
        report = read_report(run)
        if report.get("step") == network.step:
            return replace(Evaluation.from_report(report), data=data)
    logged = numbers(logged_validation(run, network.step, "val_ema/" if averaged else "val/"))
    figures = {name: logged[key] for key, name in _LOGGED.items() if key in logged}
    return Evaluation(figures=figures, data=data) if figures else Evaluation()


def _facts(run: Path) -> dict[str, object]:
    try:
        return read_facts(run)
    except InputError:
        return {}


def _first_weights(config: Config) -> str:
    backbone = config.model.backbone
    return f"backbone {backbone.name}: {'ImageNet' if backbone.weights == 'imagenet' else 'random'} weights"
