"""Metres in the street -> pixels in the picture."""

from dataclasses import dataclass
from math import sqrt

from tascnet.data.streets.canvas import Point
from tascnet.data.streets.plan import Camera, Vector
from tascnet.structures import Size

NEAR = 0.5
"""Metres before the camera; what is nearer is not painted."""

Spot = tuple[float, float, float]
"""Right, up, forward, in metres, seen from an object."""


@dataclass(frozen=True)
class View:
    """A pinhole camera that looks straight ahead.

    Attributes:
        size: of the picture.
        focal: focal length in pixels.
        center_x, horizon: pixel position of straight ahead.
        height: of the camera above the ground, in metres.
    """

    size: Size
    focal: float
    center_x: float
    horizon: float
    height: float

    @classmethod
    def of(cls, camera: Camera, size: Size) -> "View":
        """The view of a camera in a picture of that size.

        The focal length follows the picture's area: a wide picture shows more at the sides, a high one more sky.
        """
        focal = camera.focal * sqrt(2.0 * size.height * size.width)
        return cls(size, focal, camera.center_x * size.width, camera.horizon * size.height, camera.height)

    @property
    def first_ground_row(self) -> int:
        """The row below the horizon, at least half a pixel away from it: on it, the ground is infinitely far."""
        return min(max(int(self.horizon + 0.5) + 1, 0), self.size.height)

    def project(self, x: float, y: float, z: float) -> Point:
        """A point x metres right of, y above the ground below, and z ahead of the camera."""
        scale = self.focal / z
        return self.center_x + x * scale, self.horizon + (self.height - y) * scale


class Place:
    """Where an object stands and where it faces: its own metres -> pixels.

    Attributes:
        view: the camera.
        z: metres ahead of the camera.
        scale: pixels a metre at that depth.
    """

    def __init__(self, view: View, x: float, z: float, heading: Vector):
        self.view, self.x, self.z, self.heading = view, x, z, heading
        self.scale = view.focal / z

    def depth(self, spot: Spot) -> float:
        """Metres from the camera to a spot of the object, straight ahead."""
        return self.z - spot[0] * self.heading[0] + spot[2] * self.heading[1]

    def pixel(self, spot: Spot) -> Point:
        """Where a spot of the object is in the picture."""
        right, up, forward = spot
        side, ahead = self.heading
        view, depth = self.view, self.z - right * side + forward * ahead
        scale = view.focal / depth
        across = self.x + right * ahead + forward * side
        return view.center_x + across * scale, view.horizon + (view.height - up) * scale

    def may_be_seen(self, reach: float) -> bool:
        """False where nothing within `reach` metres can be in the picture, or some of it would be behind the camera."""
        if self.z - reach < NEAR:
            return False
        near = self.view.focal / (self.z - reach)
        left, right = (self.x - reach) * near, (self.x + reach) * near
        return self.view.center_x + right > 0 and self.view.center_x + left < self.view.size.width
