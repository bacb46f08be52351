"""A text encoder: from the tokens of a caption to a vector for each word, and one vector for the whole caption.

Its blocks are those of models/transformer.py, causal ones: a word sees the words up to itself. So the last word has seen the
whole caption, its place gives the pooled vector, and what fills up the row behind it is never seen (Radford et al. 2021, section
2.4). Without blocks it is a bag of words: the pooled vector is the sum of the words' embeddings, in whatever order they come.
"""

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, check_dense, integer
from diffnotes.models.transformer import Block, check_heads, sine_positions

Tokens = Integer[Tensor, "batch place"]


class TextEncoder(nn.Module):
    """encoder(tokens) -> (words (B, L, width), pooled (B, width), said (B, L), True where there is a word).

    vocab   number of tokens; token 0 is no word and fills up rows
    width   features of a word, divisible by heads
    depth   blocks; 0 is a bag of words
    gain    the embeddings of a bag count this many times, so that a learning rate that suits a network's matrices moves
            them fast enough"""

    def __init__(
        self,
        vocab: IntLike,
        length: IntLike,
        width: IntLike = 64,
        depth: IntLike = 1,
        heads: IntLike = 4,
        gain: IntLike = 1,
    ) -> None:
        super().__init__()
        vocab, length = integer("vocab", vocab, "at least 2", 2), integer("length", length, "at least 1", 1)
        width, heads = check_heads(width, heads)
        depth, gain = integer("depth", depth, "at least 0", 0), integer("gain", gain, "at least 1", 1)
        self.settings = dict(vocab=vocab, length=length, width=width, depth=depth, heads=heads, gain=gain)
        self.vocab, self.length, self.depth, self.gain = vocab, length, depth, gain
        self.embed = nn.Embedding(vocab, width)
        if depth:
            self.positions = nn.Parameter(sine_positions(length, width))
            self.blocks = nn.ModuleList(Block(width, heads, causal=True) for _ in range(depth))
            self.norm = nn.LayerNorm(width)

    def forward(
        self, tokens: Tokens
    ) -> tuple[Float[Tensor, "batch place width"], Float[Tensor, "batch width"], Bool[Tensor, "batch place"]]:
        """The vectors of the words, of the caption, and which places hold a word. The words come first in their row."""
        said = self._check(tokens)
        x = self.gain * self.embed(tokens)
        if not self.depth:
            return x, (x * said[:, :, None]).sum(1), said
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x, x[torch.arange(len(x), device=x.device), said.sum(1) - 1], said

    def matrices(self) -> list[str]:
        """The names of the weight matrices inside the blocks: what Muon is for."""
        return [f"blocks.{k}.{name}" for k in range(self.depth) for name in self.blocks[k].matrices()]  # type: ignore[operator]

    def _check(self, tokens: Tensor) -> Tensor:
        if not isinstance(tokens, Tensor) or tokens.dtype not in (torch.int64, torch.int32) or tokens.ndim != 2:
            came = f"{tokens.dtype} {tuple(tokens.shape)}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"tokens must be a tensor of integers (B, {self.length}), got {came}")
        check_dense("tokens", tokens)
        if tokens.shape[1] > self.length or not tokens.shape[1]:
            raise ValueError(f"tokens must have 1 to {self.length} places, got {tokens.shape[1]}")
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab:
            raise ValueError(f"tokens must lie in 0..{self.vocab - 1}, got {int(tokens.min())}..{int(tokens.max())}")
        said = tokens > 0
        if bool((said[:, 1:] & ~said[:, :-1]).any()) or not bool(said[:, 0].all()):
            raise ValueError("tokens must hold one word or more in each row, and its 0s behind them")
        if tokens.shape[1] < self.length and self.depth:
            raise ValueError(f"tokens must have the shape (B, {self.length}), got {tuple(tokens.shape)}")
        return said
