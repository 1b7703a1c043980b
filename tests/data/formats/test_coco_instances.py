"""COCO instances and PNGs of category numbers, put together by a rule."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faster_coco_eval.core import mask as rle
from PIL import Image

from tascnet.data.formats.coco_instances import CocoInstances
from tascnet.errors import InputError
from tascnet.structures import Segment

CATEGORIES = """
categories:
  - {id: 1, name: sky, isthing: 0}
  - {id: 2, name: road, isthing: 0}
  - {id: 3, name: car, isthing: 1}
  - {id: 4, name: person, isthing: 1}
void: [0]
"""
SEMANTIC = [
    [1, 1, 1, 1, 1, 0],
    [1, 1, 3, 1, 1, 0],
    [2, 2, 2, 2, 2, 0],
    [2, 2, 2, 2, 2, 4],
]


def box(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """A polygon that rasterises to the pixels from (x0, y0) to (x1 - 1, y1 - 1)."""
    right, bottom = x1 - 1e-3, y1 - 1e-3
    return [[x0, y0, right, y0, right, bottom, x0, bottom]]


def pixels(of: set[tuple[int, int]]) -> dict[str, Any]:
    """Uncompressed run-length code of pixels (row, column)."""
    plane = np.zeros((4, 6), dtype=np.uint8)
    for row, column in of:
        plane[row, column] = 1
    flat = plane.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int), prepend=0))
    return {"counts": np.diff([0, *edges, 24]).tolist(), "size": [4, 6]}


CAR = {(row, column) for row in (1, 2, 3) for column in (0, 1, 2)}
PERSON = {(row, 2) for row in (0, 1)} | {(1, 3)}


def content() -> dict[str, Any]:
    """A big car and a smaller person that share pixel (1, 2)."""
    return {
        "images": [{"id": 5, "file_name": "a b.jpg", "height": 4, "width": 6}],
        "annotations": [
            {"id": 10, "image_id": 5, "category_id": 4, "segmentation": pixels(PERSON), "iscrowd": 0},
            {"id": 11, "image_id": 5, "category_id": 3, "segmentation": pixels(CAR)},
        ],
        "categories": [{"id": 3, "name": "car"}, {"id": 4, "name": "person"}],
    }


def write(root: Path, values: dict[str, Any] | None = None, semantic: object = SEMANTIC) -> Path:
    (root / "annotations" / "semantic_mini").mkdir(parents=True, exist_ok=True)
    (root / "mini").mkdir(exist_ok=True)
    (root / "categories.yaml").write_text(CATEGORIES)
    (root / "annotations" / "instances_mini.json").write_text(json.dumps(values or content()))
    Image.fromarray(np.array(semantic, dtype=np.uint8)).save(root / "annotations" / "semantic_mini" / "a b.png")
    Image.new("RGB", (6, 4)).save(root / "mini" / "a b.jpg")
    return root


def with_annotation(**values: Any) -> dict[str, Any]:
    """The content with one more annotation."""
    changed = content()
    changed["annotations"].append({"id": 12, "image_id": 5, "category_id": 3} | values)
    return changed


def test_the_smaller_in_front(tmp_path: Path) -> None:
    """By hand. Sky, road; the thing numbers of the PNG: car at (1, 2) is covered, person at (3, 5) is a crowd."""
    dataset = CocoInstances.from_layout(write(tmp_path), "mini", "smaller-in-front")
    (sample,) = dataset
    assert (sample.name, sample.image_id, sample.photo) == ("a b", 5, tmp_path / "mini" / "a b.jpg")
    assert sample.segmentation.validate(dataset.label_space).id_map.tolist() == [
        [1, 1, 5, 1, 1, 0],
        [6, 6, 5, 5, 1, 0],
        [6, 6, 6, 2, 2, 0],
        [6, 6, 6, 2, 2, 4],
    ]
    assert sample.segmentation.segments == (
        Segment(1, 1, 5),
        Segment(2, 2, 4),
        Segment(4, 4, 1, is_crowd=True),
        Segment(5, 4, 3),
        Segment(6, 3, 8),
    )


@pytest.mark.parametrize(("rule", "front"), [("car", 6), ("car, person", 6), ("person,car", 5), ("person", 5)])
def test_a_list_of_categories(tmp_path: Path, rule: str, front: int) -> None:
    segmentation = CocoInstances.from_layout(write(tmp_path), "mini", rule).annotation(0)
    assert segmentation.id_map[1, 2] == front


def test_among_equals_the_later_is_in_front(tmp_path: Path) -> None:
    values = content()
    values["annotations"] = [
        {"id": n, "image_id": 5, "category_id": 3, "segmentation": pixels({(0, 0), (0, 1)})} for n in (1, 2)
    ]
    segmentation, hidden = CocoInstances.from_layout(write(tmp_path, values), "mini", "car").compose(0)
    assert segmentation.id_map[0, :2].tolist() == [6, 6]
    assert hidden == [f"{tmp_path}/annotations/instances_mini.json, a b.jpg, annotation 1"]


def test_overlap_is_an_error_unless_told_otherwise(tmp_path: Path) -> None:
    dataset = CocoInstances.from_layout(write(tmp_path), "mini")
    with pytest.raises(InputError, match=r"instances_mini\.json, a b\.jpg, annotation 11 and annotation 10 overlap"):
        dataset.annotation(0)
    values = content()
    values["annotations"][0]["segmentation"] = pixels(PERSON - CAR)
    assert CocoInstances.from_layout(write(tmp_path, values), "mini").annotation(0).id_map[0, 2] == 5


def test_crowds_lie_behind_and_are_no_overlap(tmp_path: Path) -> None:
    values = content()
    values["annotations"][0] |= {"iscrowd": 1}
    for rule in ("error", "person", "smaller-in-front"):
        segmentation = CocoInstances.from_layout(write(tmp_path, values), "mini", rule).annotation(0)
        assert segmentation.id_map[1, 2] == 6
        assert Segment(5, 4, 2, is_crowd=True) in segmentation.segments


@pytest.mark.parametrize("code", ["polygon", "counts", "text"])
def test_all_ways_to_write_a_mask(tmp_path: Path, code: str) -> None:
    area = {(row, column) for row in (0, 1) for column in (3, 4, 5)}
    segmentation: Any = pixels(area)
    if code == "text":
        compressed = rle.frPyObjects(segmentation, 4, 6)
        segmentation = {"size": [4, 6], "counts": compressed["counts"].decode()}
    if code == "polygon":
        segmentation = box(3, 0, 6, 2)
    values = content()
    values["annotations"] = [{"id": 1, "image_id": 5, "category_id": 3, "segmentation": segmentation}]
    id_map = CocoInstances.from_layout(write(tmp_path, values), "mini").annotation(0).id_map
    assert {tuple(place) for place in np.argwhere(id_map.numpy() == 5).tolist()} == area


def test_polygons_are_painted_as_the_reference_decodes_them(tmp_path: Path) -> None:
    """Random triangles, one on another, against whole planes stacked back to front."""
    rng = np.random.default_rng(1)
    triangles = [[(rng.random(6) * 45 - 3).tolist()] for _ in range(12)]
    values = content()
    values["images"][0] |= {"height": 40, "width": 60}
    values["annotations"] = [
        {"id": n, "image_id": 5, "category_id": 3, "segmentation": triangle} for n, triangle in enumerate(triangles)
    ]
    write(tmp_path, values, semantic=np.ones((40, 60)))
    wanted = np.ones((40, 60), dtype=np.int32)
    planes = [rle.decode(rle.frPyObjects(triangle, 40, 60)[0]) for triangle in triangles]
    for number in sorted(range(12), key=lambda n: -int(planes[n].sum())):
        wanted[planes[number] > 0] = number + 2
    segmentation, hidden = CocoInstances.from_layout(tmp_path, "mini", "smaller-in-front").compose(0)
    assert segmentation.id_map.tolist() == wanted.tolist()
    assert len(hidden) == 12 - len(set(np.unique(wanted)) - {1})


def test_a_picture_without_instances(tmp_path: Path) -> None:
    segmentation = CocoInstances.from_layout(write(tmp_path, content() | {"annotations": []}), "mini").annotation(0)
    assert [(s.category_id, s.is_crowd) for s in segmentation.segments] == [(1, 0), (2, 0), (3, 1), (4, 1)]


@pytest.mark.parametrize(
    ("values", "finding"),
    [
        (with_annotation(segmentation=[]), r"annotation 12: the segmentation is neither"),
        (with_annotation(segmentation=[[1, 2, 3, 4]]), "a polygon is a list x, y, x, y"),
        (with_annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "a polygon is a list"),
        (with_annotation(segmentation=[["a", 2, 3, 4, 5, 6]]), "a polygon is a list"),
        (with_annotation(segmentation=[[1e9, 2, 3, 4, 5, 6]]), r"far out of its picture of 4 x 6 pixels"),
        (with_annotation(segmentation={"counts": [24], "size": [6, 4]}), "the segmentation is neither"),
        (with_annotation(segmentation={"counts": [23], "size": [4, 6]}), "the segmentation is neither"),
        (with_annotation(segmentation={"counts": "zzz", "size": [4, 6]}), "the run-length code is broken"),
        (with_annotation(segmentation=box(0, 0, 1, 1), category_id=9), "category 9 is no thing"),
        (with_annotation(segmentation=box(0, 0, 1, 1), category_id=1), "category 1 is no thing"),
        (with_annotation(segmentation=box(0, 0, 1, 1), image_id=9), "there is no image with id 9"),
        (with_annotation(segmentation=box(0, 0, 1, 1), id=11), "the id 11 is used twice"),
        (with_annotation(segmentation=box(0, 0, 1, 1), id=[1]), "value of the wrong kind"),
        (with_annotation(), "lacks segmentation"),
        (content() | {"categories": [{"id": 3, "name": "bus"}]}, "category 3 is 'bus', but in .* the thing 'car'"),
        (content() | {"categories": [{"id": 1, "name": "sky"}]}, "category 1 is 'sky', but in .* the stuff 'sky'"),
        (content() | {"categories": [{"id": 9, "name": "dog"}]}, "category 9 is 'dog', but in .* is nothing"),
        (content() | {"images": []}, "has no images"),
        (content() | {"images": {}}, "has no list 'images'; COCO instances files have"),
    ],
)
def test_json_that_breaks_a_rule(tmp_path: Path, values: dict[str, Any], finding: str) -> None:
    write(tmp_path, values)
    with pytest.raises(InputError, match=rf"(?s)instances_mini\.json.*{finding}.*\.$"):
        CocoInstances.from_layout(tmp_path, "mini", "smaller-in-front").annotation(0)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("damage", "file", "finding"),
    [
        (_cut, "annotations/instances_mini.json", "is not valid JSON"),
        (_cut, "annotations/semantic_mini/a b.png", "is broken or cut short"),
        (_cut, "mini/a b.jpg", "is broken or cut short"),
        (_loop, "mini/a b.jpg", "cannot be read: .*symbolic links"),
        (Path.unlink, "annotations/semantic_mini/a b.png", "does not exist"),
        (Path.unlink, "annotations/instances_mini.json", "does not exist"),
        (Path.unlink, "categories.yaml", "does not exist"),
        (lambda path: Image.new("RGB", (6, 4)).save(path), "annotations/semantic_mini/a b.png", "of mode RGB"),
        (lambda path: Image.new("L", (5, 4)).save(path), "annotations/semantic_mini/a b.png", "4 x 5 .* says 4 x 6"),
        (lambda path: Image.new("RGB", (5, 4)).save(path), "mini/a b.jpg", "4 x 5 .* says 4 x 6"),
        (lambda path: Image.new("L", (6, 4), 9).save(path), "annotations/semantic_mini/a b.png", "holds the numbers 9"),
    ],
)
def test_broken_files(tmp_path: Path, damage: Callable[[Path], None], file: str, finding: str) -> None:
    damage(write(tmp_path) / file)
    with pytest.raises(InputError, match=rf"(?s){file}.*{finding}.*\.$"):
        CocoInstances.from_layout(tmp_path, "mini", "smaller-in-front")[0]


def test_a_rule_that_is_none(tmp_path: Path) -> None:
    write(tmp_path)
    for rule in ("sky", "larger-in-front", "car,,person", ""):
        with pytest.raises(InputError, match=f"overlaps is '{rule}'; .* is no thing category"):
            CocoInstances.from_layout(tmp_path, "mini", rule)


def with_second_image(**image: Any) -> dict[str, Any]:
    values = content()
    values["images"].append({"id": 6, "file_name": "a b.jpg", "height": 4, "width": 6} | image)
    return values


@pytest.mark.parametrize(
    ("image", "finding"),
    [
        ({}, "a b.jpg is the photo of the images 5 and 6"),
        ({"file_name": "a b.png"}, "a b.jpg and a b.png have one name; their PNG would be the same"),
        ({"file_name": "..\\a b.jpg"}, "leads out of its folder"),
        ({"id": "5", "file_name": "c.jpg", "width": 0}, "the image is 4 x 0 pixels"),
    ],
)
def test_images_that_share_a_file(tmp_path: Path, image: dict[str, Any], finding: str) -> None:
    root = write(tmp_path, with_second_image(**image))
    with pytest.raises(InputError, match=finding.replace("\\", "\\\\")):
        CocoInstances.from_layout(root, "mini")


def test_numbers_as_text(tmp_path: Path) -> None:
    values = content()
    for annotation in values["annotations"]:
        annotation.update(category_id=str(annotation["category_id"]), iscrowd="0")
    values["categories"] = [{"id": str(c["id"]), "name": c["name"]} for c in values["categories"]]
    read = CocoInstances.from_layout(write(tmp_path / "text", values), "mini", "smaller-in-front").annotation(0)
    plain = CocoInstances.from_layout(write(tmp_path / "plain"), "mini", "smaller-in-front").annotation(0)
    assert read.segments == plain.segments


def test_an_id_of_another_kind_is_called_so(tmp_path: Path) -> None:
    values = content()
    values["annotations"][0]["image_id"] = "5"
    with pytest.raises(InputError, match="the text '5' here, but the number 5 among the images"):
        CocoInstances.from_layout(write(tmp_path, values), "mini")
