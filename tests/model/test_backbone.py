"""Backbone: strides and channels of several timm networks, the four norms, the input normalisation."""

import pytest
import timm
import torch
from timm.layers import FrozenBatchNormAct2d
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops import FrozenBatchNorm2d

from tascnet.errors import InputError
from tascnet.model.backbone import AddedStage, Backbone, Norm, group_norm

FROZEN = (FrozenBatchNorm2d, FrozenBatchNormAct2d)
EFFICIENTNET, RESNET, SWIN = "tf_efficientnet_lite0", "resnet18", "swin_tiny_patch4_window7_224"


def noise(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        (RESNET, [64, 128, 256, 512]),
        (EFFICIENTNET, [24, 40, 112, 320]),
        ("mobilenetv3_small_100", [16, 24, 48, 576]),
        ("convnext_atto", [40, 80, 160, 320]),
    ],
)
def test_features_have_the_channels_and_strides_that_are_announced(name: str, channels: list[int]) -> None:
    backbone = Backbone(name, added_channels=32).eval()
    assert backbone.channels == [*channels, 32, 32]
    assert backbone.strides == [4, 8, 16, 32, 64, 128]
    with torch.no_grad():
        features = backbone(noise(64, 96))
    # 64 x 96 at strides 64 and 128: 1 x 1.5 and 0.5 x 0.75, rounded up
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3), (1, 2), (1, 1)]
    assert [tuple(feature.shape) for feature in features] == [
        (2, width, *size) for width, size in zip(backbone.channels, sizes, strict=True)
    ]


def test_without_added_stages_there_are_four_levels() -> None:
    backbone = Backbone(RESNET, added_channels=None)
    assert backbone.channels == [64, 128, 256, 512]
    assert backbone.strides == [4, 8, 16, 32]
    assert len(backbone(noise(32, 32))) == 4


def test_added_stages_read_the_level_below_them() -> None:
    backbone = Backbone(RESNET, added_channels=32).eval()
    features = backbone(noise(64, 64))
    assert torch.equal(features[4], backbone.added_stages[0](features[3]))
    assert torch.equal(features[5], backbone.added_stages[1](features[4]))


def test_added_stage_is_residual_plus_shortcut() -> None:
    stage = AddedStage(8, 16)
    features = noise(6, 6)[:, :1].expand(-1, 8, -1, -1)
    assert torch.equal(stage(features), (stage.residual(features) + stage.shortcut(features)).relu())
    # the shortcut reads every other position; with the residual switched off nothing else is left
    nn.init.zeros_(stage.residual[-1].weight)
    subsampled = nn.functional.conv2d(features[:, :, ::2, ::2], stage.shortcut[0].weight)
    assert torch.allclose(stage(features), stage.shortcut[1](subsampled).relu(), atol=1e-6)


@pytest.mark.parametrize("channels", [8, 16, 32, 128])
def test_one_small_image_alone_can_be_trained(channels: int) -> None:
    # C7 is one position here: a group of one channel would hold one value, which has no variance
    features = Backbone(RESNET, norm="gn", added_channels=channels).train()(noise(32, 32)[:1])
    assert features[-1].shape == (1, channels, 1, 1)


@pytest.mark.parametrize(("channels", "groups"), [(256, 16), (32, 16), (24, 12), (16, 8), (20, 10), (7, 1), (1, 1)])
def test_groups_divide_the_channels_and_hold_two_or_more(channels: int, groups: int) -> None:
    assert group_norm(channels).num_groups == groups


@pytest.mark.parametrize("name", [RESNET, EFFICIENTNET])
def test_frozen_norm_keeps_its_statistics_and_is_not_trained(name: str) -> None:
    backbone = Backbone(name, norm="frozen_bn", added_channels=None).train()
    norms = [module for module in backbone.modules() if isinstance(module, FROZEN)]
    assert len(norms) >= 20
    assert not any(isinstance(module, _BatchNorm) for module in backbone.modules())
    assert not any(list(norm.parameters()) for norm in norms)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone(noise(32, 32))
    assert all(torch.equal(value, before[key]) for key, value in backbone.state_dict().items())


def test_frozen_norm_uses_the_statistics_of_its_state() -> None:
    backbone = Backbone(RESNET, norm="frozen_bn", added_channels=None)
    state = backbone.state_dict()
    state["network.bn1.running_mean"].fill_(3.0)
    state["network.bn1.running_var"].fill_(4.0)
    nn.init.zeros_(backbone.network.conv1.weight)
    backbone.network.conv1.weight.data[:, 0, 3, 3] = 1.0  # the middle of 7 x 7: red as it is
    normalized = backbone.network.bn1(backbone.network.conv1(torch.full((1, 3, 2, 2), 5.0)))
    assert normalized.flatten().tolist() == pytest.approx([1.0] * 64, abs=1e-4)  # (5 - 3) / 2


def test_trained_batch_norm_learns_statistics_in_training() -> None:
    backbone = Backbone(RESNET, norm="bn", added_channels=None).train()
    before = backbone.network.bn1.running_mean.clone()
    backbone(noise(32, 32))
    assert not torch.equal(backbone.network.bn1.running_mean, before)
    assert backbone.network.bn1.weight.requires_grad


def test_synchronised_batch_norm_replaces_every_batch_norm() -> None:
    backbone = Backbone(RESNET, norm="sync_bn", added_channels=None)
    norms = [module for module in backbone.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == 20
    assert all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)


@pytest.mark.parametrize("name", [RESNET, EFFICIENTNET, "mobilenetv3_small_100"])
def test_group_norm_replaces_every_batch_norm_and_keeps_activations(name: str) -> None:
    plain = Backbone(name, norm="bn", added_channels=None).eval()
    backbone = Backbone(name, norm="gn", added_channels=None).train()
    replaced = [module for module in plain.modules() if isinstance(module, _BatchNorm)]
    norms = [module for module in backbone.modules() if isinstance(module, nn.GroupNorm)]
    assert [norm.num_channels for norm in norms] == [norm.num_features for norm in replaced]
    assert not any(isinstance(module, (_BatchNorm, *FROZEN)) for module in backbone.modules())
    activations = [type(getattr(norm, "act", None)) for norm in norms]
    # what is an identity in one may be absent in the other
    wanted = [type(getattr(norm, "act", None)) for norm in replaced]
    assert [kind for kind in activations if kind not in (nn.Identity, type(None))] == [
        kind for kind in wanted if kind not in (nn.Identity, type(None))
    ]
    # each image by itself, in training too: the other image of the batch changes nothing
    images = noise(32, 32)
    assert torch.allclose(backbone(images)[-1][:1], backbone(images[:1])[-1], atol=1e-4)


FAMILIES = [
    "resnet18",
    "tf_efficientnet_lite0",
    "mobilenetv3_small_050",
    "regnety_002",
    "vovnet39a",
    "ghostnet_050",
    "selecsls42",
    "res2net50_14w_8s",
    "repvgg_a0",
    "mixnet_s",
    "convnext_atto",
]
"""Networks of timm with batch norm alone, with activations joined to it, and without any."""


@pytest.fixture(scope="module", params=FAMILIES)
def trained_norms(request: pytest.FixtureRequest) -> tuple[str, Backbone, list[Tensor]]:
    """A network with batch norms whose numbers are all their own, and its features of one image."""
    generator = torch.Generator().manual_seed(0)
    plain = Backbone(request.param, norm="bn", added_channels=None).eval()
    for norm in plain.modules():
        if isinstance(norm, _BatchNorm):
            for tensor, low in (
                (norm.weight, 0.8),
                (norm.bias, -0.2),
                (norm.running_mean, -0.2),
                (norm.running_var, 0.8),
            ):
                tensor.data.uniform_(low, low + 0.4, generator=generator)
    with torch.no_grad():
        return request.param, plain, plain(noise(64, 96))


@pytest.mark.parametrize("norm", ["sync_bn", "frozen_bn"])
@torch.no_grad()
def test_features_in_evaluation_are_those_of_batch_norm(
    norm: Norm, trained_norms: tuple[str, Backbone, list[Tensor]]
) -> None:
    name, plain, expected = trained_norms
    other = Backbone(name, norm=norm, added_channels=None).eval()
    other.load_state_dict(plain.state_dict())
    for feature, wanted in zip(other(noise(64, 96)), expected, strict=True):
        assert torch.allclose(feature, wanted, rtol=1e-3, atol=1e-4 * float(wanted.abs().max()))
    replaced = [module for module in plain.modules() if isinstance(module, _BatchNorm)]
    new = [module for module in other.modules() if isinstance(module, (nn.SyncBatchNorm, *FROZEN))]
    assert len(new) == len(replaced)


@torch.no_grad()
def test_group_norm_leaves_all_but_the_norm_as_it_was(
    trained_norms: tuple[str, Backbone, list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no norm changes anything, both networks are the same."""
    name, plain, _ = trained_norms
    grouped = Backbone(name, norm="gn", added_channels=None).eval()
    state = {key: value for key, value in plain.state_dict().items() if "running" not in key and "num_batch" not in key}
    grouped.load_state_dict(state)
    for function in ("batch_norm", "group_norm"):
        monkeypatch.setattr(nn.functional, function, lambda features, *_, **__: features / features.abs().max())
    for feature, wanted in zip(grouped(noise(64, 96)), plain(noise(64, 96)), strict=True):
        assert torch.equal(feature, wanted)


def test_joined_group_norm_normalises_and_then_activates() -> None:
    norm = Backbone(EFFICIENTNET, norm="gn", added_channels=None).network.bn1  # 32 channels, then ReLU6
    values = noise(4, 4)[:, :1].repeat(1, 32, 1, 1) * torch.arange(1, 33).view(1, 32, 1, 1)
    groups = values.view(2, 16, 2, 4, 4)
    mean, variance = groups.mean((2, 3, 4), keepdim=True), groups.var((2, 3, 4), unbiased=False, keepdim=True)
    expected = ((groups - mean) / (variance + norm.eps).sqrt()).view_as(values).clamp(0, 6)
    assert torch.allclose(norm(values), expected, atol=1e-5)


def trained_names(backbone: Backbone) -> set[str]:
    return {name for name, parameter in backbone.network.named_parameters() if parameter.requires_grad}


def test_freezing_the_stem_leaves_the_layers_behind_c2() -> None:
    names = trained_names(Backbone(RESNET, freeze_stem=True))
    assert names
    assert {name.split(".")[0] for name in names} == {"layer2", "layer3", "layer4"}
    everything = {name.split(".")[0] for name in trained_names(Backbone(RESNET))}
    assert everything == {"conv1", "layer1", "layer2", "layer3", "layer4"}


@pytest.mark.parametrize(
    ("name", "frozen", "trained"),
    [(EFFICIENTNET, "blocks.1.", "blocks.2."), ("convnext_atto", "stages_0.", "stages_1.")],
)
def test_freezing_the_stem_fits_other_networks(name: str, frozen: str, trained: str) -> None:
    backbone = Backbone(name, freeze_stem=True, added_channels=32)
    names = trained_names(backbone)
    assert not any(name.startswith((frozen, "conv_stem", "blocks.0.", "stem")) for name in names)
    assert any(name.startswith(trained) for name in names)
    # C2 does not depend on anything that is trained; C3 does
    features = backbone(noise(32, 32))
    assert not features[0].requires_grad
    assert features[1].requires_grad
    assert all(parameter.requires_grad for parameter in backbone.added_stages.parameters())


def test_normalisation_worked_out_by_hand() -> None:
    backbone = Backbone(RESNET, added_channels=None)
    backbone.set_normalization((0.2, 0.4, 0.6), (0.1, 0.2, 0.5))  # means 51, 102, 153; deviations 25.5, 51, 127.5
    image = torch.tensor([102, 0, 255]).view(3, 1, 1)
    expected = [2.0, -2.0, 0.8]  # (102 - 51) / 25.5, (0 - 102) / 51, (255 - 153) / 127.5
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64):
        normalized = backbone.normalize(image.to(dtype))
        assert normalized.dtype == torch.float32
        assert normalized.flatten().tolist() == pytest.approx(expected)


def test_normalisation_is_the_networks_own() -> None:
    resnet, efficientnet = Backbone(RESNET), Backbone(EFFICIENTNET)
    assert resnet.pixel_mean.flatten().tolist() == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255])
    assert resnet.pixel_std.flatten().tolist() == pytest.approx([0.229 * 255, 0.224 * 255, 0.225 * 255])
    assert efficientnet.pixel_mean.flatten().tolist() == pytest.approx([127.5] * 3)


def test_normalisation_travels_with_the_state() -> None:
    source, copy = Backbone(RESNET, added_channels=None), Backbone(RESNET, added_channels=None)
    source.set_normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert {"pixel_mean", "pixel_std"} <= source.state_dict().keys()
    copy.load_state_dict(source.state_dict())
    assert copy.pixel_mean.flatten().tolist() == pytest.approx([25.5, 51, 76.5])
    assert copy.pixel_std.flatten().tolist() == pytest.approx([102, 127.5, 153])


@pytest.fixture(scope="module")
def swin() -> Backbone:
    torch.manual_seed(0)
    return Backbone(SWIN, norm="frozen_bn", added_channels=None, freeze_stem=True).eval()


@torch.no_grad()
def test_swin_takes_any_size_and_gives_channels_first(swin: Backbone) -> None:
    # timm's own network for one size keeps its windows' masks from the start; ours works them out for each picture
    for height, width in ((96, 160), (256, 32)):
        fixed = timm.create_model(SWIN, features_only=True, img_size=(height, width), always_partition=True).eval()
        fixed.load_state_dict(swin.network.state_dict())
        features, expected = swin(noise(height, width)), fixed(noise(height, width))
        assert [feature.shape[1] for feature in features] == swin.channels == [96, 192, 384, 768]
        for feature, theirs in zip(features, expected, strict=True):
            assert torch.allclose(feature, theirs.permute(0, 3, 1, 2), atol=1e-4)


def test_freezing_does_what_it_can_without_batch_norm(swin: Backbone) -> None:
    assert not any(isinstance(module, FROZEN) for module in swin.modules())
    plain = timm.create_model(SWIN, features_only=True)
    assert swin.network.state_dict().keys() == plain.state_dict().keys()  # layer norms stay as they are
    names = trained_names(swin)
    assert not any(name.startswith(("patch_embed", "layers_0")) for name in names)
    assert {name.split(".")[0] for name in names} == {"layers_1", "layers_2", "layers_3"}
    assert any("norm" in name for name in names)


def test_a_tag_chooses_the_weights_and_their_normalisation() -> None:
    name = "tf_efficientnet_b0"
    default, inception = (Backbone(name + tag, added_channels=None) for tag in ("", ".ap_in1k"))
    assert default.pixel_mean.flatten().tolist() == pytest.approx([0.485 * 255, 0.456 * 255, 0.406 * 255])
    assert inception.pixel_mean.flatten().tolist() == pytest.approx([127.5] * 3)
    with pytest.raises(
        InputError, match=r"no weights 'ap' of tf_efficientnet_b0; it has .*tf_efficientnet_b0\.ap_in1k"
    ):
        Backbone(name + ".ap")


def test_an_unknown_name_is_refused_and_near_names_are_given() -> None:
    with pytest.raises(InputError, match=r"'resnet19' is not a timm network; near it are .*resnet"):
        Backbone("resnet19")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("vit_tiny_patch16_224", "strides 4, 8, 16 and 32"),  # stride 16 alone
        ("test_maxvit", "of pictures of every size"),  # the strides fit, but its windows must divide the features
        ("coat_lite_tiny", "of pictures of every size"),  # it knows positions of one size
    ],
)
def test_a_network_that_does_not_fit_is_refused(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Backbone(name)


def test_strides_in_the_first_convolution_of_bottlenecks() -> None:
    usual, moved = (Backbone("resnet50", stride_in_1x1=flag, added_channels=None) for flag in (False, True))
    for name, tensor in usual.state_dict().items():
        if name.endswith("bn3.weight"):
            tensor.fill_(1)  # timm starts with residuals of zero
    moved.load_state_dict(usual.state_dict())
    halving = [
        name for name, layer in moved.network.named_modules() if isinstance(layer, nn.Conv2d) and layer.stride == (2, 2)
    ]
    assert halving == ["conv1"] + [f"layer{n}.0.{part}" for n in (2, 3, 4) for part in ("conv1", "downsample.0")]
    with torch.no_grad():
        ours, theirs = moved.eval()(noise(64, 64)), usual.eval()(noise(64, 64))
    assert [level.shape for level in ours] == [level.shape for level in theirs]
    assert torch.equal(ours[0], theirs[0])
    assert not torch.allclose(ours[1], theirs[1])


def test_widths_of_the_stages() -> None:
    assert Backbone("resnet50", widths=(8, 8, 16, 24), added_channels=None).channels == [32, 32, 64, 96]
    assert Backbone("resnet18", widths=(8, 8, 16, 24), added_channels=None).channels == [8, 8, 16, 24]


def test_what_only_some_networks_have() -> None:
    with pytest.raises(InputError, match=r"'tf_efficientnet_lite0' is no ResNet; leave model\.backbone\.widths empty"):
        Backbone(EFFICIENTNET, widths=(8, 8, 16, 24))
    with pytest.raises(InputError, match=r"'resnet18' has no bottlenecks; set model\.backbone\.stride_in_1x1 to false"):
        Backbone(RESNET, stride_in_1x1=True)
