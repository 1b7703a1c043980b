"""Who crowds a hard street: queues of cars, groups of persons, bicycles in racks, and small things far away.

Each is a segment of its own, however much of it the others hide.
"""

from tascnet.data.streets.dice import CAR_COLORS, WALL_COLORS, Dice
from tascnet.data.streets.occupants import (
    CAR_FOOTPRINT,
    PERSON_FOOTPRINT,
    TRUCK_FOOTPRINT,
    any_bicycle,
    any_car,
    any_person,
    any_sign,
    any_truck,
)
from tascnet.data.streets.plan import Item, Plot, Weather

LANE = 1.6  # metres from the middle of the road to the middle of a lane
SHOULDER = (0.2, 0.2)  # half extents of a person in a group, metres: shoulder to shoulder
RACK_SLOT = (0.9, 0.22)  # half extents of a bicycle in a rack, metres


def throng(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Crowded vehicles, persons and bicycles."""
    return [
        *_queues(dice, plot),
        *_groups(dice, plot, weather),
        *_rack(dice, plot, weather),
        *_far_things(dice, plot, weather),
    ]


def _queues(dice: Dice, plot: Plot) -> list[Item]:
    """Cars bumper to bumper, in one lane or side by side in two."""
    items: list[Item] = []
    lanes = [LANE * number for number in (-3, -1, 1, 3) if abs(LANE * number) + 1 < _driven(plot)]
    for lateral in lanes:
        if dice.chance(0.6):
            direction = 1 if lateral > 0 else -1
            z = dice.between(11, 20) if direction > 0 else dice.between(9, 16)
            for _ in range(dice.integer(2, 5)):
                items += _queued(dice, plot, lateral + dice.between(-0.4, 0.4), z, direction)
                z += dice.between(4.7, 5.6)
    return items


def _driven(plot: Plot) -> float:
    """Metres from the middle of the road to where cars park."""
    return plot.road.half_width - max(plot.road.parking)


def _queued(dice: Dice, plot: Plot, lateral: float, z: float, direction: int) -> list[Item]:
    (slope, ahead), x = plot.road.heading(z), plot.road.x(lateral, z)
    if plot.on_crossing(z, 3) or not plot.claim(lateral, z, CAR_FOOTPRINT):
        return []
    colors = WALL_COLORS if dice.chance(0.4) else CAR_COLORS
    return [any_car(dice, x, z, (slope * direction, ahead * direction), colors)]


def _groups(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Persons close together on the pavements: 3 to 8 in a group."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(1, 3)):
        side, z, wanted = dice.side(), dice.between(10, 20), dice.integer(3, 8)
        middle = side * (road.half_width + road.verge_of(side) + dice.between(1.0, 2.2))
        reach = 0.35 + 0.1 * wanted
        for _ in range(wanted):
            lateral, depth = middle + dice.between(-reach, reach), z + dice.between(-reach, reach)
            if plot.claim(lateral, depth, SHOULDER):
                heading = dice.choice(((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0)))
                pose = "stand" if dice.chance(0.7) else "walk"
                items.append(any_person(dice, weather, road.x(lateral, depth), depth, heading, pose))
    return items


def _rack(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Perhaps a row of bicycles, with persons before them."""
    if dice.chance(0.5):
        return []
    items: list[Item] = []
    road, side, z = plot.road, dice.side(), dice.between(8, 14)
    lateral = side * (road.half_width + road.verge_of(side) + 1.3)
    for _ in range(dice.integer(3, 6)):
        if plot.claim(lateral, z, RACK_SLOT):
            items.append(any_bicycle(dice, road.x(lateral, z), z, (0.96 * side, 0.28)))
        z += dice.between(0.5, 0.75)
    for _ in range(dice.integer(1, 2)):
        beside, depth = lateral - side * dice.between(1.15, 1.4), z - dice.between(1, 4)
        if plot.claim(beside, depth, SHOULDER):
            items.append(any_person(dice, weather, road.x(beside, depth), depth, (float(dice.side()), 0.0), "stand"))
    return items


def _far_things(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Cars, trucks, persons and signs from 25 metres on, as far as they can still be recognised."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(2, 4)):
        z, direction, truck = dice.between(25, 60), dice.side(), dice.chance(0.25)
        lateral = direction * LANE + dice.between(-0.3, 0.3)
        (slope, ahead), x = road.heading(z), road.x(lateral, z)
        if plot.claim(lateral, z, TRUCK_FOOTPRINT if truck else CAR_FOOTPRINT):
            heading = slope * direction, ahead * direction
            items.append(any_truck(dice, x, z, heading) if truck else any_car(dice, x, z, heading, WALL_COLORS))
    for _ in range(dice.integer(2, 5)):
        side, z = dice.side(), dice.between(25, 40)
        lateral = side * (road.half_width + road.verge_of(side) + dice.between(0.4, 2.4))
        if plot.claim(lateral, z, PERSON_FOOTPRINT):
            heading = (0.0, float(dice.side()))
            items.append(any_person(dice, weather, road.x(lateral, z), z, heading, "walk"))
    for _ in range(dice.integer(1, 3)):
        side, z = dice.side(), dice.between(25, 45)
        lateral = side * (road.half_width + dice.between(0.4, 0.9))
        if plot.claim(lateral, z, (0.4, 0.4)):
            items.append(any_sign(dice, road.x(lateral, z), z))
    return items
