import dataclasses
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet.data.batch import collate
from tascnet.data.formats.coco import CocoPanoptic
from tascnet.data.sample import Sample
from tascnet.data.transforms import Augment, resize_photo, resize_short_side
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size

LARGEST = 2**24 - 1
SPACE = LabelSpace((Category(1, "thing", True), Category(2, "stuff", False)))


def sample_of(ids: list | torch.Tensor, image: torch.Tensor | None = None) -> Sample:
    """A picture whose first channel is its id map (ids are below 256), so that both can be compared."""
    id_map = torch.as_tensor(ids, dtype=torch.int32)
    present = [i for i in id_map.unique().tolist() if i]
    segmentation = PanopticSegmentation.from_id_map(id_map, [Segment(i, 1, 0) for i in present])
    if image is None:
        image = id_map.to(torch.uint8).expand(3, -1, -1)
    return Sample(image, segmentation, "name", 5)


def blocks(rows: int, columns: int, side: int) -> Sample:
    """A chess board of rows x columns squares, each a segment of its own: ids 1, 2, ... in reading order."""
    ids = torch.arange(1, rows * columns + 1).view(rows, columns)
    return sample_of(ids.repeat_interleave(side, 0).repeat_interleave(side, 1))


def areas(sample: Sample) -> dict[int, int]:
    return {segment.id: segment.area for segment in sample.segmentation.segments}


def test_without_any_option_nothing_changes() -> None:
    original = blocks(2, 3, 4)
    same = Augment(flip_probability=0)(original)
    assert torch.equal(same.image, original.image)
    assert torch.equal(same.segmentation.id_map, original.segmentation.id_map)
    assert same.segmentation.segments == original.segmentation.segments
    assert (same.name, same.image_id) == ("name", 5)


def test_flip_turns_both() -> None:
    flipped = Augment(flip_probability=1)(sample_of([[1, 2, 0], [1, 1, 3]]))
    assert flipped.segmentation.id_map.tolist() == [[0, 2, 1], [3, 1, 1]]
    assert flipped.image[0].tolist() == [[0, 2, 1], [3, 1, 1]]


def test_flip_happens_as_often_as_asked() -> None:
    torch.manual_seed(0)
    augment = Augment(flip_probability=0.25)
    flips = sum(augment(sample_of([[1, 2]])).segmentation.id_map.tolist() == [[2, 1]] for _ in range(400))
    assert 70 <= flips <= 130  # 100 expected, standard deviation 8.7


def test_crop_cuts_the_same_window_out_of_both_and_counts_again() -> None:
    torch.manual_seed(0)
    original = blocks(4, 4, 3)
    augment = Augment(crop=Size(5, 4), flip_probability=0)
    windows = set()
    for _ in range(100):
        cropped = augment(original)
        assert cropped.image.shape == (3, 5, 4)
        assert torch.equal(cropped.image[0].int(), cropped.segmentation.id_map)
        present, counts = cropped.segmentation.id_map.unique(return_counts=True)
        assert areas(cropped) == dict(zip(present.tolist(), counts.tolist(), strict=True))
        cropped.segmentation.validate(SPACE)
        assert _is_window(cropped.segmentation.id_map, original.segmentation.id_map)
        windows.add(tuple(cropped.segmentation.id_map.flatten().tolist()))
    assert len(windows) > 30  # of 8 x 9


def _is_window(part: torch.Tensor, whole: torch.Tensor) -> bool:
    places = whole.unfold(0, part.shape[0], 1).unfold(1, part.shape[1], 1)  # (tops, lefts, height, width)
    return bool((places == part).flatten(2).all(-1).any())


def test_small_pictures_are_padded_at_the_bottom_and_the_right() -> None:
    padded = Augment(crop=Size(3, 4), flip_probability=0)(sample_of([[1, 2], [3, 3]]))
    assert padded.segmentation.id_map.tolist() == [[1, 2, 0, 0], [3, 3, 0, 0], [0, 0, 0, 0]]
    assert padded.image.tolist() == [[[1, 2, 0, 0], [3, 3, 0, 0], [0, 0, 0, 0]]] * 3


def test_cropped_in_one_direction_and_padded_in_the_other() -> None:
    torch.manual_seed(0)
    augment = Augment(crop=Size(1, 3), flip_probability=0)
    seen = {tuple(augment(sample_of([[1, 2], [3, 4]])).segmentation.id_map[0].tolist()) for _ in range(30)}
    assert seen == {(1, 2, 0), (3, 4, 0)}


def test_double_size() -> None:
    doubled = resize_short_side(sample_of([[1, 2, 2], [3, 0, LARGEST - 1]]), short_side=4)
    assert doubled.segmentation.id_map.tolist() == [
        [1, 1, 2, 2, 2, 2],
        [1, 1, 2, 2, 2, 2],
        [3, 3, 0, 0, LARGEST - 1, LARGEST - 1],
        [3, 3, 0, 0, LARGEST - 1, LARGEST - 1],
    ]
    assert areas(doubled) == {1: 4, 2: 8, 3: 4, LARGEST - 1: 4}
    assert doubled.image.shape == (3, 4, 6)


def test_a_third_of_the_size_takes_the_middle_pixels_and_drops_what_vanishes() -> None:
    ids = torch.full((3, 9), 1)
    ids[1] = torch.tensor([8, 2, 8, 8, 3, 8, 8, LARGEST, 8])
    small = resize_short_side(sample_of(ids), short_side=1)
    assert small.segmentation.id_map.tolist() == [[2, 3, LARGEST]]
    assert areas(small) == {2: 1, 3: 1, LARGEST: 1}


def test_image_is_averaged_when_made_smaller() -> None:
    stripes = torch.tensor([0, 200]).repeat(8).to(torch.uint8).expand(3, 16, 16)
    small = resize_short_side(sample_of(torch.zeros(16, 16), stripes), short_side=4)
    # every second column alone would be all 0 or all 200; at the border the filter sees less on one side
    assert small.image[:, :, 1:3].unique().tolist() == [100]
    assert (small.image.int() - 100).abs().max() < 10
    assert small.image.dtype == torch.uint8


@pytest.mark.parametrize("side", [31, 47, 64, 96, 130])
def test_image_and_ids_stay_aligned(side: int) -> None:
    """The left part of the picture is white and segment 2: after resizing, the edges lie within a pixel."""
    ids = torch.ones(64, 64)
    ids[:, :23] = 2
    white = ((ids == 2) * 255).to(torch.uint8).expand(3, -1, -1)
    resized = resize_short_side(sample_of(ids, white), side)
    edge_of_ids = float((resized.segmentation.id_map == 2).sum()) / side
    edge_of_image = float(resized.image[0].float().mean()) / 255 * side
    assert abs(edge_of_ids - edge_of_image) < 0.51  # half a pixel, and the rounding of 8-bit values
    assert abs(edge_of_image - 23 * side / 64) < 0.1


@pytest.mark.parametrize(
    ("height", "width", "short_side", "max_long_side", "expected"),
    [
        (30, 40, 60, None, (60, 80)),
        (40, 30, 60, None, (80, 60)),
        (30, 40, 60, 100, (60, 80)),
        (30, 40, 60, 40, (30, 40)),  # the longer side is the limit
        (40, 10, 8, 20, (20, 5)),
        (3, 900, 1, 30, (1, 30)),  # never less than a pixel
    ],
)
def test_short_side_and_longest_side(
    height: int, width: int, short_side: int, max_long_side: int | None, expected: tuple[int, int]
) -> None:
    original = sample_of(torch.ones(height, width))
    assert resize_short_side(original, short_side, max_long_side).segmentation.size == expected
    augment = Augment(short_sides=(short_side,), max_long_side=max_long_side)
    assert augment(original).segmentation.size == expected


def test_scale_is_drawn_from_its_whole_range() -> None:
    torch.manual_seed(0)
    augment = Augment(scale=(0.5, 2.0))
    heights = [augment(sample_of(torch.ones(20, 10))).segmentation.size.height for _ in range(200)]
    assert min(heights) in (10, 11)
    assert max(heights) in (39, 40)
    assert 23 < sum(heights) / 200 < 27  # 25 expected


def test_scale_and_crop_together_show_things_at_the_drawn_scale() -> None:
    """Inside a crop at factor 2, squares of 5 pixels are squares of 10."""
    torch.manual_seed(0)
    augment = Augment(scale=(2, 2), crop=Size(30, 30), flip_probability=0)
    for _ in range(20):
        cropped = augment(blocks(8, 8, 5))
        assert cropped.image.shape == (3, 30, 30)
        ids = cropped.segmentation.id_map
        whole = [i for i in ids.unique().tolist() if not _touches_border(ids == i)]
        assert whole
        assert {areas(cropped)[i] for i in whole} == {100}


def _touches_border(mask: torch.Tensor) -> bool:
    return bool(mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


def test_of_several_short_sides_each_is_drawn_as_often() -> None:
    torch.manual_seed(0)
    augment = Augment(short_sides=(4, 6, 10), max_long_side=16)
    sizes = Counter(augment(sample_of(torch.ones(2, 4))).segmentation.size for _ in range(300))
    assert set(sizes) == {(4, 8), (6, 12), (8, 16)}  # the longer side is the limit of the last
    assert all(75 <= number <= 125 for number in sizes.values())  # 100 expected, standard deviation 8.2


def test_large_scale_jitter_shows_all_of_a_small_picture_or_a_part_of_a_large_one() -> None:
    torch.manual_seed(0)
    augment = Augment(scale=(0.1, 2.0), short_sides=(40,), max_long_side=40, crop=Size(40, 40), flip_probability=0)
    seen = []
    for _ in range(200):
        result = augment(sample_of(torch.ones(20, 20)))
        assert result.segmentation.size == (40, 40)
        seen.append(areas(result)[1])
    assert min(seen) < 6**2  # factor 0.1 leaves 4 x 4 pixels, the rest is VOID
    assert 80 <= seen.count(40**2) <= 130  # factors above 1, 105 of 200 expected, standard deviation 7


class TestCropOnThings:
    """A picture with a car of one pixel at row 5, column 50, and a crowd of cars that takes the left half."""

    CAR, CROWD = 3, 4

    def picture(self) -> Sample:
        ids = torch.full((20, 100), 1)
        ids[:, :40] = self.CROWD
        ids[5, 50] = self.CAR
        segments = [Segment(1, 2, 0), Segment(self.CAR, 1, 0), Segment(self.CROWD, 1, 0, is_crowd=True)]
        return Sample(
            torch.zeros(3, 20, 100, dtype=torch.uint8), PanopticSegmentation.from_id_map(ids, segments), "", 0
        )

    def augment(self, probability: float, **options: Any) -> Augment:
        options = {"crop": Size(9, 11), "flip_probability": 0} | options
        return Augment(crop_on_things=probability, thing_ids=frozenset({1}), **options)

    def test_the_thing_is_in_the_middle_as_far_as_the_border_allows(self) -> None:
        cropped = self.augment(1)(self.picture()).segmentation.id_map
        assert (cropped == self.CAR).nonzero().tolist() == [[4, 5]]  # rows 1-9, columns 45-55
        cropped = self.augment(1, crop=Size(15, 11))(self.picture()).segmentation.id_map
        assert (cropped == self.CAR).nonzero().tolist() == [[5, 5]]  # rows 0-14: above is the border

    @pytest.mark.parametrize("factor", [0.5, 2.0, 3.3])
    def test_at_any_scale(self, factor: float) -> None:
        torch.manual_seed(0)
        picture = self.picture()
        ids = picture.segmentation.id_map.clone()
        ids[4:7, 48:53] = self.CAR  # of which one pixel is drawn
        segmentation = PanopticSegmentation.from_id_map(ids, picture.segmentation.segments)
        augment = self.augment(1, scale=(factor, factor), crop=Size(8, 12))
        for _ in range(20):
            cropped = augment(dataclasses.replace(picture, segmentation=segmentation))
            assert cropped.segmentation.size == (8, 12)
            assert self.CAR in areas(cropped)

    def test_as_often_as_asked(self) -> None:
        torch.manual_seed(0)
        augment = self.augment(0.5)
        with_car = sum(self.CAR in areas(augment(self.picture())) for _ in range(400))
        # half of 400, and of the others those at 9 of 12 rows and 11 of 90 columns: 217 expected, deviation 10
        assert 185 <= with_car <= 250

    def test_a_crowd_alone_is_no_thing_to_centre_on(self) -> None:
        torch.manual_seed(0)
        only_crowd = self.picture()
        ids = only_crowd.segmentation.id_map.clone()
        ids[5, 50] = 1
        segments = tuple(segment for segment in only_crowd.segmentation.segments if segment.id != self.CAR)
        only_crowd = dataclasses.replace(only_crowd, segmentation=PanopticSegmentation.from_id_map(ids, segments))
        lefts = {int((self.augment(1)(only_crowd).segmentation.id_map == 1).sum()) for _ in range(200)}
        assert {0, 99} <= lefts  # whole in the crowd, and whole beside it

    def test_a_rare_category_is_drawn_as_often_as_a_frequent_one(self) -> None:
        torch.manual_seed(0)
        ids = torch.zeros(3, 400)
        numbers = list(range(1, 11))
        ids[1, 10:210:20] = torch.arange(1.0, 11.0)  # ten cars; one train
        ids[1, 390] = 11
        segments = [Segment(i, 1, 0) for i in numbers] + [Segment(11, 7, 0)]
        picture = sample_of(ids)
        picture = dataclasses.replace(
            picture, segmentation=PanopticSegmentation.from_id_map(picture.segmentation.id_map, segments)
        )
        augment = Augment(crop=Size(3, 5), crop_on_things=1, thing_ids=frozenset({1, 7}), flip_probability=0)
        seen = Counter(i for _ in range(400) for i in areas(augment(picture)))
        assert seen.total() == 400
        assert 160 <= seen[11] <= 240  # 200 expected, standard deviation 10
        assert all(5 <= seen[i] <= 38 for i in numbers)  # 20 expected, 4.4


def test_colours_change_and_ids_do_not() -> None:
    torch.manual_seed(0)
    grey = sample_of(torch.ones(4, 4), torch.full((3, 4, 4), 100, dtype=torch.uint8))
    augment = Augment(flip_probability=0, color_jitter=0.3)
    values = {int(augment(grey).image[0, 0, 0]) for _ in range(50)}
    assert len(values) > 10
    assert 70 <= min(values) < 85 < 115 < max(values) <= 130
    assert torch.equal(augment(grey).segmentation.id_map, grey.segmentation.id_map)


def test_one_seed_gives_one_result() -> None:
    augment = Augment(scale=(0.5, 2), crop=Size(9, 9), color_jitter=0.4)
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(augment(blocks(4, 4, 5)))
    assert torch.equal(results[0].image, results[1].image)
    assert torch.equal(results[0].segmentation.id_map, results[1].segmentation.id_map)
    assert not torch.equal(results[0].image, results[2].image)


def test_original_stays_as_it_is() -> None:
    original = blocks(3, 3, 5)
    image, ids = original.image.clone(), original.segmentation.id_map.clone()
    Augment(scale=(0.5, 2), crop=Size(9, 9), color_jitter=0.4, flip_probability=1)(original)
    assert torch.equal(original.image, image)
    assert torch.equal(original.segmentation.id_map, ids)


def test_result_is_of_plain_tensors_and_keeps_crowds_and_scores() -> None:
    original = sample_of([[1, 1]])
    segment = Segment(1, 1, 2, is_crowd=True, score=0.5)
    original = dataclasses.replace(
        original, segmentation=dataclasses.replace(original.segmentation, segments=(segment,))
    )
    result = Augment(short_sides=(2,), flip_probability=1, color_jitter=0.1)(original)
    assert type(result.image) is type(result.segmentation.id_map) is torch.Tensor
    assert result.segmentation.id_map.dtype == torch.int32
    assert result.segmentation.segments == (dataclasses.replace(segment, area=8),)


def test_picture_without_segments() -> None:
    torch.manual_seed(0)
    result = Augment(scale=(0.5, 2), crop=Size(9, 9), color_jitter=0.4)(sample_of(torch.zeros(20, 20)))
    assert result.segmentation.segments == ()
    assert result.segmentation.size == (9, 9)
    assert collate([result], SPACE).targets[0].boxes.shape == (0, 4)


def test_crop_that_misses_every_segment() -> None:
    ids = torch.zeros(1, 400)
    ids[0, 0] = 3
    torch.manual_seed(0)
    assert Augment(crop=Size(1, 2), flip_probability=0)(sample_of(ids)).segmentation.segments == ()


@pytest.mark.parametrize(
    "arguments",
    [{"scale": (0, 1)}, {"scale": (2, 1)}, {"flip_probability": 1.5}, {"color_jitter": -0.1}, {"crop_on_things": 2}],
)
def test_impossible_options(arguments: dict) -> None:
    with pytest.raises(ValueError, match="got"):
        Augment(**arguments)


def test_goes_through_pickle_for_workers() -> None:
    augment = Augment(scale=(0.5, 2), crop=Size(9, 9), color_jitter=0.4)
    augment(blocks(2, 2, 9))
    assert pickle.loads(pickle.dumps(augment)) == augment


def test_real_pictures_keep_all_invariants(shared_data: Path) -> None:
    torch.manual_seed(0)
    dataset = CocoPanoptic.from_layout(shared_data / "coco_mini", "val2017")
    augment = Augment(scale=(0.5, 2), crop=Size(288, 448), short_sides=(320,), max_long_side=640, color_jitter=0.2)
    for original in (dataset[i] for i in range(0, 50, 4)):
        result = augment(original)
        result.segmentation.validate(dataset.label_space)
        assert result.image.shape == (3, 288, 448)
        assert set(areas(result)) <= set(areas(original))


def test_photos_are_resized_as_pillow_does() -> None:
    """Asked for, exactly; torchvision rounds a few values the other way."""
    pixels = np.random.default_rng(0).integers(0, 256, (97, 61, 3), dtype=np.uint8)
    wanted = torch.from_numpy(np.array(Image.fromarray(pixels).resize((40, 50), Image.Resampling.BILINEAR)))
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    assert torch.equal(resize_photo(image, Size(50, 40), "pillow").permute(1, 2, 0), wanted)
    near = resize_photo(image, Size(50, 40)).permute(1, 2, 0)
    assert int((near.int() - wanted.int()).abs().max()) <= 1
