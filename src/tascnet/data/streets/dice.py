"""Random choices of one scene, and the colours to choose from."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from tascnet.data.streets.canvas import Color

T = TypeVar("T")

BLOCK = 1024
"""Random numbers drawn at a time."""

# Walls and cars share hues on purpose: colour alone must not reveal the category.
WALL_COLORS: tuple[Color, ...] = (
    (168, 92, 72), (150, 74, 60), (196, 178, 150), (214, 206, 190), (226, 218, 205), (150, 146, 140), (120, 118, 116),
    (205, 170, 120), (176, 150, 128), (188, 196, 200), (140, 150, 158), (222, 196, 170), (160, 120, 96), (98, 92, 92),
    (203, 140, 110), (180, 190, 170),
)  # fmt: skip
ROOF_COLORS: tuple[Color, ...] = ((120, 66, 52), (84, 80, 82), (96, 76, 66), (140, 84, 64), (62, 64, 70))
CAR_COLORS: tuple[Color, ...] = (
    (232, 232, 230), (188, 192, 196), (128, 132, 136), (72, 74, 78), (34, 34, 38), (150, 30, 32), (30, 52, 110),
    (60, 96, 140), (196, 178, 150), (120, 66, 52), (38, 70, 52), (206, 160, 40), (168, 92, 72), (110, 130, 110),
)  # fmt: skip
CLOTH_COLORS: tuple[Color, ...] = (
    (38, 40, 48), (70, 72, 78), (120, 120, 122), (200, 198, 192), (236, 234, 230), (150, 36, 40), (44, 66, 120),
    (70, 110, 160), (60, 90, 60), (196, 150, 60), (120, 74, 50), (170, 100, 130), (90, 60, 110), (214, 110, 50),
    (168, 150, 120), (50, 110, 110),
)  # fmt: skip
SKIN_COLORS: tuple[Color, ...] = ((236, 200, 174), (214, 170, 136), (170, 120, 86), (120, 80, 56), (84, 56, 42))
HAIR_COLORS: tuple[Color, ...] = ((30, 26, 24), (64, 44, 32), (110, 78, 48), (190, 160, 100), (150, 148, 146))
LEAF_COLORS: tuple[Color, ...] = (
    (70, 100, 44), (56, 84, 42), (88, 112, 50), (104, 116, 52), (50, 78, 50), (64, 92, 56), (150, 116, 48),
)  # fmt: skip


class Dice:
    """Random choices, all made of `Generator.random`, which is drawn in blocks because single draws are slow."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self._drawn: list[float] = []

    def between(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._draw()

    def integer(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._draw() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return self._draw() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[self.integer(0, len(options) - 1)]

    def side(self) -> int:
        """-1 for left or backward, +1 for right or forward."""
        return self.choice((-1, 1))

    def vary(self, color: Color, amount: float) -> Color:
        """A colour near another one."""
        factor = 1 + self.between(-amount, amount) / 100
        red, green, blue = (min(max((c + self.between(-amount, amount)) * factor, 0.0), 255.0) for c in color)
        return red, green, blue

    def color(self, colors: Sequence[Color], amount: float = 10) -> Color:
        """A colour near one of some."""
        return self.vary(self.choice(colors), amount)

    def _draw(self) -> float:
        if not self._drawn:
            self._drawn = self._generator.random(BLOCK).tolist()
        return self._drawn.pop()
