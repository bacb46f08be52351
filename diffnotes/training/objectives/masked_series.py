"""Completing a series: the denoising loss of the hidden positions, given the seen ones without noise."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from diffnotes.process.forward import q_sample
from diffnotes.process.parameterize import TARGETS, target_of
from diffnotes.process.schedules import Schedule
from diffnotes.training.objectives.base import TIME_BINS, Draw, Losses, evaluated

KINDS = ("end", "gap", "scattered")


@dataclass(frozen=True)
class MaskedSeries:
    """The squared error of a network's prediction at the hidden positions of a series, given the seen ones (book, eq. 22.14;
    Tashiro et al. 2021):

        mean over hidden positions of |target - model(x_t, t, seen)|^2,
        x_t = x_0 where seen, else sqrt(abar) x_0 + sqrt(1 - abar) eps

    The masks are drawn anew in every update, a third each: the last positions hidden, 1 to 5/6 of them; a gap of that length
    anywhere; and positions scattered at random, of which a share between 5 % and 95 % is seen. Times lie evenly."""

    schedule: Schedule

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The squared errors of a batch of windows (batch.x), a mean over the hidden positions of each."""
        x0, T = batch.x, self.schedule.T
        g = draw("noise")
        lot = (torch.rand(1, generator=g, dtype=torch.float64) + torch.arange(draw.size) / draw.size) % 1
        t = (1 + (lot * T).long())[draw.share]
        eps = torch.randn(draw.size, x0.shape[1], generator=g)[draw.share].to(x0)
        seen = series_masks(draw.size, x0.shape[1], draw("masks"))[draw.share].to(x0.device)
        x_t = torch.where(seen, x0, q_sample(self.schedule, x0, t, eps))
        error = (target_of(self.schedule, model.target, x0, eps, t) - model(x_t, t, seen)).square()
        hidden = ~seen
        loss = (error * hidden).sum(1) / hidden.sum(1)
        return Losses(loss, {"mean squared error": loss}, (t - 1) * TIME_BINS // T)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the data are no windows, or the model does not answer model(x_t, t, seen) in their shape."""
        target = getattr(model, "target", None)
        if target not in TARGETS:
            raise ValueError(
                f'model must name what it predicts, model.target = "eps", "x0", "v" or "u", got {target!r}'
            )
        x = getattr(data, "x", None)
        if not isinstance(x, Tensor) or x.ndim != 2 or not len(x):
            raise ValueError(f"data must be Series, with windows .x (N, length), got {type(data).__name__}")
        few = x[:2].to(next(model.parameters()).device)
        with evaluated(model):
            answer = model(few, torch.ones(len(few), dtype=torch.long, device=few.device), few > 0)
        if answer.shape != few.shape:
            raise ValueError(f"model must answer with the windows' shape {tuple(few.shape)}, got {tuple(answer.shape)}")


def series_masks(number: int, length: int, generator: torch.Generator) -> Bool[Tensor, "number length"]:
    """What is seen of so many series, (number, length): of each kind a third, and at least one position hidden in each."""
    lots = torch.rand(number, 4, generator=generator)
    scattered = torch.rand(number, length, generator=generator) < 0.05 + 0.9 * lots[:, 3:]
    size = 1 + (lots[:, 1:2] * (5 * length // 6)).long()  # 1..5 length / 6 positions hidden
    kind = (lots[:, :1] * len(KINDS)).long()
    begin = torch.where(kind == 0, length - size, (lots[:, 2:3] * (length - size + 1)).long())
    position = torch.arange(length)
    seen = torch.where(kind == 2, scattered, (position < begin) | (position >= begin + size))
    everything = seen.all(1)
    seen[everything, 0] = False
    return seen
