"""A data set -> the same data set with merged categories: by supercategory, or by a file of groups."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from tascnet.data.problems import first_few
from tascnet.data.rare import listed_categories
from tascnet.data.sample import Sample
from tascnet.data.stream import PanopticDataset
from tascnet.errors import InputError, shown
from tascnet.files import at_home, read_yaml
from tascnet.structures import CategoryMerge, LabelSpace, PanopticSegmentation

DROPPED = "void"
"""The name in a file of groups under which the categories stand that become VOID."""


class MergedCategories(Dataset[Sample]):
    """Any data set with merged categories. Objects stay apart; stuff that now shares a category becomes one segment.

    Attributes:
        label_space: the merged categories, with ids 1, 2, ...
        source: the data set.
    """

    label_space: LabelSpace
    source: PanopticDataset

    def __init__(self, dataset: PanopticDataset, merge: CategoryMerge):
        """Wrap a data set; `merge` is of its label space."""
        self.label_space = merge.target
        self.source = dataset
        self._merge = merge

    def __len__(self) -> int:
        """Number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> Sample:
        """Image and merged annotation."""
        sample = self.source[index]
        return replace(sample, segmentation=self._merge(sample.segmentation))

    def annotation(self, index: int) -> PanopticSegmentation:
        """Merged annotation alone."""
        return self._merge(self.source.annotation(index))

    def listed_categories(self, index: int) -> frozenset[int] | None:
        """Merged category ids, where `source` has its own without reading pixels."""
        listed = listed_categories(self.source, index)
        return None if listed is None else self._merge.merged_ids(listed)


def group_categories(dataset: PanopticDataset, group_by: str) -> PanopticDataset:
    """Merge the categories of a data set.

    Args:
        dataset: of any format.
        group_by: "none" leaves it as it is; "supercategory" merges the categories of each supercategory; anything
            else is the path of a file of groups, see `read_groups`.

    Raises:
        InputError: the categories cannot be merged so.
    """
    if group_by == "none":
        return dataset
    space = dataset.label_space
    merge = merge_supercategories(space) if group_by == "supercategory" else read_groups(group_by, space)
    return MergedCategories(dataset, merge)


def merge_supercategories(label_space: LabelSpace) -> CategoryMerge:
    """One category for each supercategory (COCO: 133 become 27), in the order of their smallest ids.

    That order, and so the merged ids, is the same for two files that list the same categories in another order.

    Raises:
        InputError: a category has none, or a supercategory mixes things and stuff.
    """
    without = [category.name for category in label_space.categories if not category.supercategory]
    if without:
        raise InputError(
            f"group_by is supercategory, but the data set gives none for {first_few(without)}. "
            "Set group_by to none, or to a YAML file of groups."
        )
    try:
        by_id = sorted(label_space.categories, key=lambda category: category.id)
        return label_space.merge(
            lambda category: category.supercategory, [category.supercategory for category in by_id]
        )
    except InputError as error:
        raise InputError(f"the categories cannot be merged by supercategory: {error}") from error


def read_groups(path: str | Path, label_space: LabelSpace) -> CategoryMerge:
    """Read a YAML file of lines `new name: [old name, ...]`; what stands under `void` becomes VOID.

    Merged ids are 1, 2, ... in the order of the file; a merged category has the colour of the first of its
    categories in the data set's order.

    Raises:
        InputError: the file is missing or of another form, names a category that the data set has not, names one
            twice or not at all, or a group is empty or mixes things and stuff.
    """
    path = at_home(path)
    if not path.exists():
        raise InputError(f"group_by is '{path}'; it is none, supercategory, or a YAML file, which does not exist.")
    if not path.is_file():
        raise InputError(f"group_by is '{path}', which is no file; it is none, supercategory, or a YAML file.")
    groups = _read_lists(path)
    named = [name for names in groups.values() for name in names]
    known = {category.name for category in label_space.categories}
    findings = {
        "are not categories of the data set": [name for name in dict.fromkeys(named) if name not in known],
        "are listed twice": [name for name, count in Counter(named).items() if count > 1],
        f"are in no group (list what you do not want under '{DROPPED}')": sorted(known - set(named)),
    }
    for finding, names in findings.items():
        if names:
            raise InputError(f"{path}: {first_few(names)} {finding}. Each category is listed once. Fix the file.")
    group_of = {name: group for group, names in groups.items() for name in names if group != DROPPED}
    try:
        return label_space.merge(
            lambda category: group_of.get(category.name), [group for group in groups if group != DROPPED]
        )
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_lists(path: Path) -> dict[str, list[str]]:
    """Group -> names of its categories."""
    content: Any = read_yaml(path)
    if not isinstance(content, dict) or not content:
        raise InputError(f"{path} holds no groups; it needs lines such as 'vehicle: [car, bus]'. Write some.")
    for group, names in content.items():
        for text in (group, *names) if isinstance(names, list) else (group,):
            if not isinstance(text, str):
                raise InputError(f"{path}: {shown(text)} is no text for YAML. Put the name in quotes.")
        if not isinstance(names, list) or (not names and group != DROPPED):
            raise InputError(f"{path}: '{group}' lists no categories; write '{group}: [name, name]'.")
    return content
