"""Two small corpora: sums of two numbers, and the prose of this book."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from diffnotes.process.arguments import IntLike, choice, integer
from diffnotes.training.tokens import Tokens

DIGITS = "0123456789+="
PROSE = Path(__file__).parent / "prose.txt"  # made by book/press/prose.py
PROSE_SHA256 = "3494c57750c816bf086b4b53040f82d4594ad4718ff13772a14d139f9f23ccf6"
BETWEEN_CELLS = "\n%%\n"


def load_sums(split: str = "train") -> Tokens:
    """All 10,000 true sums of two numbers 0..99, written like 23+04=027; "train" 8,000 of them, "test" the others, or "all"."""
    split = choice("split", split, ("train", "test", "all"))
    texts = [f"{a:02d}+{b:02d}={a + b:03d}" for a in range(100) for b in range(100)]
    x = torch.tensor([[DIGITS.index(letter) for letter in text] for text in texts])
    sums = Tokens(x, len(DIGITS), f"sums, {split}", "written by counting", symbols=tuple(DIGITS))
    order = torch.randperm(len(sums), generator=torch.Generator().manual_seed(20))
    part = {"train": order[:8000], "test": order[8000:], "all": order}[split]
    return sums[part.sort().values]


def load_prose(split: str = "train", length: IntLike = 128) -> Tokens:
    """Windows of the book's own prose, as it was when the file was made: small letters, formulas and code replaced by a $.

    Every tenth cell of the notebooks is for the test. "train": a window begins at every eighth letter; "test": the windows
    follow each other."""
    split, length = choice("split", split, ("train", "test")), integer("length", length, 2)
    content = PROSE.read_bytes()
    if hashlib.sha256(content).hexdigest() != PROSE_SHA256:
        raise ValueError(
            f"{PROSE} must be the file that came with the package, got another: its SHA-256 is not that in text.py"
        )
    cells = content.decode("ascii").rstrip("\n").split(BETWEEN_CELLS)
    symbols = tuple(sorted(set("".join(cells))))
    chosen = "\n".join(cell for k, cell in enumerate(cells) if (k % 10 == 9) == (split == "test"))
    number = {letter: k for k, letter in enumerate(symbols)}
    x = torch.tensor([number[letter] for letter in chosen]).unfold(0, length, 8 if split == "train" else length)
    return Tokens(x.clone(), len(symbols), f"prose, {split}", "this book's own text", symbols=symbols)


def true_sums(x: Tensor) -> Tensor:
    """Which rows of tokens (B, 9) are true sums, as load_sums() writes them: (B,), True or False."""
    base = (len(DIGITS) + 1) ** torch.arange(9)
    return torch.isin((x.cpu() * base).sum(1), (load_sums("all").x * base).sum(1))
