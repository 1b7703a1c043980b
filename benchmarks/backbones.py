"""Backbones from eleven families: parameters (millions), time of a training step of two pictures, of a prediction.

    python benchmarks/backbones.py

Generated streets of 256 x 512, random weights (times do not depend on them), the demo's heads. Times are seconds of the
processor in one thread, the best of several runs: other programs on the machine hardly change them.
"""

import argparse
import time
from collections.abc import Callable

import timm
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from tascnet.build import build_model, build_optimizer
from tascnet.commands.demo import demo_config
from tascnet.config import Config
from tascnet.data.batch import collate
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.errors import InputError
from tascnet.model.tascnet import TASCNet
from tascnet.structures import Size
from tascnet.training import total_loss

SIZE = Size(256, 512)
NETWORKS = {
    "resnet18": "ResNet",
    "resnet50": "ResNet",
    "resnext50_32x4d": "ResNeXt",
    "convnext_tiny": "ConvNeXt",
    "convnextv2_nano": "ConvNeXt V2",
    "efficientnet_b0": "EfficientNet",
    "mobilenetv3_large_100": "MobileNet V3",
    "regnety_008": "RegNet",
    "hrnet_w18": "HRNet",
    "pvt_v2_b1": "PVT v2",
    "swin_tiny_patch4_window7_224": "Swin",
    "swinv2_tiny_window8_256": "Swin V2",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(NETWORKS), help="timm networks; default one or two a family")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{SIZE.height} x {SIZE.width}, one thread, timm {timm.__version__}")
    for column in ("backbone", "family"):
        table.add_column(column, no_wrap=True)
    for column in ("own M", "all M", "step s", "predict s"):
        table.add_column(column, justify="right")
    for name in arguments.names:
        try:
            model = _network(name)
        except InputError as error:
            raise SystemExit(f"backbones.py: {error}") from error
        own, whole = (sum(p.numel() for p in part.parameters()) / 1e6 for part in (model.backbone.network, model))
        step, prediction = (
            processor_seconds(prepare(name), arguments.repeats) for prepare in (prepare_step, prepare_prediction)
        )
        table.add_row(name, NETWORKS.get(name, ""), f"{own:.1f}", f"{whole:.1f}", f"{step:.2f}", f"{prediction:.2f}")
    Console().print(table)


def processor_seconds(call: Callable[[], Tensor], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):  # the first warms up
        started = time.process_time()
        call()
        times.append(time.process_time() - started)
    return min(times[1:])


def prepare_step(name: str) -> Callable[[], Tensor]:
    model = _network(name).train()
    streets = Streets(2, SIZE)
    batch = collate([streets[0], streets[1]], STREETS)
    optimizer = build_optimizer(_config(name).optimizer, model)

    def call() -> Tensor:
        loss = total_loss(model(batch.images, batch.targets, batch.image_sizes), 1.0, 1.0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    return call


def prepare_prediction(name: str) -> Callable[[], Tensor]:
    model = _network(name).eval()
    image = Streets(1, SIZE)[0].image[None]

    @torch.inference_mode()
    def call() -> Tensor:
        return model(image).stuff_logits

    return call


def _config(name: str) -> Config:
    config = demo_config(minutes=1, steps=1)
    config.model.backbone.name = name
    config.model.backbone.freeze_stem = False
    config.model.backbone.norm = "bn"
    return config


def _network(name: str) -> TASCNet:
    torch.manual_seed(0)
    return build_model(_config(name), STREETS)


if __name__ == "__main__":
    main()
