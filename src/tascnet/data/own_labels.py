"""label_colors.txt: own labels in Cityscapes' folders, as CVAT and Datumaro export them -> categories."""

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from tascnet.data.formats.cityscapes_labels import CITYSCAPES, INSTANCE_BASE
from tascnet.errors import InputError
from tascnet.files import read_text
from tascnet.structures import Category, LabelSpace, distinct_color
from tascnet.values import color

FILE_NAME = "label_colors.txt"

BACKGROUND = 0
"""The label of unlabelled pixels: the exporters write it first, in black, and it is VOID here."""


def read_own_labels(
    path: Path, instance_ids: Iterable[Path], read_values: Callable[[Path, int], np.ndarray]
) -> tuple[LabelSpace, int]:
    """Read the labels, one a line as "red green blue name" or "name"; the number of the line, from 0, is the label.

    The file does not list which labels are things: those are the ones that have an object's number in a PNG. For that
    all PNGs are read, unless the labels are Cityscapes' own.

    Args:
        path: the file.
        instance_ids: the instanceIds PNGs of all splits, so that the splits have the same categories.
        read_values: reads one of them, its labels below the number that it is given.

    Returns:
        The categories, `CITYSCAPES` where ids and names are those; and the number of labels.

    Raises:
        InputError: the file or a PNG cannot be read, or a line is of another form.
    """
    labels = [_label(path, number, line) for number, line in enumerate(_lines(path))]
    names = {number: "".join(name.lower().split()) for number, (name, _) in enumerate(labels)}
    if all(names.get(category.id) == category.name.replace(" ", "") for category in CITYSCAPES.categories):
        return CITYSCAPES, len(labels)
    things: set[int] = set()
    for file in instance_ids:
        values = np.unique(read_values(file, len(labels)))
        things |= set((values[values >= INSTANCE_BASE] // INSTANCE_BASE).tolist())
    categories = (
        Category(number, name, number in things, own_color)
        for number, (name, own_color) in enumerate(labels)
        if number != BACKGROUND
    )
    try:
        return LabelSpace(tuple(categories)), len(labels)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _lines(path: Path) -> list[str]:
    return [line for line in map(str.strip, read_text(path).splitlines()) if line and not line.startswith("#")]


def _label(path: Path, number: int, line: str) -> tuple[str, tuple[int, int, int]]:
    """Name and colour."""
    words = line.split(maxsplit=3)
    if len(words) < 4 or not words[0].isdecimal():
        return line, distinct_color(number)
    try:
        return words[3], color(words[:3])
    except ValueError as error:
        raise InputError(f"{path}, line '{line:.60}': {error}. A line is 'red green blue name'.") from error
