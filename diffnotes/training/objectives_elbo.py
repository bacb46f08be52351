"""The variational bound itself as an objective, for networks that say how sure they are."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.arguments import integer, number
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.objectives import TIME_BINS, Draw, Losses


@dataclass(frozen=True)
class Elbo:
    """The bound of a chain of `steps` steps, in bits per dimension, estimated at one time for each image (book, eq. 12.8).

    The model gives .moments(x_t, t), a prediction of x_0 with its expected squared error, and .log_probability(x0, x_t, t).
    A share `at_decoder` of a batch is at the chain's last step, t = T / steps, where the grey values are named. The others are at
    times spread evenly over the rest of the way, and count the divergence of a step of length T / steps from there."""

    schedule: Schedule
    steps: int = 25
    at_decoder: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        object.__setattr__(self, "steps", integer("steps", self.steps, 2, self.schedule.T // 2, "T / 2 = "))
        share = number("at_decoder", self.at_decoder, "lie between 0 and 1", lambda v: 0 < v < 1)
        object.__setattr__(self, "at_decoder", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """Bits per dimension of a batch of images (batch.x), for each image those of one term, times how many it stands for."""
        x0, g, stride = batch.x, draw("noise"), self.schedule.T // self.steps
        lot = torch.rand(1, generator=g, dtype=torch.float64) + torch.arange(draw.size, dtype=torch.float64) / draw.size
        lot = (lot % 1)[draw.share]
        decodes = lot < self.at_decoder
        along = ((lot - self.at_decoder) / (1 - self.at_decoder)).clamp(0, 1 - 1e-12)
        t = torch.where(decodes, stride, stride + 1 + (along * (self.schedule.T - stride)).long())
        eps = torch.randn(draw.size, *x0.shape[1:], generator=g)[draw.share].to(x0.device)
        x_t = q_sample(self.schedule, x0, t, eps)
        law, _ = model.law(x_t, t.to(x0.device))
        decoded = -law.log_probability(x0).flatten(1).mean(1)
        z = torch.randn(draw.size, *x0.shape[1:], generator=g, dtype=torch.float64)[draw.share].to(x0.device)
        step = self.step(law, x0.double(), x_t.double(), t, stride, z)
        bits = torch.where(decodes.to(x0.device), decoded, step) / math.log(2)
        counts = torch.where(decodes, 1 / self.at_decoder, (self.steps - 1) / (1 - self.at_decoder)).to(bits)
        here, elsewhere = decodes.to(bits) * counts, (~decodes).to(bits) * counts
        parts = {"decoder": bits * here, "steps": bits * elsewhere}
        return Losses(bits * counts, parts, ((t - 1) * TIME_BINS // self.schedule.T).to(x0.device))

    def step(self, law: Any, x0: Tensor, x_t: Tensor, t: Tensor, stride: int, z: Tensor) -> Tensor:
        """log q(x_s | x_t, x_0) - log p(x_s | x_t) in nats per pixel at one draw of x_s from q, s = t - stride: in the mean over
        the draws D_KL of the true step from the model's, which is q with x_0 drawn from `law` (book, eq. 12.9)."""
        s = (t - stride).clamp(min=1)
        bar, before = ((self.schedule.alpha_bar[at])[:, None, None, None].to(x0) for at in (t, s))
        beta = 1 - bar / before
        shift, factor = (bar / before).sqrt() * (1 - before) / (1 - bar) * x_t, before.sqrt() * beta / (1 - bar)
        variance = (1 - before) / (1 - bar) * beta
        x_s = shift + factor * x0 + variance.sqrt() * z
        true = -(z**2 + (2 * math.pi * variance).log()) / 2
        return (true - law.moved(shift, factor, variance).log_density(x_s)).flatten(1).mean(1)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model gives no moments and no probabilities, or if the data are no images."""
        for name in ("moments", "log_probability"):
            if not callable(getattr(model, name, None)):
                raise ValueError(f"model must have .{name}, as models/grey.py has, got {type(model).__name__}")
        if not hasattr(data, "x"):
            raise ValueError(f"data must be Images, with .x, got {type(data).__name__}")
        data.check_range()
