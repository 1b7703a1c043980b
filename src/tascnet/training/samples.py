"""Data set and settings -> the stream of training samples."""

from rich.console import Console

from tascnet.build import build_augmentation
from tascnet.config import Config
from tascnet.data.stream import PanopticDataset, TrainingStream
from tascnet.display import progress_bar


def open_stream(config: Config, dataset: PanopticDataset, num_samples: int, console: Console) -> TrainingStream:
    """All samples of a run over all processes, augmented; held in memory where the config says so."""
    stream = TrainingStream(dataset, build_augmentation(config.data.input), num_samples, config.training.seed)
    if config.data.keep_in_memory:
        with progress_bar(console, "reading", len(dataset)) as bar:
            stream.keep_in_memory(bar.update)
    return stream
