"""torchvision's Mask R-CNN against torchvision itself: the same image, the same detections."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection import maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2
from torchvision.models.detection._utils import overwrite_eps

from tascnet.data.formats.coco_categories import COCO
from tascnet.errors import InputError
from tascnet.model.tascnet import Outputs
from tascnet.networks.foreign.foreign import read_foreign
from tascnet.networks.foreign.torchvision_rcnn import from_torchvision
from tascnet.networks.network import Network
from tascnet.networks.opening import open_network
from tascnet.structures import Instances

HEIGHT, WIDTH = 70, 110  # no multiples of 32: there is padding
PROPOSALS, SCORE, MOST = 30, 0.03, 1000


def network(make: Callable[..., nn.Module], num_classes: int = 91, seed: int = 0) -> Any:
    """torchvision's network with random weights that find many different things."""
    torch.manual_seed(seed)
    model = make(
        weights=None,
        weights_backbone=None,
        num_classes=num_classes,
        min_size=HEIGHT,
        max_size=WIDTH,
        rpn_post_nms_top_n_test=PROPOSALS,
        box_score_thresh=SCORE,
        box_detections_per_img=MOST,
    ).eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("running_mean"):
                tensor.normal_(0, 0.1)
            elif "bn3.weight" in name:
                tensor.fill_(0.2)  # so that features neither vanish nor explode over 16 blocks
            elif "predictor" in name or "rpn.head.cls_logits" in name or "rpn.head.bbox_pred" in name:
                tensor.normal_(0, 0.3 if "cls_score" in name else 0.2 if "mask_fcn_logits" in name else 0.05)
        if num_classes == 91:
            model.roi_heads.box_predictor.cls_score.bias[12] += 2  # an id that no category has takes part in scores
    return model


@torch.no_grad()
def theirs(model: Any, image: Tensor) -> dict[str, Tensor]:
    """Its detections in pixels of its input, with 28 x 28 masks."""
    images, _ = model.transform([image / 255])
    assert images.image_sizes == [(HEIGHT, WIDTH)]
    features = model.backbone(images.tensors)
    proposals, _ = model.rpn(images, features)
    return model.roi_heads(features, proposals, images.image_sizes)[0][0]


@torch.no_grad()
def ours(foreign: Network, image: Tensor) -> Instances:
    head = foreign.model.things_head
    head.rpn.settings = replace(head.rpn.settings, post_nms=PROPOSALS)
    head.settings = replace(head.settings, score_threshold=SCORE, max_detections=MOST)
    outputs = foreign.model(image[None])
    assert isinstance(outputs, Outputs)
    return outputs.instances[0]


def check_equal(found: Instances, wanted: dict[str, Tensor], ids: Tensor, least: int) -> None:
    """Of the wanted detections, those of known ids are found: boxes, labels, scores and masks."""
    known = torch.isin(wanted["labels"], ids)
    assert known.sum() >= least
    assert wanted["labels"][known].unique().numel() >= 4
    assert torch.equal(ids[found.labels], wanted["labels"][known])
    assert float((found.boxes - wanted["boxes"][known]).abs().max()) < 1e-4 * WIDTH
    assert float((found.scores - wanted["scores"][known]).abs().max()) < 1e-4
    assert float((found.masks - wanted["masks"][known][:, 0]).abs().max()) < 1e-4
    assert 0.2 < float((found.masks > 0.5).float().mean()) < 0.8


@pytest.mark.parametrize("make", [maskrcnn_resnet50_fpn, maskrcnn_resnet50_fpn_v2])
def test_detections_are_torchvisions_own(make: Callable[..., nn.Module]) -> None:
    model = network(make)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    foreign = from_torchvision(model.state_dict(), "coco.pth")
    assert foreign.label_space is COCO
    wanted = theirs(model, image)
    check_equal(ours(foreign, image), wanted, torch.tensor([category.id for category in COCO.things]), least=50)
    assert 12 in wanted["labels"]  # torchvision reports what it calls N/A, we do not


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The names of before torchvision 0.13, as its published v1 file has them."""
    patterns = (
        (r"(backbone\.fpn\.\w+_blocks\.\d)\.0\.(\w+)", r"\1.\2"),
        (r"rpn\.head\.conv\.0\.0\.(\w+)", r"rpn.head.conv.\1"),
        *((rf"roi_heads\.mask_head\.{n}\.0\.(\w+)", rf"roi_heads.mask_head.mask_fcn{n + 1}.\1") for n in range(4)),
    )
    for pattern, old in patterns:
        state = {re.sub(pattern, old, name): tensor for name, tensor in state.items()}
    return state


def test_own_classes_old_names_and_no_eps(tmp_path: Path) -> None:
    """torchvision reads old names by itself, and sets eps to zero for the file it publishes."""
    model = network(maskrcnn_resnet50_fpn, num_classes=7, seed=1)
    state = old_names(model.state_dict())
    assert "rpn.head.conv.weight" in state
    assert "backbone.fpn.inner_blocks.3.bias" in state
    assert "roi_heads.mask_head.mask_fcn4.weight" in state
    model.load_state_dict(state)
    overwrite_eps(model, 0.0)
    image = torch.randint(0, 256, (3, HEIGHT, WIDTH), dtype=torch.uint8)
    foreign = from_torchvision(state, "own.pth", frozen_eps=0.0)
    assert [category.name for category in foreign.label_space.things] == [f"thing {n}" for n in range(1, 7)]
    check_equal(ours(foreign, image), theirs(model, image), torch.arange(1, 7), least=15)
    with_eps = from_torchvision(state, "own.pth").model.backbone.state_dict()
    without = foreign.model.backbone.state_dict()
    assert not torch.equal(with_eps["network.bn1.weight"], without["network.bn1.weight"])


def test_the_published_file_is_known_by_its_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network(maskrcnn_resnet50_fpn, num_classes=3)
    path = tmp_path / "anything.pth"
    torch.save(model.state_dict(), path)
    assert not any("variance" in line for line in read_foreign(path).origin.weights)
    monkeypatch.setattr("tascnet.networks.foreign.foreign._checksum", lambda _: "bf2d0c1e0123")
    (told,) = [line for line in read_foreign(path).origin.weights if "variance" in line]
    assert "its norms add 0 to a variance" in told


def test_what_has_no_counterpart_is_told(tmp_path: Path) -> None:
    path = tmp_path / "mask_rcnn.pth"
    torch.save(network(maskrcnn_resnet50_fpn_v2, num_classes=3).state_dict(), path)
    opened = open_network(path)
    assert opened.origin.weights[0] == "mask_rcnn.pth, torchvision's Mask R-CNN v2"
    assert any(line.startswith("stuff head: a Mask R-CNN has none") for line in opened.origin.weights)
    assert not opened.config.model.backbone.added_stages
    mean = opened.model.backbone.pixel_mean.flatten().tolist()
    assert mean == pytest.approx([123.675, 116.28, 103.53])


def test_other_networks_of_torchvisions() -> None:
    state = network(maskrcnn_resnet50_fpn, num_classes=3).state_dict()
    with pytest.raises(InputError, match=r"a.pth .*not known here: roi_head\.keypoint"):
        from_torchvision(state | {"roi_head.keypoint": torch.zeros(1)}, "a.pth")
    slim = {name: tensor for name, tensor in state.items() if "layer3.5" not in name}
    with pytest.raises(InputError, match=r"a.pth: its backbone is no plain ResNet.*3, 4, 5, 3.*maskrcnn_resnet50_fpn"):
        from_torchvision(slim, "a.pth")
