"""Assembly: what a configuration says arrives in the parts, and defaults agree wherever they are written twice."""

import inspect
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from vistas_layout import CAR as CAR_VALUE
from vistas_layout import Picture, write_vistas

from tascnet.build import (
    build_augmentation,
    build_dataset,
    build_model,
    build_optimizer,
    build_things_head,
    learning_rate_factor,
)
from tascnet.config import (
    BackboneConfig,
    Config,
    Conventions,
    DatasetConfig,
    FusionOptions,
    InputConfig,
    LossConfig,
    ModelConfig,
    OptimizerConfig,
    StuffHeadConfig,
    ThingsHeadConfig,
)
from tascnet.data.formats.table import check_dataset
from tascnet.data.formats.vistas import Vistas
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.data.transforms import Augment
from tascnet.errors import InputError
from tascnet.fusion import Fuser, fuse_jointly, fuse_mask_guided, fuse_unguided
from tascnet.model.backbone import Backbone
from tascnet.model.fpn import FPN
from tascnet.model.rpn import RPNSettings
from tascnet.model.tasc_loss import TascForm
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import RoISettings
from tascnet.structures import Category, Instances, LabelSpace, Size
from tascnet.training.run import _open_data as open_data

SKY, ROAD, CAR, MAN, DOG = (
    Category(10, "sky", is_thing=False),
    Category(20, "road", is_thing=False),
    Category(30, "car", is_thing=True),
    Category(40, "man", is_thing=True),
    Category(50, "dog", is_thing=True),
)
LABEL_SPACE = LabelSpace((CAR, SKY, MAN, ROAD, DOG))


def config(**parts: Any) -> Config:
    """Every number differs from every other and from its default, so that none can take another's place."""
    model = ModelConfig(
        backbone=BackboneConfig(name="resnet18", weights="random", added_channels=48),
        pyramid_channels=20,
        stuff_head=StuffHeadConfig(channels=12),
        things_head=ThingsHeadConfig(
            anchor_sizes=[9, 18, 36],
            anchor_ratios=[0.4, 1.0],
            rpn_samples=101,
            pre_nms=102,
            post_nms=103,
            roi_samples=104,
            box_channels=28,
            mask_channels=14,
            mask_convs=3,
            sampling_ratio=1,
            score_threshold=0.11,
            nms_iou=0.44,
            max_detections=105,
        ),
    )
    return Config(**{"model": model} | parts)


@pytest.fixture(scope="module")
def model() -> TASCNet:
    return build_model(config(), LABEL_SPACE)


def test_widths_arrive(model: TASCNet) -> None:
    assert model.backbone.channels == [64, 128, 256, 512, 48, 48]
    assert model.fpn.channels == 20
    assert model.fpn.strides == [4, 8, 16, 32, 64, 128]
    assert len(model.stuff_head.levels) == 6
    assert model.stuff_head.levels[0][0].weight.shape == (12, 20, 3, 3)
    assert model.stuff_head.classifier.weight.shape == (2 + 1, 6 * 12, 1, 1)
    head = model.things_head
    assert head.box_head.fc6.weight.shape == (28, 20 * 49)
    assert head.box_predictor.cls_score.weight.shape == (3 + 1, 28)
    mask_convs = [layer for layer in head.mask_head.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in mask_convs] == [14] * 3
    assert head.mask_predictor.mask_fcn_logits.out_channels == 3
    assert model.num_stuff == 2
    assert head.num_things == 3


def test_numbers_of_the_things_head_arrive(model: TASCNet) -> None:
    head = model.things_head
    assert head.rpn.settings == RPNSettings(samples=101, pre_nms=102, post_nms=103)
    assert head.settings == RoISettings(
        samples=104, sampling_ratio=1, score_threshold=0.11, nms_iou=0.44, max_detections=105
    )
    assert head.rpn.strides == [4, 8, 16]
    anchors = head.rpn.anchors([torch.zeros(1, 20, 1, 1)] * 3)
    # height / width 0.4 of 9 x 9 pixels: 5.7 x 14.2, its half rounded 3 x 7; then the square, its half 4 (4.5 to even)
    assert anchors[0].tolist() == [[-7, -3, 7, 3], [-4, -4, 4, 4]]
    assert anchors[2][1].tolist() == [-18, -18, 18, 18]


def test_switches_arrive() -> None:
    loss = LossConfig(tasc_stuff_mask="confidence", tasc_normalization="valid", tasc_gradient="both")
    changed = config(loss=loss)
    changed.model.backbone = BackboneConfig(name="resnet18", norm="gn", added_stages=False, freeze_stem=True)
    changed.model.stuff_head.outputs = "all"
    model = build_model(changed, LABEL_SPACE)
    assert model.backbone.strides == [4, 8, 16, 32]
    assert model.fpn.strides == [4, 8, 16, 32, 64]
    assert isinstance(model.backbone.network.bn1, nn.GroupNorm)
    assert not model.backbone.network.conv1.weight.requires_grad
    assert model.backbone.network.layer2[0].conv1.weight.requires_grad
    assert model.stuff_head.classifier.out_channels == 2 + 3
    assert model.tasc == TascForm("confidence", "valid", "both")


@pytest.mark.parametrize(
    ("categories", "found"), [((SKY, ROAD), "0 thing and 2 stuff"), ((CAR, MAN, DOG), "3 thing and 0 stuff")]
)
def test_a_label_space_needs_things_and_stuff(categories: tuple[Category, ...], found: str) -> None:
    with pytest.raises(InputError, match=found):
        build_model(config(), LabelSpace(categories))


# Defaults


def test_defaults_of_the_things_head_are_those_of_its_settings() -> None:
    fpn = FPN([2, 2, 2, 2], [4, 8, 16, 32], channels=2)
    head = build_things_head(ThingsHeadConfig(), fpn, 1, Conventions())
    assert head.rpn.settings == RPNSettings()
    assert head.settings == RoISettings()


def test_defaults_of_the_backbone_are_its_own() -> None:
    own = inspect.signature(Backbone).parameters
    for name in ("name", "norm", "added_channels", "freeze_stem"):
        assert own[name].default == getattr(BackboneConfig(), name), name
    assert BackboneConfig().added_stages
    assert inspect.signature(FPN).parameters["channels"].default == ModelConfig().pyramid_channels
    loss = LossConfig()
    assert TascForm() == TascForm(loss.tasc_stuff_mask, loss.tasc_normalization, loss.tasc_gradient)


@pytest.mark.parametrize(
    ("name", "offset", "aligned", "smallest", "first_anchor"),
    [
        ("tascnet", 0.5, True, (1e-3, 1e-2), [-7, -3, 7, 3]),
        ("detectron2", 0.0, True, (0, 0), [-7.1151, -2.8460, 7.1151, 2.8460]),  # 9 / 2 / sqrt(0.4), 9 / 2 x sqrt(0.4)
        ("torchvision", 0.5, False, (1e-3, 1e-2), [-7, -3, 7, 3]),
    ],
)
def test_conventions_arrive(
    name: Any, offset: float, aligned: bool, smallest: tuple[float, float], first_anchor: list[float]
) -> None:
    changed = config()
    changed.model.conventions = name
    model = build_model(changed, LABEL_SPACE)
    assert model.conventions == name
    assert model.stuff_head.offset == offset
    assert model.things_head.settings.aligned is aligned
    assert (model.things_head.rpn.settings.smallest_side, model.things_head.settings.smallest_side) == smallest
    anchors = model.things_head.rpn.anchors([torch.zeros(1, 20, 1, 1)] * 3)[0][0]
    assert anchors.tolist() == pytest.approx(first_anchor, abs=1e-4)


# Data and fusion


def test_streets_are_those_that_were_asked_for() -> None:
    asked = DatasetConfig(format="streets", num_images=3, seed=5, first=7, height=64, width=128)
    dataset = build_dataset(asked)
    assert len(dataset) == 3
    assert dataset[0].image.shape == (3, 64, 128)
    assert torch.equal(dataset[2].image, Streets(1, Size(64, 128), seed=5, first=9)[0].image)
    hard = build_dataset(replace(asked, difficulty="hard"))
    assert torch.equal(hard[2].image, Streets(1, Size(64, 128), seed=5, first=9, difficulty="hard")[0].image)


def test_only_streets_have_a_difficulty() -> None:
    asked = DatasetConfig(format="coco", root="coco", split="mini", difficulty="hard")
    with pytest.raises(InputError, match=r"val\.difficulty is hard, but val\.format is coco"):
        check_dataset(asked, "val")


def test_coco_is_opened_by_its_layout(tiny_coco: Path) -> None:
    asked = DatasetConfig(format="coco", root=str(tiny_coco), split="mini")
    assert [sample.name for sample in build_dataset(asked)] == [f"street_0_{number:06d}" for number in range(3)]
    assert len(build_dataset(replace(asked, num_images=2))) == 2
    assert build_dataset(asked, load_short_side=32)[0].image.shape == (3, 32, 64)


def test_categories_of_every_format_can_be_merged(tiny_coco: Path) -> None:
    coco = DatasetConfig(format="coco", root=str(tiny_coco), split="mini", num_images=2, group_by="supercategory")
    streets = DatasetConfig(format="streets", num_images=3, height=64, width=128, group_by="supercategory")
    for asked in (coco, streets):
        dataset = build_dataset(asked)
        assert len(dataset) == asked.num_images
        names = [category.name for category in dataset.label_space.categories]
        assert names == list(dict.fromkeys(category.supercategory for category in STREETS.categories))
        dataset.annotation(1).validate(dataset.label_space)


def test_augmentation_is_the_one_that_was_asked_for() -> None:
    asked = InputConfig(
        short_side=300, max_long_side=700, scale_jitter=(0.5, 1.5), crop=[200, 250], flip=0.3, color_jitter=0.2
    )
    space = LabelSpace((Category(1, "sky", False), Category(2, "bird", True)))
    assert build_augmentation(asked, space) == Augment(
        scale=(0.5, 1.5),
        crop=Size(200, 250),
        short_sides=(300,),
        max_long_side=700,
        thing_ids=frozenset({2}),
        flip_probability=0.3,
        color_jitter=0.2,
    )
    asked = InputConfig(crop=[200, 250], crop_on_things=0.5, short_side=300, multi_scale=[200, 400])
    several = build_augmentation(asked, space)
    assert (several.short_sides, several.crop_on_things) == ((200, 400), 0.5)
    nothing = build_augmentation(InputConfig(), space)
    assert nothing.crop is None
    assert nothing.short_sides == ()


def two_cars() -> tuple[torch.Tensor, Instances]:
    """Stuff logits of 8 x 8 pixels, things left, sky right; a car left, a column too wide; a less certain one right."""
    logits = torch.zeros(3, 8, 8)
    logits[2, :, :4] = 5
    logits[0, :, 4:] = 5
    boxes = torch.tensor([[0.0, 0, 5, 8], [4, 0, 8, 8]])
    return logits, Instances(boxes, torch.zeros(2, dtype=torch.int64), torch.tensor([0.9, 0.6]), torch.ones(2, 28, 28))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {30: 64}),  # the two cars share all pixels
        ({"method": "joint"}, {30: 64}),  # masks that are sure of themselves are not vetoed
        ({"method": "joint", "veto": 9.0}, {30: 32, 10: 32}),
        ({"score_threshold": 0.7}, {30: 40, 10: 24}),
        ({"method": "mask-guided"}, {30: 32, 10: 32}),  # where the stuff head sees sky there is no car
        ({"method": "mask-guided", "min_stuff_area": 33}, {30: 32}),
        ({"method": "mask-guided", "overlap_threshold": 0.9}, {10: 32}),  # the left car gets 32 of its 40 pixels
        ({"score_threshold": 0.95}, {10: 32}),
        ({"mask_threshold": 1.0}, {10: 32}),  # no probability is above 1
        ({"score_threshold": 0.95, "unclaimed": "stuff"}, {10: 64}),
    ],
)
def test_fusion_is_the_one_that_was_asked_for(options: dict[str, Any], expected: dict[int, int]) -> None:
    asked = FusionOptions(**{"method": "unguided", "min_stuff_area": 1} | options)
    segmentation = Fuser(asked, LABEL_SPACE)(*two_cars(), Size(8, 8)).segmentation
    areas: dict[int, int] = {}
    for segment in segmentation.segments:
        areas[segment.category_id] = areas.get(segment.category_id, 0) + segment.area
    assert areas == expected
    fuse = {"joint": fuse_jointly, "mask-guided": fuse_mask_guided, "unguided": fuse_unguided}[asked.method]
    direct = fuse(*two_cars(), LABEL_SPACE, Size(8, 8), asked).segmentation
    assert torch.equal(segmentation.id_map, direct.id_map)
    assert segmentation.segments == direct.segments


# Optimiser


@pytest.mark.parametrize(("lr_batch", "images", "factor"), [(0, 64, 1.0), (16, 16, 1.0), (16, 64, 4.0), (16, 2, 0.125)])
def test_the_learning_rate_follows_the_images_of_a_step(
    model: TASCNet, lr_batch: int, images: int, factor: float
) -> None:
    optimizer = build_optimizer(OptimizerConfig(lr=0.2, lr_batch=lr_batch), model, images)
    assert all(group["initial_lr"] == pytest.approx(0.2 * factor) for group in optimizer.param_groups)


def test_each_stage_of_the_backbone_has_its_rate(model: TASCNet) -> None:
    asked = OptimizerConfig(lr=1.0, backbone_lr_factor=0.8, backbone_layer_decay=0.5)
    rates = {
        id(parameter): group["lr"]
        for group in build_optimizer(asked, model).param_groups
        for parameter in group["params"]
    }
    expected = {"layer1": 0.1, "layer2": 0.2, "layer3": 0.4, "layer4": 0.8}
    for name, parameter in model.named_parameters():
        if id(parameter) in rates:
            part = name.removeprefix("backbone.network.").split(".")[0]
            stem = 0.1 if part in ("conv1", "bn1") else 1.0
            assert rates[id(parameter)] == pytest.approx(expected.get(part, stem)), name


def test_groups_of_the_optimiser(model: TASCNet) -> None:
    asked = OptimizerConfig(lr=0.2, backbone_lr_factor=0.1, weight_decay=0.03, momentum=0.8)
    optimizer = build_optimizer(asked, model)
    assert isinstance(optimizer, torch.optim.SGD)
    settings = {}
    for group in optimizer.param_groups:
        assert group["initial_lr"] == group["lr"]
        assert group["momentum"] == 0.8
        for parameter in group["params"]:
            assert id(parameter) not in settings
            settings[id(parameter)] = (group["lr"], group["weight_decay"])
    assert len(optimizer.param_groups) == 3  # frozen norms leave the backbone without parameters of one dimension
    for name, parameter in model.named_parameters():
        lr = 0.02 if name.startswith("backbone.network.") else 0.2  # the added stages start from random weights
        decay = 0.03 if name.endswith("weight") and parameter.ndim > 1 else 0
        assert settings[id(parameter)] == (pytest.approx(lr), decay), name


def test_what_is_frozen_is_not_optimised() -> None:
    changed = config()
    changed.model.backbone.freeze_stem = True
    model = build_model(changed, LABEL_SPACE)
    groups = build_optimizer(OptimizerConfig(), model).param_groups
    optimised = {id(parameter) for group in groups for parameter in group["params"]}
    assert optimised == {id(parameter) for parameter in model.parameters() if parameter.requires_grad}
    assert id(model.backbone.network.conv1.weight) not in optimised


def test_adamw_has_the_same_groups(model: TASCNet) -> None:
    asked = OptimizerConfig(name="adamw", lr=0.002, backbone_lr_factor=0.5, weight_decay=0.05)
    optimizer = build_optimizer(asked, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    groups = {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups}
    assert groups == {(0.001, 0.05), (0.002, 0.05), (0.002, 0)}


@pytest.mark.parametrize(
    ("schedule", "step", "progress", "expected"),
    [
        # warm-up over four steps: a quarter, a half, ..., full
        ("multi_step", 0, 0.0, 0.25),
        ("multi_step", 2, 0.0, 0.75),
        ("multi_step", 3, 0.0, 1.0),
        ("multi_step", 100, 0.59, 1.0),
        ("multi_step", 100, 0.6, 0.1),
        ("multi_step", 100, 0.8, 0.01),
        ("multi_step", 1, 0.6, 0.05),
        ("poly", 100, 0.0, 1.0),
        ("poly", 100, 0.75, 0.5),  # the square root of a quarter
        ("poly", 0, 0.75, 0.125),
        ("poly", 100, 1.0, 0.0),
        ("cosine", 100, 0.0, 1.0),
        ("cosine", 100, 1 / 3, 0.75),  # cos 60 degrees is a half
        ("cosine", 100, 0.5, 0.5),
        ("cosine", 1, 0.5, 0.25),
        ("cosine", 100, 1.0, 0.0),
    ],
)
def test_learning_rate_factor_by_hand(schedule: Any, step: int, progress: float, expected: float) -> None:
    asked = OptimizerConfig(schedule=schedule, warmup_steps=4, milestones=[0.6, 0.8], poly_power=0.5)
    assert learning_rate_factor(asked, step, progress) == pytest.approx(expected, abs=1e-12)


def test_without_warm_up_the_first_step_is_full() -> None:
    assert learning_rate_factor(OptimizerConfig(warmup_steps=0), step=0, progress=0) == 1
    assert learning_rate_factor(OptimizerConfig(warmup_steps=0, schedule="cosine"), 0, 0.25) == pytest.approx(
        (1 + math.sqrt(0.5)) / 2
    )


def test_vistas_as_the_settings_say(tmp_path: Path):
    values = np.full((40, 60), CAR_VALUE)
    values[:, 30:] += 1
    write_vistas(tmp_path, "training", [Picture(name, values) for name in "abc"], version="v2.0")
    settings = DatasetConfig(
        format="vistas", root=str(tmp_path), split="training", version="v2.0", form="instances", num_images=2
    )
    dataset = build_dataset(settings)
    assert len(dataset) == 2
    assert dataset[1].segmentation.id_map[0].tolist() == [513] * 30 + [514] * 30  # ids of the form "instances"
    assert dataset[1].image.shape == (3, 40, 60)
    settings.form = "panoptic"
    assert set(build_dataset(settings)[0].segmentation.id_map.unique().tolist()) == {70_000, 71_000}
    assert isinstance(build_dataset(DatasetConfig("vistas", str(tmp_path), "training", "v2.0")), Vistas)
    with pytest.raises(InputError, match=r"config_v1\.2\.json or .*config\.json does not exist"):
        build_dataset(DatasetConfig("vistas", str(tmp_path), "training"))


def test_only_training_reads_reduced_photos(tmp_path: Path):
    for split in ("training", "validation"):
        write_vistas(tmp_path, split, [Picture("a", np.full((40, 60), CAR_VALUE))])
    config = Config()
    config.data.train = DatasetConfig("vistas", str(tmp_path), "training")
    config.data.val = DatasetConfig("vistas", str(tmp_path), "validation")
    config.data.input.load_short_side = 20
    train_set, val_set = open_data(config)
    assert train_set[0].image.shape == (3, 20, 30)
    assert train_set[0].segmentation.segments[0].area == 600
    assert val_set[0].image.shape == (3, 40, 60)
    assert val_set[0].segmentation.segments[0].area == 2400
