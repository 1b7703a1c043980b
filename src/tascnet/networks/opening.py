"""What a user calls a network -> the network: of our own, or made elsewhere."""

from pathlib import Path

from tascnet.errors import InputError
from tascnet.networks.checkpoint import Checkpoint, best_checkpoint, load_checkpoint, with_average
from tascnet.networks.files import is_network_file, whole_network
from tascnet.networks.foreign.catalog import resolve
from tascnet.networks.foreign.foreign import read_foreign
from tascnet.networks.history import with_what_its_run_knows
from tascnet.networks.origin import Origin
from tascnet.progress import SILENT, Observer
from tascnet.settings import Use


def open_network(path: str | Path, observer: Observer = SILENT, use: Use = "newest") -> Checkpoint:
    """Open a network: the one function that turns a name or a path into it.

    Args:
        path: a run folder (its newest checkpoint), a checkpoint folder, the folder or the one file of a shared network,
            a file of weights made elsewhere (`weights.foreign`), a name that `tascnet weights list` shows, or
            hf:owner/name on Hugging Face's hub. What is known by name is downloaded once.
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
        checkpoint = with_what_its_run_knows(load_checkpoint(path), averaged)
        return with_average(checkpoint) if averaged else checkpoint
    if averaged:
        raise InputError(
            f"{path} is one file of weights, beside which there is no average. Take the weights themselves."
        )
    foreign = read_foreign(path)
    return Checkpoint(
        path,
        foreign.model,
        foreign.config,
        foreign.label_space,
        progress={"step": 0.0, "seconds": 0.0},
        origin=Origin(weights=(foreign.source, *foreign.decisions)),
    )
