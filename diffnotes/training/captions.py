"""Captions that can be checked: "a small thick seven leaning right". Of each of four attributes a caption says a word or nothing.

A caption is also a number, 0 .. CAPTIONS - 1, in the order of the words; the last one says nothing at all: the empty caption.
So a number takes the place of a label wherever one is asked for, and "no label", the last number, is the empty caption.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import number, shown
from diffnotes.training.attributes import attribute_words
from diffnotes.training.images import Images

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
THICKNESS = ("thin", "medium", "thick")
SIZE = ("small", "normal", "large")
SLANT = ("leaning left", "standing upright", "leaning right")
ATTRIBUTES = {"digit": DIGITS, "thickness": THICKNESS, "size": SIZE, "slant": SLANT}
RADIX = tuple(len(words) + 1 for words in ATTRIBUTES.values())  # of each attribute its words, or none
CAPTIONS = 11 * 4 * 4 * 4
EMPTY = CAPTIONS - 1
PAD, START = "", "<start>"
VOCABULARY = (
    PAD,
    START,
    "a",
    "an",
    "digit",
    *DIGITS,
    *THICKNESS,
    *SIZE,
    "leaning",
    "standing",
    "left",
    "upright",
    "right",
)
LENGTH = 7  # tokens of the longest caption: <start> a small thick seven leaning right
LEFT_OUT = (0.15, 0.3, 0.3, 0.3)  # how often training leaves out the word for digit, thickness, size, slant


def caption(
    digit: int | str | None = None, thickness: str | None = None, size: str | None = None, slant: str | None = None
) -> str:
    """The caption that says these words; nothing said is the empty caption, ""."""
    if isinstance(digit, int) and not isinstance(digit, bool) and 0 <= digit <= 9:
        digit = DIGITS[digit]
    said = {"digit": digit, "thickness": thickness, "size": size, "slant": slant}
    for name, word in said.items():
        if word is not None and word not in ATTRIBUTES[name]:
            raise ValueError(f"{name} must be one of {', '.join(ATTRIBUTES[name])}, or None, got {word!r}")
    if not any(said.values()):
        return ""
    words = [word for word in (size, thickness, digit or "digit", slant) if word]
    return f"{'an' if words[0] == 'eight' else 'a'} {' '.join(map(str, words))}"


def number_of(
    digits: Int[Tensor, "batch"], words: Int[Tensor, "batch 3"], said: Sequence[str] = tuple(ATTRIBUTES)
) -> Tensor:
    """The numbers of the captions that say the digit and the words for thickness, size and slant (`attribute_words`), of those
    attributes that are in `said`. A digit 10, or a word 3, is one that is not said."""
    if unknown := set(said) - set(ATTRIBUTES):
        raise ValueError(f"said must hold names out of {', '.join(ATTRIBUTES)}, got {sorted(unknown)}")
    parts = torch.cat([digits[:, None], words], 1)
    for k, name in enumerate(ATTRIBUTES):
        if name not in said:
            parts[:, k] = RADIX[k] - 1
    return _join(parts)


def parts_of(numbers: Int[Tensor, "batch"]) -> Int[Tensor, "batch 4"]:
    """The digit (10: not said) and the words for thickness, size, slant (3: not said) of each caption."""
    if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < CAPTIONS:
        raise ValueError(f"numbers must lie in 0..{EMPTY}, got {int(numbers.min())}..{int(numbers.max())}")
    parts, rest = [], numbers
    for radix in reversed(RADIX):
        parts.append(rest % radix)
        rest = rest // radix
    return torch.stack(parts[::-1], 1)


def text_of(number: int) -> str:
    """The caption of this number, as a text."""
    return _text(parts_of(torch.tensor([number]))[0].tolist())


def number_of_text(text: str) -> int:
    """The number of a caption that is given as a text; ValueError for what is none, in words or in their order."""
    (number,) = (token_table() == tokenize([text])).all(1).nonzero()[:, 0].tolist() or (None,)
    if number is None:
        raise ValueError(f"text must be a caption such as {text_of(100)!r}, got {text!r}")
    return int(number)


def tokenize(texts: Sequence[str]) -> Int[Tensor, "batch 7"]:
    """The places of the words in VOCABULARY, after <start>, filled up with 0; KeyError names a word that is not in it."""
    rows = []
    for text in texts:
        words = [START, *text.lower().split()]
        if missing := [word for word in words if word not in VOCABULARY]:
            raise KeyError(f"the vocabulary has no word {missing[0]!r}; it has {', '.join(VOCABULARY[2:])}")
        if len(words) > LENGTH:
            raise ValueError(f"texts must have at most {LENGTH - 1} words each, got {len(words) - 1}: {text!r}")
        rows.append([VOCABULARY.index(word) for word in words] + [0] * (LENGTH - len(words)))
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, LENGTH)


def token_table() -> Int[Tensor, "caption 7"]:
    """The tokens of every caption, row n those of caption number n."""
    return tokenize([_text(parts) for parts in parts_of(torch.arange(CAPTIONS)).tolist()])


def captioned(images: Images, said: Sequence[str] = ("digit", "thickness", "slant")) -> Images:
    """The same pictures; in place of the label the number of the fullest caption that says these attributes, as metered."""
    words = torch.cat([attribute_words(part) for part in images.x.split(5000)])
    numbers = number_of(images.y, words, said)
    return Images(images.x, numbers, f"{images.name} with captions", f"captions metered on {images.source}")


def leave_out(
    numbers: Int[Tensor, "batch"], shares: Sequence[float], lot: Float[Tensor, "batch 4"]
) -> Int[Tensor, "batch"]:
    """The captions without the words whose lot, uniform on [0, 1), lies below the attribute's share."""
    shares = [number("shares", share, "lie in [0, 1]", lambda v: 0 <= v <= 1) for share in shares]
    if len(shares) != len(RADIX) or lot.shape != (len(numbers), len(RADIX)):
        raise ValueError(
            f"shares and lot must hold {len(RADIX)} numbers for a caption, got {shown(shares)}, {tuple(lot.shape)}"
        )
    gone = lot.to(numbers.device) < torch.tensor(shares, dtype=lot.dtype, device=numbers.device)
    return _join(torch.where(gone, torch.tensor(RADIX, device=numbers.device) - 1, parts_of(numbers)))


def _text(parts: Sequence[int]) -> str:
    words = [None if k == len(names) else names[k] for k, names in zip(parts, ATTRIBUTES.values(), strict=True)]
    return caption(*words)


def _join(parts: Tensor) -> Tensor:
    numbers = torch.zeros_like(parts[:, 0])
    for k, radix in enumerate(RADIX):
        numbers = numbers * radix + parts[:, k]
    return numbers
