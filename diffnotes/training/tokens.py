"""Sequences of tokens with their labels: codes of images, letters, captions. What Images are for pictures."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from diffnotes.process.arguments import integer, shown


@dataclass(frozen=True, eq=False, init=False)
class Tokens:
    """Rows of tokens, all of one length, and what a run needs in order to know them again.

    x        (N, L) int64, tokens 0..vocab-1
    y        (N,) int64 labels 0..K-1; zeros where there are none
    vocab    the number of tokens there are
    name     a short name; source says in words what they are and from where
    classes  the names of the labels; () where there are none
    symbols  what the tokens stand for, one text each; () where they have no names

    ValueError names what does not fit. Slices and tensors of numbers give a batch."""

    x: Int[Tensor, "N position"]
    y: Int[Tensor, "N"]
    vocab: int
    name: str
    source: str
    classes: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()

    def __init__(
        self,
        x: Any,
        vocab: Any,
        name: str,
        source: str,
        y: Any = None,
        classes: Sequence[str] = (),
        symbols: Sequence[str] = (),
    ) -> None:
        for argument, text in (("name", name), ("source", source)):
            if not isinstance(text, str):
                raise ValueError(f"{argument} must be a text, got {shown(text)}")
        vocab = integer("vocab", vocab, 2)
        x = _whole("x", x, 2, "(N, L)")
        y = torch.zeros(len(x), dtype=torch.int64) if y is None else _whole("y", y, 1, "(N,)")
        if x.numel() and not 0 <= int(x.min()) <= int(x.max()) < vocab:
            raise ValueError(f"x must hold tokens 0..{vocab - 1}, got {int(x.min())}..{int(x.max())}")
        if len(y) != len(x):
            raise ValueError(f"y must hold one label for each of the {len(x)} rows of x, got {len(y)}")
        if len(y) and (int(y.min()) < 0 or (classes and int(y.max()) >= len(classes))):
            highest = len(classes) - 1 if classes else "K-1"
            raise ValueError(f"y must hold labels 0..{highest}, got {int(y.min())}..{int(y.max())}")
        if symbols and len(symbols) != vocab:
            raise ValueError(f"symbols must hold one text for each of the {vocab} tokens, got {len(symbols)}")
        known = dict(x=x, y=y, vocab=vocab, name=name, source=source, classes=tuple(classes), symbols=tuple(symbols))
        self.__dict__.update(known)

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Tokens({len(self):,} rows of {self.x.shape[1]} tokens out of {self.vocab}: {self.name}; {self.source})"

    def __getitem__(self, index: Any) -> "Tokens":
        """The rows of these numbers, or where these are true, as a batch."""
        if not isinstance(index, slice):
            index = torch.as_tensor(index)
            if index.ndim != 1 or index.is_floating_point() or index.is_complex():
                raise ValueError(f"index must be a slice or a list or tensor of whole numbers, got {shown(index)}")
        return self._with(self.x[index], self.y[index])

    def to(self, device: str | torch.device) -> "Tokens":
        """The same rows on that device."""
        return self._with(self.x.to(device), self.y.to(device))

    def _with(self, x: Tensor, y: Tensor) -> "Tokens":
        part = object.__new__(Tokens)
        part.__dict__.update({field.name: getattr(self, field.name) for field in fields(self)} | {"x": x, "y": y})
        return part

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(L,), the shape of one row."""
        return tuple(self.x.shape[1:])

    def text(self, row: int) -> str:
        """A row as its symbols, one after the other; ValueError if the tokens have none."""
        if not self.symbols:
            raise ValueError("symbols must be given for a text, got tokens without names")
        return "".join(self.symbols[k] for k in self.x[row].tolist())

    def digest(self) -> str:
        """The SHA-256 of all bytes of x: a run is resumed with the rows it was begun with, or not at all."""
        if "_digest" not in self.__dict__:
            self.__dict__["_digest"] = hashlib.sha256(self.x.cpu().numpy().tobytes()).hexdigest()
        return str(self.__dict__["_digest"])


def _whole(name: str, values: Any, ndim: int, shape: str) -> Tensor:
    """The values as int64 of so many axes; ValueError unless they are whole numbers."""
    try:
        found = torch.as_tensor(values).detach()
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must hold whole numbers, shape {shape}, got {type(values).__name__} ({error})"
        ) from error
    if found.is_meta or found.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor that holds numbers, got {found.layout} on {found.device}")
    if found.is_floating_point() or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"{name} must hold whole numbers, got {found.dtype}")
    if found.ndim != ndim:
        raise ValueError(f"{name} must have the shape {shape}, got {tuple(found.shape)}")
    return found.long()
