"""Trees and hedges -> canvas: outlines and shades out of noise, so that leaves end raggedly and sky shows through."""

import numpy as np

from tascnet.data.streets.canvas import Canvas, Color, Point, centres, ellipse, grain, polygon, smooth_noise, wrap
from tascnet.data.streets.plan import Hedge, Tree, Weather
from tascnet.data.streets.view import NEAR, View
from tascnet.data.streets.walls import wall_pixels

BARK: Color = (84, 70, 58)
LIT_BARK: Color = (120, 104, 88)


def paint_hedge(canvas: Canvas, view: View, hedge: Hedge, segment_id: int) -> None:
    """A long bush with a ragged top."""
    height = hedge.wall.height
    pixels = wall_pixels(view, hedge.wall, height * 1.2)
    if pixels is None:
        return
    leaves = smooth_noise()[wrap(pixels.up * 28 + hedge.seed), wrap(pixels.along * 28)] * np.float32(0.6)
    leaves += grain()[wrap(pixels.up * 14), wrap(pixels.along * 14 + hedge.seed)] * np.float32(0.4)
    inside = (pixels.up >= 0) & (pixels.up < np.float32(height) * (np.float32(0.85) + leaves * np.float32(0.3)))
    light = np.float32(0.5) + leaves * np.float32(0.7)
    light *= np.float32(0.65) + pixels.up * np.float32(0.35 / height)  # darker towards the ground
    colors = np.array(hedge.color, np.float32)[:, None, None] * light
    canvas.paste(pixels.rows, pixels.columns, inside, colors, segment_id, pixels.depth)


def paint_tree(canvas: Canvas, view: View, tree: Tree, weather: Weather, segment_id: int) -> None:
    """A crown of leaves with gaps, on a trunk."""
    if tree.z < NEAR + 1:
        return
    scale = view.focal / tree.z
    if tree.trunk:
        _paint_trunk(canvas, tree, view.project(tree.x, 0, tree.z), scale, segment_id)
    half = (tree.height - tree.trunk) / 2
    x, y = view.project(tree.x, tree.height - half, tree.z)
    patch = ellipse((x, y), tree.radius * scale * 1.15, half * scale * 1.15, view.size)
    if patch is None:
        return
    across = (centres(patch.columns) - np.float32(x)) / np.float32(scale)  # metres from the middle of the crown
    down = (centres(patch.rows) - np.float32(y)) / np.float32(scale)
    wide, tall = across / np.float32(tree.radius), down / np.float32(half)
    boughs = smooth_noise()[wrap(down * 17 + tree.seed)][:, wrap(across * 17 + tree.seed * 5)]
    leaves = smooth_noise()[wrap(down * 61 + tree.seed)][:, wrap(across * 47)]
    fringe = wide * wide + (tall * tall)[:, None] - boughs * np.float32(1.3) + leaves * np.float32(0.5 + tree.openness)
    light = boughs * np.float32(0.95) + leaves * np.float32(0.76)
    light -= (tall * np.float32(0.28) - np.float32(0.12))[:, None]  # lit from above
    light += wide * np.float32(0.3 * weather.sun_side * weather.sun)
    colors = np.array(tree.color, np.float32)[:, None, None] * light
    canvas.paste(patch.rows, patch.columns, fringe < 0.4, colors, segment_id, tree.z)


def _paint_trunk(canvas: Canvas, tree: Tree, foot: Point, scale: float, segment_id: int) -> None:
    x, y = foot
    width = (0.1 + tree.height * 0.014) * scale
    top = y - (tree.trunk + 0.35 * (tree.height - tree.trunk)) * scale
    shadow = ellipse(foot, tree.radius * 0.6 * scale, tree.radius * 0.14 * scale, canvas.size)
    canvas.fill(shadow, (20, 20, 22), opacity=0.4, softness=max(tree.radius * 0.14 * scale, 1.0))
    bark = ((x - width, y), (x + width, y), (x + width * 0.6, top), (x - width * 0.6, top))
    lit = ((x - width, y), (x - width * 0.2, y), (x - width * 0.1, top), (x - width * 0.6, top))
    canvas.fill_segment(polygon(bark, canvas.size), BARK, segment_id, tree.z)
    canvas.fill(polygon(lit, canvas.size), LIT_BARK, opacity=0.6)
