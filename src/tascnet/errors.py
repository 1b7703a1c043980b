"""What ends a command and is no fault of the program: reported as a sentence, never as a traceback."""

import re
from itertools import islice

MAX_MESSAGE = 2000
"""Characters of a message that are kept; a longer one loses its middle."""

_MOST_ENTRIES = 6  # of a list or a group, in a message

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Characters that move a terminal's cursor, colour it, turn the direction of its text, or cannot be encoded: control
characters but for tabs and line feeds, marks of bidirectional text (Unicode's UAX 9), and halves of surrogate pairs."""


class InputError(ValueError):
    """What the user gave (a file, a folder, a setting) cannot be used.

    The message is one sentence or two: the file or setting, what was found, what was wanted, what to do.
    The command line prints it and exits with code 2; in Python it is a `ValueError`. Control characters in it, which a
    file may have brought, are escaped, and its length is bounded.
    """

    def __init__(self, text: object = ""):
        super().__init__(shorten(escape_controls(str(text)), MAX_MESSAGE))


class Interrupted(KeyboardInterrupt):
    """A long job that was asked to stop has stopped in good order; the message says how to go on with it."""


def escape_controls(text: str) -> str:
    """The text with control characters written out, as "\\x1b" for that which begins a terminal's commands."""
    return _UNSAFE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode("ascii"), text)


def shorten(text: str, most: int = 200) -> str:
    """A text of a file for a message: whole, or its beginning and its end with an ellipsis between them."""
    if len(text) <= most:
        return text
    end = most // 4
    return f"{text[: most - end - 5]} ... {text[-end:]}"


def shown(value: object, most: int = 80) -> str:
    """A value of a file for a message: as Python writes it, but never whole if it is long, deep or a huge number.

    Args:
        value: plain values of JSON or YAML, however large or nested.
        most: characters of the result.
    """
    return shorten(escape_controls(_written(value, most, depth=3)), most)


def _written(value: object, most: int, depth: int) -> str:
    """Like `repr`, without looking at more of the value than can be shown."""
    if isinstance(value, str | bytes):
        return repr(value[:most]) if len(value) <= most else repr(value[:most])[:-1]
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a number of about {round(value.bit_length() * 0.30103):,} digits"
    if not isinstance(value, dict | list | tuple | set | frozenset):
        return repr(value)
    opening, closing = ("{", "}") if isinstance(value, dict | set | frozenset) else ("[", "]")
    if isinstance(value, tuple):
        opening, closing = "(", ")"
    if not value or depth == 0:
        return opening + ("..." if value else "") + closing
    if isinstance(value, dict):
        texts = [
            f"{_written(key, most, 0)}: {_written(entry, most, depth - 1)}"
            for key, entry in islice(value.items(), _MOST_ENTRIES)
        ]
    else:
        texts = [_written(entry, most, depth - 1) for entry in islice(value, _MOST_ENTRIES)]
    return opening + ", ".join(texts) + (", ..." if len(value) > _MOST_ENTRIES else "") + closing
