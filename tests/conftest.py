"""What all tests share."""

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from said import Said
from zoo_layout import detectron2_state

from tascnet.build import build_model, build_optimizer
from tascnet.cli import main
from tascnet.config import Config
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.images import write_png
from tascnet.data.streets.dataset import Streets
from tascnet.settings import from_dict
from tascnet.structures import Size
from tascnet.training import train
from tascnet.training.state import Progress, optimizer_tensors, save_checkpoint

TINY = Size(64, 128)
"""The smallest streets: a step on them takes a tenth of a second."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of data for trying things on; tests that need it are skipped where it is missing."""
    named = os.environ.get("TASCNET_SHARED_DATA")
    if named:
        assert Path(named).is_dir(), f"TASCNET_SHARED_DATA is {named}, which is no folder"
        return Path(named)
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}; set TASCNET_SHARED_DATA to the folder that holds coco_mini")
    return folder


# tiny tensors gain nothing from threads, and tests run in several processes at once; their children inherit this
os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def own_logs(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of log files of commands that failed; not the user's own."""
    state = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(state))
    return state / "tascnet" / "errors"


@pytest.fixture(scope="session")
def tiny_config() -> Callable[[], Config]:
    """Makes the settings of a run of two steps that ends within seconds; each call gives new ones, to be changed."""
    streets = {"format": "streets", "height": TINY.height, "width": TINY.width}
    things_head = {
        "anchor_sizes": [8, 16, 32, 64, 128],
        "rpn_samples": 16,
        "pre_nms": 30,
        "post_nms": 20,
        "roi_samples": 8,
        "box_channels": 16,
        "mask_channels": 8,
        "mask_convs": 1,
        "max_detections": 10,
    }
    values = {
        "data": {
            "train": streets | {"num_images": 5},
            "val": streets | {"num_images": 2, "first": 1000},
            "batch_size": 2,
        },
        "model": {
            "backbone": {"name": "test_efficientnet", "weights": "random", "added_channels": 128},
            "pyramid_channels": 32,
            "stuff_head": {"channels": 32},
            "things_head": things_head,
        },
        "fusion": {"method": "mask-guided", "min_stuff_area": 16, "score_threshold": 0.05, "unclaimed": "void"},
        "optimizer": {"name": "adamw", "lr": 0.001, "warmup_steps": 1, "schedule": "cosine"},
        "training": {
            "steps": 2,
            "log_every": 1,
            "checkpoint_every": 1,
            "accelerator": "cpu",
            "channels_last": False,  # a checkpoint is read in the plain layout; in one layout, figures are equal
        },
    }
    return lambda: from_dict(values)


@pytest.fixture(scope="session")
def tiny_run(tiny_config: Callable[[], Config], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps on tiny streets. Read it, do not write into it."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    train(tiny_config(), folder, "tascnet train --config tiny.yaml")
    return folder


@pytest.fixture(scope="session")
def tiny_coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three streets in COCO's official layout, split "mini". Read it, do not write into it."""
    root = tmp_path_factory.mktemp("tiny_coco")
    streets = Streets(3, TINY)
    samples = [streets[index] for index in range(3)]
    write_coco_panoptic(
        root / "annotations" / "panoptic_mini.json",
        streets.label_space,
        samples,
        image_file_of=lambda sample: f"{sample.name}.png",
    )
    for sample in samples:
        write_png(root / "mini" / f"{sample.name}.png", sample.image.permute(1, 2, 0).numpy())
    return root


@pytest.fixture(scope="session")
def panoptic_fpn_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slim Panoptic FPN of COCO's categories, random, as detectron2's model zoo would hold it."""
    torch.manual_seed(3)
    state = {name: tensor.numpy() for name, tensor in detectron2_state(num_things=80, num_stuff=53).items()}
    path = tmp_path_factory.mktemp("zoo") / "panoptic.pkl"
    path.write_bytes(pickle.dumps({"model": state, "__author__": "test"}))
    return path


@pytest.fixture
def cityscapes_run(tiny_config: Callable[[], Config], tmp_path: Path) -> Path:
    """The checkpoint of a network with the categories of Cityscapes, as it was born."""
    config = tiny_config()
    torch.manual_seed(0)
    model = build_model(config, CITYSCAPES)
    optimizer = build_optimizer(config.optimizer, model)
    state = optimizer_tensors(optimizer)
    progress = Progress(1, 1.0)
    return save_checkpoint(tmp_path / "run", model.state_dict(), state, config, CITYSCAPES, progress)


@pytest.fixture
def tascnet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls the command line as a shell does."""

    def call(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse
            code = ended.code
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call
