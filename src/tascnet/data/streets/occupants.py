"""Occupants of a street: trees, lamps, signs; vehicles; people and bicycles."""

from collections.abc import Sequence

from tascnet.data.streets.canvas import Color
from tascnet.data.streets.dice import CAR_COLORS, CLOTH_COLORS, HAIR_COLORS, SKIN_COLORS, WALL_COLORS, Dice
from tascnet.data.streets.plan import (
    Bicycle,
    Car,
    Crowd,
    Furniture,
    Item,
    Lamp,
    Person,
    Plot,
    Sign,
    Truck,
    Vector,
    Weather,
)
from tascnet.data.streets.surroundings import tree

# half extents of footprints in metres, across and along
CAR_FOOTPRINT = (0.95, 2.3)
TRUCK_FOOTPRINT = (1.25, 4.4)
PERSON_FOOTPRINT = (0.35, 0.35)
BICYCLE_FOOTPRINT = (0.45, 0.95)


def furnish(dice: Dice, plot: Plot) -> list[Item]:
    """Trees, lamps, bins and signs along the kerbs."""
    items: list[Item] = []
    for side in (-1, 1):
        kerb = side * (plot.road.half_width + 0.55)
        if dice.chance(0.45):
            items += _trees(dice, plot, kerb)
        items += _lamps(dice, plot, kerb, side)
        for _ in range(dice.integer(0, 2)):
            z, width = dice.between(6, 30), dice.between(0.4, 0.7)
            if not plot.in_junction(z, 1) and plot.claim(kerb, z, (width / 2, width / 2)):
                height, color = width * dice.between(1.4, 2.4), dice.color(CLOTH_COLORS)
                items.append(Furniture(x=plot.road.x(kerb, z), z=z, width=width, height=height, color=color))
    for _ in range(dice.integer(2, 5)):
        items += _sign(dice, plot, dice.side())
    return items


def populate(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Vehicles, people and bicycles."""
    return [
        *_traffic(dice, plot),
        *_crowd(dice, plot, weather),
        *_people(dice, plot, weather),
        *_cyclists(dice, plot, weather),
    ]


# ------------------------------------------------------------------------------------------------------- along the kerb


def _trees(dice: Dice, plot: Plot, lateral: float) -> list[Item]:
    items: list[Item] = []
    z, spacing = dice.between(6, 14), dice.between(8, 15)
    while z < 100:
        if not plot.in_junction(z, 3) and plot.claim(lateral, z, (0.4, 0.6)):
            items.append(tree(dice, plot.road.x(lateral, z), z, 7))
        z += spacing * dice.between(0.8, 1.3)
    return items


def _lamps(dice: Dice, plot: Plot, lateral: float, side: int) -> list[Item]:
    items: list[Item] = []
    z, height = dice.between(8, 20), dice.between(5, 8)
    while z < 90 and dice.chance(0.75):
        if not plot.in_junction(z, 0) and plot.claim(lateral, z, (0.2, 0.3)):
            items.append(Lamp(x=plot.road.x(lateral, z), z=z, height=height, arm=-side))
        z += dice.between(18, 28)
    return items


def _sign(dice: Dice, plot: Plot, side: int) -> list[Item]:
    lateral = side * (plot.road.half_width + dice.between(0.4, 0.9))
    z = dice.between(7, 16) if dice.chance(0.65) else dice.between(16, 30)
    if plot.in_junction(z, 0) or not plot.claim(lateral, z, (0.4, 0.4)):
        return []
    return [any_sign(dice, plot.road.x(lateral, z), z)]


# -------------------------------------------------------------------------------------------------------------- traffic


def _traffic(dice: Dice, plot: Plot) -> list[Item]:
    items: list[Item] = []
    road = plot.road
    for side, parking in zip((-1, 1), road.parking, strict=True):
        if parking:
            items += _parked(dice, plot, side)
    for _ in range(dice.integer(1, 4)):
        direction = dice.side()
        z = dice.between(9, 24) if dice.chance(0.65) else dice.between(24, 60)
        lateral = direction * dice.between(1.5, max(road.half_width - max(road.parking) - 1.6, 1.6))
        if not plot.in_junction(z, 2):
            items += _vehicle(dice, plot, lateral, z, direction, truck_share=0.3)
    if road.junction and dice.chance(0.85):
        items += _crossing_traffic(dice, plot, (road.junction[0] + road.junction[1]) / 2)
    return items


def _parked(dice: Dice, plot: Plot, side: int) -> list[Item]:
    items: list[Item] = []
    lateral, density = side * (plot.road.half_width - 1.1), dice.between(0.2, 0.8)
    z = dice.between(5.5, 9)
    while z < 38:
        if dice.chance(density) and not plot.in_junction(z, 4) and not plot.on_crossing(z, 4):
            items += _vehicle(dice, plot, lateral, z, side if dice.chance(0.8) else -side, truck_share=0.12)
        z += dice.between(5.2, 7)
    return items


def _vehicle(dice: Dice, plot: Plot, lateral: float, z: float, direction: int, truck_share: float) -> list[Item]:
    """A car or truck along the road, driving away (direction 1) or towards the camera (-1)."""
    ahead = plot.road.heading(z)
    heading = ahead[0] * direction, ahead[1] * direction
    if dice.chance(truck_share):
        z += 5  # a truck close ahead would hide the street
        return [any_truck(dice, plot.road.x(lateral, z), z, heading)] if plot.claim(lateral, z, TRUCK_FOOTPRINT) else []
    return [any_car(dice, plot.road.x(lateral, z), z, heading)] if plot.claim(lateral, z, CAR_FOOTPRINT) else []


def _crossing_traffic(dice: Dice, plot: Plot, middle: float) -> list[Item]:
    """One or two vehicles seen from the side, on a junction."""
    items: list[Item] = []
    for _ in range(dice.integer(1, 2)):
        direction = dice.side()
        lateral, z = dice.between(-12, 12), middle - direction * 1.8
        heading, x = (float(direction), 0.0), plot.road.x(lateral, z)
        truck = dice.chance(0.3)
        across, along = TRUCK_FOOTPRINT if truck else CAR_FOOTPRINT
        if plot.claim(lateral, z, (along, across)):
            items.append(any_truck(dice, x, z, heading) if truck else any_car(dice, x, z, heading))
    return items


def any_car(dice: Dice, x: float, z: float, heading: Vector, colors: Sequence[Color] = CAR_COLORS) -> Car:
    """A car of any body, in about one of the colours."""
    body = dice.choice(("sedan", "hatchback", "hatchback", "suv", "suv", "van"))
    return Car(x=x, z=z, heading=heading, body=body, color=dice.color(colors))


def any_truck(dice: Dice, x: float, z: float, heading: Vector) -> Truck:
    """A truck of any size and colours."""
    return Truck(
        x=x,
        z=z,
        heading=heading,
        length=dice.between(6.0, 8.4),
        height=dice.between(2.9, 3.7),
        color=dice.color(CAR_COLORS),
        cargo=dice.color((*CAR_COLORS[:3], *WALL_COLORS[3:7], *CLOTH_COLORS[5:9])),
        stripe=dice.color(CLOTH_COLORS),
    )


# --------------------------------------------------------------------------------------------------------------- people


def _people(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Persons on the pavements and on a crossing."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(4, 9)):
        side = dice.side()
        inner = road.half_width + road.verge_of(side) + 0.8
        lateral = side * dice.between(inner, max(road.building_line(side) - 0.6, inner + 0.1))
        z = dice.between(9, 16) if dice.chance(0.75) else dice.between(16, 26)
        x, ahead = road.heading(z)
        direction = dice.side()
        heading = (float(direction), 0.0) if dice.chance(0.25) else (x * direction, ahead * direction)
        if plot.claim(lateral, z, PERSON_FOOTPRINT):
            pose = "walk" if dice.chance(0.75) else "stand"
            items.append(any_person(dice, weather, road.x(lateral, z), z, heading, pose))
    if road.crossing and dice.chance(0.8):
        for _ in range(dice.integer(1, 3)):
            lateral, z = dice.between(-road.half_width, road.half_width), road.crossing + dice.between(-1, 1)
            heading = (float(dice.side()), 0.0)
            if plot.claim(lateral, z, PERSON_FOOTPRINT):
                items.append(any_person(dice, weather, road.x(lateral, z), z, heading, "walk"))
    return items


def _cyclists(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Bicycles with riders, across the road or beside the parking lane, and parked ones on the pavement."""
    items: list[Item] = []
    road = plot.road
    for _ in range(dice.integer(0, 2)):
        direction, z = dice.side(), dice.between(7, 16)
        if dice.chance(0.6):  # across the road
            lateral, heading = dice.between(-0.8, 0.8) * road.half_width, (float(direction), 0.0)
            footprint = BICYCLE_FOOTPRINT[::-1]
        else:
            x, ahead = road.heading(z)
            lateral = direction * (road.half_width - (max(road.parking) or 0.2) - 0.6)
            heading, footprint = (x * direction, ahead * direction), BICYCLE_FOOTPRINT
        if plot.claim(lateral, z, footprint):
            items.append(any_bicycle(dice, road.x(lateral, z), z, heading))
            # a hair nearer than the bicycle, so that the legs are painted over its frame
            items.append(any_person(dice, weather, road.x(lateral, z), z - 0.01, heading, "ride"))
    for _ in range(dice.integer(1, 3)):
        side, z = dice.side(), dice.between(8, 16)
        lateral = side * (road.half_width + dice.between(0.6, 1.6))
        if plot.claim(lateral, z, BICYCLE_FOOTPRINT):
            items.append(
                any_bicycle(dice, road.x(lateral, z), z, dice.choice(((0.96 * side, 0.28), (0.8 * side, 0.6))))
            )
    return items


def _crowd(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """Perhaps a group of people, or a row of parked bicycles, too close together to count."""
    if dice.chance(0.3):
        return []
    road, side, z = plot.road, dice.side(), dice.between(16, 30)
    outer, inner = road.building_line(side) - 0.4, road.half_width + road.verge_of(side) + 0.5
    number, bicycles = dice.integer(5, 9), dice.chance(0.4)
    members: list[Item] = []
    for place in range(number):
        if bicycles:
            depth, lateral = z + 0.55 * place, side * (outer - 0.5)
            members.append(any_bicycle(dice, road.x(lateral, depth), depth, (0.96 * side, 0.28)))
        else:
            depth, lateral = z + dice.between(-1.5, 1.5), side * dice.between(inner, max(outer, inner + 0.2))
            members.append(any_person(dice, weather, road.x(lateral, depth), depth, (float(dice.side()), 0.0), "stand"))
    if plot.in_junction(z, 3) or not plot.claim(side * (inner + outer) / 2, z + 1, ((outer - inner) / 2 + 0.4, 3)):
        return []
    return [Crowd(x=members[0].x, z=z, members=tuple(members))]


def any_person(dice: Dice, weather: Weather, x: float, z: float, heading: Vector, pose: str) -> Person:
    """A person of any looks, seldom a child, with an umbrella only in rain."""
    riding = pose == "ride"
    umbrella = weather.name == "rain" and not riding and dice.chance(0.5)
    return Person(
        x=x,
        z=z,
        heading=heading,
        height=dice.between(1.58, 1.92) if riding or dice.chance(0.9) else dice.between(1.0, 1.4),
        pose=pose,
        stride=dice.between(0.2, 0.55) if pose == "walk" else 0.08,
        dress="trousers" if riding else dice.choice(("trousers", "trousers", "trousers", "skirt", "coat")),
        skin=dice.color(SKIN_COLORS),
        hair=dice.color(HAIR_COLORS),
        top=dice.color(CLOTH_COLORS),
        bottom=dice.color(CLOTH_COLORS),
        bag=dice.color(CLOTH_COLORS) if dice.chance(0.3) else None,
        umbrella=dice.color(CLOTH_COLORS) if umbrella else None,
    )


def any_bicycle(dice: Dice, x: float, z: float, heading: Vector) -> Bicycle:
    """A bicycle of any colour."""
    return Bicycle(x=x, z=z, heading=heading, color=dice.color(CLOTH_COLORS))


def any_sign(dice: Dice, x: float, z: float) -> Sign:
    """A traffic sign of any kind, facing the camera."""
    return Sign(
        x=x,
        z=z,
        shape=dice.choice(("disc", "disc", "triangle", "rectangle", "diamond")),
        size=dice.between(0.7, 1.0),
        height=dice.between(2.1, 3.0),
        variant=dice.integer(0, 3),
    )
