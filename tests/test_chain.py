"""Targets, fusion and metric fit together: the annotation, passed through all three as if predicted, scores near 100.

What is lost is what the network's outputs cannot hold: masks of 28 x 28, stuff at stride 4, and the smaller input.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation

from tascnet.config import FusionOptions
from tascnet.data.batch import collate
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.merged import group_categories
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.data.transforms import resize_short_side
from tascnet.fusion import fuse_mask_guided, fuse_unguided
from tascnet.metrics import PanopticQuality
from tascnet.model.tascnet import Outputs
from tascnet.model.things_head import mask_targets
from tascnet.structures import IGNORE, Instances, LabelSpace, PanopticSegmentation

MASK_SIDE = 28

Fuse = Callable[..., PanopticSegmentation]


def predict_the_annotation(sample: Sample, label_space: LabelSpace, fuse: Fuse) -> PanopticSegmentation:
    """The best that a network could say of a sample: its targets, in the form of outputs, fused."""
    batch = collate([sample], label_space)
    (target,), (size,) = batch.targets, batch.image_sizes
    masks = mask_targets(target.instance_map, target.boxes, torch.arange(len(target.labels)), MASK_SIDE)
    instances = Instances(target.boxes, target.labels, torch.ones(len(target.labels)), masks.float())
    stuff = stuff_shares(target.semantic, len(label_space.stuff) + 1)
    outputs = Outputs(stuff[None], [instances])
    options = FusionOptions(mask_threshold=0.5, min_stuff_area=1)
    return fuse(outputs.stuff_logits_of(0, size), instances, label_space, size, options).segmentation


def stuff_shares(semantic: torch.Tensor, num_outputs: int) -> torch.Tensor:
    """(H, W) -> (C, H / 4, W / 4): which part of each cell's labelled pixels every channel has.

    A network has an answer for every cell, so labels grow over cells that are wholly VOID.
    """
    planes = F.one_hot(semantic.clamp(0, num_outputs - 1), num_outputs).permute(2, 0, 1) * (semantic != IGNORE)
    shares = F.avg_pool2d(planes[None].float(), 4)
    while bool((empty := shares.sum(1, keepdim=True) == 0).any()):
        shares = torch.where(empty, F.max_pool2d(shares, kernel_size=3, stride=1, padding=1), shares)
    return (shares / shares.sum(1, keepdim=True))[0]


def quality(samples: list[Sample], label_space: LabelSpace, fuse: Fuse) -> float:
    """PQ in percent."""
    metric = PanopticQuality(label_space)
    for sample in samples:
        metric.update(predict_the_annotation(sample, label_space, fuse), sample.segmentation)
    result = metric.compute()
    assert result.all is not None
    return 100 * result.all.pq


@pytest.mark.parametrize(("fuse", "least"), [(fuse_unguided, 95), (fuse_mask_guided, 94)])
def test_annotated_streets_come_through(fuse: Fuse, least: float) -> None:
    streets = Streets(8)
    assert quality([streets[index] for index in range(8)], STREETS, fuse) > least


@pytest.mark.parametrize(("fuse", "least"), [(fuse_unguided, 95), (fuse_mask_guided, 94)])
def test_annotated_photos_come_through(shared_data: Path, fuse: Fuse, least: float) -> None:
    coco = group_categories(CocoPanoptic.from_layout(shared_data / "coco_mini", "train2017"), "supercategory")
    photos = [resize_short_side(coco[index], 288, 448) for index in range(8)]
    assert quality(photos, coco.label_space, fuse) > least
