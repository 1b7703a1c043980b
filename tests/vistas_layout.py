"""Writes tiny data sets in the official folders of Mapillary Vistas, official bit depths and keys included."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

LABELS: list[dict[str, Any]] = [
    {"name": "animal--bird", "readable": "Bird", "instances": True, "evaluate": True, "color": [165, 42, 42]},
    {
        "name": "construction--flat--road",
        "readable": "Road",
        "instances": False,
        "evaluate": True,
        "color": [128, 64, 128],
    },
    {"name": "object--vehicle--car", "readable": "Car", "instances": True, "evaluate": True, "color": [0, 0, 142]},
    {
        "name": "void--ego-vehicle",
        "readable": "Ego Vehicle",
        "instances": False,
        "evaluate": False,
        "color": [120, 10, 10],
    },
    {"name": "nature--sky", "readable": "Sky", "instances": False, "evaluate": True, "color": [70, 130, 180]},
    {"name": "void--unlabeled", "readable": "Unlabeled", "instances": False, "evaluate": False, "color": [0, 0, 0]},
]
BIRD, ROAD, CAR, EGO, SKY, UNLABELED = (256 * label for label in range(6))
"""The value of the first instance of each label in the 16-bit PNGs."""

PANOPTIC_JSON = {"v1.2": "panoptic_2018.json", "v2.0": "panoptic_2020.json"}


@dataclass
class Picture:
    """One annotated photo.

    Attributes:
        name: without suffix.
        values: (H, W) as in the 16-bit PNGs, 256 * label + instance.
        crowds: values that the panoptic form calls crowds.
        photo: (H, W, 3) uint8, or None for a grey one.
    """

    name: str
    values: np.ndarray
    crowds: tuple[int, ...] = ()
    photo: np.ndarray | None = None


def write_vistas(root: Path, split: str, pictures: list[Picture], version: str = "v1.2", early: bool = False) -> None:
    """Write photos, labels, instances and panoptic files of a split, and the config file.

    An early release of v1.2 has no folders for the version and calls its config file config.json.
    """
    (root / split / "images").mkdir(parents=True)
    folder = root / split if early else root / split / version
    for kind in ("labels", "instances", "panoptic"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    config = {"labels": LABELS, "version": "1.1", "mapping": "public", "folder_structure": "{split}/{content}"}
    (root / ("config.json" if early else f"config_{version}.json")).write_text(json.dumps(config))
    for picture in pictures:
        values = picture.values.astype(np.uint16)
        photo = np.full((*values.shape, 3), 128, np.uint8) if picture.photo is None else picture.photo
        Image.fromarray(photo).save(root / split / "images" / f"{picture.name}.jpg", quality=95)
        Image.fromarray(values).save(folder / "instances" / f"{picture.name}.png")
        labels = Image.fromarray((values // 256).astype(np.uint8), mode="P")
        labels.putpalette([channel for label in LABELS for channel in label["color"]])
        labels.save(folder / "labels" / f"{picture.name}.png")
    content = {
        "images": [
            {"id": p.name, "file_name": f"{p.name}.jpg", "height": p.values.shape[0], "width": p.values.shape[1]}
            for p in pictures
        ],
        "annotations": [_write_panoptic(folder / "panoptic", picture) for picture in pictures],
        "categories": [
            {
                "id": number + 1,
                "name": label["readable"],
                "supercategory": label["name"],
                "isthing": int(label["instances"]),
                "color": label["color"],
            }
            for number, label in enumerate(LABELS)
        ],
    }
    (folder / "panoptic" / PANOPTIC_JSON[version]).write_text(json.dumps(content))


def _write_panoptic(folder: Path, picture: Picture) -> dict[str, object]:
    """One segment a value, but one for all pixels of a stuff label; unlabelled pixels have none."""
    infos: list[dict[str, object]] = []
    colors = np.zeros((*picture.values.shape, 3), np.uint8)
    for number, value in enumerate(np.unique(picture.values).tolist()):
        if value // 256 * 256 == UNLABELED:
            continue
        where = picture.values == value
        segment_id = 70_000 + 1_000 * number
        colors[where] = [segment_id % 256, segment_id // 256 % 256, segment_id // 65536]
        is_crowd = int(value in picture.crowds)
        rows, columns = np.nonzero(where)
        box = [int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
        info = {"id": segment_id, "category_id": value // 256 + 1, "area": int(where.sum()), "bbox": box}
        infos.append(info | {"iscrowd": is_crowd})
    Image.fromarray(colors).save(folder / f"{picture.name}.png")
    return {"image_id": picture.name, "file_name": f"{picture.name}.png", "segments_info": infos}
