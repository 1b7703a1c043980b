"""Names of every script are drawn with letters where a font has them; else it is said once."""

import warnings
from pathlib import Path

import pytest
from PIL import ImageFont

from tascnet.visualize import fonts

NO_LETTER = "\U0010fffe"


def boxes(font: ImageFont.FreeTypeFont, text: str) -> int:
    """Letters that are drawn as what is missing."""
    return sum(bytes(font.getmask(letter)) == bytes(font.getmask(NO_LETTER)) for letter in text if letter != " ")


@pytest.fixture(autouse=True)
def forget() -> None:
    fonts._file_with.cache_clear()
    fonts._files.cache_clear()


@pytest.mark.parametrize("text", ["дорога", "سيارة", "δρόμος", "traffic дорога"])
def test_letters_that_an_installed_font_has(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")  # brings the font
    font = fonts.font_for(text, 20)
    assert boxes(ImageFont.load_default(20), text) > 0  # so the check above can fail
    assert boxes(font, text) == 0
    assert font.size == 20


def test_plain_names_keep_the_font() -> None:
    assert fonts.font_for("traffic light", 20).getname() == ImageFont.load_default(20).getname()


def test_what_no_font_has_is_said_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.ttf").write_text("no font")
    monkeypatch.setattr(fonts, "_folders", lambda: iter([tmp_path, tmp_path / "missing"]))
    with pytest.warns(UserWarning, match="no font on this machine has the letters 路道"):
        font = fonts.font_for("道路", 20)
    assert font.getname() == ImageFont.load_default(20).getname()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fonts.font_for("道路", 30)
