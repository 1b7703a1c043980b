"""The arguments that name a data set on disk, for all actions of `tascnet data`."""

from collections.abc import Set
from dataclasses import fields
from pathlib import Path
from typing import Any

from jsonargparse import Namespace

from tascnet.commands.arguments import ArgumentParser
from tascnet.config import DatasetConfig


def add_source(parser: ArgumentParser, skip: Set[str] = frozenset()) -> None:
    """Add the arguments that name a data set: its path, its format, and those of its settings that concern files."""
    parser.add_argument("path", type=Path, help="root of the data set, or a JSON file in one of COCO's formats")
    parser.add_argument(
        "--format",
        default="auto",
        help="how it is stored: coco, cityscapes, vistas, png_pairs or coco_instances; auto looks at the files",
    )
    parser.add_argument(
        "--images",
        type=Path | None,
        default=None,
        help="folder of photos, for a COCO panoptic JSON file by itself",
    )
    of_streets = {"seed", "first", "height", "width", "difficulty"}
    parser.add_class_arguments(DatasetConfig, skip={"format", "root", *of_streets, *skip})


def source_of(options: Namespace) -> dict[str, Any]:
    """Read them again, as the arguments of `tascnet.data_tools.sources.find_sources`."""
    known = {field.name for field in fields(DatasetConfig)} - {"format", "root"}
    settings = DatasetConfig(**{name: value for name, value in vars(options).items() if name in known})
    return {"path": options.path, "data_format": options.format, "images": options.images, "settings": settings}
