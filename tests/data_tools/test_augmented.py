"""The sheet of a training's first samples, from the command line."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from said import Said

from tascnet.build import build_dataset, build_stream
from tascnet.config import Config
from tascnet.settings import to_dict


@pytest.fixture
def config(tiny_coco: Path, tiny_config: Callable[[], Config]) -> Config:
    """Three small pictures, cropped to 48 x 64 and pasted."""
    config = tiny_config()
    config.data.train.format, config.data.train.root, config.data.train.split = "coco", str(tiny_coco), "mini"
    config.data.train.num_images = 0
    config.data.input.crop = [48, 64]
    config.data.input.copy_paste = 1.0
    config.data.keep_in_memory = True
    return config


@pytest.fixture
def file(config: Config, tmp_path: Path) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(to_dict(config)))
    return path


def cells(path: Path, columns: int) -> list[np.ndarray]:
    """The pictures of a sheet whose cells have 48 x 64 pixels, eight of margin around them."""
    sheet = np.array(Image.open(path))
    rows = sheet.shape[0] // 56
    assert sheet.shape == (8 + rows * 56, 8 + columns * 72, 3)
    return [
        sheet[8 + row * 56 : 56 + row * 56, 8 + column * 72 : 72 + column * 72]
        for row in range(rows)
        for column in range(columns)
    ]


def test_the_samples_are_those_that_training_sees(
    config: Config, file: Path, tmp_path: Path, tascnet: Callable[..., Said]
) -> None:
    said = tascnet("data", "augment", file, "--output", tmp_path / "sheet.png", "--samples", 4)
    assert said.code == 0, said.err
    assert f"the first 4 samples of the training, with their annotation: {tmp_path / 'sheet.png'}" in said.out
    drawn = cells(tmp_path / "sheet.png", columns=4)
    assert len(drawn) == 8
    stream = build_stream(config.data, build_dataset(config.data.train), 4, config.training.seed)
    for position in range(4):
        image = stream[position].image.permute(1, 2, 0).numpy()
        assert np.array_equal(drawn[2 * position], image)
        assert not np.array_equal(drawn[2 * position + 1], image)


def test_a_run_folder_and_changed_settings(tiny_run: Path, tmp_path: Path, tascnet: Callable[..., Said]) -> None:
    output = tmp_path / "sheet.png"
    changes = ("--data.input.crop", "[48, 64]", "--data.train.num_images", 1)
    said = tascnet("data", "augment", tiny_run, "--output", output, "--samples", 1, *changes)
    assert said.code == 0, said.err
    assert len(cells(output, columns=2)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--samples", 0), r"--samples is 0; it must be from 1 to 100"),
        (("--output", "sheet.jpg"), r"--output is sheet\.jpg; the sheet is a PNG file"),
        (("--data.input.copy_paste", 2), r"run\.yaml: data\.input\.copy_paste is 2\.0; it must be from 0 to 1"),
        (
            ("--data.train.num_images", 1),
            r"run\.yaml: data\.input\.copy_paste is 1\.0, but data\.train\.num_images",
        ),
        (("--data.train.num_images", 9), r"num_images is 9, but the data set has 3 images"),
        (("--data.train.root", "nowhere"), r"nowhere/annotations/panoptic_mini\.json does not exist"),
    ],
)
def test_what_cannot_be_drawn_is_a_sentence(
    file: Path, tmp_path: Path, tascnet: Callable[..., Said], arguments: tuple, message: str
) -> None:
    said = tascnet("data", "augment", file, "--output", tmp_path / "sheet.png", *arguments)
    assert said.code == 2
    assert len(said.err.splitlines()) == 1
    assert re.search(message, said.err), said.err
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", "holds no settings"),
        ("data: {trian: {}}\n", "data.trian is not a setting"),
        ("{", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration(tmp_path: Path, tascnet: Callable[..., Said], text: str, message: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    said = tascnet("data", "augment", path, "--output", tmp_path / "sheet.png")
    assert (said.code, message in said.err) == (2, True), said.err
