"""Maximum likelihood, for a model that has an exact density."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from diffnotes.process.arguments import number
from diffnotes.process.likelihood import GREY_STEP, bits_per_dim
from diffnotes.training.objectives.base import Draw, Losses, evaluated, num_classes_of


@dataclass(frozen=True)
class Likelihood:
    """Bits per dimension of a model with log_prob(x, y), such as RealNVP, on dequantised images (book, eq. 15.1 and 15.3):

        -log p(x + bin_width (w - 1/2)) / (d log 2) - log2(bin_width),    w uniform on [0, 1)^d, drawn anew in every update

    bin_width  how long a grey value's bin is, 2/255 for images in [-1, 1]"""

    bin_width: float = GREY_STEP

    def __post_init__(self) -> None:
        width = number("bin_width", self.bin_width, "be a positive number", lambda v: 0 < v < math.inf)
        object.__setattr__(self, "bin_width", width)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The bits per dimension of a batch of images (batch.x, batch.y)."""
        g, x = draw("dequantise"), batch.x
        noise = torch.rand(draw.size, *x.shape[1:], generator=g)[draw.share].to(x)
        y = None if num_classes_of(model) is None else batch.y
        log_likelihood = model.log_prob(x + self.bin_width * (noise - 0.5), y)
        bits = bits_per_dim(log_likelihood, math.prod(x.shape[1:]), bin_width=self.bin_width)
        return Losses(bits, {"bits per dimension": bits})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model has no log_prob for these images, or the images are not in [-1, 1]."""
        log_prob: Any = getattr(model, "log_prob", None)
        if not callable(log_prob):
            raise ValueError(f"model must have log_prob(x, y), as RealNVP has, got {type(model).__name__} without it")
        if not hasattr(data, "x") or not hasattr(data, "y"):
            raise ValueError(f"data must be Images, with .x and .y, got {type(data).__name__}")
        data.check_range()
        few = data[:2].to(next((p.device for p in model.parameters()), torch.device("cpu")))
        with evaluated(model):
            answer = log_prob(few.x, None if num_classes_of(model) is None else few.y)
        if answer.shape != (len(few.x),):
            raise ValueError(f"model.log_prob must give one number for each image, got shape {tuple(answer.shape)}")
