"""Small data sets in each form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tascnet.data.formats.coco import write_coco_panoptic
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment

SPACE = LabelSpace(
    (
        Category(119, "sky", False, (7, 8, 9)),
        Category(184, "tree", False, (9, 8, 7)),
        Category(90, "cat", True, (1, 2, 3)),
        Category(91, "dog", True, (4, 5, 6)),
        Category(92, "flock of sheep", True, (90, 5, 6)),
    )
)
IDS = [[1, 1, 2, 2], [1, 1, 2, 3], [0, 0, 3, 3]]
SEGMENTS = [Segment(1, 119, 4), Segment(2, 90, 3), Segment(3, 91, 3)]


@dataclass(frozen=True)
class Item:
    name: str
    image_id: int
    segmentation: PanopticSegmentation


def segmentation(ids: list = IDS, segments: list = SEGMENTS) -> PanopticSegmentation:
    return PanopticSegmentation.from_id_map(torch.tensor(ids), segments)


def write_coco(root: Path, number: int, split: str = "mini", **special: PanopticSegmentation) -> Path:
    """Pictures p00, p01, ... of 3 x 4 pixels; some may have another annotation."""
    items = [Item(f"p{i:02}", 100 + i, special.get(f"p{i:02}", segmentation())) for i in range(number)]
    json_path = root / "annotations" / f"panoptic_{split}.json"
    write_coco_panoptic(json_path, SPACE, items, image_file_of=lambda item: f"{item.name}.png")
    (root / split).mkdir(exist_ok=True)
    for item in items:
        height, width = item.segmentation.size
        Image.new("RGB", (width, height), (item.image_id, 2, 3)).save(root / split / f"{item.name}.png")
    return root


CATEGORIES = """
categories:
  - {id: 1, name: sky, isthing: 0}
  - {id: 2, name: car, isthing: 1}
  - {id: 3, name: person, isthing: 1}
void: [0]
"""
NUMBERS = [[1, 1, 2, 2], [1, 1, 2, 3], [0, 0, 3, 3]]
INSTANCES = [[0, 0, 1, 1], [0, 0, 2, 1], [0, 0, 1, 0]]


def save_numbers(path: Path, numbers: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(numbers, dtype=np.uint16)).save(path)


def write_pairs(root: Path, split: str, names: list[str]) -> Path:
    """Pictures of 3 x 4 pixels: sky; cars 1 and 2; person 1 and a crowd of persons."""
    for name in names:
        save_numbers(root / split / "categories" / f"{name}.png", NUMBERS)
        save_numbers(root / split / "instances" / f"{name}.png", INSTANCES)
        (root / split / "images").mkdir(exist_ok=True)
        Image.new("RGB", (4, 3), (1, 2, 3)).save(root / split / "images" / f"{name}.jpg")
    (root / "categories.yaml").write_text(CATEGORIES)
    return root
