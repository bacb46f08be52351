"""Maximum likelihood of sequences of tokens, one after the other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.process.arguments import number
from diffnotes.training.objectives.base import Draw, Losses, evaluated, num_classes_of


@dataclass(frozen=True)
class NextToken:
    """Nats per token of an autoregressive model, by the chain rule log p(k | y) = sum_i log p(k_i | k_<i, y) over a row:

        -1/L sum_i log softmax(model(k, y)_i)[k_i],    where the logits of position i depend on y and on k_<i alone

    label_dropout  the share of a batch whose label is replaced by "no label", num_classes, for guidance (Ho and Salimans 2022)"""

    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        share = number("label_dropout", self.label_dropout, "lie between 0 and 1", lambda v: 0 <= v < 1)
        object.__setattr__(self, "label_dropout", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The nats per token of a batch (batch.x tokens, batch.y)."""
        y = None
        if (K := num_classes_of(model)) is not None:
            hidden = torch.rand(draw.size, generator=draw("labels")) < self.label_dropout
            y = torch.where(hidden[draw.share].to(batch.y.device), K, batch.y)
        logits = model(batch.x, y)
        nats = F.cross_entropy(logits.float().transpose(1, 2), batch.x, reduction="none").mean(1)
        return Losses(nats, {"nats per token": nats})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the data are no tokens of the model's kind, or if the model looks at the token that it is to predict."""
        if not hasattr(data, "vocab"):
            raise ValueError(f"data must be Tokens, got {type(data).__name__}")
        vocab, classes = getattr(model, "vocab", None), num_classes_of(model)
        if vocab != data.vocab:
            raise ValueError(f"model must be made for the {data.vocab} tokens of the data, got vocab {vocab}")
        if classes is not None and len(data) and int(data.y.max()) >= classes:
            raise ValueError(
                f"model must take the labels 0..{int(data.y.max())} of the data, got num_classes {classes}"
            )
        row = data[:1].to(next(model.parameters()).device).x
        other = row.clone()
        other[:, -1] = (row[:, -1] + 1) % data.vocab
        with evaluated(model):
            answer, changed = model(row, None), model(other, None)
        if answer.shape != (*row.shape, data.vocab):
            wanted = (*row.shape, data.vocab)
            raise ValueError(f"model must give logits of shape {wanted} for one row, got {tuple(answer.shape)}")
        if getattr(model, "causal", True) is not True or not torch.equal(answer, changed):
            raise ValueError(
                "model must predict each token from those before it (causal=True), but its logits depend on the last token: "
                "for a model that sees all tokens at once use MaskedTokens"
            )
