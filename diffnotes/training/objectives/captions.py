"""What learning from captions has in common with other training, and what not: words are left out at random."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.arguments import number
from diffnotes.process.schedules import Schedule
from diffnotes.training.captions import CAPTIONS, LEFT_OUT, leave_out
from diffnotes.training.objectives.base import Draw, Losses
from diffnotes.training.objectives.denoising import Denoising


@dataclass(frozen=True)
class DenoisingCaptions:
    """The training loss of a diffusion model with captions: Denoising, with words of the captions left out at random.

    left_out     how often the word for digit, thickness, size and slant is left out
    all_out      how often the whole caption is: the empty one is what classifier-free guidance starts from
    logit_normal see Denoising. How a digit leans and how thick it is shows where most is noise, so the times lie late"""

    schedule: Schedule
    left_out: Sequence[float] = LEFT_OUT
    all_out: float = 0.1
    logit_normal: Sequence[float | int] | None = (0.6, 1.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "left_out", check_shares("left_out", self.left_out))
        share = number("all_out", self.all_out, "lie in [0, 1]", lambda v: 0 <= v <= 1)
        object.__setattr__(self, "all_out", share)
        object.__setattr__(self, "logit_normal", self.denoising().logit_normal)

    @property
    def label_dropout(self) -> float:
        """How often a network is trained on no caption: all_out, at least."""
        return self.all_out

    def denoising(self) -> Denoising:
        """The loss itself: the squared error of the prediction, all times alike."""
        return Denoising(self.schedule, min_snr=None, label_dropout=self.all_out, logit_normal=self.logit_normal)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The squared errors of a batch of pictures (batch.x) with the numbers of their captions (batch.y)."""
        return self.denoising()(model, _Batch(batch.x, drawn_captions(batch.y, self.left_out, draw)), draw)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError where Denoising would raise it, or if the model is not one of captions."""
        check_captions(model, data)
        self.denoising().check(model, data)


@dataclass(frozen=True)
class _Batch:
    x: Tensor
    y: Tensor


def drawn_captions(numbers: Tensor, shares: Sequence[float], draw: Draw) -> Tensor:
    """The captions of this update, words left out."""
    lot = torch.rand(draw.size, len(shares), generator=draw("words"))
    return leave_out(numbers, shares, lot[draw.share])


def check_shares(name: str, shares: Any) -> tuple[float, ...]:
    """Four numbers in [0, 1]: how often the word for digit, thickness, size and slant is left out."""
    values = tuple(shares) if isinstance(shares, list | tuple) else ()
    if len(values) != len(LEFT_OUT):
        raise ValueError(
            f"{name} must be {len(LEFT_OUT)} numbers, for digit, thickness, size, slant, got {shares!r:.80}"
        )
    return tuple(number(name, value, "lie in [0, 1]", lambda v: 0 <= v <= 1) for value in values)


def check_captions(model: nn.Module, data: Any) -> None:
    """ValueError if model or data are not of captions."""
    if getattr(model, "num_classes", None) != CAPTIONS - 1:
        got = getattr(model, "num_classes", None)
        raise ValueError(
            f"model must take captions 0..{CAPTIONS - 1} (num_classes {CAPTIONS - 1}), got num_classes {got}"
        )
    if not hasattr(data, "x") or not hasattr(data, "y"):
        raise ValueError(f"data must be Images with captions for labels, got {type(data).__name__}")
