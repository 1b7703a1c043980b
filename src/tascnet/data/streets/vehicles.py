"""Cars, trucks and bicycles of any heading."""

from dataclasses import dataclass

from tascnet.data.streets.brush import LAMP_LIGHT, METAL, RUBBER, Brush, Rib, across, between, disc
from tascnet.data.streets.canvas import Color, mix, shade
from tascnet.data.streets.plan import Bicycle, Car, Truck, Weather

PLATE: Color = (222, 220, 206)
TAIL_LIGHT: Color = (176, 24, 26)
LIT_TAIL_LIGHT: Color = (760, 90, 70)
HEAD_LIGHT: Color = (226, 230, 234)
GRILLE: Color = (38, 40, 44)

WHEEL_RADIUS = 0.33  # metres
TRUCK_WHEEL_RADIUS = 0.46


@dataclass(frozen=True)
class _Body:
    """Side view of a car.

    Attributes:
        body: lower rear, bumper, shoulder, foot of the wind screen, hood, nose, lower front.
        cabin: lower rear, upper rear, upper front, lower front.
        wheels: where the axles are.
        pillar: where the side window is divided.
    """

    body: tuple[Rib, Rib, Rib, Rib, Rib, Rib, Rib]
    cabin: tuple[Rib, Rib, Rib, Rib]
    wheels: tuple[float, float]
    pillar: float


_BODIES = {
    "sedan": _Body(
        body=((-2.2, 0.3, 0.86), (-2.25, 0.6, 0.9), (-2.12, 0.98, 0.86), (0.95, 0.98, 0.86),
              (2.05, 0.82, 0.82), (2.2, 0.55, 0.86), (2.15, 0.28, 0.84)),
        cabin=((-1.75, 0.95, 0.82), (-1.05, 1.42, 0.62), (0.2, 1.45, 0.62), (1.1, 0.95, 0.82)),
        wheels=(-1.35, 1.4), pillar=-0.35,
    ),
    "hatchback": _Body(
        body=((-1.95, 0.3, 0.84), (-2.0, 0.6, 0.87), (-1.92, 0.98, 0.85), (1.0, 0.98, 0.84),
              (1.85, 0.84, 0.8), (1.98, 0.55, 0.84), (1.92, 0.28, 0.82)),
        cabin=((-1.92, 0.95, 0.82), (-1.55, 1.46, 0.63), (0.2, 1.5, 0.63), (1.2, 0.95, 0.81)),
        wheels=(-1.25, 1.25), pillar=-0.5,
    ),
    "suv": _Body(
        body=((-2.2, 0.38, 0.9), (-2.26, 0.7, 0.94), (-2.18, 1.12, 0.92), (1.1, 1.12, 0.9),
              (2.05, 1.02, 0.86), (2.2, 0.68, 0.9), (2.14, 0.36, 0.88)),
        cabin=((-2.12, 1.08, 0.88), (-1.85, 1.68, 0.7), (0.25, 1.72, 0.7), (1.2, 1.08, 0.87)),
        wheels=(-1.35, 1.38), pillar=-0.45,
    ),
    "van": _Body(
        body=((-2.3, 0.36, 0.94), (-2.35, 0.7, 0.97), (-2.3, 1.15, 0.96), (1.5, 1.15, 0.94),
              (2.25, 0.95, 0.88), (2.35, 0.62, 0.92), (2.28, 0.34, 0.9)),
        cabin=((-2.28, 1.1, 0.93), (-2.18, 1.95, 0.82), (0.75, 1.98, 0.82), (1.7, 1.1, 0.92)),
        wheels=(-1.45, 1.5), pillar=0.0,
    ),
}  # fmt: skip


def paint_car(brush: Brush, car: Car) -> None:
    """Body, cabin, lights and wheels."""
    shape = _BODIES[car.body]
    _paint_shadow(brush, 0.92, 2.2)
    _paint_wheels_below(brush, shape.wheels, 0.7, WHEEL_RADIUS)
    brush.solid(shape.body, car.color, first_face=mix(car.color, (40, 40, 44), 0.55))
    _paint_cabin(brush, shape, car.color)
    if _shows_rear(brush):
        _paint_rear(brush, shape, car.color)
    else:
        _paint_front(brush, shape)
    for wheel in shape.wheels:
        _paint_wheel(brush, shape.body[1][2], wheel, WHEEL_RADIUS)


def _paint_cabin(brush: Brush, shape: _Body, color: Color) -> None:
    glass = _glass(brush.weather)
    gleam = mix(glass, (220, 230, 240), 0.25)
    brush.solid(shape.cabin, color)
    rear_low, rear_high, front_high, front_low = _pane_corners(shape.cabin)
    panes = (
        (across(rear_low, rear_high), across(between(rear_high, rear_low, 0.35), rear_high)),
        (across(front_high, front_low), across(front_high, between(front_high, front_low, 0.35))),
    )
    for pane, upper_part in panes:
        if brush.face(pane, glass):
            brush.face(upper_part, gleam)
    for side in (-1, 1):
        low, high = side * (rear_low[2] + 0.08), side * (rear_high[2] + 0.06)
        side_pane = [
            (low, rear_low[1], rear_low[0]),
            (high, rear_high[1], rear_high[0]),
            (high, front_high[1], front_high[0]),
            (low, front_low[1], front_low[0]),
        ]
        if brush.face(side_pane[::-side], glass):
            foot, head = (low, rear_low[1], shape.pillar), (high, rear_high[1], shape.pillar)
            brush.limb(foot, head, 0.09, 0.09, shade(color, 0.8))


def _pane_corners(cabin: tuple[Rib, Rib, Rib, Rib]) -> tuple[Rib, Rib, Rib, Rib]:
    """Ribs of the cabin's glass: a frame is left on all sides."""

    def narrow(rib: Rib) -> Rib:
        return rib[0], rib[1], rib[2] * 0.9

    rear_low, rear_high, front_high, front_low = cabin
    return (
        narrow(between(rear_low, rear_high, 0.12)),
        narrow(between(rear_low, rear_high, 0.88)),
        narrow(between(front_low, front_high, 0.88)),
        narrow(between(front_low, front_high, 0.12)),
    )


def _paint_rear(brush: Brush, shape: _Body, color: Color) -> None:
    z, bumper, half_width = shape.body[1][0] - 0.02, shape.body[1][1], shape.body[1][2]
    light = LIT_TAIL_LIGHT if brush.weather.lamps else TAIL_LIGHT
    for side in (-1, 1):
        brush.panel((side * half_width * 0.8, shape.body[2][1] - 0.17, z), 0.15, 0.1, light)
    brush.panel((0, bumper + 0.02, z), 0.26, 0.06, PLATE)
    brush.panel((0, bumper - 0.12, z), half_width * 0.9, 0.03, shade(color, 0.55))


def _paint_front(brush: Brush, shape: _Body) -> None:
    hood, (z, nose, half_width) = shape.body[4], shape.body[5]
    middle = (nose + hood[1]) / 2
    light = LAMP_LIGHT if brush.weather.lamps else HEAD_LIGHT
    for side in (-1, 1):
        brush.panel((side * half_width * 0.74, middle, z), 0.19, 0.075, light)
    brush.panel((0, middle, z), half_width * 0.42, 0.08, GRILLE)
    brush.panel((0, nose - 0.14, z), half_width * 0.7, 0.06, GRILLE)
    brush.panel((0, nose - 0.02, z), 0.26, 0.055, PLATE)


# --------------------------------------------------------------------------------------------------------------- trucks


def paint_truck(brush: Brush, truck: Truck) -> None:
    """A cab before a cargo box."""
    rear, front = -truck.length / 2, truck.length / 2
    wheels = (rear + 1.4, front - 1.1)
    chassis = across_ribs((rear + 0.2, front - 1.8), (0.5, 0.95), 1.0)
    _paint_shadow(brush, 1.2, truck.length / 2)
    _paint_wheels_below(brush, wheels, 0.95, TRUCK_WHEEL_RADIUS)
    brush.solid(chassis, (52, 52, 56))
    if _shows_rear(brush):
        _paint_cab(brush, truck, front)
        _paint_cargo(brush, truck, rear, front - 1.9)
        _paint_tail(brush, truck, rear)
    else:
        _paint_cargo(brush, truck, rear, front - 1.9)
        _paint_cab(brush, truck, front)
        _paint_nose(brush, truck, front)
    for wheel in wheels:
        _paint_wheel(brush, 1.14, wheel, TRUCK_WHEEL_RADIUS)


def across_ribs(ends: tuple[float, float], heights: tuple[float, float], half_width: float) -> tuple[Rib, ...]:
    """Ribs of a box."""
    (rear, front), (low, high) = ends, heights
    return (rear, low, half_width), (rear, high, half_width), (front, high, half_width), (front, low, half_width)


def _cab_height(truck: Truck) -> float:
    return min(truck.height - 0.3, 2.75)


def _paint_cargo(brush: Brush, truck: Truck, rear: float, front: float) -> None:
    low, high = 0.95, truck.height
    brush.solid(across_ribs((rear, front), (low, high), 1.22), truck.cargo)
    bottom, top = low + (high - low) * 0.32, low + (high - low) * 0.52
    for side in (-1, 1):
        x = side * 1.23
        stripe = [(x, bottom, rear + 0.1), (x, top, rear + 0.1), (x, top, front - 0.1), (x, bottom, front - 0.1)]
        brush.face(stripe[::-side], truck.stripe)


def _paint_tail(brush: Brush, truck: Truck, rear: float) -> None:
    """Doors with bars, lights and a plate."""
    low, high = 0.95, truck.height
    brush.limb((0, low, rear), (0, high, rear), 0.05, 0.05, shade(truck.cargo, 0.55))
    brush.panel((0, low + 0.12, rear), 1.2, 0.08, shade(truck.cargo, 0.6))
    for side in (-1, 1):
        brush.panel((side * 0.25, (low + high) / 2, rear), 0.04, 0.5, METAL)
        brush.panel((side * 1.0, 0.75, rear), 0.14, 0.09, LIT_TAIL_LIGHT if brush.weather.lamps else TAIL_LIGHT)
    brush.panel((0, 0.72, rear), 0.28, 0.07, PLATE)


def _paint_cab(brush: Brush, truck: Truck, front: float) -> None:
    high = _cab_height(truck)
    ribs = (
        (front - 1.8, 0.5, 1.12),
        (front - 1.8, high, 1.1),
        (front - 0.35, high, 1.06),
        (front, 1.5, 1.12),
        (front, 0.5, 1.12),
    )
    brush.solid(ribs, truck.color)
    for side in (-1, 1):
        x = side * 1.125
        pane = [
            (x, 1.55, front - 1.45),
            (x, high - 0.3, front - 1.45),
            (x, high - 0.3, front - 0.5),
            (x, 1.55, front - 0.2),
        ]
        brush.face(pane[::-side], _glass(brush.weather))


def _paint_nose(brush: Brush, truck: Truck, front: float) -> None:
    """Wind screen, head lights, grille and plate."""
    screen = across((front, 1.6, 1.0), (front - 0.33, _cab_height(truck) - 0.2, 0.95))
    brush.piece(screen, _glass(brush.weather))
    for side in (-1, 1):
        brush.panel((side * 0.85, 0.8, front), 0.18, 0.1, LAMP_LIGHT if brush.weather.lamps else HEAD_LIGHT)
    brush.panel((0, 1.15, front), 0.7, 0.16, GRILLE)
    brush.panel((0, 0.62, front), 0.28, 0.06, PLATE)


# --------------------------------------------------------------------------------------------------------- their common


def _glass(weather: Weather) -> Color:
    return mix((34, 40, 48), weather.haze, 0.22)


def _shows_rear(brush: Brush) -> bool:
    return brush.place.heading[1] >= 0


def _paint_shadow(brush: Brush, half_width: float, half_length: float) -> None:
    if brush.weather.sun:
        # `shift` is to the object's right: the other side for what comes towards the camera
        away = -brush.weather.sun_side if _shows_rear(brush) else brush.weather.sun_side
        brush.shadow(half_width, half_length, brush.weather.sun, shift=0.9 * away)
    brush.shadow(half_width + 0.12, half_length + 0.1, 0.4)
    brush.shadow(half_width - 0.02, half_length - 0.05, 0.6)


def _paint_wheels_below(brush: Brush, wheels: tuple[float, float], x: float, radius: float) -> None:
    """The visible part of the wheels below bumpers and sills: their treads."""
    for wheel in wheels:
        for side in (-1, 1):
            brush.panel((side * x, radius * 0.85, wheel), 0.11, radius * 0.85, RUBBER)


def _paint_wheel(brush: Brush, x: float, z: float, radius: float) -> None:
    """Arch, tyre, rim and hub of a wheel on whichever side is in view."""
    for side in (-1, 1):
        arch = [(a, max(b, 0.16), c) for a, b, c in disc(side * (x + 0.01), radius * 1.02, z, radius * 1.16)]
        if brush.face(arch[::-side], (30, 30, 33)):
            for share, color in ((1.0, RUBBER), (0.62, METAL), (0.2, (60, 62, 66))):
                brush.piece(disc(side * (x + 0.02), radius, z, radius * share), color)


# ------------------------------------------------------------------------------------------------------------- bicycles


def paint_bicycle(brush: Brush, bicycle: Bicycle) -> None:
    """Wheels, frame, handlebar and saddle. A wheel counts as a whole disc, spokes and all."""
    brush.round_shadow(0.5, 0.9)
    for z in (-0.54, 0.54):
        wheel = disc(0.0, 0.34, z, 0.34)
        brush.piece(wheel, (96, 98, 102), opacity=0.3)
        brush.limb((0, 0.0, z), (0, 0.68, z), 0.05, 0.05, RUBBER)  # what is left of a wheel seen end on
        brush.rim(wheel, 0.055, RUBBER)
    crank, saddle, head = (0, 0.3, -0.02), (0, 0.9, -0.2), (0, 0.86, 0.36)
    rear, front = (0, 0.34, -0.54), (0, 0.34, 0.54)
    seat = between(crank, saddle, 0.85)
    for start, end in ((crank, saddle), (crank, head), (seat, head), (rear, crank), (rear, seat), (head, front)):
        brush.limb(start, end, 0.05, 0.05, bicycle.color)
    brush.limb(head, (0, 1.02, 0.36), 0.04, 0.04, METAL)
    brush.limb((-0.28, 1.02, 0.36), (0.28, 1.02, 0.36), 0.045, 0.045, RUBBER)
    brush.limb((0, 1.02, 0.36), (0, 1.0, 0.5), 0.04, 0.04, RUBBER)
    brush.limb((0, 0.93, -0.34), (0, 0.93, -0.1), 0.1, 0.05, RUBBER)
