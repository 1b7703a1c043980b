"""Config -> data sets, network, fusion, optimiser: the only place where configuration turns into parts."""

import math
from dataclasses import replace

import torch
from torch import nn, optim

from tascnet.config import (
    CONVENTIONS,
    Config,
    Conventions,
    DataConfig,
    DatasetConfig,
    InputConfig,
    OptimizerConfig,
    StuffHeadConfig,
    ThingsHeadConfig,
)
from tascnet.data.formats.dataset import FormatDataset, PhotoDataset
from tascnet.data.formats.table import format_of
from tascnet.data.images import Exif
from tascnet.data.merged import MergedCategories, group_categories
from tascnet.data.problems import stop
from tascnet.data.rare import categories_of_images, repeat_factors
from tascnet.data.stream import PanopticDataset, TrainingStream
from tascnet.data.subset import FirstImages
from tascnet.data.transforms import Augment
from tascnet.errors import InputError, shorten
from tascnet.files import at_home
from tascnet.model.backbone import Backbone
from tascnet.model.fpn import FPN
from tascnet.model.rpn import RPN, RPNSettings
from tascnet.model.stuff_head import LABEL_OFFSET, StuffHead, SummedStuffHead
from tascnet.model.tasc_loss import TascForm
from tascnet.model.tascnet import TASCNet
from tascnet.model.things_head import RoISettings, ThingsHead
from tascnet.progress import SILENT, Observer
from tascnet.structures import LabelSpace, Size


def build_dataset(config: DatasetConfig, load_short_side: int = 0) -> PanopticDataset:
    """Open a data set: its files, its categories merged as `group_by` says, its first images.

    Args:
        config: which one.
        load_short_side: pixels to which the shorter side of larger photos is reduced; 0 for full size, which is what
            measuring wants. Generated streets have the size that the config says.

    Raises:
        InputError: there is no such format, or files are missing or are not what they should be.
    """
    return narrow(_open_dataset(config, load_short_side), config)


def with_exif(dataset: FormatDataset, exif: Exif) -> FormatDataset:
    """Set whether EXIF tags turn the photos of a data set, where it has files of photos."""
    if isinstance(dataset, PhotoDataset):
        dataset.exif = exif
    return dataset


def narrow(dataset: PanopticDataset, config: DatasetConfig) -> PanopticDataset:
    """A data set that is open already, with its categories merged as `group_by` says, or its first images alone.

    Raises:
        InputError: the categories cannot be merged so, or there are fewer images.
    """
    dataset = group_categories(dataset, config.group_by)
    if config.num_images and config.num_images != len(dataset):
        return FirstImages(dataset, config.num_images)
    return dataset


def innermost(dataset: PanopticDataset) -> PanopticDataset:
    """The data set that reads the files, without what `narrow` has put around it. Indices are the same."""
    while isinstance(dataset, MergedCategories | FirstImages):
        dataset = dataset.source
    return dataset


def _open_dataset(config: DatasetConfig, load_short_side: int) -> FormatDataset:
    config = replace(config, root=str(at_home(config.root)))
    return with_exif(format_of(config.format).open(config, load_short_side, stop), config.exif)


def build_stream(
    config: DataConfig, dataset: PanopticDataset, num_samples: int, seed: int, observer: Observer = SILENT
) -> TrainingStream:
    """The samples of a training, in order, augmented. What must be read before the first of them is read now.

    Args:
        config: augmentation, repetition of rare categories, whether images are held in memory.
        dataset: the training set.
        num_samples: length of the stream.
        seed: of order and augmentation.
        observer: receives the progress of reading.

    Raises:
        InputError: the data set is too small, or a file of it cannot be read.
    """
    factors = None
    if config.repeat_threshold:
        with observer.job("counting categories", len(dataset)) as job:
            factors = repeat_factors(categories_of_images(dataset, job.update), config.repeat_threshold)
    augment = build_augmentation(config.input, dataset.label_space)
    stream = TrainingStream(dataset, augment, num_samples, seed, config.input.copy_paste, factors)
    if config.keep_in_memory:
        with observer.job("reading", len(dataset)) as job:
            stream.keep_in_memory(job.update)
    return stream


def build_augmentation(config: InputConfig, label_space: LabelSpace) -> Augment:
    """The random changes of a training sample; pasting, which takes two, is the stream's."""
    short_sides = config.multi_scale or [config.short_side]
    return Augment(
        scale=config.scale_jitter,
        crop=Size(*config.crop) if config.crop else None,
        short_sides=tuple(side for side in short_sides if side),
        max_long_side=config.max_long_side,
        crop_on_things=config.crop_on_things,
        thing_ids=frozenset(category.id for category in label_space.things),
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
    model, conventions = config.model, CONVENTIONS[config.model.conventions]
    num_stuff, num_things = len(label_space.stuff), len(label_space.things)
    backbone = Backbone(
        model.backbone.name,
        model.backbone.norm,
        model.backbone.added_channels if model.backbone.added_stages else None,
        model.backbone.freeze_stem,
        model.backbone.widths,
        model.backbone.stride_in_1x1,
    )
    fpn = FPN(backbone.channels, backbone.strides, model.pyramid_channels, model.pyramid_norm)
    stuff_head = build_stuff_head(model.stuff_head, fpn, num_stuff, num_things, conventions)
    things_head = build_things_head(model.things_head, fpn, num_things, conventions)
    fpn.freeze_unread(max(len(stuff_head.levels), len(things_head.rpn.strides), len(things_head.strides)))
    return TASCNet(
        backbone=backbone,
        fpn=fpn,
        stuff_head=stuff_head,
        things_head=things_head,
        num_stuff=num_stuff,
        tasc=TascForm(
            config.loss.tasc_stuff_mask,
            config.loss.tasc_normalization,
            config.loss.tasc_gradient,
        ),
        conventions=model.conventions,
    )


def build_meta_model(config: Config, label_space: LabelSpace) -> TASCNet:
    """The network on the meta device, with shapes and types but no values: however large, it takes no memory.

    Raises:
        InputError: as `build_model`, or the settings describe a network that is too large for any machine.
    """
    try:
        with torch.device("meta"):
            return build_model(config, label_space)
    except (RuntimeError, OverflowError, TypeError, MemoryError) as error:
        reason = shorten(str(error).strip() or type(error).__name__)
        raise InputError(
            f"the settings describe a network that cannot be built ({reason}). Check the numbers in the group model."
        ) from error


def build_stuff_head(
    config: StuffHeadConfig, fpn: FPN, num_stuff: int, num_things: int, conventions: Conventions
) -> StuffHead | SummedStuffHead:
    """The per-pixel classifier over a pyramid."""
    num_outputs = num_stuff + (num_things if config.outputs == "all" else 1)
    offset = LABEL_OFFSET if conventions.label_at == "pixel" else 0.0
    if config.merge == "sum":
        return SummedStuffHead(fpn.channels, config.channels, num_outputs, offset)
    return StuffHead(len(fpn.strides), fpn.channels, config.channels, num_outputs, config.stride, offset)


def build_things_head(config: ThingsHeadConfig, fpn: FPN, num_things: int, conventions: Conventions) -> ThingsHead:
    """The Mask R-CNN branches over a pyramid."""
    rpn_settings = RPNSettings(
        samples=config.rpn_samples,
        pre_nms=config.pre_nms,
        post_nms=config.post_nms,
        smallest_side=conventions.smallest_proposal,
    )
    roi_settings = RoISettings(
        samples=config.roi_samples,
        sampling_ratio=config.sampling_ratio,
        aligned=conventions.aligned_rois,
        score_threshold=config.score_threshold,
        nms_iou=config.nms_iou,
        max_detections=config.max_detections,
        smallest_side=conventions.smallest_detection,
    )
    return ThingsHead(
        rpn=RPN(
            fpn.channels,
            fpn.strides,
            config.anchor_sizes,
            config.anchor_ratios,
            rpn_settings,
            config.rpn_convs,
            conventions.rounded_anchors,
        ),
        channels=fpn.channels,
        strides=fpn.strides,
        num_things=num_things,
        box_channels=config.box_channels,
        mask_channels=config.mask_channels,
        num_mask_convs=config.mask_convs,
        settings=roi_settings,
        num_box_convs=config.box_convs,
        norm=config.norm,
        num_unused_classes=config.unused_classes,
    )


def build_optimizer(
    config: OptimizerConfig, model: TASCNet, images_per_step: int = 0, fused: bool = True
) -> optim.Optimizer:
    """The optimiser; biases and norms are not decayed, the backbone's stages have their own learning rates.

    Args:
        config: which one.
        model: whose weights.
        images_per_step: over all processes, for the linear rule; 0 takes the learning rate as it is.
        fused: AdamW takes its step in one kernel, which is faster. That kernel divides by the scale of 16-bit
            gradients itself, so their norm cannot be computed before: False for 16-mixed.
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
        return optim.AdamW(parameters, lr=base, fused=fused)
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
