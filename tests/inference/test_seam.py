"""The seam between the heads and fusion: what stands behind it can be replaced, and results are the same."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tascnet.config import FusionOptions, InputConfig
from tascnet.errors import InputError
from tascnet.inference.engines.engine import HeadOutputs
from tascnet.inference.predictor import Predictor
from tascnet.inference.result import Result
from tascnet.networks.opening import open_network

SIZES = [(33, 65), (34, 67), (33, 65), (1, 1), (35, 5)]


def image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(first: Result, second: Result) -> None:
    assert first.segmentation.segments == second.segmentation.segments
    assert torch.equal(first.segmentation.id_map, second.segmentation.id_map)
    assert torch.equal(first.instances.boxes, second.instances.boxes)
    assert torch.equal(first.scored.scores, second.scored.scores)
    assert torch.equal(first.semantic, second.semantic)
    assert torch.equal(first.stuff_logits.values, second.stuff_logits.values)
    assert torch.equal(first.residual.values, second.residual.values)
    assert (first.dropped, first.uncertainty) == (second.dropped, second.uncertainty)


class StoredOutputs:
    """An engine without a network: returns outputs that were computed before, in order."""

    def __init__(self, outputs: list[HeadOutputs]):
        self.outputs = outputs
        self.batches: list[Tensor] = []

    def __call__(self, images: Tensor) -> list[HeadOutputs]:
        self.batches.append(images)
        return [self.outputs.pop(0) for _ in images]


@pytest.fixture(scope="module", params=["tascnet", "detectron2"], ids=["from cells", "via input"])
def predictor(tiny_run: Path, request: pytest.FixtureRequest) -> Predictor:
    network = open_network(tiny_run)
    fusion = FusionOptions(score_threshold=0.0, min_stuff_share=0.0)
    return Predictor(network.model, network.label_space, InputConfig(short_side=40), fusion, request.param)


@pytest.mark.parametrize("size", SIZES)
def test_heads_and_finish_are_predict(predictor: Predictor, size: tuple[int, int]):
    (heads,) = predictor.heads([image(*size)])
    assert_same(predictor.finish(heads, image(*size)), predictor.predict(image(*size)))


def test_heads_of_mixed_sizes_come_in_the_order_of_the_images(predictor: Predictor):
    images = [image(*size, seed) for seed, size in enumerate(SIZES)]
    found = predictor.heads(images)
    for one, heads in zip(images, found, strict=True):
        wanted = predictor.heads([one])[0]
        assert heads.size == wanted.size
        assert torch.allclose(heads.padded_logits, wanted.padded_logits, atol=1e-4)


def test_an_engine_of_stored_outputs_takes_the_place_of_the_network(predictor: Predictor):
    images = [image(*size, seed) for seed, size in enumerate(SIZES)]
    engine = StoredOutputs([predictor.heads([one])[0] for one in images])
    fusion = FusionOptions(score_threshold=0.0, min_stuff_share=0.0)
    conventions = "detectron2" if predictor.conventions.via_input else "tascnet"
    replayed = Predictor(engine, predictor.label_space, InputConfig(short_side=40), fusion, conventions)
    for one, found in zip(images, replayed.predict_batch(images), strict=True):
        assert_same(found, predictor.predict(one))
    assert all(batch.dtype == torch.uint8 and batch.shape[:2] == (1, 3) for batch in engine.batches)


def test_an_engine_needs_its_settings():
    with pytest.raises(InputError, match="label_space, inputs and fusion"):
        Predictor(StoredOutputs([]))


def test_outputs_of_another_image_are_refused(predictor: Predictor):
    (heads,) = predictor.heads([image(33, 65)])
    with pytest.raises(InputError, match=r"input of 40 x 79 .* an image of 65 x 33 enters the network at 79 x 40"):
        predictor.finish(heads, image(65, 33))
