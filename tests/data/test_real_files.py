"""Files as tools and cameras write them: EXIF turns, formats of annotation, suffixes, own labels, encodings."""

import codecs
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet import convert
from tascnet.build import build_dataset
from tascnet.config import DatasetConfig
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.label_png import read_numbers
from tascnet.data.images import open_annotation, read_image
from tascnet.data.problems import Kind
from tascnet.data_tools.check import check_source
from tascnet.data_tools.convert import convert_data
from tascnet.data_tools.sheet import Sheet
from tascnet.data_tools.sources import find_sources
from tascnet.errors import InputError
from tascnet.files import read_json, read_yaml

CATEGORIES = "categories: [{id: 1, name: sky, isthing: 0}, {id: 2, name: car, isthing: 1}]\nvoid: [0]\n"
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3), dtype=np.uint8)


def write_pairs(root: Path, photo: str, orientation: int = 1, annotation: str = "a.png") -> Path:
    exif = Image.Exif()
    exif[0x112] = orientation
    for folder in ("images", "categories", "instances"):
        (root / folder).mkdir(parents=True)
    Image.fromarray(PIXELS).save(root / "images" / photo, exif=exif)
    for folder in ("categories", "instances"):
        Image.fromarray(np.ones((6, 9), np.uint8)).save(root / folder / annotation, format="PNG")
    (root / "categories.yaml").write_text(CATEGORIES)
    return root


def kinds(root: Path, **settings: str) -> set[Kind]:
    (source,) = find_sources(root, "auto", None, DatasetConfig(**settings))
    return {finding.kind for finding in check_source(source, Sheet()).findings} - {
        Kind.NO_THINGS,
        Kind.NEVER_SEEN,
    }


@pytest.mark.parametrize("photo", ["a.png", "a.tif"])
@pytest.mark.parametrize("orientation", [2, 3, 4, 6])
def test_exif_can_be_ignored(tmp_path: Path, photo: str, orientation: int) -> None:
    root = write_pairs(tmp_path / "set", photo, orientation)
    stored = torch.from_numpy(PIXELS).permute(2, 0, 1)
    config = DatasetConfig(format="png_pairs", root=str(root), exif="ignore")
    assert torch.equal(build_dataset(config)[0].image, stored)
    assert torch.equal(read_image(root / "images" / photo, exif="ignore"), stored)
    if orientation < 5:  # of the same size: nothing but the setting can tell
        applied = build_dataset(DatasetConfig(format="png_pairs", root=str(root)))[0].image
        flips = {2: (2,), 3: (1, 2), 4: (1,)}[orientation]
        assert torch.equal(applied, stored.flip(flips))
        assert kinds(root) == {Kind.TURNED}
    assert kinds(root, exif="ignore") == set()


def test_a_converted_photo_needs_no_setting(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "set", "a.png", 3)
    convert_data(root, tmp_path / "new", "auto", None, "copy", DatasetConfig(exif="ignore"))
    (source,) = find_sources(tmp_path / "new", "auto", None, DatasetConfig())
    assert torch.equal(source.open()[0].image, torch.from_numpy(PIXELS).permute(2, 0, 1))
    assert kinds(tmp_path / "new") == set()


@pytest.mark.parametrize("file_format", ["JPEG", "WEBP", "GIF"])
def test_annotation_in_another_format_is_refused(tmp_path: Path, file_format: str) -> None:
    Image.fromarray(np.full((6, 9), 2, np.uint8)).save(tmp_path / "a.png", format=file_format)
    with pytest.raises(InputError, match=rf"a.png is a file of format {file_format}; annotation is a PNG"):
        open_annotation(tmp_path / "a.png")


@pytest.mark.parametrize(("file_format", "compression"), [("TIFF", None), ("TIFF", "tiff_lzw"), ("BMP", None)])
def test_annotation_without_loss_is_read(tmp_path: Path, file_format: str, compression: str | None) -> None:
    options = {"compression": compression} if compression else {}
    Image.fromarray(np.arange(54, dtype=np.uint8).reshape(6, 9)).save(tmp_path / "a.png", file_format, **options)
    assert read_numbers(tmp_path / "a.png").tolist() == np.arange(54).reshape(6, 9).tolist()


def test_a_tiff_with_loss_is_refused(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", format="TIFF", compression="jpeg")
    with pytest.raises(InputError, match="format TIFF with JPEG or WebP inside"):
        open_annotation(tmp_path / "a.png")


def png_of(bits: int, color_type: int, rows: list[bytes], width: int) -> bytes:
    """A PNG, byte by byte, of depths that Pillow does not write."""
    import struct
    import zlib

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, len(rows), bits, color_type, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("color_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits_are_refused(tmp_path: Path, color_type: int, channels: int) -> None:
    (tmp_path / "a.png").write_bytes(png_of(16, color_type, [b"\x01\x02" * channels * 2] * 2, 2))
    with pytest.raises(InputError, match="colours of 16 bits a channel"):
        open_annotation(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("bits", "row", "numbers"), [(1, b"\xa0", [1, 0, 1]), (2, b"\xe4", [3, 2, 1]), (4, b"\x1f\x20", [1, 15, 2])]
)
def test_grey_of_few_bits_has_its_numbers(tmp_path: Path, bits: int, row: bytes, numbers: list[int]) -> None:
    (tmp_path / "a.png").write_bytes(png_of(bits, 0, [row], 3))
    assert read_numbers(tmp_path / "a.png").tolist() == [numbers]


@pytest.mark.parametrize(("photo", "annotation"), [("a.PNG", "a.PNG"), ("a.JPG", "a.png"), ("a.jpg", "a.PNG")])
def test_suffixes_in_capitals(tmp_path: Path, photo: str, annotation: str) -> None:
    root = write_pairs(tmp_path / "set", photo, annotation=annotation)
    assert kinds(root) == set()
    assert len(build_dataset(DatasetConfig(format="png_pairs", root=str(root)))) == 1


OWN = "# made by hand\n0 0 0 background\n9 1 1 weed\n\n18 2 2 bare soil\nlettuce\n"


def write_city(root: Path, values: list[int], split: str = "train", photo: str = "x_leftImg8bit.jpg") -> Path:
    for folder in ("gtFine", "leftImg8bit"):
        (root / folder / split / "farm").mkdir(parents=True)
    png = root / "gtFine" / split / "farm" / "x_gtFine_instanceIds.png"
    Image.fromarray(np.array([values], np.uint16)).save(png)
    Image.new("RGB", (len(values), 1)).save(root / "leftImg8bit" / split / "farm" / photo)
    return root


def test_own_labels_in_the_layout_of_cityscapes(tmp_path: Path) -> None:
    root = write_city(write_city(tmp_path, [0, 1, 2, 1000, 1001]), [0, 2, 3001], "val")
    (root / "label_colors.txt").write_text(OWN)
    train, val = Cityscapes(root, "train"), Cityscapes(root, "val")
    assert [(c.id, c.name, c.is_thing) for c in train.label_space.categories] == [
        (1, "weed", True),
        (2, "bare soil", False),
        (3, "lettuce", True),  # known from the other split
    ]
    assert train.label_space == val.label_space
    assert train.label_space[2].color == (18, 2, 2)
    segments = {s.id: (s.category_id, s.is_crowd) for s in train[0].segmentation.segments}
    assert segments == {1: (1, True), 2: (2, False), 1000: (1, False), 1001: (1, False)}
    assert train.excusing_void(0) is None
    write_city(root, [4], "more")
    with pytest.raises(InputError, match="0 to 3"):
        Cityscapes(root, "more")


def test_the_labels_of_cityscapes_themselves(tmp_path: Path) -> None:
    names = {category.id: category.name.replace(" ", "") for category in CITYSCAPES.categories}
    root = write_city(tmp_path, [7, 26001], photo="x_leftImg8bit.PNG")
    (root / "label_colors.txt").write_text("\n".join(f"{n} 0 0 {names.get(n, f'other{n}')}" for n in range(34)))
    assert Cityscapes(root, "train").label_space is CITYSCAPES


def test_two_photos_of_one_name_in_cityscapes(tmp_path: Path) -> None:
    root = write_city(tmp_path, [7, 26001])
    shutil.copy(root / "leftImg8bit/train/farm/x_leftImg8bit.jpg", root / "leftImg8bit/train/farm/x_leftImg8bit.png")
    with pytest.raises(InputError, match="two pictures have the name 'x'"):
        Cityscapes(root, "train")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_with_a_mark(tmp_path: Path, encoding: str) -> None:
    for name in ("a.json", "a.yaml"):
        (tmp_path / name).write_text('{"name": "道路"}', encoding=encoding)
    (tmp_path / "be.json").write_bytes(codecs.BOM_UTF16_BE + '{"name": "道路"}'.encode("utf-16-be"))
    for read in (read_json(tmp_path / "a.json"), read_yaml(tmp_path / "a.yaml"), read_json(tmp_path / "be.json")):
        assert read == {"name": "道路"}


@pytest.mark.parametrize("encoding", ["gb2312", "shift_jis", "big5"])
def test_other_encodings_are_called_so(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_text('{"name": "道路"}', encoding=encoding)
    with pytest.raises(InputError, match=r"is not text in UTF-8, byte 10 .* Save it in UTF-8") as caught:
        read_json(tmp_path / "a.json")
    assert "cut short" not in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "gztar", "xztar", "bztar", "tar"])
def test_archives_are_called_so(tmp_path: Path, kind: str) -> None:
    root = write_pairs(tmp_path / "set", "a.png")
    archive = Path(shutil.make_archive(str(tmp_path / "packed"), kind, root))
    with pytest.raises(InputError, match=r"is an archive \(\w+\). Unpack it"):
        find_sources(archive, "auto", None, DatasetConfig())


def test_results_of_transformers_without_a_segment() -> None:
    for empty in (torch.zeros(4, 5) - 1, torch.zeros(4, 5, dtype=torch.int32) - 1):
        read = convert.from_huggingface({"segmentation": empty, "segments_info": []}, CITYSCAPES)
        assert (read.size, read.segments) == ((4, 5), ())
    with pytest.raises(InputError, match="of integers"):
        convert.from_huggingface({"segmentation": torch.full((4, 5), 0.5), "segments_info": []}, CITYSCAPES)


def test_other_json_files_beside_a_split(tmp_path: Path) -> None:
    space = [c | {"color": [1, 2, 3]} for c in CITYSCAPES.to_list()]
    annotations = tmp_path / "annotations"
    (annotations / "panoptic_val").mkdir(parents=True)
    whole = {"images": [], "annotations": [{"segments_info": []}], "categories": space}
    (annotations / "panoptic_val.json").write_text(json.dumps(whole))
    for name, content in (
        ("image_info_test", {"images": [], "categories": space}),
        ("val_results", {"annotations": [{"segments_info": []}]}),
        ("old", whole),
    ):
        (annotations / f"panoptic_{name}.json").write_text(json.dumps(content))
    (annotations / "panoptic_val_results").mkdir()
    assert [source.name for source in find_sources(tmp_path, "coco", None, DatasetConfig())] == ["val"]
    (annotations / "panoptic_val.json").write_text('{"images": [], "annotations": [{"segments_info": [')  # cut short
    (tmp_path / "val").mkdir()
    assert [source.name for source in find_sources(tmp_path, "coco", None, DatasetConfig())] == ["val"]
