"""Maximum likelihood of sequences of tokens, one after the other."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from diffnotes.process.arguments import number
from diffnotes.training.objectives.base import Draw, Losses, check_logits, check_tokens, evaluated, labels_of


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
        logits = model(batch.x, labels_of(model, batch, draw, draw("labels"), self.label_dropout))
        nats = F.cross_entropy(logits.float().transpose(1, 2), batch.x, reduction="none").mean(1)
        return Losses(nats, {"nats per token": nats})

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the data are no tokens of the model's kind, or if the model looks at the token that it is to predict."""
        check_tokens(model, data)
        row = data[:1].to(next(model.parameters()).device).x
        other = row.clone()
        other[:, -1] = (row[:, -1] + 1) % data.vocab
        with evaluated(model):
            answer, changed = model(row, None), model(other, None)
        check_logits(answer, row, data.vocab)
        if getattr(model, "causal", True) is not True or not torch.equal(answer, changed):
            raise ValueError(
                "model must predict each token from those before it (causal=True), but its logits depend on the last token: "
                "for a model that sees all tokens at once use MaskedTokens"
            )
