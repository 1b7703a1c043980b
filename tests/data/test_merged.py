"""Any data set with its categories merged."""

from pathlib import Path

import pytest
import torch

from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.merged import MergedCategories, group_categories, merge_supercategories, read_groups
from tascnet.data.sample import Sample
from tascnet.data.streets.dataset import STREETS, Streets
from tascnet.errors import InputError
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

SPACE = LabelSpace(
    (
        Category(1, "person", True, (220, 20, 60), "person"),
        Category(90, "cat", True, (1, 2, 3), "animal"),
        Category(91, "dog", True, (4, 5, 6), "animal"),
        Category(119, "sky", False, (7, 8, 9), "outdoor-stuff"),
        Category(184, "tree", False, (9, 8, 7), "outdoor-stuff"),
    )
)
IDS = [[7, 7, 300, 0], [5, 5, 300, 9], [4, 4, 4, 7]]
SEGMENTS = (
    Segment(7, 119, 3),
    Segment(300, 184, 2),
    Segment(5, 90, 2),
    Segment(9, 91, 1),
    Segment(4, 1, 3, is_crowd=True),
)
GROUPS = "outdoors: [tree, sky]\npet: [cat, dog]\nvoid: [person]\n"


class OnePicture:
    """A data set of one picture."""

    label_space = SPACE

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> Sample:
        return Sample(torch.zeros(3, 3, 4, dtype=torch.uint8), self.annotation(index), "a", 5, Path("a.jpg"))

    def annotation(self, index: int) -> PanopticSegmentation:
        return PanopticSegmentation.from_id_map(torch.tensor(IDS), SEGMENTS)


def write(folder: Path, text: str) -> Path:
    path = folder / "groups.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_supercategories_in_the_order_of_their_ids() -> None:
    merged = group_categories(OnePicture(), "supercategory")
    assert merged.label_space.categories == (
        Category(1, "person", True, (220, 20, 60), "person"),
        Category(2, "animal", True, (1, 2, 3), "animal"),
        Category(3, "outdoor-stuff", False, (7, 8, 9), "outdoor-stuff"),
    )
    assert len(merged) == 1
    sample = merged[0]
    assert (sample.name, sample.image_id, sample.photo) == ("a", 5, Path("a.jpg"))
    for segmentation in (sample.segmentation, merged.annotation(0)):
        assert segmentation.validate(merged.label_space).segments == (  # sky and tree are one now, cat and dog are two
            Segment(7, 3, 5),
            Segment(5, 2, 2),
            Segment(9, 2, 1),
            Segment(4, 1, 3, is_crowd=True),
        )
        assert segmentation.id_map.tolist() == [[7, 7, 7, 0], [5, 5, 7, 9], [4, 4, 4, 7]]


def test_groups_of_a_file(tmp_path: Path) -> None:
    """Ids in the order of the file, colours of the first in the data set's order, what is void has no segment."""
    merged = group_categories(OnePicture(), str(write(tmp_path, GROUPS)))
    assert merged.label_space.categories == (
        Category(1, "outdoors", False, (7, 8, 9), "outdoors"),
        Category(2, "pet", True, (1, 2, 3), "pet"),
    )
    segmentation = merged.annotation(0).validate(merged.label_space)
    assert segmentation.segments == (Segment(7, 1, 5), Segment(5, 2, 2), Segment(9, 2, 1))
    assert segmentation.id_map.tolist() == [[7, 7, 7, 0], [5, 5, 7, 9], [0, 0, 0, 7]]


def test_none_leaves_a_data_set_alone() -> None:
    dataset = OnePicture()
    assert group_categories(dataset, "none") is dataset


def test_names_that_are_not_ascii(tmp_path: Path) -> None:
    space = LabelSpace((Category(1, "Fußgänger", True), Category(2, "空", False)))
    merge = read_groups(write(tmp_path, "Mensch: [Fußgänger]\nHimmel: ['空']\n"), space)
    assert [(c.id, c.name) for c in merge.target.categories] == [(1, "Mensch"), (2, "Himmel")]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "pet: [cat, dog]\nvoid: [person]\n",
            r"sky, tree are in no group \(list what you do not want under 'void'",
        ),
        (GROUPS + "more: [canal]\n", "canal are not categories of the data set"),
        (GROUPS + "more: [cat]\n", "cat are listed twice"),
        ("pet: [cat, dog]\nrest: [person, sky, tree]\n", r"'rest' mixes things and stuff: person \(thing\), sky"),
        ("void: [person, cat, dog, sky, tree]\n", "at least one category"),
        (GROUPS + "more: []\n", "'more' lists no categories; write 'more: "),
        (GROUPS + "more: cat\n", "'more' lists no categories"),
        (GROUPS + "no: [cat]\n", "False is no text for YAML. Put the name in quotes"),
        ("- cat\n", "holds no groups; it needs lines such as"),
        ("", "holds no groups"),
        ("pet: [cat", "is not valid YAML"),
    ],
)
def test_groups_that_break_a_rule(tmp_path: Path, text: str, finding: str) -> None:
    with pytest.raises(InputError, match=rf"groups\.yaml.*{finding}"):
        read_groups(write(tmp_path, text), SPACE)


def test_what_is_no_way_to_group(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="group_by is 'color'; it is none, supercategory, or a YAML file, which does"):
        group_categories(OnePicture(), "color")
    with pytest.raises(InputError, match="the data set gives none for person"):
        merge_supercategories(LabelSpace((Category(1, "person", True),)))
    mixed = LabelSpace((Category(1, "person", True, supercategory="a"), Category(2, "sky", False, supercategory="a")))
    with pytest.raises(InputError, match="merged by supercategory: group 'a' mixes things and stuff"):
        merge_supercategories(mixed)


def test_generated_streets_merge_too() -> None:
    streets = Streets(2, Size(64, 128))
    merged = MergedCategories(streets, merge_supercategories(STREETS))
    before, after = streets.annotation(1), merged.annotation(1).validate(merged.label_space)
    assert torch.equal(before.id_map > 0, after.id_map > 0)
    of_name = {category.name: category.id for category in merged.label_space.categories}
    wanted = [of_name[STREETS[segment.category_id].supercategory] for segment in before.segments]
    assert sorted({segment.category_id for segment in after.segments}) == sorted(set(wanted))


def test_real_categories_merge_into_27(shared_data: Path) -> None:
    dataset = group_categories(CocoPanoptic.from_layout(shared_data / "coco_mini", "val2017"), "supercategory")
    assert len(dataset.label_space.categories) == 27
    for index in range(0, 50, 5):
        dataset.annotation(index).validate(dataset.label_space)


def test_another_order_of_the_file_gives_the_same_groups() -> None:
    """Training and validation files list the same categories, but not always in the same order."""
    backwards = LabelSpace(SPACE.categories[::-1])
    one, other = merge_supercategories(SPACE), merge_supercategories(backwards)
    assert one.target_of == other.target_of == {1: 1, 90: 2, 91: 2, 119: 3, 184: 3}
    assert [(c.id, c.name) for c in one.target.categories] == [(c.id, c.name) for c in other.target.categories]


@pytest.mark.parametrize("path", ["", ".", "/dev/zero"])
def test_what_is_no_file_of_groups(path: str) -> None:
    with pytest.raises(InputError, match=r"group_by is '.*', which is no file"):
        read_groups(path, SPACE)
