"""The perfect model of finitely many sentences, by counting: the DatasetDenoiser of sentences (chapter 20)."""

import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Integer
from torch import Tensor
from torch.nn import functional as F

from diffnotes.process.arguments import IntLike, integer, shown


class LanguageDenoiser:
    """model(tokens, y): the exact logits of N sentences, all equally likely (book, eq. 20.9).

    The logit of token k at position i is the log of the number of sentences that agree with all revealed tokens and have k there.
    Where no sentence agrees, those of a sentence of which nothing is revealed. `vocab` tokens and the mask, the token `vocab`."""

    causal = False

    def __init__(self, sentences: Integer[Tensor, "N position"], vocab: IntLike) -> None:
        self.vocab = integer("vocab", vocab, 2)
        if not isinstance(sentences, Tensor) or sentences.ndim != 2 or not len(sentences):
            raise ValueError(f"sentences must be a tensor of tokens (N, L), N >= 1, got {shown(sentences)}")
        if not 0 <= int(sentences.min()) <= int(sentences.max()) < self.vocab:
            came = f"{int(sentences.min())}..{int(sentences.max())}"
            raise ValueError(f"sentences must hold tokens 0..{self.vocab - 1}, got {came}")
        self.sentences = sentences.long()
        self.one_hot = F.one_hot(self.sentences, self.vocab).float().flatten(1)  # (N, L vocab)

    def counts(self, tokens: Integer[Tensor, "batch position"]) -> Float[Tensor, "batch position vocab"]:
        """How many of the sentences that agree with the revealed tokens have token k at position i."""
        length = self.sentences.shape[1]
        if tokens.shape[1:] != (length,) or not 0 <= int(tokens.min()) <= int(tokens.max()) <= self.vocab:
            wanted = f"(B, {length})"
            raise ValueError(f"tokens must have the shape {wanted} and hold 0..{self.vocab}, got {shown(tokens)}")
        revealed = F.one_hot(tokens, self.vocab + 1)[..., : self.vocab].float().flatten(1)
        agree = (revealed @ self.one_hot.T == revealed.sum(1, keepdim=True)).float()
        agree[agree.sum(1) == 0] = 1
        return (agree @ self.one_hot).unflatten(1, (-1, self.vocab))

    def __call__(
        self, tokens: Integer[Tensor, "batch position"], y: None = None
    ) -> Float[Tensor, "batch position vocab"]:
        """The logits, (B, L, vocab), minus infinity for what cannot be."""
        return self.counts(tokens).log()

    def entropy(self, positions: Iterable[int]) -> float:
        """The joint entropy of these positions in nats, over all sentences."""
        chosen = sorted(set(positions))
        if not chosen:
            return 0.0
        base = (self.vocab ** torch.arange(len(chosen))).to(self.sentences)
        share = (self.sentences[:, chosen] * base).sum(1).unique(return_counts=True)[1].double() / len(self.sentences)
        return -float((share * share.log()).sum())

    def total_correlation(self, block: Iterable[int], given: Iterable[int] = ()) -> float:
        """What drawing the positions of the block at once and independently costs, nats (book, eq. 20.11): the sum of their
        entropies less their joint one, in the mean over what is revealed at the positions `given`."""
        block, given = set(block), set(given)
        if block & given:
            raise ValueError(f"block and given must have no position in common, got {sorted(block & given)} in both")
        before = self.entropy(given)
        alone = math.fsum(self.entropy({i} | given) - before for i in block)
        return alone - (self.entropy(block | given) - before)
