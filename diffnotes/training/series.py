"""Windows of a series, to train on. What Images are for pictures."""

import hashlib
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import check_floats, shown


@dataclass(frozen=True, eq=False)
class Series:
    """Windows of one length, and what a run needs in order to know them again.

    x     (N, length) float32
    name  a short name; source says in words what they are and from where"""

    x: Float[Tensor, "N position"]
    name: str
    source: str
    _digest: list[str] = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        check_floats("x", self.x, "(N, length)")
        if self.x.ndim != 2 or not bool(self.x.isfinite().all()):
            raise ValueError(f"x must hold finite windows, shape (N, length), got {shown(self.x)}")
        for name, text in (("name", self.name), ("source", self.source)):
            if not isinstance(text, str):
                raise ValueError(f"{name} must be a text, got {shown(text)}")
        object.__setattr__(self, "x", self.x.float())

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        return f"Series({len(self):,} windows of {self.x.shape[1]} positions: {self.name}; {self.source})"

    def __getitem__(self, index: Any) -> "Series":
        """The windows of these numbers, as a batch."""
        return self._with(self.x[index if isinstance(index, slice) else torch.as_tensor(index)])

    def to(self, device: str | torch.device) -> "Series":
        """The same windows on that device."""
        return self._with(self.x.to(device))

    def _with(self, x: Tensor) -> "Series":
        part = object.__new__(Series)
        part.__dict__.update(x=x, name=self.name, source=self.source, _digest=[])
        return part

    @property
    def item_shape(self) -> tuple[int, ...]:
        """(length,), the shape of one window."""
        return tuple(self.x.shape[1:])

    def digest(self) -> str:
        """The SHA-256 of all bytes of x: a run is resumed with the windows it was begun with, or not at all."""
        if not self._digest:
            self._digest.append(hashlib.sha256(self.x.cpu().numpy().tobytes()).hexdigest())
        return self._digest[0]
