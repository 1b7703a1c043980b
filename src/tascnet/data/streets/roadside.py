"""Traffic signs, street lamps, bins."""

from tascnet.data.streets.brush import LAMP_LIGHT, METAL, Brush
from tascnet.data.streets.canvas import Color, ellipse, shade
from tascnet.data.streets.plan import Furniture, Lamp, Sign

RED: Color = (184, 28, 30)
BLUE: Color = (28, 76, 160)
GREEN: Color = (36, 110, 60)
YELLOW: Color = (224, 170, 30)
WHITE: Color = (236, 236, 232)
BLACK: Color = (28, 28, 30)
IRON: Color = (96, 100, 102)

POLE_WIDTH = 0.08  # metres


def paint_sign_pole(brush: Brush, sign: Sign) -> None:
    """The pole of a traffic sign, which belongs to no category."""
    brush.round_shadow(0.25, sign.height)
    brush.limb((0, 0, 0), (0, sign.height + sign.size * 0.3, 0), POLE_WIDTH, POLE_WIDTH, METAL)


def paint_sign(brush: Brush, sign: Sign) -> None:
    """The board of a traffic sign."""
    if sign.shape == "disc":
        _paint_disc(brush, sign)
    elif sign.shape == "triangle":
        _paint_triangle(brush, sign)
    elif sign.shape == "diamond":
        _paint_diamond(brush, sign)
    else:
        _paint_rectangle(brush, sign)


def _paint_disc(brush: Brush, sign: Sign) -> None:
    half, center = sign.size / 2, (0, sign.height, 0)
    rim, face = ((RED, WHITE), (BLUE, BLUE), (RED, RED), (RED, WHITE))[sign.variant]
    brush.ball(center, half, half, rim)
    brush.ball(center, half * 0.78, half * 0.78, face)
    symbol = (_paint_digits, _paint_arrow, _paint_bar, _paint_bar)[sign.variant]
    symbol(brush, half, sign.height, BLACK if face == WHITE else WHITE)


def _paint_triangle(brush: Brush, sign: Sign) -> None:
    half, y = sign.size / 2, sign.height
    upward = -1 if sign.variant == 3 else 1  # give way stands on its tip
    for share, color in ((1.0, RED), (0.66, WHITE)):
        reach = half * share
        base = y - upward * reach * 0.6
        brush.piece([(-reach, base, 0), (reach, base, 0), (0, y + upward * reach * 1.15, 0)], color)
    if upward > 0:
        brush.panel((0, y - half * 0.1, 0), half * 0.08, half * 0.3, BLACK)


def _paint_diamond(brush: Brush, sign: Sign) -> None:
    y = sign.height
    for share, color in ((1.0, WHITE), (0.72, YELLOW)):
        reach = sign.size / 2 * share
        brush.piece([(-reach, y, 0), (0, y - reach, 0), (reach, y, 0), (0, y + reach, 0)], color)


def _paint_rectangle(brush: Brush, sign: Sign) -> None:
    half, y = sign.size / 2, sign.height
    tall = half * (1.35 if sign.variant & 1 else 0.95)
    brush.panel((0, y, 0), half, tall, WHITE)
    brush.panel((0, y, 0), half * 0.92, tall * 0.93, GREEN if sign.variant == 3 else BLUE)
    (_paint_arrow, _paint_bar, _paint_digits, _paint_arrow)[sign.variant](brush, half, y, WHITE)


def _paint_digits(brush: Brush, half: float, y: float, color: Color) -> None:
    for x in (-0.24, 0.24):
        brush.panel((x * half, y, 0), half * 0.13, half * 0.32, color)


def _paint_arrow(brush: Brush, half: float, y: float, color: Color) -> None:
    brush.panel((0, y - half * 0.12, 0), half * 0.1, half * 0.36, color)
    wing = y + half * 0.12
    brush.piece([(-half * 0.34, wing, 0), (half * 0.34, wing, 0), (0, y + half * 0.55, 0)], color)


def _paint_bar(brush: Brush, half: float, y: float, color: Color) -> None:
    brush.panel((0, y, 0), half * 0.52, half * 0.14, color)


def paint_lamp(brush: Brush, lamp: Lamp) -> None:
    """A street lamp on its pole; lit, it brightens the ground below."""
    tip, high = lamp.arm * 1.3, lamp.height
    if brush.weather.lamps:
        scale = brush.place.scale
        pool = ellipse(brush.place.pixel((tip, 0, 0)), 4.5 * scale, 1.1 * scale, brush.canvas.size)
        brush.canvas.fill(pool, (250, 220, 150), opacity=0.3, softness=2.2 * scale)
    brush.round_shadow(0.3, high)
    brush.limb((0, 0, 0), (0, high, 0), 0.17, 0.1, IRON)
    brush.limb((0, high - 0.05, 0), (tip, high + 0.25, 0), 0.09, 0.08, IRON)
    brush.limb((tip * 0.75, high + 0.17, 0), (tip * 1.3, high + 0.22, 0), 0.18, 0.14, shade(IRON, 0.75))
    if brush.weather.lamps:
        brush.limb((tip * 0.8, high + 0.1, 0), (tip * 1.25, high + 0.13, 0), 0.1, 0.1, LAMP_LIGHT)


def paint_furniture(brush: Brush, item: Furniture) -> None:
    """A bin or cabinet."""
    half = item.width / 2
    brush.shadow(half + 0.05, half + 0.05, 0.4)
    brush.solid(((-half, 0, half), (-half, item.height, half), (half, item.height, half), (half, 0, half)), item.color)
    brush.panel((0, item.height * 0.92, -half), half, item.height * 0.05, shade(item.color, 0.6))
