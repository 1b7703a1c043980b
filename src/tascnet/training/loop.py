"""The training loop: batches -> steps of the optimiser; validation and checkpoints on the way; a report at the end."""

import math
import time
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tascnet.build import build_model, build_optimizer, build_stream, learning_rate_factor
from tascnet.config import Config
from tascnet.data.batch import Batch
from tascnet.data.stream import PanopticDataset
from tascnet.device import peak_memory
from tascnet.errors import Interrupted
from tascnet.evaluation.evaluate import evaluate_part, fixed_cases, join_parts, write_cases
from tascnet.evaluation.report import Report
from tascnet.evaluation.writing import write_report
from tascnet.inference.predictor import Predictor
from tascnet.model.tasc_loss import tasc_weight
from tascnet.model.tascnet import TASCNet
from tascnet.networks.network import Origin
from tascnet.progress import Job, Observer
from tascnet.runs.folder import RunFolder
from tascnet.settings import told_settings
from tascnet.structures import LabelSpace, Target
from tascnet.training.batches import Loaded, Shares, by_step, image_seeds, load_batches
from tascnet.training.compiling import compile_dense_parts
from tascnet.training.ema import average_of
from tascnet.training.failures import explained
from tascnet.training.guard import MAX_IN_A_ROW, diagnosis, is_finite, plain, write_bad_batch
from tascnet.training.interrupts import Interrupts
from tascnet.training.sharding import copy_whole, whole
from tascnet.training.state import Progress, SavedState, optimizer_tensors, save_checkpoint
from tascnet.training.team import Team
from tascnet.training.throughput import Pace, describe


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


class Training:
    """The parts of one run, as one of its processes holds them, and the loop over them."""

    def __init__(
        self,
        config: Config,
        run: RunFolder,
        observer: Observer,
        team: Team,
        train_set: PanopticDataset,
        val_set: PanopticDataset,
        label_space: LabelSpace,
        model: TASCNet,
        shares: Shares,
        origin: Origin,
        saved: SavedState | None = None,
    ):
        """Bring the parts together.

        Args:
            config: settings.
            run: where everything is written.
            observer: receives messages and progress.
            team: the processes that train together.
            train_set, val_set: data sets of the same categories.
            label_space: the network's; categories in the order of its channels.
            model: the network, on the CPU.
            shares: which process loads what.
            origin: where the network comes from.
            saved: where to go on; None starts anew.
        """
        self.config, self.run, self.observer, self.team, self.shares = config, run, observer, team, shares
        self.train_set, self.val_set, self.label_space = train_set, val_set, label_space
        self.origin = origin
        self.progress = saved.progress if saved else Progress()
        self.progress.images_per_step = shares.images_per_step
        self.pace = Pace(shares.images_per_step)
        self.command = run.command()  # now, because the report at the end must not fail for it
        self.fabric, self.loading = team.fabric, "unknown size"
        if config.training.channels_last and not team.shards:  # parts of weights have no such layout
            model = model.to(memory_format=torch.channels_last)
        self.model = model.to(self.fabric.device)
        if config.training.compile:
            compile_dense_parts(model, self.fabric.device, observer)
        self.ema = average_of(model, config.training.ema_decay, team.shards)
        if saved and self.ema:
            saved.restore_average(self.ema.module)
        self.wrapped = self.fabric.setup_module(model)
        if self.ema and team.shards:
            team.shard(self.ema.module)
        fused = config.training.precision != "16-mixed"
        optimizer = build_optimizer(config.optimizer, model, shares.images_per_step, fused)  # weights may be split now
        set_up: Any = self.fabric.setup_optimizers(optimizer)
        self.optimizer = set_up
        self.scaler = getattr(self.fabric.strategy.precision, "scaler", None)
        if saved:
            saved.restore(self.optimizer, self.scaler)

    def run_to_the_end(self) -> Report:
        """Train, save, validate, write the report.

        Raises:
            InputError: a sample cannot be read, nothing can be written, memory runs out, the losses are not finite.
            Interrupted: Ctrl-C or SIGTERM came; a checkpoint of the last step has been written.
        """
        go_on = self.run.how_to_go_on
        told = self.run.kept_state() if self.team.is_first else nullcontext()
        self.interrupts = Interrupts()
        in_a_sentence = explained(lambda: self.loading, self.team.processes, go_on, lambda: self.interrupts.asked)
        with told, in_a_sentence, self.interrupts:
            if self._lacks_validation():
                self._validate()
            with self.observer.job("training", self.config.training.steps, self.progress.step) as job:
                self._take_steps(job)
            return self._finish()

    def _take_steps(self, job: Job) -> None:
        if self.progress.share(self.config) >= 1:  # a finished run was resumed; time that is over ends it, too
            return
        training = self.config.training
        self.wrapped.train()
        loader = self._loader()  # reads what is held in memory, which is not training yet
        started = time.perf_counter() - self.progress.seconds
        for batches in self.pace.timed(self._batches(loader)):
            losses, stop = self._step(batches, time.perf_counter() - started)
            self.pace.step_done()
            done = self.progress.share(self.config) >= 1
            self._report_step(losses, job)
            validate = self._is_due(training.validate_every) and not done
            if self._is_due(training.checkpoint_every) or validate or done or stop:
                self._save()
            if stop and not done:
                raise Interrupted(f"step {self.progress.step} is saved. {self.run.how_to_go_on()}")
            if validate:
                self._validate()
                started = time.perf_counter() - self.progress.seconds
            if done:
                break

    def _step(self, batches: list[Batch], seconds: float) -> tuple[dict[str, float], bool]:
        """One step of the optimiser: its losses, and whether a process was asked to stop.

        Its random numbers depend on the step alone, so a resumed run repeats them. Processes average their gradients
        and agree on the losses, so that all of them apply the step, or none.
        """
        torch.manual_seed(self.config.training.seed * 1_000_003 + self.progress.step)
        self._set_learning_rates()
        sums = [self._add_gradients(batch, round_) for round_, batch in enumerate(batches)]
        own = {name: torch.stack([losses[name] for losses in sums]).mean() for name in sums[0]}
        norm = self._clip_gradients()
        values = [*own.values(), norm, *norm.new_tensor([self.interrupts.asked, seconds])]
        *means, norm_value, stop, self.progress.seconds = self.team.mean(torch.stack(values))
        losses = dict(zip(own, means, strict=True))
        overflow = self.scaler is not None and self.scaler.get_scale() > 1  # the scaler skips it, and lowers the scale
        if is_finite(losses, 0 if overflow else norm_value):
            self.optimizer.step()
            self.progress.bad_in_a_row = 0
            if self.ema is not None:
                self.ema.update(self.model, self.progress.step)
        else:
            self._refuse(batches, sums, losses, norm_value)
        self.optimizer.zero_grad()
        self.progress.step += 1
        return losses, stop > 0

    def _add_gradients(self, batch: Batch, round_: int) -> dict[str, Tensor]:
        """Forward and backward of one batch; the losses."""
        config, step, rounds = self.config, self.progress.step, self.shares.rounds
        images = batch.images
        self.loading = f"{len(images)} images of {images.shape[2]} x {images.shape[3]} pixels"
        if config.training.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        seeds = image_seeds(config.training.seed, self.shares.positions(step, round_))
        with self.fabric.no_backward_sync(self.wrapped, enabled=round_ < rounds - 1):
            losses: dict[str, Tensor] = self.wrapped(
                images, _Sealed(batch.targets), batch.image_sizes, seeds, self.team.average
            )
            consistency = tasc_weight(step, config.loss.tasc, config.loss.tasc_warmup_steps)
            losses["total"] = total_loss(losses, config.loss.stuff, consistency)
            self.fabric.backward(losses["total"] / rounds)
        return {name: loss.detach() for name, loss in losses.items()}

    def _set_learning_rates(self) -> None:
        factor = learning_rate_factor(self.config.optimizer, self.progress.step, self.progress.share(self.config))
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * factor

    def _clip_gradients(self) -> Tensor:
        """Scale the gradients down to the largest norm that is allowed; their norm before that."""
        norm = self.fabric.clip_gradients(
            self.wrapped,
            self.optimizer,
            max_norm=self.config.optimizer.clip_norm or math.inf,
            error_if_nonfinite=False,
        )
        assert norm is not None  # for the type checker: a largest norm was given
        return whole(norm)

    def _refuse(
        self, batches: list[Batch], sums: list[dict[str, Tensor]], losses: dict[str, float], norm: float
    ) -> None:
        """Leave the weights as they are, write down what the step was made of, and give up at the third in a row."""
        self.progress.bad_steps += 1
        self.progress.bad_in_a_row += 1
        if self.scaler is not None:
            self.scaler.update()
        own = [
            {"images": batch.names, "losses": plain({name: float(loss) for name, loss in values.items()})}
            for batch, values in zip(batches, sums, strict=True)
        ]
        images = [batch for batches_of in self.team.gather(own) for batch in batches_of]
        folder, step = self.run.bad_batches, self.progress.step
        self.team.first_does(lambda: write_bad_batch(folder, step, losses, norm, images))
        self.observer.message(
            f"step {step} was not applied: its losses or gradients are not finite numbers, see {folder}"
        )
        if self.progress.bad_in_a_row >= MAX_IN_A_ROW:
            raise diagnosis(losses, norm, max(group["lr"] for group in self.optimizer.param_groups), folder)

    def _loader(self) -> Iterable[Loaded]:
        """This process's batches, from where the run stands to the last step."""
        config = self.config
        steps = range(self.progress.step, config.training.steps)
        num_samples = config.training.steps * self.shares.images_per_step
        return load_batches(
            build_stream(config.data, self.train_set, num_samples, config.training.seed, self.observer),
            self.shares,
            steps,
            self.label_space,
            config.data.workers,
            pin_memory=self.fabric.device.type == "cuda",
            skip=config.data.on_bad_sample == "skip",
        )

    def _batches(self, loader: Iterable[Loaded]) -> Iterator[list[Batch]]:
        """The batches of each step; raises where a sample cannot be read."""
        for batches in by_step(loader, self.shares.rounds):
            self._note_problems([problem for batch in batches for problem in batch.problems])
            device = self.fabric.device
            yield [batch.or_raise().to(device, non_blocking=device.type == "cuda") for batch in batches]

    def _note_problems(self, problems: list[str]) -> None:
        for problem in problems:
            if problem not in self.progress.skipped:
                self.observer.message(f"skipped: {problem}")
                self.progress.skipped.append(problem)

    def _report_step(self, losses: dict[str, float], job: Job) -> None:
        step, training = self.progress.step, self.config.training
        job.move(step)
        if (step % training.log_every and step != 1) or not self.team.is_first:
            return
        values = {f"loss/{name}": loss if math.isfinite(loss) else None for name, loss in losses.items()}
        lr = max(group["lr"] for group in self.optimizer.param_groups)
        most = 60 * training.max_minutes - self.progress.seconds if training.max_minutes else math.inf
        speed = self.pace.figures(training.steps - step, most) | {"memory_gib": peak_memory(self.fabric.device) / 2**30}
        self.run.log(step, values | {"lr": lr} | speed | {"seconds": self.progress.seconds})
        parts = "  ".join(f"{name} {losses[name]:.2f}" for name in ("total", "stuff", "cls", "mask", "tasc"))
        job.update(step, f"{parts}  lr {lr:.1e}\n{describe(speed)}", speed["seconds_left"])

    def _lacks_validation(self) -> bool:
        """Whether the run was ended between a checkpoint and its validation; the last one is part of the end."""
        due = self._is_due(self.config.training.validate_every) and self.progress.share(self.config) < 1
        return due and not self.run.was_validated_at(self.progress.step)

    def _is_due(self, every: int) -> bool:
        return every > 0 and self.progress.step > 0 and self.progress.step % every == 0

    def _save(self) -> None:
        """Write a checkpoint, one for all processes."""
        self.progress.skipped = sorted({reason for own in self.team.gather(self.progress.skipped) for reason in own})
        best = self.run.best()
        scaler = self.scaler.state_dict() if self.scaler is not None else {}
        weights = self.team.collect(self.model.state_dict())
        optimizer_state = self.team.collect(optimizer_tensors(self.optimizer))
        ema = self.team.collect(self.ema.module.state_dict()) if self.ema else None
        self.team.first_does(
            lambda: save_checkpoint(
                self.run.checkpoints,
                weights,
                optimizer_state,
                self.config,
                self.label_space,
                self.progress,
                self.origin,
                ema,
                scaler,
                keep_last=self.config.training.keep_last,
                keep_also=[best.checkpoint] if best else [],
            )
        )

    def _validate(self) -> tuple[Report, TASCNet]:
        """PQ and the rest on the validation set, of the weights and of their average; and the network, whole."""
        network = self._whole(self.model)
        report = self._evaluate(network, "validation")
        summary, weights = report.summary(), "raw"
        figures = {f"val/{name}": value for name, value in summary.items()}
        if self.ema is not None:
            ema = self._evaluate(self._whole(self.ema.module), "validation of the average").summary()
            figures |= {f"val_ema/{name}": value for name, value in ema.items()}
            report = replace(report, ema=ema)
            if (ema["pq"] or 0) > (summary["pq"] or 0):
                summary, weights = ema, "ema"
        step, pq = self.progress.step, summary["pq"]
        if self.team.is_first:
            if self.run.was_validated_at(step):
                self.run.forget_validation(step)  # the run had come to its end before
            self.run.log(step, figures | {"seconds": self.progress.seconds})
            predictor, number = self._predictor(network), self.config.training.show_images
            self.run.show(step, fixed_cases(predictor, self.val_set, number, report.left_out))
            self.run.offer_best(step, pq, weights)
            shown = "  ".join(f"{name} {_shown(value)}" for name, value in report.summary().items())
            average = f"  of the average: pq {_shown(report.ema['pq'])}" if report.ema else ""
            self.observer.message(f"step {step}, {self.progress.seconds / 60:.1f} min: {shown}{average}")
            for reason in report.left_out.values():
                self.observer.message(f"left out of the validation: {reason}")
        return report, network

    def _whole(self, model: TASCNet) -> TASCNet:
        """The network with the buffers of process 0, which checkpoints hold.

        Where it is split over processes, it is a copy: they predict different numbers of pictures.
        """
        if not self.team.shards:
            self.team.share_buffers(model)
            return model
        copy = build_model(self.config, self.label_space).to(self.fabric.device)
        copy_whole(model, copy)
        return copy

    def _evaluate(self, model: TASCNet, title: str) -> Report:
        """Each process evaluates a part of the validation set; all get the whole report."""
        predictor, team = self._predictor(model), self.team
        with self.observer.job(title, len(self.val_set) // team.processes) as job:
            part = evaluate_part(
                predictor,
                self.val_set,
                team.process,
                team.processes,
                lambda done, _: self._evaluated(job, done),
                self.config.data.on_bad_sample,
            )
        return join_parts(team.gather(part), self.val_set)

    def _evaluated(self, job: Job, done: int) -> None:
        """Called after each picture; a wish to stop is granted at once, because the checkpoint is written already."""
        job.update(done)
        if self.interrupts.asked:
            raise Interrupted(f"step {self.progress.step} is saved. {self.run.how_to_go_on()}")

    def _finish(self) -> Report:
        """The report, and pictures of the best and the worst cases."""
        report, network = self._validate()
        notes = _notes(self.progress)
        report = replace(report, notes=(*report.notes, *notes))
        if self.team.is_first:
            data = told_settings(self.config.data.val)
            write_report(report, self.run.path, self.command, data, self.progress.step)
            write_cases(report, self._predictor(network), self.val_set, self.run.pictures)
        self.team.fabric.barrier()
        return report

    def _predictor(self, model: TASCNet) -> Predictor:
        return Predictor(model, self.label_space, self.config.data.input, self.config.fusion)


def _notes(progress: Progress) -> Iterator[str]:
    """What a reader of the report must know of the training."""
    if progress.bad_steps:
        yield f"{progress.bad_steps} training steps were not applied, because losses or gradients were not finite."
    if progress.skipped:
        yield f"{len(progress.skipped)} training samples could not be read and were replaced: {progress.skipped[0]}"


def _shown(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.1f}"
