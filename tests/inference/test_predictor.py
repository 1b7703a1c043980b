"""Predictor: whatever a photo is and however large, its result has the photo's own size."""

import gc
import math
import threading
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tascnet.config import FusionOptions, InputConfig
from tascnet.data.images import read_image, rgb_tensor
from tascnet.data.streets.dataset import Streets
from tascnet.data.transforms import resize_photo
from tascnet.errors import InputError
from tascnet.fusion import fuse_mask_guided
from tascnet.inference.engines.eager import EagerEngine
from tascnet.inference.predictor import Predictor
from tascnet.model.norm_pairs import has_norms
from tascnet.model.tascnet import Outputs
from tascnet.networks.opening import load_network, open_network
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Size

SPACE = LabelSpace((Category(5, "sky", False), Category(9, "bird", True)))
EXIF_ORIENTATION = 0x0112
TURNED_LEFT = 6  # the camera was turned: to see the picture upright, turn it by 90 degrees to the right


class StubNetwork(nn.Module):
    """Sees sky in the left half of any picture, a bird of the given score in the right half; notes what came in."""

    num_stuff = 1
    conventions = "tascnet"

    def __init__(self, score: float):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.register_buffer("pixel_mean", torch.zeros(3, 1, 1))
        self.score = score
        self.inputs: list[Tensor] = []

    def forward(self, images: Tensor) -> Outputs:
        self.inputs.append(images)
        height, width = images.shape[-2:]
        stuff_logits = torch.full((len(images), 2, -(-height // 4), -(-width // 4)), 5.0)  # channels: sky, things
        middle = stuff_logits.shape[-1] // 2
        stuff_logits[:, 0, :, middle:] = -5
        stuff_logits[:, 1, :, :middle] = -5
        bird = Instances(
            boxes=torch.tensor([[width / 2, 0, width, height]]),
            labels=torch.tensor([0]),
            scores=torch.tensor([self.score]),
            masks=torch.ones(1, 28, 28),
        )
        return Outputs(stuff_logits, [bird] * len(images))


def stub(score: float = 0.9, short_side: int = 0, max_long_side: int = 4096) -> tuple[Predictor, StubNetwork]:
    network = StubNetwork(score)
    inputs = InputConfig(short_side=short_side, max_long_side=max_long_side)
    return Predictor(network, SPACE, inputs, FusionOptions(method="mask-guided", min_stuff_area=0)), network  # type: ignore[arg-type]


def halves(size: Size) -> Tensor:
    """The bird, segment 1, in the right half; the sky, segment 2, in the left."""
    ids = torch.full(size, 2, dtype=torch.int32)
    ids[:, size.width // 2 :] = 1
    return ids


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(tiny_run: Path) -> Predictor:
    return Predictor.from_checkpoint(tiny_run)


def assert_same(first: PanopticSegmentation, second: PanopticSegmentation) -> None:
    assert torch.equal(first.id_map, second.id_map)
    assert first.segments == second.segments


class TestTheNetwork:
    def test_of_a_checkpoint_is_folded(self, predictor: Predictor, tiny_run: Path):
        plain = open_network(tiny_run)
        assert has_norms(plain.model)
        assert not has_norms(predictor.engine.model)
        engine = EagerEngine(plain.model)
        assert engine.model is plain.model
        assert has_norms(plain.model)
        image = photo(33, 65)
        (wanted,), (found,) = engine(rgb_tensor(image)[None]), predictor.heads([image])
        torch.testing.assert_close(found.padded_logits, wanted.padded_logits, rtol=1e-4, atol=1e-4)
        assert not torch.equal(found.padded_logits, wanted.padded_logits)

    def test_that_trains_is_run_with_the_weights_that_it_has(self, predictor: Predictor, tiny_run: Path):
        model = open_network(tiny_run).model
        trained = Predictor(model, predictor.label_space, InputConfig(), FusionOptions())
        (before,) = trained.heads([photo(33, 65)])
        with torch.no_grad():
            next(p for p in model.backbone.parameters()).mul_(1.5)
        (after,) = trained.heads([photo(33, 65)])
        assert not torch.equal(before.padded_logits, after.padded_logits)
        assert all(parameter.requires_grad for parameter in model.fpn.pyramid.inner_blocks.parameters())

    def test_keeps_its_mode(self, predictor: Predictor, tiny_run: Path):
        """One that is being trained is looked at on the way."""
        model = open_network(tiny_run).model.train()
        model.fpn.eval()  # a part that is frozen
        before = [module.training for module in model.modules()]
        assert any(before)
        again = Predictor(model, predictor.label_space, InputConfig(), FusionOptions())
        assert [module.training for module in model.modules()] == before
        again.predict(photo(33, 65))
        again.predict_batch([photo(33, 65), photo(32, 64)], batch_size=2)
        assert [module.training for module in model.modules()] == before

    def test_predicts_in_evaluation_mode(self):
        """Batch norm in training mode would see the one photo only, and remember it."""
        predictor, network = stub()
        network.train()
        norm, seen = nn.BatchNorm2d(3), []
        network.add_module("norm", norm)
        network.register_forward_pre_hook(lambda module, _: seen.append((module.training, norm.training)))
        predictor.predict(photo(16, 32))
        assert seen == [(False, False)]
        assert (network.training, norm.training) == (True, True)


class TestResultsAreOrdinaryTensors:
    """They can be changed, trained on and sent elsewhere, as those of any function."""

    @pytest.mark.parametrize("conventions", ["tascnet", "detectron2"])
    @pytest.mark.parametrize("method", ["joint", "mask-guided", "unguided"])
    def test_each_can_be_changed(self, tiny_run: Path, method: Any, conventions: Any):
        network, fusion = open_network(tiny_run), FusionOptions(method=method, score_threshold=0.05)
        predictor = Predictor(network.model, network.label_space, network.config.data.input, fusion, conventions)
        prediction = predictor.predict(photo(45, 70))
        kept = predictor.predict(photo(45, 70))
        found = {name: value for name, value in vars(prediction).items() if isinstance(value, Tensor)}
        found |= {f"instances.{name}": value for name, value in vars(prediction.instances).items()}
        found |= {"id_map": prediction.segmentation.id_map, "semantic": prediction.semantic}
        found |= {name: getattr(prediction, name).values for name in ("stuff_logits", "residual")}
        assert len(found) == 9
        for name, tensor in found.items():
            assert not tensor.is_inference(), name
            assert not tensor.requires_grad, name
            tensor[..., :1] = 0
            tensor.mul_(2)
        assert not torch.equal(prediction.stuff_logits.values, kept.stuff_logits.values)
        again = predictor.predict(photo(45, 70))
        assert torch.equal(again.segmentation.id_map, kept.segmentation.id_map)

    def test_a_layer_can_be_trained_on_them(self, predictor: Predictor):
        logits = predictor.predict(photo(64, 96)).stuff_logits.values
        layer = nn.Conv2d(len(logits), 2, 1)
        layer(logits[None]).sum().backward()
        assert layer.weight.grad is not None
        assert torch.allclose(layer.weight.grad[0, :, 0, 0], logits.sum((1, 2)), rtol=1e-3)


class TestByHand:
    @pytest.mark.parametrize(
        ("short_side", "max_long_side", "input_size"), [(0, 4096, (16, 32)), (8, 4096, (8, 16)), (64, 64, (32, 64))]
    )
    def test_the_input_is_resized_and_the_result_is_not(
        self, short_side: int, max_long_side: int, input_size: tuple[int, int]
    ):
        predictor, network = stub(short_side=short_side, max_long_side=max_long_side)
        prediction = predictor.predict(photo(16, 32))
        assert [tuple(images.shape) for images in network.inputs] == [(1, 3, *input_size)]
        segmentation = prediction.segmentation.validate(SPACE)
        assert torch.equal(segmentation.id_map, halves(Size(16, 32)))
        assert [(s.id, s.category_id, s.area) for s in segmentation.segments] == [(1, 9, 256), (2, 5, 256)]
        assert segmentation.segments[0].score == pytest.approx(0.9)
        assert prediction.instances.boxes.tolist() == [[16.0, 0.0, 32.0, 16.0]]
        assert torch.equal(prediction.semantic, halves(Size(16, 32)) % 2)  # sky 0, bird 1
        assert prediction.residual.grid == (input_size[0] // 4, input_size[1] // 4)
        assert prediction.stuff_logits.grid == prediction.residual.grid
        options = FusionOptions(min_stuff_area=0)
        again = fuse_mask_guided(
            prediction.stuff_logits, prediction.instances, SPACE, Size(16, 32), options
        ).segmentation
        assert torch.equal(again.id_map, segmentation.id_map)

    def test_the_network_gets_the_photo_itself_where_nothing_is_resized(self):
        predictor, network = stub()
        image = photo(9, 21)
        predictor(image)
        assert torch.equal(network.inputs[0][0], torch.from_numpy(image).permute(2, 0, 1))

    def test_both_masks_agree(self):
        predictor, _ = stub(score=0.9)
        prediction = predictor.predict(photo(16, 32))
        assert prediction.residual.values.max() < 0.01
        assert prediction.uncertainty < 0.01

    def test_the_masks_disagree_where_the_bird_is_too_uncertain_to_be_used(self):
        predictor, _ = stub(score=0.3)
        prediction = predictor.predict(photo(16, 32))
        assert [segment.category_id for segment in prediction.segmentation.segments] == [5]
        assert prediction.residual.values[:, :4].max() < 0.01
        assert prediction.residual.values[:, 4:].min() > 0.99
        assert prediction.uncertainty > 0.99
        assert prediction.instances.scores.tolist() == pytest.approx([0.3])  # average precision wants it all the same

    def test_the_things_mask_has_the_detections_that_fusion_uses(self):
        """Joint fusion: a mask that is sure of itself makes up for a box that is not."""
        network = StubNetwork(0.3)
        joint = Predictor(network, SPACE, InputConfig(), FusionOptions(method="joint", min_stuff_area=0))  # type: ignore[arg-type]
        prediction = joint.predict(photo(16, 32))
        score = 1 / (1 + math.exp(-math.log(0.3 / 0.7) - 5 * (1 - 0.65)))
        assert [segment.score for segment in prediction.segmentation.segments] == pytest.approx([score, None])
        assert prediction.scored.scores.tolist() == pytest.approx([score])
        assert torch.equal(prediction.scored.boxes, prediction.instances.boxes)
        assert prediction.instances.scores.tolist() == pytest.approx([0.3])
        assert prediction.uncertainty < 0.01

    def test_calling_it_gives_the_segmentation(self):
        predictor, _ = stub()
        assert_same(predictor(photo(16, 32)), predictor.predict(photo(16, 32)).segmentation)


class TestPhotos:
    def test_path_picture_array_and_tensor_are_the_same(self, predictor: Predictor, tmp_path: Path):
        image = photo(70, 90)
        Image.fromarray(image).save(tmp_path / "a.png")
        wanted = predictor(image).validate(predictor.label_space)
        assert wanted.size == (70, 90)
        assert wanted.segments
        for given in (
            tmp_path / "a.png",
            str(tmp_path / "a.png"),
            Image.fromarray(image),
            torch.from_numpy(image).permute(2, 0, 1),
        ):
            assert_same(predictor(given), wanted)

    @pytest.mark.parametrize("size", [(1, 1), (1, 50), (100, 12000), (12000, 100)])
    def test_of_any_size(self, predictor: Predictor, size: tuple[int, int]):
        prediction = predictor.predict(np.full((*size, 3), 90, dtype=np.uint8))
        assert prediction.segmentation.validate(predictor.label_space).size == size
        assert prediction.semantic.shape == size

    def test_of_any_size_where_the_short_side_is_given(self, tiny_run: Path):
        checkpoint = load_network(tiny_run)
        inputs = InputConfig(short_side=64, max_long_side=128)
        predictor = Predictor(checkpoint.model, checkpoint.label_space, inputs, checkpoint.config.fusion)
        for size in ((1, 1), (500, 3), (3, 500)):
            assert predictor(np.zeros((*size, 3), dtype=np.uint8)).validate(checkpoint.label_space).size == size

    @pytest.mark.parametrize("mode", ["L", "RGBA", "LA", "P", "CMYK", "1"])
    def test_of_any_mode(self, predictor: Predictor, tmp_path: Path, mode: str):
        suffix = ".tif" if mode == "CMYK" else ".png"
        Image.fromarray(photo(40, 60)).convert(mode).save(tmp_path / f"a{suffix}")
        assert predictor(tmp_path / f"a{suffix}").validate(predictor.label_space).size == (40, 60)

    def test_grey_is_the_same_in_one_channel_and_in_three_in_8_bits_and_in_16(
        self, predictor: Predictor, tmp_path: Path
    ):
        grey = photo(40, 60)[..., 0]
        Image.fromarray(grey).save(tmp_path / "8.png")
        Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "16.png")
        wanted = predictor(np.repeat(grey[..., None], 3, axis=2))
        assert_same(predictor(tmp_path / "8.png"), wanted)
        assert_same(predictor(tmp_path / "16.png"), wanted)

    def test_a_photo_is_taken_as_the_eye_sees_it(self, predictor: Predictor, tmp_path: Path):
        upright = Image.fromarray(photo(60, 40))
        exif = Image.Exif()
        exif[EXIF_ORIENTATION] = TURNED_LEFT
        upright.rotate(90, expand=True).save(tmp_path / "a.png", exif=exif)
        with Image.open(tmp_path / "a.png") as stored:
            assert stored.size == (60, 40)
        assert predictor(tmp_path / "a.png").size == (60, 40)
        assert_same(predictor(tmp_path / "a.png"), predictor(upright))

    def test_what_is_no_photo(self, predictor: Predictor, tmp_path: Path):
        (tmp_path / "a.jpg").write_text("hello")
        for given, message in (
            (tmp_path / "a.jpg", r"a.jpg is not a picture"),
            (tmp_path / "b.jpg", r"b.jpg does not exist"),
            (np.zeros((5, 5), dtype=np.uint8), r"a picture is \(H, W, 3\) uint8 RGB; got \(5, 5\)"),
            (torch.zeros(3, 5, 5), r"a picture is \(3, H, W\) uint8 RGB; got .* torch.float32"),
        ):
            with pytest.raises(InputError, match=message):
                predictor(given)


class TestBatches:
    """Photos of one size share a batch; what comes out is as if they had not."""

    def test_only_photos_of_one_input_size_share_a_batch_and_the_order_stays(self):
        predictor, network = stub(short_side=16)
        sizes = [(16, 32), (8, 16), (32, 16), (16, 32), (16, 40), (32, 64)]  # (8, 16) and (32, 64) become (16, 32)
        predictions = predictor.predict_batch([photo(*size) for size in sizes], batch_size=3)
        assert [prediction.segmentation.size for prediction in predictions] == sizes
        for prediction, size in zip(predictions, sizes, strict=True):
            assert torch.equal(prediction.segmentation.id_map, halves(Size(*size)))
            assert torch.equal(prediction.image, torch.from_numpy(photo(*size)).permute(2, 0, 1))
        assert [tuple(images.shape) for images in network.inputs] == [
            (3, 3, 16, 32),  # numbers 0, 1 and 3; number 5 has to wait
            (1, 3, 32, 16),
            (1, 3, 16, 40),
            (1, 3, 16, 32),
        ]

    @pytest.mark.parametrize(("batch_size", "batches"), [(1, [1, 1, 1, 1, 1]), (2, [2, 2, 1]), (5, [5]), (9, [5])])
    def test_batches_are_as_large_as_asked_for(self, batch_size: int, batches: list[int]):
        predictor, network = stub()
        assert len(predictor.predict_batch([photo(16, 32)] * 5, batch_size)) == 5
        assert [len(images) for images in network.inputs] == batches

    def test_the_network_says_the_same_of_a_photo_alone_and_in_a_batch(self, predictor: Predictor):
        images = [
            torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (3, 64, 96), np.uint8)) for seed in range(3)
        ]
        with torch.inference_mode():
            together = predictor.engine.model(torch.stack(images))
            for index, image in enumerate(images):
                alone = predictor.engine.model(image[None])
                assert (together.stuff_logits[index] - alone.stuff_logits[0]).abs().max() < 1e-4
                assert len(together.instances[index]) == len(alone.instances[0])
                assert torch.allclose(together.instances[index].scores, alone.instances[0].scores, atol=1e-4)
                assert torch.allclose(together.instances[index].boxes, alone.instances[0].boxes, atol=1e-2)

    def test_results_are_those_of_single_photos(self, predictor: Predictor):
        streets = Streets(4, Size(64, 128))
        photos = [streets[0].image, streets[1].image[:, :50, :70], streets[2].image, streets[3].image]
        singles = [predictor.predict(image) for image in photos]
        for single, batched in zip(singles, predictor.predict_batch(photos, batch_size=3), strict=True):
            assert batched.segmentation.validate(predictor.label_space).size == tuple(single.image.shape[1:])
            assert [s.category_id for s in batched.segmentation.segments] == [
                s.category_id for s in single.segmentation.segments
            ]
            same = batched.segmentation.id_map == single.segmentation.id_map
            assert same.float().mean() > 0.999  # a pixel between two categories may fall to the other side
            assert batched.uncertainty == pytest.approx(single.uncertainty, abs=1e-4)
        assert all(single.segmentation.segments for single in singles)  # there is something to compare

    def test_padding_to_a_common_size_would_change_the_result(self, predictor: Predictor):
        """Why photos of different sizes do not share a batch: the group norms see the padding."""
        image = torch.from_numpy(photo(64, 96)).permute(2, 0, 1)[None]
        padded = torch.nn.functional.pad(image, (0, 64, 0, 64))
        with torch.inference_mode():
            alone = predictor.engine.model(image)
            with_padding = predictor.engine.model(padded, image_sizes=[Size(64, 96)])
        difference = with_padding.stuff_logits_of(0, Size(64, 96)).values - alone.stuff_logits[0]
        assert difference.abs().max() > 0.01

    def test_calling_it_with_a_list_gives_a_list(self, predictor: Predictor, tmp_path: Path):
        Image.fromarray(photo(40, 60)).save(tmp_path / "a.png")
        first, second = predictor([tmp_path / "a.png", photo(70, 90)], batch_size=2)
        assert_same(first, predictor(photo(40, 60)))
        assert_same(second, predictor(photo(70, 90)))
        assert predictor([]) == []

    def test_a_tensor_of_several_photos_is_a_list_of_them(self):
        predictor, _ = stub()
        assert len(predictor.predict_batch(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), batch_size=2)) == 3

    def test_what_cannot_be_used(self, tmp_path: Path):
        predictor, _ = stub()
        with pytest.raises(InputError, match=r"photo 1 of the list, counted from 0: a picture is .* got \(8, 8\)"):
            predictor.predict_batch([photo(8, 8), np.zeros((8, 8), np.uint8)], batch_size=2)
        with pytest.raises(InputError, match=r"photo 0 of the list, counted from 0: .*none.jpg does not exist"):
            predictor([tmp_path / "none.jpg"])
        with pytest.raises(InputError, match="several photos come as a list; got one str"):
            predictor.predict_batch("photo.jpg")
        with pytest.raises(InputError, match="several photos come as a list; got one int"):
            predictor.predict_batch(5)  # type: ignore[arg-type]
        for batch_size in (0, -1, 2.5, "2", True):
            with pytest.raises(InputError, match=f"batch_size is a number of photos, 1 or more; got {batch_size!r}"):
                predictor.predict_batch([photo(8, 8)], batch_size)  # type: ignore[arg-type]


class TestStream:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in range(40):
            size = (16, 32) if number % 3 else (20, 12)
            Image.fromarray(np.full((*size, 3), number, np.uint8)).save(tmp_path / f"{number:02}.png")
        return tmp_path

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_every_photo_comes_in_order_with_its_path(self, folder: Path, batch_size: int):
        predictor, network = stub()
        paths = []
        for number, (path, prediction) in enumerate(predictor.stream(folder, batch_size)):
            paths.append(path)
            assert prediction.segmentation.size == ((16, 32) if number % 3 else (20, 12))
            assert prediction.image.unique().tolist() == [number]
        assert paths == sorted(folder.iterdir())
        assert max(len(images) for images in network.inputs) == batch_size

    def test_files_and_folders_are_named_as_on_the_command_line(self, folder: Path):
        predictor, _ = stub()
        inner = folder / "inner"
        inner.mkdir()
        Image.new("RGB", (8, 8)).save(inner / "a.png")
        named = [str(folder / "07.png"), inner]
        assert [path for path, _ in predictor.stream(named)] == [folder / "07.png", inner / "a.png"]
        assert [path for path, _ in predictor.stream(str(folder / "07.png"))] == [folder / "07.png"]

    @pytest.mark.parametrize("batch_size", [1, 4])
    def test_memory_does_not_grow_with_the_number_of_photos(self, folder: Path, batch_size: int):
        """Photos that are alive are counted whenever one is read; all 40 of them would be, if one list held them."""
        predictor, _ = stub()
        alive: set[int] = set()
        highest = 0

        def counted(path: Path) -> Tensor:
            nonlocal highest
            image = read_image(path)
            number = int(path.stem)
            alive.add(number)
            weakref.finalize(image, alive.discard, number)
            highest = max(highest, len(alive))
            return image

        for _, prediction in predictor.stream(folder, batch_size, read=counted):
            del prediction
        gc.collect()
        assert alive == set()
        assert batch_size < highest <= 5 * batch_size

    def test_nothing_is_read_that_nobody_asks_for(self, folder: Path):
        predictor, _ = stub()
        read: list[Path] = []
        stream = predictor.stream(folder, read=lambda path: read.append(path) or read_image(path))
        assert read == []
        next(stream)
        assert 1 <= len(read) <= 2
        stream.close()  # type: ignore[attr-defined]
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("read_ahead")]

    def test_a_broken_photo_is_raised_in_its_turn(self, folder: Path):
        (folder / "05.png").write_bytes(b"\x89PNG")
        predictor, _ = stub()
        stream = predictor.stream(folder, batch_size=4)
        assert [next(stream)[0].name for _ in range(5)] == [f"0{number}.png" for number in range(5)]
        with pytest.raises(InputError, match=r"05\.png is not a picture"):
            next(stream)

    def test_a_broken_photo_is_left_out_where_somebody_is_told(self, folder: Path):
        (folder / "05.png").write_bytes(b"\x89PNG")
        (folder / "39.png").write_text("no picture")
        predictor, _ = stub()
        told: list[tuple[str, str]] = []
        stream = predictor.stream(folder, 4, on_error=lambda path, error: told.append((path.name, str(error))))
        names = [path.name for path, _ in stream]
        assert names == [f"{number:02}.png" for number in range(40) if number not in (5, 39)]
        assert [name for name, _ in told] == ["05.png", "39.png"]
        assert all("is not a picture that can be read" in sentence for _, sentence in told)

    def test_what_cannot_be_used_is_said_at_once(self, tmp_path: Path):
        predictor, _ = stub()
        with pytest.raises(InputError, match="holds no pictures"):
            predictor.stream(tmp_path)
        with pytest.raises(InputError, match="none does not exist"):
            predictor.stream([tmp_path / "none"])
        with pytest.raises(InputError, match="batch_size is a number of photos"):
            predictor.stream(tmp_path, 0)


class TestStuffViaTheInput:
    def test_is_two_interpolations_one_after_the_other(self, tiny_run: Path):
        """Stride 4 -> input of 90 x 70 pixels -> photo of 45 x 35: the best channel of each pixel."""
        checkpoint = load_network(tiny_run)
        checkpoint.model.stuff_head.offset = 0.0
        inputs = InputConfig(short_side=70)
        fusion = FusionOptions(score_threshold=1.0, min_stuff_area=1, unclaimed="stuff")
        predictor = Predictor(checkpoint.model, checkpoint.label_space, inputs, fusion, "detectron2")
        image = photo(45, 35)
        resized = resize_photo(torch.from_numpy(image).permute(2, 0, 1), Size(90, 70), "pillow")
        with torch.inference_mode():
            logits = checkpoint.model(resized[None]).stuff_logits[:, : len(checkpoint.label_space.stuff)]
        at_input = interpolate(logits, scale_factor=4, mode="bilinear")[:, :, :90, :70]
        wanted = interpolate(at_input, size=(45, 35), mode="bilinear")[0].argmax(0)
        assert wanted.unique().numel() > 1
        found = predictor(image).semantic_map(checkpoint.label_space)
        assert (found == wanted).float().mean() > 0.999

    @pytest.mark.parametrize("size", [(61, 90), (125, 253), (66, 39), (33, 131), (1, 40)])
    @pytest.mark.parametrize("short_side", [0, 97])
    def test_differs_in_few_pixels_from_the_direct_way(self, tiny_run: Path, size: tuple[int, int], short_side: int):
        """Whatever the sides are: both place the same cells over the photo, apart from those in the padding."""
        checkpoint = load_network(tiny_run)
        results = []
        inputs = InputConfig(short_side=short_side)
        for via_input in (False, True):
            fusion = FusionOptions(score_threshold=1.0, min_stuff_area=1, unclaimed="stuff")
            predictor = Predictor(checkpoint.model, checkpoint.label_space, inputs, fusion)
            predictor.conventions = replace(predictor.conventions, via_input=via_input)
            results.append(predictor(photo(*size)).semantic_map(checkpoint.label_space))
        differ = results[0] != results[1]
        edges = results[1].diff(dim=0, prepend=results[1][:1]) != 0
        edges |= results[1].diff(dim=1, prepend=results[1][:, :1]) != 0
        inner = slice(None, -3), slice(None, -3)  # the last cells are mixed with the padding's
        assert differ[inner].sum() <= 0.1 * edges[inner].sum() + 1


class TestFromCheckpoint:
    def test_a_run_and_its_newest_checkpoint_are_the_same(self, predictor: Predictor, tiny_run: Path):
        other = Predictor.from_checkpoint(str(tiny_run / "checkpoints" / "step_000002"))
        assert other.label_space == predictor.label_space
        assert_same(other(photo(70, 90)), predictor(photo(70, 90)))

    def test_another_fusion(self, tiny_run: Path):
        nothing_is_large_enough = FusionOptions(score_threshold=1.0, min_stuff_area=10**6)
        predictor = Predictor.from_checkpoint(tiny_run, fusion=nothing_is_large_enough)
        assert predictor(photo(70, 90)).segments == ()

    def test_none(self, tmp_path: Path):
        with pytest.raises(InputError, match="holds no checkpoint"):
            Predictor.from_checkpoint(tmp_path)
