"""The book's own prose as one file of plain letters, for chapter 20: python -m diffnotes.book.press.prose (make prose).

The file is frozen: its SHA-256 stands in training/text.py, so that the book does not read itself while it changes. A file made
anew needs the new sum there, and weights that are trained again (make weights)."""

import hashlib
import json
import re
from pathlib import Path

from diffnotes.training.text import BETWEEN_CELLS, PROSE

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
KEPT = "abcdefghijklmnopqrstuvwxyz0123456789 \n.,;:!?'\"()-$"
ALIKE = {
    "–": "-",
    "—": "-",
    "’": "'",
    "“": '"',
    "”": '"',
    "×": "x",
    "é": "e",
    "ö": "o",
    "ü": "u",
    "…": "...",
    "[": "(",
    "]": ")",
}
REPLACED = (
    (r"```.*?```", "\0"),  # code, and formulas: to become a $ when all are found
    (r"\$\$.*?\$\$", "\0"),
    (r"\$[^$]*\$", "\0"),
    (r"`[^`]*`", "\0"),
    (r"<[^>]*>", ""),
    (r"!?\[([^\]]*)\]\([^)]*\)", r"\1"),  # links: the words of them
    (r"(?m)^\s*\|?[-| :]+\|\s*$", ""),  # the rule of a table
    (r"[*$]", ""),
    (r"[|#>_~\\]", " "),
    ("\0", "$"),
)


def plain(markdown: str) -> str:
    """The words of a cell in small letters, formulas and code replaced by a $, other signs left out."""
    text = markdown
    for pattern, by in REPLACED:
        text = re.sub(pattern, by, text, flags=re.S)
    text = "".join(ALIKE.get(letter, letter) for letter in text.lower())
    text = "".join(letter if letter in KEPT else "" for letter in text)
    text = re.sub(r" *\n *", "\n", re.sub(r"[ \t]+", " ", text))
    return re.sub(r"\n{2,}", "\n", text).strip()


def prose() -> str:
    """Chapters 1 to 13 and appendix A, cell after cell."""
    paths = [p for p in sorted(NOTEBOOKS.glob("*.ipynb")) if 1 <= int(p.name[:2]) <= 13 or p.name[:2] == "90"]
    cells = [
        c for p in paths for c in json.loads(p.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "markdown"
    ]
    texts = [plain("".join(cell["source"])) for cell in cells]
    return BETWEEN_CELLS.join(text for text in texts if len(text) >= 120) + "\n"


if __name__ == "__main__":
    PROSE.write_text(prose(), encoding="ascii", newline="\n")
    content = PROSE.read_bytes()
    print(f"{PROSE}: {len(content):,} bytes, SHA-256 {hashlib.sha256(content).hexdigest()}")
