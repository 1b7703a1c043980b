"""Files for the benchmark, read back by its own functions and by ours."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as official  # noqa: N813
from PIL import Image

from tascnet.convert.cityscapes import write_instances, write_panoptic, write_semantic
from tascnet.data.formats.cityscapes_labels import CITYSCAPES
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.errors import InputError
from tascnet.structures import IGNORE, Instances, PanopticSegmentation, Segment, Size

NAME = "ulm_000001_000019"
PERSON, BICYCLE = 0, 7  # thing indices


@dataclass(frozen=True)
class Item:
    name: str
    image_id: str
    segmentation: PanopticSegmentation


def instances(*found: tuple[int, float, tuple[int, int, int, int]]) -> Instances:
    """Rectangles: thing index, score, box."""
    return Instances(
        boxes=torch.tensor([box for _, _, box in found], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([label for label, _, _ in found], dtype=torch.int64),
        scores=torch.tensor([score for _, score, _ in found]),
        masks=torch.ones(len(found), 28, 28),
    )


def read_official(root: Path, path: Path) -> list[tuple[str, int, float]]:
    args = official.CArgs()
    args.predictionPath = str(root)
    info = official.readPredInfo(str(path), args)
    return [(file, entry["labelID"], entry["conf"]) for file, entry in info.items()]


def test_semantic_png(tmp_path: Path) -> None:
    path = write_semantic(tmp_path / "semantic", NAME, torch.tensor([[0, 1, 18], [10, IGNORE, 11]]))
    assert path == tmp_path / "semantic" / f"{NAME}_labelIds.png"
    picture = Image.open(path)
    assert picture.mode == "L"
    assert np.asarray(picture).tolist() == [[7, 8, 33], [23, 0, 24]]
    for wrong in (19, -2):
        with pytest.raises(InputError, match=rf"values from .*{wrong}.* are 0..18, and -1 where nothing is labelled"):
            write_semantic(tmp_path, NAME, torch.tensor([[0, wrong]]))


def test_instances_are_read_back_equal_by_the_official_function(tmp_path: Path) -> None:
    found = instances((BICYCLE, 0.9, (0, 0, 2, 1)), (PERSON, 0.1, (1, 0, 4, 2)), (PERSON, 0.05, (-5, 0, -2, 2)))
    path = write_instances(tmp_path, NAME, found, Size(2, 4))
    assert path == tmp_path / f"{NAME}.txt"
    assert path.read_text().splitlines()[0].startswith(f"{NAME}/0000.png 33 0.89999997")
    read = read_official(tmp_path, path)
    folder = tmp_path / NAME
    scores = found.scores.tolist()
    assert read == [(str(folder / "0000.png"), 33, scores[0]), (str(folder / "0001.png"), 24, scores[1])]
    pictures = [Image.open(file) for file, _, _ in read]
    assert [picture.mode for picture in pictures] == ["L", "L"]
    assert [np.asarray(picture).tolist() for picture in pictures] == [
        [[255, 255, 0, 0], [0, 0, 0, 0]],
        [[0, 255, 255, 255], [0, 255, 255, 255]],
    ]
    assert len(list(folder.iterdir())) == 2


def test_a_second_call_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    write_instances(tmp_path, NAME, instances(*[(PERSON, 0.5, (0, 0, 2, 2))] * 3), Size(2, 4))
    path = write_instances(tmp_path, NAME, instances((PERSON, 0.25, (0, 0, 2, 2))), Size(2, 4))
    assert path.read_text() == f"{NAME}/0000.png 24 0.25\n"
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["0000.png", NAME, f"{NAME}.txt"]
    write_instances(tmp_path, NAME, instances(), Size(2, 4))
    assert path.read_text() == ""
    assert read_official(tmp_path, path) == []


def test_a_text_file_is_there_only_once_its_masks_are(tmp_path: Path) -> None:
    write_instances(tmp_path, NAME, instances((PERSON, 0.5, (0, 0, 2, 2))), Size(2, 4))
    with pytest.raises(InputError, match="label 8 is no thing index; this label space has 8 things"):
        write_instances(tmp_path, NAME, instances((8, 0.5, (0, 0, 2, 2))), Size(2, 4))
    assert not (tmp_path / f"{NAME}.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == [NAME]  # nothing half written


def test_panoptic_reads_back_equal(tmp_path: Path) -> None:
    ids = torch.tensor([[7, 26001, 26002], [0, 26001, 7]])
    segments = [Segment(7, 7, 0, score=None), Segment(26001, 26, 0, score=0.5), Segment(26002, 26, 0, score=0.25)]
    segmentation = PanopticSegmentation.from_id_map(ids, segments)
    path = write_panoptic(tmp_path, "val", [Item(NAME, NAME, segmentation)])
    assert path == tmp_path / "cityscapes_panoptic_val.json"
    assert (tmp_path / "cityscapes_panoptic_val" / f"{NAME}.png").exists()
    dataset = CocoPanoptic(path)
    assert dataset.label_space == CITYSCAPES
    assert dataset.image_id(0) == NAME
    assert dataset.annotation(0).segments == segmentation.segments
    assert dataset.annotation(0).id_map.tolist() == ids.tolist()


@pytest.mark.parametrize("name", ["", ".", "..", "ulm/x", "../x", "a\\b"])
def test_names_that_lead_elsewhere(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="is no plain file name"):
        write_semantic(tmp_path, name, torch.tensor([[0]]))
    with pytest.raises(InputError, match="is no plain file name"):
        write_instances(tmp_path, name, instances(), Size(2, 4))
    assert list(tmp_path.iterdir()) == []


def test_spaces_in_names(tmp_path: Path) -> None:
    assert write_semantic(tmp_path, "bad honnef_0_0", torch.tensor([[0]])).name == "bad honnef_0_0_labelIds.png"
    with pytest.raises(InputError, match="'bad honnef_0_0': a space ends a field"):
        write_instances(tmp_path, "bad honnef_0_0", instances(), Size(2, 4))
    assert write_instances(tmp_path, "zürich_0_0", instances(), Size(2, 4)).exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for write in (
        lambda: write_semantic(tmp_path / "file", NAME, torch.tensor([[0]])),
        lambda: write_instances(tmp_path / "file", NAME, instances(), Size(2, 4)),
        lambda: write_panoptic(tmp_path / "file", "val", []),
    ):
        with pytest.raises(InputError, match="cannot make the folder"):
            write()
