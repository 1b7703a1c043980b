"""Samples reduced while they are read: exact in size and ids, near in colours."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet.data.formats.coco import CocoPanoptic, write_coco_panoptic
from tascnet.data.images import read_image
from tascnet.data.loading import load_sample, loading_size
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import Streets
from tascnet.data.transforms import resize_short_side
from tascnet.errors import InputError
from tascnet.structures import PanopticSegmentation, Segment, Size

SIDEWAYS = Image.Exif()
SIDEWAYS[0x0112] = 6
UPSIDE_DOWN = Image.Exif()
UPSIDE_DOWN[0x0112] = 3


@pytest.fixture(scope="module")
def street() -> Sample:
    return Streets(1, Size(301, 535))[0]


def save(sample: Sample, path: Path, **arguments: object) -> Path:
    Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(path, quality=95, **arguments)
    return path


@pytest.mark.parametrize(
    ("size", "short_side", "expected"),
    [
        (Size(4000, 5500), 1024, Size(1024, 1408)),
        (Size(5500, 4000), 1024, Size(1408, 1024)),
        (Size(300, 500), 0, Size(300, 500)),
        (Size(300, 500), 300, Size(300, 500)),
        (Size(300, 500), 301, Size(300, 500)),  # never enlarged
        (Size(1, 500), 1, Size(1, 500)),
    ],
)
def test_loading_size(size: Size, short_side: int, expected: Size) -> None:
    assert loading_size(size, short_side) == expected


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("short_side", [30, 50, 97, 200, 301])
def test_the_same_as_reducing_the_whole(tmp_path: Path, street: Sample, suffix: str, short_side: int) -> None:
    path = save(street, tmp_path / f"a.{suffix}")
    reduced = load_sample(path, street.segmentation, "a", 1, Path("a.json"), short_side)
    whole = load_sample(path, street.segmentation, "a", 1, Path("a.json"))
    assert whole.image.shape == street.image.shape
    expected = resize_short_side(whole, short_side)
    assert tuple(reduced.image.shape) == tuple(expected.image.shape) == (3, *reduced.segmentation.size)
    assert torch.equal(reduced.segmentation.id_map, expected.segmentation.id_map)
    assert reduced.segmentation.segments == expected.segmentation.segments
    reduced.segmentation.validate(Streets.label_space)
    difference = (reduced.image.int() - expected.image.int()).abs()
    assert difference.max() <= (2 if suffix == "png" else 60)
    assert difference.float().mean() <= (0.1 if suffix == "png" else 3)


@pytest.mark.parametrize("width", [801, 804, 807, 808])
def test_edges_stay_where_they_are(tmp_path: Path, width: int) -> None:
    """A ramp of one grey step every four pixels, reduced by 8: no drift to the right or the bottom.

    With the last, partial pixels of the reduced JPEG taken for whole ones, the right end would be off by a step or two.
    """
    ramp = np.tile((np.arange(width) / 4 + 10).round().astype(np.uint8), (64, 1))
    Image.fromarray(np.stack([ramp] * 3, axis=2)).save(tmp_path / "a.jpg", quality=100)
    image = read_image(tmp_path / "a.jpg", size_of=lambda size: Size(8, 100))
    centres = (np.arange(100) + 0.5) * width / 100 - 0.5
    assert np.abs(image[0].numpy() - (centres / 4 + 10))[:, 1:-1].max() <= 1


@pytest.mark.parametrize("exif", [SIDEWAYS, UPSIDE_DOWN])
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_turned_by_exif(tmp_path: Path, street: Sample, exif: Image.Exif, suffix: str) -> None:
    path = save(street, tmp_path / f"a.{suffix}", exif=exif)
    whole = read_image(path)
    reduced = read_image(path, size_of=lambda size: Size(size.height // 5, size.width // 5))
    expected = torch.nn.functional.interpolate(whole[None].float(), tuple(reduced.shape[1:]), mode="area")[0]
    assert reduced.shape == ((3, 107, 60) if exif is SIDEWAYS else (3, 60, 107))
    assert (reduced.float() - expected).abs().mean() <= 6
    assert (reduced.flip(2).float() - expected).abs().mean() > 12  # another turn would be seen


def test_annotated_without_its_turn(tmp_path: Path, street: Sample) -> None:
    path = save(street, tmp_path / "a.jpg", exif=SIDEWAYS)
    sample = load_sample(path, street.segmentation, "a", 1, Path("a.json"), 100)
    plain = load_sample(save(street, tmp_path / "b.jpg"), street.segmentation, "b", 1, Path("a.json"), 100)
    assert torch.equal(sample.image, plain.image)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "I;16"])
def test_other_modes(tmp_path: Path, mode: str) -> None:
    suffix = "jpg" if mode in ("L", "CMYK") else "png"
    picture = Image.new("L", (90, 60), 77)
    picture = Image.fromarray(np.full((60, 90), 77 * 257, np.uint16)) if mode == "I;16" else picture.convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}", size_of=lambda size: Size(20, 30))
    assert image.shape == (3, 20, 30)
    assert (image.int() - 77).abs().max() <= 2


def test_a_segment_that_loses_its_pixels_is_left_out(tmp_path: Path) -> None:
    ids = np.full((40, 40), 1)
    ids[0, 0] = 2
    segmentation = PanopticSegmentation.from_id_map(ids, [Segment(1, 7, 0), Segment(2, 8, 0)])
    Image.new("RGB", (40, 40)).save(tmp_path / "a.jpg")
    sample = load_sample(tmp_path / "a.jpg", segmentation, "a", 1, Path("a.json"), 10)
    assert sample.segmentation.segments == (Segment(1, 7, 100),)
    assert [s.area for s in segmentation.segments] == [1599, 1]  # the whole stays as it is


@pytest.mark.parametrize("short_side", [0, 10, 20])
def test_a_photo_of_half_the_size_is_not_taken_for_a_reduced_one(tmp_path: Path, short_side: int) -> None:
    segmentation = PanopticSegmentation.from_id_map(np.ones((40, 40), int), [Segment(1, 7, 0)])
    Image.new("RGB", (20, 20)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"photo .*a\.jpg is 20 x 20 pixels .*a\.json says 40 x 40"):
        load_sample(tmp_path / "a.jpg", segmentation, "a", 1, Path("a.json"), short_side)


def test_a_cut_jpeg_is_found_at_any_scale(tmp_path: Path, street: Sample) -> None:
    path = save(street, tmp_path / "a.jpg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=r"a\.jpg is broken or cut short"):
        load_sample(path, street.segmentation, "a", 1, Path("a.json"), 40)


def test_coco_at_a_training_scale(tmp_path: Path, street: Sample) -> None:
    write_coco_panoptic(tmp_path / "a.json", Streets.label_space, [replace(street, name="a")])
    save(street, tmp_path / "a.jpg")
    dataset = CocoPanoptic(tmp_path / "a.json", tmp_path, load_short_side=64)
    expected = resize_short_side(CocoPanoptic(tmp_path / "a.json", tmp_path)[0], 64)
    assert torch.equal(dataset[0].segmentation.id_map, expected.segmentation.id_map)
    assert dataset[0].image.shape == expected.image.shape
    assert dataset.annotation(0).size == street.segmentation.size  # annotation alone is always whole
