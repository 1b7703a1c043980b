"""Outlines that belong to another picture are refused; those that reach out a little are read."""

import numpy as np
import pytest

from tascnet.data.masks import _area, _clipped, encode_mask
from tascnet.data.problems import DataError
from tascnet.structures import Size

SIZE = Size(20, 30)


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    return [x0, y0, x1, y0, x1, y1, x0, y1]


@pytest.mark.parametrize(
    "polygons",
    [
        [box(-1, -1, 31, 21)],
        [box(25, 5, 34, 15)],
        [box(5, 5, 10, 10), box(-3, 5, -1, 7)],
        [box(5, 5, 6.5, 5.5)],
        [[5, 5, 10, 5, 10, 10, 5, 10][::-1]],
    ],
)
def test_outlines_that_are_read(polygons: list) -> None:
    encode_mask(polygons, SIZE, "here")


@pytest.mark.parametrize(
    ("polygons", "finding"),
    [
        ([box(26, 5, 35, 15)], "here: 56% of the outline lie outside"),
        ([box(31, 5, 40, 15)], "100% of the outline lie outside"),
        ([box(5, -15, 10, 4)], "79% of the outline lie outside"),
        ([box(5, 5, 6, 6), box(-20, 5, -5, 15)], "99% of the outline lie outside"),
        ([[1, 1, 5, 5, 9, 9]], "encloses no area"),
        ([[3, 3, 3, 3, 3, 3]], "encloses no area"),
    ],
)
def test_outlines_that_are_refused(polygons: list, finding: str) -> None:
    with pytest.raises(DataError, match=finding):
        encode_mask(polygons, SIZE, "here")


def test_the_clipped_area_is_that_of_the_picture() -> None:
    """Against counting of small squares whose centre is inside, by the even-odd rule."""
    generator = np.random.default_rng(0)
    step = 0.25
    x, y = np.meshgrid(np.arange(step / 2, 30, step), np.arange(step / 2, 20, step))
    for _ in range(20):
        angles = np.sort(generator.uniform(0, 2 * np.pi, 9))  # of a star: no side crosses another
        radius = generator.uniform(5, 25, 9)
        corners = np.stack([18 + radius * np.cos(angles), 6 + radius * np.sin(angles)], axis=1)
        inside = np.zeros(x.shape, bool)
        for (x0, y0), (x1, y1) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / (y1 - y0) * (x1 - x0))
        assert _area(_clipped(corners, SIZE)) == pytest.approx(inside.sum() * step**2, abs=4)


@pytest.mark.parametrize("number", [10**400, -(10**400), float("inf"), 10**4000])
def test_numbers_that_are_no_floats(number: float) -> None:
    with pytest.raises(DataError, match=r"a polygon is a list x, y, x, y, .* three corners or more"):
        encode_mask([[number, 5, 10, 5, 10, 10, 5, 10]], SIZE, "here")
