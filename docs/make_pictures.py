"""Draw the pictures of the README and the docs from a run on generated streets.

    python docs/make_pictures.py runs/demo

Writes docs/pictures/streets.png: unseen scenes with annotation, prediction, matches and residual.
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
    """Draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="run folder of the demo")
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 3, 4], help="numbers of unseen scenes")
    arguments = parser.parse_args()
    predictor = Predictor.from_checkpoint(arguments.run)
    scenes = Streets(max(arguments.scenes) + 1, first=FIRST_UNSEEN_SCENE)
    write_png(PICTURES / "streets.png", draw_cases(predictor, [scenes[number] for number in arguments.scenes]))


if __name__ == "__main__":
    main()
