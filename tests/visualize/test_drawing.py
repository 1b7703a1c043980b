"""Pictures of small worlds, pixel by pixel."""

import colorsys

import numpy as np
import pytest
import torch
from PIL import Image

from tascnet.errors import InputError
from tascnet.metrics.panoptic_quality import match_segments
from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment, Size
from tascnet.visualize import (
    MAX_CELL_SIDE,
    draw_match_map,
    draw_residual,
    draw_segmentation,
    grid,
    heat_table,
    legend,
    segment_colors,
    to_picture,
    vary_color,
)
from tascnet.visualize.sheets import LETTERBOX, PAPER

RED, BLUE, GREEN, BLACK, WHITE = (200, 40, 40), (60, 120, 180), (40, 160, 80), (0, 0, 0), (255, 255, 255)
PERSON, SKY, GRASS = 7, 20, 21  # category ids
LABELS = LabelSpace(
    (
        Category(PERSON, "person", True, RED),
        Category(SKY, "sky", False, BLUE),
        Category(GRASS, "grass", False, GREEN),
    )
)


def segmentation_of(rows, **categories):
    """`segmentation_of(["aab"], a=PERSON, b=SKY)`: one letter a pixel, '.' is VOID; ids are 1, 2, ... as named."""
    id_of = {letter: number for number, letter in enumerate(categories, start=1)}
    id_map = torch.tensor([[id_of.get(letter, 0) for letter in row] for row in rows], dtype=torch.int32)
    return PanopticSegmentation.from_id_map(
        id_map, [Segment(id_of[letter], category, 0) for letter, category in categories.items()]
    )


def filled(height, width, category_id, is_crowd=False):
    id_map = torch.full((height, width), 5, dtype=torch.int32)
    return PanopticSegmentation.from_id_map(id_map, [Segment(5, category_id, 0, is_crowd)])


def blank(height, width, color=WHITE):
    return np.full((height, width, 3), color, dtype=np.uint8)


WORLD = segmentation_of(
    [
        "sssaab",
        "sssaab",
        "gggaab",
        "ggg...",
    ],
    s=SKY,
    a=PERSON,
    b=PERSON,
    g=GRASS,
)


class TestToPicture:
    def test_every_library_form_becomes_the_same_array(self):
        array = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
        from_tensor = to_picture(torch.from_numpy(array).permute(2, 0, 1))
        assert from_tensor.shape == (2, 3, 3)
        assert np.array_equal(from_tensor, array)
        assert np.array_equal(to_picture(Image.fromarray(array)), array)
        assert np.array_equal(to_picture(array), array)

    def test_a_grey_pillow_image_becomes_three_channels(self):
        assert to_picture(Image.new("L", (2, 1), 9)).tolist() == [[[9, 9, 9], [9, 9, 9]]]

    @pytest.mark.parametrize(
        "image",
        [
            torch.zeros(4, 4, 3, dtype=torch.uint8),
            torch.zeros(3, 4, 4),
            np.zeros((3, 4, 4), np.uint8),
            np.zeros((4, 4, 3)),
        ],
    )
    def test_other_shapes_and_types_are_refused(self, image):
        with pytest.raises(ValueError, match="uint8; got shape"):
            to_picture(image)


class TestColors:
    def test_stuff_crowds_and_first_instances_have_the_colour_of_their_category(self):
        id_map = torch.tensor([[1, 2, 3, 4]])
        segments = [
            Segment(1, SKY, 0),
            Segment(2, PERSON, 0, is_crowd=True),
            Segment(3, PERSON, 0),
            Segment(4, PERSON, 0),
        ]
        colors = segment_colors(PanopticSegmentation.from_id_map(id_map, segments), LABELS)
        assert [colors[1], colors[2], colors[3]] == [BLUE, RED, RED]
        assert colors[4] == vary_color(RED, 1) != RED

    @pytest.mark.parametrize("color", [RED, BLUE, GREEN, (0, 0, 142), (255, 255, 0), (128, 128, 128), BLACK, WHITE])
    def test_any_two_of_eight_instances_can_be_told_apart(self, color):
        shades = np.array([vary_color(color, rank) for rank in range(8)], dtype=int)
        for first in range(8):
            for second in range(first):
                assert abs(shades[first] - shades[second]).max() >= 6, (first, second, shades)

    def test_instances_keep_the_hue_of_their_category_and_stay_off_black_and_white(self):
        hue = colorsys.rgb_to_hls(*(channel / 255 for channel in GREEN))[0]
        shades = [vary_color(GREEN, rank) for rank in range(200)]
        hues, lightnesses, _ = np.array([colorsys.rgb_to_hls(*(c / 255 for c in shade)) for shade in shades]).T
        assert -0.05 < (hues - hue).min() < -0.04
        assert 0.04 < (hues - hue).max() < 0.05
        assert 0.19 < lightnesses.min() < lightnesses.max() < 0.79

    def test_an_unknown_category_is_an_input_error(self):
        with pytest.raises(InputError, match="category id 99 is unknown"):
            draw_segmentation(filled(2, 2, 99), LABELS)


class TestDrawSegmentation:
    def test_pure_colours_and_black_void(self):
        picture = draw_segmentation(WORLD, LABELS, outlines=False)
        second = vary_color(RED, 1)
        assert picture.dtype == np.uint8
        assert [tuple(pixel) for pixel in picture[0]] == [BLUE, BLUE, BLUE, RED, RED, second]
        assert [tuple(pixel) for pixel in picture[3]] == [GREEN, GREEN, GREEN, BLACK, BLACK, BLACK]

    def test_over_an_image_colours_are_mixed_and_void_is_darkened(self):
        image = torch.full((3, 4, 6), 100, dtype=torch.uint8)
        picture = draw_segmentation(WORLD, LABELS, image, opacity=0.5, outlines=False)
        assert picture[0, 3].tolist() == [150, 70, 70]  # half of 100 and half of 200, 40, 40
        assert picture[3, 5].tolist() == [50, 50, 50]

    def test_opacity_zero_leaves_the_image_and_one_hides_it(self):
        image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
        assert np.array_equal(draw_segmentation(WORLD, LABELS, image, opacity=0, outlines=False), image)
        opaque = draw_segmentation(WORLD, LABELS, image, opacity=1, outlines=False)
        assert np.array_equal(opaque, draw_segmentation(WORLD, LABELS, outlines=False))

    def test_the_mixture_equals_floating_point_to_one_level(self):
        generator = np.random.default_rng(1)
        image = generator.integers(0, 256, (4, 6, 3), dtype=np.uint8)
        pure = draw_segmentation(WORLD, LABELS, outlines=False)
        for opacity in (0.1, 0.37, 0.6, 0.93):
            mixed = draw_segmentation(WORLD, LABELS, image, opacity, outlines=False)
            assert abs(mixed - (image * (1 - opacity) + pure * opacity)).max() <= 1.2

    def test_outlines_lie_left_of_and_above_borders(self):
        plain, outlined = (draw_segmentation(WORLD, LABELS, outlines=outlines) for outlines in (False, True))
        assert (plain != outlined).any(axis=2).astype(int).tolist() == [
            [0, 0, 1, 0, 1, 0],
            [1, 1, 1, 0, 1, 0],  # above grass, left of the first person, left of the second
            [0, 0, 1, 1, 1, 1],  # left of the first person; above VOID
            [0, 0, 1, 0, 0, 0],
        ]
        assert outlined[0, 2].tolist() == [206, 221, 236]  # a quarter of 60, 120, 180 and three quarters of white

    def test_outlines_of_large_pictures_are_two_wide_and_centred(self):
        id_map = torch.ones(1024, 1100, dtype=torch.int32)
        id_map[:, 500:] = 2
        halves = PanopticSegmentation.from_id_map(id_map, [Segment(1, SKY, 0), Segment(2, GRASS, 0)])
        changed = draw_segmentation(halves, LABELS) != draw_segmentation(halves, LABELS, outlines=False)
        assert np.flatnonzero(changed.any(axis=(0, 2))).tolist() == [499, 500]

    def test_crowds_have_diagonal_stripes_five_pixels_wide(self):
        picture = draw_segmentation(filled(3, 12, PERSON, is_crowd=True), LABELS)
        dark = (110, 22, 22)  # 0.55 x 200, 40, 40
        assert [tuple(pixel) for pixel in picture[0]] == [RED] * 5 + [dark] * 5 + [RED] * 2
        assert [tuple(pixel) for pixel in picture[1]] == [RED] * 4 + [dark] * 5 + [RED] * 3
        assert (draw_segmentation(filled(3, 12, PERSON), LABELS) == RED).all()

    def test_stripes_of_large_pictures_are_wider(self):
        picture = draw_segmentation(filled(1024, 1024, PERSON, is_crowd=True), LABELS)
        assert (picture[0, :10] == RED).all()
        assert (picture[0, 10:20] == (110, 22, 22)).all()

    def test_stripes_stay_inside_the_crowd(self):
        id_map = torch.ones(12, 12, dtype=torch.int32)
        id_map[:, 6:] = 2
        world = PanopticSegmentation.from_id_map(id_map, [Segment(1, SKY, 0), Segment(2, PERSON, 0, is_crowd=True)])
        picture = draw_segmentation(world, LABELS, outlines=False)
        assert (picture[:, :6] == BLUE).all()
        assert len(np.unique(picture[:, 6:].reshape(-1, 3), axis=0)) == 2

    def test_the_image_given_is_not_painted_on(self):
        image = blank(4, 6)
        draw_segmentation(WORLD, LABELS, image, names=True)
        assert (image == 255).all()

    def test_sizes_must_agree(self):
        with pytest.raises(InputError, match="the image is 4 x 5 and its segmentation 4 x 6 pixels"):
            draw_segmentation(WORLD, LABELS, blank(4, 5))

    @pytest.mark.parametrize("opacity", [-0.1, 1.5, float("nan")])
    def test_opacity_is_a_fraction(self, opacity):
        with pytest.raises(ValueError, match="between 0 and 1"):
            draw_segmentation(WORLD, LABELS, blank(4, 6), opacity)

    @pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (12000, 100), (100, 12000)])
    def test_every_size_is_drawn(self, size):
        image = torch.full((3, *size), 200, dtype=torch.uint8)
        empty = PanopticSegmentation.from_id_map(torch.zeros(size, dtype=torch.int32), [])
        for world in (filled(*size, PERSON, is_crowd=True), empty):
            assert draw_segmentation(world, LABELS, image, names=True).shape == (*size, 3)
        assert (draw_segmentation(empty, LABELS, names=True) == 0).all()


class TestNames:
    @staticmethod
    def written(world):
        """Where names change the picture: (top, bottom, left, right), inclusive; None if nowhere."""
        without, with_names = (draw_segmentation(world, LABELS, names=names) for names in (False, True))
        rows, columns = np.nonzero((without != with_names).any(axis=2))
        return (rows.min(), rows.max(), columns.min(), columns.max()) if len(rows) else None

    def test_a_name_stands_in_the_middle_of_a_lone_segment(self):
        top, bottom, left, right = self.written(filled(100, 200, PERSON))
        assert abs((top + bottom + 1) / 2 - 50) <= 1
        assert abs((left + right + 1) / 2 - 100) <= 1
        assert 40 < right - left < 60  # the width of six letters 12 pixels high

    def test_letters_are_white_on_dark(self):
        picture = draw_segmentation(filled(100, 200, PERSON), LABELS, names=True).astype(int)
        assert picture.sum(axis=2).max() == 765
        assert tuple(picture[43, 100]) == (
            82,
            16,
            16,
        )  # 200, 40, 40 under black at 150 / 255: on the box, above letters

    def test_a_segment_without_room_has_no_name(self):
        assert self.written(filled(8, 200, PERSON)) is None
        assert self.written(filled(200, 20, PERSON)) is None

    def test_the_name_of_a_bent_segment_stands_on_it_not_at_its_centre_of_gravity(self):
        id_map = torch.ones(200, 200, dtype=torch.int32)
        id_map[:150, 40:160] = 0  # a U; its only place for a name is the floor
        world = PanopticSegmentation.from_id_map(id_map, [Segment(1, PERSON, 0)])
        top, _, left, right = self.written(world)
        assert top >= 150
        assert abs((left + right + 1) / 2 - 100) <= 2

    def test_of_two_names_that_would_overlap_the_larger_segment_has_its_own(self):
        id_map = torch.ones(25, 60, dtype=torch.int32)
        id_map[:12] = 2
        world = PanopticSegmentation.from_id_map(id_map, [Segment(1, SKY, 0), Segment(2, SKY, 0)])
        top, bottom, _, _ = self.written(world)
        assert bottom - top + 1 <= 18  # one line
        assert top >= 7  # the lower one's


class TestDrawMatchMap:
    ANNOTATION = segmentation_of(["ssssss", "aassbb", "gggggg", "ggg..."], s=SKY, a=PERSON, b=PERSON, g=GRASS)
    PREDICTION = segmentation_of(["ssssss", "ssxxbb", "gggggg", "...yyy"], s=SKY, x=PERSON, b=PERSON, g=GRASS, y=PERSON)

    def test_white_black_and_grey_by_hand(self):
        picture = draw_match_map(self.PREDICTION, self.ANNOTATION, {1, 3, 4}, {2}, {5}, outlines=False)
        assert picture.shape == (4, 6, 3)
        assert picture[:, :, 0].tolist() == [
            [255, 255, 255, 255, 255, 255],  # sky matched
            [0, 0, 0, 0, 255, 255],  # missed person under matched sky, false positive x, matched person
            [255, 255, 255, 255, 255, 255],  # grass matched
            [128, 128, 128, 128, 128, 128],  # predicted VOID; ignored y
        ]
        assert (picture == picture[:, :, :1]).all()

    def test_the_ids_of_match_segments_fit(self):
        matching = match_segments(self.PREDICTION, self.ANNOTATION, LABELS)
        matched = {match.prediction_id for match in matching.true_positives}
        picture = draw_match_map(
            self.PREDICTION, self.ANNOTATION, matched, matching.false_negatives, matching.ignored, outlines=False
        )
        by_hand = draw_match_map(self.PREDICTION, self.ANNOTATION, {1, 3, 4}, {2}, {5}, outlines=False)
        assert np.array_equal(picture, by_hand)

    def test_outlines_are_grey_around_predicted_and_missed_segments(self):
        two = segmentation_of(["aabb"], a=SKY, b=GRASS)
        assert draw_match_map(two, two, {1, 2}, ())[0, :, 0].tolist() == [255, 128, 255, 255]
        one = segmentation_of(["aaaa"], a=SKY)
        assert draw_match_map(one, two, {1}, {2})[0, :, 0].tolist() == [255, 128, 0, 0]

    def test_identical_segmentations_are_white_but_for_void(self):
        picture = draw_match_map(WORLD, WORLD, [1, 2, 3, 4], [], outlines=False)
        assert (picture[:, :, 0] == np.where(WORLD.id_map.numpy() > 0, 255, 128)).all()

    def test_nothing_predicted(self):
        empty = PanopticSegmentation.from_id_map(torch.zeros(4, 6, dtype=torch.int32), [])
        picture = draw_match_map(empty, self.ANNOTATION, (), {1, 2, 3, 4}, outlines=False)
        assert (picture[:, :, 0] == np.where(self.ANNOTATION.id_map.numpy() > 0, 0, 128)).all()

    @pytest.mark.parametrize(
        ("matched", "missed", "ignored", "role"),
        [
            ({9}, (), (), "prediction"),
            ((), {9}, (), "annotation"),
            ((), (), {9}, "prediction"),
            ({0}, (), (), "prediction"),
        ],
    )
    def test_unknown_ids_are_errors(self, matched, missed, ignored, role):
        with pytest.raises(ValueError, match=f"are not segments of the {role}"):
            draw_match_map(self.PREDICTION, self.ANNOTATION, matched, missed, ignored)

    def test_an_id_is_not_matched_and_ignored_at_once(self):
        with pytest.raises(ValueError, match=r"segments \[3\] are both"):
            draw_match_map(self.PREDICTION, self.ANNOTATION, {1, 3}, (), {3})

    def test_sizes_must_agree(self):
        with pytest.raises(InputError, match="prediction is 4 x 6 and the annotation 4 x 7"):
            draw_match_map(WORLD, filled(4, 7, SKY), (), ())


class TestDrawResidual:
    def test_heat_without_an_image(self):
        picture = draw_residual(torch.tensor([[0.0, 1.0], [0.5, 0.0]]))
        assert picture[0, 0].tolist() == [0, 0, 0]
        assert picture[0, 1].tolist() == heat_table()[255].tolist() == [252, 250, 190]
        assert picture[1, 0].tolist() == heat_table()[128].tolist()

    def test_heat_rises_evenly_in_perceived_lightness(self):
        linear = (heat_table() / 255.0) ** 2.2
        luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
        lightness = 116 * np.cbrt(np.maximum(luminance, 1e-9)) - 16
        knots = lightness[np.linspace(0, 255, 9).round().astype(int)]
        assert (np.diff(luminance) > 0).all()
        assert 6 < np.diff(knots[1:]).min() <= np.diff(knots[1:]).max() < 20  # 12 were even

    def test_no_residual_leaves_the_image_at_half_brightness_in_grey(self):
        picture = draw_residual(torch.zeros(1, 2), blank(4, 8, (80, 80, 80)))
        assert picture.shape == (4, 8, 3)
        assert (picture == 40).all()

    def test_full_residual_hides_the_image_and_a_quarter_shows_half(self):
        assert (draw_residual(torch.ones(2, 2), blank(8, 8)) == heat_table()[255]).all()
        quarter = draw_residual(torch.full((2, 2), 64 / 255), blank(2, 2, (80, 80, 80)))[0, 0]
        assert quarter.tolist() == pytest.approx((40 * 0.5 + heat_table()[64] * 0.5).tolist(), abs=1)

    def test_size_wins_over_both_and_place_is_kept(self):
        residual = torch.zeros(4, 4)
        residual[:2, 2:] = 1
        for image in (None, blank(5, 5, BLACK)):
            bright = draw_residual(residual, image, Size(16, 32))[:, :, 0] > 200
            assert bright.shape == (16, 32)
            assert bright[:6, 20:].all()
            assert not bright[10:].any()
            assert not bright[:, :12].any()

    @pytest.mark.parametrize("value", [-0.5, 1.5, float("nan")])
    def test_values_outside_the_range_are_errors(self, value):
        with pytest.raises(ValueError, match=r"0\.\.1"):
            draw_residual(torch.tensor([[value]]))

    def test_a_batch_is_an_error(self):
        with pytest.raises(ValueError, match=r"got shape \(1, 2, 2\)"):
            draw_residual(torch.zeros(1, 2, 2))


class TestGrid:
    def test_equal_pictures_are_copied_to_their_cells(self):
        pictures = [np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8) for seed in range(3)]
        sheet = grid([pictures[:2], pictures[2:]], margin=3)
        assert sheet.shape == (3 + 2 * (4 + 3), 3 + 2 * (6 + 3), 3)
        assert np.array_equal(sheet[3:7, 3:9], pictures[0])
        assert np.array_equal(sheet[3:7, 12:18], pictures[1])
        assert np.array_equal(sheet[10:14, 3:9], pictures[2])
        assert (sheet[10:14, 12:18] == PAPER).all()  # the second row is shorter
        assert (sheet[7:10] == PAPER).all()

    def test_other_sizes_are_centred_and_letterboxed(self):
        sheet = grid([[blank(8, 8, RED), blank(4, 2, BLUE)]], margin=0)
        assert sheet.shape == (8, 16, 3)
        assert (sheet[:, :8] == RED).all()
        assert (sheet[:, 10:14] == BLUE).all()  # 4 x 2 grows to 8 x 4
        assert (sheet[:, 8:10] == LETTERBOX).all()
        assert (sheet[:, 14:] == LETTERBOX).all()

    def test_large_pictures_are_scaled_down(self):
        assert grid([[blank(1024, 2048, RED)]], margin=0).shape == (MAX_CELL_SIDE // 2, MAX_CELL_SIDE, 3)

        assert grid([[blank(1024, 2048, RED)]], margin=0, max_cell_side=100).shape == (50, 100, 3)

    def test_the_cell_size_can_be_chosen(self):
        assert grid([[blank(10, 10)] * 2], cell_size=Size(20, 30), margin=1).shape == (22, 63, 3)

    def test_titles_stand_above_their_columns(self):
        pictures = [blank(40, 100, RED), blank(40, 100, BLUE)]
        untitled, titled = grid([pictures]), grid([pictures], ["prediction", ""])
        strip = titled.shape[0] - untitled.shape[0]
        assert strip >= 12
        assert np.array_equal(titled[8 + strip :], untitled[8:])
        ink = np.flatnonzero((titled[: 8 + strip] != PAPER).any(axis=(0, 2)))
        assert 8 <= ink.min() < ink.max() < 108
        assert abs((ink.min() + ink.max()) / 2 - 58) <= 2  # the middle of the first column

    def test_a_long_title_stays_in_its_column(self):
        titled = grid([[blank(40, 60, RED)] * 2], ["", "a title much wider than sixty pixels"])
        ink = np.flatnonzero((titled[:20] != PAPER).any(axis=(0, 2)))
        assert 8 + 60 + 8 <= ink.min() < ink.max() < 8 + 60 + 8 + 60

    def test_titles_must_fit_the_columns(self):
        with pytest.raises(ValueError, match="2 columns needs 2 titles, or none; got 1"):
            grid([[blank(2, 2)], [blank(2, 2)] * 2], ["one"])

    @pytest.mark.parametrize("rows", [[], [[]]])
    def test_no_pictures_are_an_error(self, rows):
        with pytest.raises(ValueError, match="at least one picture"):
            grid(rows)


class TestLegend:
    def test_samples_stand_in_the_order_of_the_label_space(self):
        strip = legend(LABELS, [PERSON, GRASS, SKY, SKY])
        assert strip.shape[1] == 640
        lefts = [np.flatnonzero((strip == color).all(axis=2).any(axis=0)) for color in (BLUE, GREEN, RED)]
        assert lefts[0].max() < lefts[1].min() <= lefts[1].max() < lefts[2].min()  # stuff first: semantic index
        assert [len(columns) for columns in lefts] == [14, 14, 14]

    def test_only_what_is_present(self):
        assert not (legend(LABELS, [SKY]) == RED).all(axis=2).any()

    def test_narrow_strips_wrap(self):
        wide, narrow = (legend(LABELS, [PERSON, SKY, GRASS], width) for width in (640, 100))
        assert narrow.shape[0] > 2 * wide.shape[0]
        samples = np.flatnonzero((narrow == RED).all(axis=2).any(axis=1))
        assert samples.min() > wide.shape[0]  # the last of the three has a line of its own

    def test_no_categories_and_unknown_ones(self):
        assert legend(LABELS, []).shape == (1, 640, 3)
        with pytest.raises(InputError, match="category id 99 is unknown"):
            legend(LABELS, [99])
