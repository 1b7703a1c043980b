import copy
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from tascnet.data.formats.coco import CocoPanoptic, decode_ids, encode_ids, write_coco_panoptic
from tascnet.data.sample import Sample
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

SPACE = LabelSpace(
    (
        Category(1, "person", True, (220, 20, 60), "person"),
        Category(90, "cat", True, (1, 2, 3), "animal"),
        Category(91, "dog", True, (4, 5, 6), "animal"),
        Category(119, "sky", False, (7, 8, 9), "outdoor-stuff"),
        Category(184, "tree", False, (9, 8, 7), "outdoor-stuff"),
    )
)
IDS = [
    [7, 7, 7, 300, 300, 0],
    [7, 65536, 65536, 300, 2**24 - 1, 2**24 - 1],
    [0, 65536, 300, 300, 70000, 2**24 - 1],
]
SEGMENTS = [
    Segment(7, 119, 4),
    Segment(300, 184, 5),
    Segment(65536, 90, 3),
    Segment(70000, 91, 1),
    Segment(2**24 - 1, 1, 3, is_crowd=True),
]


@dataclass(frozen=True)
class Item:
    name: str
    image_id: int | str
    segmentation: PanopticSegmentation


def segmentation(ids: list | torch.Tensor = IDS, segments: list = SEGMENTS) -> PanopticSegmentation:
    return PanopticSegmentation.from_id_map(torch.as_tensor(ids), segments)


def write_dataset(root: Path) -> Path:
    """Two pictures in the official layout, the second all void."""
    items = [Item("a", 11, segmentation()), Item("b", 12, segmentation([[0, 0]], []))]
    write_coco_panoptic(
        root / "annotations" / "panoptic_mini.json", SPACE, items, image_file_of=lambda item: f"{item.name}.png"
    )
    (root / "mini").mkdir()
    for name, (height, width) in (("a", (3, 6)), ("b", (1, 2))):
        Image.new("RGB", (width, height), (1, 2, 3)).save(root / "mini" / f"{name}.png")
    return root


def assert_equal(first: PanopticSegmentation, second: PanopticSegmentation) -> None:
    assert torch.equal(first.id_map, second.id_map)
    assert first.segments == second.segments


def test_colour_of_an_id() -> None:
    assert encode_ids(np.array([[0, 255, 256], [65536, 8345037, 2**24 - 1]])).tolist() == [
        [[0, 0, 0], [255, 0, 0], [0, 1, 0]],
        [[0, 0, 1], [205, 85, 127], [255, 255, 255]],
    ]


@given(hnp.arrays(np.int32, (3, 4), elements=st.integers(0, 2**24 - 1)))
def test_decode_is_the_inverse_of_encode(ids: np.ndarray) -> None:
    for id_map in (ids, torch.from_numpy(ids), ids.astype(np.int64)):
        colors = encode_ids(id_map)
        assert colors.dtype == np.uint8
        assert decode_ids(colors).tolist() == ids.tolist()


@pytest.mark.parametrize("value", [-1, 2**24])
def test_ids_of_more_than_24_bits_cannot_be_encoded(value: int) -> None:
    with pytest.raises(ValueError, match="24 bits"):
        encode_ids(np.array([[value]]))


def test_reading_the_official_layout(tmp_path: Path) -> None:
    dataset = CocoPanoptic.from_layout(write_dataset(tmp_path), "mini")
    assert len(dataset) == 2
    assert dataset.label_space == SPACE
    first, second = dataset
    assert isinstance(first, Sample)
    assert (first.name, first.image_id, second.name, second.image_id) == ("a", 11, "b", 12)
    assert first.image.tolist() == [[[channel] * 6] * 3 for channel in (1, 2, 3)]
    assert_equal(first.segmentation, segmentation())
    assert first.photo == tmp_path / "mini" / "a.png"
    assert second.segmentation.segments == ()
    assert second.segmentation.size == Size(1, 2)
    assert (dataset.sample_name(1), dataset.image_id(1)) == ("b", 12)


def test_written_json_word_for_word(tmp_path: Path) -> None:
    scored = segmentation([[0, 2], [300, 2]], [Segment(2, 90, 2, score=0.25), Segment(300, 184, 1)])
    write_coco_panoptic(tmp_path / "out.json", SPACE, [Item("city/x", "id7", scored)])
    assert json.loads((tmp_path / "out.json").read_text()) == {
        "images": [{"id": "id7", "file_name": "city/x.jpg", "height": 2, "width": 2}],
        "annotations": [
            {
                "image_id": "id7",
                "file_name": "city/x.png",
                "segments_info": [
                    {"id": 2, "category_id": 90, "area": 2, "bbox": [1, 0, 1, 2], "iscrowd": 0, "score": 0.25},
                    {"id": 300, "category_id": 184, "area": 1, "bbox": [0, 1, 1, 1], "iscrowd": 0},
                ],
            }
        ],
        "categories": SPACE.to_list(),
    }
    assert np.asarray(Image.open(tmp_path / "out" / "city" / "x.png")).tolist() == [
        [[0, 0, 0], [2, 0, 0]],
        [[44, 1, 0], [2, 0, 0]],
    ]


def test_what_is_written_reads_back_equal(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = []
    for number in range(5):
        ids = rng.integers(1, 2**24, 6)
        segments = [
            Segment(int(i), int(rng.choice([1, 90, 91])), 0, bool(rng.integers(2)), float(rng.random()))
            for i in ids[:3]
        ] + [Segment(int(i), category, 0) for i, category in zip(ids[3:5], (119, 184), strict=True)]
        id_map = rng.permutation(np.resize([0, *ids[:5]], 7 * 9)).reshape(7, 9)
        items.append(Item(f"picture.{number}", number, segmentation(torch.from_numpy(id_map), segments)))
    write_coco_panoptic(tmp_path / "out.json", SPACE, iter(items))
    dataset = CocoPanoptic(tmp_path / "out.json")
    assert len(dataset) == 5
    for index, item in enumerate(items):
        assert_equal(dataset.annotation(index), item.segmentation)
        assert (dataset.sample_name(index), dataset.image_id(index)) == (item.name, item.image_id)


def test_without_photos_only_annotation_can_be_read(tmp_path: Path) -> None:
    write_dataset(tmp_path)
    dataset = CocoPanoptic(tmp_path / "annotations" / "panoptic_mini.json")
    assert_equal(dataset.annotation(0), segmentation())
    with pytest.raises(InputError, match=r"panoptic_mini\.json was opened without a folder of photos"):
        dataset[0]


def test_missing_optional_keys_have_defaults(tmp_path: Path) -> None:
    content, path = _content(tmp_path)
    for info in content["annotations"][0]["segments_info"]:
        for key in ("area", "bbox", "iscrowd"):
            del info[key]
    path.write_text(json.dumps(content))
    segments = CocoPanoptic.from_layout(tmp_path, "mini").annotation(0).segments
    assert [(segment.area, segment.is_crowd) for segment in segments] == [(4, 0), (5, 0), (3, 0), (1, 0), (3, 0)]


def test_images_without_annotation_are_left_out(tmp_path: Path) -> None:
    content, path = _content(tmp_path)
    del content["annotations"][0]
    path.write_text(json.dumps(content))
    dataset = CocoPanoptic.from_layout(tmp_path, "mini")
    assert [dataset.sample_name(i) for i in range(len(dataset))] == ["b"]


def test_palette_png_of_the_same_colours(tmp_path: Path) -> None:
    path = write_dataset(tmp_path) / "annotations" / "panoptic_mini" / "a.png"
    Image.open(path).quantize(256).save(path)
    assert Image.open(path).mode == "P"
    assert_equal(CocoPanoptic.from_layout(tmp_path, "mini").annotation(0), segmentation())


def test_photo_annotated_without_its_exif_turn(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = write_dataset(tmp_path) / "mini" / "a.png"
    Image.open(path).save(path, exif=exif)
    assert CocoPanoptic.from_layout(tmp_path, "mini")[0].image.shape == (3, 3, 6)


def _content(root: Path) -> tuple[dict, Path]:
    path = write_dataset(root) / "annotations" / "panoptic_mini.json"
    return json.loads(path.read_text()), path


def _change(place: tuple, value: object) -> object:
    """A function that puts a value at a place in the JSON; without a value, that takes the place out."""

    def change(content: dict) -> None:
        *way, last = place
        for key in way:
            content = content[key]
        if value is ...:
            del content[last]
        else:
            content[last] = value

    return change


SEGMENT = ("annotations", 0, "segments_info", 0)


@pytest.mark.parametrize(
    ("place", "value", "finding"),
    [
        (("images",), ..., "has no list 'images'"),
        (("annotations",), {}, "has no list 'annotations'"),
        (("categories",), ..., "has no list 'categories'"),
        (("annotations",), [], "has no annotations"),
        (("categories", 0, "isthing"), ..., "category number 0 .* lacks isthing"),
        (("categories", 1, "id"), 1, r"category ids \[1\] appear more than once"),
        (("categories", 0, "color"), ["red"], "categories in .* cannot be used"),
        (("images", 1, "width"), ..., "image number 1 lacks width"),
        (("images", 1, "width"), "broad", "value of the wrong kind"),
        (("images", 1), 5, "image number 1 is not an object"),
        (("images", 1, "id"), 11, "the id 11 comes twice"),
        (("annotations", 1, "file_name"), ..., "annotation number 1 lacks file_name"),
        (("annotations", 1, "segments_info"), None, "value of the wrong kind"),
        (("annotations", 1, "image_id"), 99, r"b\.png: there is no image with id 99"),
        (("annotations", 1, "image_id"), 11, "image id 11 is annotated twice"),
        ((*SEGMENT, "category_id"), ..., r"a\.png, a segment lacks category_id"),
        ((*SEGMENT, "category_id"), 5, r"a\.png: segment 7 is of category 5"),
        ((*SEGMENT, "iscrowd"), 1, r"a\.png: segment 7 is a crowd of 'sky'"),
        ((*SEGMENT, "id"), 300, r"a\.png: segment ids \[300\] are used twice"),
        ((*SEGMENT, "id"), 0, r"a\.png: segment id 0 is not in 1\.\."),
        ((*SEGMENT, "id"), 2**24, r"a\.png: segment id 16777216 is not in 1\.\."),
        ((*SEGMENT, "id"), "seven", r"a\.png: segment id 'seven' is not in 1\.\."),
    ],
)
def test_json_that_breaks_a_rule(tmp_path: Path, place: tuple, value: object, finding: str) -> None:
    content, path = _content(tmp_path)
    _change(place, value)(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=rf"(?s)^(?=.*panoptic_mini\.json).*{finding}"):
        CocoPanoptic.from_layout(tmp_path, "mini")


@pytest.mark.parametrize(
    ("place", "value", "finding"),
    [
        (SEGMENT, ..., "ids 7 in the id map have no segment"),
        ((*SEGMENT, "id"), 9, "ids 7 in the id map have no segment"),
        (("images", 0, "height"), 4, "is 3 x 6 pixels .* says 4 x 6"),
    ],
)
def test_png_that_disagrees_with_the_json(tmp_path: Path, place: tuple, value: object, finding: str) -> None:
    content, path = _content(tmp_path)
    _change(place, value)(content)
    path.write_text(json.dumps(content))
    dataset = CocoPanoptic.from_layout(tmp_path, "mini")
    with pytest.raises(InputError, match=rf"(?s)^(?=.*panoptic_mini\.json).*a\.png.*{finding}"):
        dataset.annotation(0)
    dataset.annotation(1)  # the other picture is not concerned


@pytest.mark.parametrize("area", [5, 3.6057, None, 10**6])
def test_the_png_counts_whatever_area_the_json_has(tmp_path: Path, area: object) -> None:
    content, path = _content(tmp_path)
    _change((*SEGMENT, "area"), area)(content)
    path.write_text(json.dumps(content))
    assert_equal(CocoPanoptic.from_layout(tmp_path, "mini").annotation(0), segmentation())


def test_stuff_in_pieces_is_one_segment(tmp_path: Path) -> None:
    pieces = [[5, 5, 0, 8], [6, 0, 7, 8], [6, 1, 7, 9]]
    listed = [Segment(i, c, 0) for i, c in ((5, 119), (6, 119), (7, 184), (8, 90), (1, 90), (9, 119))]
    write_coco_panoptic(tmp_path / "p.json", SPACE, [Item("a", 1, segmentation(pieces, listed))])
    read = CocoPanoptic(tmp_path / "p.json").annotation(0)
    whole = [[5, 5, 0, 8], [5, 0, 7, 8], [5, 1, 7, 5]]  # objects of one category stay apart
    areas = ((5, 119, 5), (7, 184, 2), (8, 90, 2), (1, 90, 1))
    assert_equal(read, segmentation(whole, [Segment(*of_segment) for of_segment in areas]))


def test_segment_of_the_json_that_is_not_in_the_png(tmp_path: Path) -> None:
    content, path = _content(tmp_path)
    infos = content["annotations"][0]["segments_info"]
    infos.append(copy.deepcopy(infos[0]) | {"id": 8})
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"a\.png disagrees with .*: segments 8 have no pixel"):
        CocoPanoptic.from_layout(tmp_path, "mini").annotation(0)


def test_photo_of_another_size(tmp_path: Path) -> None:
    Image.new("RGB", (7, 3)).save(write_dataset(tmp_path) / "mini" / "a.png")
    with pytest.raises(InputError, match=r"mini/a\.png is 3 x 7 pixels .* says 3 x 6"):
        CocoPanoptic.from_layout(tmp_path, "mini")[0]


def test_grey_png_in_place_of_colours(tmp_path: Path) -> None:
    Image.new("L", (6, 3)).save(write_dataset(tmp_path) / "annotations" / "panoptic_mini" / "a.png")
    with pytest.raises(InputError, match=r"a\.png is a picture of mode L"):
        CocoPanoptic.from_layout(tmp_path, "mini").annotation(0)


@pytest.mark.parametrize("file", ["mini/a.png", "annotations/panoptic_mini/a.png"])
def test_missing_and_broken_pictures(tmp_path: Path, file: str) -> None:
    dataset = CocoPanoptic.from_layout(write_dataset(tmp_path), "mini")
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[:-30])
    with pytest.raises(InputError, match=rf"{file} is broken or cut short"):
        dataset[0]
    (tmp_path / file).unlink()
    with pytest.raises(InputError, match=rf"{file} does not exist"):
        dataset[0]


@pytest.mark.parametrize("folder", ["mini", "annotations/panoptic_mini"])
def test_missing_folder(tmp_path: Path, folder: str) -> None:
    (write_dataset(tmp_path) / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=rf"the folder .*{folder} does not exist"):
        CocoPanoptic.from_layout(tmp_path, "mini")


def test_missing_and_truncated_json(tmp_path: Path) -> None:
    _, path = _content(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"panoptic_mini\.json is not valid JSON"):
        CocoPanoptic.from_layout(tmp_path, "mini")
    with pytest.raises(InputError, match=r"panoptic_other\.json does not exist"):
        CocoPanoptic.from_layout(tmp_path, "other")


@pytest.mark.parametrize(
    ("items", "finding"),
    [
        ([Item("a", 1, segmentation()), Item("a", 2, segmentation())], "name 'a' or the image id 2 comes twice"),
        ([Item("a", 1, segmentation()), Item("b", 1, segmentation())], "name 'b' or the image id 1 comes twice"),
        ([Item("../a", 1, segmentation())], r"'\.\./a' leads out of the folder"),
        ([Item("/a", 1, segmentation())], "'/a' leads out of the folder"),
        ([Item("a", 1, segmentation([[1]], [Segment(1, 55, 0)]))], "cannot write 'a' to .*: category id 55 is unknown"),
        ([Item("a", 1, PanopticSegmentation(torch.tensor([[1]]), (Segment(1, 90, 2),)))], "'a' to .*: segment 1 has 1"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, items: list[Item], finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        write_coco_panoptic(tmp_path / "out.json", SPACE, items)
    assert not (tmp_path / "out.json").exists()


def test_json_needs_its_suffix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"must end in \.json"):
        write_coco_panoptic(tmp_path / "out", SPACE, [])


@pytest.mark.parametrize(("split", "count", "step"), [("train2017", 100, 5), ("val2017", 50, 1)])
def test_real_pictures_read(shared_data: Path, split: str, count: int, step: int) -> None:
    dataset = CocoPanoptic.from_layout(shared_data / "coco_mini", split)
    assert len(dataset) == count
    assert (len(dataset.label_space.things), len(dataset.label_space.stuff)) == (80, 53)
    for sample in (dataset[i] for i in range(0, count, step)):
        sample.segmentation.validate(dataset.label_space)
        assert tuple(sample.image.shape[1:]) == sample.segmentation.size


def test_real_annotation_round_trip(shared_data: Path, tmp_path: Path) -> None:
    """What is written equals the official file, boxes and crowds included."""
    root = shared_data / "coco_mini"
    dataset = CocoPanoptic.from_layout(root, "val2017")
    items = [Item(dataset.sample_name(i), dataset.image_id(i), dataset.annotation(i)) for i in range(len(dataset))]
    write_coco_panoptic(tmp_path / "panoptic_val2017.json", dataset.label_space, items)
    official = json.loads((root / "annotations" / "panoptic_val2017.json").read_text())
    written = json.loads((tmp_path / "panoptic_val2017.json").read_text())
    assert written["annotations"] == official["annotations"]
    assert [category["id"] for category in written["categories"]] == [c["id"] for c in official["categories"]]
    again = CocoPanoptic(tmp_path / "panoptic_val2017.json")
    for index, item in enumerate(items):
        assert_equal(again.annotation(index), item.segmentation)


def test_segments_read_alike_one_by_one_and_all_at_once(tmp_path: Path) -> None:
    """A score, or an area that is no whole number, sends a picture the slow way; both ways must agree."""
    content, path = _content(tmp_path)
    path.write_text(json.dumps(content))
    at_once = CocoPanoptic.from_layout(tmp_path, "mini")
    infos = content["annotations"][0]["segments_info"]
    for info in infos:
        info["area"] = float(info["area"])
    infos[2]["score"] = 0.25
    path.write_text(json.dumps(content))
    one_by_one = CocoPanoptic.from_layout(tmp_path, "mini")
    scores = [segment.score for segment in one_by_one.annotation(0).segments]
    assert scores == [None, None, 0.25, None, None]
    assert [replace(segment, score=None) for segment in one_by_one.annotation(0).segments] == SEGMENTS
    assert list(at_once.annotation(0).segments) == SEGMENTS


def test_the_first_broken_picture_is_named(tmp_path: Path) -> None:
    segments = [Segment(1, 90, 1), Segment(2, 119, 1)]
    items = [Item(name, name, segmentation([[1, 2]], segments)) for name in "abc"]
    write_coco_panoptic(tmp_path / "out.json", SPACE, items)
    content = json.loads((tmp_path / "out.json").read_text())
    content["annotations"][1]["segments_info"][0]["id"] = 2
    content["annotations"][2]["segments_info"][0]["id"] = 0
    (tmp_path / "out.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"annotation b\.png: segment ids \[2\] are used twice"):
        CocoPanoptic(tmp_path / "out.json")


def test_a_worker_gets_columns_not_objects(tmp_path: Path) -> None:
    """Pickled, a segment takes its 29 bytes: a training set goes to the workers of a DataLoader as it is."""
    segments = [Segment(i + 1, 90, 1) for i in range(1000)]
    items = [Item("a", 1, segmentation(np.arange(1, 1001)[None], segments))]
    write_coco_panoptic(tmp_path / "out.json", SPACE, items)
    dataset = CocoPanoptic(tmp_path / "out.json")
    assert 29_000 < len(pickle.dumps(dataset)) < 31_000
    assert_equal(pickle.loads(pickle.dumps(dataset)).annotation(0), items[0].segmentation)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["annotations"][0]["segments_info"][0].update(category_id=[1]), "of the wrong kind"),
        (lambda content: content["annotations"][0]["segments_info"][0].update(area=1e300), "of the wrong kind"),
        (lambda content: content["images"][0].update(file_name=""), "has the file_name ''; name its file"),
        (lambda content: content["categories"].append([1, 2]), "the categories in .* cannot be used"),
    ],
)
def test_values_of_another_kind(tmp_path: Path, change: Callable[[dict], None], message: str) -> None:
    content, path = _content(tmp_path)
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        CocoPanoptic.from_layout(tmp_path, "mini")
