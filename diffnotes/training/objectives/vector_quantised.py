"""The loss of a VQ-VAE: reconstruction, and the commitment of the encoder to its codes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.process.arguments import number
from diffnotes.training.objectives.base import Draw, Losses, evaluated


@dataclass(frozen=True)
class VectorQuantised:
    """Nats and squared distances per image (van den Oord et al. 2017, eq. 3; the codes are moving averages):

        -log p(x | q) + commitment |z - sg[e]|^2,    p a Bernoulli for each pixel, grey x read as 2 P(ink) - 1

    commitment  beta, the weight of the squared distance of the encoder's vectors from their codes, summed over the map"""

    commitment: float = 0.25

    def __post_init__(self) -> None:
        weight = number("commitment", self.commitment, "be a number >= 0", lambda v: 0 <= v < float("inf"))
        object.__setattr__(self, "commitment", weight)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """What a batch of images costs (batch.x). The codebook moves, if the model is in train mode."""
        logits, quantized = model(batch.x)
        ink = (batch.x + 1) / 2
        nats = F.binary_cross_entropy_with_logits(logits.float(), ink, reduction="none").flatten(1).sum(1)
        distance = quantized.commitment.float()
        return Losses(nats + self.commitment * distance, {"reconstruction": nats, "commitment": distance})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model does not give logits and codes for these images, or the images are not in [-1, 1]."""
        if not hasattr(data, "x") or not hasattr(data, "check_range"):
            raise ValueError(f"data must be Images, with .x, got {type(data).__name__}")
        data.check_range()
        few = data[:2].to(next((p.device for p in model.parameters()), torch.device("cpu"))).x
        with evaluated(model):
            answer = model(few)
        if not isinstance(answer, tuple) or len(answer) != 2 or not hasattr(answer[1], "commitment"):
            raise ValueError(
                f"model must give logits and what the quantiser answers, as VQVAE does, got {type(model).__name__}"
            )
        if answer[0].shape != few.shape:
            raise ValueError(f"model must give logits of shape {tuple(few.shape)}, got {tuple(answer[0].shape)}")
