"""Frozen batch norm applied to weights: values, gradients and state are those of norms that work on activations."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.distributed as dist
from small_network import network, noise
from timm.layers import Conv2dSame, FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops.misc import FrozenBatchNorm2d

from tascnet.model.backbone import Backbone
from tascnet.model.frozen_norm import JoinedNorm, join_frozen_norms, joined_pairs

FROZEN = (FrozenBatchNorm2d, FrozenBatchNormAct2d)
TRIAL = torch.zeros(1, 3, 96, 160)


def enliven(part: nn.Module) -> None:
    """Statistics and affine values as a trained network has them."""
    generator = torch.Generator().manual_seed(3)
    for module in part.modules():
        if isinstance(module, FROZEN):
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            module.weight.copy_(torch.rand(size, generator=generator) + 0.5)
            module.bias.copy_(torch.randn(size, generator=generator) * 0.3)


def pair(name: str) -> tuple[nn.Module, nn.Module]:
    """A network of timm's with frozen norms, and the same with norms joined to convolutions."""
    torch.manual_seed(0)
    plain: Any = freeze_batch_norm_2d(timm.create_model(name, features_only=True, pretrained=False))
    enliven(plain)
    joined = deepcopy(plain)
    join_frozen_norms(joined, TRIAL)
    return plain, joined


def block(convolution: nn.Conv2d, norm: nn.Module) -> nn.Sequential:
    part = nn.Sequential(convolution, norm)
    enliven(part)
    return part


def gradients(part: nn.Module, images: Tensor) -> tuple[list[Tensor], dict[str, Tensor | None]]:
    """Features, and the gradient of each parameter under weights that differ from pixel to pixel."""
    features = part(images)
    features = [features] if isinstance(features, Tensor) else list(features)
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(feature.shape, generator=generator).to(feature.dtype) for feature in features]
    torch.stack([(f * w).mean() for f, w in zip(features, weights, strict=True)]).sum().backward()
    return features, {name: parameter.grad for name, parameter in part.named_parameters()}


def close(found: Tensor, wanted: Tensor, part: float) -> None:
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() <= part * wanted.abs().max()


@pytest.mark.parametrize(
    ("name", "norms", "left"),
    [("resnet18", 20, 0), ("tf_efficientnet_lite0", 48, 0), ("densenet121", 59, 62)],
)
def test_values_and_gradients(name: str, norms: int, left: int):
    plain, joined = pair(name)
    assert len(joined_pairs(joined)) == norms
    assert sum(isinstance(m, FROZEN) and not isinstance(m, JoinedNorm) for m in joined.modules()) == left
    images = torch.randn(2, 3, 33, 66)
    wanted, wanted_gradients = gradients(plain.double().train(), images.double())
    found, found_gradients = gradients(joined.double().train(), images.double())
    for ours, theirs in zip(found, wanted, strict=True):
        close(ours, theirs, 1e-10)
    assert found_gradients.keys() == wanted_gradients.keys()
    for parameter, gradient in wanted_gradients.items():
        ours, theirs = found_gradients[parameter], gradient
        assert (ours is None) == (theirs is None), parameter
        if ours is not None and theirs is not None:
            close(ours, theirs, 1e-8)


def test_single_precision_differs_by_rounding_alone():
    plain, joined = pair("resnet18")
    images = torch.randn(2, 3, 64, 96)
    wanted, wanted_gradients = gradients(plain.train(), images)
    found, found_gradients = gradients(joined.train(), images)
    for ours, theirs in zip(found, wanted, strict=True):
        close(ours, theirs, 1e-5)
    first = "conv1.weight"
    assert isinstance(wanted_gradients[first], Tensor)
    assert isinstance(found_gradients[first], Tensor)
    assert (found_gradients[first] - wanted_gradients[first]).norm() < 1e-4 * wanted_gradients[first].norm()


def test_states_fit_both_ways():
    plain, joined = pair("tf_efficientnet_lite0")
    assert list(plain.state_dict()) == list(joined.state_dict())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in joined.named_parameters()]
    images = torch.randn(1, 3, 64, 64)
    other = {name: value * 1.1 for name, value in plain.state_dict().items()}
    with torch.no_grad():
        before = joined(images)[-1]
        plain.load_state_dict(other)
        joined.load_state_dict({**other, "bn1.num_batches_tracked": torch.tensor(7)})  # of a norm that was trained
        close(joined(images)[-1], plain(images)[-1], 1e-4)
        assert (joined(images)[-1] - before).norm() > 0.1 * before.norm()
        plain.load_state_dict(joined.state_dict())


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [FrozenBatchNorm2d, FrozenBatchNormAct2d])
@pytest.mark.parametrize(
    "convolution",
    [
        lambda bias: nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=bias),
        lambda bias: nn.Conv2d(4, 6, (1, 3), padding="same", dilation=2, groups=2, bias=bias),
        lambda bias: Conv2dSame(4, 6, 3, stride=2, groups=2, bias=bias),
    ],
)
def test_every_kind_of_convolution(convolution: Any, norm: Any, bias: bool):
    torch.manual_seed(0)
    plain = block(convolution(bias), norm(6)).double()
    joined = deepcopy(plain)
    images = torch.randn(2, 4, 9, 10).double()
    assert join_frozen_norms(joined, images) == 1
    (wanted,), wanted_gradients = gradients(plain, images)
    (found,), found_gradients = gradients(joined, images)
    close(found, wanted, 1e-12)
    assert len(wanted_gradients) == 1 + bias
    for name, gradient in wanted_gradients.items():
        assert isinstance(gradient, Tensor)
        assert isinstance(found_gradients[name], Tensor)
        close(found_gradients[name], gradient, 1e-12)  # type: ignore[arg-type]


def test_padding_with_other_values_than_zero_stays_as_it_is():
    part = block(nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"), FrozenBatchNorm2d(4))
    assert join_frozen_norms(part, torch.zeros(1, 4, 8, 8)) == 0
    assert type(part[0]) is nn.Conv2d


@pytest.mark.parametrize("watched", [0, 1])
def test_modules_with_hooks_stay_as_they_are(watched: int):
    part = block(nn.Conv2d(4, 4, 3), FrozenBatchNorm2d(4))
    seen: list[Tensor] = []
    part[watched].register_forward_hook(lambda module, inputs, output: seen.append(output))
    images = torch.randn(1, 4, 8, 8)
    part(images)
    assert join_frozen_norms(part, images) == 0
    part(images)
    assert torch.equal(seen[0], seen[-1])


def test_a_copy_has_norms_of_its_own():
    _, joined = pair("resnet18")
    copied: Any = deepcopy(joined)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = joined(images)[-1]
        assert torch.equal(copied(images)[-1], before)
        copied.bn1.running_mean.add_(5.0)
        assert not torch.equal(copied(images)[-1], before)
        assert torch.equal(joined(images)[-1], before)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype):
    _, joined = pair("resnet18")
    images = torch.randn(1, 3, 64, 64)
    exact, _ = gradients(joined, images)
    joined.zero_grad()
    with torch.autocast("cpu", dtype):
        features, found = gradients(joined, images)
    assert {feature.dtype for feature in features} == {dtype}
    close(features[-1].float(), exact[-1], 64 * torch.finfo(dtype).eps)
    assert {gradient.dtype for gradient in found.values() if gradient is not None} == {torch.float32}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_that_of_norms_on_activations(dtype: torch.dtype):
    plain, joined = pair("resnet18")
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        exact = plain(images)[-1]
        theirs, ours = plain.to(dtype)(images.to(dtype))[-1], joined.to(dtype)(images.to(dtype))[-1]
    assert ours.dtype == dtype
    assert (ours.float() - exact).norm() <= 1.5 * (theirs.float() - exact).norm()


def test_compiled_in_one_graph():
    part = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), FrozenBatchNormAct2d(4), Conv2dSame(4, 5, 3, stride=2), FrozenBatchNorm2d(5)
    )
    enliven(part)
    images = torch.randn(2, 3, 16, 17)
    assert join_frozen_norms(part, images) == 2
    (wanted,), _ = gradients(part, images)
    wanted_gradients = {name: value.grad.clone() for name, value in part.named_parameters() if value.grad is not None}
    part.zero_grad()
    compiled: Any = torch.compile(part, backend="aot_eager", fullgraph=True)
    (found,), found_gradients = gradients(compiled, images)
    close(found, wanted, 1e-6)
    assert len(wanted_gradients) == 3
    for name, gradient in wanted_gradients.items():
        close(found_gradients[f"_orig_mod.{name}"], gradient, 1e-6)  # type: ignore[arg-type]
    with torch.no_grad():
        part[3].running_mean.add_(5.0)  # read at each call
        close(compiled(images), part(images), 1e-6)
        assert not torch.allclose(part(images), wanted)


def test_a_process_group(tmp_path: Path):
    _, joined = pair("resnet18")
    images = torch.randn(1, 3, 64, 64)
    _, wanted = gradients(joined, images)
    wanted = {name: gradient.clone() for name, gradient in wanted.items() if gradient is not None}
    joined.zero_grad()
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    try:
        gradients(DistributedDataParallel(joined), images)
    finally:
        dist.destroy_process_group()
    for name, parameter in joined.named_parameters():
        assert isinstance(parameter.grad, Tensor)
        torch.testing.assert_close(parameter.grad, wanted[name])


def test_a_step_trains_convolutions_and_leaves_norms():
    model = network(norm="frozen_bn").train()
    enliven(model)
    before = {name: value.clone() for name, value in model.backbone.state_dict().items()}
    names = {name for name, module in model.backbone.named_modules() if isinstance(module, JoinedNorm)}
    convolutions = {convolution for convolution, _ in joined_pairs(model.backbone)}
    trained = {f"{name}.weight" for name, module in model.backbone.named_modules() if module in convolutions}
    assert len(names) == len(trained) > 20
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    torch.stack([feature.mean() for feature in model.backbone(noise(2, 64, 64).float())]).sum().backward()
    optimizer.step()
    for name, value in model.backbone.state_dict().items():
        if name.rsplit(".", 1)[0] in names:
            assert torch.equal(value, before[name]), name
        elif name in trained:
            assert not torch.equal(value, before[name]), name


def test_networks_of_all_other_norms_are_not_touched():
    for norm in ("bn", "gn"):
        assert not joined_pairs(Backbone("resnet18", norm=norm))  # type: ignore[arg-type]
    assert not joined_pairs(Backbone("convnext_atto"))
