"""Photos with a PNG of categories and a PNG of instances each."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tascnet.data.formats.png_pairs import PngPairs
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, Segment

CATEGORIES = """
categories:
  - {id: 7, name: road, isthing: 0, color: [128, 64, 128]}
  - {id: 300, name: sky, isthing: 0, supercategory: above}
  - {id: 26, name: car, isthing: 1}
  - {id: 24, name: person, isthing: 1}
void: [0, 255]
"""
NUMBERS = [[0, 7, 7, 300], [26, 26, 24, 300], [26, 26, 24, 255]]
INSTANCES = [[9, 0, 3, 0], [1, 2, 1, 0], [0, 2, 1, 5]]


def write(root: Path, split: str = "", name: str = "a", categories: object = NUMBERS) -> Path:
    """One picture of 3 x 4 pixels."""
    folder = root / split
    for kind, numbers in (("categories", categories), ("instances", INSTANCES)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.array(numbers, dtype=np.uint16)).save(folder / kind / f"{name}.png")
    (folder / "images").mkdir(exist_ok=True)
    Image.new("RGB", (4, 3), (1, 2, 3)).save(folder / "images" / f"{name}.jpg")
    (root / "categories.yaml").write_text(CATEGORIES)
    return root


def test_segments_of_a_picture(tmp_path: Path) -> None:
    """By hand: ordered by number; car 0 is a crowd; person 1 and car 1 are two; stuff and void have no instances."""
    dataset = PngPairs(write(tmp_path))
    assert dataset.label_space == LabelSpace(
        (
            Category(7, "road", False, (128, 64, 128)),
            Category(300, "sky", False, dataset.label_space[300].color, "above"),
            Category(26, "car", True, dataset.label_space[26].color),
            Category(24, "person", True, dataset.label_space[24].color),
        )
    )
    (sample,) = dataset
    assert sample.segmentation.validate(dataset.label_space).segments == (
        Segment(1, 7, 2),
        Segment(2, 24, 2),
        Segment(3, 26, 1, is_crowd=True),
        Segment(4, 26, 1),
        Segment(5, 26, 2),
        Segment(6, 300, 2),
    )
    assert sample.segmentation.id_map.tolist() == [[0, 1, 1, 6], [4, 5, 2, 6], [3, 5, 2, 0]]
    assert (sample.name, sample.image_id, sample.photo) == ("a", "a", tmp_path / "images" / "a.jpg")
    assert sample.image.shape == (3, 3, 4)


def test_splits_are_folders_and_pictures_come_by_name(tmp_path: Path) -> None:
    for name in ("Straße 1", "b c", "空"):
        write(tmp_path, "train", name)
    write(tmp_path, "val", "x")
    assert [sample.name for sample in PngPairs(tmp_path, "train")] == ["Straße 1", "b c", "空"]
    assert [sample.name for sample in PngPairs(tmp_path, "val")] == ["x"]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_eight_bits_and_palettes(tmp_path: Path, mode: str) -> None:
    """A palette's entries count by their number; their colours do not."""
    numbers = np.array([[26, 7, 0]], dtype=np.uint8)
    write(tmp_path)
    for kind, values in (("categories", numbers), ("instances", np.array([[2, 1, 1]], dtype=np.uint8))):
        picture = Image.fromarray(values)
        if mode == "P":
            picture.putpalette([(i * 37) % 256 for i in range(768)])
        assert picture.mode == mode
        picture.save(tmp_path / kind / "a.png")
    Image.new("RGB", (3, 1)).save(tmp_path / "images" / "a.jpg")
    segmentation = PngPairs(tmp_path).annotation(0)
    assert segmentation.segments == (Segment(1, 7, 1), Segment(2, 26, 1))
    assert segmentation.id_map.tolist() == [[2, 1, 0]]


def test_sixteen_bit_instances_are_told_apart(tmp_path: Path) -> None:
    numbers = np.array([[1, 257, 65535]], dtype=np.uint16)
    write(tmp_path, categories=[[26, 26, 26]])
    Image.fromarray(numbers).save(tmp_path / "instances" / "a.png")
    assert PngPairs(tmp_path).annotation(0).id_map.tolist() == [[1, 2, 3]]


def test_runs_do_not_pass_from_row_to_row_wrongly(tmp_path: Path) -> None:
    """Against a pixel by pixel reading of random numbers."""
    rng = np.random.default_rng(0)
    categories = rng.choice([0, 7, 300, 26, 24], (20, 30)).astype(np.uint16)
    instances = rng.integers(0, 3, (20, 30)).astype(np.uint16)
    write(tmp_path)
    Image.fromarray(categories).save(tmp_path / "categories" / "a.png")
    Image.fromarray(instances).save(tmp_path / "instances" / "a.png")
    segmentation = PngPairs(tmp_path).annotation(0)
    kind_of = {segment.id: (segment.category_id, segment.is_crowd) for segment in segmentation.segments}
    id_of: dict[tuple[int, int], int] = {}
    for category, instance, segment_id in zip(
        categories.ravel().tolist(), instances.ravel().tolist(), segmentation.id_map.ravel().tolist(), strict=True
    ):
        if category == 0:
            assert segment_id == 0
            continue
        is_thing = category in (24, 26)
        assert kind_of[segment_id] == (category, is_thing and instance == 0)
        assert id_of.setdefault((category, instance if is_thing else 0), segment_id) == segment_id
    assert len(id_of) == len(kind_of) == 2 + 2 * 3


def _rgb(path: Path) -> None:
    Image.new("RGB", (4, 3)).save(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _other_size(path: Path) -> None:
    Image.fromarray(np.full((3, 5), 7, dtype=np.uint8)).save(path)


def _unlisted(path: Path) -> None:
    Image.fromarray(np.full((3, 4), 8, dtype=np.uint8)).save(path)


@pytest.mark.parametrize(
    ("damage", "file", "finding"),
    [
        (Path.unlink, "categories/a.png", r"categories/a\.png does not exist; .*images/a\.jpg needs it"),
        (Path.unlink, "instances/a.png", r"instances/a\.png does not exist"),
        (Path.unlink, "images/a.jpg", r"the folder .*images holds no pictures"),
        (_loop, "images/a.jpg", r"images/a\.jpg cannot be read: .*symbolic links"),
        (_loop, "instances/a.png", r"instances/a\.png cannot be read: .*symbolic links"),
        (_cut, "categories/a.png", r"categories/a\.png is broken or cut short"),
        (_cut, "images/a.jpg", r"images/a\.jpg is broken or cut short"),
        (_rgb, "categories/a.png", r"categories/a\.png is a picture of mode RGB with 3 channels; a number a pixel"),
        (_rgb, "instances/a.png", r"instances/a\.png is a picture of mode RGB"),
        (_other_size, "categories/a.png", r"instances/a\.png is 3 x 4 .* but .*categories/a\.png is 3 x 5"),
        (_other_size, "images/a.jpg", r"images/a\.jpg is 3 x 5 .* but .*categories/a\.png says 3 x 4"),
        (
            _unlisted,
            "categories/a.png",
            r"categories/a\.png holds the numbers 8, which .*categories\.yaml does not",
        ),
    ],
)
def test_broken_files(tmp_path: Path, damage, file: str, finding: str) -> None:
    damage(write(tmp_path) / file)
    with pytest.raises(InputError, match=rf"(?s){finding}.*\.$"):
        PngPairs(tmp_path)[0]


def test_files_without_a_partner(tmp_path: Path) -> None:
    write(tmp_path, name="a")
    write(tmp_path, name="b")
    (tmp_path / "images" / "b.jpg").unlink()
    with pytest.raises(InputError, match=r"categories/b\.png has no picture of its name"):
        PngPairs(tmp_path)
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "b.png")
    assert len(PngPairs(tmp_path)) == 2
    Image.new("RGB", (4, 3)).save(tmp_path / "images" / "a.png")
    with pytest.raises(InputError, match=r"a\.jpg and a\.png have one name"):
        PngPairs(tmp_path)


@pytest.mark.parametrize("folder", ["images", "categories", "instances"])
def test_missing_folders(tmp_path: Path, folder: str) -> None:
    (write(tmp_path) / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=f"the folder .*{folder} does not exist; png_pairs needs"):
        PngPairs(tmp_path)


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (None, "does not exist"),
        ("{", "is not valid YAML"),
        ("void: [0]", "has no list 'categories'"),
        ("categories: [{id: 1, name: a}]", "lacks isthing"),
        ("categories: [5]", "each of the categories is"),
        ("categories: [{id: one, name: a, isthing: 0}]", "cannot be used"),
        ("categories: [{id: 1, name: a, isthing: 0}, {id: 1, name: b, isthing: 0}]", r"\[1\] appear more than once"),
        ("categories: [{id: 70000, name: a, isthing: 0}]", r"'a' has id 70000; PNGs hold 0\.\.65535"),
        ("categories: [{id: 1, name: a, isthing: 0}]\nvoid: [1]", "1 is 'a' and void at once"),
        ("categories: [{id: 1, name: a, isthing: 0}]\nvoid: nothing", "void is 'nothing'; it is a list of numbers"),
        ("categories: [{id: 1, name: a, isthing: 0}]\nvoids: [1]", "unknown key 'voids'"),
    ],
)
def test_categories_yaml_that_breaks_a_rule(tmp_path: Path, text: str | None, finding: str) -> None:
    path = write(tmp_path) / "categories.yaml"
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=rf"(?s)categories\.yaml.*{finding}"):
        PngPairs(tmp_path)
