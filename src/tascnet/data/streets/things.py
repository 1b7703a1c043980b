"""Persons, bicycles and vehicles -> canvas, whichever it is."""

from tascnet.data.streets.brush import Brush
from tascnet.data.streets.people import paint_person
from tascnet.data.streets.plan import Bicycle, Car, Item, Person, Truck
from tascnet.data.streets.vehicles import paint_bicycle, paint_car, paint_truck


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
