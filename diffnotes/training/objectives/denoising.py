"""The training loss of a diffusion model."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diffnotes.process.arguments import flag, number
from diffnotes.process.losses import min_snr_weight, simple_loss
from diffnotes.process.parameterize import TARGETS
from diffnotes.process.schedules import Schedule
from diffnotes.training.objectives.base import (
    TIME_BINS,
    Draw,
    Losses,
    PerItem,
    check_answer,
    noise_and_labels,
    num_classes_of,
)


@dataclass(frozen=True)
class Denoising:
    """The training loss of a diffusion model: the weighted squared error of its prediction at random times
    (book, eq. 4.11, 6.1 and 6.4; Ho et al. 2020, algorithm 1).

    min_snr        the squared error at time t gets the weight min(SNR, min_snr), counted about x0 (losses.min_snr_weight;
                   Hang et al. 2023); None: no weights, the simple loss
    even_times     the times of a batch lie evenly over 1..T from a random start, so each of them is uniform and their mean
                   loss jumps less (the low-discrepancy sampler of Kingma et al. 2021); False: each is drawn by itself
    logit_normal   (m, s): times are T sigmoid(m + s z), z standard normal, so that the middle of the way, where the prediction
                   still improves, comes up more often (Esser et al. 2024, section 3.1); None: uniform times
    label_dropout  share of labels replaced by "no label" (only for a model with classes; classifier-free guidance needs it:
                   Ho and Salimans 2022, algorithm 1)"""

    schedule: Schedule
    min_snr: float | None = 5.0
    even_times: bool = True
    label_dropout: float = 0.1
    logit_normal: Sequence[float | int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        if self.min_snr is not None:
            expected = "be a positive number, or None for no weights"
            object.__setattr__(self, "min_snr", number("min_snr", self.min_snr, expected, lambda v: 0 < v < math.inf))
        object.__setattr__(self, "even_times", flag("even_times", self.even_times))
        if self.logit_normal is not None:
            object.__setattr__(self, "logit_normal", _mean_and_deviation(self.logit_normal))
        share = number("label_dropout", self.label_dropout, "lie in [0, 1]", lambda v: 0 <= v <= 1)
        object.__setattr__(self, "label_dropout", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The weighted squared errors of a batch of images (batch.x, batch.y), a mean over the pixels of each."""
        x0, y, t, eps = self.inputs(model, batch, draw)
        squared_error = simple_loss(model, self.schedule, x0, t, eps, y)
        total = self.weight(model.target, t).to(squared_error) * squared_error
        return Losses(total, {"mean squared error": squared_error}, (t - 1) * TIME_BINS // self.schedule.T)

    def inputs(self, model: Any, batch: Any, draw: Draw) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """What the network is shown: images x0, labels y (None without classes), times t and noise eps."""
        x0, g = batch.x, draw("noise")
        lot = torch.rand(1 if self.even_times else draw.size, generator=g, dtype=torch.float64)
        if self.even_times:  # each is uniform on [0, 1) still
            lot = (lot + torch.arange(draw.size, dtype=torch.float64) / draw.size) % 1
        if self.logit_normal is not None:
            m, s = self.logit_normal
            lot = torch.sigmoid(m + s * torch.special.ndtri(lot)).clamp(max=1 - 1e-12)
        t = 1 + (lot * self.schedule.T).long()
        eps, y = noise_and_labels(model, batch, draw, g, self.label_dropout)
        return x0, y, t[draw.share], eps

    def weight(self, target: str, t: Int[Tensor, "batch"]) -> PerItem:
        """What the squared error at each of these times counts in the loss, for a network with this prediction target."""
        if self.min_snr is None:
            return torch.ones(len(t))
        return min_snr_weight(self.schedule, t, self.min_snr, target)

    def check(self, model: nn.Module, data: Any, **side: Tensor) -> None:
        """ValueError if the model has no known target, if the images are not in [-1, 1], if the labels do not fit the
        model's classes, if an eps-prediction meets zero terminal SNR, or if the answer has not the images' shape.

        side: the side inputs of a model that has some, for the first two images."""
        target = getattr(model, "target", None)
        if target not in TARGETS:
            raise ValueError(
                f'model must name what it predicts, model.target = "eps", "x0", "v" or "u", got {target!r}'
            )
        if not hasattr(data, "x") or not hasattr(data, "y"):
            raise ValueError(f"data must be Images, with .x and .y, got {type(data).__name__}")
        data.check_range()
        if target == "eps" and float(self.schedule.alpha_bar[-1]) == 0:
            raise ValueError(
                'model.target must not be "eps" where alpha_bar_T = 0 (zero terminal SNR): x_T is all noise, and no image can be '
                'had from it by eps; train with target "v" or "x0", or with another schedule'
            )
        K = num_classes_of(model)
        if K is not None and not (0 <= int(data.y.min()) and int(data.y.max()) < K):
            raise ValueError(
                f'data.y must hold labels 0..{K - 1} for a model with num_classes = {K} (the label {K} means "no label"), '
                f"got {int(data.y.min())}..{int(data.y.max())}"
            )
        few = data[:2]
        check_answer(model, few.x, torch.ones(len(few.x), dtype=torch.long), None if K is None else few.y, **side)


def _mean_and_deviation(given: Any) -> tuple[float, float]:
    """Two numbers, the second of them positive."""
    values = list(given) if isinstance(given, tuple | list) else []
    if len(values) != 2:
        raise ValueError(
            f"logit_normal must be two numbers, mean and standard deviation, or None for uniform times, got {given!r:.80}"
        )
    m = number("logit_normal's mean", values[0], "be a finite number", math.isfinite)
    return m, number("logit_normal's standard deviation", values[1], "be a positive number", lambda v: 0 < v < math.inf)
