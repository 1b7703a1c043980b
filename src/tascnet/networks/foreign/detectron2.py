"""detectron2's model zoo, Panoptic FPN and Mask R-CNN with R50-FPN and R101-FPN -> TASCNet.

What that code does otherwise, and what becomes of it:

    images are blue, green, red       the first convolution's input channels are turned round
    the mean is taken off, no more    pixel_mean, and a pixel_std of one
    strides are in the 1x1            model.backbone.stride_in_1x1
    anchors are not rounded           model.conventions
    background is the last class      rows of the classifier are moved
    things are semantic channel 0     rows of the classifier are moved: ours come last
"""

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from torch import Tensor

from tascnet.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetConfig,
    FusionOptions,
    InputConfig,
    ModelConfig,
    StuffHeadConfig,
    ThingsHeadConfig,
)
from tascnet.data.problems import first_few
from tascnet.errors import InputError
from tascnet.networks.foreign.layout import Renaming, build_foreign, coco_or_numbered, resnet_of
from tascnet.networks.foreign.state_file import State
from tascnet.networks.network import Network

_MEAN_BGR = (103.53, 116.28, 123.675)  # of the Caffe ResNets that the zoo starts from, 0-255
_STEM = 64  # channels of a ResNet's first convolution

_RENAMING = Renaming(
    (
        (r"pixel_(mean|std)", r"pixel_\1"),
        (r"(proposal_generator\.)?anchor_generator\.cell_anchors\.\d", ""),
        (r"backbone\.bottom_up\.stem\.conv1\.norm\.(\w+)", r"backbone.network.bn1.\1"),
        (r"backbone\.bottom_up\.stem\.conv1\.weight", r"backbone.network.conv1.weight"),
        *(
            (rf"backbone\.bottom_up\.res{stage + 1}\.(\d+)\.{theirs}", rf"backbone.network.layer{stage}.\1.{ours}")
            for stage in (1, 2, 3, 4)
            for theirs, ours in (
                (r"shortcut\.weight", r"downsample.0.weight"),
                (r"shortcut\.norm\.(\w+)", r"downsample.1.\2"),
                (r"conv(\d)\.weight", r"conv\2.weight"),
                (r"conv(\d)\.norm\.(\w+)", r"bn\2.\3"),
            )
        ),
        *(
            (rf"backbone\.fpn_{theirs}{level}\.(\w+)", rf"fpn.pyramid.{ours}.{level - 2}.0.\1")
            for level in (2, 3, 4, 5)
            for theirs, ours in (("lateral", "inner_blocks"), ("output", "layer_blocks"))
        ),
        (r"proposal_generator\.rpn_head\.conv\.(\w+)", r"things_head.rpn.head.conv.0.0.\1"),
        (r"proposal_generator\.rpn_head\.objectness_logits\.(\w+)", r"things_head.rpn.head.cls_logits.\1"),
        (r"proposal_generator\.rpn_head\.anchor_deltas\.(\w+)", r"things_head.rpn.head.bbox_pred.\1"),
        (r"roi_heads\.box_head\.fc1\.(\w+)", r"things_head.box_head.fc6.\1"),
        (r"roi_heads\.box_head\.fc2\.(\w+)", r"things_head.box_head.fc7.\1"),
        (r"roi_heads\.box_predictor\.(\w+)\.(\w+)", r"things_head.box_predictor.\1.\2"),
        *(
            (rf"roi_heads\.mask_head\.mask_fcn{number}\.(\w+)", rf"things_head.mask_head.{number - 1}.0.\1")
            for number in (1, 2, 3, 4)
        ),
        (r"roi_heads\.mask_head\.deconv\.(\w+)", r"things_head.mask_predictor.conv5_mask.\1"),
        (r"roi_heads\.mask_head\.predictor\.(\w+)", r"things_head.mask_predictor.mask_fcn_logits.\1"),
        *(
            (rf"sem_seg_head\.p{level}\.(\d)\.{theirs}", rf"stuff_head.levels.{level - 2}.\1.{ours}")
            for level in (2, 3, 4, 5)
            for theirs, ours in ((r"weight", r"0.weight"), (r"norm\.(\w+)", r"1.\2"))
        ),
        (r"sem_seg_head\.predictor\.(\w+)", r"stuff_head.classifier.\1"),
    )
)


def is_detectron2(state: State) -> bool:
    """Whether these are the tensors of a detectron2 network with a pyramid and instance masks."""
    return {"backbone.bottom_up.stem.conv1.weight", "roi_heads.mask_head.predictor.weight"} <= state.keys()


def from_detectron2(state: State, name: str) -> Network:
    """Panoptic FPN, or Mask R-CNN, whose stuff head then stays at initial values.

    Args:
        state: the tensors under detectron2's names.
        name: what to call the file in an error.

    Raises:
        InputError: it is another network of detectron2's.
    """
    ours, unknown = _RENAMING(state)
    if unknown:
        raise InputError(
            f"{name} is a detectron2 network with parts that are not known here: {first_few(unknown, 3)}. "
            "Known are the zoo's Panoptic FPN and Mask R-CNN with R50-FPN and R101-FPN."
        )
    decisions = ["input: blue, green, red there; the first convolution's channels are turned round to red, green, blue"]
    mean, std = _normalization(ours)
    ours["backbone.pixel_mean"], ours["backbone.pixel_std"] = mean, std
    stem = ours["backbone.network.conv1.weight"].flip(1)
    if len(stem) < _STEM:
        decisions.append(f"stem: {len(stem)} channels, filled up to {_STEM} with channels of zeros; the rest is equal")
        _fill_up_stem(ours, stem)
    else:
        ours["backbone.network.conv1.weight"] = stem
    is_panoptic = "stuff_head.classifier.weight" in ours
    num_things = len(ours["things_head.mask_predictor.mask_fcn_logits.weight"])
    num_stuff = len(ours["stuff_head.classifier.weight"]) - 1 if is_panoptic else None
    label_space, told = coco_or_numbered(num_things, num_stuff)
    decisions.append(told)
    _move_background_first(ours)
    decisions.append(
        "box classes: background is last there, first here; its four box shifts, which nothing reads, are 0"
    )
    if is_panoptic:
        for key in ("stuff_head.classifier.weight", "stuff_head.classifier.bias"):
            ours[key] = ours[key].roll(-1, 0)
        decisions.append("stuff channels: things are first there, last here")
    else:
        decisions.append("stuff head: a Mask R-CNN has none; it stays at its initial values and needs training")
    kind = "Panoptic FPN" if is_panoptic else "Mask R-CNN"
    return build_foreign(
        ours,
        _config(ours, name, is_panoptic, caffe_style=bool((std == 1).all())),
        label_space,
        decisions,
        source=f"{name}, detectron2's {kind}",
        initial=() if is_panoptic else ("stuff_head.",),
    )


def _normalization(ours: State) -> tuple[Tensor, Tensor]:
    """Mean and deviation in the order red, green, blue; files that hold none have the zoo's."""
    mean = ours.pop("pixel_mean", torch.tensor(_MEAN_BGR))
    std = ours.pop("pixel_std", torch.ones(3))
    return mean.float().flatten().flip(0).view(3, 1, 1), std.float().flatten().flip(0).view(3, 1, 1)


def _fill_up_stem(ours: State, stem: Tensor) -> None:
    """Channels of zeros stay zero through norm, activation and pooling, and are read with weights of zero."""
    missing = _STEM - len(stem)
    ours["backbone.network.conv1.weight"] = F.pad(stem, (0, 0, 0, 0, 0, 0, 0, missing))
    for name in ("weight", "bias", "running_mean", "running_var"):
        key = f"backbone.network.bn1.{name}"
        ours[key] = F.pad(ours[key], (0, missing), value=float(name == "running_var"))
    for key in ("backbone.network.layer1.0.conv1.weight", "backbone.network.layer1.0.downsample.0.weight"):
        ours[key] = F.pad(ours[key], (0, 0, 0, 0, 0, missing))


def _move_background_first(ours: State) -> None:
    for name in ("weight", "bias"):
        scores, shifts = f"things_head.box_predictor.cls_score.{name}", f"things_head.box_predictor.bbox_pred.{name}"
        ours[scores] = ours[scores].roll(1, 0)
        ours[shifts] = torch.cat((torch.zeros_like(ours[shifts][:4]), ours[shifts]))


def _config(ours: State, name: str, is_panoptic: bool, caffe_style: bool) -> Config:
    """The settings under which our network is this one; thresholds and sizes are those of detectron2's defaults."""
    try:
        resnet, widths = resnet_of(ours)
    except InputError as error:
        raise InputError(f"{name}: {error} Use the zoo's R50-FPN or R101-FPN.") from error
    stuff_channels = ours["stuff_head.classifier.weight"].shape[1] if is_panoptic else 128
    return Config(
        data=DataConfig(
            val=DatasetConfig(format="coco", split="val2017"),
            input=InputConfig(short_side=800, max_long_side=1333),
        ),
        model=ModelConfig(
            backbone=BackboneConfig(
                name=resnet, weights="random", added_stages=False, widths=widths, stride_in_1x1=caffe_style
            ),
            pyramid_channels=len(ours["fpn.pyramid.inner_blocks.0.0.weight"]),
            stuff_head=StuffHeadConfig(channels=stuff_channels, merge="sum"),
            things_head=ThingsHeadConfig(
                box_channels=len(ours["things_head.box_head.fc6.weight"]),
                mask_channels=len(ours["things_head.mask_head.0.0.weight"]),
                sampling_ratio=0,
            ),
            conventions="detectron2",
        ),
        fusion=FusionOptions(method="unguided", mask_threshold=0.5, min_stuff_area=4096),
    )
