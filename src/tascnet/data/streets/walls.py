"""Walls and buildings -> canvas.

A wall is painted through its own coordinates, metres along it and above the ground, like the ground (`ground`).
"""

from typing import NamedTuple

import numpy as np

from tascnet.data.streets.brush import LAMP_LIGHT
from tascnet.data.streets.canvas import Canvas, centres, grain, mix, polygon, shade, smooth_noise, window, wrap
from tascnet.data.streets.plan import Building, Facade, Roof, Wall, Weather
from tascnet.data.streets.view import View

# materials of a wall, in the order of the palette
WALL, GLASS, REFLECTING, CURTAIN, LIT, FRAME, ACCENT, LEDGE = range(8)


class WallPixels(NamedTuple):
    """The pixels that a wall may cover, and where on the wall they are.

    Attributes:
        rows, columns: bounding box.
        along: (w,) metres from the wall's start.
        up: (h, w) metres above the ground.
        depth: (w,) metres from the camera.
    """

    rows: slice
    columns: slice
    along: np.ndarray
    up: np.ndarray
    depth: np.ndarray


def wall_pixels(view: View, wall: Wall, height: float) -> WallPixels | None:
    """Find the pixels of a wall of that height; None where none is in the picture."""
    (x0, z0), (x1, z1) = wall.start, wall.end
    start, end = view.project(x0, wall.base, z0), view.project(x1, wall.base, z1)
    top = min(view.project(x0, height, z0)[1], view.project(x1, height, z1)[1])
    left, right = min(start[0], end[0]), max(start[0], end[0])
    place = window(left, top, right, max(start[1], end[1]), view.size)
    if place is None:
        return None
    rows, columns = place
    xs = centres(columns).astype(np.float64)
    within = np.flatnonzero((xs >= left) & (xs < right))
    if len(within) == 0:
        return None
    columns = slice(columns.start + int(within[0]), columns.start + int(within[-1]) + 1)
    share = (xs[within] - start[0]) / (end[0] - start[0])
    # 1 / depth, and the distance along the wall / depth, are linear in the picture
    inverse = 1 / z0 + share * (1 / z1 - 1 / z0)
    length = float(np.sqrt((x1 - x0) * (x1 - x0) + (z1 - z0) * (z1 - z0)))
    along = (share * (length / z1) / inverse).astype(np.float32)
    depth = (1 / inverse).astype(np.float32)
    elevation = (np.float32(view.horizon) - centres(rows)) / np.float32(view.focal)
    return WallPixels(rows, columns, along, np.float32(view.height) + elevation[:, None] * depth, depth)


def paint_building(canvas: Canvas, view: View, building: Building, weather: Weather, segment_id: int) -> None:
    """Walls with windows, and a pitched roof if it has one."""
    if building.roof is not None:
        _paint_roof(canvas, view, building.roof, building.facade, segment_id)
    for wall in building.walls:
        pixels = wall_pixels(view, wall, wall.height)
        if pixels is not None:
            inside = (pixels.up < np.float32(wall.height)) & (pixels.up >= np.float32(wall.base))
            material = _material(pixels, building.facade, wall.height, weather.lamps)
            light = np.float32(wall.brightness) * _texture(pixels, building.facade)
            colors = _palette(building.facade, weather)[:, material] * light
            canvas.paste(pixels.rows, pixels.columns, inside, colors, segment_id, pixels.depth)


def _paint_roof(canvas: Canvas, view: View, roof: Roof, facade: Facade, segment_id: int) -> None:
    heights = (roof.eaves - 0.2, roof.eaves - 0.2, roof.ridge, roof.ridge, roof.eaves)
    near_eave, far_eave, far_ridge, near_ridge, near_back = (
        view.project(x, height, z) for (x, z), height in zip(roof.corners, heights, strict=True)
    )
    depth = roof.corners[0][1]
    slope, gable = (near_eave, far_eave, far_ridge, near_ridge), (near_eave, near_ridge, near_back)
    canvas.fill_segment(polygon(slope, view.size), roof.color, segment_id, depth)
    canvas.fill_segment(polygon(gable, view.size), shade(facade.color, 0.86), segment_id, depth)


def _palette(facade: Facade, weather: Weather) -> np.ndarray:
    """(3, 8) float32 colours of the materials."""
    sky = mix(weather.haze, weather.zenith, 0.4)
    lit = LAMP_LIGHT if weather.lamps else mix(sky, (120, 120, 120), 0.5)
    colors = (
        facade.color,
        (44, 50, 58),
        mix(sky, (60, 70, 84), 0.45),
        (176, 166, 150),
        lit,
        facade.trim,
        facade.accent,
        shade(facade.trim, 0.9),
    )
    return np.array(colors, np.float32).T.copy()


def _material(pixels: WallPixels, facade: Facade, height: float, lamps: bool) -> np.ndarray:
    """(h, w) uint8: wall, window, frame, door or sign."""
    (pitch_x, pitch_y), (share_x, share_y) = facade.window_pitch, facade.window_share
    columns = pixels.along / np.float32(pitch_x)
    number_x = np.floor(columns)
    aside = np.abs(columns - number_x - np.float32(0.5)) / np.float32(share_x / 2)  # (w,) below 1 in a window
    floors = (pixels.up - np.float32(facade.ground_floor)) / np.float32(pitch_y)
    number_y = np.floor(floors)
    upward = np.abs(floors - number_y - np.float32(0.52)) / np.float32(share_y / 2)  # (h, w) below 1 in a window
    number = (number_x * 37).astype(np.int32) + (number_y * 91).astype(np.int32) + facade.seed * 17
    glass = _window_kinds(lamps)[number & 255]
    frame = (aside > 0.86) | (aside < 0.06) | (upward > 0.9)
    in_window = (upward < 1) & (aside < 1) & (pixels.up > facade.ground_floor) & (pixels.up < height - 0.6)
    material = np.where(in_window, np.where(frame, np.uint8(FRAME), glass), np.uint8(WALL))
    np.copyto(material, np.uint8(LEDGE), where=pixels.up > height - 0.35)
    if facade.shop:
        _add_shop(material, pixels, facade)
    else:
        door = np.abs(pixels.along - np.float32(3 + facade.seed / 64)) < 0.55
        np.copyto(material, np.uint8(ACCENT), where=door & (pixels.up < 2.2))
    return material


def _window_kinds(lamps: bool) -> np.ndarray:
    """(256,) uint8: the glass of window number 0, 1, 2, ..."""
    by_day = np.array((GLASS, GLASS, REFLECTING, CURTAIN), np.uint8)[np.arange(256) & 3]
    return np.where(grain()[0] < 0.35, np.uint8(LIT), by_day) if lamps else by_day


def _add_shop(material: np.ndarray, pixels: WallPixels, facade: Facade) -> None:
    """Shop windows and a sign above them, on the ground floor."""
    front = pixels.along / np.float32(4.2)
    front = front - np.floor(front)
    high = facade.ground_floor
    pane = (front > 0.08) & (front < 0.92) & (pixels.up > 0.5) & (pixels.up < high - 1)
    np.copyto(material, np.uint8(LIT if facade.seed & 1 else GLASS), where=pane)
    np.copyto(material, np.uint8(ACCENT), where=np.abs(pixels.up - np.float32(high - 0.6)) < 0.33)


def _texture(pixels: WallPixels, facade: Facade) -> np.ndarray:
    """(h, w) factors about 1: stains, and bricks, panels or plaster."""
    detail = 1 / (1 + pixels.depth * np.float32(0.05))
    stains = smooth_noise()[wrap(pixels.up * 9 + facade.seed), wrap(pixels.along * 5)]
    light = np.float32(0.86) + stains * np.float32(0.28)
    if facade.pattern == "brick":
        course = np.floor(pixels.up * np.float32(6))
        tone = grain()[wrap(course), wrap(pixels.along * np.float32(2.4) + course * np.float32(0.5))]
        light += (tone - np.float32(0.5)) * (detail * np.float32(0.5))
    elif facade.pattern == "plaster":
        rough = grain()[wrap(pixels.up * 20), wrap(pixels.along * 20)]
        light += (rough - np.float32(0.5)) * (detail * np.float32(0.16))
    else:
        seam = pixels.along / np.float32(1.3)
        light -= (seam - np.floor(seam) < 0.05) * (detail * np.float32(0.25))
    return light
