"""Photos -> a ranking, tables and a contact sheet."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from said import Said

from tascnet.commands.triage import print_ranking
from tascnet.data.images import write_png
from tascnet.data.streets.dataset import Streets
from tascnet.errors import InputError
from tascnet.inference.predictor import Predictor
from tascnet.structures import Size
from tascnet.triage import ranking as triage
from tascnet.triage.ranking import MEASURES, measure_doubt, name_of, triage_files
from tascnet.visualize import CARD_STRIP

FILES = ["most_doubtful.png", "triage.csv", "triage.json"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three streets of two sizes."""
    folder = tmp_path / "photos"
    for index, size in enumerate([Size(64, 128), Size(64, 96), Size(64, 128)]):
        write_png(folder / f"{index}.png", Streets(1, size, first=index)[0].image.permute(1, 2, 0).numpy())
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_ranking_is_that_of_the_expected_losses(
    tascnet: Callable[..., Said], tiny_run: Path, photos: Path, tmp_path: Path
):
    output = tmp_path / "out"
    said = tascnet("triage", tiny_run, photos, "--output", output, "--device", "cpu")
    assert (said.code, said.err) == (0, "")
    assert names(output) == FILES
    assert f"triage.csv, triage.json and most_doubtful.png are in {output}" in said.out

    predictor = Predictor.from_checkpoint(tiny_run)
    expected = {
        str(path): measure_doubt(predictor.predict(path), predictor.label_space, predictor.score_threshold)
        for path in sorted(photos.iterdir())
    }
    content = json.loads((output / "triage.json").read_text())
    assert (content["num_ranked"], content["num_unreadable"], content["unreadable"]) == (3, 0, [])
    assert content["network"] == str(tiny_run)
    order = [entry["photo"] for entry in content["ranking"]]
    assert order == sorted(expected, key=lambda photo: -expected[photo].expected_loss)
    for rank, entry in enumerate(content["ranking"], start=1):
        doubts = expected[entry["photo"]]
        assert entry == pytest.approx({"rank": rank, "photo": entry["photo"]} | vars(doubts))
    with (output / "triage.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["rank", "photo", *MEASURES]
    assert [{k: str(v) for k, v in entry.items()} for entry in content["ranking"]] == rows


def test_measures_are_shares(tiny_run: Path, photos: Path):
    predictor = Predictor.from_checkpoint(tiny_run)
    for _, prediction in predictor.stream(photos):
        doubts = measure_doubt(prediction, predictor.label_space, predictor.score_threshold)
        assert all(0 <= getattr(doubts, name) <= 1 for name in MEASURES)
        assert doubts.residual == prediction.uncertainty


def test_photos_that_cannot_be_read_are_named(
    tascnet: Callable[..., Said], tiny_run: Path, photos: Path, tmp_path: Path
):
    (photos / "1.png").write_text("no picture")
    output = tmp_path / "out"
    said = tascnet("triage", tiny_run, photos, "--output", output, "--device", "cpu")
    assert said.code == 1
    assert "left out, because they cannot be used: 1\n" in said.out
    assert f"{photos / '1.png'} is not a picture" in said.out
    content = json.loads((output / "triage.json").read_text())
    assert (content["num_ranked"], content["num_unreadable"]) == (2, 1)
    assert [entry["photo"] for entry in content["unreadable"]] == [str(photos / "1.png")]
    assert "is not a picture" in content["unreadable"][0]["error"]
    assert len((output / "triage.csv").read_text().splitlines()) == 3


def test_nothing_readable_is_refused(tascnet: Callable[..., Said], tiny_run: Path, photos: Path, tmp_path: Path):
    for photo in photos.iterdir():
        photo.write_text("no picture")
    said = tascnet("triage", tiny_run, photos, "--output", tmp_path / "out", "--device", "cpu")
    assert said.code == 2
    assert said.err.startswith("tascnet: error: none of 3 photos can be used. The first: ")
    assert said.err.count("\n") == 1
    assert names(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--shown", "0"], "0 photos shall be shown; show 1 or more"),
        (["photos", "--batch_size", "0"], "batch_size is a number of photos"),
        (["nowhere.png"], "nowhere.png does not exist"),
    ],
)
def test_wrong_input_leaves_nothing(
    tascnet: Callable[..., Said],
    tiny_run: Path,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
):
    monkeypatch.chdir(tmp_path)
    said = tascnet("triage", tiny_run, *arguments, "--output", "out", "--device", "cpu")
    assert said.code == 2
    assert message in said.err
    assert not (tmp_path / "out").exists()


def test_the_sheet_shows_the_most_doubtful_in_order(
    tiny_run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Each photo is drawn in a grey of its own, in place of its segmentation, to be found on the sheet."""
    greys = iter([50, 100, 150])
    monkeypatch.setattr(
        triage.visualize, "draw_segmentation", lambda *_: np.full((90, 160, 3), next(greys), dtype=np.uint8)
    )
    ranking = triage_files(tiny_run, [photos], tmp_path, "cpu", shown=3)
    sheet = np.array(Image.open(tmp_path / "most_doubtful.png"))
    pair_width, pair_height = 2 * 320 + 6, 180 + 4
    assert sheet.shape == (8 + 2 * (pair_height + CARD_STRIP + 8), 8 + 2 * (pair_width + 8), 3)
    tops, lefts = (8 + CARD_STRIP + 90, 8 + CARD_STRIP + 90 + pair_height + CARD_STRIP + 8), (100, 100 + pair_width + 8)
    seen = [int(sheet[top, left, 0]) for top, left in ((tops[0], lefts[0]), (tops[0], lefts[1]), (tops[1], lefts[0]))]
    grey_of = {str(photos / f"{index}.png"): grey for index, grey in enumerate([50, 100, 150])}
    assert seen == [grey_of[ranked.photo] for ranked in ranking]


def test_no_more_is_shown_than_wanted(tiny_run: Path, photos: Path, tmp_path: Path):
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115 - lives as long as the test
    ranking = triage_files(tiny_run, [photos], tmp_path, "cpu", shown=1)
    print_ranking(ranking, 1, console)
    assert len(ranking) == 3
    said = console.export_text()
    assert "The 1 most doubtful of 3 photos" in said
    assert [ranked.photo in said for ranked in ranking] == [True, False, False]
    with Image.open(tmp_path / "most_doubtful.png") as sheet:
        assert sheet.height == 8 + 180 + 4 + CARD_STRIP + 8


def test_a_name_that_is_no_utf8_can_be_written():
    assert name_of(Path(os.fsdecode(b"caf\xe9.jpg"))) == "caf\ufffd.jpg"
    assert name_of(Path("caf\xe9.jpg")) == "caf\xe9.jpg"


def test_a_folder_that_cannot_be_made(tiny_run: Path, photos: Path):
    with pytest.raises(InputError, match="cannot make the folder"):
        triage_files(tiny_run, [photos], photos / "0.png" / "out", "cpu")
