"""The sound files that the cases damage: a tiny run, networks, a data set in each format, photos, a config."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import yaml
from cityscapes_layout import write_cityscapes_layout
from PIL import Image
from vistas_layout import CAR, ROAD, SKY, Picture, write_vistas
from zoo_layout import detectron2_state

from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.data.images import write_png
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import Streets
from tascnet.structures import LabelSpace, Size

SIZE = Size(64, 128)
STREETS = {"format": "streets", "height": SIZE.height, "width": SIZE.width}
SETTINGS = {
    "data": {
        "train": STREETS | {"num_images": 4},
        "val": STREETS | {"num_images": 2, "first": 1000},
        "batch_size": 2,
    },
    "model": {
        "backbone": {"name": "test_efficientnet", "weights": "random", "added_channels": 32},
        "pyramid_channels": 16,
        "stuff_head": {"channels": 16},
        "things_head": {
            "anchor_sizes": [8, 16, 32, 64, 128],
            "rpn_samples": 16,
            "pre_nms": 30,
            "post_nms": 20,
            "roi_samples": 8,
            "box_channels": 16,
            "mask_channels": 8,
            "mask_convs": 1,
            "max_detections": 10,
        },
    },
    "fusion": {"min_stuff_area": 16, "score_threshold": 0.05},
    "optimizer": {"name": "adamw", "lr": 0.001, "warmup_steps": 1},
    "training": {"steps": 2, "log_every": 1, "checkpoint_every": 1, "ema_decay": 0.5, "accelerator": "cpu"},
}
"""Settings of a training of seconds."""


def build_world(folder: Path) -> None:
    """Write all sound files into an empty folder."""
    torch.set_num_threads(1)
    streets = Streets(2, SIZE, seed=7)
    samples = [streets[index] for index in range(2)]
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    write_png(folder / "photos" / "good.png", _photo(samples[0]))
    _write_coco(folder / "coco", streets.label_space, samples)
    _write_pairs(folder / "pairs", streets.label_space, samples)
    _write_instances(folder / "instances", streets.label_space, samples)
    write_cityscapes_layout(folder / "cityscapes")
    _write_vistas(folder / "vistas")
    _write_networks(folder)
    _write_expected(folder)


def _photo(sample: Sample) -> np.ndarray:
    return sample.image.permute(1, 2, 0).numpy()


def _write_coco(root: Path, label_space: LabelSpace, samples: Sequence[Sample]) -> None:
    json_path = root / "annotations" / "panoptic_val.json"
    write_coco_panoptic(json_path, label_space, samples, image_file_of=lambda sample: f"{sample.name}.png")
    for sample in samples:
        write_png(root / "val" / f"{sample.name}.png", _photo(sample))


def _numbers(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Category numbers and instance numbers of all pixels, uint8."""
    ids = sample.segmentation.id_map.numpy()
    categories, instances = np.zeros(ids.shape, np.uint8), np.zeros(ids.shape, np.uint8)
    for number, segment in enumerate(sample.segmentation.segments, start=1):
        categories[ids == segment.id] = segment.category_id
        instances[ids == segment.id] = 0 if segment.is_crowd else number
    return categories, instances


def _write_pairs(root: Path, label_space: LabelSpace, samples: Sequence[Sample]) -> None:
    for sample in samples:
        categories, instances = _numbers(sample)
        write_png(root / "val" / "images" / f"{sample.name}.png", _photo(sample))
        write_png(root / "val" / "categories" / f"{sample.name}.png", categories)
        write_png(root / "val" / "instances" / f"{sample.name}.png", instances)
    content = {"categories": label_space.to_list(), "void": [0]}
    (root / "categories.yaml").write_text(yaml.safe_dump(content))


def _write_instances(root: Path, label_space: LabelSpace, samples: Sequence[Sample]) -> None:
    """Two cars with a polygon each, before the stuff of the streets."""
    things = [category for category in label_space.to_list() if category["isthing"]]
    boxes = [[10, 10, 30, 20], [60, 30, 40, 25]]  # x, y, width, height
    images, annotations = [], []
    for number, sample in enumerate(samples, start=1):
        categories, _ = _numbers(sample)
        write_png(root / "val" / f"{sample.name}.png", _photo(sample))
        write_png(root / "annotations" / "semantic_val" / f"{sample.name}.png", categories)
        images.append({"id": number, "file_name": f"{sample.name}.png", "height": SIZE.height, "width": SIZE.width})
        for x, y, width, height in boxes:
            polygon = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": things[0]["id"],
                    "segmentation": [polygon],
                    "area": width * height,
                    "bbox": [x, y, width, height],
                    "iscrowd": 0,
                }
            )
    content = {"images": images, "annotations": annotations, "categories": things}
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    categories_file = {"categories": label_space.to_list(), "void": [0]}
    (root / "categories.yaml").write_text(yaml.safe_dump(categories_file))


def _write_vistas(root: Path) -> None:
    values = np.full((40, 60), SKY, np.uint16)
    values[20:] = ROAD
    values[15:30, 10:30], values[25:35, 40:55] = CAR, CAR + 1
    for split in ("training", "validation"):
        write_vistas(root, split, [Picture("one", values), Picture("two", np.flipud(values).copy())])


def _write_networks(folder: Path) -> None:
    run = folder / "run"
    _call("train", "--config", folder / "config.yaml", "--output", run)
    _call("share", run, folder / "shared")
    _call("share", run, folder / "shared.safetensors")
    state = detectron2_state(num_things=80, num_stuff=53)
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    (folder / "zoo.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}))
    torch.save({"model": state}, folder / "zoo.pth")


def _write_expected(folder: Path) -> None:
    """The right results, to compare those of the cases with."""
    for name in ("coco", "pairs", "instances", "cityscapes", "vistas"):
        _call("data", "stats", folder / name, "--output", folder / "expected" / f"{name}.json")
        _call("data", "check", folder / name)
    _call("predict", folder / "run", folder / "photos", "--output", folder / "expected" / "predicted")
    with Image.open(folder / "expected" / "predicted" / "panoptic" / "good.png") as picture:
        assert picture.size == (SIZE.width, SIZE.height)


def _call(*arguments: object) -> None:
    from tascnet.cli import main

    if code := main([str(argument) for argument in arguments]):
        raise RuntimeError(f"exit code {code} of the sound command {arguments}")
