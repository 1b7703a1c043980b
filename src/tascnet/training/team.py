"""The processes that train together, seen from one of them: what they agree on, and who starts them."""

import logging
import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from tascnet.config import TrainingConfig
from tascnet.device import choose_device
from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.place import Place, restarts
from tascnet.training.sharding import collect, shard

T = TypeVar("T")

PATIENCE = timedelta(minutes=30)
"""Processes wait so long for each other: process 0 alone draws pictures and writes checkpoints."""


class Team:
    """The processes that train together, and what they agree on.

    Attributes:
        shards: whether each of them holds a part of the network; otherwise each holds all of it.
    """

    def __init__(self, training: TrainingConfig, place: Place):
        """Meet the other processes; each must call this."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        if place.processes > 1 and TorchElasticEnvironment.detect():
            _meet(choose_device(training.accelerator).type)
        self.fabric = Fabric(
            accelerator=training.accelerator,
            devices=place.on_machine,
            num_nodes=place.processes // place.on_machine,
            strategy=_strategy(training, place),
            precision=training.precision,
            plugins=_environment(place),
        )
        self.fabric.launch()
        self.process, self.processes = place.process, place.processes
        self.shards = isinstance(self.fabric.strategy, ModelParallelStrategy)

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes files and speaks."""
        return self.process == 0

    def mean(self, values: Tensor) -> list[float]:
        """(n,) -> the means over all processes."""
        if self.processes > 1:
            values = self.fabric.all_reduce(values, reduce_op="mean")  # type: ignore[assignment]
        means: list[float] = values.tolist()
        return means

    def average(self, count: Tensor) -> Tensor:
        """What a loss's sum is divided by, as `model.averaging` says: the mean of the counts of all processes."""
        if self.processes > 1:
            count = count.clone()
            distributed.all_reduce(count)
        return count.clamp(min=1) / self.processes

    def shard(self, model: TASCNet) -> None:
        """Split a network, in place, as the one that is trained."""
        assert isinstance(self.fabric.strategy, ModelParallelStrategy)  # for the type checker: `shards` tells
        shard(model, self.fabric.strategy.device_mesh)

    def share_buffers(self, model: TASCNet) -> None:
        """Copy the buffers of process 0, such as the statistics of batch norm, into all others; each must call this.

        Each process has computed its own in the last step. DDP does the same before the next one, so the training does
        not change.
        """
        if self.processes > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer, 0)

    def collect(self, tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """The whole tensors, in process 0 at least; each must call this."""
        return collect(tensors) if self.shards else tensors

    def gather(self, value: T) -> list[T]:
        """The values of all processes, in their order."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        distributed.all_gather_object(values, value)
        return values

    def first_does(self, action: Callable[[], T]) -> T:
        """What process 0 gets from an action that it alone takes. Where that raises an `InputError`, all raise it."""
        if self.processes == 1:
            return action()
        outcome: T | InputError
        try:
            outcome = action() if self.is_first else InputError("")
        except InputError as error:
            outcome = error
        outcome = self.fabric.broadcast(outcome)
        if isinstance(outcome, InputError):
            raise outcome
        return outcome


def _meet(device: str) -> None:
    """Meet the processes that torchrun has started.

    Where torchrun starts them again, the addresses of those before are still in its store: each attempt needs its own
    place for them.
    """
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, process, processes = next(rendezvous("env://"))
    distributed.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        store=distributed.PrefixStore(f"attempt {restarts()}", store),
        rank=process,
        world_size=processes,
        timeout=PATIENCE,
    )


def _strategy(training: TrainingConfig, place: Place) -> Strategy | str:
    if place.processes == 1:
        return "auto"
    if training.strategy == "fsdp":
        return ModelParallelStrategy(
            shard, data_parallel_size=place.processes, tensor_parallel_size=1, timeout=PATIENCE
        )
    return DDPStrategy(timeout=PATIENCE, gradient_as_bucket_view=True)


def _environment(place: Place) -> list[Any]:
    if place.processes == 1:
        return []
    return [TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()]
