"""The data formats: how each is opened, and how its splits are found."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tascnet.config import DatasetConfig
from tascnet.data.formats import cityscapes, coco_instances, coco_layout, png_pairs, vistas
from tascnet.data.formats.cityscapes import Cityscapes
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.formats.coco_instances import CocoInstances
from tascnet.data.formats.png_pairs import PngPairs
from tascnet.data.formats.vistas import Vistas
from tascnet.data.problems import OnProblem, stop
from tascnet.data.stream import PanopticDataset
from tascnet.data.streets.dataset import Streets
from tascnet.structures import Size

Open = Callable[[DatasetConfig, int, OnProblem], PanopticDataset]
"""Settings, pixels to which the shorter side of larger images is reduced (0: full size), what takes problems."""


@dataclass(frozen=True)
class Format:
    """One data format.

    Attributes:
        open: opens a split; problems raise, or go to the function that is given.
        find_splits: root -> names of the splits of this format there, none where it is another format; None where a
            format cannot be recognised and must be named with its split.
    """

    open: Open
    find_splits: Callable[[Path], list[str]] | None = None

    def open_leniently(self, config: DatasetConfig, on_problem: OnProblem) -> PanopticDataset:
        """Open a split for a check: entries that break a rule are passed to `on_problem` and left out.

        Raises:
            InputError: it cannot be read at all.
        """
        return self.open(config, 0, on_problem)


def _streets(config: DatasetConfig, _: int, __: OnProblem) -> Streets:
    size = Size(config.height, config.width)
    return Streets(config.num_images, size, config.seed, config.first, config.difficulty)


def _coco(config: DatasetConfig, load_short_side: int, _: OnProblem) -> CocoPanoptic:
    return CocoPanoptic.from_layout(config.root, config.split, load_short_side)


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
    "streets": Format(_streets),
    "coco": Format(_coco, coco_layout.find_splits),
    "coco_instances": Format(_coco_instances, coco_instances.find_splits),
    "png_pairs": Format(_png_pairs, png_pairs.find_splits),
    "cityscapes": Format(_cityscapes, cityscapes.find_splits),
    "vistas": Format(_vistas, vistas.find_splits),
}
"""Name in `DatasetConfig.format` -> the format."""
