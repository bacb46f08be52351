"""The notebooks of the book, and what the tests look for in them."""

import ast
import re
from functools import cache
from pathlib import Path

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
    "formulas",
    "is_check",
    "markdown_cells",
    "parsed",
    "read",
    "refusals",
    "section_of",
    "slip_of",
    "tags",
]


@cache
def formulas(path: Path | None = None) -> dict[str, str]:
    """The numbered equations of a notebook, or of the whole book, as LaTeX."""
    if path is None:
        return {tag: latex for notebook in NOTEBOOKS for tag, latex in formulas(notebook).items()}
    shown = [f for _, cell in markdown_cells(path) for f in re.findall(r"\$\$(.*?)\$\$", cell.source, re.DOTALL)]
    return {tag: re.sub(r"\\tag\{[^}]*\}", "", f).strip() for f in shown for tag in re.findall(r"\\tag\{([^}]*)\}", f)}


def section_of(path: Path, number: int) -> tuple[str, str]:
    """The source of a cell, without magics, and all that stands in its section: prose and code."""
    cells = read(path).cells
    begin = max((i for i in range(number + 1) if re.search(r"^## ", cells[i].source, re.MULTILINE)), default=0)
    after = (i for i in range(number + 1, len(cells)) if re.search(r"^## ", cells[i].source, re.MULTILINE))
    section = "\n".join(cell.source for cell in cells[begin : next(after, len(cells))])
    return ast.unparse(parsed(cells[number].source)), section
