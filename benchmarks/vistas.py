"""Loading a photo of 22 megapixels with its annotation, at full size and at a training scale: seconds and peak memory.

The picture is made here, in the folders of Mapillary Vistas: noise over slopes of colour, some hundred segments. Each
row is a fresh process, the quickest of three calls; memory is the peak above what it holds once everything is imported
and a small picture is read.

python benchmarks/vistas.py --short-side 1024
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import Call, measure
from PIL import Image

from tascnet.data.formats.vistas import Form, Vistas
from tascnet.data.images import write_png

HEIGHT, WIDTH = 4000, 5500
LABELS = 40
SIDE = 250
"""Pixels of the squares that the annotation is made of; 22 x 16 of them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short-side", type=int, default=1024, help="pixels; the training scale")
    short_side = parser.parse_args().short_side
    with tempfile.TemporaryDirectory() as folder:
        write_data_set(Path(folder), "training", HEIGHT, WIDTH)
        write_data_set(Path(folder), "small", HEIGHT // 20, WIDTH // 20)
        print(f"photo {HEIGHT} x {WIDTH}\n{'form':>10} {'short side':>10} {'seconds':>8} {'peak MB':>8}  loaded size")
        for form in ("panoptic", "instances"):
            for side in (short_side, 0):
                cost = measure(load, (folder, "training", form, side), (folder, "small", form, 50), repeats=3)
                size = " x ".join(map(str, cost.result))
                print(f"{form:>10} {side:>10} {cost.milliseconds / 1e3:8.2f} {cost.megabytes:8.0f}  {size}", flush=True)


def load(root: str, split: str, form: Form, short_side: int) -> Call:
    """The call to measure: photo and annotation of one picture. It gives the size that was loaded."""
    dataset = Vistas(root, split, form=form, load_short_side=short_side)
    return lambda: torch.tensor(dataset[0].image.shape[1:])


def write_data_set(root: Path, split: str, height: int, width: int) -> None:
    """One picture in both forms of annotation; half of the labels are things."""
    for folder in ("images", "v1.2/instances", "v1.2/panoptic"):
        (root / split / folder).mkdir(parents=True)
    rows, columns = np.arange(height)[:, None] // SIDE, np.arange(width)[None] // SIDE
    labels = (rows + columns) % LABELS
    instances = np.where(labels < LABELS // 2, rows, 0)
    Image.fromarray((256 * labels + instances).astype(np.uint16)).save(root / split / "v1.2/instances/0.png")
    ids = 256 * labels + instances + 1
    write_png(root / split / "v1.2/panoptic/0.png", np.stack([ids & 255, ids >> 8, 0 * ids], axis=2).astype(np.uint8))
    Image.fromarray(_photo(height, width)).save(root / split / "images/0.jpg", quality=90)
    names = [
        {"name": f"group--label-{i}", "instances": i < LABELS // 2, "evaluate": True, "color": [i, i, i]}
        for i in range(LABELS)
    ]
    (root / "config_v1.2.json").write_text(json.dumps({"labels": names}))
    (root / split / "v1.2/panoptic/panoptic_2018.json").write_text(
        json.dumps(
            {
                "images": [{"id": 0, "file_name": "0.jpg", "height": height, "width": width}],
                "annotations": [
                    {
                        "image_id": 0,
                        "file_name": "0.png",
                        "segments_info": [
                            {"id": i, "category_id": (i - 1) // 256 + 1, "iscrowd": 0} for i in np.unique(ids).tolist()
                        ],
                    }
                ],
                "categories": [
                    {"id": i + 1, "name": label["name"], "isthing": int(i < LABELS // 2)}
                    for i, label in enumerate(names)
                ],
            }
        )
    )


def _photo(height: int, width: int) -> np.ndarray:
    dice = np.random.default_rng(0)
    slopes = np.linspace(40, 200, height)[:, None, None] + np.linspace(-20, 20, width)[None, :, None]
    noise = dice.normal(0, 6, (height, width, 3)).astype(np.float32)
    return (slopes.astype(np.float32) + noise).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
