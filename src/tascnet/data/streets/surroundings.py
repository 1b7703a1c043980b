"""Surroundings of a street: buildings, gardens, parks, and a skyline at its end."""

from tascnet.data.streets.canvas import shade
from tascnet.data.streets.dice import CLOTH_COLORS, LEAF_COLORS, ROOF_COLORS, WALL_COLORS, Dice
from tascnet.data.streets.plan import Building, Facade, Hedge, Item, Road, Roof, Tree, Wall, Weather

STREET_END = 160.0
"""Metres at which the street ends before a skyline."""

SKYLINE_REACH = 190.0  # metres to both sides


def surround(dice: Dice, road: Road, weather: Weather) -> list[Item]:
    """Buildings or greenery on both sides, and a skyline."""
    items = _skyline(dice, road)
    for side in (-1, 1):
        kind = dice.choice(("city", "city", "city", "suburb", "suburb", "park"))
        if kind == "city":
            items += _city(dice, road, weather, side)
        elif kind == "suburb":
            items += _suburb(dice, road, weather, side)
        else:
            items += _park(dice, road, side)
    return items


def tree(
    dice: Dice, x: float, z: float, height: float, radius: float | None = None, trunk: float | None = None
) -> Tree:
    """A tree of about that height; radius and trunk are chosen unless given."""
    height *= dice.between(0.8, 1.25)
    return Tree(
        x=x,
        z=z,
        height=height,
        radius=height * dice.between(0.27, 0.4) if radius is None else radius,
        trunk=height * dice.between(0.22, 0.36) if trunk is None else trunk,
        color=dice.color(LEAF_COLORS),
        openness=dice.between(0.0, 0.4),
        seed=dice.integer(0, 255),
    )


def _skyline(dice: Dice, road: Road) -> list[Item]:
    items: list[Item] = []
    end = road.x(0, STREET_END)
    x, green = end - SKYLINE_REACH, dice.between(0.1, 0.7)
    while x < end + SKYLINE_REACH:
        width, z = dice.between(12, 32), STREET_END + dice.between(0, 60)
        if dice.chance(green):
            items.append(tree(dice, x + width / 2, z, 12, radius=width * 0.6, trunk=0.0))
        else:
            height = dice.between(8, 22) if dice.chance(0.75) else dice.between(25, 55)
            wall = Wall(start=(x, z), end=(x + width, z), height=height, brightness=0.95)
            items.append(Building(x=x, z=z, walls=(wall,), facade=_facade(dice, height)))
        x += width * dice.between(0.7, 1.0)
    return items


def _city(dice: Dice, road: Road, weather: Weather, side: int) -> list[Item]:
    """Wall to wall along the pavement, with a few gaps, and open at a junction."""
    items: list[Item] = []
    line = road.building_line(side)
    low, high = (9, 24) if dice.chance(0.7) else (18, 45)
    z, hidden = dice.between(0.7, 1.5), 0.0  # metres up to which the nearer neighbour hides the next building
    while z < STREET_END:
        length, height = dice.between(9, 22), dice.between(low, high)
        if _meets_junction(road, z, length, margin=line):
            z, hidden = _behind_junction(dice, road), 0.0
        lateral = line + dice.between(0, 0.8)
        items.append(_side_building(dice, road, weather, side, lateral, (z, z + length), height, hidden))
        gap = dice.between(3, 9) if dice.chance(0.25) else 0.0
        if gap > 4:
            items.append(tree(dice, road.x(side * (lateral + 3), z + length + gap / 2), z + length + gap / 2, 7))
        z, hidden = z + length + gap, 0.0 if gap else height
    return items


def _suburb(dice: Dice, road: Road, weather: Weather, side: int) -> list[Item]:
    """Houses with gardens, hedges and trees."""
    items: list[Item] = []
    line, setback = road.building_line(side), dice.between(2, 5)
    z = dice.between(0.7, 1.5)
    while z < STREET_END:
        length, height = dice.between(8, 14), dice.between(4.5, 8.5)
        if _meets_junction(road, z, length, margin=line):
            z = _behind_junction(dice, road)
        items.append(
            _side_building(dice, road, weather, side, line + setback, (z, z + length), height, 0.0, pitched=True)
        )
        if dice.chance(0.6):
            items += _hedge(dice, road, side, z, z + length)
        gap = dice.between(3, 9)
        if gap > 4:
            depth = z + length + gap / 2
            items.append(tree(dice, road.x(side * (line + setback + 2), depth), depth, 7))
        z += length + gap
    return items


def _park(dice: Dice, road: Road, side: int) -> list[Item]:
    """Two loose rows of trees, perhaps behind a hedge."""
    line = road.building_line(side)
    items = _hedge(dice, road, side, 1.0, 60.0) if dice.chance(0.5) else []
    z = dice.between(5, 9)
    while z < STREET_END:
        for row in (2.0, 11.0):
            depth = z + dice.between(0, 4)
            items.append(tree(dice, road.x(side * (line + row + dice.between(0, 3)), depth), depth, 9.5))
        z += dice.between(6, 10) * (1 + z / 40)
    return items


def _hedge(dice: Dice, road: Road, side: int, near: float, far: float) -> list[Item]:
    """A hedge along the building line, in pieces short enough to follow a bend."""
    height, color = dice.between(0.8, 1.7), dice.color(LEAF_COLORS[:5])
    lateral = side * (road.building_line(side) + 0.2)
    items: list[Item] = []
    while near < far:
        end = min(near + 8.0, far)
        wall = Wall(start=(road.x(lateral, near), near), end=(road.x(lateral, end), end), height=height, brightness=0.9)
        items.append(Hedge(x=wall.end[0], z=end, wall=wall, color=color, seed=dice.integer(0, 255)))
        near = end
    return items


def _side_building(
    dice: Dice,
    road: Road,
    weather: Weather,
    side: int,
    lateral: float,
    depths: tuple[float, float],
    height: float,
    hidden: float,
    pitched: bool = False,
) -> Building:
    """A building along the street: a wall to the street, and a front towards the camera, above `hidden` metres."""
    near, far = depths
    deep = dice.between(9, 14)
    corner, far_corner = (road.x(side * lateral, near), near), (road.x(side * lateral, far), far)
    back, middle = road.x(side * (lateral + deep), near), side * (lateral + deep / 2)
    in_sun = weather.sun_side != side
    along = Wall(
        start=corner,
        end=far_corner,
        height=height,
        brightness=1 + 0.25 * weather.sun if in_sun else 1 - 0.55 * weather.sun,
    )
    front = Wall(start=corner, end=(back, near), height=height, brightness=0.86, base=hidden)
    roof = Roof(
        corners=(corner, far_corner, (road.x(middle, far), far), (road.x(middle, near), near), (back, near)),
        eaves=height,
        ridge=height + dice.between(2.2, 4.5),
        color=dice.color(ROOF_COLORS),
    )
    return Building(
        x=far_corner[0],
        z=far,
        walls=(front, along) if hidden < height else (along,),
        facade=_facade(dice, height),
        roof=roof if pitched or dice.chance(0.25) else None,
    )


def _facade(dice: Dice, height: float) -> Facade:
    tall = height > 12
    pattern = dice.choice(("plaster", "plaster", "brick", "brick", "panel", "glass" if tall else "brick"))
    color = dice.color(WALL_COLORS)
    shop = height > 8 and dice.chance(0.45)
    return Facade(
        pattern=pattern,
        color=color,
        trim=dice.vary(shade(color, dice.choice((0.7, 1.15, 1.25))), 6),
        accent=dice.color(CLOTH_COLORS),
        window_pitch=(dice.between(1.9, 3.4), dice.between(2.9, 3.5)),
        window_share=(0.86, 0.8) if pattern == "glass" else (dice.between(0.36, 0.6), dice.between(0.42, 0.6)),
        ground_floor=dice.between(3.4, 4.2) if shop else 0.6,
        shop=shop,
        seed=dice.integer(0, 255),
    )


def _meets_junction(road: Road, z: float, length: float, margin: float) -> bool:
    return road.junction is not None and z < road.junction[1] + margin and z + length > road.junction[0] - 3


def _behind_junction(dice: Dice, road: Road) -> float:
    return (road.junction[1] if road.junction else 0.0) + dice.between(3, 5)
