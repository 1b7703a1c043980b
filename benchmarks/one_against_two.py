"""One network against two: TASCNet beside a semantic and an instance network of the same parts, merged by its fusion.

    python benchmarks/one_against_two.py --output runs/one_against_two --seeds 0 1 2

The semantic network is backbone, FPN and stuff head, trained with the stuff loss; the instance network is backbone, FPN
and things head, trained with its losses. All start from the same weights and see the same pictures in the same order,
with the settings of the demo. The stuff logits of one and the instances of the other are fused as TASCNet's are.

Budgets: TASCNet takes --steps. Each network of a pair takes as many, or two thirds of them: a step of both takes about
one and a half times as long as one of TASCNet, so the pair's training then takes about as long. How long is printed for
every row: steps times the time of a step; --pair_steps sets other numbers. Times are measured on the trained networks,
in turn on the same pictures, without reading them. Inference is the networks' part alone: fusion is the same for both.

Each network is a run folder in --output. The same command goes on where it was stopped, and reads what is trained.
"""

import platform
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from one_head import InstanceNetwork, Pair, SemanticNetwork
from rich.console import Console
from rich.table import Table
from torch import nn

from tascnet.build import build_dataset, build_model, build_optimizer
from tascnet.commands.console import ConsoleObserver, print_plain, progress_bar
from tascnet.commands.demo import FIRST_UNSEEN_SCENE, demo_config
from tascnet.config import Config, DatasetConfig
from tascnet.data.batch import Batch, collate
from tascnet.data.stream import PanopticDataset
from tascnet.device import choose_device
from tascnet.errors import InputError, Interrupted
from tascnet.evaluation.evaluate import evaluate
from tascnet.files import check_writable, write_json
from tascnet.inference.predictor import Predictor
from tascnet.model.cost import Cost, cost_by_part, cost_of_two_networks
from tascnet.model.tascnet import TASCNet
from tascnet.networks.checkpoint import find_checkpoints, remove_leftovers
from tascnet.networks.files import load_weights, read_tensors
from tascnet.networks.foreign.imagenet import load_imagenet_weights
from tascnet.runs.folder import RunFolder
from tascnet.settings import check, first_difference, told_settings
from tascnet.structures import Size
from tascnet.training import total_loss
from tascnet.training.batches import Shares
from tascnet.training.loop import Training
from tascnet.training.state import read_state
from tascnet.training.team import Place, Team

WHOLE, SEMANTIC, INSTANCE, PAIR = "TASCNet", "semantic network", "instance network", "pair"
FIGURES = ("pq", "pq_things", "pq_stuff", "miou", "ap")


def main() -> int:
    arguments = read_arguments()
    try:
        check_arguments(arguments)
        torch.set_num_threads(arguments.threads)
        compare(arguments, Console())
    except InputError as error:
        print(f"one_against_two: error: {error}", file=sys.stderr)
        return 2
    except Interrupted:
        print("one_against_two: stopped; the same command goes on.", file=sys.stderr)
        return 130
    return 0


def read_arguments() -> Namespace:
    parser = ArgumentParser(description="TASCNet beside two networks of the same parts; the script's head says how.")
    parser.add_argument("--output", type=Path, default=Path("runs/one_against_two"), help="folder of the results")
    parser.add_argument("--steps", type=int, default=600, help="training steps of TASCNet, one picture each")
    parser.add_argument(
        "--pair_steps",
        type=int,
        nargs="+",
        default=[],
        help="of each network of a pair; by default as many, and two thirds of them",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of weights, order and augmentation")
    parser.add_argument("--scenes", type=int, default=300, help="generated streets to train on")
    parser.add_argument("--unseen", type=int, default=50, help="generated streets to measure on")
    parser.add_argument("--height", type=int, default=256, help="of the scenes, pixels")
    parser.add_argument("--width", type=int, default=512, help="of the scenes, pixels")
    parser.add_argument("--repeats", type=int, default=30, help="pictures that each time is the median of")
    parser.add_argument("--threads", type=int, default=1)
    of_files = {"format", "root", "split", "version", "form", "overlaps", "group_by"}
    parser.add_class_arguments(DatasetConfig, "data", skip=of_files | {"num_images", "first", "height", "width"})
    return parser.parse_args()


def check_arguments(arguments: Namespace) -> None:
    """Say now what would else end a run of an hour."""
    least = dict.fromkeys(("steps", "pair_steps", "scenes", "unseen", "repeats", "threads"), 1) | {"seeds": 0}
    for name, lowest in least.items():
        value = arguments[name]
        for number in value if isinstance(value, list) else [value]:
            if number < lowest:
                raise InputError(f"--{name} is {number}; it must be {lowest} or more.")


def compare(arguments: Namespace, console: Console) -> None:
    """Train what is not trained yet, measure, print, write results.json."""
    trials = Trials(arguments, console)
    pair_steps = list(dict.fromkeys(arguments.pair_steps or [arguments.steps, max(2 * arguments.steps // 3, 1)]))
    rows: list[dict[str, Any]] = []
    for seed in dict.fromkeys(arguments.seeds):
        network = trials.network(WHOLE, arguments.steps, seed)
        rows.append({"network": WHOLE, "steps": arguments.steps, "seed": seed, **trials.quality(network)})
        for steps in pair_steps:
            pair = Pair(*(trials.network(kind, steps, seed) for kind in (SEMANTIC, INSTANCE)))
            rows.append({"network": PAIR, "steps": steps, "seed": seed, **trials.quality(pair)})
    costs = trials.costs(arguments.repeats, pair_steps[0])
    for row in rows:
        row["training_seconds"] = row["steps"] * costs[row["network"]]["step_seconds"]
    Console(width=120).print(cost_table(costs, arguments), quality_table(rows, trials))
    facts = {"torch": torch.__version__, "machine": platform.machine(), "device": str(trials.device)}
    settings = {name: value for name, value in vars(arguments).items() if name not in ("output", "data")}
    told = {"train_set": told_settings(trials.train_scenes), "unseen_set": told_settings(trials.unseen_scenes)}
    values = {"settings": settings | {"pair_steps": pair_steps} | told, **facts, "costs": costs, "quality": rows}
    write_json(arguments.output / "results.json", values, indent=1)


class Trials:
    """Trains networks of the same parts, each in a run folder of its own, and measures them."""

    def __init__(self, arguments: Namespace, console: Console):
        self.console, self.steps, self.seed = console, arguments.steps, arguments.seeds[0]
        self.folder: Path = check_writable(arguments.output)
        scenes = DatasetConfig(height=arguments.height, width=arguments.width, **vars(arguments.data))
        self.train_scenes = replace(scenes, num_images=arguments.scenes)
        self.unseen_scenes = replace(scenes, num_images=arguments.unseen, first=FIRST_UNSEEN_SCENE)
        config = self.config(WHOLE, self.steps, self.seed)
        self.train_set, self.unseen = build_dataset(config.data.train), build_dataset(config.data.val)
        self.device = choose_device(config.training.accelerator)

    def config(self, kind: str, steps: int, seed: int) -> Config:
        """The demo's settings. A network without a head has no use for that head's losses."""
        config = demo_config(minutes=0, steps=steps)
        config.data.train, config.data.val = self.train_scenes, self.unseen_scenes
        config.training.seed = seed
        if kind != WHOLE:
            config.loss.tasc = 0
        if kind == INSTANCE:
            config.loss.stuff = 0
        return check(config)

    def network(self, kind: str, steps: int, seed: int) -> TASCNet:
        """A trained network: read, or trained to its end."""
        config = self.config(kind, steps, seed)
        network, weights = new_network(kind, config, self.train_set)
        folder = self.folder / f"{kind.replace(' ', '_').lower()}-{steps}-steps-seed-{seed}"
        saved = None
        if RunFolder.holds_checkpoints(folder):
            run = RunFolder.open(folder)
            check_same_run(run, config)
            remove_leftovers(run.checkpoints)
            newest = find_checkpoints(folder)[-1]
            saved = read_state(newest)
            load_weights(network, read_tensors(newest / "model.safetensors"), newest)
            run.forget_after(saved.progress.step)
        else:
            run = RunFolder.create(folder, config, "benchmarks/one_against_two.py", weights)
        if saved is None or saved.progress.step < steps:
            print_plain(self.console, f"{kind}, {steps} steps, seed {seed}")
            team, shares = Team(config.training, Place()), Shares(config.data.batch_size, 1, 1, 0)
            origin, space = run.origin(weights, told_settings(config.data.train)), self.train_set.label_space
            sets = (self.train_set, self.unseen)
            Training(
                config, run, ConsoleObserver(self.console), team, *sets, space, network, shares, origin, saved
            ).run_to_the_end()
        layout = torch.channels_last if config.training.channels_last else torch.contiguous_format
        return network.to(self.device, memory_format=layout)

    def quality(self, network: nn.Module) -> dict[str, float | None]:
        """PQ and the rest on unseen scenes, percent."""
        config = self.config(WHOLE, self.steps, self.seed)  # input and fusion are the same for all
        predictor = Predictor(network, self.unseen.label_space, config.data.input, config.fusion)
        with progress_bar(self.console, "unseen scenes", len(self.unseen)) as bar:
            return evaluate(predictor, self.unseen, lambda done, _: bar.update(done)).summary()

    def costs(self, repeats: int, pair_steps: int) -> dict[str, dict[str, float]]:
        """Parameters, multiply-adds of an inference, and times of each network and of the pair."""
        steps = {WHOLE: self.steps, SEMANTIC: pair_steps, INSTANCE: pair_steps}
        networks = {kind: self.network(kind, number, self.seed) for kind, number in steps.items()}
        sizes = self._sizes(networks[WHOLE])
        inference = self._inference_seconds(networks | {PAIR: Pair(networks[SEMANTIC], networks[INSTANCE])}, repeats)
        training = self._step_seconds(networks, repeats)
        training[PAIR] = [sum(both) for both in zip(training[SEMANTIC], training[INSTANCE], strict=True)]
        return {
            kind: {
                "parameters": sizes[kind].parameters,
                "multiply_adds": sizes[kind].multiply_adds,
                "step_seconds": median(training[kind]),
                "inference_seconds": median(inference[kind]),
            }
            for kind in (WHOLE, SEMANTIC, INSTANCE, PAIR)
        }

    def _sizes(self, network: TASCNet) -> dict[str, Cost]:
        parts = cost_by_part(network, Size(self.unseen_scenes.height, self.unseen_scenes.width))
        two = cost_of_two_networks(parts)
        return {WHOLE: sum(parts.values(), start=Cost(0, 0)), **two, PAIR: sum(two.values(), start=Cost(0, 0))}

    def _step_seconds(self, networks: Mapping[str, TASCNet], repeats: int) -> dict[str, list[float]]:
        """Seconds of training steps. The learning rate is 0, so that the networks stay as they are."""
        steps = {}
        for kind, network in networks.items():
            config = self.config(kind, self.steps, self.seed)
            config.optimizer.lr = 0.0
            steps[kind] = training_step(network, config)
        size = self.config(WHOLE, self.steps, self.seed).data.batch_size
        samples = [self.train_set[index % len(self.train_set)] for index in range(size * (repeats + 1))]
        starts = range(0, len(samples), size)
        batches = [collate(samples[start : start + size], self.train_set.label_space) for start in starts]
        return times_in_turn(steps, [batch.to(self.device) for batch in batches], self.device)

    def _inference_seconds(self, networks: Mapping[str, nn.Module], repeats: int) -> dict[str, list[float]]:
        """Seconds of inferences, fusion not among them."""
        images = [self.unseen[index % len(self.unseen)].image[None].to(self.device) for index in range(repeats + 1)]
        with torch.inference_mode():
            return times_in_turn({kind: network.eval() for kind, network in networks.items()}, images, self.device)


def new_network(kind: str, config: Config, dataset: PanopticDataset) -> tuple[TASCNet, tuple[str, ...]]:
    """A network before its first step, and where its weights come from; kinds have their parts' weights in common."""
    torch.manual_seed(config.training.seed)
    parts = build_model(config, dataset.label_space)
    backbone = config.model.backbone
    source = load_imagenet_weights(parts.backbone, backbone.name, backbone.weights)
    network = {SEMANTIC: SemanticNetwork, INSTANCE: InstanceNetwork}.get(kind, lambda parts: parts)(parts)
    return network, (f"backbone {backbone.name}: pretrained weights from {source}",)


def check_same_run(run: RunFolder, config: Config) -> None:
    difference = first_difference(config, run.config())
    if difference:
        raise InputError(f"{run.path} was trained with other settings ({difference}). Choose another --output.")


def training_step(network: TASCNet, config: Config) -> Callable[[Batch], None]:
    """The step of training/loop.py: losses, gradients, their norm, the optimiser."""
    network.train()
    optimizer = build_optimizer(config.optimizer, network)
    layout = torch.channels_last if config.training.channels_last else torch.contiguous_format

    def step(batch: Batch) -> None:
        images = batch.images.contiguous(memory_format=layout)
        seeds = range(len(batch))  # the same anchors and RoIs for every network
        losses = network(images, batch.targets, batch.image_sizes, seeds)
        total_loss(losses, config.loss.stuff, config.loss.tasc).backward()
        nn.utils.clip_grad_norm_(network.parameters(), config.optimizer.clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


def times_in_turn(
    calls: Mapping[str, Callable[[Any], Any]], inputs: Sequence[Any], device: torch.device
) -> dict[str, list[float]]:
    """Seconds of each call with each input but the first, which warms up. In turn: what slows one, slows all."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for value in inputs:
        for name, call in calls.items():
            started = time.perf_counter()
            call(value)
            if device.type != "cpu":
                torch.accelerator.synchronize(device)
            seconds[name].append(time.perf_counter() - started)
    return {name: times[1:] for name, times in seconds.items()}


def cost_table(costs: Mapping[str, Mapping[str, float]], arguments: Namespace) -> Table:
    title = f"{arguments.height} x {arguments.width} pixels, {arguments.threads} threads, {arguments.repeats} pictures"
    columns = ("", "parameters, M", "multiply-adds, G", "training step, ms", "inference of a picture, ms")
    table = new_table(title, columns)
    for kind, cost in costs.items():
        table.add_row(
            kind,
            f"{cost['parameters'] / 1e6:.2f}",
            f"{cost['multiply_adds'] / 1e9:.2f}",
            f"{1e3 * cost['step_seconds']:.0f}",
            f"{1e3 * cost['inference_seconds']:.0f}",
        )
    shares = [f"{value / costs[PAIR][name]:.0%}" for name, value in costs[WHOLE].items()]
    table.add_row("TASCNet's share of the pair's", *shares)
    return table


def quality_table(rows: Sequence[Mapping[str, Any]], trials: Trials) -> Table:
    """A line for each network and number of steps: the mean over the seeds and, of two or more, the deviation."""
    title = f"unseen scenes, trained on {told_settings(trials.train_scenes)}"
    table = new_table(title, ("", "steps", "training, s", "of TASCNet's", *FIGURES, "seeds"))
    groups: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["steps"]), []).append(row)
    whole = rows[0]["training_seconds"]
    for (network, steps), members in groups.items():
        seconds = members[0]["training_seconds"]
        shown = [spread([row[figure] for row in members]) for figure in FIGURES]
        told = f"{steps} each" if network == PAIR else str(steps)
        table.add_row(network, told, f"{seconds:.0f}", f"{seconds / whole:.2f}", *shown, str(len(members)))
    return table


def new_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column else "left")
    return table


def spread(values: Sequence[float | None]) -> str:
    """Mean and sample standard deviation; a dash where a figure does not exist."""
    if None in values:
        return "-"
    return f"{mean(values):.1f}" + (f" ± {stdev(values):.1f}" if len(values) > 1 else "")


if __name__ == "__main__":
    sys.exit(main())
