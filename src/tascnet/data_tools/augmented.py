"""A training's first samples as the network sees them -> a sheet for the eye: image and annotation side by side."""

from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tascnet.build import build_dataset, build_stream
from tascnet.config import Config
from tascnet.data.images import write_png
from tascnet.data.sample import Sample
from tascnet.data.transforms import resize_short_side
from tascnet.errors import InputError
from tascnet.progress import SILENT, Observer
from tascnet.settings import from_dict, read_settings
from tascnet.structures import LabelSpace
from tascnet.visualize import Picture, draw_segmentation, grid, to_picture

MOST = 100
"""Samples on a sheet."""

SAMPLES_A_ROW = 2
LONG_SIDE = 480
"""Pixels, of a picture on the sheet."""


def draw_augmented(
    path: Path, changes: Mapping[str, Mapping[str, Any]], number: int, output: Path, observer: Observer = SILENT
) -> None:
    """Draw the samples with which the training of a configuration begins: the same ones, in the same order.

    Args:
        path: configuration file, or the folder of a run.
        changes: name of a group in `data` -> settings in it that differ from the file's.
        number: of samples.
        output: PNG file.
        observer: receives messages and progress.

    Raises:
        InputError: the configuration cannot be used, a sample cannot be read, or the file cannot be written.
    """
    if not 1 <= number <= MOST:
        raise InputError(f"--samples is {number}; it must be from 1 to {MOST}.")
    if output.suffix != ".png":
        raise InputError(f"--output is {output}; the sheet is a PNG file. Let the name end in .png.")
    config = _read_config(path / "config.yaml" if path.is_dir() else path, changes)
    dataset = build_dataset(config.data.train, config.data.input.load_short_side)
    data = replace(config.data, keep_in_memory=False)  # a few are wanted, not all
    stream = build_stream(data, dataset, number, config.training.seed, observer)
    cells = []
    with observer.job("drawing", number) as job:
        for position in range(number):
            cells.append(_draw(stream[position], dataset.label_space))
            job.update(position + 1)
    rows = [cells[first : first + SAMPLES_A_ROW] for first in range(0, number, SAMPLES_A_ROW)]
    write_png(output, grid([[picture for cell in row for picture in cell] for row in rows]))
    observer.message(f"the first {number} samples of the training, with their annotation: {output}")


def _draw(sample: Sample, label_space: LabelSpace) -> tuple[Picture, Picture]:
    """Image, and image with annotation."""
    size = sample.segmentation.size
    small = resize_short_side(sample, min(size), LONG_SIDE)
    return to_picture(small.image), draw_segmentation(small.segmentation, label_space, small.image, names=True)


def _read_config(path: Path, changes: Mapping[str, Mapping[str, Any]]) -> Config:
    content = read_settings(path)
    values = {field.name: content[field.name] for field in fields(Config) if field.name in content}
    data = values.get("data", {})
    merged = {group: {**data.get(group, {}), **changed} for group, changed in changes.items() if changed}
    try:
        return from_dict(values | {"data": {**data, **merged}})
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
