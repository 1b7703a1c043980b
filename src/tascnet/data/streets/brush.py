"""Flat convex pieces of an object, in its own metres -> canvas, all as one segment.

An object's own coordinates are (right, up, forward) from the middle of its footprint, as `Place` projects them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from tascnet.data.streets.canvas import (
    Canvas,
    Color,
    Patch,
    Point,
    ellipse,
    outline,
    polygon,
    shade,
    thick_line,
)
from tascnet.data.streets.plan import Weather
from tascnet.data.streets.view import NEAR, Place, Spot

SHADOW: Color = (14, 14, 18)
RUBBER: Color = (26, 26, 28)
METAL: Color = (128, 130, 134)
LAMP_LIGHT: Color = (1020, 900, 640)  # outshines white even at night

THINNEST = 0.7  # pixels: thinner bars would fall between the pixel centres

CIRCLE: tuple[Point, ...] = (
    (1.0, 0.0), (0.866, 0.5), (0.5, 0.866), (0.0, 1.0), (-0.5, 0.866), (-0.866, 0.5),
    (-1.0, 0.0), (-0.866, -0.5), (-0.5, -0.866), (0.0, -1.0), (0.5, -0.866), (0.866, -0.5),
)  # fmt: skip
"""Twelve points of the unit circle, written out: sine and cosine differ between machines."""

Rib = tuple[float, float, float]
"""A corner of a solid's side view: forward, up, and half the solid's width there."""


@dataclass(frozen=True)
class Brush:
    """Paints the pieces of one object.

    Attributes:
        canvas: what is painted on.
        place: where the object is.
        segment_id: the segment that its pixels belong to.
        weather: light, for shadows and lamps.
    """

    canvas: Canvas
    place: Place
    segment_id: int
    weather: Weather

    def piece(self, spots: Sequence[Spot], color: Color, opacity: float = 1.0) -> None:
        """A flat convex piece, from whichever side it is seen."""
        self.patch(self._flat(self._pixels(spots)), color, opacity)

    def face(self, spots: Sequence[Spot], color: Color) -> bool:
        """A flat convex piece, painted only where its corners run counter-clockwise in the picture; whether they do."""
        pixels = self._pixels(spots)
        if pixels is None or not _is_counter_clockwise(pixels):
            return False
        self.patch(self._flat(pixels), color)
        return True

    def panel(self, center: Spot, half_width: float, half_height: float, color: Color) -> None:
        """An upright rectangle across the object."""
        x, y, z = center
        left, right, low, high = x - half_width, x + half_width, y - half_height, y + half_height
        self.piece([(left, low, z), (right, low, z), (right, high, z), (left, high, z)], color)

    def rim(self, spots: Sequence[Spot], thickness: float, color: Color) -> None:
        """The rim of a flat convex piece, `thickness` metres wide."""
        patch = self._flat(self._pixels(spots))
        self.patch(outline(patch, max(thickness * self.place.scale, THINNEST)), color)

    def limb(self, start: Spot, end: Spot, start_width: float, end_width: float, color: Color) -> None:
        """A round bar, its widths in metres."""
        scale = self.place.scale
        widths = max(start_width * scale, THINNEST), max(end_width * scale, THINNEST)
        corners = thick_line(self.place.pixel(start), self.place.pixel(end), *widths)
        self.patch(polygon(corners, self.canvas.size), color)

    def ball(self, center: Spot, radius_x: float, radius_y: float, color: Color) -> None:
        """An upright ellipse, its radii in metres."""
        scale = self.place.scale
        self.patch(ellipse(self.place.pixel(center), radius_x * scale, radius_y * scale, self.canvas.size), color)

    def solid(self, ribs: Sequence[Rib], color: Color, first_face: Color | None = None) -> None:
        """A solid given by its convex side view, in order from the lower rear over the top to the lower front.

        Only faces that can be seen are painted, shaded by their slope. `first_face` is the colour of the lower rear.
        """
        for index, (first, second) in enumerate(zip(ribs, [*ribs[1:], ribs[0]], strict=True)):
            rise, run = abs(second[1] - first[1]), abs(second[0] - first[0])
            shaded = shade(color, 0.8 + 0.32 * run / (run + rise + 1e-6))
            self.face(across(first, second), first_face if first_face is not None and index == 0 else shaded)
        for side in (-1, 1):
            spots = [(side * width, up, forward) for forward, up, width in ribs][::-side]
            self.face(spots, shade(color, 0.93 if side > 0 else 0.87))

    def patch(self, patch: Patch | None, color: Color, opacity: float = 1.0) -> None:
        """A shape already in pixels."""
        self.canvas.fill_segment(patch, color, self.segment_id, self.place.z, opacity)

    def shadow(self, half_width: float, half_length: float, opacity: float, shift: float = 0.0) -> None:
        """Darken a rectangle of ground below the object; it stays road."""
        left, right = shift - half_width, shift + half_width
        spots = [
            (left, 0.0, -half_length),
            (right, 0.0, -half_length),
            (right, 0.0, half_length),
            (left, 0.0, half_length),
        ]
        softness = max(0.12 * self.place.scale, 1.0)
        self.canvas.fill(self._flat(self._pixels(spots)), SHADOW, opacity, softness)

    def round_shadow(self, radius: float, height: float) -> None:
        """Darken the ground below a slender object, and away from the sun."""
        scale = self.place.scale
        x, y = self.place.pixel((0, 0, 0))
        thin = max(radius * 0.3 * scale, 1.0)
        self.canvas.fill(ellipse((x, y), radius * scale, thin, self.canvas.size), SHADOW, 0.5, thin)
        if self.weather.sun:
            length = height * 0.35 * scale
            cast = ellipse((x - self.weather.sun_side * length, y), length, thin, self.canvas.size)
            self.canvas.fill(cast, SHADOW, self.weather.sun, thin * 0.7)

    def _pixels(self, spots: Sequence[Spot]) -> list[Point] | None:
        """The corners of a piece in the picture; None where it reaches behind the camera."""
        place = self.place
        for spot in spots:
            if place.depth(spot) < NEAR:
                return None
        return [place.pixel(spot) for spot in spots]

    def _flat(self, pixels: list[Point] | None) -> Patch | None:
        return None if pixels is None else polygon(pixels, self.canvas.size)


def across(low: Rib, high: Rib) -> list[Spot]:
    """The four corners of a solid's face between two ribs."""
    return [
        (-low[2], low[1], low[0]),
        (low[2], low[1], low[0]),
        (high[2], high[1], high[0]),
        (-high[2], high[1], high[0]),
    ]


def disc(x: float, y: float, z: float, radius: float) -> list[Spot]:
    """Twelve corners of a disc that faces sideways, in the direction of a solid's ribs."""
    return [(x, y + radius * b, z + radius * a) for a, b in CIRCLE][::-1]


def between(first: Spot, second: Spot, share: float) -> Spot:
    """The spot (or rib) at a share of the way from one to the other."""
    return (
        first[0] + (second[0] - first[0]) * share,
        first[1] + (second[1] - first[1]) * share,
        first[2] + (second[2] - first[2]) * share,
    )


def _is_counter_clockwise(pixels: Sequence[Point]) -> bool:
    area = 0.0
    for (x0, y0), (x1, y1) in zip(pixels, [*pixels[1:], pixels[0]], strict=True):
        area += x0 * y1 - x1 * y0
    return area < 0
