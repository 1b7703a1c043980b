"""Random numbers -> a street: its camera, road and weather, and what stands in it."""

from functools import partial
from typing import Literal

import numpy as np

from tascnet.data.streets.canvas import Color, shade
from tascnet.data.streets.decoys import build_kiosks, hang_posters, plant_topiary
from tascnet.data.streets.dice import CAR_COLORS, Dice
from tascnet.data.streets.occupants import furnish, populate
from tascnet.data.streets.plan import Camera, Item, Plot, Road, Street, Weather
from tascnet.data.streets.surroundings import surround
from tascnet.data.streets.throng import throng

Difficulty = Literal["normal", "hard"]
"""Hard streets add crowds of overlapping things, far things, and decoys: stuff that looks like things."""

WEATHERS = ("sun",) * 6 + ("overcast",) * 5 + ("dusk",) * 2 + ("fog",) * 2 + ("rain",) * 2 + ("night",) * 2
"""Every weather, repeated by its frequency."""

CAR_LANE = 3.2  # metres
PARKING_LANE = 2.2  # metres


def lay_out_street(generator: np.random.Generator, difficulty: Difficulty = "normal") -> Street:
    """A random street; it draws the same numbers whatever the picture's size."""
    dice = Dice(generator)
    weather = _weather(dice)
    road = _road(dice)
    plot = Plot(road)
    return Street(
        camera=Camera(
            height=dice.between(1.5, 2.4),
            focal=dice.between(1.05, 1.4),
            center_x=dice.between(0.4, 0.6),
            horizon=dice.between(0.38, 0.5),
        ),
        road=road,
        weather=weather,
        items=tuple(_fill(dice, plot, weather) if difficulty == "normal" else _fill_densely(dice, plot, weather)),
        mirrored=dice.chance(0.5),
        bonnet=dice.between(0.05, 0.12) if dice.chance(0.5) else 0.0,
        bonnet_color=dice.color(CAR_COLORS),
        border=dice.between(0.008, 0.02) if dice.chance(0.35) else 0.0,
        exposure=dice.between(0.95, 1.2),
        noise=dice.between(2.0, 11.0),
        seed=dice.integer(0, 255),
    )


def _fill(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    return [*surround(dice, plot.road, weather), *furnish(dice, plot), *populate(dice, plot, weather)]


def _fill_densely(dice: Dice, plot: Plot, weather: Weather) -> list[Item]:
    """The throng takes its ground first; whom the normal street adds must stand in between."""
    return [
        *hang_posters(dice, weather, surround(dice, plot.road, weather)),
        *build_kiosks(dice, plot, weather),
        *plant_topiary(dice, plot, weather),
        *furnish(dice, plot),
        *throng(dice, plot, weather),
        *populate(dice, plot, weather),
    ]


def _weather(dice: Dice) -> Weather:
    name = dice.choice(WEATHERS)
    gray = dice.between(175, 228)
    cloudy: Color = (gray, gray + dice.between(-2, 4), gray + dice.between(0, 10))
    some = partial(Weather, name=name, sun_side=dice.side())
    if name == "sun":
        zenith, haze = dice.vary((78, 132, 204), 16), dice.vary((196, 214, 232), 10)
        sun, clouds = dice.between(0.35, 0.55), dice.between(0, 0.9)
        return some(zenith=zenith, haze=haze, light=(1.18, 1.13, 1.03), visibility=260, sun=sun, clouds=clouds)
    if name == "overcast":
        clouds = dice.between(0.1, 0.7)
        return some(zenith=dice.vary(cloudy, 10), haze=cloudy, light=(1.04, 1.06, 1.08), visibility=200, clouds=clouds)
    if name == "dusk":
        zenith, haze = dice.vary((96, 92, 142), 18), dice.vary((236, 162, 108), 18)
        clouds = dice.between(0.2, 0.9)
        return some(zenith=zenith, haze=haze, light=(0.86, 0.72, 0.66), visibility=220, clouds=clouds, lamps=True)
    if name == "fog":
        visibility, lamps = dice.between(34, 70), dice.chance(0.5)
        return some(zenith=cloudy, haze=cloudy, light=(0.95, 0.96, 0.97), visibility=visibility, lamps=lamps)
    if name == "rain":
        zenith, visibility = shade(cloudy, dice.between(0.66, 0.85)), dice.between(90, 180)
        wet, lamps = dice.between(0.3, 0.6), dice.chance(0.6)
        haze, light = shade(zenith, 1.08), (0.8, 0.83, 0.88)
        return some(zenith=zenith, haze=haze, light=light, visibility=visibility, clouds=0.8, lamps=lamps, wet=wet)
    zenith, haze = dice.vary((20, 24, 44), 8), dice.vary((52, 50, 66), 10)
    clouds, wet = dice.between(0, 0.8), dice.choice((0.0, 0.4))
    return some(zenith=zenith, haze=haze, light=(0.48, 0.48, 0.56), visibility=260, clouds=clouds, lamps=True, wet=wet)


def _road(dice: Dice) -> Road:
    wide = dice.chance(0.25)
    parking = tuple(PARKING_LANE if dice.chance(0.6) else 0.0 for _ in range(2))
    # where cars park on one side only, the middle line stays in the middle: the other lane is just wider
    half_width = CAR_LANE * (2 if wide else 1) + dice.between(0, 0.5) + max(parking)
    gray, paving, junction = dice.between(78, 124), dice.between(120, 178), dice.between(14, 34)
    return Road(
        camera_lateral=CAR_LANE * (0.5 if not wide else dice.choice((0.5, 1.5))) + dice.between(-0.5, 0.4),
        half_width=half_width,
        parking=(parking[0], parking[1]),
        pavement=(dice.between(3.2, 6.0), dice.between(3.2, 6.0)),
        verge=(_verge(dice), _verge(dice)),
        bend=dice.between(-0.0018, 0.0018) if dice.chance(0.65) else 0.0,
        junction=(junction, junction + dice.between(8, 13)) if dice.chance(0.4) else None,
        crossing=junction - 4.5 if dice.chance(0.5) else None,
        lanes=dice.chance(0.8),
        surface=dice.vary((gray, gray, gray), 6),
        paving=dice.vary((paving, paving - 4, paving - 10), 14),
        ground=dice.choice(((96, 116, 58), (84, 100, 56), (132, 122, 104), (140, 138, 132))),
        slab=dice.choice((0.4, 0.6, 1.0)),
    )


def _verge(dice: Dice) -> float:
    return dice.between(1.2, 2.4) if dice.chance(0.2) else 0.0
