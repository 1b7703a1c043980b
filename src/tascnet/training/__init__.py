"""Training: a config -> checkpoints and a report in a run folder. `run` assembles it, `loop` is the loop."""

from tascnet.training.loop import total_loss
from tascnet.training.run import resume, train
from tascnet.training.state import Progress

__all__ = ["Progress", "resume", "total_loss", "train"]
