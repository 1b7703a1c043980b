"""Persons of any heading: walking, standing, riding a bicycle."""

from tascnet.data.streets.brush import CIRCLE, METAL, Brush
from tascnet.data.streets.canvas import Color, polygon, shade
from tascnet.data.streets.plan import Person
from tascnet.data.streets.view import Spot

SHOE: Color = (34, 30, 30)
FAR_SIDE = 0.8  # brightness of the limbs on the left, so that crossing legs stay distinguishable


def paint_person(brush: Brush, person: Person) -> None:
    """A person; measures are those of someone 1.75 m tall, scaled."""
    if person.pose == "ride":
        _paint_rider(brush, person)
        return
    unit = person.height / 1.75
    brush.round_shadow(0.4 * unit, person.height)
    for side in (-1, 1):
        _paint_leg(brush, person, side, unit)
    _paint_arm(brush, person, -1, unit)
    if person.bag is not None and not _shows_back(person):
        _paint_bag(brush, person.bag, unit)
    _paint_clothes(brush, person, unit)
    if person.bag is not None and _shows_back(person):
        _paint_bag(brush, person.bag, unit)
    _paint_arm(brush, person, 1, unit)
    _paint_head(brush, person, (0, 1.62 * unit, 0.02 * unit), unit)
    if person.umbrella is not None:
        _paint_umbrella(brush, person.umbrella, unit)


def _shows_back(person: Person) -> bool:
    return person.heading[1] > 0.5


def _shoulders(person: Person) -> float:
    """Metres across the shoulders, as seen: broader from before than from the side."""
    return 0.32 + 0.15 * abs(person.heading[1])


def _at(unit: float, right: float, up: float, forward: float) -> Spot:
    return right * unit, up * unit, forward * unit


def _paint_leg(brush: Brush, person: Person, side: int, unit: float) -> None:
    color = person.skin if person.dress == "skirt" else person.bottom
    color = shade(color, FAR_SIDE if side < 0 else 1.0)
    foot = side * person.stride / 2
    hip, knee = _at(unit, side * 0.09, 0.86, 0), _at(unit, side * 0.1, 0.47, foot * 0.75)
    ankle = _at(unit, side * 0.1, 0.05, foot)
    brush.limb(hip, knee, 0.2 * unit, 0.16 * unit, color)
    brush.limb(knee, ankle, 0.16 * unit, 0.13 * unit, color)
    heel, toe = _at(unit, side * 0.1, 0.04, foot - 0.08), _at(unit, side * 0.1, 0.04, foot + 0.16)
    brush.limb(heel, toe, 0.11 * unit, 0.09 * unit, SHOE)


def _paint_clothes(brush: Brush, person: Person, unit: float) -> None:
    broad = _shoulders(person) * unit
    if person.dress != "trousers":
        hem, color = (0.5, person.bottom) if person.dress == "skirt" else (0.62, person.top)
        brush.limb((0, 0.98 * unit, 0), (0, hem * unit, 0), broad * 0.8, broad * 1.15, color)
    brush.limb((0, 1.44 * unit, 0), (0, 0.82 * unit, 0), broad, broad * 0.8, person.top)
    brush.limb((0, 1.44 * unit, 0), (0, 1.49 * unit, 0), broad * 0.95, broad * 0.5, person.top)
    if brush.place.scale > 30:  # pixels a metre: folds of the cloth are lost in the distance
        side = broad * 0.32
        brush.limb(
            (side, 1.36 * unit, 0), (side * 0.8, 0.84 * unit, 0), broad * 0.3, broad * 0.3, shade(person.top, 0.86)
        )


def _paint_arm(brush: Brush, person: Person, side: int, unit: float) -> None:
    swing = -side * person.stride * 0.35  # arms swing against the legs
    shoulder, elbow = _at(unit, side * 0.2, 1.4, 0), _at(unit, side * 0.25, 1.12, swing * 0.4)
    hand = _at(unit, side * 0.24, 0.86, swing + 0.05)
    color = shade(person.top, FAR_SIDE if side < 0 else 0.9)
    brush.limb(shoulder, elbow, 0.12 * unit, 0.1 * unit, color)
    brush.limb(elbow, hand, 0.1 * unit, 0.08 * unit, color)
    brush.ball(hand, 0.05 * unit, 0.06 * unit, person.skin)


def _paint_head(brush: Brush, person: Person, center: Spot, unit: float) -> None:
    """Neck, hair and face; how much of the face is seen depends on where the person looks."""
    right, up, forward = center
    brush.limb((right, up - 0.18 * unit, forward), center, 0.1 * unit, 0.1 * unit, shade(person.skin, 0.85))
    brush.ball((right, up + 0.02 * unit, forward - 0.03 * unit), 0.105 * unit, 0.135 * unit, person.hair)
    if not _shows_back(person):
        sideways = 0.0 if person.heading[1] < -0.5 else 0.04
        face = right, up - 0.025 * unit, forward + sideways * unit
        brush.ball(face, 0.088 * unit, 0.11 * unit, person.skin)


def _paint_bag(brush: Brush, color: Color, unit: float) -> None:
    brush.ball(_at(unit, 0, 1.2, -0.2), 0.16 * unit, 0.23 * unit, color)
    brush.ball(_at(unit, 0, 1.12, -0.21), 0.11 * unit, 0.1 * unit, shade(color, 0.8))


def _paint_umbrella(brush: Brush, color: Color, unit: float) -> None:
    scale = brush.place.scale * unit
    x, y = brush.place.pixel((0.12 * unit, 1.78 * unit, 0))
    brush.limb(_at(unit, 0.12, 1.0, 0.1), _at(unit, 0.12, 2.1, 0), 0.03, 0.03, METAL)
    for reach, brightness in ((0.62, 1.0), (0.24, 1.2)):
        corners = [(x + reach * scale * a, y - 0.36 * scale * b) for a, b in CIRCLE[:7]]
        brush.patch(polygon(corners, brush.canvas.size), shade(color, brightness))


def _paint_rider(brush: Brush, person: Person) -> None:
    """Sitting, hands on the handlebar, one knee up."""
    for side, knee, foot in ((-1, (0.56, 0.2), 0.4), (1, (0.72, 0.32), 0.16)):
        color = shade(person.bottom, 1 if side > 0 else FAR_SIDE)
        joint, ankle = (side * 0.13, *knee), (side * 0.12, foot, 0.08)
        brush.limb((side * 0.1, 0.94, -0.18), joint, 0.17, 0.13, color)
        brush.limb(joint, ankle, 0.13, 0.1, shade(color, 0.95))
        brush.limb((side * 0.12, foot, 0.02), (side * 0.12, foot - 0.02, 0.24), 0.09, 0.08, SHOE)
    broad = _shoulders(person)
    brush.limb((0, 0.9, -0.2), (0, 1.42, 0.1), broad * 0.85, broad, person.top)
    for side in (-1, 1):
        brush.limb((side * 0.2, 1.38, 0.1), (side * 0.26, 1.04, 0.4), 0.11, 0.08, shade(person.top, 0.88))
        brush.ball((side * 0.25, 1.03, 0.42), 0.05, 0.05, person.skin)
    if person.bag is not None:
        brush.ball((0, 1.22, -0.12), 0.16, 0.22, person.bag)
    _paint_head(brush, person, (0, 1.62, 0.18), 1.0)
