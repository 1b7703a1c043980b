"""A config and a folder -> data sets, network, processes, and the loop over them; or the same from a checkpoint."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import torch

from tascnet.build import build_dataset, build_meta_model, build_model
from tascnet.config import Config, TrainingConfig
from tascnet.data.stream import PanopticDataset
from tascnet.device import choose_device
from tascnet.errors import InputError, is_no_memory
from tascnet.evaluation.report import Report
from tascnet.model.tascnet import TASCNet
from tascnet.networks.checkpoint import find_checkpoints, remove_leftovers
from tascnet.networks.foreign.imagenet import load_imagenet_weights
from tascnet.networks.foreign.initialize import initialize
from tascnet.networks.network import Network, Origin, check_label_space
from tascnet.networks.opening import fill_from_run, load_network, open_network
from tascnet.place import Place, restarts
from tascnet.progress import SILENT, Observer
from tascnet.runs.folder import RunFolder
from tascnet.settings import check, first_difference, told_settings
from tascnet.structures import LabelSpace
from tascnet.training.batches import Shares
from tascnet.training.loop import Training
from tascnet.training.processes import start
from tascnet.training.state import SavedState, read_state
from tascnet.training.team import Team


def train(config: Config, folder: Path, command: str, observer: Observer = SILENT) -> Report:
    """Train from the start, into a new run folder; in `training.devices` processes, or in those of torchrun.

    With several devices, the observer is sent to the first of the processes: it must be possible to pickle it.
    Where torchrun has started the processes again, or `training.resume_if_exists` is set, a run that is in the folder
    already goes on.

    Raises:
        InputError: the config, a file of the data set or the folder cannot be used.
        Interrupted: it was asked to stop; the message says how to go on.
    """
    check(config)
    _check_machine(config)
    if _shall_resume(config.training) and RunFolder.holds_checkpoints(folder):
        _check_same_run(config, RunFolder.open(folder).config(), folder)
        return resume(folder, observer)
    return _in_processes(config.training, _train_here, (config, folder, command), observer)


def resume(folder: Path, observer: Observer = SILENT) -> Report:
    """Go on with an interrupted run from its newest usable checkpoint.

    Raises:
        InputError: the folder is no run folder, holds no usable checkpoint, or its data has changed.
        Interrupted: it was asked to stop; the message says how to go on.
    """
    run = RunFolder.open(folder)
    if (Place.from_environment() or Place()).process == 0:
        with run.locked(_command(folder)):  # a running run is refused before anything of it is read
            pass
    config = run.config()
    find_checkpoints(folder)
    _check_machine(config)
    return _in_processes(config.training, _resume_here, (folder,), observer)


def _train_here(config: Config, folder: Path, command: str, observer: Observer) -> Report:
    """Train from the start, as one of the processes."""
    place = Place.from_environment() or Place()
    train_set, val_set = _open_data(config)
    label_space = train_set.label_space
    model, weights = _new_model(config, label_space, observer)
    team = Team(config.training, place)
    run = team.first_does(lambda: RunFolder.create(folder, config, command, weights))
    with _alone_in(run, command, team):
        origin = Origin.of_run(run.facts(), weights, told_settings(config.data.train))
        shares = Shares(config.data.batch_size, config.training.accumulate, place.processes, place.process)
        training = Training(config, run, observer, team, train_set, val_set, label_space, model, shares, origin)
        return training.run_to_the_end()


def _resume_here(folder: Path, observer: Observer) -> Report:
    """Go on with a run, as one of the processes."""
    place = Place.from_environment() or Place()
    run = RunFolder.open(folder)
    network, saved = _newest_usable(folder, observer)
    config = network.config
    newest = find_checkpoints(folder)[-1]
    train_set, val_set = _open_data(config)
    check_label_space(network, train_set.label_space)
    team = Team(config.training, place)
    with _alone_in(run, _command(folder), team):
        if find_checkpoints(folder)[-1] != newest:
            raise InputError(f"another training has added {find_checkpoints(folder)[-1]}. Resume the run again.")
        _tell_of_edits(run.config(), network, folder, observer)
        shares = _shares(config, saved.progress.images_per_step, place)
        team.first_does(lambda: _tidy(run, saved.progress.step))
        observer.message(f"going on from step {saved.progress.step} ({network.path})")
        # the network's channels are in the order of the checkpoint's categories
        return Training(
            config,
            run,
            observer,
            team,
            train_set,
            val_set,
            network.label_space,
            network.model,
            shares,
            fill_from_run(network).origin,
            saved,
        ).run_to_the_end()


@contextmanager
def _alone_in(run: RunFolder, command: str, team: Team) -> Iterator[None]:
    """While the block runs, process 0 keeps other trainings out of the folder, on behalf of all processes of this one.

    Raises:
        InputError: another training is in it.
    """
    with ExitStack() as stack:
        team.first_does(lambda: stack.enter_context(run.locked(command)))
        yield


def _in_processes(
    training: TrainingConfig, function: Callable[..., Report], arguments: tuple[Any, ...], observer: Observer
) -> Report:
    """Call a function here, or in as many processes as the training shall have; torchrun has started them already."""
    if training.devices == 1 or Place.from_environment():
        return function(*arguments, observer)
    return start(function, arguments, training.devices, observer)


def _shares(config: Config, images_per_step: int, place: Place) -> Shares:
    """How a resumed run shares out its samples: more or fewer processes than before take the same images a step.

    Raises:
        InputError: that cannot be with this number of processes.
    """
    rounds, rest = divmod(images_per_step, place.processes * config.data.batch_size)
    if rest or not rounds:
        raise InputError(
            f"the run takes {images_per_step} images a step, which {place.processes} processes with batches of "
            f"{config.data.batch_size} cannot share evenly. Go on with a number of processes that divides "
            f"{images_per_step // config.data.batch_size}."
        )
    return Shares(config.data.batch_size, rounds, place.processes, place.process)


def _newest_usable(folder: Path, observer: Observer = SILENT) -> tuple[Network, SavedState]:
    """The newest checkpoint that is whole; those that are not are named.

    Raises:
        InputError: none is.
    """
    usable = find_checkpoints(folder)
    folders = sorted((folder / "checkpoints").glob("step_*"))
    problems = [InputError(f"{path} lacks checkpoint.json.") for path in folders if path not in usable]
    for path in reversed(usable):
        try:
            found = load_network(path), read_state(path)
        except InputError as error:
            problems.append(error)
            continue
        for problem in problems:
            observer.message(f"a checkpoint is not usable, and the one before is taken: {problem}")
        return found
    raise problems[0]


def _tidy(run: RunFolder, step: int) -> None:
    remove_leftovers(run.checkpoints)
    run.forget_after(step)


def _shall_resume(training: TrainingConfig) -> bool:
    return training.resume_if_exists or restarts() > 0


def _check_same_run(config: Config, earlier: Config, folder: Path) -> None:
    difference = first_difference(config, earlier)
    if difference:
        raise InputError(
            f"{folder} holds a run with other settings ({difference}), so it cannot go on with these. Choose another "
            "--output, or give the same settings."
        )


def _tell_of_edits(config: Config, network: Network, folder: Path, observer: Observer) -> None:
    """A run resumes with the settings of its checkpoint; edits of its config.yaml would be lost without a word."""
    difference = first_difference(config, network.config)
    if difference:
        observer.message(
            f"{folder / 'config.yaml'} was edited and is not used ({difference} in {network.path.name}): a run "
            "resumes with the settings that it was started with. With new settings, start another run: "
            f"tascnet train --config {folder / 'config.yaml'} --init {folder}",
        )


def _command(folder: Path) -> str:
    return f"tascnet train --resume {folder}"


def _check_machine(config: Config) -> None:
    """Check what only this machine can tell.

    Raises:
        InputError: a device is missing, or cannot do what is asked of it.
    """
    training = config.training
    device = choose_device(training.accelerator)
    if training.precision == "16-mixed" and device.type == "cpu":
        raise InputError(
            "training.precision is 16-mixed, but processors do not compute in it. "
            "Set it to 32-true, or training.accelerator to a GPU."
        )
    processes = place.processes if (place := Place.from_environment()) else training.devices
    if processes > 1 and device.type == "mps":
        raise InputError(
            f"{processes} processes cannot train together on an Apple GPU. Train in one process, or set "
            "training.accelerator to cpu."
        )
    if processes > 1 and device.type == "cpu" and config.model.backbone.norm == "sync_bn":
        raise InputError(
            "model.backbone.norm is sync_bn, but processes on a CPU cannot share the statistics of a batch; only those "
            "on CUDA GPUs can. Set norm to frozen_bn, bn or gn, or train in one process."
        )
    available = {"cuda": torch.cuda.device_count(), "mps": 1, "cpu": os.cpu_count() or 1}[device.type]
    if training.devices > available and not place:
        kind = "processor cores" if device.type == "cpu" else f"{device.type} devices"
        raise InputError(
            f"training.devices is {training.devices}, but this machine has {available} {kind}. Lower it, and raise "
            "training.accumulate by as much to keep the images of a step."
        )


def _open_data(config: Config) -> tuple[PanopticDataset, PanopticDataset]:
    train_set = build_dataset(config.data.train, config.data.input.load_short_side)
    val_set = build_dataset(config.data.val)
    ours, theirs = (
        {(c.id, c.name, c.is_thing) for c in dataset.label_space.categories} for dataset in (train_set, val_set)
    )
    if ours != theirs:  # order and colours may differ: those of the training set count
        differing = sorted(ours ^ theirs)[0]
        raise InputError(
            f"data.train has {len(ours)} categories and data.val {len(theirs)}; they differ, for instance in "
            f"'{differing[1]}' (id {differing[0]}, {'thing' if differing[2] else 'stuff'}), which is in one of them "
            "alone. Use the same ids, names and kinds for both."
        )
    return train_set, val_set


def _built(config: Config, label_space: LabelSpace) -> TASCNet:
    """The network with random weights.

    Raises:
        InputError: as `build_model`, or its weights do not fit into the memory.
    """
    try:
        return build_model(config, label_space)
    except (RuntimeError, MemoryError) as error:
        if not is_no_memory(error):
            raise
        sizes = {name: weight.nbytes / 1e9 for name, weight in build_meta_model(config, label_space).named_parameters()}
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"memory ran out while the network was built: its weights take {sum(sizes.values()):,.1f} GB, of which "
            f"{largest} takes {sizes[largest]:,.1f} GB. Lower the numbers of channels in the group model."
        ) from error


def _new_model(config: Config, label_space: LabelSpace, observer: Observer) -> tuple[TASCNet, tuple[str, ...]]:
    """The network before its first step, and where its weights come from, a sentence for each part."""
    torch.manual_seed(config.training.seed)
    model = _built(config, label_space)
    backbone = config.model.backbone
    told: tuple[str, ...] = ()
    if config.training.init:
        source = open_network(config.training.init, observer)
        initialization = initialize(Network(model, config, label_space), source)
        told = (f"initialised from {source.path}", *source.origin.weights, *initialization.decisions)
        observer.message("\n- ".join(told))
        if initialization.has_backbone:
            return model, told
    weights = f"backbone {backbone.name}: random weights"
    if backbone.weights != "random":
        source_of_backbone = load_imagenet_weights(model.backbone, backbone.name, backbone.weights)
        weights = f"backbone {backbone.name}: pretrained weights from {source_of_backbone}"
        observer.message(weights)
    return model, (*told, weights)
