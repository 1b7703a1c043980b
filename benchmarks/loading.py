"""Images a second that one core turns from files into training batches, and where its time goes.

Cityscapes is made here: generated streets of 1024 x 2048 in the official folders. COCO is read from its official
layout. Seconds are those that the processes computed, on one thread each, so that a busy machine does not count. The
last column is what a core gives with two workers of a DataLoader, whose batches have to be handed over.

python benchmarks/loading.py --coco COCO --images 100
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import Call, measure
from PIL import Image
from torch.utils.data import DataLoader

from tascnet.build import build_augmentation, build_dataset, build_stream
from tascnet.config import Config, DataConfig
from tascnet.data.batch import collate, make_target
from tascnet.data.copy_paste import paste_things
from tascnet.data.formats.cityscapes_labels import CITYSCAPES, INSTANCE_BASE
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.settings import from_dict
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

SIZE = Size(1024, 2048)
BATCH, WORKERS = 2, 2
OTHER_NAMES = {"pavement": "sidewalk"}
"""Name in the streets -> name in Cityscapes, where they differ."""

COCO_INPUTS: dict[str, dict[str, Any]] = {
    "as they are, 480 x 640": {},
    "recipe, short side 640-800": {"short_side": 800, "max_long_side": 1333, "scale_jitter": [0.8, 1.0]},
    "large-scale jitter, 1024 x 1024": {
        "short_side": 1024,
        "max_long_side": 1024,
        "scale_jitter": [0.1, 2.0],
        "crop": [1024, 1024],
    },
    "the same, all pasted": {
        "short_side": 1024,
        "max_long_side": 1024,
        "scale_jitter": [0.1, 2.0],
        "crop": [1024, 1024],
        "copy_paste": 1.0,
    },
}
CITYSCAPES_RECIPE: dict[str, Any] = {"scale_jitter": [0.5, 2.0], "crop": [512, 1024], "color_jitter": 0.3}
CITYSCAPES_INPUTS: dict[str, dict[str, Any]] = {
    "recipe, crop 512 x 1024": CITYSCAPES_RECIPE,
    "the same, crops on things": CITYSCAPES_RECIPE | {"crop_on_things": 1.0},
    "the same, all pasted": CITYSCAPES_RECIPE | {"copy_paste": 1.0},
    "whole, 1024 x 2048": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coco", type=Path, help="folder with annotations/ and train2017/; without it, streets alone")
    parser.add_argument("--images", type=int, default=40, help="images that are timed in each row")
    parser.add_argument("--streets", type=int, default=12, help="pictures of the made Cityscapes")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_cityscapes(Path(folder), arguments.streets)
        sets = [("cityscapes", Path(folder), "train", CITYSCAPES_INPUTS)]
        if arguments.coco:
            sets.insert(0, ("coco", arguments.coco, "train2017", COCO_INPUTS))
        for data_format, root, split, inputs in sets:
            print_table(data_format, root, split, inputs, arguments.images)
    print_pasting()


def print_table(data_format: str, root: Path, split: str, inputs: dict[str, dict[str, Any]], images: int) -> None:
    print(
        f"\n{data_format + ', ms an image':<34}{'photo':>8}{'annotation':>11}{'augment':>9}{'targets':>9}{'collate':>9}"
        f"{'images/s':>10}{'in workers':>12}"
    )
    for name, input_settings in inputs.items():
        config = configured(data_format, root, split, input_settings)
        dataset = build_dataset(config.data.train)
        photo, annotation, augment, targets, rest = time_stages(config.data, dataset, images)
        alone, in_workers = (time_loader(config.data, dataset, images, workers) for workers in (0, WORKERS))
        print(
            f"{name:<34}{photo:>8.1f}{annotation:>11.1f}{augment:>9.1f}{targets:>9.1f}{rest:>9.1f}"
            f"{alone:>10.1f}{in_workers:>12.1f}",
            flush=True,
        )


def configured(data_format: str, root: Path, split: str, inputs: dict[str, Any]) -> Config:
    place = {"format": data_format, "root": str(root), "split": split}
    return from_dict({"data": {"train": place, "val": place, "input": inputs}})


def time_stages(data: DataConfig, dataset: PanopticDataset, images: int) -> list[float]:
    """Milliseconds an image: photo, annotation, augmentation, targets, and the rest of collate.

    Pasting is no stage of its own: it is a second photo, annotation and augmentation.
    """
    torch.manual_seed(0)
    augment = build_augmentation(data.input, dataset.label_space)
    seconds = np.zeros(5)
    for index in range(images):
        index %= len(dataset)
        annotation = timed(partial(dataset.annotation, index))[1]
        sample, whole = timed(partial(dataset.__getitem__, index))
        augmented, augmentation = timed(partial(augment, sample))
        targets = timed(partial(make_target, augmented.segmentation, dataset.label_space))[1]
        batch = timed(partial(collate, [augmented], dataset.label_space))[1]
        seconds += whole - annotation, annotation, augmentation, targets, batch - targets
    return (1e3 * seconds / images).tolist()


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a call gives, and the seconds that this process computed."""
    start = time.process_time()
    result = call()
    return result, time.process_time() - start


def time_loader(data: DataConfig, dataset: PanopticDataset, images: int, workers: int) -> float:
    """Images a second of one core, from files to batches in the process that trains, all included."""
    stream = build_stream(data, dataset, images, 0)
    collate_fn = partial(collate, label_space=dataset.label_space)
    before = computed()
    for _ in DataLoader(stream, BATCH, num_workers=workers, collate_fn=collate_fn):
        pass
    return images / (computed() - before)


def computed() -> float:
    """Seconds that this process and those of its workers that have ended computed."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def print_pasting() -> None:
    """The memory that pasting takes does not grow with the number of things: no mask has a plane of its own."""
    print(f"\npasting into {SIZE.height} x {SIZE.width}")
    for things in (2, 200):
        cost = measure(pasting, (SIZE, things), (Size(64, 64), 1))
        print(f"{things:>4} things: {cost.milliseconds:.1f} ms, {cost.megabytes:.0f} MB")


def pasting(size: Size, things: int) -> Call:
    """The call to measure: all of so many things, side by side, over a picture of as many."""
    columns = torch.arange(size.width, dtype=torch.int32) * things // size.width + 1
    ids = columns.repeat(size.height, 1)
    space = LabelSpace((Category(1, "thing", True),))
    segmentation = PanopticSegmentation.from_id_map(ids, [Segment(i + 1, 1, 0) for i in range(things)])
    sample = Sample(torch.zeros(3, *size, dtype=torch.uint8), segmentation, "", 0)
    return lambda: paste_things(sample, sample, space).segmentation.id_map


def write_cityscapes(root: Path, number: int) -> None:
    """Generated streets with a camera's noise, in Cityscapes' folders and labels."""
    streets = Streets(number, SIZE)
    label_of = {category.name: category.id for category in CITYSCAPES.categories}
    for index in range(number):
        sample = streets[index]
        name = f"street_{index:06d}_000019"
        values, things = [0], 0
        for segment in sample.segmentation.segments:
            category = STREETS[segment.category_id]
            label = label_of[OTHER_NAMES.get(category.name, category.name)]
            if category.is_thing and not segment.is_crowd:
                label, things = label * INSTANCE_BASE + things, things + 1
            values.append(label)
        instance_ids = np.array(values, dtype=np.uint16).take(sample.segmentation.index_map().numpy())
        save(Image.fromarray(sample.image.permute(1, 2, 0).numpy()), root, "leftImg8bit", name, "leftImg8bit")
        save(Image.fromarray(instance_ids), root, "gtFine", name, "gtFine_instanceIds")
    sizes = [path.stat().st_size / 1e6 for path in root.glob("leftImg8bit/*/*/*.png")]
    print(f"made {number} pictures of {SIZE.height} x {SIZE.width}, {np.mean(sizes):.1f} MB a photo on average")


def save(picture: Image.Image, root: Path, content: str, name: str, suffix: str) -> None:
    path = root / content / "train" / "street" / f"{name}_{suffix}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


if __name__ == "__main__":
    main()
