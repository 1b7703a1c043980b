"""Training with 16-bit gradients: the scaler's step, on a processor in the place of a GPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision.amp import MixedPrecision
from safetensors.torch import load_file

from tascnet.build import build_optimizer
from tascnet.config import Config, OptimizerConfig
from tascnet.training import run, team, train


@pytest.fixture
def scales(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let processors train in 16-mixed; holds the first scale of gradients."""
    first_scale = [4.0]

    def fabric(precision: Any, plugins: list[Any], **others: Any) -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=first_scale[0])
        return Fabric(plugins=[*plugins, MixedPrecision(precision, "cpu", scaler)], **others)

    monkeypatch.setattr(team, "Fabric", fabric)  # itself it would take bf16-mixed on a processor
    monkeypatch.setattr(run, "_check_machine", lambda training: None)
    return first_scale


def trained(config: Config, folder: Path, optimizer: str, clip: float = 0.0) -> list[dict[str, torch.Tensor]]:
    """The weights after one step and after two."""
    config.training.precision = "16-mixed"
    config.optimizer = OptimizerConfig(name=optimizer, lr=0.001, warmup_steps=1, clip_norm=clip)  # type: ignore[arg-type]
    train(config, folder, "tascnet train")
    assert not list(folder.glob("bad_batches/*"))
    return [load_file(folder / "checkpoints" / f"step_{step:06d}" / "model.safetensors") for step in (1, 2)]


@pytest.mark.parametrize(("optimizer", "clip"), [("adamw", 0.0), ("adamw", 1.0), ("sgd", 1.0)])
def test_every_optimizer_takes_its_steps(
    optimizer: str, clip: float, scales: list[float], tiny_config: Callable[[], Config], tmp_path: Path
) -> None:
    before, after = trained(tiny_config(), tmp_path / "run", optimizer, clip)
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert {"backbone", "fpn", "stuff_head", "things_head"} <= moved
    assert all(tensor.isfinite().all() for tensor in after.values())


def test_a_step_whose_gradients_overflow_is_skipped(
    scales: list[float], tiny_config: Callable[[], Config], tmp_path: Path
) -> None:
    scales[0] = 2.0**100
    before, after = trained(tiny_config(), tmp_path / "run", "adamw")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_only_the_scaler_needs_a_step_in_parts(tiny_config: Callable[[], Config]) -> None:
    model = torch.nn.Module()
    model.backbone = torch.nn.Linear(2, 2)
    model.backbone.stages = lambda: []  # type: ignore[assignment]
    settings = OptimizerConfig(name="adamw")
    assert build_optimizer(settings, model).defaults["fused"]  # type: ignore[arg-type]
    assert not build_optimizer(settings, model, fused=False).defaults["fused"]  # type: ignore[arg-type]
