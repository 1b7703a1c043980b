"""Draw the pictures of the README and the docs.

    python docs/make_pictures.py streets runs/demo        unseen scenes with annotation, prediction, matches, residual
    python docs/make_pictures.py curve runs/coco_mini     what the validations of a run found, step by step

They go to docs/pictures, as streets.png and as NAME_curve.png after the run's folder.
"""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from tascnet.data.images import write_png
from tascnet.data.streets import Streets
from tascnet.demo import FIRST_UNSEEN_SCENE
from tascnet.evaluation import draw_cases
from tascnet.files import atomic_path
from tascnet.predictor import Predictor

PICTURES = Path(__file__).parent / "pictures"
CURVES = {"val/pq": "PQ", "val/pq_things": "PQ things", "val/pq_stuff": "PQ stuff", "val/miou": "mIoU", "val/ap": "AP"}


def main() -> None:
    """Draw what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    pictures = parser.add_subparsers(dest="picture", required=True)
    streets = pictures.add_parser("streets")
    streets.add_argument("run", type=Path, help="run folder of the demo")
    streets.add_argument("--scenes", type=int, nargs="+", default=[0, 3, 4], help="numbers of unseen scenes")
    curve = pictures.add_parser("curve")
    curve.add_argument("run", type=Path, help="run folder")
    arguments = parser.parse_args()
    if arguments.picture == "streets":
        draw_streets(arguments.run, arguments.scenes)
    else:
        draw_curve(arguments.run)


def draw_streets(run: Path, numbers: list[int]) -> None:
    """Write streets.png."""
    predictor = Predictor.from_checkpoint(run)
    scenes = Streets(max(numbers) + 1, first=FIRST_UNSEEN_SCENE)
    write_png(PICTURES / "streets.png", draw_cases(predictor, [scenes[number] for number in numbers]))


def draw_curve(run: Path) -> None:
    """Write NAME_curve.png: the qualities of each validation over the training steps."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    validations = [line for line in lines if "val/pq" in line]
    figure = Figure(figsize=(6, 3.6), layout="constrained")
    axes = figure.add_subplot(xlabel="training step", ylabel="percent", ylim=(0, None))
    for key, name in CURVES.items():
        axes.plot([line["step"] for line in validations], [line[key] for line in validations], marker="o", label=name)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize="small")
    with atomic_path(PICTURES / f"{run.name}_curve.png") as temporary:
        figure.savefig(temporary, dpi=120)


if __name__ == "__main__":
    main()
