"""The family portrait (chapter 21): sheets of digits of every model side by side, and a slider over the time to train."""

import base64
import io
from collections.abc import Mapping, Sequence

import ipywidgets as widgets
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from diffnotes.book.explorers.controls import LOOK
from diffnotes.book.live.widgets import Explorer, LivePicture

COLUMNS, GAP, LINE = 3, 10, 15  # of the page, in pixels
LEVELS = 8  # grey values of the page, a third of its size
Sheet = tuple[str, str, str]  # title, PNG in base64, a line of numbers


def portrait(sheets: Mapping[str, Sequence[Sheet]], start: str = "3") -> None:
    """Sheets of digits side by side, one a model, with a slider over the budgets of time, minutes by name ("1", "3", "10").

    sheets: for each budget (title, PNG in base64, a line of numbers) of every model, as press/portrait.py gives them; start: the
    budget to begin with."""
    build_portrait(sheets, start).show()


def build_portrait(sheets: Mapping[str, Sequence[Sheet]], start: str = "3") -> Explorer:
    """The explorer of `portrait`, not yet shown."""
    if not sheets or not all(sheets.values()):
        raise ValueError("sheets must hold at least one sheet for each budget, got none")
    if start not in sheets:
        raise ValueError(f"start must be one of {', '.join(map(repr, sheets))}, got {start!r}")
    pages = {budget: page(found) for budget, found in sheets.items()}
    live = LivePicture(pages[start].width)
    controls: dict[str, widgets.Widget] = {
        "minutes": widgets.SelectionSlider(options=list(sheets), value=start, description="minutes", **LOOK)
    }

    def update(minutes: str) -> str:
        live.current = pages[minutes]
        return (
            f"Each model after {minutes} min of training, as this chapter counts them. Fréchet: the distance (6.6), lower "
            "is better."
        )

    said = "; ".join(f"{title}: {words.replace(' · ', ', ')}" for title, _, words in sheets[start])
    alt = f"Forty digits of each of {len(sheets[start])} models after {start} minutes of training. {said}."
    return Explorer("The family portrait", controls, live, update, alt)


def page(sheets: Sequence[Sheet]) -> Image.Image:
    """The sheets of one budget in columns, each under its title and numbers; grey."""
    font = ImageFont.truetype(font_manager.findfont("DejaVu Sans"), 11)
    pictures = [Image.open(io.BytesIO(base64.b64decode(picture))).convert("L") for _, picture, _ in sheets]
    width = max(picture.width for picture in pictures) + GAP
    height = max(picture.height for picture in pictures) + LINE + GAP
    rows = -(-len(sheets) // COLUMNS)
    whole = Image.new("L", (COLUMNS * width - GAP, rows * height - GAP), 255)
    draw = ImageDraw.Draw(whole)
    for i, ((title, _, words), picture) in enumerate(zip(sheets, pictures, strict=True)):
        left, top = i % COLUMNS * width, i // COLUMNS * height
        draw.text((left, top), title, fill=0, font=font)
        draw.text((left + picture.width, top), words, fill=80, font=font, anchor="ra")
        whole.paste(picture, (left, top + LINE))
    return whole.point([round(round(v / 255 * (LEVELS - 1)) * 255 / (LEVELS - 1)) for v in range(256)])
