"""Things of one picture in front of another, by small pictures worked out by hand."""

import dataclasses

import pytest
import torch

from tascnet.data.copy_paste import paste_things
from tascnet.data.sample import Sample
from tascnet.structures import MAX_SEGMENT_ID, Category, LabelSpace, PanopticSegmentation, Segment

SKY, BIRD, CAT = 1, 2, 3
SPACE = LabelSpace((Category(SKY, "sky", False), Category(BIRD, "bird", True), Category(CAT, "cat", True)))


def sample(ids: list[list[int]], categories: dict[int, int], grey: int, crowds: tuple[int, ...] = ()) -> Sample:
    """A picture of one grey."""
    id_map = torch.tensor(ids, dtype=torch.int32)
    segments = [Segment(i, category, 0, is_crowd=i in crowds) for i, category in categories.items()]
    image = torch.full((3, *id_map.shape), grey, dtype=torch.uint8)
    return Sample(image, PanopticSegmentation.from_id_map(id_map, segments), f"grey {grey}", grey)


def test_a_thing_lies_in_front_and_all_is_counted_again() -> None:
    target = sample([[7, 7, 7, 0], [7, 9, 9, 0]], {7: SKY, 9: BIRD}, 10)
    source = sample([[4, 4, 4, 4], [4, 4, 5, 5]], {4: SKY, 5: CAT}, 200)
    result = paste_things(target, source, SPACE)
    assert result.segmentation.id_map.tolist() == [[7, 7, 7, 0], [7, 9, 1, 1]]
    assert result.segmentation.segments == (Segment(7, SKY, 4), Segment(9, BIRD, 1), Segment(1, CAT, 2))
    assert result.image.tolist() == [[[10, 10, 10, 10], [10, 10, 200, 200]]] * 3
    assert (result.name, result.image_id) == ("grey 10", 10)
    result.segmentation.validate(SPACE)


def test_what_is_hidden_whole_leaves() -> None:
    target = sample([[7, 9]], {7: SKY, 9: BIRD}, 10)
    source = sample([[0, 9]], {9: CAT}, 200)
    result = paste_things(target, source, SPACE)
    assert result.segmentation.segments == (Segment(7, SKY, 1), Segment(1, CAT, 1))
    assert result.segmentation.id_map.tolist() == [[7, 1]]


def test_crowds_stuff_and_void_are_not_pasted() -> None:
    target = sample([[7, 7, 7]], {7: SKY}, 10)
    source = sample([[4, 5, 0]], {4: SKY, 5: BIRD}, 200, crowds=(5,))
    result = paste_things(target, source, SPACE)
    assert torch.equal(result.image, target.image)
    assert result.segmentation.segments == target.segmentation.segments


def test_a_crowd_behind_a_pasted_thing_stays_a_crowd() -> None:
    target = sample([[7, 7]], {7: BIRD}, 10, crowds=(7,))
    result = paste_things(target, sample([[0, 3]], {3: BIRD}, 200), SPACE)
    assert result.segmentation.segments == (Segment(7, BIRD, 1, is_crowd=True), Segment(1, BIRD, 1))


def test_a_free_id_is_found_beside_the_largest() -> None:
    target = sample([[1, MAX_SEGMENT_ID]], {1: SKY, MAX_SEGMENT_ID: BIRD}, 10)
    result = paste_things(target, sample([[MAX_SEGMENT_ID, 0]], {MAX_SEGMENT_ID: CAT}, 200), SPACE)
    assert result.segmentation.id_map.tolist() == [[2, MAX_SEGMENT_ID]]


def test_one_to_all_of_the_things_are_drawn_each_number_as_often() -> None:
    torch.manual_seed(0)
    target = sample([[7, 7, 7, 7]], {7: SKY}, 10)
    source = sample([[1, 2, 3, 0]], {1: BIRD, 2: BIRD, 3: CAT}, 200)
    seen = [(paste_things(target, source, SPACE).image[0, 0] == 200).tolist() for _ in range(300)]
    numbers = [sum(pixels) for pixels in seen]
    assert all(75 <= numbers.count(number) <= 125 for number in (1, 2, 3))  # 100 expected, standard deviation 8.2
    assert len({tuple(pixels) for pixels in seen}) == 7


@pytest.mark.parametrize("target_is_larger", [True, False])
def test_pictures_of_two_sizes_lie_on_each_other_anywhere(target_is_larger: bool) -> None:
    torch.manual_seed(0)
    large, small = [[1, 2, 3, 4]] * 3, [[5, 6]] * 2
    target = sample(
        large if target_is_larger else small, dict.fromkeys((1, 2, 3, 4) if target_is_larger else (5, 6), SKY), 10
    )
    source = sample(
        small if target_is_larger else large, dict.fromkeys((5, 6) if target_is_larger else (1, 2, 3, 4), CAT), 200
    )
    places = set()
    for _ in range(200):
        result = paste_things(target, source, SPACE)
        result.segmentation.validate(SPACE)
        assert result.image.shape == target.image.shape
        places.add(tuple((result.image[0] == 200).flatten().tolist()))
    # 3 x 2 places of 2 x 2 pixels, of which the left, the right or both columns are pasted: 2 x 4 columns + 3 pairs of
    # them; into the small picture, at 3 places, fall some of two columns, or none
    assert len(places) == (2 * (4 + 3) if target_is_larger else 4)


def test_neither_picture_is_changed() -> None:
    target, source = sample([[7, 7]], {7: SKY}, 10), sample([[2, 0]], {2: BIRD}, 200)
    before = [dataclasses.replace(one, image=one.image.clone()) for one in (target, source)]
    paste_things(target, source, SPACE)
    for one, copy in zip((target, source), before, strict=True):
        assert torch.equal(one.image, copy.image)
    assert target.segmentation.id_map.tolist() == [[7, 7]]
    assert source.segmentation.id_map.tolist() == [[2, 0]]
