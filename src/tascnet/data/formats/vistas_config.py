"""The config file of Mapillary Vistas -> its labels and categories."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tascnet.errors import InputError
from tascnet.files import read_json
from tascnet.structures import Category, CategoryMerge, LabelSpace, distinct_color
from tascnet.values import color, flag, text


@dataclass(frozen=True)
class VistasConfig:
    """What a config file says. The category of label number n of the file, counted from 0, has the id n + 1.

    Those are the ids of the official panoptic files. The name is the readable one, and the supercategory is the full
    name less its last part: "Car" of "object--vehicle--car" is in "object--vehicle".

    Attributes:
        path: the file.
        labels: all labels in order, each as a category.
        full_names: of the labels; the official panoptic files have them as supercategories.
        evaluated: for each label, whether it counts; the others are VOID.
    """

    path: Path
    labels: tuple[Category, ...]
    full_names: tuple[str, ...]
    evaluated: tuple[bool, ...]

    @cached_property
    def label_space(self) -> LabelSpace:
        """The categories of the labels that are evaluated."""
        return LabelSpace(tuple(c for c, counts in zip(self.labels, self.evaluated, strict=True) if counts))

    def merge_from(self, source: LabelSpace, source_path: Path) -> CategoryMerge:
        """The mapping from a panoptic file's own categories to those of this file; ignored ones become VOID.

        Raises:
            InputError: a category is none of the labels, or is a thing in one of the files and stuff in the other.
        """
        by_full_name = dict(zip(self.full_names, self.labels, strict=True))
        by_any_name = {label.name: label for label in self.labels} | by_full_name
        target_of = {}
        for category in source.categories:
            label = by_full_name.get(category.supercategory) or by_any_name.get(category.name)
            if label is None:
                raise InputError(
                    f"{source_path} has a category '{category.name}' ({category.supercategory}), which is no label of "
                    f"{self.path}. Use files of one version."
                )
            if label.id not in self.label_space:
                continue
            if label.is_thing != category.is_thing:
                raise InputError(
                    f"'{category.name}' is {_kind(category)} in {source_path} and {_kind(label)} in {self.path}. "
                    "Use files of one version."
                )
            target_of[category.id] = label.id
        return CategoryMerge(source, self.label_space, target_of)


def read_vistas_config(path: Path) -> VistasConfig:
    """Read `config_v1.2.json` or `config_v2.0.json`.

    Raises:
        InputError: the file is missing or broken, has no labels, a label lacks a key, or none is evaluated.
    """
    content = read_json(path)
    labels = content.get("labels") if isinstance(content, Mapping) else None
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{path} has no list 'labels'; check that it is the config file of Mapillary Vistas.")
    categories = tuple(_category(path, number, label) for number, label in enumerate(labels))
    full_names = tuple(str(label["name"]) for label in labels)
    evaluated = tuple(_flag(path, number, label["evaluate"]) for number, label in enumerate(labels))
    if not any(evaluated):
        raise InputError(f"{path} has no label with 'evaluate': true, so nothing would be annotated. Mend the file.")
    return VistasConfig(path, categories, full_names, evaluated)


def _category(path: Path, number: int, label: object) -> Category:
    keys = ("name", "instances", "evaluate")
    missing = [key for key in keys if not isinstance(label, Mapping) or key not in label]
    if not isinstance(label, Mapping) or missing:
        raise InputError(f"{path}, label number {number} lacks {', '.join(missing)}; it needs {', '.join(keys)}.")
    given_color, readable = label.get("color"), label.get("readable")
    try:
        name = text(label["name"])
        return Category(
            id=number + 1,
            name=name if readable is None else text(readable),
            is_thing=_flag(path, number, label["instances"]),
            color=distinct_color(number) if given_color is None else color(given_color),
            supercategory=name.rpartition("--")[0] or name,
        )
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{path}, label number {number}: {error}. Correct it.") from error


def _flag(path: Path, number: int, value: object) -> bool:
    try:
        return flag(value)
    except ValueError as error:
        raise InputError(f"{path}, label number {number}: {error}. Correct it.") from error


def _kind(category: Category) -> str:
    return "a thing" if category.is_thing else "stuff"
