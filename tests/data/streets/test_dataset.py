import hashlib
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from tascnet.data.streets.canvas import Canvas, ellipse, polygon
from tascnet.data.streets.categories import CAR, PERSON, ROAD, SKY, STREETS, TRAFFIC_SIGN
from tascnet.data.streets.dataset import MIN_THING_AREA, Streets, render_street
from tascnet.data.streets.painting import FIRST_THING, paint_street
from tascnet.data.streets.plan import Camera, Car, Crowd, Item, Person, Plot, Road, Sign, Street, Weather
from tascnet.errors import InputError
from tascnet.structures import VOID, PanopticSegmentation, Size

SMALL = Size(128, 256)

# Of scene 3 of seed 7 at 128 x 256. They change with every change of the scenes, which is a change of the data set:
# then scores on streets before and after cannot be compared, and the change log must say so.
IMAGE_HASH = "d7c6f9cb7d229b87"
ID_MAP_HASH = "8f9131e009951e57"


@pytest.fixture(scope="module")
def scenes() -> list[tuple[torch.Tensor, PanopticSegmentation]]:
    return [render_street(0, index, SMALL) for index in range(50)]


def sha(array: torch.Tensor) -> str:
    return hashlib.sha256(array.numpy().tobytes()).hexdigest()[:16]


# ---------------------------------------------------------------------------------------------------------- determinism


def test_a_scene_is_the_stored_one():
    image, segmentation = render_street(7, 3, SMALL)
    assert (sha(segmentation.id_map), sha(image)) == (ID_MAP_HASH, IMAGE_HASH)


def test_another_process_renders_the_same_scene():
    script = (
        "import hashlib; from tascnet.data.streets.dataset import render_street\n"
        "render_street(1, 1, (64, 64))\n"  # what was rendered before must not matter
        "image, segmentation = render_street(7, 4, (128, 256))\n"
        "print(hashlib.sha256(segmentation.id_map.numpy().tobytes()).hexdigest()[:16],"
        " hashlib.sha256(image.numpy().tobytes()).hexdigest()[:16])"
    )
    printed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    image, segmentation = render_street(7, 4, SMALL)
    assert printed == [sha(segmentation.id_map), sha(image)]


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    first, _ = render_street(0, 5, SMALL)
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(2)
    torch.manual_seed(2)
    assert torch.equal(first, render_street(0, 5, SMALL)[0])


def test_seeds_and_numbers_give_different_scenes():
    images = [render_street(seed, index, SMALL)[0] for seed in (0, 1) for index in (0, 1)]
    assert len({sha(image) for image in images}) == 4


# ------------------------------------------------------------------------------------------------------------- data set


def test_data_set():
    streets = Streets(3, SMALL, seed=5, first=2)
    assert len(streets) == 3
    assert streets.label_space is STREETS
    sample = streets[0]
    assert sample.image.shape == (3, 128, 256)
    assert sample.image.dtype == torch.uint8
    assert sample.segmentation.size == SMALL
    assert (sample.name, sample.image_id) == ("street_5_000002", 2)
    assert torch.equal(sample.image, Streets(5, SMALL, seed=5)[2].image)
    assert torch.equal(streets[-1].image, streets[2].image)
    assert [sample.name for sample in streets] == ["street_5_000002", "street_5_000003", "street_5_000004"]


@pytest.mark.parametrize("index", [3, -4])
def test_index_out_of_range(index):
    with pytest.raises(IndexError, match=r"no scene .* among 3"):
        Streets(3, SMALL)[index]


def test_bad_settings_are_explained():
    with pytest.raises(InputError, match=r"63 x 512 .* at least 64"):
        Streets(1, Size(63, 512))
    with pytest.raises(InputError, match=r"at least 64"):
        render_street(0, 0, Size(128, 32))
    with pytest.raises(InputError, match=r"1, -1 and 0; none may be negative"):
        Streets(1, SMALL, seed=-1)


# ----------------------------------------------------------------------------------------------------------- annotation


def test_annotations_keep_all_invariants(scenes):
    for _, segmentation in scenes:
        segmentation.validate(STREETS)
        for segment in segmentation.segments:
            is_thing = STREETS[segment.category_id].is_thing
            assert is_thing == (segment.id >= FIRST_THING)
            assert segment.area >= (MIN_THING_AREA if is_thing else 1)


def test_every_category_crowds_and_void_appear(scenes):
    segments = [segment for _, segmentation in scenes for segment in segmentation.segments]
    assert {segment.category_id for segment in segments} == set(STREETS.by_id)
    assert any(segment.is_crowd for segment in segments)
    void = [(segmentation.id_map == VOID).float().mean().item() for _, segmentation in scenes]
    assert max(void) > 0.02
    assert sum(void) / len(void) < 0.15


def test_scenes_are_neither_empty_nor_dark(scenes):
    for image, segmentation in scenes:
        things = [segment for segment in segmentation.segments if segment.id >= FIRST_THING]
        assert 1 <= len(things) <= 40
        assert 25 < image.float().mean() < 215
        assert image.float().std() > 12


def test_no_pixel_is_left_unpainted():
    for index in range(20):
        canvas = Canvas.blank(SMALL)
        canvas.ids[:] = -1
        paint_street(canvas, _street(center_x=0.3 + 0.02 * index, horizon=0.4 + 0.0037 * index))
        assert (canvas.ids >= 0).all()


def test_a_scene_looks_alike_at_every_size():
    for index in range(2):
        small = render_street(0, index, Size(128, 256))[1].semantic_map(STREETS)
        large = render_street(0, index, Size(512, 1024))[1].semantic_map(STREETS)
        assert (small == large[2::4, 2::4]).float().mean() > 0.95


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (200, 100), (64, 400)])
def test_any_size(size):
    for index in range(3):
        image, segmentation = render_street(0, index, Size(*size))
        assert image.shape == (3, *size)
        segmentation.validate(STREETS)


# ------------------------------------------------------------------------------------ small streets, worked out by hand


def _street(*items: Item, center_x: float = 0.5, horizon: float = 0.5) -> Street:
    """A straight empty road seen from 2 m above its middle; the focal length is 512 pixels at 256 x 512."""
    road = Road(
        camera_lateral=0.0, half_width=5.0, parking=(0.0, 0.0), pavement=(3.0, 3.0), verge=(0.0, 0.0), bend=0.0,
        junction=None, crossing=None, lanes=True, surface=(90, 90, 90), paving=(150, 150, 150), ground=(90, 120, 60),
        slab=0.6,
    )  # fmt: skip
    weather = Weather("overcast", (200, 200, 200), (220, 220, 220), (1.0, 1.0, 1.0), visibility=200, sun_side=1)
    return Street(
        camera=Camera(height=2.0, focal=1.0, center_x=center_x, horizon=horizon), road=road, weather=weather,
        items=items, mirrored=False, bonnet=0.0, bonnet_color=(0, 0, 0), border=0.0, exposure=1.0, noise=0.0, seed=0,
    )  # fmt: skip


def _paint(*items: Item) -> tuple[np.ndarray, Canvas, list[int]]:
    """The id map, the canvas, and the categories of the things from far to near."""
    canvas = Canvas.blank(Size(256, 512))
    segments = paint_street(canvas, _street(*items))
    return canvas.ids, canvas, [segment.category_id for segment in segments if segment.id >= FIRST_THING]


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return columns[0], rows[0], columns[-1] + 1, rows[-1] + 1


def _car(x: float, z: float) -> Car:
    return Car(x=x, z=z, body="suv", color=(180, 40, 40))


def test_the_nearer_thing_owns_the_pixels():
    far, near = _car(0.0, 20.0), _car(0.8, 10.0)
    far_alone, near_alone = _paint(far)[0] >= FIRST_THING, _paint(near)[0] >= FIRST_THING
    assert (far_alone & near_alone).any()
    for items in ((far, near), (near, far)):  # in whatever order they are listed
        ids, _, categories = _paint(*items)
        far_id, near_id = np.unique(ids[ids >= FIRST_THING])  # numbered from far to near
        assert categories == [CAR, CAR]
        assert np.array_equal(ids == near_id, near_alone)
        assert np.array_equal(ids == far_id, far_alone & ~near_alone)


def test_far_is_smaller_and_higher():
    near, far = (_box(_paint(_car(0.0, z))[0] >= FIRST_THING) for z in (10.0, 30.0))
    width, height = (box[2] - box[0] for box in (near, far)), (box[3] - box[1] for box in (near, far))
    assert next(width) > 2 * next(width)
    assert next(height) > 2 * next(height)
    assert far[3] < near[3]  # the foot of the far one is higher in the picture


def test_a_sign_has_the_size_that_optics_say():
    # 1 m across and 0.95 m high, 16 m ahead, its middle 3 m above the ground: 32 pixels a metre,
    # 1 m above the horizon and 2 m right of the middle
    sign = Sign(x=2.0, z=16.0, shape="rectangle", size=1.0, height=3.0, variant=0)
    ids, _, categories = _paint(sign)
    assert categories == [TRAFFIC_SIGN]
    x0, y0, x1, y1 = _box(ids >= FIRST_THING)
    assert (x0, x1) == (256 + 64 - 16, 256 + 64 + 16)
    assert y0 == pytest.approx(128 - 32 - 15.2, abs=1)
    assert y1 == pytest.approx(128 - 32 + 15.2, abs=1)


def test_the_kerb_is_where_perspective_puts_it():
    ids, canvas, _ = _paint()
    assert (ids[:128] == SKY).all()
    row = 128 + 60  # its centres are 60.5 pixels below the horizon: 16.926 m ahead, where 5 m are 151.25 pixels
    assert np.flatnonzero(ids[row] == ROAD)[[0, -1]].tolist() == [256 - 151, 256 + 150]
    assert canvas.depth[row, 0] == pytest.approx(2 * 512 / 60.5)


def test_a_crowd_is_one_segment():
    person = Person(
        x=0.0, z=12.0, height=1.75, pose="stand", stride=0.08, dress="coat", skin=(200, 160, 130), hair=(30, 30, 30),
        top=(40, 60, 120), bottom=(30, 30, 30), bag=None, umbrella=None,
    )  # fmt: skip
    group = Crowd(x=0.0, z=12.0, members=(person, replace(person, x=2.0), replace(person, x=-2.0, z=11.0)))
    canvas = Canvas.blank(Size(256, 512))
    segment = paint_street(canvas, _street(group))[-1]
    assert segment.is_crowd
    assert segment.category_id == PERSON
    alone = [_paint(member)[0] >= FIRST_THING for member in group.members]
    assert np.array_equal(canvas.ids == segment.id, alone[0] | alone[1] | alone[2])


def test_no_two_things_take_the_same_ground():
    plot = Plot(_street().road)
    assert plot.claim(0.0, 10.0, (1.0, 2.0))
    assert not plot.claim(1.5, 13.0, (1.0, 2.0))  # 1.5 < 1 + 1 aside and 3 < 2 + 2 ahead
    assert plot.claim(1.5, 14.0, (1.0, 2.0))


# --------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize("corners", [[(2, 1), (6, 1), (6, 4), (2, 4)], [(2, 4), (6, 4), (6, 1), (2, 1)]])
def test_a_rectangle_covers_the_pixels_whose_centres_it_holds(corners):
    canvas = Canvas.blank(Size(6, 8))
    canvas.fill_segment(polygon(corners, canvas.size), (255, 0, 0), 7, 3.0)
    expected = np.zeros((6, 8), bool)
    expected[1:4, 2:6] = True
    assert np.array_equal(canvas.ids == 7, expected)
    assert np.array_equal(canvas.image[0] == 255, expected)  # edges between pixels leave nothing half covered
    assert np.array_equal(canvas.depth == 3.0, expected)
    assert not canvas.image[1:].any()


def test_half_covered_pixels_are_half_painted():
    canvas = Canvas.blank(Size(3, 4))
    canvas.fill(polygon([(0.5, -5), (9, -5), (9, 9), (0.5, 9)], canvas.size), (100, 100, 100))
    assert canvas.image[0, 1].tolist() == [50, 100, 100, 100]


def test_shapes_outside_the_picture_are_none():
    size = Size(10, 10)
    assert polygon([(-9, 2), (-4, 2), (-4, 6), (-9, 6)], size) is None
    assert ellipse((20.0, 5.0), 3.0, 3.0, size) is None


def test_a_disc_covers_the_pixels_within_its_radius():
    canvas = Canvas.blank(Size(20, 20))
    canvas.fill_segment(ellipse((10.0, 9.0), 6.5, 6.5, canvas.size), (1, 1, 1), 1, 1.0)
    y, x = np.mgrid[:20, :20] + 0.5
    assert np.array_equal(canvas.ids == 1, (x - 10) ** 2 + (y - 9) ** 2 <= 6.5**2)
