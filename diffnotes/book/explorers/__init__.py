"""The book's explorers: sliders that move a picture. Each is shown by calling it in a cell; `build_...` gives it unshown."""

from diffnotes.book.explorers.films import (
    build_ddim,
    build_draw,
    build_pictures,
    ddim,
    draw,
    film,
    pictures,
)
from diffnotes.book.explorers.schedule import build_schedule, schedule

__all__ = [
    "build_ddim",
    "build_draw",
    "build_pictures",
    "build_schedule",
    "ddim",
    "draw",
    "film",
    "pictures",
    "schedule",
]
