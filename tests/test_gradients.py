"""Every trained parameter has a gradient, whatever the settings and the annotation: several processes wait for it."""

from dataclasses import replace
from itertools import product

import pytest
import torch

from tascnet.build import build_model, build_optimizer
from tascnet.config import Config
from tascnet.data.batch import Batch, collate
from tascnet.data.streets.dataset import Streets
from tascnet.structures import IGNORE, Size, Target
from tascnet.training import total_loss

STREETS = Streets(2, Size(64, 96))
BATCH: Batch = collate([STREETS[0], STREETS[1]], STREETS.label_space)


def nothing(target: Target) -> Target:
    """No instance, but semantic labels."""
    return Target(target.boxes[:0], target.labels[:0], torch.zeros_like(target.instance_map), target.semantic)


def void(target: Target) -> Target:
    """Not a single pixel is annotated."""
    return replace(nothing(target), semantic=torch.full_like(target.semantic, IGNORE))


ANNOTATIONS = {
    "things": BATCH.targets,
    "no things": [nothing(target) for target in BATCH.targets],
    "void": [void(target) for target in BATCH.targets],
    "things in one image": [BATCH.targets[0], nothing(BATCH.targets[1])],
}


def tiny(**settings: object) -> Config:
    """A config of small parts; settings are named as in a file, with two underscores for a dot."""
    config = Config()
    model = config.model
    model.backbone.name, model.backbone.added_channels, model.pyramid_channels = "mobilenetv3_small_050", 16, 8
    model.stuff_head.channels = 32
    things = model.things_head
    things.anchor_sizes, things.box_channels, things.mask_channels, things.mask_convs = [8, 16, 32, 64, 128], 16, 8, 1
    things.rpn_samples, things.roi_samples, things.pre_nms, things.post_nms = 32, 16, 50, 20
    for name, value in settings.items():
        part, field = name.split("__")
        setattr(getattr(model, part) if part != "pyramid" else model, field, value)
    return config


def check(config: Config) -> None:
    torch.manual_seed(0)
    model = build_model(config, STREETS.label_space).train()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) > 50
    for annotation, targets in ANNOTATIONS.items():
        model.zero_grad()
        losses = model(BATCH.images, targets, BATCH.image_sizes, [1, 2])
        total_loss(losses, 1.0, 1.0).backward()
        without = [name for name, parameter in trained.items() if parameter.grad is None]
        assert not without, annotation
        assert all(parameter.grad.isfinite().all() for parameter in trained.values()), annotation


HEADS = [{"stuff_head__merge": "sum"}, {"stuff_head__stride": 4}, {"stuff_head__stride": 2}]
NORMS = ["frozen_bn", "bn", "sync_bn", "gn"]


@pytest.mark.parametrize("outputs", ["things", "all"])
@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("head", HEADS, ids=["sum", "concat", "stride 2"])
def test_stuff_heads_over_both_pyramids(head: dict[str, object], added: bool, outputs: str) -> None:
    norm = NORMS[(HEADS.index(head) + 2 * added) % len(NORMS)]
    check(tiny(**head, backbone__added_stages=added, stuff_head__outputs=outputs, backbone__norm=norm))


@pytest.mark.parametrize(("backbone", "heads"), product(NORMS, ["none", "frozen_bn", "bn"]))
def test_norms(backbone: str, heads: str) -> None:
    check(
        tiny(
            backbone__norm=backbone,
            things_head__norm=heads,
            things_head__box_convs=1,
            pyramid__pyramid_norm=heads,
            stuff_head__merge="sum",
        )
    )


@pytest.mark.parametrize("added", [True, False])
@pytest.mark.parametrize("anchors", [1, 3, 5, 6])
def test_anchors_on_few_levels_and_on_many(anchors: int, added: bool) -> None:
    sizes = [8, 16, 32, 64, 128, 256][: anchors if added else min(anchors, 5)]
    check(tiny(things_head__anchor_sizes=sizes, backbone__added_stages=added, stuff_head__merge="sum"))


def test_levels_that_no_head_reads_are_not_trained_and_stay_in_the_state() -> None:
    read, unread = (build_model(tiny(stuff_head__merge=merge), STREETS.label_space) for merge in ("concat", "sum"))
    assert read.fpn.state_dict().keys() == unread.fpn.state_dict().keys()
    frozen = {name for name, parameter in unread.fpn.named_parameters() if not parameter.requires_grad}
    assert frozen == {"pyramid.layer_blocks.5.0.weight", "pyramid.layer_blocks.5.0.bias"}  # P7; proposals read P6
    assert all(parameter.requires_grad for parameter in read.fpn.parameters())
    trained = sum(len(group["params"]) for group in build_optimizer(tiny().optimizer, unread).param_groups)
    assert trained == sum(parameter.requires_grad for parameter in unread.parameters())
