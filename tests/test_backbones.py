"""Ten small networks, no two of a family, with random weights: each is built, trained for one step, and predicts."""

from collections.abc import Callable

import pytest
import torch

from tascnet.build import build_model, build_optimizer
from tascnet.config import Config
from tascnet.data.batch import collate
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.inference.predictor import Predictor
from tascnet.structures import Size
from tascnet.training import total_loss

NETWORKS = [
    "resnet18",
    "convnext_atto",
    "convnextv2_atto",
    "efficientnet_b0",
    "mobilenetv3_small_100",
    "regnety_002",
    "hrnet_w18_small",
    "pvt_v2_b0",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
]


@pytest.mark.parametrize("name", NETWORKS)
def test_builds_trains_and_predicts(name: str, tiny_config: Callable[[], Config]) -> None:
    config = tiny_config()
    config.model.backbone.name = name
    torch.manual_seed(0)
    model = build_model(config, STREETS).train()
    streets = Streets(2, Size(64, 96))
    batch = collate([streets[0], streets[1]], STREETS)
    optimizer = build_optimizer(config.optimizer, model)
    trained = {key: value.clone() for key, value in model.backbone.named_parameters() if value.requires_grad}

    losses = model(batch.images, batch.targets, batch.image_sizes)
    total_loss(losses, stuff_weight=1.0, consistency_weight=1.0).backward()
    optimizer.step()

    assert all(loss.isfinite() for loss in losses.values())
    after = dict(model.backbone.named_parameters())
    assert all(after[key].grad is not None for key in trained)  # nothing is left out of the loss
    assert not torch.equal(after[next(iter(trained))], trained[next(iter(trained))])  # down to the first layer
    # a size that is no multiple of 32, nor of any window
    prediction = Predictor(model, STREETS, config.data.input, config.fusion).predict(streets[0].image[:, :50, :70])
    assert prediction.segmentation.size == Size(50, 70)
    assert prediction.residual.values.isfinite().all()
