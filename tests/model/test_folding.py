"""Folded networks compute what the unfolded ones do, and no convolution is folded that may not be."""

from collections.abc import Callable
from copy import deepcopy

import pytest
import timm
import torch
from small_network import NUM_STUFF, NUM_THINGS, network, noise
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torchvision.ops.misc import FrozenBatchNorm2d

from tascnet.model.backbone import Backbone
from tascnet.model.folding import fold_batch_norm, make_inference_ready
from tascnet.model.fpn import FPN
from tascnet.model.mode import evaluation_mode
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import StuffHead
from tascnet.model.tascnet import Outputs, TASCNet
from tascnet.model.things_head import RoISettings, ThingsHead

NORMS = (nn.modules.batchnorm._BatchNorm, FrozenBatchNorm2d, timm.layers.FrozenBatchNormAct2d)


def enliven(part: nn.Module) -> None:
    """Statistics and affine values as a trained network has them."""
    generator = torch.Generator().manual_seed(3)
    for module in part.modules():
        if isinstance(module, NORMS):
            size = module.running_mean.shape
            module.running_mean.copy_(torch.randn(size, generator=generator) * 0.3)
            module.running_var.copy_(torch.rand(size, generator=generator) + 0.5)
            module.weight.data.copy_(torch.rand(size, generator=generator) + 0.5)
            module.bias.data.copy_(torch.randn(size, generator=generator) * 0.3)


def norms_in(part: nn.Module) -> int:
    return sum(isinstance(module, NORMS) for module in part.modules())


def close(found: Tensor, wanted: Tensor, part: float = 1e-5) -> None:
    assert wanted.abs().max() > 0
    assert (found - wanted).abs().max() <= part * wanted.abs().max()


@torch.no_grad()
def predict(model: TASCNet, images: Tensor) -> Outputs:
    with evaluation_mode(model):
        outputs = model(images)
    assert isinstance(outputs, Outputs)
    return outputs


@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "sync_bn"])
@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 131), (1, 1)])
def test_a_network_predicts_the_same(norm: str, height: int, width: int):
    model = network(norm=norm).double()  # so that nothing but rounding in the 12th digit may differ
    enliven(model)
    images = noise(2, height, width)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = predict(model, images)
    ready = make_inference_ready(deepcopy(model))
    found = predict(ready, images)
    assert norms_in(model) > 20
    assert norms_in(ready) == 0
    close(found.stuff_logits, wanted.stuff_logits, 1e-11)
    for ours, theirs in zip(found.instances, wanted.instances, strict=True):
        assert len(ours) == len(theirs)
        assert torch.equal(ours.labels, theirs.labels)
        torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=0, atol=1e-8)
        torch.testing.assert_close(ours.masks, theirs.masks, rtol=0, atol=1e-8)
    assert not ready.training
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_single_precision_is_as_near_to_the_truth_as_it_was():
    model, images = network(norm="bn"), noise(2, 97, 130)
    enliven(model)
    unfolded, folded = (
        predict(model, images).stuff_logits,
        predict(make_inference_ready(deepcopy(model)), images).stuff_logits,
    )
    truth = predict(model.double(), images).stuff_logits
    assert 0 < (unfolded - truth).norm() < 1e-4 * truth.norm()
    assert (folded - truth).norm() <= 2 * (unfolded - truth).norm()


def test_a_network_that_still_trains_stays_apart_and_in_its_mode():
    model = network(norm="bn").train()
    ready = make_inference_ready(deepcopy(model))
    assert all(module.training for module in model.modules())
    shared = {value.data_ptr() for value in model.parameters()} & {value.data_ptr() for value in ready.parameters()}
    assert not shared


def test_norms_of_pyramid_and_heads():
    torch.manual_seed(0)
    backbone = Backbone("resnet18", added_channels=None, widths=[8, 16, 16, 16])
    fpn = FPN(backbone.channels, backbone.strides, 16, "frozen_bn")
    rpn = RPN(16, fpn.strides, [8, 16, 32, 64, 128], [1.0], RPNSettings(pre_nms=50, post_nms=20))
    head = ThingsHead(rpn, 16, fpn.strides, NUM_THINGS, 32, 16, 2, RoISettings(), num_box_convs=2, norm="bn")
    model = TASCNet(backbone, fpn, StuffHead(5, 16, 16, NUM_STUFF + 1), head, NUM_STUFF).eval()
    enliven(model)
    ready = make_inference_ready(deepcopy(model))
    assert norms_in(model.things_head) == 4
    assert norms_in(model.fpn) == 8
    assert norms_in(ready) == 0
    cells = torch.randn(3, 16, 7, 7)
    with torch.no_grad():
        close(ready.things_head.box_head(cells), model.things_head.box_head(cells))
        close(ready.things_head.mask_head(cells), model.things_head.mask_head(cells))
    close(predict(ready, noise(1, 70, 90)).stuff_logits, predict(model, noise(1, 70, 90)).stuff_logits)


@pytest.mark.parametrize(
    "name",
    ["resnet26d", "resnetv2_50d_gn", "densenet121", "efficientnet_lite0", "tf_efficientnet_b0", "regnetx_002",
     "dla34", "hrnet_w18_small", "resnetv2_50", "repvgg_a0", "nf_resnet26", "vovnet39a"],
)  # fmt: skip
def test_other_backbones(name: str):
    torch.manual_seed(0)
    part = timm.create_model(name, features_only=True, pretrained=False).eval()
    enliven(part)
    images = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        wanted = part(images)
        fold_batch_norm(part, torch.zeros(1, 3, 96, 160))
        for ours, theirs in zip(part(images), wanted, strict=True):
            close(ours, theirs, 2e-5)


class _Joined(nn.Module):
    """A convolution and a batch norm, and how they are used."""

    def __init__(self, use: Callable[["_Joined", Tensor], Tensor]):
        super().__init__()
        self.use = use
        self.convolution, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.other = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.use(self, images)


@pytest.mark.parametrize(
    ("use", "folded"),
    [
        (lambda m, x: m.norm(m.convolution(x)).relu(), 1),
        (lambda m, x: m.norm(m.convolution(m.norm(m.convolution(x)))), 1),  # twice, each time together
        (lambda m, x: (lambda y: m.norm(y) + y)(m.convolution(x)), 0),  # read elsewhere, too
        (lambda m, x: m.norm(m.convolution(x).relu()), 0),  # something between them
        (lambda m, x: m.norm(m.convolution(x)) + m.norm(m.other(x)), 0),  # a norm of two convolutions
        (lambda m, x: m.norm(x) + m.norm(m.convolution(x)), 0),
        (lambda m, x: m.convolution(m.norm(x)), 0),  # the other way round
        (lambda m, x: torch.cat([m.norm(y := m.convolution(x)), y]), 0),
    ],
)
def test_only_what_may_be_folded_is(use: Callable[[_Joined, Tensor], Tensor], folded: int):
    torch.manual_seed(0)
    part, images = _Joined(use).eval(), torch.randn(2, 3, 8, 9)
    enliven(part)
    with torch.no_grad():
        wanted = part(images)
        assert fold_batch_norm(part, images) == folded
        close(part(images), wanted)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_number_types_stay(dtype: torch.dtype):
    part = nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5)).eval().to(dtype)
    enliven(part)
    images = torch.randn(1, 3, 9, 9, dtype=dtype)
    with torch.no_grad():
        wanted = part(images)
        assert fold_batch_norm(part, images) == 1
        found = part(images)
    assert found.dtype == dtype
    close(found.double(), wanted.double(), 4 * torch.finfo(dtype).eps)


def test_a_network_is_changed_in_place_without_a_second_set_of_weights():
    model = network(norm="frozen_bn")
    enliven(model)
    wanted = predict(model, noise(1, 64, 96)).stuff_logits
    ready = make_inference_ready(model)
    assert ready is model
    assert norms_in(model) == 0
    assert all(type(module) in (nn.Conv2d, Conv2dSame, nn.ConvTranspose2d) for module in convolutions_in(model))
    close(predict(model, noise(1, 64, 96)).stuff_logits, wanted)


def convolutions_in(part: nn.Module) -> list[nn.Module]:
    return [module for module in part.modules() if isinstance(module, nn.modules.conv._ConvNd)]
