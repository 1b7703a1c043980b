"""What a user calls a network -> the network: a checkpoint or run of our own, or a file made elsewhere."""

from pathlib import Path

from tascnet.checkpoint import Checkpoint, load_checkpoint
from tascnet.weights.foreign import read_foreign


def open_network(path: str | Path) -> Checkpoint:
    """Open a network: the one function that turns a path into it.

    Args:
        path: a run folder, a checkpoint folder, or a file of weights made elsewhere (`weights.foreign`).

    Raises:
        InputError: there is no usable network.
    """
    path = Path(path)
    if not path.is_file():
        return load_checkpoint(path)
    foreign = read_foreign(path)
    progress = {"step": 0.0, "seconds": 0.0}
    return Checkpoint(
        path, foreign.model, foreign.config, foreign.label_space, progress, foreign.source, foreign.decisions
    )
