"""The demo: generated street scenes -> a small trained network, its report and its pictures, in minutes."""

import shutil
from pathlib import Path

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser
from tascnet.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetConfig,
    InputConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StuffHeadConfig,
    ThingsHeadConfig,
    TrainingConfig,
)
from tascnet.errors import InputError
from tascnet.runs.lock import HOLDER, LOCK, RunLock
from tascnet.runs.record import is_run, read_facts
from tascnet.settings import check

NUM_TRAINING_SCENES = 800
NUM_UNSEEN_SCENES = 50
FIRST_UNSEEN_SCENE = 1_000_000  # far from any scene that trains
STEPS = 1500


def parser() -> ArgumentParser:
    """Build the parser of `tascnet demo`."""
    parser = ArgumentParser(
        description="Train a small network on generated street scenes, evaluate it on 50 unseen ones, draw pictures. "
        "Needs no data and no download; takes about 7 minutes on two cores."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs/demo"), help="run folder; an earlier demo in it is replaced"
    )
    parser.add_argument("--minutes", type=float, default=5.0, help="upper bound of the training time, minutes")
    parser.add_argument("--steps", type=int, default=0, help="upper bound of the training steps; 0 for the demo's own")
    return parser


def demo_config(minutes: float, steps: int) -> Config:
    """The settings of the demo.

    Args:
        minutes: upper bound of the training time.
        steps: upper bound of the training steps; 0 for the demo's own number.
    """
    return Config(
        data=DataConfig(
            train=DatasetConfig(format="streets", num_images=NUM_TRAINING_SCENES),
            val=DatasetConfig(format="streets", num_images=NUM_UNSEEN_SCENES, first=FIRST_UNSEEN_SCENE),
            input=InputConfig(flip=0.5),
            batch_size=1,  # twice the steps of batches of two in the same time: measures better in so short a training
            keep_in_memory=True,
        ),
        model=small_model(),
        loss=LossConfig(stuff=1.0, tasc=0.5, tasc_warmup_steps=200),
        optimizer=OptimizerConfig(
            name="adamw",
            lr=7e-4,
            weight_decay=1e-2,
            backbone_lr_factor=0.3,
            clip_norm=5.0,
            warmup_steps=60,
            schedule="cosine",
        ),
        training=TrainingConfig(steps=steps or STEPS, max_minutes=minutes, checkpoint_every=300, log_every=20),
    )


def small_model() -> ModelConfig:
    """A network for two processor cores: the same code as the large one, with smaller parts."""
    return ModelConfig(
        backbone=BackboneConfig(name="tf_efficientnet_lite0", weights="imagenet", added_channels=128, freeze_stem=True),
        pyramid_channels=96,
        stuff_head=StuffHeadConfig(channels=64),
        things_head=ThingsHeadConfig(
            anchor_sizes=[16, 32, 64, 128, 256],
            rpn_samples=128,
            pre_nms=300,
            post_nms=200,
            roi_samples=128,
            sampling_ratio=1,  # reading four points a cell would take a sixth of the step
            box_channels=256,
            mask_channels=64,
            mask_convs=3,
        ),
    )


def run(options: Namespace, command: str) -> None:
    """Train, evaluate on unseen scenes, draw, and print which files to open.

    Raises:
        InputError: the output folder holds something that is not an earlier demo, or cannot be written to.
    """
    from tascnet.commands.console import ConsoleObserver, print_plain, standard_console
    from tascnet.commands.report import print_report
    from tascnet.training import train

    console, output = standard_console(), options.output
    config = check(demo_config(options.minutes, options.steps))
    if output.exists():
        if not _is_replaceable(output):
            raise InputError(f"{output} exists and is not an earlier demo; choose another --output.")
        _empty(output, command)
    text = f"Training on {NUM_TRAINING_SCENES} generated street scenes, for at most {options.minutes:g} minutes."
    print_plain(console, text)
    report = train(config, output, command, ConsoleObserver(console))
    print_report(report, console)
    print_plain(
        console,
        f"Open {output}/pictures/best.png and worst.png: picture, annotation, prediction, matches, residual.\n"
        f"All figures are in {output}/report.json, the curves in {output}/tensorboard.\n"
        f"Next: tascnet predict {output} PHOTO --output results",
    )


def _is_replaceable(folder: Path) -> bool:
    """An empty folder or an earlier demo; a long training that someone did there is neither."""
    if not folder.is_dir() or not _content(folder):
        return folder.is_dir()
    return is_run(folder) and str(read_facts(folder).get("command", "")).startswith("tascnet demo")


def _empty(folder: Path, command: str) -> None:
    """Remove an earlier demo, unless it is still training.

    Raises:
        InputError: it is, or something in it cannot be removed.
    """
    lock = RunLock(folder)
    lock.acquire(command)
    try:
        for path in _content(folder):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    except OSError as error:
        raise InputError(
            f"{folder}, an earlier demo, cannot be removed: {error}. Remove it by hand, or choose another --output."
        ) from error
    finally:
        lock.release()


def _content(folder: Path) -> list[Path]:
    """All but the lock, whose file must stay where it is."""
    return [path for path in folder.iterdir() if path.name not in (LOCK, HOLDER)]
