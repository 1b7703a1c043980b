"""The paper's Figure 4: where the heads of networks trained without and with TASC disagree, on the same pictures.

    python benchmarks/residual.py runs/ablation/streets/no_TASC_0 runs/ablation/streets/TASC_0 --output residual.jpg

A row for each of the first pictures of the runs' validation sets: the picture, then the residual |M_st - M_th| of each
network drawn over it, with the mean over the pixels that either head calls things.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

from tascnet import visualize
from tascnet.build import build_dataset
from tascnet.files import atomic_path
from tascnet.inference.predictor import Predictor
from tascnet.networks.opening import open_network
from tascnet.structures import Size

CELL = Size(240, 480)
GREY = (70, 70, 70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="networks trained on the same data")
    parser.add_argument("--output", type=Path, required=True, help="a .png or .jpg")
    parser.add_argument("--pictures", type=int, default=3)
    parser.add_argument("--first", type=int, help="number of the first scene, where the data are generated streets")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    data = open_network(arguments.runs[0]).config.data.val
    first = data.first if arguments.first is None else arguments.first
    dataset = build_dataset(replace(data, first=first, num_images=arguments.pictures))
    images = [dataset[index].image for index in range(arguments.pictures)]
    columns = [[visualize.card(visualize.to_picture(image), "", CELL, GREY) for image in images]]
    for run in arguments.runs:
        predictor = Predictor.from_checkpoint(run)
        found = [predictor.predict(image) for image in images]
        columns.append(
            [
                visualize.card(
                    visualize.draw_residual(prediction.residual, prediction.image),
                    f"{run.name.replace('_', ' ')}: {prediction.uncertainty:.3f}",
                    CELL,
                    GREY,
                )
                for prediction in found
            ]
        )
    picture = visualize.grid(list(zip(*columns, strict=True)))
    with atomic_path(arguments.output) as temporary:
        Image.fromarray(picture).save(temporary, Image.registered_extensions()[arguments.output.suffix], quality=90)


if __name__ == "__main__":
    main()
