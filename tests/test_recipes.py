"""The recipes in configs/: they fit each other, and each can be trained with on a data set in its official folders."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from cityscapes_layout import write_cityscapes_layout
from PIL import Image
from vistas_layout import BIRD, CAR, EGO, ROAD, SKY, Picture, write_vistas

from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.streets.dataset import Streets
from tascnet.evaluation.report import Report
from tascnet.settings import from_dict, to_dict
from tascnet.structures import Size
from tascnet.training import train

CONFIGS = Path(__file__).parents[1] / "configs"
GPUS = 8
SIZE = Size(96, 128)


def recipe(name: str) -> dict[str, Any]:
    return yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values with changes, group by group."""
    result = dict(values)
    for name, change in changes.items():
        result[name] = merged(result.get(name, {}), change) if isinstance(change, Mapping) else change
    return result


def write_coco_layout(root: Path) -> None:
    """Three generated streets a split, as JPEG."""
    for split, first in (("train2017", 0), ("val2017", 100)):
        streets = Streets(3, SIZE, first=first)
        samples = [streets[index] for index in range(3)]
        write_coco_panoptic(root / "annotations" / f"panoptic_{split}.json", streets.label_space, samples)
        (root / split).mkdir()
        for sample in samples:
            Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(root / split / f"{sample.name}.jpg")


def write_vistas_layout(root: Path) -> None:
    """Three pictures a split: two cars and a bird before road and sky."""
    values = np.full(SIZE, SKY)
    values[40:] = ROAD
    values[30:60, 10:50], values[50:80, 60:100], values[5:20, 90:110], values[90:] = CAR, CAR + 1, BIRD, EGO
    for split in ("training", "validation"):
        pictures = [Picture(f"{split} {index}", np.roll(values, 9 * index, axis=1)) for index in range(3)]
        write_vistas(root, split, pictures)


LAYOUTS = {"cityscapes": write_cityscapes_layout, "coco": write_coco_layout, "vistas": write_vistas_layout}
"""Data set -> what writes a tiny one in its official folders; its recipes are NAME_r50.yaml and NAME_r50_1gpu.yaml."""


def train_three_steps(
    name: str, tiny_config: Callable, train_set: Mapping[str, str], val_set: Mapping[str, str], run: Path
) -> Report:
    """The network and the sizes shrink; data set, crop, scale, losses, optimiser and schedule are the recipe's."""
    values = recipe(name)
    given = values["data"]["input"]
    small = {"short_side": 64, "max_long_side": 128, "load_short_side": 80, "crop": [64, 96]}
    changes = {
        "data": {
            "train": train_set,
            "val": val_set,
            "input": {key: small[key] for key in given if key in small and given[key]},
            "workers": 0,
        },
        "model": to_dict(tiny_config())["model"],
        "training": {"steps": 3, "accelerator": "cpu"},
    }
    return train(from_dict(merged(values, changes)), run, "tascnet train")


@pytest.mark.parametrize("variant", ["r50", "r50_1gpu"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_three_steps_and_an_evaluation(tmp_path: Path, tiny_config: Callable, name: str, variant: str) -> None:
    LAYOUTS[name](tmp_path / "data")
    place = {"root": str(tmp_path / "data")}
    report = train_three_steps(f"{name}_{variant}", tiny_config, place, place, tmp_path / "run")
    assert report.num_images == 3
    assert (tmp_path / "run" / "report.json").is_file()
    steps = [line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines() if "loss/total" in line]
    assert len(steps) == 1  # log_every is 20; the first step is always logged


def test_three_steps_on_the_cityscapes_of_another_project(
    shared_data: Path, tmp_path: Path, tiny_config: Callable
) -> None:
    """Pictures of a few pixels."""
    place = {"root": str(shared_data / "formats" / "cityscapes_dataset" / "train_dataset")}
    report = train_three_steps("cityscapes_r50_1gpu", tiny_config, place, place, tmp_path / "run")
    assert report.num_images == 1


@pytest.mark.parametrize("version", ["v1.2", "v2.0"])
def test_three_steps_on_the_vistas_of_another_project(
    shared_data: Path, tmp_path: Path, tiny_config: Callable, version: str
) -> None:
    """Pictures of a few pixels, in folders called train and val. All their labels are things: one is made stuff."""
    root = tmp_path / "data"
    shutil.copytree(shared_data / "formats" / "mapillary_vistas_dataset", root, copy_function=shutil.copyfile)
    config = root / f"config_{version}.json"
    config.write_text(config.read_text().replace('"instances": true', '"instances": false', 1))
    place = {"root": str(root), "version": version, "form": "instances"}
    train_set, val_set = place | {"split": "train"}, place | {"split": "val"}
    report = train_three_steps("vistas_r50_1gpu", tiny_config, train_set, val_set, tmp_path / "run")
    assert report.num_images == 2


@pytest.mark.parametrize("name", ["coco", "cityscapes", "vistas"])
def test_one_gpu_follows_the_linear_rule(name: str) -> None:
    """As many images at the same rate for each: lr by the images a step, and everything counted in steps inversely."""
    many, one = recipe(f"{name}_r50"), recipe(f"{name}_r50_1gpu")
    factor = GPUS * many["data"]["batch_size"] / one["data"]["batch_size"]
    expected = merged(
        many,
        {
            "optimizer": {
                "lr": pytest.approx(many["optimizer"]["lr"] / factor),
                "lr_batch": many["optimizer"]["lr_batch"] / factor,
                "warmup_steps": many["optimizer"]["warmup_steps"] * factor,
            },
            "loss": {"tasc_warmup_steps": many["loss"]["tasc_warmup_steps"] * factor},
            "training": {key: many["training"][key] * factor for key in ("steps", "validate_every")},
        },
    )
    assert one == expected


@pytest.mark.parametrize(
    ("name", "images", "steps", "lr"), [("coco", 16, 90_000, 0.02), ("cityscapes", 32, 65_000, 0.01)]
)
def test_eight_gpus_have_the_published_numbers(name: str, images: int, steps: int, lr: float) -> None:
    """Panoptic FPN's (Kirillov et al. 2019)."""
    values = recipe(f"{name}_r50")
    assert GPUS * values["data"]["batch_size"] == images
    assert (values["training"]["steps"], values["optimizer"]["lr"]) == (steps, lr)
    assert values["optimizer"]["lr_batch"] == images


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*_r50.yaml")), ids=lambda path: path.name)
def test_recipes_for_many_gpus_open_with_their_command(path: Path) -> None:
    text = path.read_text()
    assert f"tascnet train --config configs/{path.name} --training.devices {GPUS}" in text
    assert f"{path.stem}_1gpu.yaml" in text
