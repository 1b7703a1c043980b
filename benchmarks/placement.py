"""PQ by where the cells of the stuff head's planes are placed, at image sizes of which the stride is no divisor.

    python benchmarks/placement.py                                          # trains three networks first, 20 minutes
    python benchmarks/placement.py --networks runs/a runs/b --sizes 125x253
    python benchmarks/placement.py --networks runs/a --data coco --root COCO --images 50    # photos at their own sizes

The same networks on the same hard streets, with one thing changed at a time:

* as it is: cells lie where they were computed, their logits at the pixel whose label the loss reads;
* centres: logits at the centres of the cells (label_at of the conventions of detectron2);
* stretched levels: P3 to P7 stretched over P2 in the stuff head, as if their last cells ended with the image;
* stretched logits: the logits stretched over the image, as if their last cells ended with it.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F  # noqa: N812 - the field's own abbreviation
from rich.console import Console
from torch import Tensor

from tascnet.build import build_dataset
from tascnet.commands.console import ConsoleObserver
from tascnet.commands.demo import demo_config
from tascnet.data.streets.dataset import Streets
from tascnet.evaluation.evaluate import evaluate
from tascnet.inference.predictor import Predictor
from tascnet.model.tascnet import Outputs
from tascnet.networks.opening import open_network
from tascnet.planes.plane import Plane
from tascnet.settings import check
from tascnet.structures import Size
from tascnet.training import train

FIRST_UNSEEN_STREET = 1_000_000
SIZES = ("65x131", "127x255", "190x381", "253x509", "96x415")


@contextmanager
def centres(predictor: Predictor) -> Iterator[None]:
    """Logits at the centres of their cells."""
    head = predictor.engine.model.stuff_head
    with mock.patch.object(head, "offset", 0.0):
        yield


@contextmanager
def stretched_levels(predictor: Predictor) -> Iterator[None]:
    """Every level of the pyramid stretched over P2."""

    def stretch(levels: Tensor, scale_factor: int, **options: object) -> Tensor:
        size = [-(-side // 32) * 8 for side in current["size"]]
        plane = F.interpolate(levels, size=size, mode="bilinear", align_corners=False)
        beyond = [levels.shape[axis] * scale_factor - size[axis] for axis in (-2, -1)]
        return F.pad(plane, (0, beyond[1], 0, beyond[0]))  # the head cuts it off again

    current: dict[str, Size] = {}
    resized = predictor._resized

    def remember(image: Tensor, size: Size) -> Tensor:
        current["size"] = size
        return resized(image, size)

    stand_in = mock.MagicMock(wraps=F, interpolate=stretch)
    with mock.patch("tascnet.model.stuff_head.F", stand_in), mock.patch.object(predictor, "_resized", remember):
        yield


@contextmanager
def stretched_logits(predictor: Predictor) -> Iterator[None]:
    """Logits that cover exactly the image, however many cells they have."""
    placed = Outputs.stuff_logits_of

    def stretch(outputs: Outputs, image: int, size: Size) -> Plane:
        return Plane.covering(placed(outputs, image, size).values)

    with mock.patch.object(Outputs, "stuff_logits_of", stretch):
        yield


@contextmanager
def as_it_is(predictor: Predictor) -> Iterator[None]:
    """Nothing changed."""
    yield


WAYS: Mapping[str, Callable[[Predictor], object]] = {
    "as it is": as_it_is,
    "centres": centres,
    "stretched levels": stretched_levels,
    "stretched logits": stretched_logits,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=Path, nargs="+", help="runs of streets; by default three are trained")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), metavar="HxW")
    parser.add_argument("--images", type=int, default=40, help="scenes, or photos")
    parser.add_argument("--data", choices=("streets", "coco"), default="streets")
    parser.add_argument("--root", help="of the run's photos, where they have moved")
    parser.add_argument("--output", type=Path, default=Path("runs/placement"))
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    networks = arguments.networks or [trained(arguments.output / f"seed_{seed}", seed) for seed in range(3)]
    sizes = arguments.sizes if arguments.data == "streets" else ["own"]
    print("network, size, way: PQ, things, stuff, boundary PQ, mIoU of the stuff head, AP")
    for path in networks:
        network = open_network(path)
        predictor = Predictor(network)
        for size in sizes:
            if arguments.data == "streets":
                height, width = map(int, size.split("x"))
                dataset = Streets(arguments.images, Size(height, width), 0, FIRST_UNSEEN_STREET, "hard")
            else:
                settings = network.config.data.val
                root = arguments.root or settings.root
                dataset = build_dataset(replace(settings, root=root, num_images=arguments.images))
            for name, way in WAYS.items():
                with way(predictor):  # type: ignore[attr-defined]
                    report = evaluate(predictor, dataset)
                found = report.summary()
                boundary = 100 * report.segmentation.boundary.all.pq  # type: ignore[union-attr]
                figures = [found["pq"], found["pq_things"], found["pq_stuff"], boundary, found["miou"], found["ap"]]
                print(f"{path.name}, {size}, {name}:", *(f"{figure:.2f}" for figure in figures), flush=True)


def trained(folder: Path, seed: int) -> Path:
    """A small network for scenes of 128 x 256, the sides multiples of every stride."""
    config = demo_config(minutes=0, steps=800)
    for data in (config.data.train, config.data.val):
        data.height, data.width = 128, 256
    config.data.train.num_images, config.data.val.num_images, config.data.batch_size = 400, 10, 2
    config.model.things_head.anchor_sizes = [8, 16, 32, 64, 128]
    config.training.seed, config.training.accelerator = seed, "cpu"
    config.training.resume_if_exists = True
    train(check(config), folder, "benchmarks/placement.py", ConsoleObserver(Console()))
    return folder


if __name__ == "__main__":
    main()
