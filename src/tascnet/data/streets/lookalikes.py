"""Stuff that looks like things -> canvas: posters and shop windows on walls, bushes cut into shape.

Both are painted by the painters of things on a small canvas of their own, which is then laid on the wall, or from
which the bush takes its outline and its shades.
"""

from dataclasses import replace

import numpy as np

from tascnet.data.streets.brush import SHADOW, Brush
from tascnet.data.streets.canvas import Canvas, Color, ellipse, grain, smooth_noise, window, wrap
from tascnet.data.streets.plan import Car, Poster, Topiary, Weather
from tascnet.data.streets.things import paint_thing
from tascnet.data.streets.view import Place, View
from tascnet.data.streets.walls import wall_pixels
from tascnet.structures import Size

EYE_HEIGHT = 1.2  # metres above the ground, from which a poster's picture is taken
FRAME_WIDTH = 0.1  # metres
DISPLAY_LIGHT = 1.7  # how much brighter a shop window is than the wall when lamps are lit
GLASS: Color = (96, 108, 118)
FINEST, COARSEST = 96.0, 8.0  # pixels a metre of a poster's picture
REACH = 2.6  # metres from a topiary's middle within which all of it is
INSIDE = 1  # id of what is painted on a canvas of its own


def paint_poster(canvas: Canvas, view: View, poster: Poster, weather: Weather, segment_id: int) -> None:
    """A picture on a wall, lit as flatly as the wall."""
    wall = poster.wall
    pixels = wall_pixels(view, wall, wall.height)
    if pixels is None:
        return
    (x0, z0), (x1, z1) = wall.start, wall.end
    length, height = float(np.sqrt((x1 - x0) * (x1 - x0) + (z1 - z0) * (z1 - z0))), wall.height - wall.base
    scale = min(max(view.focal / min(z0, z1), COARSEST), FINEST)
    picture = _picture(poster, length / poster.stretch, height, scale, weather)
    up = pixels.up - np.float32(wall.base)
    inside = (up >= 0) & (up < np.float32(height))
    rows = picture.shape[1] - 1 - (up * np.float32(scale)).astype(np.int32)
    columns = (pixels.along * np.float32(scale / poster.stretch)).astype(np.int32)
    colors = picture[:, np.clip(rows, 0, picture.shape[1] - 1), np.clip(columns, 0, picture.shape[2] - 1)]
    light = wall.brightness * (DISPLAY_LIGHT if poster.glass and weather.lamps else 1.0)
    canvas.paste(pixels.rows, pixels.columns, inside, colors * np.float32(light), segment_id, pixels.depth)


def _picture(poster: Poster, length: float, height: float, scale: float, weather: Weather) -> np.ndarray:
    """(3, h, w) float32: what a poster shows, `scale` pixels a metre."""
    canvas = Canvas.blank(Size(int(height * scale) + 1, int(length * scale) + 1))
    canvas.image[:] = np.array(poster.backdrop, np.float32)[:, None, None]
    unit = scale * poster.magnification  # pixels a metre of what is shown
    horizon = height * scale - (poster.foot + EYE_HEIGHT) * unit
    indoors = replace(weather, sun=0.0, lamps=False)
    for member in sorted(poster.members, key=lambda member: -member.z):
        view = View(canvas.size, unit * member.z, length * scale / 2, horizon, EYE_HEIGHT)
        paint_thing(Brush(canvas, Place(view, member.x, member.z, member.heading), INSIDE, indoors), member)
    image = canvas.image
    image += (np.array(GLASS, np.float32)[:, None, None] - image) * np.float32(poster.glass)
    rim = int(FRAME_WIDTH * scale + 0.5)
    if rim:
        frame = np.array(poster.frame, np.float32)[:, None, None]
        for part in (image[:, :rim], image[:, -rim:], image[:, :, :rim], image[:, :, -rim:]):
            part[:] = frame
    return image


def paint_topiary(canvas: Canvas, place: Place, topiary: Topiary, weather: Weather, segment_id: int) -> None:
    """A bush with the outline of a thing, and in leaves the shades of its parts."""
    view, scale = place.view, place.scale
    x, y = place.pixel((0, 0, 0))
    near = view.focal / (place.z - REACH)
    box = window(x - REACH * near, y - REACH * near, x + REACH * near, y + REACH * near, canvas.size)
    if box is None:
        return
    rows, columns = box
    around = Size(rows.stop - rows.start, columns.stop - columns.start)
    own = Canvas.blank(around)
    shifted = replace(view, size=around, center_x=view.center_x - columns.start, horizon=view.horizon - rows.start)
    indoors = replace(weather, sun=0.0, lamps=False)
    paint_thing(Brush(own, Place(shifted, place.x, place.z, place.heading), INSIDE, indoors), topiary.model)
    _shade_ground(canvas, place, topiary)
    up = (np.arange(rows.stop, rows.start, -1, dtype=np.float32) - np.float32(y)) / np.float32(scale)
    across = (np.arange(columns.start, columns.stop, dtype=np.float32) - np.float32(x)) / np.float32(scale)
    leaves = smooth_noise()[wrap(up * 28 + topiary.seed)][:, wrap(across * 28)] * np.float32(0.6)
    leaves += grain()[wrap(up * 14)][:, wrap(across * 14 + topiary.seed)] * np.float32(0.4)
    parts = (own.image[0] + own.image[1] + own.image[2]) * np.float32(1 / 765)
    light = np.float32(0.3) + leaves * np.float32(0.75) + parts * np.float32(0.55)
    colors = np.array(topiary.color, np.float32)[:, None, None] * light
    canvas.paste(rows, columns, own.ids == INSIDE, colors, segment_id, place.z)


def _shade_ground(canvas: Canvas, place: Place, topiary: Topiary) -> None:
    radius = (2.0 if isinstance(topiary.model, Car) else 0.5) * place.scale
    shadow = ellipse(place.pixel((0, 0, 0)), radius, radius * 0.25, canvas.size)
    canvas.fill(shadow, SHADOW, opacity=0.45, softness=max(radius * 0.2, 1.0))
