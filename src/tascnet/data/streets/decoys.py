"""Decoys of a hard street: posters, dummies in shop windows, bushes cut like cars and persons.

All of it is stuff, in the shape, size and often the colours of things.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from tascnet.data.streets.dice import CLOTH_COLORS, LEAF_COLORS, WALL_COLORS, Dice
from tascnet.data.streets.occupants import (
    CAR_FOOTPRINT,
    PERSON_FOOTPRINT,
    any_car,
    any_person,
    any_truck,
)
from tascnet.data.streets.plan import Building, Facade, Item, Plot, Poster, Road, Topiary, Vector, Wall, Weather

NEAREST, FARTHEST = 12.0, 42.0
"""Metres ahead between which walls are in the picture, and decoys on them large enough to deceive."""

STRETCH = 2.0
"""How much posters along the street are lengthened, as words on a road are, so that drivers see their proportions."""

VIEWING_DISTANCE = 12.0  # metres from which the picture on a poster is taken
SHOP_PITCH = 4.2  # metres from shop window to shop window, as they are painted on walls
LOOKS: tuple[Vector, ...] = ((1.0, 0.0), (-1.0, 0.0), (0.8, -0.6), (-0.8, -0.6), (0.0, -1.0))
"""Headings in which a poster may show a vehicle."""


@dataclass(frozen=True)
class _Format:
    """Metres of a poster."""

    length: float
    height: float
    foot: float


_FORMATS = {"car": _Format(5.2, 2.6, 0.4), "truck": _Format(8.8, 4.4, 0.4), "person": _Format(1.8, 2.4, 0.25)}


def hang_posters(dice: Dice, weather: Weather, surroundings: Sequence[Item]) -> list[Item]:
    """The surroundings, with posters and dummies on walls: each follows its building, to be painted on it."""
    items: list[Item] = []
    for item in surroundings:
        items.append(item)
        if isinstance(item, Building) and min(wall.start[1] for wall in item.walls) < FARTHEST:
            items += _dummies(dice, weather, item)
            for wall in item.walls:
                stretch = STRETCH if wall is item.walls[-1] else 1.0
                items += _posters(dice, weather, item, wall, stretch)
    return items


def plant_topiary(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Bushes in the shape of cars and persons, on the pavements."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(2, 5)):
        side, is_car = dice.side(), dice.chance(0.6)
        kerb = road.half_width + road.verge_of(side)
        lateral = side * dice.between(kerb + 1.2, max(road.building_line(side) - 1.0, kerb + 1.3))
        z = _depth_in_view(dice, road, lateral)
        if plot.in_junction(z, 3) or not plot.claim(lateral, z, CAR_FOOTPRINT if is_car else PERSON_FOOTPRINT):
            continue
        x, (slope, ahead), direction = road.x(lateral, z), road.heading(z), dice.side()
        heading = slope * direction, ahead * direction
        model = any_car(dice, x, z, heading) if is_car else any_person(dice, weather, x, z, heading, "stand")
        leaf, seed = dice.color(LEAF_COLORS[:6]), dice.integer(0, 255)
        items.append(Topiary(x=x, z=z, heading=heading, model=model, color=leaf, seed=seed))
    return items


def build_kiosks(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Perhaps kiosks on the pavements, with a poster on the wall that faces the camera."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(0, 2)):
        side, half = dice.side(), dice.between(1.05, 1.4)
        lateral = side * (road.half_width + half + dice.between(0.3, 0.8))
        z = _depth_in_view(dice, road, lateral)
        if plot.in_junction(z, 2) or not plot.claim(lateral, z + 1, (half, 1.2)):
            continue
        left, right, height = road.x(lateral, z) - half, road.x(lateral, z) + half, dice.between(2.8, 3.3)
        front = Wall(start=(left, z), end=(right, z), height=height, brightness=0.95)
        inner = left if side > 0 else right
        flank = Wall(start=(inner, z), end=(inner, z + 2), height=height, brightness=0.8)
        kiosk = Building(x=inner, z=z, walls=(front, flank), facade=_windowless(dice, height))
        kind = dice.choice(("person", "person", "car", "truck"))
        form = _FORMATS[kind]
        magnification = min((2 * half - 0.2) / form.length, (height - 0.4) / form.height)
        reach, base = form.length * magnification / 2, dice.between(0.1, 0.3)
        poster = Wall(
            start=((left + right) / 2 - reach, z),
            end=((left + right) / 2 + reach, z),
            height=base + form.height * magnification,
            base=base,
            brightness=1.0,
        )
        items += [kiosk, _poster(dice, weather, kiosk, poster, kind, magnification, stretch=1.0)]
    return items


def _windowless(dice: Dice, height: float) -> Facade:
    color = dice.color((*WALL_COLORS, *CLOTH_COLORS[5:9]))
    return Facade(
        pattern="panel",
        color=color,
        trim=color,
        accent=color,
        window_pitch=(2.0, 3.0),
        window_share=(0.5, 0.5),
        ground_floor=height,
        shop=False,
        seed=dice.integer(0, 255),
    )


def _posters(dice: Dice, weather: Weather, building: Building, wall: Wall, stretch: float) -> list[Item]:
    """Posters side by side along a wall, above its shop windows."""
    items: list[Item] = []
    length = _length(wall)
    lowest = max(wall.base, building.facade.ground_floor if building.facade.shop else 0.0)
    along = dice.between(0.3, 2.0)
    while along < length:
        kind, base = dice.choice(("car", "car", "person", "person", "truck")), lowest + dice.between(0.3, 1.0)
        form, magnification = _FORMATS[kind], dice.between(0.9, 1.3)
        end, top = along + form.length * magnification * stretch, base + form.height * magnification
        if end < length and top < wall.height - 0.4 and dice.chance(0.6):
            start, stop = _at(wall, along / length), _at(wall, end / length)
            if NEAREST < start[1] < FARTHEST:
                rectangle = Wall(start=start, end=stop, height=top, base=base, brightness=wall.brightness)
                items.append(_poster(dice, weather, building, rectangle, kind, magnification, stretch))
        along = (end if end < length else along) + dice.between(0.5, 3.0)  # a shorter one may fit
    return items


def _poster(
    dice: Dice, weather: Weather, building: Building, wall: Wall, kind: str, magnification: float, stretch: float
) -> Poster:
    heading = dice.choice(LOOKS)
    member: Item
    if kind == "car":
        member = any_car(dice, 0.0, VIEWING_DISTANCE, heading)
    elif kind == "truck":
        member = any_truck(dice, 0.0, VIEWING_DISTANCE + 6, heading)
    else:
        member = any_person(dice, weather, 0.0, VIEWING_DISTANCE, heading, dice.choice(("walk", "stand")))
    return Poster(
        x=building.x,
        z=building.z,
        wall=wall,
        members=(member,),
        magnification=magnification,
        stretch=stretch,
        foot=_FORMATS[kind].foot,
        backdrop=dice.color((*WALL_COLORS, *CLOTH_COLORS[2:10])),
        frame=dice.color(CLOTH_COLORS[:5]),
    )


def _dummies(dice: Dice, weather: Weather, building: Building) -> list[Item]:
    """Dummies in some shop windows of the wall to the street."""
    facade, wall = building.facade, building.walls[-1]
    if not facade.shop:
        return []
    items: list[Item] = []
    length = _length(wall)
    for number in range(int(length / SHOP_PITCH)):
        start, end = (number + 0.08) * SHOP_PITCH, (number + 0.92) * SHOP_PITCH
        near = _at(wall, start / length)
        if not NEAREST < near[1] < FARTHEST or not dice.chance(0.6):
            continue
        pane = Wall(
            start=near,
            end=_at(wall, end / length),
            height=facade.ground_floor - 1,
            base=0.5,
            brightness=wall.brightness,
        )
        spots = (-0.65, 0.65)[: dice.integer(1, 2)]
        members = tuple(
            any_person(dice, weather, x + dice.between(-0.3, 0.3), VIEWING_DISTANCE, (0.0, -1.0), "stand")
            for x in spots
        )
        backdrop = dice.color(((70, 72, 76), (150, 140, 120), (196, 186, 166), (110, 116, 124)))
        items.append(
            Poster(
                x=building.x,
                z=building.z,
                wall=pane,
                members=members,
                foot=0.1,
                backdrop=backdrop,
                frame=facade.trim,
                stretch=1.4,
                glass=0.22,
            )
        )
    return items


def _depth_in_view(dice: Dice, road: Road, lateral: float) -> float:
    """A depth at which what stands there is in the picture, yet near enough to deceive."""
    nearest = max(10.0, abs(lateral - road.camera_lateral) * 2.9)  # the view is about 0.8 metres wide a metre ahead
    return dice.between(nearest, nearest + 8)


def _at(wall: Wall, share: float) -> Vector:
    (x0, z0), (x1, z1) = wall.start, wall.end
    return x0 + (x1 - x0) * share, z0 + (z1 - z0) * share


def _length(wall: Wall) -> float:
    (x0, z0), (x1, z1) = wall.start, wall.end
    return sqrt((x1 - x0) * (x1 - x0) + (z1 - z0) * (z1 - z0))
