"""Small splits in Cityscapes' folders; `test_cityscapes_official.py` compares with the official conversion."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet.build import build_dataset
from tascnet.config import DatasetConfig
from tascnet.convert.cityscapes import write_panoptic
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.cityscapes_ids import excusing_void, from_instance_ids
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.merged import group_categories
from tascnet.errors import InputError
from tascnet.structures import Segment

VALUES = [
    [7, 7, 11, 26001, 26001, 26],
    [7, 24001, 24002, 26, 29001, 0],
    [3, 29, 4, 24001, 1024, 9],
]
SEGMENTS = (
    Segment(7, 7, 3),
    Segment(11, 11, 1),
    Segment(26, 26, 2, is_crowd=True),
    Segment(24001, 24, 2),
    Segment(24002, 24, 1),
    Segment(26001, 26, 2),
)
IDS = [
    [7, 7, 11, 26001, 26001, 26],
    [7, 24001, 24002, 26, 0, 0],
    [0, 0, 0, 24001, 0, 0],
]


def write_picture(root: Path, city: str, stem: str, values: list = VALUES, split: str = "val") -> tuple[Path, Path]:
    """Photo and annotation of one picture; gives both files."""
    photo = root / "leftImg8bit" / split / city / f"{stem}_leftImg8bit.png"
    annotation = root / "gtFine" / split / city / f"{stem}_gtFine_instanceIds.png"
    for path in (photo, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(values, np.uint16)).save(annotation)
    Image.new("RGB", (len(values[0]), len(values)), (1, 2, 3)).save(photo)
    return photo, annotation


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pictures, the second all void."""
    write_picture(tmp_path, "ulm", "ulm_000001_000019")
    write_picture(tmp_path, "aachen", "aachen_000000_000019", [[0, 1]])
    return tmp_path


def test_reading_the_official_layout(root: Path) -> None:
    dataset = Cityscapes(root, "val")
    assert dataset.label_space is CITYSCAPES
    first, second = dataset
    assert (first.name, first.image_id) == ("aachen_000000_000019", "aachen_000000_000019")
    assert (second.name, second.image_id) == ("ulm_000001_000019", "ulm_000001_000019")
    assert first.segmentation.segments == ()
    assert first.segmentation.id_map.tolist() == [[0, 0]]
    assert second.image.tolist() == [[[channel] * 6] * 3 for channel in (1, 2, 3)]
    assert second.segmentation.segments == SEGMENTS
    assert second.segmentation.id_map.tolist() == IDS
    assert dataset[-1].name == "ulm_000001_000019"
    with pytest.raises(IndexError):
        dataset[2]


def test_what_excuses_detections_has_no_numbered_caravans(root: Path) -> None:
    void = [[False] * 6, [False] * 5 + [True], [True, True, True, False, False, True]]
    assert Cityscapes(root, "val").excusing_void(1).tolist() == void
    # labels that cannot be counted have no numbers in official files; if they have, they are as there
    assert excusing_void(np.array([[1024, 29, 30001, 26001, 26, 7]])).tolist() == [[False, True, *[False] * 4]]


def test_stuff_with_a_number_is_a_segment_of_its_own_as_in_the_official_conversion() -> None:
    segmentation = from_instance_ids(np.array([[7, 7003, 7003]], np.int32))
    assert segmentation.segments == (Segment(7, 7, 1), Segment(7003, 7, 2))


def test_the_grouped_categories(root: Path) -> None:
    dataset = group_categories(Cityscapes(root, "val"), "supercategory")
    names = ["flat", "construction", "object", "nature", "sky", "human", "vehicle"]
    assert [(c.name, c.is_thing) for c in dataset.label_space.categories] == [
        (name, name in ("human", "vehicle")) for name in names
    ]
    assert [s.category_id for s in dataset.annotation(1).segments] == [1, 2, 7, 6, 6, 7]


def test_which_form_is_read(root: Path) -> None:
    write_panoptic(root / "gtFine", "val", [list(Cityscapes(root, "val"))[1]])  # holds one picture, of two
    with pytest.raises(InputError, match="1 of 2 pictures have no annotation, 'aachen_000000_000019' for one"):
        Cityscapes(root, "val", "panoptic")
    assert len(Cityscapes(root, "val")) == 2
    for city in (root / "gtFine" / "val").iterdir():
        for file in city.iterdir():
            file.unlink()
    (root / "leftImg8bit" / "val" / "aachen" / "aachen_000000_000019_leftImg8bit.png").unlink()
    for dataset in (Cityscapes(root, "val"), Cityscapes(root, "val", "panoptic")):
        (sample,) = dataset
        assert sample.name == sample.image_id == "ulm_000001_000019"
        assert sample.image.tolist() == [[[channel] * 6] * 3 for channel in (1, 2, 3)]
        assert sample.segmentation.segments == SEGMENTS
        assert dataset.excusing_void(0) is None  # those files do not tell
    with pytest.raises(InputError, match=r"split 'val' has no annotation: there is no \S*_gtFine_instanceIds.png\."):
        Cityscapes(root, "val", "instance_ids")
    with pytest.raises(InputError, match="form is 'png'; it may be 'instance_ids', 'panoptic', or None"):
        Cityscapes(root, "val", "png")  # type: ignore[arg-type]


def test_converted_files_with_train_ids_are_refused(root: Path) -> None:
    write_panoptic(root / "gtFine", "val", Cityscapes(root, "val"))
    path = root / "gtFine" / "cityscapes_panoptic_val.json"
    path.write_text(path.read_text().replace('"id": 33, "name"', '"id": 18, "name"'))
    with pytest.raises(InputError, match=r"does not list the 19 categories .* without --use-train-id"):
        Cityscapes(root, "val", "panoptic")


def test_without_photos_annotation_can_be_read(root: Path) -> None:
    (root / "leftImg8bit").rename(root / "elsewhere")
    dataset = Cityscapes(root, "val")
    assert dataset.annotation(1).segments == SEGMENTS
    with pytest.raises(InputError, match=r"photos .* does not exist; unpack leftImg8bit beside gtFine"):
        dataset[0]


@pytest.mark.parametrize("stem", ["bad honnef_000000_000019", "zürich_東京_000019", "a", "x_gtFine_y", "100%_[1]*?"])
def test_any_name_works(tmp_path: Path, stem: str) -> None:
    root = tmp_path / "Städte und Straßen"
    write_picture(root, stem, stem)
    (sample,) = Cityscapes(root, "val")
    assert sample.name == stem
    assert sample.segmentation.segments == SEGMENTS
    write_panoptic(root / "gtFine", "val", [sample])
    (again,) = Cityscapes(root, "val", "panoptic")
    assert again.name == stem
    assert again.segmentation.id_map.tolist() == IDS


def test_other_files_and_hidden_ones_are_passed_over(root: Path) -> None:
    (root / "gtFine" / "val" / "README").write_text("hello")
    (root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_polygons.json").write_text("{}")
    (root / "gtFine" / "val" / "ulm" / "._ulm_000001_000019_gtFine_instanceIds.png").write_text("of macOS")
    (root / "gtFine" / "val" / "empty").mkdir()
    assert len(Cityscapes(root, "val")) == 2


@pytest.mark.parametrize("target", ["loop", "..", ".", "nowhere"])
@pytest.mark.parametrize("tree", ["leftImg8bit", "gtFine"])
def test_links_in_circles_or_to_nowhere_are_named(root: Path, tree: str, target: str) -> None:
    (root / tree / "val" / "loop").symlink_to(target)
    with pytest.raises(InputError, match=r"val/loop is a link that leads nowhere or back to where it is"):
        Cityscapes(root, "val")


def test_links_to_other_folders_are_followed(root: Path, tmp_path: Path) -> None:
    for tree in ("leftImg8bit", "gtFine"):
        (root / tree / "val" / "ulm").rename(root / tree / "ulm")
        (root / tree / "val" / "ulm").symlink_to(root / tree / "ulm")
    assert len(Cityscapes(root, "val")) == 2


def test_a_file_that_is_a_link_to_itself(root: Path) -> None:
    path = root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png"
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(InputError, match=r"ulm_000001_000019_gtFine_instanceIds.png"):
        Cityscapes(root, "val").annotation(1)


def test_missing_counterparts_are_named(root: Path) -> None:
    annotation = root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png"
    content = annotation.read_bytes()
    annotation.unlink()
    with pytest.raises(InputError, match="1 of 2 pictures have no annotation, 'ulm_000001_000019' for one"):
        Cityscapes(root, "val")
    annotation.write_bytes(content)
    (root / "leftImg8bit" / "val" / "ulm" / "ulm_000001_000019_leftImg8bit.png").unlink()
    with pytest.raises(InputError, match="1 of 2 pictures have no photo, 'ulm_000001_000019' for one"):
        Cityscapes(root, "val")


def test_a_file_that_vanishes_later(root: Path) -> None:
    dataset = Cityscapes(root, "val")
    (root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png").unlink()
    with pytest.raises(InputError, match=r"ulm_000001_000019_gtFine_instanceIds.png does not exist"):
        dataset[1]


def test_two_pictures_of_one_name_are_refused(root: Path) -> None:
    write_picture(root, "zurich", "ulm_000001_000019")
    with pytest.raises(InputError, match=r"two pictures have the name 'ulm_000001_000019': .*ulm/.* and .*zurich/"):
        Cityscapes(root, "val")


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([[7, 77]], "the values 77, which stand for no Cityscapes label"),
        ([[34, 33]], "the values 34, which"),
        ([[34000, 33999]], "the values 34000, which"),
        ([[65535, 500, 600, 700, 800, 900]], r"the values 500, 600, 700, 800, 900, \.\.\., which"),
    ],
)
def test_values_of_no_label(tmp_path: Path, values: list, named: str) -> None:
    _, path = write_picture(tmp_path, "ulm", "ulm_0_0", values)
    with pytest.raises(InputError, match=named) as error:
        Cityscapes(tmp_path, "val")[0]
    assert str(path) in str(error.value)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "1"])
def test_pictures_that_cannot_hold_an_object_s_number(root: Path, mode: str) -> None:
    path = root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png"
    Image.fromarray(np.array(VALUES).astype(np.uint8) % 30).convert(mode).save(path)
    with pytest.raises(InputError, match=r"of mode (L|P|RGB|RGBA); instanceIds files are grey with 16") as error:
        Cityscapes(root, "val").annotation(1)
    assert str(path) in str(error.value)


def test_32_bit_values_are_read(root: Path) -> None:
    path = root / "gtFine" / "val" / "ulm" / "ulm_000001_000019_gtFine_instanceIds.png"
    Image.fromarray(np.array(VALUES, np.int32)).save(path, format="TIFF")
    assert Cityscapes(root, "val").annotation(1).segments == SEGMENTS
    Image.fromarray(np.array([[-1, 2**31 - 1]], np.int32)).save(path, format="TIFF")
    with pytest.raises(InputError, match="the values -1, 2147483647, which stand for no Cityscapes label"):
        Cityscapes(root, "val").annotation(1)


def test_truncated_files(root: Path) -> None:
    for tree, ending in (("gtFine", "gtFine_instanceIds"), ("leftImg8bit", "leftImg8bit")):
        path = root / tree / "val" / "ulm" / f"ulm_000001_000019_{ending}.png"
        content = path.read_bytes()
        path.write_bytes(content[:-25])
        with pytest.raises(InputError, match=rf"ulm_000001_000019_{ending}.png is broken or cut short"):
            Cityscapes(root, "val")[1]
        path.write_bytes(content)


def test_photo_and_annotation_of_different_size(root: Path) -> None:
    photo = root / "leftImg8bit" / "val" / "ulm" / "ulm_000001_000019_leftImg8bit.png"
    Image.new("RGB", (7, 3)).save(photo)
    with pytest.raises(
        InputError, match=r"is 3 x 7 pixels \(height x width\), but .*instanceIds.png says 3 x 6"
    ) as error:
        Cityscapes(root, "val")[1]
    assert str(photo) in str(error.value)


def test_a_photo_annotated_without_its_turn_is_not_turned(root: Path) -> None:
    photo = Image.new("RGB", (6, 3))
    exif = photo.getexif()
    exif[0x0112] = 6  # a quarter turn
    photo.save(root / "leftImg8bit" / "val" / "ulm" / "ulm_000001_000019_leftImg8bit.png", exif=exif)
    assert Cityscapes(root, "val")[1].image.shape == (3, 3, 6)


def test_the_test_split_has_no_annotation(root: Path) -> None:
    kept = "keeps the annotation of its test split to itself: use train or val"
    with pytest.raises(InputError, match=f"split 'test' has no annotation: .*{kept}"):
        Cityscapes(root, "test")
    write_picture(root, "berlin", "berlin_0_0", [[1, 3, 0]], split="test")  # as in the official archive
    with pytest.raises(InputError, match=r"'test' in .* is placeholders: berlin_0_0_gtFine_instanceIds.png holds no"):
        Cityscapes(root, "test")
    write_picture(root, "berlin", "berlin_0_0", VALUES, split="test")  # as made by somebody else
    assert Cityscapes(root, "test")[0].segmentation.segments == SEGMENTS
    with pytest.raises(InputError, match=r"split 'vall' has no annotation: .* Check root and split\.$"):
        Cityscapes(root, "vall")


def test_a_config_names_it(root: Path) -> None:
    dataset = build_dataset(DatasetConfig(format="cityscapes", root=str(root), split="val"))
    assert isinstance(dataset, Cityscapes)
    assert torch.equal(dataset[1].segmentation.id_map, torch.tensor(IDS, dtype=torch.int32))
    grouped = DatasetConfig("cityscapes", str(root), "val", group_by="supercategory", num_images=1)
    assert len(build_dataset(grouped)) == 1
    assert build_dataset(grouped).label_space.categories[0].name == "flat"


def test_made_up_sample_of_another_project(shared_data: Path) -> None:
    """Its second folder has 16-bit files, with a number on a label that has none (1024); its first has 8-bit files."""
    folder = shared_data / "formats" / "cityscapes_dataset"
    (train,) = Cityscapes(folder / "train_dataset", "train")
    assert train.name == "defaultcity_000002_000045"
    assert train.segmentation.segments == (Segment(24001, 24, 1),)
    assert train.segmentation.id_map.tolist() == [[0, 0, 24001, 0, 0]]
    (val,) = Cityscapes(folder / "train_dataset", "val")
    assert val.segmentation.segments == ()
    first, second = Cityscapes(folder / "train_dataset", "test")
    assert first.segmentation.segments == (Segment(27001, 27, 1), Segment(27002, 27, 2))
    assert second.segmentation.segments == (Segment(12, 12, 1), Segment(31001, 31, 2))
    with pytest.raises(InputError, match="of mode L; instanceIds files are grey with 16 bits"):
        Cityscapes(folder / "dataset", "train")[0]
