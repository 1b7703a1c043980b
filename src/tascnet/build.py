"""Config -> data sets, network, fusion, optimiser: the only place where configuration turns into parts."""

import math
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn, optim

from tascnet.config import Config, DatasetConfig, FusionConfig, InputConfig, OptimizerConfig, ThingsHeadConfig
from tascnet.data.cityscapes import Cityscapes
from tascnet.data.coco import CocoPanoptic
from tascnet.data.coco_instances import CocoInstances
from tascnet.data.merged import MergedCategories, group_categories
from tascnet.data.png_pairs import PngPairs
from tascnet.data.stream import PanopticDataset
from tascnet.data.streets import Streets
from tascnet.data.subset import FirstImages
from tascnet.data.transforms import Augment
from tascnet.data.vistas import Vistas
from tascnet.errors import InputError
from tascnet.fusion import FusionOptions, fuse_mask_guided, fuse_unguided
from tascnet.model.backbone import Backbone
from tascnet.model.fpn import FPN
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import StuffHead
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import RoISettings, ThingsHead
from tascnet.structures import Instances, LabelSpace, PanopticSegmentation, Size

Fusion = Callable[[Tensor, Instances, Size], PanopticSegmentation]
"""(C, h, w) stuff logits, instances in pixels of the result, size of the result -> segmentation."""


def build_dataset(config: DatasetConfig, load_short_side: int = 0) -> PanopticDataset:
    """Open a data set: its files, its categories merged as `group_by` says, its first images.

    Args:
        config: which one.
        load_short_side: pixels to which the shorter side of larger photos is reduced; 0 for full size, which is what
            measuring wants. Generated streets have the size that the config says.

    Raises:
        InputError: files are missing or are not what they should be.
    """
    return narrow(_open_dataset(config, load_short_side), config)


def narrow(dataset: PanopticDataset, config: DatasetConfig) -> PanopticDataset:
    """A data set that is open already, with its categories merged as `group_by` says, or its first images alone.

    Raises:
        InputError: the categories cannot be merged so, or there are fewer images.
    """
    dataset = group_categories(dataset, config.group_by)
    if config.num_images and config.format != "streets":
        return FirstImages(dataset, config.num_images)
    return dataset


def innermost(dataset: PanopticDataset) -> PanopticDataset:
    """The data set that reads the files, without what `narrow` has put around it. Indices are the same."""
    while isinstance(dataset, MergedCategories | FirstImages):
        dataset = dataset.source
    return dataset


def _open_dataset(config: DatasetConfig, load_short_side: int) -> PanopticDataset:
    if config.format == "streets":
        return Streets(config.num_images, Size(config.height, config.width), config.seed, config.first)
    if config.format == "cityscapes":
        return Cityscapes(config.root, config.split, load_short_side=load_short_side)
    if config.format == "vistas":
        return Vistas(config.root, config.split, config.version, config.form, load_short_side)
    if config.format == "png_pairs":
        return PngPairs(config.root, config.split, load_short_side)
    if config.format == "coco_instances":
        return CocoInstances.from_layout(config.root, config.split, config.overlaps, load_short_side)
    return CocoPanoptic.from_layout(config.root, config.split, load_short_side)


def build_augmentation(config: InputConfig) -> Augment:
    """The random changes of a training sample."""
    return Augment(
        scale=config.scale_jitter,
        crop=Size(*config.crop) if config.crop else None,
        short_side=config.short_side or None,
        max_long_side=config.max_long_side,
        flip_probability=config.flip,
        color_jitter=config.color_jitter,
    )


def build_model(config: Config, label_space: LabelSpace) -> TASCNet:
    """The network with random weights.

    Raises:
        InputError: the label space has no things or no stuff, or the backbone does not fit.
    """
    if not label_space.things or not label_space.stuff:
        raise InputError(
            f"the label space has {len(label_space.things)} thing and {len(label_space.stuff)} stuff categories; "
            "TASCNet needs at least one of each. Check `isthing` in the list of categories."
        )
    model = config.model
    num_stuff, num_things = len(label_space.stuff), len(label_space.things)
    backbone = Backbone(
        model.backbone.name,
        model.backbone.norm,
        model.backbone.added_channels if model.backbone.added_stages else None,
        model.backbone.freeze_stem,
    )
    fpn = FPN(backbone.channels, backbone.strides, model.pyramid_channels)
    return TASCNet(
        backbone=backbone,
        fpn=fpn,
        stuff_head=StuffHead(
            num_levels=len(fpn.strides),
            in_channels=fpn.channels,
            channels=model.stuff_head.channels,
            num_outputs=num_stuff + (num_things if model.stuff_head.outputs == "all" else 1),
        ),
        things_head=build_things_head(model.things_head, fpn, num_things),
        num_stuff=num_stuff,
        tasc_normalization=config.loss.tasc_normalization,
    )


def build_things_head(config: ThingsHeadConfig, fpn: FPN, num_things: int) -> ThingsHead:
    """The Mask R-CNN branches over a pyramid."""
    rpn_settings = RPNSettings(samples=config.rpn_samples, pre_nms=config.pre_nms, post_nms=config.post_nms)
    roi_settings = RoISettings(
        samples=config.roi_samples,
        sampling_ratio=config.sampling_ratio,
        score_threshold=config.score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
    )
    return ThingsHead(
        rpn=RPN(fpn.channels, fpn.strides, config.anchor_sizes, config.anchor_ratios, rpn_settings),
        channels=fpn.channels,
        strides=fpn.strides,
        num_things=num_things,
        box_channels=config.box_channels,
        mask_channels=config.mask_channels,
        num_mask_convs=config.mask_convs,
        settings=roi_settings,
    )


def build_fusion(config: FusionConfig, label_space: LabelSpace) -> Fusion:
    """The function that makes one segmentation of the outputs of both heads."""
    options = FusionOptions(
        score_threshold=config.score_threshold,
        overlap_threshold=config.overlap_threshold,
        min_stuff_area=config.min_stuff_area,
        unclaimed=config.unclaimed,
    )
    fuse = fuse_mask_guided if config.method == "mask-guided" else fuse_unguided
    return partial(_fuse, fuse, label_space, options)


def build_optimizer(config: OptimizerConfig, model: TASCNet, images_per_step: int = 0) -> optim.Optimizer:
    """The optimiser; biases and norms are not decayed, the backbone's stages have their own learning rates.

    Args:
        config: which one.
        model: whose weights.
        images_per_step: over all processes, for the linear rule; 0 takes the learning rate as it is.
    """
    base = config.lr
    if config.lr_batch and images_per_step:
        base *= images_per_step / config.lr_batch
    factors = {
        id(parameter): config.backbone_lr_factor * config.backbone_layer_decay**depth
        for depth, stage in enumerate(reversed(model.backbone.stages()))
        for parameter in stage
    }
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        lr = base * factors.get(id(parameter), 1)
        weight_decay = config.weight_decay if parameter.ndim > 1 else 0
        groups.setdefault((lr, weight_decay), []).append(parameter)
    parameters = [
        {"params": members, "lr": lr, "initial_lr": lr, "weight_decay": weight_decay}
        for (lr, weight_decay), members in groups.items()
    ]
    if config.name == "adamw":
        return optim.AdamW(parameters, lr=base)
    return optim.SGD(parameters, lr=base, momentum=config.momentum)


def learning_rate_factor(config: OptimizerConfig, step: int, progress: float) -> float:
    """The factor on the learning rate.

    Args:
        config: warm-up and schedule.
        step: number of steps taken, for the warm-up.
        progress: share of the training that is done, 0-1.
    """
    warmup = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule == "multi_step":
        return warmup * 0.1 ** sum(progress >= milestone for milestone in config.milestones)
    if config.schedule == "poly":
        return warmup * (1 - progress) ** config.poly_power
    return warmup * 0.5 * (1 + math.cos(math.pi * progress))


def _fuse(
    fuse: Callable[..., PanopticSegmentation],
    label_space: LabelSpace,
    options: FusionOptions,
    stuff_logits: Tensor,
    instances: Instances,
    size: Size,
) -> PanopticSegmentation:
    return fuse(stuff_logits, instances, label_space, size, options)
