"""Draw the pictures of the README and the docs.

    python docs/make_pictures.py streets runs/demo        unseen scenes with annotation, prediction, matches, residual
    python docs/make_pictures.py hard                     hard streets beside their annotation

They go to docs/pictures, as streets.png and hard_streets.jpg. Curves are drawn by `tascnet plot`.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from tascnet.commands.demo import FIRST_UNSEEN_SCENE
from tascnet.data.images import write_png
from tascnet.data.streets.dataset import Streets
from tascnet.evaluation.evaluate import draw_cases
from tascnet.inference.predictor import Predictor
from tascnet.visualize import draw_segmentation, to_picture

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True)
    streets = pictures.add_parser("streets")
    streets.add_argument("run", type=Path, help="run folder of the demo")
    streets.add_argument("--scenes", type=int, nargs="+", default=[0, 3, 4], help="numbers of unseen scenes")
    hard = pictures.add_parser("hard")
    hard.add_argument("--scenes", type=int, nargs="+", default=[10, 19], help="numbers of the scenes")
    arguments = parser.parse_args()
    if arguments.picture == "hard":
        draw_hard_streets(arguments.scenes)
    else:
        draw_streets(arguments.run, arguments.scenes)


def draw_streets(run: Path, numbers: list[int]) -> None:
    """Write streets.png."""
    predictor = Predictor.from_checkpoint(run)
    scenes = Streets(max(numbers) + 1, first=FIRST_UNSEEN_SCENE)
    write_png(PICTURES / "streets.png", draw_cases(predictor, [scenes[number] for number in numbers]))


def draw_hard_streets(numbers: list[int]) -> None:
    """Write hard_streets.jpg."""
    scenes = Streets(max(numbers) + 1, difficulty="hard")
    rows = []
    for sample in (scenes[number] for number in numbers):
        annotation = draw_segmentation(sample.segmentation, scenes.label_space, sample.image)
        rows.append(np.concatenate([to_picture(sample.image), annotation], axis=1))
    picture = Image.fromarray(np.concatenate(rows))
    picture.save(PICTURES / "hard_streets.jpg", quality=88)  # the sensor noise makes PNGs of a megabyte


if __name__ == "__main__":
    main()
