"""Draw the pictures of the README and the docs.

    python docs/make_pictures.py streets runs/demo        unseen scenes with annotation, prediction, matches, residual

It goes to docs/pictures, as streets.png. Curves are drawn by `tascnet plot`.
"""

import argparse
from pathlib import Path

from tascnet.data.images import write_png
from tascnet.data.streets import Streets
from tascnet.demo import FIRST_UNSEEN_SCENE
from tascnet.evaluation import draw_cases
from tascnet.predictor import Predictor

PICTURES = Path(__file__).parent / "pictures"


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True)
    streets = pictures.add_parser("streets")
    streets.add_argument("run", type=Path, help="run folder of the demo")
    streets.add_argument("--scenes", type=int, nargs="+", default=[0, 3, 4], help="numbers of unseen scenes")
    arguments = parser.parse_args()
    draw_streets(arguments.run, arguments.scenes)


def draw_streets(run: Path, numbers: list[int]) -> None:
    """Write streets.png."""
    predictor = Predictor.from_checkpoint(run)
    scenes = Streets(max(numbers) + 1, first=FIRST_UNSEEN_SCENE)
    write_png(PICTURES / "streets.png", draw_cases(predictor, [scenes[number] for number in numbers]))


if __name__ == "__main__":
    main()
