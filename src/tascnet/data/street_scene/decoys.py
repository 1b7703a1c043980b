"""What deceives in a hard street: posters, dummies in shop windows, bushes cut like cars and persons.

All of it is stuff, in the shape, size and often the colours of things.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tascnet.data.street_scene.dice import CLOTH_COLORS, LEAF_COLORS, WALL_COLORS, Dice
from tascnet.data.street_scene.occupants import (
    CAR_FOOTPRINT,
    PERSON_FOOTPRINT,
    any_car,
    any_person,
    any_truck,
)
from tascnet.data.street_scene.plan import Building, Item, Plot, Poster, Topiary, Vector, Wall, Weather

NEAREST, FARTHEST = 7.0, 38.0
"""Metres ahead between which decoys are large enough to deceive."""

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
                items += _poster(dice, weather, item, wall)
    return items


def plant_topiary(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Bushes in the shape of cars and persons, along the building line."""
    items: list[Item] = []
    for _ in range(dice.integer(1, 3)):
        side, z, is_car = dice.side(), dice.between(8, 24), dice.chance(0.65)
        lateral = side * (plot.road.building_line(side) - (1.2 if is_car else 0.6))
        if plot.in_junction(z, 3) or not plot.claim(lateral, z, CAR_FOOTPRINT if is_car else PERSON_FOOTPRINT):
            continue
        x, (slope, ahead), direction = plot.road.x(lateral, z), plot.road.heading(z), dice.side()
        heading = slope * direction, ahead * direction
        model = any_car(dice, x, z, heading) if is_car else any_person(dice, weather, x, z, heading, "stand")
        leaf, seed = dice.color(LEAF_COLORS[:6]), dice.integer(0, 255)
        items.append(Topiary(x=x, z=z, heading=heading, model=model, color=leaf, seed=seed))
    return items


def _poster(dice: Dice, weather: Weather, building: Building, wall: Wall) -> list[Item]:
    """Perhaps a poster of a car, a truck or a person, about life-size, on a part of the wall that can be seen."""
    kind = dice.choice(("car", "car", "person", "person", "truck"))
    form = _FORMATS[kind]
    base = max(wall.base, 0.0) + dice.between(0.3, 1.4)
    place = _part_of(dice, wall, form.length)
    if place is None or base + form.height > wall.height - 0.4 or not dice.chance(0.7):
        return []
    heading = dice.choice(LOOKS)
    member: Item
    if kind == "car":
        member = any_car(dice, 0.0, VIEWING_DISTANCE, heading)
    elif kind == "truck":
        member = any_truck(dice, 0.0, VIEWING_DISTANCE + 6, heading)
    else:
        member = any_person(dice, weather, 0.0, VIEWING_DISTANCE, heading, dice.choice(("walk", "stand")))
    rectangle = Wall(start=place[0], end=place[1], height=base + form.height, base=base, brightness=wall.brightness)
    return [
        Poster(
            x=building.x,
            z=building.z,
            wall=rectangle,
            members=(member,),
            foot=form.foot,
            backdrop=dice.color((*WALL_COLORS, *CLOTH_COLORS[2:10])),
            frame=dice.color(CLOTH_COLORS[:5]),
        )
    ]


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
        if not NEAREST < near[1] < FARTHEST or not dice.chance(0.5):
            continue
        pane = Wall(
            start=near,
            end=_at(wall, end / length),
            height=facade.ground_floor - 1,
            base=0.5,
            brightness=wall.brightness,
        )
        spots = [-1.0, 0.0, 1.0][: dice.integer(1, 3)]
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
                glass=0.22,
            )
        )
    return items


def _part_of(dice: Dice, wall: Wall, length: float) -> tuple[Vector, Vector] | None:
    """The ends of a stretch of that length in reach; None where there is no room."""
    whole = _length(wall)
    first = dice.between(0.3, max(whole - length - 0.3, 0.4))
    if first + length > whole:
        return None
    start, end = _at(wall, first / whole), _at(wall, (first + length) / whole)
    return (start, end) if min(start[1], end[1]) > NEAREST and start[1] < FARTHEST else None


def _at(wall: Wall, share: float) -> Vector:
    (x0, z0), (x1, z1) = wall.start, wall.end
    return x0 + (x1 - x0) * share, z0 + (z1 - z0) * share


def _length(wall: Wall) -> float:
    (x0, z0), (x1, z1) = wall.start, wall.end
    return ((x1 - x0) * (x1 - x0) + (z1 - z0) * (z1 - z0)) ** 0.5
