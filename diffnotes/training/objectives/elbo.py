"""The variational bound itself as an objective, for a network that gives a distribution over the image."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.arguments import integer, number
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule, check_spacing
from diffnotes.training.objectives.base import TIME_BINS, Draw, Losses


@dataclass(frozen=True)
class Elbo:
    """The bound of a chain of `steps` steps, in bits per dimension, estimated at one time for each image (book, eq. 3.4).

    The model gives .mixture(x_t, t), a distribution over x_0 for each pixel (models/grey.py). A share `at_decoder` of a batch is
    at the chain's last step, where the grey values get probabilities (book, eq. 12.9). The others lie evenly over the steps
    before it, and count the divergence of the step there (book, eq. 12.10). steps, spacing: see Schedule.subsequence."""

    schedule: Schedule
    steps: int = 25
    spacing: str = "uniform"
    at_decoder: float = 0.5

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        object.__setattr__(self, "steps", integer("steps", self.steps, 2, self.schedule.T, "T = "))
        check_spacing(self.spacing)
        share = number("at_decoder", self.at_decoder, "lie between 0 and 1", lambda v: 0 < v < 1)
        object.__setattr__(self, "at_decoder", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """Bits per dimension of a batch of images (batch.x), for each image those of one term, times how many it stands for."""
        x0, g, tau = batch.x, draw("noise"), self.schedule.subsequence(self.steps, self.spacing)
        lot = torch.rand(1, generator=g, dtype=torch.float64) + torch.arange(draw.size, dtype=torch.float64) / draw.size
        lot = (lot % 1)[draw.share]
        decodes = lot < self.at_decoder
        along = ((lot - self.at_decoder) / (1 - self.at_decoder)).clamp(0, 1 - 1e-12)
        place = torch.where(decodes, 1, 2 + (along * (self.steps - 1)).long())
        t, s = tau[place], tau[place - 1].clamp(min=1)  # 1 in the place of 0, where the decoder counts instead
        eps = torch.randn(draw.size, *x0.shape[1:], generator=g)[draw.share].to(x0.device)
        x_t = q_sample(self.schedule, x0, t, eps)
        mixture, _ = model.mixture(x_t, t.to(x0.device))
        decoded = -mixture.log_probability(x0).flatten(1).mean(1)
        z = torch.randn(draw.size, *x0.shape[1:], generator=g, dtype=torch.float64)[draw.share].to(x0.device)
        step = self.step(mixture, x0.double(), t, s, z)
        bits = torch.where(decodes.to(x0.device), decoded, step) / math.log(2)
        counts = torch.where(decodes, 1 / self.at_decoder, (self.steps - 1) / (1 - self.at_decoder)).to(bits)
        here, elsewhere = decodes.to(bits) * counts, (~decodes).to(bits) * counts
        parts = {"decoder": bits * here, "steps": bits * elsewhere}
        return Losses(bits * counts, parts, ((t - 1) * TIME_BINS // self.schedule.T).to(x0.device))

    def step(self, mixture: Any, x0: Tensor, t: Tensor, s: Tensor, z: Tensor) -> Tensor:
        """log q(x_s | x_t, x_0) - log p(x_s | x_t) in nats per pixel at one draw of x_s from q: in the mean over the draws
        D_KL of the true step from the model's, which is q with x_0 drawn from `mixture` (book, eq. 12.10)."""
        bar, before = ((self.schedule.alpha_bar[at])[:, None, None, None].to(x0) for at in (t, s))
        beta = 1 - bar / before
        factor = before.sqrt() * beta / (1 - bar)  # what both means have of x_t drops out
        variance = (1 - before) / (1 - bar) * beta
        x_s = factor * x0 + variance.sqrt() * z
        true = -(z**2 + (2 * math.pi * variance).log()) / 2
        return (true - mixture.moved(torch.zeros_like(bar), factor, variance).log_density(x_s)).flatten(1).mean(1)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model has no .mixture, or if the data are no images."""
        if not callable(getattr(model, "mixture", None)):
            raise ValueError(f"model must have .mixture, as models/grey.py has, got {type(model).__name__}")
        if not hasattr(data, "x"):
            raise ValueError(f"data must be Images, with .x, got {type(data).__name__}")
        data.check_range()
