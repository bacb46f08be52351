"""Consistency training: few-step samplers from images, without a teacher."""

import functools
import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from diffnotes.process.arguments import integer, number
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule, per_image
from diffnotes.process.solvers import karras_times
from diffnotes.training.objectives.base import TIME_BINS, Draw, Losses, evaluated, noise_and_labels
from diffnotes.training.objectives.denoising import Denoising


@dataclass(frozen=True)
class Consistency:
    """Consistency training: one network for the end of every curve, held to predict the same end from two neighbouring noise
    levels of one image and one noise (book, eq. 14.14 and 14.15; Song et al. 2023, algorithm 3; Song and Dhariwal 2024):

        f(x_t, t) = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) F(x_t, t),    delta = f(x_t, t) - f(x_s, s)
        loss      = sqrt(||delta||^2 + softness^2) - softness                   (pseudo-Huber, the norm over the whole image)

    t > s are neighbours on Karras' grid with `levels` times and 0 after them (karras_times), x_t and x_s have the same noise, and
    f(x_s, s), which is x_0 at s = 0, is the network itself in eval mode, without gradient. F is a v-prediction, so f(x, 0) = x
    whatever F is: without such a boundary a constant would have loss 0. Where the trainer computes in bfloat16 only the F that is
    trained does: the target, whose rounding would be carried up from level to level, a x - b F and the difference are in float32.
    Sample with process/consistency.py, from the average of the weights.

    levels         the end is carried up from level to level: many levels follow the curve closely, and take many updates
    at_top         share of a batch at the highest level, from which one call samples; the rest lies evenly over the others
    softness       below it the loss is quadratic, above it linear, so that images that differ much do not outweigh the others
    label_dropout  share of labels replaced by "no label", so that the network still draws without them"""

    schedule: Schedule
    levels: int = 12
    at_top: float = 0.25
    softness: float = 0.3
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        checked = {
            "levels": integer("levels", self.levels, 2, self.schedule.T, "T = "),
            "at_top": number("at_top", self.at_top, "lie between 0 and 1", lambda v: 0 < v < 1),
            "softness": number("softness", self.softness, "be a positive number", lambda v: 0 < v < math.inf),
            "label_dropout": number("label_dropout", self.label_dropout, "lie in [0, 1]", lambda v: 0 <= v <= 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        _ = self.times  # ValueError now if the schedule has no room for so many levels

    @functools.cached_property
    def times(self) -> Int[Tensor, "levels_plus_1"]:
        """The times from the highest level down to the lowest, and 0."""
        try:
            return karras_times(self.schedule, self.levels)
        except ValueError as error:
            raise ValueError(f"levels must fit into the schedule, got {self.levels}: {error}") from error

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """How far apart the ends of two neighbouring times are, for a batch of images (batch.x, batch.y)."""
        x0, y, level, eps = self.inputs(model, batch, draw)
        t, s = self.times[level], self.times[level + 1]
        with evaluated(model), torch.autocast(x0.device.type, enabled=False):
            target = self.end(model, q_sample(self.schedule, x0, s, eps), s, y)
        delta = self.end(model, q_sample(self.schedule, x0, t, eps), t, y) - target
        square = delta.square().flatten(1).sum(1)
        total = (square + self.softness**2).sqrt() - self.softness
        distance = (square.detach() / delta[0].numel()).sqrt()
        return Losses(total, {"distance to the level below": distance}, (t - 1) * TIME_BINS // self.schedule.T)

    def end(self, model: Any, x_t: Tensor, t: Int[Tensor, "batch"], y: Tensor | None) -> Tensor:
        """f(x_t, t), t in 0..T: where the network takes the curve through x_t to end."""
        a, b = self.schedule.alpha_bar[t].sqrt(), (1 - self.schedule.alpha_bar[t]).sqrt()
        F = model(x_t, t.clamp(min=1).to(x_t.device), y).to(x_t.dtype)  # b = 0 at t = 0, which no network is shown
        return per_image(a, x_t) * x_t - per_image(b, x_t) * F

    def inputs(self, model: Any, batch: Any, draw: Draw) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Images x0, labels y (None without classes), numbers of levels (0 is the highest) and noise eps."""
        g = draw("noise")
        lot = torch.rand(1, generator=g, dtype=torch.float64) + torch.arange(draw.size, dtype=torch.float64) / draw.size
        ends = torch.linspace(self.at_top, 1, self.levels, dtype=torch.float64)  # of the levels' shares of [0, 1)
        level = torch.bucketize(lot % 1, ends[:-1], right=True)
        eps, y = noise_and_labels(model, batch, draw, g, self.label_dropout)
        return batch.x, y, level[draw.share], eps

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model does not predict v, and for all that Denoising refuses."""
        if getattr(model, "target", None) != "v":
            raise ValueError(
                'model.target must be "v" for consistency training: then f = a x - b F is x at t = 0 whatever the network '
                f"predicts, and no number in it is large; got {getattr(model, 'target', None)!r}"
            )
        Denoising(self.schedule).check(model, data)
