"""Several pictures on one sheet: grids, cards with a line of text, legends."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from tascnet.structures import LabelSpace, Size
from tascnet.visualize.colors import Color, Picture, to_picture
from tascnet.visualize.fonts import font_for, line_height, shorten_to

PAPER, INK, LETTERBOX = (255, 255, 255), (32, 32, 32), (236, 236, 236)
CARD_STRIP = 18  # pixels, for the text of a card
MAX_CELL_SIDE = 640  # pixels, of a grid's cells unless a size is given


def grid(
    rows: Sequence[Sequence[Picture]],
    titles: Sequence[str] = (),
    cell_size: Size | None = None,
    margin: int = 8,
    max_cell_side: int = MAX_CELL_SIDE,
) -> Picture:
    """Lay pictures out in rows of equal cells, such as image, annotation, prediction, match map.

    Pictures keep their proportions; what they leave free of their cell is light grey. Rows may differ in length.

    Args:
        rows: pictures, row by row.
        titles: one for each column, written above it; none for no title strip.
        cell_size: of each cell; by default that of the largest picture, its sides at most `max_cell_side`.
        margin: pixels of white around and between cells.
        max_cell_side: pixels.

    Raises:
        ValueError: there are no pictures, or the number of titles is not that of the columns.
    """
    pictures = [picture for row in rows for picture in row]
    if not pictures:
        raise ValueError("a grid needs at least one picture; the rows are empty.")
    columns = max(len(row) for row in rows)
    if titles and len(titles) != columns:
        raise ValueError(f"a grid of {columns} columns needs {columns} titles, or none; got {len(titles)}.")
    cell = cell_size or _fit(
        Size(max(picture.shape[0] for picture in pictures), max(picture.shape[1] for picture in pictures)),
        Size(max_cell_side, max_cell_side),
    )
    font = font_for("".join(titles), max(12, cell.width // 30))
    strip = line_height(font) if titles else 0
    size = Size(
        height=margin + strip + len(rows) * (cell.height + margin), width=margin + columns * (cell.width + margin)
    )
    sheet = Image.new("RGB", (size.width, size.height), PAPER)
    draw = ImageDraw.Draw(sheet)
    lefts = [margin + column * (cell.width + margin) for column in range(columns)]
    for left, title in zip(lefts, titles, strict=False):
        place = (left + cell.width / 2, (margin + strip) / 2)
        draw.text(place, shorten_to(title, font, cell.width), fill=INK, font=font, anchor="mm")
    for number, row in enumerate(rows):
        top = margin + strip + number * (cell.height + margin)
        for left, picture in zip(lefts, row, strict=False):
            sheet.paste(_letterbox(picture, cell), (left, top))
    return np.array(sheet)


def card(picture: Picture, text: str, size: Size, color: Color) -> Picture:
    """A small picture below a strip with one line of white text.

    Args:
        picture: scaled down where it is larger than `size`, and centred.
        text: shortened where it does not fit.
        size: of the place for the picture; the strip comes on top.
        color: of the strip, and of what the picture leaves free.

    Returns:
        (size.height + CARD_STRIP, size.width, 3) uint8.
    """
    small = Image.fromarray(picture)
    small.thumbnail((size.width, size.height))
    sheet = Image.new("RGB", (size.width, size.height + CARD_STRIP), color)
    sheet.paste(small, ((size.width - small.width) // 2, CARD_STRIP + (size.height - small.height) // 2))
    font = font_for(text, 12)
    ImageDraw.Draw(sheet).text((4, 2), shorten_to(text, font, size.width - 8), fill=(255, 255, 255), font=font)
    return np.array(sheet)


def legend(label_space: LabelSpace, category_ids: Iterable[int], width: int = 640) -> Picture:
    """A strip of colour samples with the names of categories, in the label space's order, wrapped to `width`.

    Raises:
        InputError: a category is not in the label space.
    """
    wanted = {label_space[category_id].id for category_id in category_ids}
    line, sample, gap = line_height(font_for("", 14)), 14, 8
    entries = []
    left, top = gap, gap
    for category in label_space.by_index:
        if category.id not in wanted:
            continue
        font = font_for(category.name, 14)
        name = shorten_to(category.name, font, width - sample - 3 * gap)
        extent = sample + gap + math.ceil(font.getlength(name))
        if left > gap and left + extent + gap > width:
            left, top = gap, top + line
        entries.append((left, top, category.color, name, font))
        left += extent + 3 * gap
    sheet = Image.new("RGB", (width, top + line + gap if entries else 1), PAPER)
    draw = ImageDraw.Draw(sheet)
    for left, top, color, name, font in entries:
        middle = top + line // 2
        draw.rectangle((left, middle - sample // 2, left + sample - 1, middle + sample // 2 - 1), fill=color)
        draw.text((left + sample + gap, middle), name, fill=INK, font=font, anchor="lm")
    return np.array(sheet)


def _letterbox(picture: Picture, cell: Size) -> Image.Image:
    original = Image.fromarray(to_picture(picture))
    size = _fit(Size(original.height, original.width), cell, enlarge=True)
    result = Image.new("RGB", (cell.width, cell.height), LETTERBOX)
    resized = original.resize((size.width, size.height), Image.Resampling.LANCZOS)  # a copy where the size is equal
    result.paste(resized, ((cell.width - size.width) // 2, (cell.height - size.height) // 2))
    return result


def _fit(size: Size, limit: Size, enlarge: bool = False) -> Size:
    """The largest size of the same proportions within a limit."""
    scale = min(limit.height / size.height, limit.width / size.width)
    if not enlarge:
        scale = min(scale, 1.0)
    return Size(max(1, round(size.height * scale)), max(1, round(size.width * scale)))
