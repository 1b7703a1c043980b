"""categories.yaml: the categories that PNGs of numbers speak of, and the numbers that mean VOID."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tascnet.data.formats.coco_json import read_label_space
from tascnet.data.problems import DataError, Kind, first_few
from tascnet.errors import InputError, shown
from tascnet.files import read_yaml
from tascnet.structures import Category, LabelSpace

FILE_NAME = "categories.yaml"
MAX_NUMBER = 0xFFFF
"""Largest number in a PNG of 16 bits."""


@dataclass(frozen=True)
class CategoriesFile:
    """What a categories.yaml says.

    Attributes:
        path: the file.
        label_space: its categories.
        void: numbers that mean VOID.
    """

    path: Path
    label_space: LabelSpace
    void: frozenset[int]

    def categories_of(self, numbers: Iterable[int], where: Path) -> dict[int, Category | None]:
        """Number in a PNG -> its category, None for VOID.

        Args:
            numbers: all that appear in the PNG.
            where: the PNG, for the error.

        Raises:
            InputError: naming the numbers that are neither a category's nor VOID.
        """
        by_id = self.label_space.by_id
        numbers = sorted(set(numbers))
        unknown = [number for number in numbers if number not in by_id and number not in self.void]
        if unknown:
            raise DataError(
                f"{where} holds the numbers {first_few(unknown)}, which "
                f"{self.path} does not list. Add them to its categories, or to its list 'void'.",
                Kind.UNKNOWN_CATEGORY,
            )
        return {number: by_id.get(number) for number in numbers}


def read_categories(path: str | Path) -> CategoriesFile:
    """Read a categories.yaml: a list `categories` of {id, name, isthing, color, supercategory}, and a list `void`.

    Colour, supercategory and `void` may be missing.

    Raises:
        InputError: the file is missing or of another form, an id is used twice, is not in 0..65535, or is VOID too.
    """
    path = Path(path)
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("categories"), list):
        raise InputError(
            f"{path} has no list 'categories'; it needs 'categories: [{{id: 1, name: road, isthing: 0}}, ...]' and, "
            "for unlabelled pixels, 'void: [0]'. Write them."
        )
    unknown = sorted(map(str, content.keys() - {"categories", "void"}))
    if unknown:
        raise InputError(f"{path} has the unknown key '{unknown[0]}'; known are categories and void. Mend the key.")
    if not all(isinstance(entry, dict) for entry in content["categories"]):
        raise InputError(f"{path}: each of the categories is {{id: 1, name: road, isthing: 0}}. Mend the list.")
    label_space = read_label_space(path, content["categories"])
    void = content.get("void") or []
    if not isinstance(void, list) or not all(isinstance(number, int) for number in void):
        raise InputError(f"{path}: void is {shown(void)}; it is a list of numbers, such as [0, 255]. Mend it.")
    _check_numbers(path, label_space, frozenset(void))
    return CategoriesFile(path, label_space, frozenset(void))


def _check_numbers(path: Path, label_space: LabelSpace, void: frozenset[int]) -> None:
    for category in label_space.categories:
        if not 0 <= category.id <= MAX_NUMBER:
            raise InputError(
                f"{path}: '{category.name}' has id {category.id}; PNGs hold 0..{MAX_NUMBER}. Give it another id."
            )
        if category.id in void:
            raise InputError(f"{path}: {category.id} is '{category.name}' and void at once. Take it out of one list.")
