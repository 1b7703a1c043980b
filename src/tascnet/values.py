"""Values of files (JSON, YAML) -> flags, whole numbers, texts, colours; whatever is ambiguous is refused.

Python's own conversions accept too much: `bool("0")` is True, `int(1.7)` is 1, `str(None)` is "None".
"""

import re
import reprlib
from typing import Any

_FLAGS = {"0": False, "1": True, "false": False, "true": True, "no": False, "yes": True}
_HEX_COLOR = re.compile(r"#?([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})")
_SHORT = reprlib.Repr()  # looks at the first levels and entries alone, however deep and long a value is
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 3, 60, 60
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")


def shown(value: Any) -> str:
    """A value for an error message, shortened."""
    return _SHORT.repr(value)[:60]


def flag(value: Any) -> bool:
    """A yes or no: true, false, 1, 0, or one of these as text.

    Raises:
        ValueError: anything else, such as null, 2 or "maybe".
    """
    if isinstance(value, str):
        value = _FLAGS.get(value.strip().lower(), value)
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    raise ValueError(f"{shown(value)} is neither 1 (true) nor 0 (false)")


def whole(value: Any) -> int:
    """A whole number: 3, 3.0 or "3".

    Raises:
        ValueError: anything else, such as 1.7, true, null, NaN, or a number of more than 18 digits.
    """
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    is_whole = is_whole or (isinstance(value, str) and _WHOLE.fullmatch(value.strip()) is not None)
    if is_whole and not isinstance(value, bool) and (isinstance(value, str) or abs(value) < 10**18):
        return int(value)
    raise ValueError(f"{shown(value)} is not a whole number")


def text(value: Any) -> str:
    """A text; a number becomes one.

    Raises:
        ValueError: anything else: null, a list, or the true and false that YAML makes of a bare `yes` or `off`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"{shown(value)} is not text; put names into quotes")
    return str(value)


def color(value: Any) -> tuple[int, int, int]:
    """Red, green and blue, 0-255: a list of three numbers, or hexadecimal text such as "#ff00cc".

    Raises:
        ValueError: anything else.
    """
    if isinstance(value, str) and (match := _HEX_COLOR.fullmatch(value.strip())):
        red, green, blue = (int(channel, 16) for channel in match.groups())
        return red, green, blue
    try:
        red, green, blue = map(whole, value if isinstance(value, list | tuple) else ())
        if 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
            return red, green, blue
    except ValueError:
        pass
    raise ValueError(f'the color is {shown(value)}; it is three whole numbers, 0 to 255, or text such as "#ff00cc"')
