"""Photos and folders -> overlays and COCO panoptic files."""

import json
from io import StringIO
from pathlib import Path, PurePath

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from tascnet.commands.console import ConsoleObserver
from tascnet.commands.predict import predict_files
from tascnet.data.file_names import unique_names
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.errors import InputError
from tascnet.inference.predictor import Predictor
from tascnet.progress import SILENT


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three photos of different sizes, and something else."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for name, size in (("b.png", (40, 60)), ("a.jpg", (64, 48)), ("a.png", (33, 50))):
        Image.fromarray(generator.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("none of them")
    return folder


def predict(run: Path, paths: list[Path], output: Path, names: bool = True) -> Path:
    return predict_files(run, paths, output, names, "cpu")


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_is_written_is_read_again(tiny_run: Path, photos: Path, tmp_path: Path):
    output = tmp_path / "out"
    assert predict(tiny_run, [photos], output) == output / "panoptic.json"
    names = ["a", "a_png", "b"]
    pictures = [f"{folder}/{name}.png" for folder in ("overlays", "panoptic") for name in names]
    assert files(output) == sorted([*pictures, "panoptic.json"])

    predictor = Predictor.from_checkpoint(tiny_run)
    dataset = CocoPanoptic(output / "panoptic.json", photos)
    assert dataset.label_space == predictor.label_space
    for index, photo in enumerate(["a.jpg", "a.png", "b.png"]):
        sample, direct = dataset[index], predictor(photos / photo)
        assert np.array_equal(sample.segmentation.id_map, direct.id_map)
        assert [(s.id, s.category_id, s.area) for s in sample.segmentation.segments] == [
            (s.id, s.category_id, s.area) for s in direct.segments
        ]
        assert [s.score for s in sample.segmentation.segments] == pytest.approx([s.score for s in direct.segments])


def test_the_json_names_the_photos(tiny_run: Path, photos: Path, tmp_path: Path):
    content = json.loads(predict(tiny_run, [photos / "b.png", photos / "a.jpg"], tmp_path / "out").read_text())
    assert [(image["id"], image["file_name"]) for image in content["images"]] == [(1, "b.png"), (2, "a.jpg")]
    assert [(image["height"], image["width"]) for image in content["images"]] == [(40, 60), (64, 48)]
    assert [annotation["file_name"] for annotation in content["annotations"]] == ["b.png", "a.png"]


def test_overlays_have_the_photo_s_own_size(tiny_run: Path, photos: Path, tmp_path: Path):
    predict(tiny_run, [photos], tmp_path / "out")
    for photo, overlay in (("a.jpg", "a.png"), ("a.png", "a_png.png"), ("b.png", "b.png")):
        with Image.open(photos / photo) as given, Image.open(tmp_path / "out" / "overlays" / overlay) as drawn:
            assert drawn.size == given.size
            assert not np.array_equal(np.asarray(drawn), np.asarray(given))


def test_names_can_be_left_out(tiny_run: Path, tmp_path: Path):
    Image.new("RGB", (300, 200), (90, 120, 150)).save(tmp_path / "a.png")
    drawn = []
    for names in (True, False):
        output = tmp_path / f"out {names}"
        predict(tiny_run, [tmp_path / "a.png"], output, names)
        drawn.append(np.asarray(Image.open(output / "overlays" / "a.png")))
    assert drawn[0].shape == drawn[1].shape
    assert not np.array_equal(*drawn)


def test_a_first_photo_that_is_broken_leaves_nothing(tiny_run: Path, tmp_path: Path):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"a.png"):
        predict_files(tiny_run, [tmp_path / "a.png"], tmp_path / "out", False, "cpu")
    assert not (tmp_path / "out").exists()


def test_a_broken_photo_leaves_no_json(tiny_run: Path, photos: Path, tmp_path: Path):
    content = (photos / "b.png").read_bytes()
    (photos / "b.png").write_bytes(content[: len(content) // 2])
    output = tmp_path / "out"
    predict(tiny_run, [photos / "a.jpg"], output)
    with pytest.raises(InputError, match=r"b.png is broken or cut short .*Copy or download it again"):
        predict(tiny_run, [photos], output)
    # what was finished before is whole, and there is no list that would claim more, not even the earlier one
    assert files(output) == ["overlays/a.png", "overlays/a_png.png", "panoptic/a.png", "panoptic/a_png.png"]
    for name in files(output):
        Image.open(output / name).load()


@pytest.mark.parametrize(
    ("paths", "message"),
    [(["nowhere.jpg"], "nowhere.jpg does not exist"), (["."], "holds no pictures"), ([], "no pictures were named")],
)
def test_nothing_to_do_leaves_nothing(tiny_run: Path, tmp_path: Path, paths: list[str], message: str):
    with pytest.raises(InputError, match=message):
        predict(tiny_run, [tmp_path / path for path in paths], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_checkpoint_leaves_nothing(photos: Path, tmp_path: Path):
    with pytest.raises(InputError, match="holds no checkpoint"):
        predict(photos, [photos], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made(tiny_run: Path, photos: Path):
    with pytest.raises(InputError, match="cannot make the folder"):
        predict(tiny_run, [photos], photos / "notes.txt" / "out")


@pytest.mark.parametrize(
    ("photos", "names"),
    [
        (["x/1.jpg", "x/2.jpg"], ["1", "2"]),
        (["x/1.jpg", "x/1.png"], ["1", "1_png"]),
        (["x/1.jpg", "y/1.jpg", "z/1.jpg"], ["1", "1_jpg", "1_2"]),
        (["x/1.jpg", "x/1_jpg.png", "y/1.jpg", "z/1.jpg"], ["1", "1_jpg", "1_2", "1_3"]),
        (["A.jpg", "a.jpg"], ["A", "a_jpg"]),
        (["a.b.jpg", "a.c.jpg"], ["a.b", "a.c"]),
        ([".jpg"], [".jpg"]),
        ([], []),
    ],
)
def test_names_of_results_are_unique(photos: list[str], names: list[str]):
    assert unique_names(PurePath(Path(photo).name) for photo in photos) == names


def test_what_is_said_can_be_copied(tiny_run: Path, photos: Path, tmp_path: Path):
    """Lines are not broken in a path, and its brackets are no markup."""
    output = tmp_path / "a folder with a long name, so that it does not fit into the line [bold]"
    console = Console(file=StringIO(), width=40)
    predict_files(tiny_run, [photos], output, True, "cpu", ConsoleObserver(console))
    said = console.file.getvalue()  # type: ignore[attr-defined]
    assert f"overlays in {output / 'overlays'}, COCO panoptic format in {output / 'panoptic.json'}\n" in said


def test_in_batches_the_same_is_written(tiny_run: Path, photos: Path, tmp_path: Path):
    for name in ("c.png", "d.png"):  # of one size, so that they share a batch
        Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(photos / name)
    one = predict_files(tiny_run, [photos], tmp_path / "one", True, "cpu")
    many = predict_files(tiny_run, [photos], tmp_path / "many", True, "cpu", batch_size=3)
    assert files(tmp_path / "many") == files(tmp_path / "one")
    assert json.loads(many.read_text())["images"] == json.loads(one.read_text())["images"]
    for name in [name for name in files(tmp_path / "one") if name.endswith(".png")]:
        pair = [np.asarray(Image.open(output / name)) for output in (tmp_path / "one", tmp_path / "many")]
        assert (pair[0] == pair[1]).mean() > 0.999  # rounding


def test_a_batch_of_none_leaves_nothing(tiny_run: Path, photos: Path, tmp_path: Path):
    with pytest.raises(InputError, match="batch_size is a number of photos, 1 or more; got 0"):
        predict_files(tiny_run, [photos], tmp_path / "out", True, "cpu", batch_size=0)
    assert not (tmp_path / "out").exists()


# Files for benchmarks


def test_for_vistas_names_are_ids(tiny_run: Path, photos: Path, tmp_path: Path):
    path = predict_files(tiny_run, [photos], tmp_path / "out", True, "cpu", SILENT, "vistas")
    content = json.loads(path.read_text())
    assert [image["id"] for image in content["images"]] == ["a", "a_png", "b"]
    assert [annotation["image_id"] for annotation in content["annotations"]] == ["a", "a_png", "b"]


def write_info(folder: Path, *images: tuple) -> Path:
    """image_info.json of ids, file names, heights and widths."""
    path = folder / "image_info.json"
    listed = [dict(zip(("id", "file_name", "height", "width"), image, strict=True)) for image in images]
    path.write_text(json.dumps({"images": listed}))
    return path


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Photos of one name in the folders x/a, x/b and x/é (in composed letters), of 20 x 30, 20 x 30 and 22 x 30."""
    for name, height in (("a", 20), ("b", 20), ("\u00e9", 22)):
        (tmp_path / "x" / name).mkdir(parents=True)
        Image.new("RGB", (30, height), (90, 80, 70)).save(tmp_path / "x" / name / "1.jpg")
    return tmp_path / "x"


NESTED = ((11, "a/1.jpg", 20, 30), (22, "b\\1.jpg", 20, 30), (33, "e\u0301/1.jpg", 22, 30))
"""The nested photos; one with a backslash, one in decomposed letters."""


@pytest.mark.parametrize(("folder", "image_id"), [("a", 11), ("b", 22), ("b/../a", 11), ("\u00e9", 33), ("link", 22)])
def test_ids_are_those_of_the_path(tiny_run: Path, nested: Path, tmp_path: Path, folder: str, image_id: int):
    (nested / "link").symlink_to(nested / "b")
    info = write_info(tmp_path, *NESTED)
    path = predict_files(tiny_run, [nested / folder], tmp_path / "out", False, "cpu", image_info=info)
    assert [image["id"] for image in json.loads(path.read_text())["images"]] == [image_id]


def test_the_longest_path_that_fits_counts(tiny_run: Path, nested: Path, tmp_path: Path):
    info = write_info(tmp_path, (5, "1.jpg", 20, 30), *NESTED[:2], (44, "x/b/1.jpg", 20, 30))
    both = [nested / "b", nested / "a" / "1.jpg"]
    path = predict_files(tiny_run, both, tmp_path / "out", False, "cpu", image_info=info)
    assert [image["id"] for image in json.loads(path.read_text())["images"]] == [44, 11]


@pytest.mark.parametrize(
    ("images", "named", "finding"),
    [
        (NESTED[:2], ["\u00e9"], r"does not list 1 of 1 photos, .*It lists a/1.jpg, b/1.jpg: paths must agree"),
        ((*NESTED, (12, "a/1.jpg", 20, 30)), ["a"], r"lists a/1.jpg under the ids 11, 12; .*a/1.jpg can have one"),
        (((5, "1.jpg", 20, 30),), ["a", "b"], r"a/1.jpg and .*b/1.jpg are both image 5 \(1.jpg\)"),
        (((5, "../1.jpg", 20, 30),), ["a"], "leads out of its folder"),
        (((5, "a/1.jpg", 21, 30),), ["a"], r"is 20 x 30 pixels .* says 21 x 30"),
    ],
)
def test_photos_that_cannot_be_told_apart(
    tiny_run: Path, nested: Path, tmp_path: Path, images: tuple, named: list[str], finding: str
):
    info = write_info(tmp_path, *images)
    with pytest.raises(InputError, match=finding):
        predict_files(tiny_run, [nested / name for name in named], tmp_path / "out", False, "cpu", image_info=info)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("orientation", [6, 8, 5])
def test_sizes_of_the_list_decide_about_turns(tiny_run: Path, tmp_path: Path, orientation: int):
    exif = Image.Exif()
    exif[0x112] = orientation
    pixels = np.random.default_rng(3).integers(0, 256, (26, 45, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.array(Image.open(tmp_path / "a.jpg"))).save(tmp_path / "plain.png")
    for name, size in (("stored", (26, 45)), ("turned", (45, 26))):
        info = write_info(tmp_path, (7, "a.jpg", *size))
        path = predict_files(
            tiny_run, [tmp_path / "a.jpg"], tmp_path / name, False, "cpu", image_info=info, batch_size=2
        )
        (image,) = json.loads(path.read_text())["images"]
        assert (image["height"], image["width"]) == size
    expected = Predictor.from_checkpoint(tiny_run)(tmp_path / "plain.png")
    assert np.array_equal(CocoPanoptic(tmp_path / "stored" / "panoptic.json").annotation(0).id_map, expected.id_map)


def test_for_coco_ids_come_from_a_file(tiny_run: Path, photos: Path, tmp_path: Path):
    info = write_info(tmp_path, (0, "b.png", 40, 60), (7, "a.jpg", 64, 48))
    chosen = [photos / "a.jpg", photos / "b.png"]
    path = predict_files(tiny_run, chosen, tmp_path / "out", True, "cpu", image_info=info)
    assert [image["id"] for image in json.loads(path.read_text())["images"]] == [7, 0]
    with pytest.raises(InputError, match=r"image_info.json does not list 1 of 3 photos, .*a.png for one"):
        predict_files(tiny_run, [photos], tmp_path / "none", True, "cpu", image_info=info)
    with pytest.raises(InputError, match="for vistas, where names are ids; leave it out"):
        predict_files(tiny_run, chosen, tmp_path / "none", True, "cpu", SILENT, "vistas", info)
    assert not (tmp_path / "none").exists()


def test_for_cityscapes_each_script_has_its_folder(cityscapes_run: Path, tmp_path: Path):
    photo = tmp_path / "ulm_000001_000019_leftImg8bit.png"
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (64, 96, 3), dtype=np.uint8)).save(photo)
    output = tmp_path / "out"
    path = predict_files(cityscapes_run, [photo], output, True, "cpu", SILENT, "cityscapes")

    name = "ulm_000001_000019"
    direct = Predictor.from_checkpoint(cityscapes_run).predict(photo)
    again = CocoPanoptic(path)
    assert (again.image_id(0), again.label_space) == (name, CITYSCAPES)
    assert np.array_equal(again.annotation(0).id_map, direct.segmentation.id_map)
    label_ids = np.array([category.id for category in CITYSCAPES.by_index])
    semantic = np.array(Image.open(output / "semantic" / f"{name}_labelIds.png"))
    assert np.array_equal(semantic, label_ids[direct.semantic])
    lines = (output / "instances" / f"{name}.txt").read_text().splitlines()
    assert 0 < len(lines) <= len(direct.instances)
    assert all((output / "instances" / line.split()[0]).is_file() for line in lines)
    assert files(output / "overlays") == [f"{name}.png"]


def test_a_network_of_other_categories_is_refused_for_cityscapes(tiny_run: Path, photos: Path, tmp_path: Path):
    with pytest.raises(InputError, match="the 19 categories of Cityscapes; the checkpoint has 10 others"):
        predict_files(tiny_run, [photos], tmp_path / "out", True, "cpu", SILENT, "cityscapes")


def test_the_ending_of_a_name_is_left_out_where_it_is_there():
    photos = ["ulm_1_leftImg8bit.png", "ulm_1_leftImg8bit.png", "other.png", "ulm_2_leftImg8bit.JPG"]
    assert unique_names(map(PurePath, photos), "_leftImg8bit") == ["ulm_1", "ulm_1_leftImg8bit_png", "other", "ulm_2"]
