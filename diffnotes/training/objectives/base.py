"""What every objective is made of: the randomness of an update, the costs of a batch, and what several of them share."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

TIME_BINS = 10  # the times are looked at in ten parts
PerItem = Float[Tensor, "batch"]
Batch = TypeVar("Batch", contravariant=True)


@dataclass(frozen=True)
class Draw:
    """The randomness of one update: draw("noise") is a generator that depends on seed, update and purpose alone.

    Where several processes share a batch, every one of them has the same generators: draw numbers for all `size` items, and
    take those of this process, [draw.share]. Then two processes do together what one would have done."""

    seed: int
    update: int
    size: int
    share: slice = field(default_factory=lambda: slice(None))

    def __call__(self, purpose: str) -> torch.Generator:
        """A generator for one purpose: the same numbers whenever it is asked for."""
        words = np.random.SeedSequence(
            [self.seed, int.from_bytes(purpose.encode(), "big"), self.update]
        ).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


@dataclass(frozen=True)
class Losses:
    """What each item of a batch costs.

    total     (B,) what is minimised, in the mean over the items
    parts     by name, (B,) each, unweighted: what to look at while it trains, the most telling first
    time_bin  (B,) which tenth of the time axis an item was at, 0..9; None for objectives without a time"""

    total: PerItem
    parts: dict[str, PerItem]
    time_bin: Int[Tensor, "batch"] | None = None

    def __post_init__(self) -> None:
        others = self.parts | ({} if self.time_bin is None else {"time_bin": self.time_bin})
        for name, value in {"total": self.total, **others}.items():
            if value.shape != self.total.shape or value.ndim != 1:
                raise ValueError(f"{name} must hold one number for each item, shape (B,), got {tuple(value.shape)}")
        bins = self.time_bin
        if bins is not None and len(bins) and not (0 <= int(bins.min()) and int(bins.max()) < TIME_BINS):
            raise ValueError(f"time_bin must lie in 0..{TIME_BINS - 1}, got {int(bins.min())}..{int(bins.max())}")


class Objective(Protocol[Batch]):
    """What the trainer asks of an objective."""

    def __call__(self, model: Callable[..., Any], batch: Batch, draw: Draw) -> Losses:
        """What the items of the batch cost under the model."""

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError, naming the argument, if this model cannot be trained on these data with this objective."""


def noise_and_labels(
    model: Any, batch: Any, draw: Draw, g: torch.Generator, label_dropout: float
) -> tuple[Tensor, Tensor | None]:
    """Noise for the images of this process, and their labels (None if the model takes none), some replaced by "no label"."""
    eps = torch.randn(draw.size, *batch.x.shape[1:], generator=g)
    dropped = torch.rand(draw.size, generator=g) < label_dropout
    y = None
    if (K := num_classes_of(model)) is not None:
        y = torch.where(dropped[draw.share].to(batch.x.device), K, batch.y)
    return eps[draw.share].to(batch.x.device), y


@contextlib.contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """The model in eval mode and without gradients, and afterwards in the modes in which it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def check_answer(model: nn.Module, x_t: Tensor, t: Tensor, y: Tensor | None, **side: Tensor) -> None:
    """ValueError if model(x_t, t, y, **side) cannot be called, or does not answer with a tensor of x_t's shape."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with evaluated(model):
            given = {name: value.to(device) for name, value in side.items()}
            answer = model(x_t.to(device), t.to(device), None if y is None else y.to(device), **given)
    except (RuntimeError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"model must answer model(x_t, t, y) for images of shape {tuple(x_t.shape)}, got {type(error).__name__}: {error}"
        ) from error
    if not isinstance(answer, Tensor) or answer.shape != x_t.shape:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"model must answer with a tensor of x_t's shape {tuple(x_t.shape)}, got {got}"
            + ("" if isinstance(answer, Tensor) else "; for a network of diffusers see process/adapters.py")
        )


def num_classes_of(model: Any) -> int | None:
    """The number of labels that a model was made for; None if it takes none."""
    return getattr(model, "num_classes", None)
