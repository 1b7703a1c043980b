"""What 16-bit weights cost: size, logits and figures of a run's network, stored in each number format.

python benchmarks/half_precision.py runs/demo
"""

import sys
import tempfile
from pathlib import Path
from typing import get_args

import torch

from tascnet.build import build_dataset
from tascnet.evaluation.evaluate import evaluate
from tascnet.inference.predictor import Predictor
from tascnet.networks.opening import load_network
from tascnet.networks.sharing import Precision, write_shared_file

NUM_IMAGES_OF_LOGITS = 10


def main(run: str) -> None:
    trained = load_network(run)
    dataset = build_dataset(trained.config.data.val)
    images = [dataset[index].image[None] for index in range(min(NUM_IMAGES_OF_LOGITS, len(dataset)))]
    wanted = logits(trained.model, images)
    print(
        f"stuff logits of {len(images)} images: {min(map(torch.min, wanted)):.2f} to {max(map(torch.max, wanted)):.2f}"
    )
    print("| format | MB | PQ / things / stuff | mIoU | AP | largest difference of a logit | same argmax |")
    print("|---|---|---|---|---|---|---|")
    for precision in get_args(Precision):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "a.safetensors"
            write_shared_file(trained, file, precision)
            size, model = file.stat().st_size / 1e6, load_network(file).model
        found = logits(model, images)
        difference = max(float((a - b).abs().max()) for a, b in zip(found, wanted, strict=True))
        same = torch.cat([(a.argmax(1) == b.argmax(1)).flatten() for a, b in zip(found, wanted, strict=True)])
        predictor = Predictor(model, trained.label_space, trained.config.data.input, trained.config.fusion)
        figures = evaluate(predictor, dataset).summary()
        pq = " / ".join(f"{figures[name]:.2f}" for name in ("pq", "pq_things", "pq_stuff"))
        print(
            f"| {precision} | {size:.1f} | {pq} | {figures['miou']:.2f} | {figures['ap']:.2f} | {difference:.3f} "
            f"| {same.double().mean():.2%} |"
        )


@torch.inference_mode()
def logits(model: torch.nn.Module, images: list[torch.Tensor]) -> list[torch.Tensor]:
    """The stuff head's logits of each image."""
    return [model(image).stuff_logits for image in images]


if __name__ == "__main__":
    main(sys.argv[1])
