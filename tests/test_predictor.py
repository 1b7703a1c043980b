"""Predictor: whatever a photo is and however large, its result has the photo's own size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import interpolate

from tascnet.checkpoint import load_checkpoint
from tascnet.config import FusionConfig, InputConfig
from tascnet.data.transforms import resize_photo
from tascnet.errors import InputError
from tascnet.model.tascnet import Outputs
from tascnet.predictor import Predictor
from tascnet.structures import Category, Instances, LabelSpace, PanopticSegmentation, Size

SPACE = LabelSpace((Category(5, "sky", False), Category(9, "bird", True)))
EXIF_ORIENTATION = 0x0112
TURNED_LEFT = 6  # the camera was turned: to see the picture upright, turn it by 90 degrees to the right


class StubNetwork(nn.Module):
    """Sees sky in the left half of any picture, a bird of the given score in the right half; notes what came in."""

    num_stuff = 1

    def __init__(self, score: float):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.register_buffer("pixel_mean", torch.zeros(3, 1, 1))
        self.score = score
        self.inputs: list[Tensor] = []

    def forward(self, images: Tensor) -> Outputs:
        self.inputs.append(images)
        height, width = images.shape[-2:]
        stuff_logits = torch.full((1, 2, -(-height // 4), -(-width // 4)), 5.0)  # channels: sky, things
        middle = stuff_logits.shape[-1] // 2
        stuff_logits[0, 0, :, middle:] = -5
        stuff_logits[0, 1, :, :middle] = -5
        bird = Instances(
            boxes=torch.tensor([[width / 2, 0, width, height]]),
            labels=torch.tensor([0]),
            scores=torch.tensor([self.score]),
            masks=torch.ones(1, 28, 28),
        )
        return Outputs(stuff_logits, [bird])


def stub(score: float = 0.9, short_side: int = 0, max_long_side: int = 4096) -> tuple[Predictor, StubNetwork]:
    network = StubNetwork(score)
    inputs = InputConfig(short_side=short_side, max_long_side=max_long_side)
    return Predictor(network, SPACE, inputs, FusionConfig(method="mask-guided", min_stuff_area=0)), network  # type: ignore[arg-type]


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
        assert prediction.residual.shape == (input_size[0] // 4, input_size[1] // 4)

    def test_the_network_gets_the_photo_itself_where_nothing_is_resized(self):
        predictor, network = stub()
        image = photo(9, 21)
        predictor(image)
        assert torch.equal(network.inputs[0][0], torch.from_numpy(image).permute(2, 0, 1))

    def test_both_masks_agree(self):
        predictor, _ = stub(score=0.9)
        prediction = predictor.predict(photo(16, 32))
        assert prediction.residual.max() < 0.01
        assert prediction.doubt < 0.01

    def test_the_masks_disagree_where_the_bird_is_too_uncertain_to_be_used(self):
        predictor, _ = stub(score=0.3)
        prediction = predictor.predict(photo(16, 32))
        assert [segment.category_id for segment in prediction.segmentation.segments] == [5]
        assert prediction.residual[:, :4].max() < 0.01
        assert prediction.residual[:, 4:].min() > 0.99
        assert prediction.doubt > 0.99
        assert prediction.instances.scores.tolist() == pytest.approx([0.3])  # average precision wants it all the same

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
        checkpoint = load_checkpoint(tiny_run)
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


class TestStuffViaTheInput:
    def test_is_two_interpolations_one_after_the_other(self, tiny_run: Path):
        """Stride 4 -> input of 90 x 70 pixels -> photo of 45 x 35: the best channel of each pixel."""
        checkpoint = load_checkpoint(tiny_run)
        inputs = InputConfig(short_side=70)
        fusion = FusionConfig(score_threshold=1.0, min_stuff_area=1, unclaimed="stuff", via_input=True)
        predictor = Predictor(checkpoint.model, checkpoint.label_space, inputs, fusion)
        image = photo(45, 35)
        resized = resize_photo(torch.from_numpy(image).permute(2, 0, 1), Size(90, 70))
        with torch.inference_mode():
            logits = checkpoint.model(resized[None]).stuff_logits[:, : len(checkpoint.label_space.stuff)]
        at_input = interpolate(logits, scale_factor=4, mode="bilinear")[:, :, :90, :70]
        wanted = interpolate(at_input, size=(45, 35), mode="bilinear")[0].argmax(0)
        assert wanted.unique().numel() > 1
        found = predictor(image).semantic_map(checkpoint.label_space)
        assert (found == wanted).float().mean() > 0.999


class TestFromCheckpoint:
    def test_a_run_and_its_newest_checkpoint_are_the_same(self, predictor: Predictor, tiny_run: Path):
        other = Predictor.from_checkpoint(str(tiny_run / "checkpoints" / "step_000002"))
        assert other.label_space == predictor.label_space
        assert_same(other(photo(70, 90)), predictor(photo(70, 90)))

    def test_another_fusion(self, tiny_run: Path):
        nothing_is_large_enough = FusionConfig(score_threshold=1.0, min_stuff_area=10**6)
        predictor = Predictor.from_checkpoint(tiny_run, fusion=nothing_is_large_enough)
        assert predictor(photo(70, 90)).segments == ()

    def test_none(self, tmp_path: Path):
        with pytest.raises(InputError, match="holds no checkpoint"):
            Predictor.from_checkpoint(tmp_path)
