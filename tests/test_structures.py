"""The nouns: every invariant broken in turn, and the two numberings of categories."""

import numpy as np
import pytest
import torch

from tascnet.errors import InputError
from tascnet.structures import (
    IGNORE,
    MAX_SEGMENT_ID,
    Category,
    CategoryMerge,
    Instances,
    LabelSpace,
    PanopticSegmentation,
    Segment,
    Size,
    distinct_color,
    run_starts,
)

PERSON, SKY, CAR, GRASS = 7, 3, 90, 12
SPACE = LabelSpace(
    (
        Category(PERSON, "person", True, (220, 20, 60), "human"),
        Category(SKY, "sky", False, (70, 130, 180), "nature"),
        Category(CAR, "car", True, (0, 0, 142), "vehicle"),
        Category(GRASS, "grass", False, (107, 142, 35), "nature"),
    )
)
IDS = [
    [5, 5, 5, 0],
    [5, 9, 9, 0],
    [6, 6, 9, 8],
]
SEGMENTS = (Segment(9, PERSON, 3), Segment(5, SKY, 4), Segment(6, GRASS, 2), Segment(8, CAR, 1))


def segmentation(ids: list | torch.Tensor = IDS, segments: tuple[Segment, ...] = SEGMENTS) -> PanopticSegmentation:
    """Unchecked, so that a test can break an invariant."""
    return PanopticSegmentation(torch.as_tensor(ids, dtype=torch.int32), segments)


class TestLabelSpace:
    def test_stuff_comes_first_in_both_numberings(self):
        assert [category.name for category in SPACE.by_index] == ["sky", "grass", "person", "car"]
        assert [SPACE.semantic_index(i) for i in (SKY, GRASS, PERSON, CAR)] == [0, 1, 2, 3]
        assert [SPACE.thing_index(i) for i in (PERSON, CAR)] == [0, 1]
        assert [category.id for category in SPACE.stuff] == [SKY, GRASS]
        assert [category.id for category in SPACE.things] == [PERSON, CAR]

    def test_an_unknown_id_is_named_with_the_known_ones(self):
        assert PERSON in SPACE
        assert 8 not in SPACE
        assert SPACE[CAR].name == "car"
        for look_up in (SPACE.__getitem__, SPACE.semantic_index, SPACE.thing_index):
            with pytest.raises(InputError, match=r"category id 8 is unknown.* 4 categories \(3, 7, 12, 90\)"):
                look_up(8)

    def test_of_many_known_ids_the_first_twelve_are_named(self):
        many = LabelSpace(tuple(Category(i, f"c{i}", True) for i in range(1, 20)))
        with pytest.raises(InputError, match=r"\(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, \.\.\.\)"):
            many[0]

    def test_no_categories(self):
        with pytest.raises(InputError, match="at least one category"):
            LabelSpace(())

    def test_an_id_twice(self):
        with pytest.raises(InputError, match=r"ids \[4\] appear more than once"):
            LabelSpace((Category(4, "a", True), Category(4, "b", False), Category(5, "c", True)))

    def test_list_and_back(self):
        assert LabelSpace.from_list(SPACE.to_list()) == SPACE
        assert SPACE.to_list()[1] == {
            "id": SKY,
            "name": "sky",
            "isthing": 0,
            "color": [70, 130, 180],
            "supercategory": "nature",
        }

    def test_colours_are_chosen_where_missing(self):
        space = LabelSpace.from_list({"id": i, "name": str(i), "isthing": i % 2} for i in range(133))
        colors = [category.color for category in space.categories]
        assert len(set(colors)) == 133
        assert all(0 <= channel <= 255 for color in colors for channel in color)
        assert colors[3] == distinct_color(3)

    @pytest.mark.parametrize("missing", ["id", "name", "isthing"])
    def test_a_category_must_be_complete(self, missing: str):
        categories = SPACE.to_list()
        del categories[2][missing]
        with pytest.raises(InputError, match=f"category number 2 .* lacks {missing}"):
            LabelSpace.from_list(categories)


class TestMerge:
    def test_things_stay_separate_and_stuff_unites(self):
        merge = SPACE.merge(lambda category: category.supercategory)
        assert [(c.id, c.name, c.is_thing) for c in merge.target.categories] == [
            (1, "human", True),
            (2, "nature", False),
            (3, "vehicle", True),
        ]
        ids = [[5, 5, 6, 9, 9], [4, 4, 4, 0, 8]]
        segments = (
            Segment(5, SKY, 2, score=0.5),
            Segment(9, PERSON, 2, is_crowd=True),
            Segment(6, GRASS, 1),
            Segment(4, PERSON, 3),
            Segment(8, CAR, 1),
        )
        merged = merge(segmentation(ids, segments)).validate(merge.target)
        # sky and grass are one segment under the id that came first; the two persons are still two
        assert merged.id_map.tolist() == [[5, 5, 5, 9, 9], [4, 4, 4, 0, 8]]
        assert merged.segments == (
            Segment(5, 2, 3, score=0.5),
            Segment(9, 1, 2, is_crowd=True),
            Segment(4, 1, 3),
            Segment(8, 3, 1),
        )

    def test_a_mixed_group_is_refused(self):
        with pytest.raises(InputError, match=r"'all' mixes things and stuff: person \(thing\), sky \(stuff\)"):
            SPACE.merge(lambda category: "all")

    def test_a_category_that_is_not_in_the_source(self):
        merge = SPACE.merge(lambda category: category.name)
        with pytest.raises(InputError, match="category id 55 is unknown"):
            merge(segmentation([[1]], (Segment(1, 55, 1),)))

    def test_what_is_left_out_becomes_void(self):
        only_grass = CategoryMerge(SPACE, SPACE, {GRASS: GRASS})
        merged = only_grass(segmentation([[1, 1, 2]], (Segment(1, SKY, 2), Segment(2, GRASS, 1)))).validate(SPACE)
        assert merged.id_map.tolist() == [[0, 0, 2]]
        assert merged.segments == (Segment(2, GRASS, 1),)


class TestFromIdMap:
    def test_areas_are_counted_and_given_ones_not_believed(self):
        wrong = tuple(Segment(s.id, s.category_id, 1000, s.is_crowd, s.score) for s in SEGMENTS)
        result = PanopticSegmentation.from_id_map(torch.tensor(IDS), wrong)
        assert result.segments == SEGMENTS
        assert result.id_map.dtype == torch.int32
        assert result.size == Size(3, 4)

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
    def test_any_integer_type(self, dtype: type):
        ids = np.array(IDS, dtype=dtype)
        for id_map in (ids, ids[:, ::-1]):  # a view that runs backwards, as flipping makes it
            result = PanopticSegmentation.from_id_map(id_map, SEGMENTS).validate(SPACE)
            assert result.id_map.tolist() == id_map.tolist()

    def test_the_largest_id(self):
        result = PanopticSegmentation.from_id_map(
            torch.tensor([[MAX_SEGMENT_ID, 0]]), [Segment(MAX_SEGMENT_ID, CAR, 0)]
        )
        assert result.segments == (Segment(2**24 - 1, CAR, 1),)

    @pytest.mark.parametrize(
        "ids",
        [
            torch.tensor(IDS).float(),
            np.array(IDS, dtype=np.float64),
            np.array(IDS, dtype=bool),
            torch.tensor([IDS]),
            np.array(IDS[0]),
        ],
        ids=["float tensor", "float array", "bool array", "three dimensions", "one dimension"],
    )
    def test_not_a_map_of_integers(self, ids: torch.Tensor | np.ndarray):
        with pytest.raises(InputError, match=r"an id map is \(height, width\) of integers; got shape"):
            PanopticSegmentation.from_id_map(ids, SEGMENTS)

    @pytest.mark.parametrize("too_large", [2**24, 2**32 + 5])
    def test_an_id_of_more_than_24_bits_is_not_folded_into_them(self, too_large: int):
        ids = torch.tensor([[5, too_large]])
        for id_map in (ids, ids.numpy()):
            with pytest.raises(InputError, match=f"to {too_large}; ids are in 1..16777215"):
                PanopticSegmentation.from_id_map(id_map, [Segment(5, SKY, 0)])

    def test_an_empty_segment(self):
        with pytest.raises(InputError, match="segments 7 have no pixel"):
            PanopticSegmentation.from_id_map(torch.tensor(IDS), [*SEGMENTS, Segment(7, CAR, 0)])

    def test_only_void(self):
        result = PanopticSegmentation.from_id_map(torch.zeros(2, 3, dtype=torch.int64), [])
        assert result.segments == ()
        assert result.validate(SPACE) is result


class TestInvariants:
    def test_all_hold(self):
        result = segmentation()
        assert result.validate(SPACE) is result
        assert result.count_areas() == {9: 3, 5: 4, 6: 2, 8: 1}
        assert result.index_map().tolist() == [[2, 2, 2, 0], [2, 1, 1, 0], [3, 3, 1, 4]]

    def test_an_id_without_a_segment(self):
        with pytest.raises(InputError, match="ids 8 in the id map have no segment"):
            segmentation(segments=SEGMENTS[:3]).validate()

    def test_of_many_ids_without_a_segment_five_are_named(self):
        with pytest.raises(InputError, match="ids 1, 2, 3, 4, 5 and 2 more in the id map have no segment"):
            segmentation([[7, 6, 5, 4], [3, 2, 1, 0]], ()).validate()

    def test_a_segment_without_pixels(self):
        with pytest.raises(InputError, match="segment 7 has no pixel"):
            segmentation(segments=(*SEGMENTS, Segment(7, CAR, 0))).validate()

    def test_an_id_twice(self):
        with pytest.raises(InputError, match="segment ids 9 are used twice"):
            segmentation(segments=(*SEGMENTS, Segment(9, CAR, 3))).validate()

    def test_a_wrong_area(self):
        with pytest.raises(InputError, match="segment 9 has 3 pixels, its area says 4"):
            segmentation(segments=(Segment(9, PERSON, 4), *SEGMENTS[1:])).validate()

    def test_a_negative_id_in_the_map(self):
        with pytest.raises(InputError, match=r"negative ids \(smallest -3\)"):
            segmentation([[5, -3]], (Segment(5, SKY, 1),)).validate()

    @pytest.mark.parametrize("out_of_range", [-1, 0, MAX_SEGMENT_ID + 1])
    def test_a_segment_whose_id_is_out_of_range(self, out_of_range: int):
        with pytest.raises(InputError, match=rf"segment ids {out_of_range} are not in 1\.\.16777215"):
            segmentation([[out_of_range]], (Segment(out_of_range, SKY, 1),)).validate()

    def test_a_float_map(self):
        with pytest.raises(InputError, match=r"of integers; got shape \(1, 1\), torch.float32"):
            PanopticSegmentation(torch.tensor([[1.0]]), (Segment(1, SKY, 1),)).validate()

    def test_a_map_of_three_dimensions(self):
        with pytest.raises(InputError, match=r"got shape \(1, 1, 2\)"):
            segmentation([[[1, 1]]], (Segment(1, SKY, 2),)).validate()

    def test_categories_are_checked_only_with_a_label_space(self):
        crowd_of_stuff = segmentation([[1]], (Segment(1, SKY, 1, is_crowd=True),))
        unknown = segmentation([[1]], (Segment(1, 55, 1),))
        crowd_of_stuff.validate()
        unknown.validate()
        with pytest.raises(InputError, match="segment 1 is a crowd of 'sky', which is stuff"):
            crowd_of_stuff.validate(SPACE)
        with pytest.raises(InputError, match="category id 55 is unknown"):
            unknown.validate(SPACE)
        segmentation([[1]], (Segment(1, CAR, 1, is_crowd=True),)).validate(SPACE)


def test_semantic_map():
    semantic = segmentation().semantic_map(SPACE)
    assert semantic.dtype == torch.int64
    # sky 0, grass 1, person 2, car 3
    assert semantic.tolist() == [[0, 0, 0, IGNORE], [0, 2, 2, IGNORE], [1, 1, 2, 3]]


def test_semantic_map_of_an_unknown_category():
    with pytest.raises(InputError, match="category id 55 is unknown"):
        segmentation([[1]], (Segment(1, 55, 1),)).semantic_map(SPACE)


def test_instances_are_selected_together_and_resized():
    instances = Instances(
        boxes=torch.tensor([[0.0, 1.0, 2.0, 3.0], [4.0, 4.0, 8.0, 6.0]]),
        labels=torch.tensor([1, 0]),
        scores=torch.tensor([0.9, 0.4]),
        masks=torch.stack([torch.zeros(28, 28), torch.ones(28, 28)]),
    )
    assert len(instances) == 2
    second = instances[instances.scores < 0.5]
    assert (len(second), second.labels.tolist(), second.masks.mean().item()) == (1, [0], 1.0)
    assert second.resized(scale_x=2, scale_y=0.5).boxes.tolist() == [[8.0, 2.0, 16.0, 3.0]]
    assert second.boxes.tolist() == [[4.0, 4.0, 8.0, 6.0]]


def test_runs_start_where_any_array_changes():
    assert run_starts(np.array([4, 4, 4, 5, 5])).tolist() == [0, 3]
    assert run_starts(np.array([4, 4, 4, 5, 5]), np.array([1, 2, 2, 2, 2])).tolist() == [0, 1, 3]
    assert run_starts(np.array([], dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("color", [[300, 0, 0], [0, -1, 0], [1, 2]])
def test_a_color_is_three_numbers_to_255(color: list[int]) -> None:
    with pytest.raises(InputError, match=r"category 'car': the color is .* three whole numbers, 0 to 255"):
        LabelSpace.from_list([{"id": 1, "name": "car", "isthing": 1, "color": color}])


def test_a_name_that_two_categories_share_gets_its_id() -> None:
    space = LabelSpace((Category(1, "car", True), Category(5, "other", False), Category(7, "other", True)))
    assert [space.unique_name(i) for i in (1, 5, 7)] == ["car", "other (5)", "other (7)"]
