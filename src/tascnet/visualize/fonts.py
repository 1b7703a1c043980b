"""A text -> a font that has its letters: Pillow's own, else one of the system's or of an installed package."""

import os
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

_SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
_LESS_LEGIBLE = ("bold", "italic", "oblique", "mono", "serif", "light", "thin", "condensed", "black")
_NO_LETTER = "\U0010fffe"  # stands for no letter in any font, so it is drawn as what is missing


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """The font for a text, for instance a name in Chinese, Cyrillic or Arabic.

    Where no font has all letters, Pillow's own draws boxes in their place, and a warning is given once for each text.

    Args:
        text: what is to be drawn.
        size: of the letters, pixels.
    """
    own = _own_font(size)
    letters = frozenset(letter for letter in text if not letter.isspace())
    if not _missing(own, letters):
        return own
    path = _file_with(letters)
    return own if path is None else ImageFont.truetype(path, size)


@cache
def _own_font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("Pillow was built without FreeType and cannot scale letters; install it from PyPI.")
    return font


@cache
def _file_with(letters: frozenset[str]) -> Path | None:
    for path in _files():
        try:
            if not _missing(ImageFont.truetype(path, 16), letters):
                return path
        except OSError:  # a font that Pillow cannot read
            continue
    warnings.warn(
        f"no font on this machine has the letters {''.join(sorted(letters))[:40]}; they are drawn as boxes. Install "
        "one, such as Noto Sans (Debian and Ubuntu: fonts-noto-core, fonts-noto-cjk).",
        stacklevel=2,
    )
    return None


@cache
def _files() -> tuple[Path, ...]:
    """The font files of this machine, upright sans-serif ones of normal weight first."""
    found = [
        Path(folder) / name
        for root in _folders()
        for folder, _, names in os.walk(root)
        for name in sorted(names)
        if name.lower().endswith(_SUFFIXES)
    ]
    return tuple(sorted(found, key=lambda path: sum(word in path.name.lower() for word in _LESS_LEGIBLE)))


def _folders() -> Iterator[Path]:
    home = Path.home()
    if sys.platform == "win32":
        yield Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"
        yield home / "AppData/Local/Microsoft/Windows/Fonts"
    elif sys.platform == "darwin":
        yield from (Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts")
    else:
        yield from (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts")
        yield home / ".fonts"
    package = find_spec("matplotlib")  # brings DejaVu Sans: Cyrillic, Greek, Arabic, Hebrew
    if package is not None and package.origin is not None:
        yield Path(package.origin).parent / "mpl-data" / "fonts" / "ttf"


def _missing(font: ImageFont.FreeTypeFont, letters: frozenset[str]) -> bool:
    """Whether a font lacks one of some letters: it draws the same for each that it lacks."""
    nothing = _drawn(font, _NO_LETTER)
    return any(_drawn(font, letter) == nothing for letter in letters)


def _drawn(font: ImageFont.FreeTypeFont, letter: str) -> tuple[tuple[int, int], bytes]:
    mask = font.getmask(letter)
    return mask.size, bytes(mask)


def shorten_to(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, or as much of its beginning as fits the width, with dots."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..." if text else ""


def line_height(font: ImageFont.FreeTypeFont) -> int:
    """Distance of two lines of text, pixels."""
    return round(font.size * 1.4)
