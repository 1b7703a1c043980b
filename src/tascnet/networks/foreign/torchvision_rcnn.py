"""torchvision's Mask R-CNN, `maskrcnn_resnet50_fpn` and its `_v2` -> TASCNet without added stages.

Our parts are torchvision's own, so names differ little. What its detectors do otherwise is set by switches: RoIAlign is
off by half a pixel (`model.conventions`), and v2 has more convolutions, with norms, in pyramid and heads.
"""

import re

import torch
from torch import Tensor

from tascnet.config import (
    BackboneConfig,
    Config,
    DataConfig,
    DatasetConfig,
    InputConfig,
    ModelConfig,
    StuffHeadConfig,
    ThingsHeadConfig,
)
from tascnet.data.formats.coco_categories import COCO
from tascnet.data.problems import first_few
from tascnet.errors import InputError
from tascnet.networks.foreign.layout import Renaming, build_foreign, coco_or_numbered, resnet_of
from tascnet.networks.foreign.state_file import State
from tascnet.networks.network import Network

_LAST_COCO_ID = 90
"""Box classes of torchvision's COCO networks are the ids 1 to 90, of which ten are never used."""

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of its detectors' inputs, red, green, blue, 0-1

_EPS = 1e-5  # of our frozen norms, and of torchvision's

_RENAMING = Renaming(
    (
        (r"backbone\.body\.(.+)", r"backbone.network.\1"),
        # files from before torchvision 0.13 have no ".0" in these names
        (r"backbone\.fpn\.(\w+)_blocks\.(\d)\.(weight|bias)", r"fpn.pyramid.\1_blocks.\2.0.\3"),
        (r"backbone\.fpn\.(.+)", r"fpn.pyramid.\1"),
        (r"rpn\.head\.conv\.(weight|bias)", r"things_head.rpn.head.conv.0.0.\1"),
        (r"rpn\.head\.(.+)", r"things_head.rpn.head.\1"),
        *(
            (rf"roi_heads\.mask_head\.mask_fcn{number}\.(\w+)", rf"things_head.mask_head.{number - 1}.0.\1")
            for number in (1, 2, 3, 4)
        ),
        (r"roi_heads\.(.+)", r"things_head.\1"),
    )
)


def is_torchvision(state: State) -> bool:
    """Whether these are the tensors of a Mask R-CNN of torchvision's with a pyramid."""
    return {"backbone.body.conv1.weight", "roi_heads.mask_predictor.mask_fcn_logits.weight"} <= state.keys()


def from_torchvision(state: State, name: str, frozen_eps: float = _EPS) -> Network:
    """Backbone, pyramid, proposals, box and mask heads; the stuff head stays at initial values.

    Args:
        state: the tensors under torchvision's names, those of before its version 0.13 too.
        name: what to call the file in an error.
        frozen_eps: what the frozen norms of its backbone add to a variance. It is not in the file: 1e-5, but 0 for
            torchvision's published `maskrcnn_resnet50_fpn`.

    Raises:
        InputError: it is another network of torchvision's.
    """
    ours, unknown = _RENAMING(state)
    if unknown:
        raise InputError(
            f"{name} is a torchvision network with parts that are not known here: {first_few(unknown, 3)}. "
            "Known are maskrcnn_resnet50_fpn and maskrcnn_resnet50_fpn_v2."
        )
    decisions = [
        "stuff head: a Mask R-CNN has none; it stays at its initial values and needs training",
        "input: the file holds no normalisation; it is ImageNet's mean and deviation, torchvision's own",
    ]
    ours["backbone.pixel_mean"] = torch.tensor(_MEAN).view(3, 1, 1) * 255
    ours["backbone.pixel_std"] = torch.tensor(_STD).view(3, 1, 1) * 255
    if frozen_eps != _EPS:
        _change_eps(ours, frozen_eps)
        decisions.append(
            f"backbone: its norms add {frozen_eps:g} to a variance, ours {_EPS:g}; the scales make up for it"
        )
    things = list(range(1, len(ours["things_head.box_predictor.cls_score.weight"])))
    unused: list[int] = []
    if len(things) == _LAST_COCO_ID:
        used = {category.id for category in COCO.things}
        things, unused = sorted(used), sorted(set(things) - used)
        decisions.append(
            "box classes: COCO's 80 ids first, then the ten that no category has; those have no masks here"
        )
    _order_classes(ours, things, unused)
    label_space, told = coco_or_numbered(len(things), None)
    is_v2 = "things_head.box_head.0.0.weight" in ours
    return build_foreign(
        ours,
        _config(ours, name, len(unused)),
        label_space,
        [*decisions, told],
        source=f"{name}, torchvision's Mask R-CNN{' v2' if is_v2 else ''}",
        initial=("stuff_head.",),
    )


def _order_classes(ours: State, things: list[int], unused: list[int]) -> None:
    """Put the rows of the predictors in our order: background, things, unused classes. Only things have masks here."""
    rows = torch.tensor([0, *things, *unused])
    for name in ("weight", "bias"):
        for layer, chosen in (
            ("box_predictor.cls_score", rows),
            ("box_predictor.bbox_pred", (rows[:, None] * 4 + torch.arange(4)).flatten()),
            ("mask_predictor.mask_fcn_logits", torch.tensor(things)),
        ):
            key = f"things_head.{layer}.{name}"
            ours[key] = ours[key][chosen]


def _change_eps(ours: State, eps: float) -> None:
    """Scale the frozen norms so that with our eps they compute what they did with another."""
    for key in [key for key in ours if key.startswith("backbone.network.") and key.endswith("running_var")]:
        variance: Tensor = ours[key]
        scale = key.replace("running_var", "weight")
        ours[scale] = ours[scale] * ((variance + _EPS) / (variance + eps)).sqrt()


def _config(ours: State, name: str, unused_classes: int) -> Config:
    """The settings under which our network is this one; thresholds and sizes are those of torchvision's defaults."""
    try:
        resnet, widths = resnet_of(ours)
    except InputError as error:
        raise InputError(f"{name}: {error} Use maskrcnn_resnet50_fpn or its v2.") from error
    has_norms = "things_head.mask_head.0.1.running_mean" in ours
    box_convs = _count(r"things_head\.box_head\.\d+\.0\.weight", ours)
    fully_connected = f"things_head.box_head.{box_convs + 1}.weight" if box_convs else "things_head.box_head.fc6.weight"
    return Config(
        data=DataConfig(
            val=DatasetConfig(format="coco", split="val2017"),
            input=InputConfig(short_side=800, max_long_side=1333),
        ),
        model=ModelConfig(
            backbone=BackboneConfig(name=resnet, weights="random", added_stages=False, widths=widths),
            pyramid_channels=len(ours["fpn.pyramid.inner_blocks.0.0.weight"]),
            pyramid_norm="frozen_bn" if "fpn.pyramid.inner_blocks.0.1.running_mean" in ours else "none",
            stuff_head=StuffHeadConfig(),
            things_head=ThingsHeadConfig(
                rpn_convs=_count(r"things_head\.rpn\.head\.conv\.\d+\.0\.weight", ours),
                box_channels=len(ours.get(fully_connected, ())),
                box_convs=box_convs,
                unused_classes=unused_classes,
                mask_channels=len(ours["things_head.mask_head.0.0.weight"]),
                mask_convs=_count(r"things_head\.mask_head\.\d+\.0\.weight", ours),
                norm="frozen_bn" if has_norms else "none",
            ),
            conventions="torchvision",
        ),
    )


def _count(pattern: str, ours: State) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in ours)
