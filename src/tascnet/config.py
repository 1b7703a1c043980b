"""The schema of a run: dataclasses of plain values, read from YAML and flags; `settings.py` checks them.

Every field of a configuration file is described here, with its unit; `tascnet train --help` prints these texts.
Below `build.py` only fusion and the table of data formats use any of these classes; parts take explicit arguments.
"""

from dataclasses import dataclass, field
from typing import Literal

OnBadSample = Literal["fail", "skip"]
"""What becomes of a sample that cannot be read: it ends everything, or it is skipped and told of."""

Accelerator = Literal["auto", "cpu", "cuda", "mps"]
"""Where a training computes; "auto" takes a GPU if there is one."""

ConventionsName = Literal["tascnet", "detectron2", "torchvision"]
"""Whose definitions of details a network is run with."""


@dataclass(frozen=True)
class Conventions:
    """Details that projects define differently; weights of one give other results under the definitions of another.

    Attributes:
        rounded_anchors: sides of the anchors are brought to whole pixels.
        aligned_rois: RoIAlign is half-pixel correct.
        label_at: the point of a cell that its stuff logits stand for: the centre of the "pixel" whose label the loss
            reads, half a pixel below and to the right of the cell's centre; or the cell's "centre", where the loss
            reads interpolated logits.
        smallest_proposal, smallest_detection: boxes with a shorter side are dropped, pixels; with 0, empty ones only.
        via_input: stuff logits are interpolated to the size of the network's input first, and from there to the
            image's; slower, and differs in few pixels.
        resize_with: library that resizes images in prediction. The two differ by 1 of 255 in few values.
    """

    rounded_anchors: bool = True
    aligned_rois: bool = True
    label_at: Literal["pixel", "centre"] = "pixel"
    smallest_proposal: float = 1e-3
    smallest_detection: float = 1e-2
    via_input: bool = False
    resize_with: Literal["torchvision", "pillow"] = "torchvision"


CONVENTIONS: dict[ConventionsName, Conventions] = {
    "tascnet": Conventions(),
    "detectron2": Conventions(
        rounded_anchors=False,
        label_at="centre",
        smallest_proposal=0.0,
        smallest_detection=0.0,
        via_input=True,
        resize_with="pillow",
    ),
    "torchvision": Conventions(aligned_rois=False),
}


@dataclass
class BackboneConfig:
    """The shared backbone.

    Args:
        name: any timm network with features at strides 4, 8, 16 and 32; a tag behind a dot, such as
            resnet50.a1_in1k, chooses among its ImageNet weights.
        weights: start from ImageNet weights ("imagenet"), from a .safetensors or .pth file with weights of this timm
            network (its path), or from random ones ("random"). The input normalisation comes with the weights.
        norm: what stands in place of the backbone's batch norm.
        added_stages: add the stages C6 and C7 (strides 64 and 128); without them the pyramid is the plain FPN.
        added_channels: width of the added stages, channels.
        freeze_stem: do not train the layers up to C2; they keep their pretrained weights.
        widths: of the four stages of a ResNet, where they are not 64, 128, 256, 512; empty for the network's own.
        stride_in_1x1: bottlenecks halve the resolution in their first 1x1 convolution, as Caffe's ResNets do, not in
            the 3x3 one; detectron2's ResNets need it.
    """

    name: str = "resnet50"
    weights: str = "imagenet"
    norm: Literal["frozen_bn", "bn", "sync_bn", "gn"] = "frozen_bn"
    added_stages: bool = True
    added_channels: int = 512
    freeze_stem: bool = False
    widths: list[int] = field(default_factory=list)
    stride_in_1x1: bool = False


@dataclass
class StuffHeadConfig:
    """The stuff head.

    Args:
        channels: width of its convolutions.
        outputs: "stuff+things" gives one channel for all things, "all" one for each category.
        merge: how the levels come together; "concatenate" (TASCNet's head), or "sum" (Panoptic FPN's head, which reads
            P2..P5 alone; its channels are a multiple of 32).
        stride: input pixels a pixel of its logits, 4 or 2 (concatenate).
    """

    channels: int = 128
    outputs: Literal["stuff+things", "all"] = "stuff+things"
    merge: Literal["concatenate", "sum"] = "concatenate"
    stride: Literal[2, 4] = 4


@dataclass
class ThingsHeadConfig:
    """The things head: region proposals, box branch, mask branch.

    Args:
        anchor_sizes: side of the anchors on P2, P3, ..., pixels.
        anchor_ratios: height / width of the anchors.
        rpn_convs: 3x3 convolutions of the proposal network.
        rpn_samples: anchors an image that the losses look at.
        pre_nms: best anchors a level that enter NMS.
        post_nms: proposals an image.
        roi_samples: RoIs an image that the losses look at, a quarter of them objects.
        box_channels: width of the box branch.
        box_convs: 3x3 convolutions of the box branch, before one fully connected layer; 0 for two fully connected ones.
        unused_classes: box classes that no category has, kept for their part in the softmax; torchvision's COCO
            networks have 10.
        mask_channels: width of the mask branch.
        mask_convs: number of its 3x3 convolutions.
        norm: what follows the 3x3 convolutions of both branches.
        sampling_ratio: points a side that RoIAlign reads in each cell; 0 adapts to the size of the RoI.
        score_threshold: detections with a lower score are dropped.
        nms_iou: detections overlapping a better one of their category by more are dropped.
        max_detections: detections kept in an image.
    """

    anchor_sizes: list[int] = field(default_factory=lambda: [32, 64, 128, 256, 512])
    anchor_ratios: list[float] = field(default_factory=lambda: [0.5, 1.0, 2.0])
    rpn_convs: int = 1
    rpn_samples: int = 256
    pre_nms: int = 1000
    post_nms: int = 1000
    roi_samples: int = 512
    box_channels: int = 1024
    box_convs: int = 0
    unused_classes: int = 0
    mask_channels: int = 256
    mask_convs: int = 4
    norm: Literal["none", "frozen_bn", "bn"] = "none"
    sampling_ratio: int = 2
    score_threshold: float = 0.05
    nms_iou: float = 0.5
    max_detections: int = 100


@dataclass
class ModelConfig:
    """The network.

    Args:
        backbone: image -> C2..C7.
        pyramid_channels: width of every pyramid level.
        pyramid_norm: what follows the convolutions of the pyramid.
        stuff_head: pyramid -> per-pixel logits.
        things_head: pyramid -> objects.
        conventions: whose definitions of details the weights were trained with, and are run with: those of this project
            (tascnet), or of detectron2 or torchvision for networks from there; docs/weights.md lists them.
    """

    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    pyramid_channels: int = 256
    pyramid_norm: Literal["none", "frozen_bn", "bn"] = "none"
    stuff_head: StuffHeadConfig = field(default_factory=StuffHeadConfig)
    things_head: ThingsHeadConfig = field(default_factory=ThingsHeadConfig)
    conventions: ConventionsName = "tascnet"


@dataclass(frozen=True)
class FusionOptions:
    """From the outputs of the two heads to one panoptic segmentation: how instances and stuff share the pixels.

    Args:
        method: by the evidence of both heads in each pixel ("joint"); guided to the letter, pixels of instances lie
            where both heads see things ("mask-guided"); or Panoptic FPN's merge ("unguided"). docs/results.md compares.
        score_threshold: instances with a lower score are dropped; "joint" scores them by box and mask.
        overlap_threshold: an instance that can claim less than this share of its mask is dropped.
        mask_threshold: probability above which a pixel belongs to an instance; measures better than the field's 0.5.
        min_stuff_share: stuff segments of less than this share of the image become VOID. The default lies between the
            shares that the field's pixels are of their images: 0.001 of Cityscapes', 0.013 of COCO's.
        min_stuff_area: the same in pixels of the image, in place of the share; COCO takes 4096, Cityscapes 2048.
        unclaimed: what becomes of pixels that the stuff head calls things and no instance claims: "void" (measures
            better), or the best "stuff" category there.
        veto: how much it counts against an instance's pixel that the stuff head sees stuff there (joint); 0 for not.
    """

    method: Literal["joint", "mask-guided", "unguided"] = "joint"
    score_threshold: float = 0.5
    overlap_threshold: float = 0.5
    mask_threshold: float = 0.4
    min_stuff_share: float = 0.005
    min_stuff_area: int | None = None
    unclaimed: Literal["void", "stuff"] = "void"
    veto: float = 0.25

    def smallest_stuff(self, size: tuple[int, int]) -> float:
        """The area of the smallest stuff segment that is kept in an image of that height and width, pixels."""
        if self.min_stuff_area is not None:
            return self.min_stuff_area
        height, width = size
        return self.min_stuff_share * height * width


@dataclass
class LossConfig:
    """How the losses add up.

    Args:
        stuff: weight of the stuff head's cross entropy.
        tasc: weight of the consistency loss after its warm-up; 0 trains without it.
        tasc_warmup_steps: steps over which its weight rises from 0; early on, both things masks are empty or wrong.
        tasc_stuff_mask: what of the stuff head is compared with the things head: its probability of things
            ("probability"), or 0 where that is not above one half ("confidence", the letter of the paper's reading).
        tasc_normalization: mean over all labelled pixels ("valid"), or those that a head calls things ("active").
        tasc_gradient: which head learns from it; the things head alone measures best, "both" is the literal reading.
    """

    stuff: float = 1.0
    tasc: float = 1.0
    tasc_warmup_steps: int = 500
    tasc_stuff_mask: Literal["confidence", "probability"] = "probability"
    tasc_normalization: Literal["valid", "active"] = "active"
    tasc_gradient: Literal["both", "things"] = "things"


@dataclass
class DatasetConfig:
    """One data set.

    Args:
        format: streets (generated scenes), or files: coco (COCO panoptic), cityscapes, vistas (Mapillary Vistas),
            png_pairs, or coco_instances (with semantic PNGs).
        root: folder of the data set (all but streets); docs/data_formats.md shows what it holds.
        split: name of the split, such as train2017 (png_pairs: a folder in root; empty for root itself).
        version: of the annotation (vistas).
        form: which files of the annotation are read (vistas): panoptic JSON and PNG, or 16-bit PNGs of instances.
        group_by: merge categories; "none", "supercategory" (27 groups of COCO's 133), or the path of a YAML file with
            lines "new name: [old name, ...]".
        overlaps: what becomes of instances that overlap (coco_instances); "error", "smaller-in-front", or names of
            categories with commas between them, those in front first.
        exif: apply turns and mirrors photos as their EXIF tag wants it, unless only the stored pixels have the size of
            their annotation; ignore takes the stored pixels, for annotation that was made on them.
        num_images: use only the first so many; 0 means all (streets: must be given).
        seed: of the scenes (streets).
        first: index of the first scene (streets); scenes of disjoint ranges differ.
        height: of the scenes (streets), pixels.
        width: of the scenes (streets), pixels.
        difficulty: of the scenes (streets); hard adds crowds of overlapping things, small ones far away, and stuff that
            looks like things.
    """

    format: str = "streets"
    root: str = ""
    split: str = ""
    version: Literal["v1.2", "v2.0"] = "v1.2"
    form: Literal["panoptic", "instances"] = "panoptic"
    group_by: str = "none"
    overlaps: str = "error"
    exif: Literal["apply", "ignore"] = "apply"
    num_images: int = 0
    seed: int = 0
    first: int = 0
    height: int = 256
    width: int = 512
    difficulty: Literal["normal", "hard"] = "normal"


@dataclass
class InputConfig:
    """How photos become the network's input.

    Args:
        short_side: length to which the short side is brought, pixels; 0 keeps the photo's size.
        multi_scale: lengths of the short side, pixels, of which one is drawn for each sample in place of short_side
            (training); empty for short_side.
        max_long_side: upper bound of the long side, pixels.
        load_short_side: photos of files are read with their short side reduced to this, pixels, their annotation
            too (training); 0 reads all of them. Photos of 20 megapixels then take a fraction of time and memory.
            About short_side times the largest scale_jitter loses nothing. Evaluation reads at full size.
        scale_jitter: range of the random factor on the size (training); 0.1, 2.0 is the large-scale jitter.
        crop: height and width of the random crop, pixels (training); empty for none. Smaller photos are padded.
        crop_on_things: probability that the crop is laid around a thing, its category drawn first, instead of
            anywhere (training).
        copy_paste: probability that things of another training image are pasted in (training).
        flip: probability of a horizontal flip (training).
        color_jitter: strength of random brightness, contrast and saturation, 0-1 (training).
    """

    short_side: int = 0
    max_long_side: int = 4096
    multi_scale: list[int] = field(default_factory=list)
    load_short_side: int = 0
    scale_jitter: tuple[float, float] = (1.0, 1.0)
    crop: list[int] = field(default_factory=list)
    crop_on_things: float = 0.0
    copy_paste: float = 0.0
    flip: float = 0.5
    color_jitter: float = 0.0


@dataclass
class DataConfig:
    """What is trained on, what is validated on, and how both are read.

    Args:
        train: the training set.
        val: the validation set.
        input: photos -> input of the network.
        batch_size: images of a batch; each process takes one a step, or training.accumulate of them.
        repeat_threshold: images with a category that is in a smaller share of the images (0-1) than this come several
            times an epoch: sqrt(threshold / share) times for the rarest category of the image; 0 shows each once.
        workers: processes that load data, for each process that trains; 0 loads in the training process.
        on_bad_sample: a sample that cannot be read ends the run ("fail"); or, in training, another takes its place,
            and in validation it is left out, and the report says so ("skip").
        keep_in_memory: read every training image before the first step and hold it; for small data sets.
    """

    train: DatasetConfig = field(default_factory=DatasetConfig)
    val: DatasetConfig = field(default_factory=DatasetConfig)
    input: InputConfig = field(default_factory=InputConfig)
    batch_size: int = 2
    repeat_threshold: float = 0.0
    workers: int = 0
    on_bad_sample: OnBadSample = "fail"
    keep_in_memory: bool = False


@dataclass
class OptimizerConfig:
    """The optimiser and the course of its learning rate.

    Args:
        name: stochastic gradient descent with momentum, or AdamW.
        lr: learning rate after the warm-up.
        lr_batch: images of a step that `lr` is meant for; with k times as many, k times `lr` is used (the linear rule,
            Goyal et al. 2017). Steps and warm-up stay as they are given. 0 uses `lr` as it is.
        momentum: of SGD.
        weight_decay: not applied to biases and norms.
        backbone_lr_factor: the backbone's learning rate is `lr` times this.
        backbone_layer_decay: from the stage of C5 to those of C4, C3, C2 its learning rate falls by this factor each,
            0-1; 1 gives all the same.
        clip_norm: gradients are scaled down to this norm; 0 for no clipping.
        warmup_steps: the learning rate rises linearly over these steps.
        schedule: course after the warm-up.
        milestones: progress (0-1) at which the learning rate falls to a tenth (multi_step).
        poly_power: exponent of the decay (poly).
    """

    name: Literal["sgd", "adamw"] = "sgd"
    lr: float = 0.01
    lr_batch: int = 0
    momentum: float = 0.9
    weight_decay: float = 1e-4
    backbone_lr_factor: float = 1.0
    backbone_layer_decay: float = 1.0
    clip_norm: float = 0.0
    warmup_steps: int = 500
    schedule: Literal["multi_step", "poly", "cosine"] = "multi_step"
    milestones: list[float] = field(default_factory=lambda: [0.67, 0.89])
    poly_power: float = 0.9


@dataclass
class TrainingConfig:
    """The course of the training.

    Args:
        steps: number of optimiser steps.
        max_minutes: upper bound of the training time, minutes, 0 for none; the learning rate then follows whichever
            of steps and time is further on.
        validate_every: steps between validations; 0 validates at the end only.
        checkpoint_every: steps between checkpoints.
        log_every: steps between lines of metrics.
        show_images: pictures that TensorBoard shows of each validation, spread evenly over the validation set.
        precision: number format; on CPUs bf16 can be ten times slower than 32-true.
        accelerator: where to compute; "auto" takes a GPU if there is one.
        devices: GPUs of this machine that train together, or processes on a CPU; torchrun brings its own number.
        strategy: what each of several processes holds; the whole network and its part of the images (ddp), or also only
            a part of every weight, its gradient and the optimiser's state (fsdp), for less memory.
        accumulate: batches whose gradients are added up to one step; a step then takes batch_size x accumulate images
            of each process.
        compile: compile the dense parts of the network; where that fails, a message says so and training goes on.
        ema_decay: keep an average of the weights that forgets at this rate a step, 0-1, and measure it beside them;
            0 keeps none. 0.999 suits a training of 10,000 steps.
        keep_last: so many of the newest checkpoints are kept, and the one with the best PQ.
        resume_if_exists: go on with the run in the output folder if it holds a checkpoint; for machines that start a
            command again after a failure.
        channels_last: keep images with their channels innermost; quicker for depth-wise convolutions on CPUs.
        seed: of weights, order and augmentation.
        init: start from this network, named as for any verb. What fits is taken over, the rest starts at random, and
            both are told; docs/weights.md. Empty for none.
    """

    steps: int = 10000
    max_minutes: float = 0.0
    validate_every: int = 0
    checkpoint_every: int = 1000
    log_every: int = 20
    show_images: int = 4
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    accelerator: Accelerator = "auto"
    devices: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    accumulate: int = 1
    compile: bool = False
    ema_decay: float = 0.0
    keep_last: int = 2
    resume_if_exists: bool = False
    channels_last: bool = True
    seed: int = 0
    init: str = ""


@dataclass
class Config:
    """All of a run.

    Args:
        data: what is trained and validated on.
        model: the network.
        loss: how the losses add up.
        fusion: from outputs to a panoptic segmentation.
        optimizer: optimiser and learning rate.
        training: the course of the training.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    fusion: FusionOptions = field(default_factory=FusionOptions)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
