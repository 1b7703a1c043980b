"""One function opens all kinds of networks, and every verb takes what it opens."""

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
import torch
import yaml
import zoo_layout as zoo
from PIL import Image
from safetensors.torch import load_file, save_file
from said import Said

import tascnet
from tascnet.commands.predict import PredictedPhoto
from tascnet.config import Config
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.formats.coco_categories import COCO
from tascnet.errors import InputError
from tascnet.networks.checkpoint import find_checkpoint
from tascnet.networks.opening import load_network, open_network
from tascnet.networks.sharing import save_network
from tascnet.settings import to_dict
from tascnet.structures import PanopticSegmentation, Segment

Call = Callable[..., Said]

NARROW = (12, 240)
"""Height and width of a photo that is small at the zoo's size, too: its long side is brought to 1333 pixels."""


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*NARROW, 3), dtype=np.uint8)).save(path)
    return path


def test_a_run_and_a_checkpoint(tiny_run: Path) -> None:
    assert open_network(tiny_run).path == find_checkpoint(tiny_run)
    assert open_network(str(find_checkpoint(tiny_run))).origin.command


def test_opening_enters_few_files(tiny_run: Path) -> None:
    """At most 12, where model/ counts once: building a network calls the constructor of each of its parts."""
    package = Path(tascnet.__file__).parent
    entered: dict[str, None] = {}

    def enter(frame: FrameType, event: str, _: object) -> None:
        file = Path(frame.f_code.co_filename)
        if event == "call" and file.is_relative_to(package) and frame.f_code.co_name != "<module>":
            inside = file.relative_to(package)
            entered["model" if inside.parts[0] == "model" else inside.as_posix()] = None

    open_network(tiny_run)  # imports what is imported where it is used
    before = sys.getprofile()
    sys.setprofile(enter)
    try:
        network = open_network(tiny_run)
    finally:
        sys.setprofile(before)
    assert network.step == 2
    assert "model" in entered
    assert next(iter(entered)) == "networks/opening.py"
    assert len(entered) <= 12, list(entered)


def test_a_file(panoptic_fpn_file: Path) -> None:
    opened = open_network(panoptic_fpn_file)
    assert opened.path == panoptic_fpn_file
    assert opened.label_space is COCO
    assert opened.step == 0
    assert len(opened.origin.weights) >= 5


def test_the_same_tensors_in_another_kind_of_file(panoptic_fpn_file: Path, tmp_path: Path) -> None:
    state = pickle.loads(panoptic_fpn_file.read_bytes())["model"]
    save_file({name: torch.from_numpy(array) for name, array in state.items()}, tmp_path / "a.safetensors")
    wanted = open_network(panoptic_fpn_file).model.state_dict()
    found = open_network(tmp_path / "a.safetensors").model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in wanted.items())


def test_a_network_that_is_not_known(tmp_path: Path) -> None:
    save_file({f"detr.layer{i}": torch.zeros(1) for i in range(5)}, tmp_path / "a.safetensors")
    with pytest.raises(
        InputError, match=r"detr\.layer0, detr\.layer1, detr\.layer2 and 2 more\. Readable are detectron2"
    ):
        open_network(tmp_path / "a.safetensors")


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        open_network(tmp_path / "nowhere.pkl")


def test_predict_and_info(panoptic_fpn_file: Path, photo: Path, tmp_path: Path, tascnet: Call) -> None:
    said = tascnet("predict", panoptic_fpn_file, photo, "--output", tmp_path / "out", "--device", "cpu")
    assert said.code == 0, said.err
    assert len(json.loads((tmp_path / "out" / "panoptic.json").read_text())["categories"]) == 133
    said = tascnet("info", panoptic_fpn_file, "--height", 64, "--width", 64)
    assert said.code == 0
    assert "panoptic.pkl, detectron2's Panoptic FPN" in said.out
    assert "stuff channels: things are first there, last here" in said.out


def test_evaluate_on_coco(panoptic_fpn_file: Path, photo: Path, tmp_path: Path, tascnet: Call) -> None:
    height, width = NARROW
    id_map = torch.ones(height, width, dtype=torch.int32)
    id_map[:, width // 2 :] = 2
    segmentation = PanopticSegmentation.from_id_map(id_map, [Segment(1, 1, 0), Segment(2, 187, 0)])
    item = PredictedPhoto("photo", 1, segmentation)
    annotations, photos = tmp_path / "coco" / "annotations", tmp_path / "coco" / "val2017"
    write_coco_panoptic(annotations / "panoptic_val2017.json", COCO, [item], lambda _: "photo.png")
    photos.mkdir()
    photo.rename(photos / "photo.png")
    options = ["--data.root", tmp_path / "coco", "--device", "cpu", "--output", tmp_path / "out"]
    said = tascnet("evaluate", panoptic_fpn_file, *options)
    assert said.code == 0, said.err
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.parametrize("name", ["shared", "shared.safetensors"])
def test_a_network_from_elsewhere_is_shared_as_our_own(
    panoptic_fpn_file: Path, name: str, tmp_path: Path, tascnet: Call
) -> None:
    """It has no training set, and its validation set no folder; what was shared computes as the file does."""
    assert tascnet("share", panoptic_fpn_file, tmp_path / name).err == ""
    wanted, shared = open_network(panoptic_fpn_file), open_network(tmp_path / name)
    assert shared.config == wanted.config
    assert shared.label_space == wanted.label_space
    assert shared.origin.weights == wanted.origin.weights
    tensors = shared.model.state_dict()
    for tensor_name, tensor in wanted.model.state_dict().items():
        assert torch.equal(tensors[tensor_name], tensor), tensor_name
    assert "needs data.root" in tascnet("evaluate", tmp_path / name).err


def test_a_network_from_elsewhere_is_saved_from_python(panoptic_fpn_file: Path, tmp_path: Path) -> None:
    network = open_network(panoptic_fpn_file)
    save_network(network, tmp_path / "saved")
    assert open_network(tmp_path / "saved").config == network.config


def test_the_weights_in_a_folder_stand_for_the_folder(tiny_run: Path) -> None:
    folder = find_checkpoint(tiny_run)
    assert open_network(folder / "model.safetensors").path == folder


def test_evaluate_asks_for_the_root_of_coco(panoptic_fpn_file: Path, tascnet: Call) -> None:
    said = tascnet("evaluate", panoptic_fpn_file, "--device", "cpu")
    assert said.code == 2
    assert "data has format coco and needs data.root" in said.err


def test_a_malicious_file_on_the_command_line(tmp_path: Path, photo: Path, tascnet: Call) -> None:
    witness = tmp_path / "it_ran"
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(witness).encode() + b"'\ntR.")
    said = tascnet("predict", tmp_path / "evil.pkl", photo, "--output", tmp_path / "out")
    assert said.code == 2
    assert "it wants os.system" in said.err
    assert said.err.count("\n") == 1
    assert not witness.exists()
    assert not (tmp_path / "out").exists()


@pytest.fixture
def fine_tuning(tiny_config: Callable[[], Config], tmp_path: Path) -> Path:
    """Settings of one step on streets, with a plain FPN as wide as the zoo file's."""
    values = to_dict(tiny_config())
    values["model"]["backbone"] |= {
        "name": "resnet50",
        "weights": "imagenet",
        "added_stages": False,
        "widths": list(zoo.WIDTHS),
        "stride_in_1x1": True,
    }
    values["model"]["stuff_head"]["merge"] = "sum"
    values["model"]["things_head"] |= {"box_channels": zoo.HEAD, "mask_channels": zoo.HEAD, "mask_convs": 4}
    values["training"]["steps"] = 1
    path = tmp_path / "fine.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_training_starts_from_a_panoptic_fpn_file(
    fine_tuning: Path, panoptic_fpn_file: Path, tmp_path: Path, tascnet: Call
) -> None:
    """One step with a learning rate of next to nothing: the run's weights are the file's. Nothing is downloaded."""
    run = tmp_path / "run"
    said = tascnet(
        "train", "--config", fine_tuning, "--init", panoptic_fpn_file, "--output", run, "--optimizer.lr", 1e-12
    )
    assert said.code == 0, said.err
    assert "ImageNet" not in said.out
    assert f"initialised from {panoptic_fpn_file}" in said.out.replace("\n", "")
    assert "- taken over: backbone, pyramid's laterals P2 P3 P4 P5" in said.out
    told = json.loads((run / "run.json").read_text())["first_weights"]
    assert told[0] == f"initialised from {panoptic_fpn_file}"
    # of streets, COCO knows car, person, ... by name
    assert any(line.startswith("box classes: ") and "taken over by name" in line for line in told)
    assert yaml.safe_load((run / "config.yaml").read_text())["training"]["init"] == str(panoptic_fpn_file)
    checkpoint = load_network(run)
    source = open_network(panoptic_fpn_file).model
    ours, theirs = checkpoint.model.state_dict(), source.state_dict()
    for name in ("backbone.pixel_mean", "backbone.network.conv1.weight", "things_head.box_head.fc6.weight"):
        torch.testing.assert_close(ours[name], theirs[name])
    car = next(i for i, category in enumerate(checkpoint.label_space.things) if category.name == "car")
    rows = [model["things_head.mask_predictor.mask_fcn_logits.weight"] for model in (ours, theirs)]
    torch.testing.assert_close(rows[0][car], rows[1][2])  # car is COCO's third thing


def test_training_starts_from_a_run(tiny_run: Path, tmp_path: Path, tascnet: Call) -> None:
    run = tmp_path / "run"
    settings = ["--config", tiny_run / "config.yaml", "--training.steps", 1, "--optimizer.lr", 1e-12]
    said = tascnet("train", *settings, "--init", tiny_run, "--output", run)
    assert said.code == 0, said.err
    ours = load_file(load_network(run).path / "model.safetensors")
    theirs = load_file(find_checkpoint(tiny_run) / "model.safetensors")
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor)


def test_training_from_a_network_that_shares_nothing(
    panoptic_fpn_file: Path, tiny_run: Path, tmp_path: Path, tascnet: Call
) -> None:
    settings = ["--config", tiny_run / "config.yaml", "--model.pyramid_channels", 16, "--model.stuff_head.channels", 16]
    said = tascnet("train", *settings, "--init", panoptic_fpn_file, "--output", tmp_path / "run")
    assert said.code == 2
    assert "share nothing" in said.err
    assert not (tmp_path / "run").exists()
