"""The loss of the autoencoder of latent diffusion: squared error over twice a variance, and a rate."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffnotes.process.arguments import number
from diffnotes.training.objectives.base import Draw, Losses, evaluated


@dataclass(frozen=True)
class Autoencoding:
    """Nats per image, up to a constant (book, eq. 18.2):

        |x - D(z)|^2 / (2 theta) + D_KL(q(z|x) || N(0, I)),    z = mean + sigma eps,    both sums

    theta  the variance of the decoder's Gaussian: the squared error of a direction that is worth no more nats (book, eq. 17.4).
           It is the weight w = 2 theta of the rate beside the summed squared error"""

    theta: float = 0.05

    def __post_init__(self) -> None:
        theta = number("theta", self.theta, "be a positive number", lambda v: 0 < v < math.inf)
        object.__setattr__(self, "theta", theta)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """What a batch of images (batch.x) costs."""
        eps = torch.randn(draw.size, *model.code_shape(batch.x), generator=draw("code"))[draw.share].to(batch.x)
        terms = model.terms(batch.x, eps)
        squared, rate = terms.squared_error.float(), terms.rate.float()
        return Losses(squared / (2 * self.theta) + rate, {"squared error": squared, "rate": rate})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model has no encode, decode and terms for these images, or the images are not in [-1, 1]."""
        if not all(callable(getattr(model, name, None)) for name in ("encode", "decode", "terms")):
            raise ValueError(
                f"model must have encode, decode and terms, as Autoencoder has, got {type(model).__name__}"
            )
        if not hasattr(data, "x") or not hasattr(data, "check_range"):
            raise ValueError(f"data must be Images, with .x, got {type(data).__name__}")
        data.check_range()
        few = data[:2].to(next((p.device for p in model.parameters()), torch.device("cpu"))).x
        with evaluated(model):
            decoded = model.decode(model.encode(few)[0])  # type: ignore[operator]
        if decoded.shape != few.shape:
            raise ValueError(f"model must decode to images of shape {tuple(few.shape)}, got {tuple(decoded.shape)}")
