"""A moving average of the weights: steadier than the weights themselves, and what one samples from."""

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

from diffnotes.process.arguments import number, shown

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """w_ema <- decay * w_ema + (1 - decay) * w, after every optimiser step (book, eq. 6.3; Ho et al. 2020, appendix B).

    The n-th update uses decay_n = min(decay, (1 + n) / (10 + n)), n = 0, 1, ..., so that the random first weights are
    forgotten quickly. `.model` is the averaged network, in eval mode, without gradients."""

    def __init__(self, model: Network, decay: float = 0.999) -> None:
        if not isinstance(model, nn.Module):
            raise ValueError(f"model must be a torch.nn.Module, got {shown(model)}")
        self.decay, self.updates = number("decay", decay, "lie in [0, 1)", lambda v: 0 <= v < 1), 0
        self.model: Network = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take the model's weights into the average. Call it after the optimiser's step, never before."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for average, weight in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(weight, 1 - decay)
        for kept, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)
        self.updates += 1
