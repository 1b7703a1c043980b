"""The data formats: how each is opened, the settings that it needs, and how its splits are found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tascnet.config import DatasetConfig
from tascnet.data.formats import cityscapes, coco_instances, coco_layout, png_pairs, vistas
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.coco_instances import CocoInstances
from tascnet.data.formats.dataset import FormatDataset
from tascnet.data.formats.png_pairs import PngPairs
from tascnet.data.formats.vistas import Vistas
from tascnet.data.problems import OnProblem, stop
from tascnet.data.streets.dataset import Streets
from tascnet.errors import InputError, shorten, shown
from tascnet.structures import Size

Open = Callable[[DatasetConfig, int, OnProblem], FormatDataset]
"""Settings, pixels to which the shorter side of larger images is reduced (0: full size), what takes problems."""


@dataclass(frozen=True)
class Format:
    """One data format.

    Attributes:
        open: opens a split; problems raise, or go to the function that is given.
        find_splits: root -> names of the splits of this format there, none where it is another format; None where a
            format cannot be recognised and must be named with its split.
        needs: settings that must be given.
        own: settings that data sets of other formats may not have.
    """

    open: Open
    find_splits: Callable[[Path], list[str]] | None = None
    needs: tuple[str, ...] = ("root", "split")
    own: tuple[str, ...] = ()


def _streets(config: DatasetConfig, _: int, __: OnProblem) -> Streets:
    size = Size(config.height, config.width)
    return Streets(config.num_images, size, config.seed, config.first, config.difficulty)


def _coco(config: DatasetConfig, load_short_side: int, on_problem: OnProblem) -> CocoPanoptic:
    return CocoPanoptic.from_layout(config.root, config.split, load_short_side, on_problem)


def _coco_instances(config: DatasetConfig, load_short_side: int, on_problem: OnProblem) -> CocoInstances:
    return CocoInstances.from_layout(config.root, config.split, config.overlaps, load_short_side, on_problem)


def _png_pairs(config: DatasetConfig, load_short_side: int, on_problem: OnProblem) -> PngPairs:
    return PngPairs(config.root, config.split, load_short_side, on_problem)


def _cityscapes(config: DatasetConfig, load_short_side: int, on_problem: OnProblem) -> Cityscapes:
    files = Cityscapes(config.root, config.split, load_short_side=load_short_side, on_problem=on_problem)
    if on_problem is not stop and not files.has_photos:  # annotation alone can be read; a check reports it
        on_problem(files.no_photos())
    return files


def _vistas(config: DatasetConfig, load_short_side: int, on_problem: OnProblem) -> Vistas:
    return Vistas(config.root, config.split, config.version, config.form, load_short_side, on_problem)


FORMATS: dict[str, Format] = {
    "streets": Format(_streets, needs=("num_images",), own=("difficulty",)),
    "coco": Format(_coco, coco_layout.find_splits),
    "coco_instances": Format(_coco_instances, coco_instances.find_splits),
    "png_pairs": Format(_png_pairs, png_pairs.find_splits, needs=("root",)),
    "cityscapes": Format(_cityscapes, cityscapes.find_splits),
    "vistas": Format(_vistas, vistas.find_splits),
}
"""Name in `DatasetConfig.format` -> the format."""


def format_of(name: str, setting: str = "format") -> Format:
    """The format of that name.

    Raises:
        InputError: there is none; the message calls the name by its `setting`.
    """
    if name not in FORMATS:
        raise InputError(f"{setting} is '{shorten(name, 80)}'; it must be one of {', '.join(FORMATS)}. Fix the name.")
    return FORMATS[name]


def check_dataset(dataset: DatasetConfig, name: str) -> DatasetConfig:
    """Check the settings of one data set, as far as its files need not be opened; return them.

    Args:
        dataset: the settings.
        name: of their group, such as data.val, for messages.

    Raises:
        InputError: naming the field, its value, and what it must be.
    """
    row = format_of(dataset.format, f"{name}.format")
    for field_name in ("num_images", "seed", "first"):
        value = getattr(dataset, field_name)
        if value < 0:
            raise InputError(f"{name}.{field_name} is {shown(value)}; it must be 0 or more.")
    for other_name, other in FORMATS.items():
        for field_name in other.own if other is not row else ():
            value = getattr(dataset, field_name)
            if value != getattr(DatasetConfig, field_name):
                raise InputError(
                    f"{name}.{field_name} is {value}, but {name}.format is {dataset.format}; only {other_name} "
                    f"have a {field_name}. Leave it out."
                )
    missing = [f"{name}.{field_name}" for field_name in row.needs if not getattr(dataset, field_name)]
    if missing:
        raise InputError(f"{name} has format {dataset.format} and needs {' and '.join(missing)}; give it.")
    return dataset
