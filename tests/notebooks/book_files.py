"""The notebooks of the book, and what the tests look for in them."""

from diffnotes.book.press.scan import (
    CLAIM,
    FOLDER,
    check_calls,
    checked_tags,
    code_cells,
    is_check,
    markdown_cells,
    notebooks,
    parsed,
    read,
    refusals,
    slip_of,
    tags,
)

ROOT = FOLDER.parent
NOTEBOOKS = notebooks()
__all__ = [
    "CLAIM",
    "FOLDER",
    "NOTEBOOKS",
    "ROOT",
    "check_calls",
    "checked_tags",
    "code_cells",
    "is_check",
    "markdown_cells",
    "parsed",
    "read",
    "refusals",
    "slip_of",
    "tags",
]
