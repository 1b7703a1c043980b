"""A data set -> what is in it: pictures and their sizes, segments by category, sizes of instances."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from tascnet.config import DatasetConfig
from tascnet.data.bad_samples import LeftOut
from tascnet.data.stream import PanopticDataset
from tascnet.data_tools.sources import find_sources
from tascnet.errors import InputError
from tascnet.files import check_writable, write_json
from tascnet.progress import SILENT, Job, Observer
from tascnet.structures import LabelSpace, PanopticSegmentation

SMALL, LARGE = 32**2, 96**2
"""Pixels: COCO calls instances of less than the first small, of the second and more large."""


@dataclass
class CategoryCount:
    """What there is of one category.

    Attributes:
        segments: crowds too.
        crowds: segments that are crowds.
        pixels: of all segments.
        pictures: pictures that it is in.
    """

    segments: int = 0
    crowds: int = 0
    pixels: int = 0
    pictures: int = 0


@dataclass
class Stats:
    """Counts over a data set; `add` takes one picture.

    Attributes:
        label_space: the categories.
        heights, widths: of the pictures, pixels.
        pixels, void: all pixels, and those without a label.
        categories: category id -> its counts.
        instances: number of instances of each picture, crowds not counted.
        small, medium, large: instances by area, see `SMALL` and `LARGE`.
    """

    label_space: LabelSpace
    heights: list[int] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    pixels: int = 0
    void: int = 0
    categories: dict[int, CategoryCount] = field(default_factory=dict)
    instances: list[int] = field(default_factory=list)
    small: int = 0
    medium: int = 0
    large: int = 0

    def __post_init__(self) -> None:
        self.categories = {category.id: CategoryCount() for category in self.label_space.categories}

    def add(self, segmentation: PanopticSegmentation) -> None:
        """Count one picture."""
        height, width = segmentation.size
        self.heights.append(height)
        self.widths.append(width)
        self.pixels += height * width
        self.void += height * width - sum(segment.area for segment in segmentation.segments)
        number = 0
        for segment in segmentation.segments:
            count = self.categories[segment.category_id]
            count.segments += 1
            count.crowds += segment.is_crowd
            count.pixels += segment.area
            if self.label_space[segment.category_id].is_thing and not segment.is_crowd:
                number += 1
                self._add_instance(segment.area)
        self.instances.append(number)
        for category_id in Counter(segment.category_id for segment in segmentation.segments):
            self.categories[category_id].pictures += 1

    def _add_instance(self, area: int) -> None:
        if area < SMALL:
            self.small += 1
        elif area < LARGE:
            self.medium += 1
        else:
            self.large += 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for the JSON file."""
        spread = {"height": self.heights, "width": self.widths, "instances_per_picture": self.instances}
        return {
            "pictures": len(self.heights),
            **{name: _spread(values) for name, values in spread.items()},
            "pixels": self.pixels,
            "void": self.void / self.pixels if self.pixels else None,
            "instances": {"small": self.small, "medium": self.medium, "large": self.large},
            "crowds": sum(count.crowds for count in self.categories.values()),
            "categories": [
                {"id": category.id, "name": category.name, "isthing": int(category.is_thing)}
                | asdict(self.categories[category.id])
                | {"share": self.categories[category.id].pixels / self.pixels if self.pixels else None}
                for category in self.label_space.by_index
            ],
        }


def count(dataset: PanopticDataset, job: Job | None = None, left_out: LeftOut | None = None) -> Stats:
    """Count all pictures of a data set; photos are not read.

    Args:
        dataset: any.
        job: receives the progress.
        left_out: takes the annotations that cannot be used; None raises the first of them.

    Raises:
        InputError: an annotation cannot be used, and is not left out; or none can.
    """
    stats, left_out = Stats(dataset.label_space), LeftOut() if left_out is None else left_out
    before = len(left_out)
    for index in range(len(dataset)):
        try:
            stats.add(dataset.annotation(index))
        except InputError as error:
            left_out(error)
        if job is not None:
            job.update(index + 1)
    left_out.require_others(len(dataset), "annotations", before)
    return stats


def count_data(
    path: Path,
    data_format: str,
    images: Path | None,
    settings: DatasetConfig,
    output: Path | None,
    observer: Observer = SILENT,
    left_out: LeftOut | None = None,
    on_counted: Callable[[str, Stats], object] = lambda name, stats: None,
) -> None:
    """Count the splits of a data set, and write the counts as JSON.

    Args:
        path, data_format, images, settings: see `find_sources`.
        output: the JSON file; None to write none.
        observer: receives messages and progress.
        left_out: takes the annotations that cannot be used; None raises the first of them.
        on_counted: called with the name and the counts of each split.

    Raises:
        InputError: the data set, or an annotation of it, cannot be used, or the output is a folder.
    """
    if output is not None:
        if output.is_dir():
            raise InputError(f"--output {output} is a folder. Name a JSON file in it, such as {output / 'stats.json'}.")
        check_writable(output.parent)
    written = []
    for source in find_sources(path, data_format, images, settings):
        dataset = source.open(with_photos=False)
        with observer.job(f"count {source.name}", len(dataset)) as job:
            stats = count(dataset, job, left_out)
        written.append({"split": source.name, "format": source.settings.format} | stats.to_dict())
        on_counted(source.name, stats)
    if output is not None:
        write_json(output, {"splits": written}, indent=1)
        observer.message(f"all numbers are in {output}")


def _spread(values: list[int]) -> dict[str, float]:
    return {"min": min(values, default=0), "median": median(values) if values else 0, "max": max(values, default=0)}
