"""Persons, bicycles and vehicles -> canvas, whichever it is."""

from tascnet.data.street_scene.brush import Brush
from tascnet.data.street_scene.people import paint_person
from tascnet.data.street_scene.plan import Bicycle, Car, Item, Person, Truck
from tascnet.data.street_scene.vehicles import paint_bicycle, paint_car, paint_truck


def paint_thing(brush: Brush, item: Item) -> None:
    """Paint a thing that moves."""
    match item:
        case Car():
            paint_car(brush, item)
        case Truck():
            paint_truck(brush, item)
        case Person():
            paint_person(brush, item)
        case Bicycle():
            paint_bicycle(brush, item)
