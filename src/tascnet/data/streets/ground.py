"""Sky and ground -> canvas: what is there before anything stands in the street.

The ground is painted through its own coordinates: each pixel's place in metres decides its material, and noise its
shade. So textures lie in perspective, and do not depend on the picture's size.
"""

import numpy as np

from tascnet.data.streets.canvas import Canvas, centres, grain, mix, shade, smooth_noise, wrap
from tascnet.data.streets.categories import PAVEMENT, ROAD, VEGETATION
from tascnet.data.streets.plan import Road, Street, Weather
from tascnet.data.streets.view import View

FARTHEST = 600.0
"""Metres; the ground beyond is as hazy as it gets."""

GUTTER_WIDTH = 0.3  # metres
KERB_WIDTH = 0.18

# materials of the ground, in the order of the palette
ASPHALT, PATCHED, MARKING, GUTTER, KERB, PAVING, JOINT, GRASS, BEHIND = range(9)


def paint_sky(canvas: Canvas, view: View, street: Street, segment_id: int) -> None:
    """Everything above the horizon: a gradient and clouds."""
    bottom = view.first_ground_row
    weather = street.weather
    elevation = (np.float32(view.horizon) - centres(slice(0, bottom))) / np.float32(view.focal)
    columns = (centres(slice(0, view.size.width)) - np.float32(view.center_x)) / np.float32(view.focal)
    haze, zenith = np.array(weather.haze, np.float32), np.array(weather.zenith, np.float32)
    share = np.clip(elevation * np.float32(2.6), 0, 1)[:, None]
    sky = (haze + (zenith - haze) * share).T[:, :, None]  # (3, h, 1)

    noise = smooth_noise(16)[wrap(elevation * 420 + street.seed)][:, wrap(columns * 210 + street.seed * 3)]
    cover = np.clip((noise - np.float32(0.75 - 0.45 * weather.clouds)) * np.float32(2.2), 0, 0.85)
    cover *= np.clip(elevation * 9, 0, 1)[:, None]
    bright = (252, 250, 250) if weather.sun else shade(mix(weather.haze, weather.zenith, 0.5), 0.92)
    cloud = np.array(bright, np.float32)[:, None, None]
    # the sky is the light itself: undo what daylight will do to everything painted
    light = np.array(weather.light, np.float32)[:, None, None]
    canvas.image[:, :bottom] = (sky / light) + ((cloud - sky) / light) * cover
    canvas.ids[:bottom] = segment_id


def paint_ground(canvas: Canvas, view: View, street: Street) -> None:
    """Everything below the horizon: road, markings, kerbs, pavements, grass."""
    road = street.road
    top = view.first_ground_row
    rows, columns = centres(slice(top, view.size.height)), centres(slice(0, view.size.width))
    z = np.minimum(np.float32(view.focal * view.height) / (rows - np.float32(view.horizon)), np.float32(FARTHEST))
    middle = np.float32(road.camera_lateral) - np.float32(road.bend) * z * z
    across = (columns - np.float32(view.center_x)) / np.float32(view.focal)
    lateral = across * z[:, None] + middle[:, None]  # (h, W) metres right of the middle of the road
    material = _material(lateral, z[:, None], road)
    palette, ids = _palette(road)
    canvas.image[:, top:] = palette[:, material] * _brightness(lateral, z[:, None], street)
    canvas.ids[top:] = ids[material]
    canvas.depth[top:] = z[:, None]


def _palette(road: Road) -> tuple[np.ndarray, np.ndarray]:
    """(3, 9) float32 colours and (9,) int32 segment ids of the materials."""
    behind = VEGETATION if road.ground[1] > road.ground[0] else PAVEMENT
    materials = (
        (road.surface, ROAD),
        (shade(road.surface, 0.86), ROAD),
        ((214, 214, 206), ROAD),
        (shade(road.surface, 0.82), ROAD),
        ((168, 164, 158), PAVEMENT),
        (road.paving, PAVEMENT),
        (shade(road.paving, 0.8), PAVEMENT),
        ((92, 116, 58), VEGETATION),
        (road.ground, behind),
    )
    colors = np.array([color for color, _ in materials], np.float32).T.copy()
    return colors, np.array([segment_id for _, segment_id in materials], np.int32)


def _material(lateral: np.ndarray, z: np.ndarray, road: Road) -> np.ndarray:
    """(h, W) uint8: what the ground is made of. `lateral` is (h, W), `z` is (h, 1)."""
    right = lateral > 0
    beyond = np.abs(lateral) - np.float32(road.half_width)  # metres behind the kerb
    verge = np.array(road.verge, np.float32)[right.view(np.uint8)]
    line = np.array([road.verge[i] + road.pavement[i] for i in range(2)], np.float32)[right.view(np.uint8)]

    per_metre = np.float32(1 / road.slab)
    along, aside = z * per_metre, beyond * per_metre
    joint = ((along - np.floor(along) < 0.08) | (aside - np.floor(aside) < 0.08)) & (z < 14)
    material = np.where(joint, np.uint8(JOINT), np.uint8(PAVING))
    np.copyto(material, np.uint8(GRASS), where=beyond < verge)
    np.copyto(material, np.uint8(BEHIND), where=beyond > line)
    np.copyto(material, np.uint8(KERB), where=beyond < KERB_WIDTH)
    np.copyto(material, np.uint8(GUTTER), where=beyond < 0)
    on_road = beyond < -GUTTER_WIDTH
    np.copyto(material, np.uint8(ASPHALT), where=on_road)
    mended = (lateral > -1.2) & (lateral < 0.4) & (z - np.floor(z / 40) * 40 > 31)
    np.copyto(material, np.uint8(PATCHED), where=on_road & mended)
    np.copyto(material, np.uint8(MARKING), where=on_road & _markings(lateral, z, road))
    if road.junction:
        material[((z > road.junction[0]) & (z < road.junction[1]))[:, 0]] = ASPHALT
    return material


def _markings(lateral: np.ndarray, z: np.ndarray, road: Road) -> np.ndarray:
    """(h, W) bool: where the road is painted white."""
    painted = np.zeros(lateral.shape, bool)
    edge = np.abs(lateral)
    if road.lanes:
        dashes = z - np.floor(z / 9) * 9 < 4
        painted |= (edge < 0.08) & dashes
        if road.half_width > 6.4:
            painted |= (np.abs(edge - np.float32(3.2)) < 0.07) & dashes
    for side, width in zip((-1, 1), road.parking, strict=True):
        if width:
            painted |= np.abs(lateral - np.float32(side * (road.half_width - width))) < 0.06
    if road.crossing:
        stripes = lateral - np.floor(lateral) < 0.5
        painted |= (np.abs(z - np.float32(road.crossing)) < 1.7) & stripes
        painted |= (np.abs(z - np.float32(road.crossing - 3)) < 0.2) & (lateral > 0)  # stop line
    return painted


def _brightness(lateral: np.ndarray, z: np.ndarray, street: Street) -> np.ndarray:
    """(h, W) factors about 1: grain, stains, shadows of buildings, own head lights."""
    weather, seed = street.weather, street.seed
    detail = np.float32(0.5) / (1 + z * np.float32(0.12))  # far details are too small to be visible
    fine = grain()[wrap(z * 24 + seed), wrap(lateral * 24)]
    stains = smooth_noise()[wrap(z * 7), wrap(lateral * 7 + seed)]
    light = np.float32(0.79) + (fine - np.float32(0.5)) * detail + stains * np.float32(0.42)
    if weather.sun:
        light *= 1 - np.float32(weather.sun) * _building_shadow(lateral, z, street.road, weather)
    if weather.name == "night":
        offset = np.abs(lateral - np.float32(street.road.camera_lateral))
        beam = np.clip(1 - offset / (2 + z * np.float32(0.22)), 0, 1)
        light *= 1 + beam * np.clip(np.float32(2.2) - z * np.float32(0.07), 0, 2)
    return light


def _building_shadow(lateral: np.ndarray, z: np.ndarray, road: Road, weather: Weather) -> np.ndarray:
    """(h, W) 0..1: shade of the buildings on the sun's side, its edge stepped like their heights."""
    step = np.floor(z / 13) * 7
    reach = np.float32(-0.3 * road.half_width) + (step - np.floor(step / 4) * 4) * np.float32(1.4)
    return np.clip((lateral * weather.sun_side - reach) * 4, 0, 1)
