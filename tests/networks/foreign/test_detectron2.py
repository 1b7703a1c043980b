"""detectron2's checkpoints: against what detectron2 computes (golden), and against naive code by its names."""

import copy
import pickle
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import zoo_layout as zoo
from torch import Tensor

from tascnet.data.formats.coco_categories import COCO
from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.networks.foreign.detectron2 import from_detectron2
from tascnet.networks.foreign.state_file import read_state
from tascnet.networks.network import Network
from tascnet.networks.opening import open_network

GOLDEN_SCRIPT = Path(__file__).parents[3] / "benchmarks" / "golden.py"


@pytest.fixture(scope="module")
def compared(golden: Path) -> tuple[list[Any], list[Any]]:
    return runpy.run_path(str(GOLDEN_SCRIPT))["compare"](golden)


def test_golden_arrays_in_single_precision(compared: tuple[list[Any], list[Any]]) -> None:
    differences, _ = compared
    assert len(differences) == 12
    # in single precision, scores of detectron2 itself are 0.8e-4 away from those in double precision, and so are ours
    assert {row.array: row.relative for row in differences if not row.relative <= 2e-4} == {}


def test_golden_arrays_to_a_ten_thousandth(golden: Path) -> None:
    differences, _ = runpy.run_path(str(GOLDEN_SCRIPT))["compare"](golden, double=True)
    assert len(differences) == 12
    assert {row.array: row.relative for row in differences if not row.relative <= 1e-4} == {}


def test_golden_maps(compared: tuple[list[Any], list[Any]]) -> None:
    _, agreements = compared
    assert len(agreements) == 4
    assert all(row.pixels >= 0.999 and row.same_segments for row in agreements), agreements


def check_features(model: TASCNet, state: Mapping[str, Tensor], blocks: tuple[int, ...]) -> None:
    """C2..C5 of our backbone are res2..res5; in double precision, because random networks magnify rounding."""
    image = torch.randint(0, 256, (1, 3, 64, 96)).double()
    backbone = copy.deepcopy(model.backbone).double()
    with torch.no_grad():
        ours = backbone(backbone.normalize(image))
    theirs = zoo.naive_features({name: tensor.double() for name, tensor in state.items()}, image.flip(1), blocks)
    for mine, naive in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, naive, rtol=1e-5, atol=1e-5)


def test_features_against_naive_code(panoptic_fpn: Network, panoptic_fpn_file: Path) -> None:
    check_features(panoptic_fpn.model, read_state(panoptic_fpn_file), (3, 4, 6, 3))


def test_semantic_logits_against_naive_code(panoptic_fpn: Network, panoptic_fpn_file: Path) -> None:
    pyramid = [torch.randn(1, zoo.PYRAMID, 32 // 2**level, 48 // 2**level) for level in range(5)]
    theirs = zoo.naive_semantic_logits(read_state(panoptic_fpn_file), pyramid[:4])
    with torch.no_grad():
        ours = panoptic_fpn.model.stuff_head(pyramid)
    torch.testing.assert_close(ours[:, :53], theirs[:, 1:], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours[:, 53], theirs[:, 0], rtol=1e-4, atol=1e-4)


def test_panoptic_fpn_of_coco(panoptic_fpn: Network) -> None:
    assert panoptic_fpn.label_space is COCO
    assert panoptic_fpn.config.fusion.method == "unguided"
    assert panoptic_fpn.model.backbone.pixel_mean.flatten().tolist() == pytest.approx([123.675, 116.28, 103.53])
    assert panoptic_fpn.model.backbone.pixel_std.flatten().tolist() == [1, 1, 1]
    assert panoptic_fpn.origin.weights[0] == "panoptic.pkl, detectron2's Panoptic FPN"


def test_background_and_things_change_places(panoptic_fpn: Network, panoptic_fpn_file: Path) -> None:
    theirs = read_state(panoptic_fpn_file)
    predictor = panoptic_fpn.model.things_head.box_predictor
    scores = theirs["roi_heads.box_predictor.cls_score.bias"]
    assert torch.equal(predictor.cls_score.bias, torch.cat((scores[80:], scores[:80])))
    shifts = theirs["roi_heads.box_predictor.bbox_pred.weight"]
    assert torch.equal(predictor.bbox_pred.weight[4:], shifts)
    assert not predictor.bbox_pred.weight[:4].any()


@pytest.mark.parametrize(
    ("num_things", "blocks", "name"), [(80, (3, 4, 6, 3), "resnet50"), (5, (3, 4, 23, 3), "resnet101")]
)
def test_mask_rcnn_of_any_number_of_classes(num_things: int, blocks: tuple[int, ...], name: str) -> None:
    torch.manual_seed(0)
    state = zoo.detectron2_state(num_things, None, blocks)
    foreign = from_detectron2(state, "mask_rcnn.pkl")
    assert foreign.config.model.backbone.name == name
    assert len(foreign.label_space.things) == num_things
    assert foreign.label_space is COCO if num_things == 80 else foreign.label_space.things[4].name == "thing 5"
    assert any(
        "stuff head: a Mask R-CNN has none; it stays at its initial values" in line for line in foreign.origin.weights
    )
    check_features(foreign.model, state, blocks)
    again = from_detectron2(state, "mask_rcnn.pkl").model.stuff_head.state_dict()
    assert all(torch.equal(again[key], value) for key, value in foreign.model.stuff_head.state_dict().items())


def test_buffers_that_zoo_files_hold(panoptic_fpn: Network, panoptic_fpn_file: Path, tmp_path: Path) -> None:
    state = {name: tensor.numpy() for name, tensor in read_state(panoptic_fpn_file).items()}
    state["pixel_mean"] = torch.tensor([103.53, 116.28, 123.675]).view(3, 1, 1).numpy()
    state["pixel_std"] = torch.ones(3, 1, 1).numpy()
    for level in range(5):
        state[f"proposal_generator.anchor_generator.cell_anchors.{level}"] = torch.zeros(3, 4).numpy()
    path = tmp_path / "panoptic.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "zoo"}))
    loaded = open_network(path).model.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in panoptic_fpn.model.state_dict().items())


def test_another_normalisation_in_the_file_counts() -> None:
    state = zoo.detectron2_state(2, None)
    state["pixel_mean"], state["pixel_std"] = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([50.0, 60.0, 70.0])
    foreign = from_detectron2(state, "a.pkl")
    assert foreign.model.backbone.pixel_mean.flatten().tolist() == [3, 2, 1]
    assert foreign.model.backbone.pixel_std.flatten().tolist() == [70, 60, 50]
    assert not foreign.config.model.backbone.stride_in_1x1  # a deviation means torchvision's kind of ResNet


def test_networks_of_other_kinds() -> None:
    state = zoo.detectron2_state(2, None)
    with pytest.raises(
        InputError, match=r"a.pkl .*parts that are not known here: roi_heads\.box_head\.conv1\.weight\. K"
    ):
        from_detectron2(state | {"roi_heads.box_head.conv1.weight": torch.zeros(1)}, "a.pkl")
    grouped = {name: t[:, :1] if ".res3.0.conv2.weight" in name else t for name, t in state.items()}
    with pytest.raises(InputError, match=r"a.pkl: its backbone is no plain ResNet.*in groups"):
        from_detectron2(grouped, "a.pkl")
    with pytest.raises(InputError, match=r"no plain ResNet-50, 101 or 152: 3, 4, 2, 3 bottlenecks"):
        from_detectron2(zoo.detectron2_state(2, None, (3, 4, 2, 3)), "a.pkl")
    del state["backbone.fpn_output3.bias"]
    with pytest.raises(
        InputError, match=r"1 tensors are missing.*layer_blocks\.1\.0\.bias .*nothing in the file, 32 exp"
    ):
        from_detectron2(state, "a.pkl")
