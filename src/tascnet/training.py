"""The training loop: data sets and a config -> checkpoints and a report in a run folder."""

import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from tascnet.build import build_augmentation, build_dataset, build_model, build_optimizer, learning_rate_factor
from tascnet.checkpoint import check_label_space, load_checkpoint, load_optimizer, save_checkpoint
from tascnet.config import Config, TrainingConfig
from tascnet.data.batch import Batch, collate
from tascnet.data.stream import ErrorsAsItems, PanopticDataset, TrainingStream, collate_or_error
from tascnet.device import choose_device, peak_memory
from tascnet.display import Bar, progress_bar, say
from tascnet.errors import InputError
from tascnet.evaluation import evaluate, fixed_cases, write_cases
from tascnet.model.tasc_loss import tasc_weight
from tascnet.model.tascnet import TASCNet
from tascnet.pace import Pace, describe
from tascnet.predictor import Predictor
from tascnet.reports.report import Report
from tascnet.reports.writing import write_report
from tascnet.run_folder import RunFolder
from tascnet.settings import check, told_settings
from tascnet.structures import LabelSpace, Target
from tascnet.weights.imagenet import load_imagenet_weights


@dataclass
class Progress:
    """How far a training has come: steps taken, and seconds spent on them (validations not counted)."""

    step: int = 0
    seconds: float = 0.0

    def share(self, config: Config) -> float:
        """0 at the start, 1 at the end: the larger of the shares of steps and of time."""
        limits = [self.step / config.training.steps]
        if config.training.max_minutes:
            limits.append(self.seconds / 60 / config.training.max_minutes)
        return min(1.0, max(limits))


def train(config: Config, folder: Path, command: str, console: Console) -> Report:
    """Train from the start, into a new run folder.

    Raises:
        InputError: the config, a file of the data set or the folder cannot be used.
    """
    check(config)
    _check_device(config.training)
    train_set, val_set = _open_data(config)
    label_space = train_set.label_space
    model = _new_model(config, label_space, console)
    run = RunFolder.create(folder, config, command)
    with run.kept_state():
        return _Training(config, run, console, train_set, val_set, label_space, model, Progress()).run_to_the_end()


def resume(folder: Path, console: Console) -> Report:
    """Go on with an interrupted run from its newest checkpoint.

    Raises:
        InputError: the folder is no run folder, holds no usable checkpoint, or its data has changed.
    """
    run = RunFolder.open(folder)
    checkpoint = load_checkpoint(folder)
    _check_device(checkpoint.config.training)
    train_set, val_set = _open_data(checkpoint.config)
    check_label_space(checkpoint, train_set.label_space)
    progress = Progress(int(checkpoint.progress["step"]), checkpoint.progress["seconds"])
    # the network's channels are in the order of the checkpoint's categories
    training = _Training(
        checkpoint.config, run, console, train_set, val_set, checkpoint.label_space, checkpoint.model, progress
    )
    load_optimizer(checkpoint.folder, training.optimizer)
    run.forget_after(progress.step)
    with run.kept_state():
        return training.run_to_the_end()


def total_loss(losses: dict[str, Tensor], stuff_weight: float, consistency_weight: float) -> Tensor:
    """L = L_rpn_cls + L_rpn_box + L_cls + L_box + L_mask + lambda_s L_stuff + lambda_c L_TASC."""
    weights = {"stuff": stuff_weight, "tasc": consistency_weight}
    return torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()


class _Sealed:
    """Targets on their way through Fabric.

    In mixed precision Fabric converts whatever collection it knows, and refuses frozen dataclasses in it; the
    network wants targets as they are.
    """

    def __init__(self, targets: list[Target]):
        self._targets = targets

    def __len__(self) -> int:
        return len(self._targets)

    def __iter__(self) -> Iterator[Target]:
        return iter(self._targets)

    def __getitem__(self, index: int) -> Target:
        return self._targets[index]


class _Training:
    """The parts of one run and the loop over them."""

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        console: Console,
        train_set: PanopticDataset,
        val_set: PanopticDataset,
        label_space: LabelSpace,
        model: TASCNet,
        progress: Progress,
    ):
        self.config, self.run, self.console, self.progress = config, run, console, progress
        self.train_set, self.val_set, self.label_space = train_set, val_set, label_space
        self.pace = Pace(config.data.batch_size)
        self.command = run.command()  # now, because the report at the end must not fail for it
        training = config.training
        self.fabric = Fabric(accelerator=training.accelerator, devices=1, precision=training.precision)
        if training.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self.model = model
        self.wrapped, self.optimizer = self.fabric.setup(model, build_optimizer(config.optimizer, model))

    def run_to_the_end(self) -> Report:
        """Train, save, evaluate, write the report."""
        self.wrapped.train()
        loader = self._loader()
        with progress_bar(self.console, "training", self.config.training.steps, self.progress.step) as bar:
            started = time.perf_counter() - self.progress.seconds
            for batch in self.pace.timed(loader):
                losses = self._step(batch)
                self.progress.step += 1
                self.progress.seconds = time.perf_counter() - started
                self.pace.step_done()
                self._report_step(losses, bar)
                done = self.progress.share(self.config) >= 1
                if self._is_due(self.config.training.checkpoint_every) or done:
                    self._save()
                if self._is_due(self.config.training.validate_every) and not done:
                    self._validate()
                    started = time.perf_counter() - self.progress.seconds
                if done:
                    break
        report = self._validate()
        write_report(report, self.run.path, self.command, told_settings(self.config.data.val))
        write_cases(report, self._predictor(), self.val_set, self.run.pictures)
        return report

    def _step(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the optimiser. Its random numbers depend on the step alone, so a resumed run repeats them."""
        config, step = self.config, self.progress.step
        torch.manual_seed(config.training.seed * 1_000_003 + step)
        for group in self.optimizer.param_groups:
            factor = learning_rate_factor(config.optimizer, step, self.progress.share(config))
            group["lr"] = group["initial_lr"] * factor
        images = batch.images
        if config.training.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        losses: dict[str, Tensor] = self.wrapped(images, _Sealed(batch.targets), batch.image_sizes)
        consistency = tasc_weight(step, config.loss.tasc, config.loss.tasc_warmup_steps)
        losses["total"] = total_loss(losses, config.loss.stuff, consistency)
        if not losses["total"].isfinite():
            values = ", ".join(f"{name} {loss.item():.3g}" for name, loss in losses.items())
            raise InputError(
                f"the loss is not a finite number at step {step} ({values}; images {', '.join(batch.names)}). "
                "Lower optimizer.lr, lengthen optimizer.warmup_steps, or set optimizer.clip_norm."
            )
        self.fabric.backward(losses["total"])
        if config.optimizer.clip_norm:
            self.fabric.clip_gradients(self.wrapped, self.optimizer, max_norm=config.optimizer.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {name: loss.detach() for name, loss in losses.items()}

    def _loader(self) -> Iterable[Batch]:
        """Batches from where the run stands to the last step; raises an InputError where a sample cannot be read."""
        data, training = self.config.data, self.config.training
        stream = TrainingStream(
            self.train_set,
            build_augmentation(data.input),
            training.steps * data.batch_size,
            training.seed,
        )
        if data.keep_in_memory:
            with progress_bar(self.console, "reading", len(self.train_set)) as bar:
                stream.keep_in_memory(bar.update)
        rest = ErrorsAsItems(Subset(stream, range(self.progress.step * data.batch_size, len(stream))))
        loader: DataLoader[Any] = DataLoader(
            rest,
            batch_size=data.batch_size,
            num_workers=data.workers,
            collate_fn=partial(collate_or_error, collate=partial(collate, label_space=self.label_space)),
            pin_memory=self.fabric.device.type == "cuda",
        )
        batches: Any = self.fabric.setup_dataloaders(loader, use_distributed_sampler=False)
        return map(_raise_error, batches)

    def _report_step(self, losses: dict[str, Tensor], bar: Bar) -> None:
        step, training = self.progress.step, self.config.training
        bar.move(step)
        if step % training.log_every and step != 1:
            return
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        most = 60 * training.max_minutes - self.progress.seconds if training.max_minutes else math.inf
        speed = self.pace.figures(training.steps - step, most) | {"memory_gib": peak_memory(self.fabric.device) / 2**30}
        values = {f"loss/{name}": float(loss) for name, loss in losses.items()} | {"lr": lr} | speed
        self.run.log(step, values | {"seconds": self.progress.seconds})
        parts = "  ".join(f"{name} {float(losses[name]):.2f}" for name in ("total", "stuff", "cls", "mask", "tasc"))
        bar.update(step, f"{parts}  lr {lr:.1e}\n{describe(speed)}", speed["seconds_left"])

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.progress.step % every == 0

    def _save(self) -> None:
        progress = {"step": self.progress.step, "seconds": self.progress.seconds}
        save_checkpoint(self.run.checkpoints, self.model, self.optimizer, self.config, self.label_space, progress)

    def _validate(self) -> Report:
        """PQ and the rest on the validation set."""
        predictor, step = self._predictor(), self.progress.step
        with progress_bar(self.console, "validation", len(self.val_set)) as bar:
            report = evaluate(predictor, self.val_set, lambda done, _: bar.update(done))
        self.run.show(step, fixed_cases(predictor, self.val_set, self.config.training.show_images))
        self.wrapped.train()
        summary = report.summary()
        values = {f"val/{name}": value for name, value in summary.items()}
        self.run.log(step, values | {"seconds": self.progress.seconds})
        shown = "  ".join(f"{name} {_shown(value)}" for name, value in summary.items())
        say(self.console, f"step {step}, {self.progress.seconds / 60:.1f} min: {shown}")
        return report

    def _predictor(self) -> Predictor:
        return Predictor(self.model, self.label_space, self.config.data.input, self.config.fusion)


def _raise_error(batch: Batch | InputError) -> Batch:
    if isinstance(batch, InputError):
        raise batch
    return batch


def _check_device(training: TrainingConfig) -> None:
    device = choose_device(training.accelerator)
    if training.precision == "16-mixed" and device.type == "cpu":
        raise InputError(
            "training.precision is 16-mixed, but processors do not compute in it. "
            "Set it to 32-true, or training.accelerator to a GPU."
        )


def _open_data(config: Config) -> tuple[PanopticDataset, PanopticDataset]:
    train_set = build_dataset(config.data.train, config.data.input.load_short_side)
    val_set = build_dataset(config.data.val)
    if train_set.label_space != val_set.label_space:
        raise InputError(
            f"data.train has {len(train_set.label_space.categories)} categories and data.val "
            f"{len(val_set.label_space.categories)}, or they differ in names or ids. Use the same categories for both."
        )
    return train_set, val_set


def _new_model(config: Config, label_space: LabelSpace, console: Console) -> TASCNet:
    torch.manual_seed(config.training.seed)
    model = build_model(config, label_space)
    if config.model.backbone.weights == "imagenet":
        source = load_imagenet_weights(model.backbone, config.model.backbone.name)
        say(console, f"backbone {config.model.backbone.name}: ImageNet weights from {source}")
    return model


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
