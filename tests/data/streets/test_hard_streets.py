import hashlib
from functools import cache

import numpy as np
import pytest

from tascnet.data.streets.canvas import Canvas
from tascnet.data.streets.categories import BUILDING, CAR, PERSON, STREETS, VEGETATION
from tascnet.data.streets.dataset import MIN_THING_AREA, Streets, render_street
from tascnet.data.streets.layout import lay_out_street
from tascnet.data.streets.painting import FIRST_THING, paint_street
from tascnet.data.streets.plan import (
    Building,
    Camera,
    Car,
    Item,
    Person,
    Poster,
    Road,
    Street,
    Topiary,
    Vector,
    Wall,
    Weather,
)
from tascnet.errors import InputError
from tascnet.structures import PanopticSegmentation, Size

SMALL = Size(128, 256)

# Of hard scene 3 of seed 7 at 128 x 256. Scores on hard streets can be compared only while these stay the same.
IMAGE_HASH = "7eee722857c9408d"
ID_MAP_HASH = "2de4f72279a6c809"

GRAY, RED = (128, 128, 128), (180, 40, 40)


@cache
def annotations(difficulty: str) -> list[PanopticSegmentation]:
    return [render_street(0, index, SMALL, difficulty)[1] for index in range(30)]


@cache
def hard_layouts() -> list[Street]:
    return [lay_out_street(np.random.Generator(np.random.PCG64([0, index])), "hard") for index in range(30)]


def areas_of_things(difficulty: str) -> list[int]:
    return [
        segment.area
        for annotation in annotations(difficulty)
        for segment in annotation.segments
        if STREETS[segment.category_id].is_thing and not segment.is_crowd
    ]


# --------------------------------------------------------------------------------------------------------- the data set


def test_a_hard_scene_is_the_stored_one():
    image, segmentation = render_street(7, 3, SMALL, "hard")
    hashes = [hashlib.sha256(plane.numpy().tobytes()).hexdigest()[:16] for plane in (segmentation.id_map, image)]
    assert hashes == [ID_MAP_HASH, IMAGE_HASH]


def test_hard_scenes_have_names_of_their_own():
    normal, hard = Streets(1, SMALL, seed=5, first=2)[0], Streets(1, SMALL, seed=5, first=2, difficulty="hard")[0]
    assert (normal.name, hard.name) == ("street_5_000002", "hard_street_5_000002")
    assert not np.array_equal(normal.segmentation.id_map, hard.segmentation.id_map)


def test_an_unknown_difficulty_is_explained():
    with pytest.raises(InputError, match=r"'extreme'; it must be normal or hard"):
        Streets(1, SMALL, difficulty="extreme")
    with pytest.raises(InputError, match=r"'extreme'; it must be normal or hard"):
        render_street(0, 0, SMALL, "extreme")


def test_annotations_keep_all_invariants():
    for segmentation in annotations("hard"):
        segmentation.validate(STREETS)
        for segment in segmentation.segments:
            is_thing = STREETS[segment.category_id].is_thing
            assert is_thing == (segment.id >= FIRST_THING)
            assert segment.area >= (MIN_THING_AREA if is_thing else 1)


@pytest.mark.parametrize("size", [(64, 64), (65, 131), (200, 100), (64, 400)])
def test_any_size(size):
    for index in range(4):
        image, segmentation = render_street(0, index, Size(*size), "hard")
        assert image.shape == (3, *size)
        segmentation.validate(STREETS)


def test_there_are_more_things_and_more_small_ones():
    normal, hard = areas_of_things("normal"), areas_of_things("hard")
    assert len(hard) > 1.25 * len(normal)
    assert sum(area < 16 * 16 for area in hard) > 1.25 * sum(area < 16 * 16 for area in normal)


# ---------------------------------------------------------------------------------------------------------- the layouts


def test_normal_streets_hold_no_decoys():
    for index in range(10):
        street = lay_out_street(np.random.Generator(np.random.PCG64([0, index])))
        assert not any(isinstance(item, Poster | Topiary) for item in street.items)


def test_every_kind_of_decoy_is_met():
    items = [item for street in hard_layouts() for item in street.items]
    shown = {type(poster.members[0]).__name__ for poster in items if isinstance(poster, Poster) and not poster.glass}
    assert shown == {"Car", "Truck", "Person"}
    assert any(isinstance(item, Poster) and item.glass for item in items)
    assert {type(item.model).__name__ for item in items if isinstance(item, Topiary)} == {"Car", "Person"}


def test_posters_hang_on_the_building_they_follow():
    posters = 0
    for street in hard_layouts():
        for item in street.items:
            if isinstance(item, Building):
                building = item
            elif isinstance(item, Poster):
                posters += 1
                assert item.z == building.z  # sorted by depth, it stays behind its building and before all others
                assert any(_holds(wall, item.wall) for wall in building.walls)
    assert posters > 60


def _holds(wall: Wall, part: Wall) -> bool:
    inside = wall.base <= part.base < part.height <= wall.height
    return inside and all(_distance(wall, point) < 1e-6 for point in (part.start, part.end))


def _distance(wall: Wall, point: Vector) -> float:
    """Metres from the ground line of a wall to a point."""
    start, end, point = np.array(wall.start), np.array(wall.end), np.array(point)
    share = np.clip((point - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
    return float(np.linalg.norm(start + share * (end - start) - point))


def test_persons_stand_in_groups_and_cars_in_queues():
    groups = queues = 0
    for street in hard_layouts():
        persons = np.array([(item.x, item.z) for item in street.items if isinstance(item, Person)])
        gaps = np.linalg.norm(persons[:, None] - persons, axis=2)
        groups += ((gaps < 1.2).sum(1) >= 3).any()  # with two others within reach of an arm or two
        cars = np.array([(item.x, item.z) for item in street.items if isinstance(item, Car)]).reshape(-1, 2)
        gaps = np.abs(cars[:, None] - cars)
        ahead = (gaps[..., 0] < 1.2) & (gaps[..., 1] > 0) & (gaps[..., 1] < 6)
        queues += (ahead.sum(1) >= 2).any()  # one close before it, one close behind it
    assert groups > 20
    assert queues > 10


# ------------------------------------------------------------------------------------ small streets, worked out by hand


def _paint(*items: Item) -> tuple[np.ndarray, np.ndarray]:
    """Id map and (3, H, W) image of a straight road seen from 2 m above its middle; the focal length is 512 pixels."""
    road = Road(
        camera_lateral=0.0, half_width=5.0, parking=(0.0, 0.0), pavement=(3.0, 3.0), verge=(0.0, 0.0), bend=0.0,
        junction=None, crossing=None, lanes=True, surface=(90, 90, 90), paving=(150, 150, 150), ground=(90, 120, 60),
        slab=0.6,
    )  # fmt: skip
    weather = Weather("overcast", (200, 200, 200), (220, 220, 220), (1.0, 1.0, 1.0), visibility=1e9, sun_side=1)
    street = Street(
        camera=Camera(height=2.0, focal=1.0, center_x=0.5, horizon=0.5), road=road, weather=weather, items=items,
        mirrored=False, bonnet=0.0, bonnet_color=(0, 0, 0), border=0.0, exposure=1.0, noise=0.0, seed=0,
    )  # fmt: skip
    canvas = Canvas.blank(Size(256, 512))
    paint_street(canvas, street)
    return canvas.ids, canvas.image


def _poster(*members: Item) -> Poster:
    """4 m wide and 3 m high, from the ground up, 16 m ahead: 32 pixels a metre."""
    wall = Wall(start=(-2.0, 16.0), end=(2.0, 16.0), height=3.0, brightness=1.0)
    return Poster(x=0.0, z=16.0, wall=wall, members=members, foot=0.0, backdrop=GRAY, frame=GRAY)


def _person(z: float) -> Person:
    return Person(
        x=0.0, z=z, height=1.75, pose="stand", stride=0.08, dress="coat", skin=RED, hair=RED, top=RED, bottom=RED,
        bag=None, umbrella=None,
    )  # fmt: skip


def test_a_poster_is_building():
    ids, image = _paint(_poster(_person(16.0)))
    rows, columns = slice(128 + 64 - 96, 128 + 64), slice(256 - 64, 256 + 64)  # the ground is 2 m below the horizon
    assert (ids[rows, columns] == BUILDING).all()
    assert (ids == BUILDING).sum() == 96 * 128
    assert (ids < FIRST_THING).all()
    assert np.isclose(image[:, rows, columns][:, 20, 20], GRAY).all()


def test_a_poster_shows_the_person_that_would_stand_there():
    person = _paint(_person(16.0))[0] >= FIRST_THING
    image = _paint(_poster(_person(16.0)))[1]
    shown = (image[0] - image[1] > 60) & (_paint(_poster())[0] == BUILDING)  # red
    above = slice(0, 128 + 64 - 8)  # the shoes are not red
    assert (person & shown)[above].sum() > 0.9 * (person | shown)[above].sum()


def test_what_stands_before_a_poster_hides_it():
    car = Car(x=0.0, z=10.0, body="suv", color=RED)
    alone = _paint(car)[0] >= FIRST_THING
    ids = _paint(car, _poster(_person(16.0)))[0]
    assert np.array_equal(ids >= FIRST_THING, alone)


@pytest.mark.parametrize(
    ("model", "category"), [(Car(x=1.0, z=12.0, body="suv", color=RED), CAR), (_person(12.0), PERSON)]
)
def test_a_topiary_has_the_outline_of_a_thing_in_leaves(model, category):
    ids, image = _paint(Topiary(x=model.x, z=model.z, model=model, color=(60, 100, 45), seed=3))
    outline = _paint(model)[0] >= FIRST_THING
    assert outline.sum() > 500
    assert np.array_equal(ids == VEGETATION, outline | (_paint()[0] == VEGETATION))
    assert (ids < FIRST_THING).all()
    red, green, blue = image[:, outline]
    assert ((green > red) & (green > blue)).all()
    assert STREETS[category].is_thing
