"""A street -> canvas, from far to near; then air, what the camera hides, and its exposure."""

import numpy as np

from tascnet.data.streets.brush import Brush
from tascnet.data.streets.canvas import Canvas, centres, ellipse, grain, shade, smooth_noise, wrap
from tascnet.data.streets.categories import (
    BICYCLE,
    BUILDING,
    CAR,
    PERSON,
    ROAD,
    SKY,
    STREETS,
    TRAFFIC_SIGN,
    TRUCK,
    VEGETATION,
)
from tascnet.data.streets.greenery import paint_hedge, paint_tree
from tascnet.data.streets.ground import paint_ground, paint_sky
from tascnet.data.streets.lookalikes import paint_poster, paint_topiary
from tascnet.data.streets.plan import (
    Bicycle,
    Building,
    Car,
    Crowd,
    Furniture,
    Hedge,
    Item,
    Lamp,
    Person,
    Poster,
    Sign,
    Street,
    Topiary,
    Tree,
    Truck,
)
from tascnet.data.streets.roadside import paint_furniture, paint_lamp, paint_sign, paint_sign_pole
from tascnet.data.streets.things import paint_thing
from tascnet.data.streets.view import NEAR, Place, View
from tascnet.data.streets.walls import paint_building
from tascnet.structures import VOID, Segment

FIRST_THING = 100
"""Segment ids from here on are things; stuff segments have their category's id."""

REACH = 9.0
"""Metres from an object's middle within which all of it is, a lamp's arm and a shadow included."""

_CATEGORY_OF: dict[type[Item], int] = {
    Person: PERSON,
    Car: CAR,
    Truck: TRUCK,
    Bicycle: BICYCLE,
    Sign: TRAFFIC_SIGN,
}


def paint_street(canvas: Canvas, street: Street) -> list[Segment]:
    """Paint a street as the camera sees it, before mirroring and exposure.

    Returns:
        All segments there may be, hidden ones too, their areas not counted yet.
    """
    view = View.of(street.camera, canvas.size)
    paint_sky(canvas, view, street, SKY)
    paint_ground(canvas, view, street)
    segments = [Segment(id=category.id, category_id=category.id, area=0) for category in STREETS.stuff]
    for item in sorted(street.items, key=lambda item: -item.z):
        segment_id = VOID
        category = _CATEGORY_OF.get(type(item.members[0] if isinstance(item, Crowd) else item))
        if category is not None:
            segment_id = FIRST_THING + len(segments)
            segments.append(Segment(segment_id, category, area=0, is_crowd=isinstance(item, Crowd)))
        _paint_item(canvas, view, street, item, segment_id)
    _wet_the_road(canvas, view, street)
    _paint_air(canvas, street)
    _hide_unlabelled(canvas, street)
    return segments


def _paint_item(canvas: Canvas, view: View, street: Street, item: Item, segment_id: int) -> None:
    """Paint whatever it is: a thing as segment `segment_id`, stuff as its category."""
    weather = street.weather
    match item:
        case Building():
            paint_building(canvas, view, item, weather, BUILDING)
            return
        case Poster():
            paint_poster(canvas, view, item, weather, BUILDING)
            return
        case Hedge():
            paint_hedge(canvas, view, item, VEGETATION)
            return
        case Tree():
            paint_tree(canvas, view, item, weather, VEGETATION)
            return
        case Crowd():
            for member in sorted(item.members, key=lambda member: -member.z):
                _paint_item(canvas, view, street, member, segment_id)
            return
    place = Place(view, item.x, item.z, item.heading) if item.z > NEAR else None
    if place is None or not place.may_be_seen(REACH):
        return
    brush = Brush(canvas, place, segment_id, weather)
    match item:
        case Topiary():
            paint_topiary(canvas, place, item, weather, VEGETATION)
        case Lamp():
            paint_lamp(brush, item)  # of no category, like the poles of signs: stays VOID
        case Sign():
            paint_sign_pole(Brush(canvas, place, VOID, weather), item)
            paint_sign(brush, item)
        case Furniture():
            paint_furniture(brush, item)  # of no category: stays VOID
        case _:
            paint_thing(brush, item)


def _wet_the_road(canvas: Canvas, view: View, street: Street) -> None:
    """Let a wet road mirror what is above the horizon: the more the farther, where one looks along it."""
    top, height = view.first_ground_row, view.size.height
    if not street.weather.wet or top in (0, height):
        return
    below = centres(slice(0, height - top))
    ripple = (grain()[wrap(below * 16), street.seed] - np.float32(0.5)) * below * np.float32(0.4)
    rows = np.clip(top - 1 - (below + ripple).astype(np.int32), 0, top - 1)
    puddles = smooth_noise()[wrap(below * 3)][:, wrap(centres(slice(0, view.size.width)) * np.float32(0.4))]
    share = np.float32(street.weather.wet) * (1 - below / below[-1])[:, None] * (np.float32(0.4) + puddles)
    share *= canvas.ids[top:] == ROAD
    ground = canvas.image[:, top:]
    ground += (canvas.image[:, rows] * np.float32(0.8) - ground) * share


def _paint_air(canvas: Canvas, street: Street) -> None:
    """The colour of daylight, and haze by distance."""
    weather, image = street.weather, canvas.image
    image *= np.array(weather.light, np.float32)[:, None, None]
    np.minimum(image, np.float32(255), out=image)
    share = canvas.depth * np.float32(1 / weather.visibility)
    haze = np.array(weather.haze, np.float32)[:, None, None]
    image -= haze
    image /= 1 + share * share  # half of the contrast is left at the distance of visibility
    image += haze


def _hide_unlabelled(canvas: Canvas, street: Street) -> None:
    """The own car's bonnet, and a border without annotation."""
    height, width = canvas.size
    rise = street.bonnet * height
    if rise:
        for inset, brightness in ((0.0, 0.35), (0.12, 0.55), (0.6, 0.45)):
            center = width * 0.5, height + rise * (0.6 + inset)
            color = shade(street.bonnet_color, brightness * street.weather.light[1])
            canvas.fill_segment(ellipse(center, width * 0.62, rise * 1.6, canvas.size), color, VOID, 0.0)
    border = int(street.border * height + 0.5)
    if border:
        inner = canvas.ids[border:-border, border:-border].copy()
        canvas.ids[:] = VOID
        canvas.ids[border:-border, border:-border] = inner


def expose(canvas: Canvas, street: Street, generator: np.random.Generator) -> np.ndarray:
    """(3, H, W) uint8: what a camera makes of the canvas, with darker corners and noise."""
    height, width = canvas.size
    across = (centres(slice(0, width)) - np.float32(width / 2)) / np.float32(width)
    down = (centres(slice(0, height)) - np.float32(height / 2)) / np.float32(height)
    gain = np.float32(street.exposure) * (1 - np.float32(0.45) * ((down * down)[:, None] + across * across))
    image = canvas.image * gain
    noise = generator.integers(0, 256, (3, height, width), dtype=np.uint8)
    image += noise * np.float32(street.noise / 128)
    image += np.float32(0.5 - street.noise)
    np.clip(image, 0, 255, out=image)
    return image.astype(np.uint8)
