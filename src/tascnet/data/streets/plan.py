"""Parts of a street: camera, road, weather, and the items that stand in it. Metres, no pixels.

`x` is to the right of the camera, `z` ahead of it, heights are above the ground. A *lateral* position is measured from
the middle of the road, which may bend: `Road.x` gives its position.
"""

from dataclasses import dataclass, field
from math import sqrt

from tascnet.data.streets.canvas import Color

Vector = tuple[float, float]
"""x (right) and z (ahead) on the ground; of a footprint, across and along the road."""


@dataclass(frozen=True)
class Camera:
    """Where the pictures are taken from.

    Attributes:
        height: metres above the ground.
        focal: focal length as a share of the image's width (of a 2 : 1 image of the same area).
        center_x: where straight ahead is, as a share of the width.
        horizon: where the horizon is, as a share of the height.
    """

    height: float
    focal: float
    center_x: float
    horizon: float


@dataclass(frozen=True)
class Road:
    """The ground: a road with pavements along it, perhaps a junction.

    Attributes:
        camera_lateral: metres the camera is right of the middle.
        half_width: metres from the middle to the kerb.
        parking: metres of parking lane left and right, 0 where there is none.
        pavement: metres from kerb to building line, left and right.
        verge: metres of grass between kerb and pavement, left and right.
        bend: metres sideways per square metre ahead.
        junction: depths between which a street crosses, or None.
        crossing: depth of a zebra crossing, or None.
        lanes: True where the middle line is marked.
        surface, paving, ground: colours of road, pavement, and what is behind the building line.
        slab: side of a paving slab in metres.
    """

    camera_lateral: float
    half_width: float
    parking: tuple[float, float]
    pavement: tuple[float, float]
    verge: tuple[float, float]
    bend: float
    junction: tuple[float, float] | None
    crossing: float | None
    lanes: bool
    surface: Color
    paving: Color
    ground: Color
    slab: float

    def x(self, lateral: float, z: float) -> float:
        """Metres right of the camera."""
        return lateral - self.camera_lateral + self.bend * z * z

    def heading(self, z: float) -> Vector:
        """Unit vector (x, z) along the road."""
        slope = 2 * self.bend * z
        length = sqrt(1 + slope * slope)
        return slope / length, 1 / length

    def building_line(self, side: int) -> float:
        """Metres from the middle to the buildings on the left (side -1) or right (+1)."""
        return self.half_width + self.verge_of(side) + self.pavement[(side + 1) // 2]

    def verge_of(self, side: int) -> float:
        """Metres of grass between kerb and pavement on the left (-1) or right (+1)."""
        return self.verge[(side + 1) // 2]


@dataclass
class Plot:
    """The ground of a street, so that no two things stand in the same place."""

    road: Road
    _taken: list[tuple[float, float, float, float]] = field(default_factory=list)

    def claim(self, lateral: float, z: float, half_extents: Vector) -> bool:
        """Take a rectangle of ground (half extents: across, along); False where some of it is taken already."""
        across, along = half_extents
        for other_lateral, other_z, other_across, other_along in self._taken:
            if abs(lateral - other_lateral) < across + other_across and abs(z - other_z) < along + other_along:
                return False
        self._taken.append((lateral, z, across, along))
        return True

    def in_junction(self, z: float, margin: float) -> bool:
        """True within so many metres of the crossing street."""
        junction = self.road.junction
        return junction is not None and junction[0] - margin < z < junction[1] + margin

    def on_crossing(self, z: float, margin: float) -> bool:
        """True within so many metres of the middle of the zebra crossing."""
        return self.road.crossing is not None and abs(z - self.road.crossing) < margin


@dataclass(frozen=True)
class Weather:
    """Light and air.

    Attributes:
        name: sun, overcast, dusk, fog, rain or night.
        zenith, haze: sky colour above, and at the horizon; the air between has the colour of haze.
        light: what a white surface looks like.
        visibility: metres at which half the contrast is left.
        sun: strength of cast shadows, 0..1.
        sun_side: -1 where the sun is on the left, +1 where it is on the right.
        clouds: 0..1.
        lamps: True where windows, lamps and head lights are lit.
        wet: 0..1, how much the road mirrors.
    """

    name: str
    zenith: Color
    haze: Color
    light: Color
    visibility: float
    sun_side: int
    sun: float = 0.0
    clouds: float = 0.0
    lamps: bool = False
    wet: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Item:
    """Something that stands on the ground at (x, z), facing along `heading`."""

    x: float
    z: float
    heading: Vector = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class Wall:
    """A vertical rectangle between two points on the ground.

    Attributes:
        start, end: (x, z) of the two lower corners.
        height: metres above the ground.
        base: metres above the ground below which it is hidden anyway.
        brightness: how much light falls on it, about 1.
    """

    start: Vector
    end: Vector
    height: float
    brightness: float
    base: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Facade:
    """Appearance of a wall of a building.

    Attributes:
        pattern: plaster, brick, panel or glass.
        color, trim, accent: wall; frames and ledges; door and shop sign.
        window_pitch: metres from window to window, across and up.
        window_share: share of the pitch that is glass, across and up.
        ground_floor: metres; with `shop`, a shop window.
        shop: True for shop windows and a sign.
        seed: chooses which windows are dark, curtained or lit.
    """

    pattern: str
    color: Color
    trim: Color
    accent: Color
    window_pitch: tuple[float, float]
    window_share: tuple[float, float]
    ground_floor: float
    shop: bool
    seed: int


@dataclass(frozen=True, kw_only=True)
class Roof:
    """A pitched roof over a building along the street.

    Attributes:
        corners: on the ground below near eave, far eave, far end of the ridge, near end of the ridge, near back eave.
        eaves, ridge: metres above the ground.
    """

    corners: tuple[Vector, Vector, Vector, Vector, Vector]
    eaves: float
    ridge: float
    color: Color


@dataclass(frozen=True, kw_only=True)
class Building(Item):
    """Walls, and perhaps a pitched roof."""

    walls: tuple[Wall, ...]
    facade: Facade
    roof: Roof | None = None


@dataclass(frozen=True, kw_only=True)
class Hedge(Item):
    """A long bush."""

    wall: Wall
    color: Color
    seed: int


@dataclass(frozen=True, kw_only=True)
class Tree(Item):
    """A tree; with `trunk` 0 a bush."""

    height: float
    radius: float
    trunk: float
    color: Color
    openness: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Lamp(Item):
    """A street lamp, VOID in the annotation; its arm points along `arm` (-1 left, +1 right)."""

    height: float
    arm: int


@dataclass(frozen=True, kw_only=True)
class Furniture(Item):
    """A bin or cabinet: of no category, VOID in the annotation."""

    width: float
    height: float
    color: Color


@dataclass(frozen=True, kw_only=True)
class Sign(Item):
    """A traffic sign on a pole.

    Attributes:
        shape: disc, triangle, rectangle or diamond.
        size: metres across.
        height: metres to its middle.
        variant: 0..3, what is painted on it.
    """

    shape: str
    size: float
    height: float
    variant: int


@dataclass(frozen=True, kw_only=True)
class Car(Item):
    """A car: sedan, hatchback, suv or van."""

    body: str
    color: Color


@dataclass(frozen=True, kw_only=True)
class Truck(Item):
    """A truck: cab and cargo box."""

    length: float
    height: float
    color: Color
    cargo: Color
    stripe: Color


@dataclass(frozen=True, kw_only=True)
class Person(Item):
    """A person: `stride` metres between the feet; `pose` walk, stand or ride; `dress` trousers, skirt or coat."""

    height: float
    pose: str
    stride: float
    dress: str
    skin: Color
    hair: Color
    top: Color
    bottom: Color
    bag: Color | None
    umbrella: Color | None


@dataclass(frozen=True, kw_only=True)
class Bicycle(Item):
    """A bicycle."""

    color: Color


@dataclass(frozen=True, kw_only=True)
class Crowd(Item):
    """Many persons, or many bicycles, annotated as one region."""

    members: tuple[Item, ...]


@dataclass(frozen=True, kw_only=True)
class Poster(Item):
    """A flat picture of things on a wall: a poster, or dummies behind a shop window. Part of the building.

    Attributes:
        wall: the rectangle that it covers, between `base` and `height`.
        members: what it shows; x metres right of the rectangle's middle, z metres from the eye that sees them.
        foot: metres from the lower edge to the ground they stand on, before magnification.
        backdrop, frame: colours behind them and around them.
        magnification: how many times larger than life they are.
        stretch: how many times wider than that, where it is seen along the wall.
        glass: 0..1, how much of the glass before them is seen.
    """

    wall: Wall
    members: tuple[Item, ...]
    foot: float
    backdrop: Color
    frame: Color
    magnification: float = 1.0
    stretch: float = 1.0
    glass: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Topiary(Item):
    """A bush cut into the shape of a thing."""

    model: Item
    color: Color
    seed: int


@dataclass(frozen=True, kw_only=True)
class Street:
    """All there is in one picture.

    Attributes:
        items: in any order.
        mirrored: True for traffic on the left: the picture is flipped in the end.
        bonnet: height of the own car's bonnet as a share of the image's height, 0 for none; VOID.
        border: width of an unlabelled border as a share of the image's height, 0 for none; VOID.
        exposure: brightness of the camera, about 1.
        noise: amplitude of the sensor noise, 0-255.
        seed: of clouds and textures, 0..255.
    """

    camera: Camera
    road: Road
    weather: Weather
    items: tuple[Item, ...]
    mirrored: bool
    bonnet: float
    bonnet_color: Color
    border: float
    exposure: float
    noise: float
    seed: int
