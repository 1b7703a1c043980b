"""A check names everything that is wrong, and nothing else."""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from said import Said
from small_sets import CATEGORIES, SPACE, save_numbers, segmentation, write_coco, write_pairs

from tascnet.config import DatasetConfig
from tascnet.data.formats.table import FORMATS, Format
from tascnet.data.problems import Kind
from tascnet.data.sample import Sample
from tascnet.data_tools.check import check_data, check_source
from tascnet.data_tools.sheet import GREEN, RED, THUMBNAIL, Sheet
from tascnet.data_tools.sources import find_sources
from tascnet.data_tools.walk import Findings, count_ids, walk
from tascnet.errors import InputError
from tascnet.files import read_json
from tascnet.structures import Segment
from tascnet.visualize import CARD_STRIP

QUIET = Console(quiet=True)
STEP_X, STEP_Y = THUMBNAIL.width + 8, THUMBNAIL.height + CARD_STRIP + 8  # pixels from card to card


def check(path: Path, **settings: str) -> tuple[bool, dict]:
    """Whether it is clean, and what check.json says."""
    clean = check_data(path, "auto", None, DatasetConfig(**settings), path.parent / "out", QUIET)
    return clean, json.loads((path.parent / "out" / "check.json").read_text())


def texts(split: dict, kind: Kind) -> list[str]:
    return [finding["text"] for finding in split["findings"] if finding["kind"] == kind]


def test_a_clean_set(tmp_path: Path) -> None:
    flock = segmentation([[1, 2, 3, 4]], [Segment(1, 119, 0), Segment(2, 184, 0), Segment(3, 92, 0), Segment(4, 90, 0)])
    clean, report = check(write_coco(tmp_path / "set", 2, p01=flock))
    (split,) = report["splits"]
    assert clean
    assert (split["format"], split["split"], split["pictures"], split["with_photos"]) == ("coco", "mini", 2, True)
    assert (split["errors"], split["warnings"], split["findings"]) == (0, 0, [])


def damage(root: Path) -> None:
    """Break a set of 20 pictures, each picture in one way."""
    path = root / "annotations" / "panoptic_mini.json"
    pngs, photos = root / "annotations" / "panoptic_mini", root / "mini"
    content = json.loads(path.read_text())
    images, annotations = content["images"], content["annotations"]
    segments = [annotation["segments_info"] for annotation in annotations]
    (photos / "p00.png").unlink()
    (pngs / "p01.png").write_bytes((pngs / "p01.png").read_bytes()[:50])
    Image.new("RGB", (5, 3)).save(photos / "p02.png")
    Image.new("RGB", (4, 4)).save(pngs / "p03.png")
    del segments[4][0]
    segments[5].append(segments[5][0] | {"id": 77})
    segments[6][1]["area"] = 30
    segments[7][2]["category_id"] = 1000
    segments[8][1]["id"] = 1  # twice in the JSON, and id 2 of the PNG has lost its segment
    annotations.append(annotations[9])
    images[10]["id"] = images[11]["id"]  # and so the annotation of p10 has lost its image
    segments[12][0]["iscrowd"] = 1
    Image.new("L", (4, 3)).save(pngs / "p13.png")
    del annotations[14]["file_name"]  # and so image 114 has no annotation, and its PNG is not used
    (photos / "p17.png").write_text("no picture")
    segments[19][0]["area"] = "large"
    path.write_text(json.dumps(content))


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The broken set, read-only; beside it, the folder `out` has what a check said."""
    void = segmentation([[0, 0]], [])
    stuff = segmentation([[1, 1]], [Segment(1, 119, 0)])
    flock = segmentation([[1, 2]], [Segment(1, 92, 0, is_crowd=True), Segment(2, 90, 0)])
    root = write_coco(tmp_path_factory.mktemp("damaged") / "set", 20, p15=void, p16=stuff, p18=flock)
    damage(root)
    assert not check(root)[0]
    return root


@pytest.fixture
def split(damaged: Path) -> dict:
    (split,) = json.loads((damaged.parent / "out" / "check.json").read_text())["splits"]
    return split


def test_everything_that_is_wrong_is_found(split: dict) -> None:
    assert split["kinds"] == {
        "image id used twice": 1,
        "unknown category": 1,
        "segment id used twice": 1,
        "annotation without image": 1,
        "crowd of stuff": 1,
        "broken entry in the JSON": 2,
        "image annotated twice": 1,
        "image without annotation": 1,
        "file that nothing refers to": 2,  # of p10 and p14
        "file missing": 1,
        "file cannot be read": 2,
        "sizes differ": 2,
        "id in the PNG, not in the JSON": 3,  # of p04, p08 and p19
        "segment without pixels": 1,
        "area that is not the number of pixels": 1,
        "PNG that holds no ids": 1,
        "picture without a labelled pixel": 1,
        "picture without things": 1,
        "category that is never seen": 1,
        "thing category with nothing but crowds": 1,
    }
    assert (split["errors"], split["warnings"]) == (18, 8)
    by_picture = {finding["picture"]: finding["kind"] for finding in split["findings"]}
    assert by_picture["p06"] == Kind.AREA
    assert by_picture["p07"] == Kind.UNKNOWN_CATEGORY
    assert by_picture["p12"] == Kind.STUFF_CROWD
    assert by_picture["p15"] == Kind.ALL_VOID


def test_the_sentences_say_where_and_what(damaged: Path, split: dict) -> None:
    assert [text for text in texts(split, Kind.ONLY_IN_PNG) if "p04.png" in text] == [
        f"{damaged}/annotations/panoptic_mini/p04.png disagrees with {damaged}/annotations/panoptic_mini.json: ids 1 "
        "have 4 pixels in the PNG and no segment in the JSON. List them, or make those pixels black."
    ]
    assert "segments 77 of the JSON have no pixel" in texts(split, Kind.ONLY_IN_JSON)[0]
    assert "segment 2 has 3 pixels in the PNG, but area 30" in texts(split, Kind.AREA)[0]
    assert texts(split, Kind.NEVER_SEEN) == ["category 184 'tree' is in no picture: it cannot be learned or measured."]
    assert texts(split, Kind.ONLY_CROWDS) == ["category 92 'flock of sheep' has 1 crowds and no object of its own."]
    assert all(finding["text"].endswith(".") for finding in split["findings"])


def test_pictures_with_errors_come_first_on_the_sheet(damaged: Path) -> None:
    sheet = np.asarray(Image.open(damaged.parent / "out" / "contact_sheet.png"))
    framed = [tuple(sheet[8 + STEP_Y * row + 190, 8 + STEP_X * column + 2]) for row in range(3) for column in range(6)]
    num_errors = framed.index(GREEN)
    assert framed[:num_errors] == [RED] * 12
    assert framed[num_errors:] == [GREEN] * 6


def as_tools_write_it(content: dict) -> None:
    """Numbers as text, null where nothing is known, areas of outlines."""
    for category in content["categories"]:
        category.update(isthing=str(category["isthing"]), color=None, supercategory=None, id=str(category["id"]))
    for annotation in content["annotations"]:
        for segment in annotation["segments_info"]:
            segment.update(iscrowd="0", category_id=str(segment["category_id"]), area=segment["area"] + 1.6)


def change_json(root: Path, change: Callable[[dict], None]) -> None:
    path = root / "annotations" / "panoptic_mini.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_numbers_as_text_and_areas_of_outlines(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set", 1)
    change_json(root, as_tools_write_it)
    clean, report = check(root)
    (split,) = report["splits"]
    assert clean
    assert set(split["kinds"]) == {Kind.AREA, Kind.NEVER_SEEN}
    dataset = find_sources(root, "auto", None, DatasetConfig())[0].open()
    assert [(c.name, c.is_thing, c.supercategory) for c in dataset.label_space.categories] == [
        (c.name, c.is_thing, "") for c in SPACE.categories
    ]
    assert dataset.annotation(0).segments == segmentation().segments


def set_of_segment(**values: object) -> Callable[[dict], None]:
    return lambda content: content["annotations"][0]["segments_info"][0].update(values)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (set_of_segment(iscrowd=-1), "-1 is neither"),
        (set_of_segment(iscrowd="maybe"), "'maybe' is neither"),
        (set_of_segment(category_id=119.5), "119.5 is not a whole number"),
        (set_of_segment(area="large"), "wrong kind"),
        (lambda content: content["images"][0].update(id=1.5), "1.5 is not a whole number"),
        (lambda content: content["images"][0].update(height=0), "the image is 0 x 4 pixels"),
        (
            lambda content: content["annotations"][0].update(image_id="100"),
            "the text '100' here, but the number 100 among the images",
        ),
        (
            lambda content: content["images"][0].update(id="100"),
            "the number 100 here, but the text '100' among the images",
        ),
    ],
)
def test_values_of_another_kind(tmp_path: Path, change: Callable[[dict], None], finding: str) -> None:
    root = write_coco(tmp_path / "set", 2)
    change_json(root, change)
    clean, report = check(root)
    assert not clean
    assert any(finding in f["text"] for f in report["splits"][0]["findings"] if f["error"])


def test_stuff_in_pieces_is_told(tmp_path: Path) -> None:
    pieces = [Segment(1, 119, 0), Segment(2, 119, 0), Segment(3, 119, 0), Segment(4, 90, 0), Segment(5, 90, 0)]
    clean, report = check(write_coco(tmp_path / "set", 1, p00=segmentation([[1, 2, 3], [4, 5, 3]], pieces)))
    assert clean
    assert "2 more segments of stuff than categories" in texts(report["splits"][0], Kind.STUFF_IN_PIECES)[0]


def test_one_photo_under_two_ids(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(tmp_path / "set", 3)
    change_json(root, lambda content: content["images"][2].update(file_name="./p00.png"))
    clean, report = check(root)
    assert not clean
    assert "p00.png is the photo of the images 100 and 102" in texts(report["splits"][0], Kind.SHARED_PHOTO)[0]
    with pytest.raises(InputError, match="is the photo of the images 100 and 102"):
        find_sources(root, "auto", None, DatasetConfig())[0].open()
    path = root / "annotations" / "panoptic_mini.json"
    assert tascnet("metrics", path, path).code == 0  # which tells images apart by id


def test_images_of_one_stem_are_told_apart(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(tmp_path / "set", 2)
    Image.new("RGB", (4, 3), (7, 7, 7)).save(root / "mini" / "p00.jpg")
    change_json(root, lambda content: content["images"][1].update(file_name="p00.jpg"))
    assert check(root)[0]
    path = root / "annotations" / "panoptic_mini.json"
    assert tascnet("metrics", path, path).code == 0
    assert tascnet("data", "convert", root, "--output", tmp_path / "new").code == 0
    again = find_sources(tmp_path / "new", "auto", None, DatasetConfig())[0].open()
    assert [sample.name for sample in again] == ["p00", "p00_jpg"]
    assert [int(sample.image[0, 0, 0]) for sample in again] == [100, 7]


def test_one_png_for_two_images_is_told(tmp_path: Path) -> None:
    root = write_coco(tmp_path / "set", 2)
    change_json(root, lambda content: content["annotations"][1].update(file_name="p00.png"))
    clean, report = check(root)
    assert clean
    assert "p00.png is the annotation of 2 images" in texts(report["splits"][0], Kind.SHARED_PNG)[0]


def test_a_json_file_by_itself(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(tmp_path / "set", 2)
    json_path = tmp_path / "moved" / "mine.json"
    shutil.copytree(root / "annotations" / "panoptic_mini", json_path.with_suffix(""))
    shutil.copy(root / "annotations" / "panoptic_mini.json", json_path)
    said = tascnet("data", "check", json_path)
    assert said.code == 0
    assert "mine (coco): 2 pictures, annotation alone (no folder of photos)" in said.out
    said = tascnet("data", "check", json_path, "--images", root / "mini")
    assert "mine (coco): 2 pictures\n" in said.out
    (root / "mini" / "p00.png").unlink()
    assert tascnet("data", "check", json_path, "--images", root / "mini").code == 1
    assert tascnet("data", "check", root / "annotations" / "panoptic_mini.json").code == 1


def test_pairs_of_pngs(tmp_path: Path) -> None:
    root = write_pairs(tmp_path / "set", "train", ["a", "b", "c", "d", "é e"])
    folder = root / "train"
    (folder / "categories" / "a.png").unlink()
    (folder / "images" / "b.jpg").unlink()  # both PNGs of b are alone now
    save_numbers(folder / "categories" / "c.png", [[1, 9, 10, 0]] * 3)
    Image.new("RGB", (9, 3)).save(folder / "images" / "c.jpg")
    save_numbers(folder / "instances" / "d.png", [[1, 1]])
    clean, report = check(root)
    (split,) = report["splits"]
    assert not clean
    assert (split["format"], split["split"], split["pictures"]) == ("png_pairs", "train", 3)
    assert split["kinds"] == {
        "annotation without image": 2,
        "file missing": 1,
        "unknown category": 1,
        "sizes differ": 1,  # the photo of c cannot be compared with an annotation that cannot be read
    }
    assert "holds the numbers 9, 10, which" in texts(split, Kind.UNKNOWN_CATEGORY)[0]


def test_instances_with_semantic_pngs(tmp_path: Path) -> None:
    root = tmp_path / "set"
    square = [[0, 0, 2.9, 0, 2.9, 1.9, 0, 1.9]]
    instances = [{"id": n, "image_id": 1, "category_id": 2, "segmentation": square} for n in (1, 2)]
    instances.append({"id": 3, "image_id": 1, "category_id": 3, "segmentation": [[1, 1]]})
    instances.append({"id": 4, "image_id": 1, "category_id": 8, "segmentation": square})
    save_numbers(root / "annotations" / "semantic_val" / "a.png", [[1] * 4] * 3)
    (root / "val").mkdir()
    Image.new("RGB", (4, 3)).save(root / "val" / "a.jpg")
    (root / "categories.yaml").write_text(CATEGORIES)
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "height": 3, "width": 4}],
        "annotations": instances,
        "categories": [],
    }
    (root / "annotations" / "instances_val.json").write_text(json.dumps(content))
    (split,) = check(root)[1]["splits"]
    wanted = {
        "unknown category": 1,
        "outline or mask that cannot be read": 1,
        "instances overlap": 1,
        "instance without a visible pixel": 1,
        "category that is never seen": 1,
    }
    assert split["kinds"] == wanted
    del wanted["instances overlap"]
    assert check(root, overlaps="smaller-in-front")[1]["splits"][0]["kinds"] == wanted


class OtherFormat:
    """Three pictures of a reader that knows nothing of checks; the second is broken."""

    label_space = SPACE

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Sample:
        if index == 1:
            raise InputError("b.png is broken.")
        return Sample(torch.zeros(3, 3, 4, dtype=torch.uint8), self.annotation(index), "ac"[index // 2], index)

    def annotation(self, index: int):
        return segmentation()


def test_any_other_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    findings = Findings()
    looked = list(walk(OtherFormat(), findings))
    assert [(one.name, one.segmentation is None) for one in looked] == [("a", False), ("number 1", True), ("c", False)]
    assert findings.all == [(Kind.OTHER, "b.png is broken.", "number 1")]
    monkeypatch.setitem(FORMATS, "streets", Format(lambda *_: OtherFormat()))
    settings = DatasetConfig(split="val")
    (source,) = find_sources(tmp_path, "streets", None, settings)  # stands for a format that cannot be found out
    assert source.settings == replace(settings, format="streets", root=str(tmp_path))
    assert check_source(source, Sheet(), QUIET).num_errors == 1


def test_pixels_of_ids_are_counted_as_numpy_counts_them() -> None:
    ids = np.random.default_rng(0).choice([0, 5, 2**24 - 1], (7, 9)).astype(np.int32)
    assert count_ids(ids) == dict(Counter(ids.ravel().tolist()))


def test_photos_of_one_split_only(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    """As where only val2017.zip was unpacked beside all annotations."""
    root = write_coco(write_coco(tmp_path / "set", 2, "train"), 1, "val")
    shutil.rmtree(root / "train")
    clean, report = check(root)
    train, val = report["splits"]
    assert not clean
    assert (train["pictures"], train["with_photos"], train["errors"]) == (2, False, 1)
    assert texts(train, Kind.MISSING_FILE) == [
        f"the folder of photos {root}/train does not exist. Add it, or name another --split."
    ]
    assert (val["pictures"], val["with_photos"], val["errors"]) == (1, True, 0)
    said = tascnet("data", "stats", root)
    assert said.code == 0
    assert "train: 2 pictures" in said.out


def test_a_split_that_cannot_be_read_leaves_the_others(tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    root = write_coco(write_coco(tmp_path / "set", 1, "train"), 2, "val")
    (root / "annotations" / "panoptic_train.json").write_text('{"images": [')
    (root / "val" / "p01.png").unlink()
    said = tascnet("data", "check", root, "--output", tmp_path / "out")
    assert said.code == 2
    assert "panoptic_train.json is not valid JSON" in said.err
    assert said.err.count("\n") == 1
    assert "train (coco) cannot be read: " in said.out
    assert "val (coco): 2 pictures" in said.out
    train, val = json.loads((tmp_path / "out" / "check.json").read_text())["splits"]
    assert (train["pictures"], train["kinds"]) == (0, {"cannot be used": 1})
    assert (val["errors"], val["kinds"]["file missing"]) == (1, 1)
    assert (tmp_path / "out" / "contact_sheet.png").is_file()


class TestWhatIsThere:
    def test_all_splits_unless_one_is_named(self, tmp_path: Path):
        write_coco(write_coco(tmp_path, 1, "val"), 1, "train")
        assert [source.name for source in find_sources(tmp_path, "auto", None, DatasetConfig())] == ["train", "val"]
        assert [s.name for s in find_sources(tmp_path, "auto", None, DatasetConfig(split="val"))] == ["val"]

    def test_a_root_of_pairs_is_a_split_of_its_own(self, tmp_path: Path):
        write_pairs(write_pairs(tmp_path, "", ["a"]), "val", ["b"])
        assert [source.name for source in find_sources(tmp_path, "auto", None, DatasetConfig())] == ["all", "val"]

    def test_what_may_be_two_formats(self, tmp_path: Path, tascnet: Callable[..., Said]):
        write_pairs(write_coco(tmp_path, 1), "", ["a"])
        said = tascnet("data", "check", tmp_path)
        assert said.code == 2
        assert said.err == (
            f"tascnet: error: {tmp_path} may be of several formats: coco, png_pairs. "
            "Say which one with --format coco.\n"
        )
        assert tascnet("data", "check", tmp_path, "--format", "png_pairs").code == 0

    def test_coco_s_own_folder_is_not_taken_for_instances(self, tmp_path: Path):
        write_coco(tmp_path, 1)
        (tmp_path / "annotations" / "instances_mini.json").write_text("{}")
        assert [s.settings.format for s in find_sources(tmp_path, "auto", None, DatasetConfig())] == ["coco"]

    def test_a_name_is_enough_to_know_the_format(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        root = write_coco(tmp_path, 1)
        named = root / "annotations" / "panoptic_mini.json"
        other = named.rename(root / "annotations" / "other.json")
        seen: list[dict] = []

        def watch(path: Path, replace_object: Callable[[dict], object]) -> object:
            return read_json(path, lambda entry: seen.append(entry) or replace_object(entry))

        monkeypatch.setattr("tascnet.data_tools.sources.read_json", watch)
        (source,) = find_sources(other, "auto", None, DatasetConfig())
        assert source.settings.format == "coco"
        assert seen[-1] == {"images": [None], "annotations": ["coco"], "categories": [None] * 5}  # nothing is held
        other.rename(named)
        seen.clear()
        (source,) = find_sources(named, "auto", None, DatasetConfig())
        assert (source.settings.format, seen) == ("coco", [])

    @pytest.mark.parametrize(
        ("arguments", "finding"),
        [
            (["nowhere"], "nowhere does not exist"),
            (["empty"], "empty is no data set that can be recognised. Looked for: annotations/panoptic_*.json (coco)"),
            (["set", "--split", "other"], "panoptic_other.json does not exist"),
            (["set", "--images", "set/mini"], "--images goes with a JSON file"),
            (["set", "--format", "png_pairs"], "holds no split of format png_pairs"),
            (["empty/a.json"], "holds neither COCO panoptic annotations"),
            (["empty/a.json", "--format", "png_pairs"], "wants the root folder"),
            (["empty/e.json"], "holds neither COCO panoptic annotations"),
            (["empty/b.json"], "is in COCO's instances format, which is read from the layout"),
            (["empty/c.json"], "is not valid JSON"),
            (["empty/panoptic_d.json"], "is not valid JSON"),
            (["set/annotations/panoptic_mini.json", "--images", "nowhere/x"], "nowhere/x is no folder"),
        ],
    )
    def test_what_cannot_be_read_at_all(
        self, tmp_path: Path, tascnet: Callable[..., Said], arguments: list[str], finding: str
    ):
        write_coco(tmp_path / "set", 1)
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty" / "a.json").write_text("{}")
        (tmp_path / "empty" / "b.json").write_text('{"annotations": [{"segmentation": []}]}')
        (tmp_path / "empty" / "e.json").write_text('{"annotations": [{"annotations": []}]}')
        (tmp_path / "empty" / "panoptic_d.json").write_text("[")
        (tmp_path / "empty" / "c.json").write_text('{"annotations": [{"segme')
        path, *rest = arguments
        said = tascnet("data", "check", tmp_path / path, *[tmp_path / r if "/" in r else r for r in rest])
        assert said.code == 2
        assert finding in said.err
        assert said.err.count("\n") == 1
        assert said.out == ""


def test_real_pictures_are_clean(shared_data: Path) -> None:
    settings = DatasetConfig(split="val2017")
    (source,) = find_sources(shared_data / "coco_mini", "auto", None, settings)
    result = check_source(source, Sheet(), QUIET)
    assert (result.num_errors, result.num_pictures) == (0, 50)
    assert {finding.kind for finding in result.findings} == {Kind.NEVER_SEEN}


@pytest.mark.parametrize("name", ["panoptic_other.json", "panoptic_image_info.json"])
def test_a_named_pipe_among_the_annotation_is_no_split(tmp_path: Path, name: str):
    root = write_coco(tmp_path, 1)
    os.mkfifo(root / "annotations" / name)
    assert [source.name for source in find_sources(root, "auto", None, DatasetConfig())] == ["mini"]
    with pytest.raises(InputError, match="is a named pipe"):
        find_sources(root / "annotations" / name, "auto", None, DatasetConfig())
