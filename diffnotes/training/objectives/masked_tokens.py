"""The bound of a masked diffusion model, in the form that has no weight."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.process.arguments import number
from diffnotes.process.discrete import mask_tokens, random_masks
from diffnotes.training.objectives.base import (
    TIME_BINS,
    Draw,
    Losses,
    check_logits,
    check_tokens,
    evaluated,
    labels_of,
)


@dataclass(frozen=True)
class MaskedTokens:
    """Nats per token of a masked diffusion model, a bound (book, eq. 20.8): with n uniform on 1..L and M any n positions,

        -1/n sum_{i in M} log softmax(model(x with M masked, y)_i)[x_i]

    The n of a batch are spread evenly, each of them uniform (Kingma et al. 2021, appendix I.1, for times).

    label_dropout  the share of a batch whose label is replaced by "no label", num_classes, for guidance (Ho and Salimans 2022)"""

    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        share = number("label_dropout", self.label_dropout, "lie between 0 and 1", lambda v: 0 <= v < 1)
        object.__setattr__(self, "label_dropout", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The nats per token of a batch (batch.x tokens, batch.y), by tenths of n / L."""
        length = batch.x.shape[1]
        start = torch.rand(1, generator=draw("number of masks"))
        n = ((start + torch.arange(draw.size) / draw.size) % 1 * length).long().clamp(max=length - 1) + 1
        hidden = random_masks(n, length, draw("masks"))[draw.share].to(batch.x.device)
        n = n[draw.share].to(batch.x.device)
        y = labels_of(model, batch, draw, draw("labels"), self.label_dropout)
        logits = model(mask_tokens(batch.x, hidden, batch.vocab), y)
        nats = F.cross_entropy(logits.float().transpose(1, 2), batch.x, reduction="none")
        per_token = (nats * hidden).sum(1) / n
        return Losses(per_token, {"nats per token": per_token}, (n - 1) * TIME_BINS // length)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the data are no tokens of the model's kind, or if the model does not look at all places."""
        check_tokens(model, data)
        if getattr(model, "causal", False):
            raise ValueError(
                "model must look at the places on both sides (causal=False): for a model that goes from left to right "
                "use NextToken"
            )
        row = data[:1].to(next(model.parameters()).device).x
        with evaluated(model):
            answer = model(torch.full_like(row, data.vocab), None)
        check_logits(answer, row, data.vocab)
