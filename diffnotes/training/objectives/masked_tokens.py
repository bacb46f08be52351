"""The bound of a masked diffusion model, in the form that has no weight."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.process.arguments import number
from diffnotes.process.discrete import mask_tokens, random_masks
from diffnotes.training.objectives.base import TIME_BINS, Draw, Losses, evaluated, num_classes_of


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
        y, length = None, batch.x.shape[1]
        if (K := num_classes_of(model)) is not None:
            dropped = torch.rand(draw.size, generator=draw("labels")) < self.label_dropout
            y = torch.where(dropped[draw.share].to(batch.y.device), K, batch.y)
        start = torch.rand(1, generator=draw("number of masks"))
        n = ((start + torch.arange(draw.size) / draw.size) % 1 * length).long().clamp(max=length - 1) + 1
        hidden = random_masks(n, length, draw("masks"))[draw.share].to(batch.x.device)
        n = n[draw.share].to(batch.x.device)
        logits = model(mask_tokens(batch.x, hidden, batch.vocab), y)
        nats = F.cross_entropy(logits.float().transpose(1, 2), batch.x, reduction="none")
        per_token = (nats * hidden).sum(1) / n
        return Losses(per_token, {"nats per token": per_token}, (n - 1) * TIME_BINS // length)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the data are no tokens of the model's kind, or if the model does not look at all places."""
        if not hasattr(data, "vocab"):
            raise ValueError(f"data must be Tokens, got {type(data).__name__}")
        vocab, classes = getattr(model, "vocab", None), num_classes_of(model)
        if vocab != data.vocab:
            raise ValueError(f"model must be made for the {data.vocab} tokens of the data, got vocab {vocab}")
        if classes is not None and len(data) and int(data.y.max()) >= classes:
            raise ValueError(
                f"model must take the labels 0..{int(data.y.max())} of the data, got num_classes {classes}"
            )
        if getattr(model, "causal", False):
            raise ValueError(
                "model must look at the places on both sides (causal=False): for a model that goes from left to right "
                "use NextToken"
            )
        row = data[:1].to(next(model.parameters()).device).x
        with evaluated(model):
            answer = model(torch.full_like(row, data.vocab), None)
        if answer.shape != (*row.shape, data.vocab):
            wanted = (*row.shape, data.vocab)
            raise ValueError(f"model must give logits of shape {wanted} for one row, got {tuple(answer.shape)}")
