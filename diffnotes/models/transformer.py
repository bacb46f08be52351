"""The transformer: one block for patches of images, codes, captions and letters, and a transformer over tokens.

    x -> x + gate * attention(norm(x)),    x -> x + gate * mlp(norm(x))

Attention lets every position look at every other one, or with `causal` at those not after it (Vaswani et al. 2017, section 3.2);
the norm stands before it, on the branch (Xiong et al. 2020). Without a condition the norms have weights of their own and the
gates are 1. With one, scales, shifts and gates come from outside (adaLN; Peebles and Xie 2023, section 3.2).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, as_int, check_dense, integer, labels_of

Positions = Float[Tensor, "batch position width"]
Weights = Float[Tensor, "batch heads position seen"]
Modulation = Float[Tensor, "batch 6 width"]  # shift, scale, gate of the attention, then of the MLP
Tokens = Integer[Tensor, "batch position"]
Past = dict[str, tuple[Tensor, Tensor]]  # of each block the keys and values of the positions that it has seen


def sine_positions(length: IntLike, width: IntLike) -> Float[Tensor, "length width"]:
    """Sinusoidal positions 0..length-1: [sin(omega_m i), cos(omega_m i)], omega_m = 10000^(-2m/width), m = 0..width/2-1, float32.

    The inner product of two of them depends on the difference of the positions alone (Vaswani et al. 2017, section 3.5)."""
    length, width = integer("length", length, "at least 1", 1), integer("width", width, "at least 2", 2)
    if width % 2:
        raise ValueError(f"width must be even (sines and cosines come in pairs), got {width}")
    omega = torch.exp(torch.arange(width // 2) * (-2 / width * math.log(10000)))
    angle = torch.arange(length)[:, None] * omega
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def grid_positions(height: IntLike, width: IntLike, features: IntLike) -> Float[Tensor, "position features"]:
    """Positions of a grid, by rows: [sine_positions of the row, sine_positions of the column], each of half the features."""
    height, width = integer("height", height, "at least 1", 1), integer("width", width, "at least 1", 1)
    features = integer("features", features, "at least 4", 4)
    if features % 4:
        raise ValueError(f"features must be divisible by 4 (sine and cosine, row and column), got {features}")
    rows = sine_positions(height, features // 2)[:, None].expand(height, width, features // 2)
    columns = sine_positions(width, features // 2)[None].expand(height, width, features // 2)
    return torch.cat([rows, columns], dim=-1).reshape(height * width, features)


class Attention(nn.Module):
    """Multi-head self-attention: concat_h(softmax(Q_h K_h^T / sqrt(d_h)) V_h) W_O, d_h = width / heads.

    Written out, for on a CPU it is as quick at these sizes as torch's fused kernel or quicker, and the weights are there to be
    looked at. torch.nn.MultiheadAttention with the same weights gives the same."""

    def __init__(self, width: int, heads: int, causal: bool = False) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Positions, past: Past | None = None, name: str = "") -> Positions:
        """(B, N, width) to the same shape. With `past`, x are the positions after those in past[name], which grows by them."""
        query, key, value = self._split(x)
        if past is not None:
            if name in past:
                key, value = (torch.cat([old, new], dim=2) for old, new in zip(past[name], (key, value), strict=True))
            past[name] = key, value
        attended = self._weights(query, key) @ value
        return self.out(attended.transpose(1, 2).flatten(2))

    def weights(self, x: Positions) -> Weights:
        """How much position i looks at position j, head by head: (B, heads, N, N), rows sum to 1."""
        query, key, _ = self._split(x)
        return self._weights(query, key)

    def _split(self, x: Tensor) -> Tensor:
        B, N, width = x.shape
        return self.query_key_value(x).reshape(B, N, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        scores = query / math.sqrt(query.shape[-1]) @ key.transpose(-1, -2)
        if self.causal and query.shape[2] > 1:  # position i of the new ones comes after `before + i` others
            before = key.shape[2] - query.shape[2]
            later = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=key.device).triu(before + 1)
            scores = scores.masked_fill(later, -torch.inf)
        return scores.softmax(-1)


class MLP(nn.Module):
    """Linear, GELU, linear, at every position alone. With `side`, the positions are a grid of this many rows and columns, and a
    depthwise 3 x 3 convolution is added to the hidden features: what is near in the picture is near again."""

    def __init__(self, width: int, hidden: int, side: int | None = None) -> None:
        super().__init__()
        self.first, self.last, self.side = nn.Linear(width, hidden), nn.Linear(hidden, width), side
        self.near = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden) if side is not None else None

    def forward(self, x: Positions) -> Positions:
        """(B, N, width) to the same shape."""
        h = self.first(x)
        if self.near is not None:
            grid = h.transpose(1, 2).unflatten(2, (self.side, -1))
            h = h + self.near(grid).flatten(2).transpose(1, 2)
        return self.last(F.gelu(h))


class Block(nn.Module):
    """One block of a transformer: attention between the positions, then an MLP at each of them, both added to what came in.

    width    features of a position, divisible by heads
    ratio    hidden features of the MLP, in units of width
    causal   position i sees positions j <= i only
    adaptive the norms have no weights; forward takes a modulation (B, 6, width) instead
    side     see MLP"""

    def __init__(
        self,
        width: IntLike,
        heads: IntLike,
        ratio: IntLike = 4,
        causal: bool = False,
        adaptive: bool = False,
        side: IntLike | None = None,
    ) -> None:
        super().__init__()
        width, heads = check_heads(width, heads)
        ratio = integer("ratio", ratio, "at least 1", 1)
        side = None if side is None else integer("side", side, "at least 1, or None", 1)
        self.adaptive = adaptive
        self.norm_1 = nn.LayerNorm(width, elementwise_affine=not adaptive)
        self.attention = Attention(width, heads, causal)
        self.norm_2 = nn.LayerNorm(width, elementwise_affine=not adaptive)
        self.mlp = MLP(width, ratio * width, side)

    def forward(
        self, x: Positions, modulation: Modulation | None = None, past: Past | None = None, name: str = ""
    ) -> Positions:
        """(B, N, width) to the same shape. modulation: shift, scale and gate of the attention, then of the MLP; for an adaptive
        block only. past, name: see Attention."""
        if (modulation is not None) != self.adaptive:
            raise ValueError(f"modulation must be {'given' if self.adaptive else 'None'}: adaptive={self.adaptive}")
        if modulation is None:
            x = x + self.attention(self.norm_1(x), past, name)
            return x + self.mlp(self.norm_2(x))
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation[:, :, None].unbind(1)  # (B, 1, width) each
        x = x + gate_1 * self.attention((1 + scale_1) * self.norm_1(x) + shift_1, past, name)
        return x + gate_2 * self.mlp((1 + scale_2) * self.norm_2(x) + shift_2)

    def matrices(self) -> list[str]:
        """The names of the block's weight matrices: what Muon is for."""
        return [name for name, weight in self.named_parameters() if weight.ndim == 2]


class TokenTransformer(nn.Module):
    """model(tokens, y): logits (B, L, vocab) for every position of a sequence of L tokens 0..vocab-1.

    causal       True: the logits of position i depend on y and on the tokens before i alone, so the chain rule gives exact
                 probabilities (a GPT). False: on all tokens, and the token `vocab`, the mask, stands for what is hidden
    length       L, or the rows and columns of a grid, (7, 7): its tokens are read row after row
    num_classes  number of labels, or None. The label is a token in front of the others; num_classes is "no label", what
                 y = None means
    near         width of a depthwise convolution over the embedded tokens before the first block, 0 for none; of the causal
                 kind, it looks back only

    The same class with one flag: so that two models can be compared which differ in nothing else. The positions begin as
    sines and are learned. `settings` builds the same network again."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self,
        vocab: IntLike,
        length: IntLike | Sequence[IntLike],
        width: IntLike = 96,
        depth: IntLike = 4,
        heads: IntLike = 4,
        causal: bool = True,
        num_classes: IntLike | None = None,
        near: IntLike = 0,
    ) -> None:
        super().__init__()
        vocab = integer("vocab", vocab, "at least 2", 2)
        width, heads = check_heads(width, heads)
        depth = integer("depth", depth, "at least 1", 1)
        near = integer("near", near, "at least 0", 0)
        if not isinstance(causal, bool):
            raise ValueError(f"causal must be True or False, got {causal!r:.80}")
        if near and not causal and near % 2 == 0:
            raise ValueError(f"near must be odd where the model looks both ways (causal=False), got {near}")
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, "at least 1, or None for no labels", 1)
        shape = _shape(length)
        self.vocab, self.length, self.causal, self.num_classes, self.near = (
            vocab,
            math.prod(shape),
            causal,
            num_classes,
            near,
        )
        self.settings: dict[str, Any] = dict(
            vocab=vocab, length=shape[0] if len(shape) == 1 else list(shape), width=width, depth=depth, heads=heads,
            causal=causal, num_classes=num_classes, near=near,
        )  # fmt: skip
        self.embed = nn.Embedding(vocab + 1, width)  # the last one: the mask, or of a causal model "nothing yet"
        self.label = nn.Embedding(num_classes + 1, width) if num_classes is not None else None
        positions = sine_positions(shape[0], width) if len(shape) == 1 else grid_positions(shape[0], shape[1], width)
        self.positions = nn.Parameter(positions)
        self.convolution = nn.Conv1d(width, width, near, groups=width) if near else None
        self.blocks = nn.ModuleList(Block(width, heads, causal=causal) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, vocab)
        nn.init.normal_(self.last.weight, std=0.02)
        nn.init.zeros_(self.last.bias)  # the first predictions: nearly every token alike

    def forward(self, tokens: Tokens, y: OneEach | None = None) -> Float[Tensor, "batch position vocab"]:
        """The logits of all positions. tokens (B, L); y: labels, or None for "no label"."""
        self.check_tokens(tokens, self.length)
        front = self._front(tokens, y)
        # causal: position i reads the token before it, the first position what stands in front
        x = torch.cat([front, self.embed(tokens[:, :-1])], dim=1) if self.causal else self.embed(tokens)
        x = self._convolved(x) + self.positions
        if not self.causal and self.label is not None:
            x = torch.cat([front, x], dim=1)
        for block in self.blocks:
            x = block(x)
        return self.last(self.norm(x[:, -self.length :]))

    def next_logits(self, tokens: Tokens, y: OneEach | None, past: Past) -> Float[Tensor, "batch vocab"]:
        """The logits of the token that follows the i given ones (B, i), i < L, of a causal model. `past` is a dictionary, empty
        at first, in which keys and values of the positions already seen are kept, so that each position is computed once."""
        if not self.causal:
            raise ValueError("next_logits needs causal=True: this model looks at all tokens at once")
        self.check_tokens(tokens, None)
        i = tokens.shape[1]
        if i >= self.length:
            raise ValueError(f"tokens must be fewer than the {self.length} of a sequence, got {i}")
        seen = past["0"][0].shape[2] if past else 0
        if seen > i:
            raise ValueError(f"past must hold no more than the {i} positions before the next, got {seen}")
        x = torch.cat([self._front(tokens, y), self.embed(tokens)], dim=1)
        x = (self._convolved(x) + self.positions[: i + 1])[:, seen:]
        for k, block in enumerate(self.blocks):
            x = block(x, past=past, name=str(k))
        return self.last(self.norm(x[:, -1]))

    def muon_parameters(self) -> list[str]:
        """The matrices inside the blocks; all else is for AdamW."""
        return [f"blocks.{k}.{name}" for k, block in enumerate(self.blocks) for name in block.matrices()]  # type: ignore[operator]

    def check_tokens(self, tokens: Tensor, length: int | None) -> None:
        """ValueError unless tokens (B, length) hold integers 0..vocab-1; where not causal, vocab (the mask) as well."""
        if (
            not isinstance(tokens, Tensor)
            or tokens.is_floating_point()
            or tokens.is_complex()
            or tokens.dtype == torch.bool
        ):
            came = f"dtype {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
            raise ValueError(f"tokens must be a tensor of integers (B, {length or 'positions'}), got {came}")
        check_dense("tokens", tokens)
        if tokens.ndim != 2 or (length is not None and tokens.shape[1] != length):
            raise ValueError(f"tokens must have the shape (B, {length or 'positions'}), got {tuple(tokens.shape)}")
        highest = self.vocab - 1 if self.causal else self.vocab
        if tokens.numel() and not (0 <= int(tokens.min()) and int(tokens.max()) <= highest):
            raise ValueError(f"tokens must lie in 0..{highest}, got {int(tokens.min())}..{int(tokens.max())}")

    def _front(self, tokens: Tensor, y: OneEach | None) -> Tensor:
        """What stands in front of the tokens: the label's embedding, or "nothing yet", (B, 1, width)."""
        labels = labels_of("TokenTransformer", tokens, y, self.num_classes)
        if self.label is None:
            return self.embed.weight[self.vocab].expand(len(tokens), 1, -1)
        return self.label(labels)[:, None]

    def _convolved(self, x: Tensor) -> Tensor:
        if self.convolution is None:
            return x
        before = self.near - 1 if self.causal else self.near // 2
        padded = F.pad(x.transpose(1, 2), (before, self.near - 1 - before))
        return x + self.convolution(padded).transpose(1, 2)


def check_heads(width: IntLike, heads: IntLike) -> tuple[int, int]:
    """width and heads as numbers that fit together; ValueError otherwise."""
    width, heads = integer("width", width, "at least 1", 1), integer("heads", heads, "at least 1", 1)
    if width % heads:
        raise ValueError(f"width must be divisible by heads, got width {width} and {heads} heads")
    return width, heads


def _shape(length: IntLike | Sequence[IntLike]) -> tuple[int, ...]:
    single = as_int(length)
    if single is not None:
        return (integer("length", single, "at least 1", 1),)
    sizes = tuple(as_int(n) or 0 for n in length) if isinstance(length, list | tuple) else ()
    if len(sizes) != 2 or min(sizes) < 1:
        raise ValueError(f"length must be a number of tokens, or rows and columns of a grid, got {length!r:.80}")
    return sizes
