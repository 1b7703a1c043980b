"""Values of files are read as what they mean, or refused."""

import math
from typing import Any

import pytest

from tascnet.errors import InputError
from tascnet.structures import LabelSpace
from tascnet.values import color, flag, text, whole


@pytest.mark.parametrize("value", [1, 1.0, True, "1", "true", "True", " yes "])
def test_true(value: Any) -> None:
    assert flag(value) is True


@pytest.mark.parametrize("value", [0, 0.0, False, "0", "false", "FALSE", "no"])
def test_false(value: Any) -> None:
    assert flag(value) is False


@pytest.mark.parametrize("value", [None, -1, 2, 0.5, math.nan, "", "maybe", "2", [], {}, [1]])
def test_neither(value: Any) -> None:
    with pytest.raises(ValueError, match="neither 1"):
        flag(value)


@pytest.mark.parametrize(("value", "number"), [(3, 3), (3.0, 3), ("3", 3), (" 007", 7), (-2, -2), ("-2", -2)])
def test_whole_numbers(value: Any, number: int) -> None:
    assert whole(value) == number
    assert type(whole(value)) is int


@pytest.mark.parametrize("value", [1.7, True, None, math.nan, math.inf, "", "1.7", "1e3", "٣", "9" * 5000, 10**30, []])
def test_what_is_no_whole_number(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a whole number") as caught:
        whole(value)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize("value", [[255, 0, 204], (255.0, 0, "204"), "#ff00cc", "FF00CC"])
def test_colors(value: Any) -> None:
    assert color(value) == (255, 0, 204)


@pytest.mark.parametrize("value", [None, [1, 2], [1, 2, 3, 4], [256, 0, 0], [0.5, 0, 0], "red", "#ff00c", "123", {}, 7])
def test_what_is_no_color(value: Any) -> None:
    with pytest.raises(ValueError, match="it is three whole numbers"):
        color(value)


@pytest.mark.parametrize("value", [None, True, [], {}])
def test_what_is_no_text(value: Any) -> None:
    with pytest.raises(ValueError, match="is not text"):
        text(value)


def test_categories_as_tools_write_them() -> None:
    space = LabelSpace.from_list(
        [
            {"id": "1", "name": "road", "isthing": "0", "color": None, "supercategory": None},
            {"id": 2.0, "name": 7, "isthing": "true", "color": "#ff00cc"},
        ]
    )
    assert [(c.id, c.name, c.is_thing, c.supercategory) for c in space.categories] == [
        (1, "road", False, ""),
        (2, "7", True, ""),
    ]
    assert space[2].color == (255, 0, 204)


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ({"isthing": "stuff"}, "'stuff' is neither 1"),
        ({"isthing": None}, "lacks isthing"),
        ({"name": None}, "lacks name"),
        ({"name": False}, "put names into quotes"),
        ({"id": 1.7}, "1.7 is not a whole number"),
        ({"color": "red"}, "the color is 'red'"),
        ({"supercategory": ["a"]}, "is not text"),
    ],
)
def test_categories_that_cannot_be_read(change: dict[str, Any], finding: str) -> None:
    with pytest.raises(InputError, match=finding):
        LabelSpace.from_list([{"id": 1, "name": "road", "isthing": 0} | change])


def test_a_category_that_is_no_object() -> None:
    with pytest.raises(InputError, match="category number 0 is 'road'"):
        LabelSpace.from_list(["road"])  # type: ignore[list-item]


@pytest.mark.parametrize("entry", [{"name": ""}, {"name": None}, {"id": ""}, {"isthing": ""}])
def test_a_category_without_one_of_its_keys(entry: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"lacks {next(iter(entry))}"):
        LabelSpace.from_list([{"id": 1, "name": "road", "isthing": 0} | entry])


@pytest.mark.parametrize("value", [[[1] * 10**6] * 9, "x" * 10**7, {"a": "b" * 10**7}, {i: [] for i in range(10**5)}])
def test_long_values_are_never_shown_whole(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a whole number") as caught:
        whole(value)
    assert len(str(caught.value)) < 100


def test_deep_values_are_shown() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ValueError, match="is not a whole number"):
        whole(deep)
