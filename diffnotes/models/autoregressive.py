"""Models over rows of tokens, one token after the other: PixelCNN, and what all of them share.

    log p(k | y) = sum_i log p(k_i | k_<i, y)

An autoregressive model is called model(tokens, y) and gives the logits (B, L, vocab) of every position, those of position i
from the label and the tokens before i alone. PixelCNN is one (van den Oord et al. 2016), the causal TokenTransformer another.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, check_dense, integer, labels_of

Rows = Int[Tensor, "batch position"]


class MaskedConv2d(nn.Conv2d):
    """A convolution that looks at what comes before only, row after row (van den Oord et al. 2016, section 3.2).

    kernel  odd side of the kernel, or its odd height and width
    kind    "A": the rows above, and in its own row what is left of the position; "B": the position itself as well

    A stack with one A at its beginning and B after it depends on the past alone (book, eq. 17.12)."""

    mask: Tensor

    def __init__(
        self, channels_in: IntLike, channels_out: IntLike, kernel: IntLike | Sequence[IntLike], kind: str
    ) -> None:
        if not isinstance(kind, str) or kind not in ("A", "B"):
            raise ValueError(f'kind must be "A" or "B", got {kind!r:.80}')
        sides = tuple(kernel) if isinstance(kernel, list | tuple) else (kernel, kernel)
        if len(sides) != 2:
            raise ValueError(f"kernel must be an odd number, or two of them, got {kernel!r:.80}")
        height, width = (integer("kernel", side, "at least 1", 1) for side in sides)
        if height % 2 == 0 or width % 2 == 0:
            raise ValueError(f"kernel must be odd, got {height} x {width}")
        channels_in = integer("channels_in", channels_in, "at least 1", 1)
        channels_out = integer("channels_out", channels_out, "at least 1", 1)
        super().__init__(channels_in, channels_out, (height, width), padding=(height // 2, width // 2))
        mask = torch.ones(height, width)
        mask[height // 2, width // 2 + (kind == "B") :] = 0  # the position itself, and what is right of it
        mask[height // 2 + 1 :] = 0  # the rows below
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, channels_in, H, W) to (B, channels_out, H, W)."""
        return F.conv2d(input, self.weight * self.mask, self.bias, padding=self.padding)


class GatedLayer(nn.Module):
    """One layer of the gated PixelCNN (van den Oord et al. 2016, NeurIPS, figure 2): a vertical stack that sees the rows above
    and its own, a horizontal stack that sees what is left of the position, and the vertical one shifted down by a row. Each goes
    through tanh(a) sigmoid(b), a and b halves of the channels, shifted by the label."""

    def __init__(self, width: int, kernel: int, kind: str) -> None:
        super().__init__()
        self.kernel, self.kind = kernel, kind
        self.vertical = nn.Conv2d(width, 2 * width, (kernel // 2 + 1, kernel))
        self.across = nn.Conv2d(2 * width, 2 * width, 1)
        self.horizontal = MaskedConv2d(width, 2 * width, (1, kernel), kind)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Both stacks (B, width, H, W); label (B, 4 width, 1, 1)."""
        half = self.kernel // 2
        of_v, of_h = label.chunk(2, dim=1)
        seen = self.vertical(F.pad(v, (half, half, half, 0)))  # nothing from below
        above = F.pad(seen, (0, 0, 1, 0))[:, :, :-1]  # shifted down: the rows above, and not this one
        out = self.mix(_gate(self.horizontal(h) + self.across(above) + of_h))
        return _gate(seen + of_v), out if self.kind == "A" else h + out


class PixelCNN(nn.Module):
    """model(tokens, y): logits (B, L, vocab) of tokens on a grid, row after row, from the tokens before (gated, two stacks).

    vocab        number of tokens
    length       rows and columns, (7, 7)
    width        channels
    layers       gated layers of kernel 3 after the first one, of kernel 7
    num_classes  number of labels, or None; num_classes itself is "no label", what y = None means

    Called like TokenTransformer, and trained by the same objective. `settings` builds the same network again."""

    causal = True
    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self,
        vocab: IntLike,
        length: Sequence[IntLike] = (7, 7),
        width: IntLike = 48,
        layers: IntLike = 4,
        num_classes: IntLike | None = None,
    ) -> None:
        super().__init__()
        vocab, width = integer("vocab", vocab, "at least 2", 2), integer("width", width, "at least 1", 1)
        layers = integer("layers", layers, "at least 0", 0)
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, "at least 1, or None for no labels", 1)
        if not isinstance(length, list | tuple) or len(length) != 2:
            raise ValueError(f"length must be the rows and columns of a grid, got {length!r:.80}")
        rows, columns = (integer("length", side, "at least 1", 1) for side in length)
        self.vocab, self.rows, self.columns, self.length = vocab, rows, columns, rows * columns
        self.num_classes = num_classes
        self.settings: dict[str, Any] = dict(
            vocab=vocab, length=[rows, columns], width=width, layers=layers, num_classes=num_classes
        )
        self.embed = nn.Embedding(vocab, width)
        kinds = [(7, "A")] + [(3, "B")] * layers
        self.layers = nn.ModuleList(GatedLayer(width, kernel, kind) for kernel, kind in kinds)
        self.label = nn.Embedding(1 if num_classes is None else num_classes + 1, len(kinds) * 4 * width)
        nn.init.normal_(self.label.weight, std=0.02)
        self.last = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.SiLU(), nn.Conv2d(2 * width, vocab, 1))

    def forward(self, tokens: Rows, y: OneEach | None = None) -> Float[Tensor, "batch position vocab"]:
        """The logits of all positions. tokens (B, L); y: labels, or None for "no label"."""
        check_rows(tokens, self.vocab, self.length)
        return self._logits(tokens, y)

    def next_logits(self, tokens: Rows, y: OneEach | None, past: dict[str, Any]) -> Float[Tensor, "batch vocab"]:
        """The logits of the token that follows the i given ones (B, i), i < L. Rows that are not begun are left out; `past` is
        there so that it is called as a TokenTransformer is, and stays empty."""
        check_rows(tokens, self.vocab, None)
        i = tokens.shape[1]
        if i >= self.length:
            raise ValueError(f"tokens must be fewer than the {self.length} of a sequence, got {i}")
        begun = (i // self.columns + 1) * self.columns
        return self._logits(F.pad(tokens, (0, begun - i)), y)[:, i]

    def muon_parameters(self) -> list[str]:
        """The kernels inside the layers; all else is for AdamW."""
        return [name for name, weight in self.layers.named_parameters(prefix="layers") if weight.ndim == 4]

    def _logits(self, tokens: Tensor, y: OneEach | None) -> Tensor:
        x = self.embed(tokens.long()).transpose(1, 2).unflatten(2, (-1, self.columns))
        v = h = x
        for layer, label in zip(self.layers, self._labels(tokens, y).chunk(len(self.layers), dim=1), strict=True):
            v, h = layer(v, h, label[:, :, None, None])
        return self.last(h).flatten(2).transpose(1, 2)

    def _labels(self, tokens: Tensor, y: OneEach | None) -> Tensor:
        labels = labels_of("PixelCNN", tokens, y, self.num_classes)
        return self.label.weight.expand(len(tokens), -1) if labels is None else self.label(labels)


# -- what every autoregressive model can do -----------------------------------------------------------------------------


def log_prob(model: nn.Module, tokens: Rows, y: OneEach | None = None) -> Float[Tensor, "batch"]:
    """log p(k | y) = sum_i log p(k_i | k_<i, y) (book, eq. 17.11), in nats, (B,), for rows of tokens (B, L)."""
    return model(tokens, y).log_softmax(-1).gather(-1, tokens.long()[..., None])[..., 0].sum(1)


@torch.no_grad()
def sample(
    model: Any,
    y: OneEach | None,
    *,
    number: IntLike | None = None,
    temperature: float = 1.0,
    guidance: float = 1.0,
    prefix: Int[Tensor, "_ _"] | None = None,
    generator: torch.Generator | None = None,
) -> Rows:
    """Draw rows of tokens (B, L), one token after the other, each from softmax(logits / temperature).

    y            labels (B,), or None for no label; then `number` or the prefix says how many rows
    temperature  below 1 the likelier tokens become likelier still
    guidance     g: the log-probabilities are (1 - g) log p(k_i | k_<i) + g log p(k_i | k_<i, y) (book, eq. 17.13)
    prefix       (B, i) or (1, i): the first tokens are these"""
    for name, value in (("temperature", temperature), ("guidance", guidance)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number >= 0, got {value!r:.80}")
    if temperature == 0:
        raise ValueError("temperature must be above 0, got 0")
    if guidance != 1 and (y is None or getattr(model, "num_classes", None) is None):
        raise ValueError(f"guidance must be 1 without labels, got {guidance}")
    device = next(model.parameters()).device
    labels = None if y is None else torch.as_tensor(y, device=device)
    if labels is not None and labels.ndim == 0:
        raise ValueError(f"y must hold one label for each row, got {y!r:.80}")
    if labels is not None:
        number = len(labels)
    elif number is None and prefix is not None:
        number = len(prefix)
    elif number is None:
        raise ValueError("number must say how many rows to draw where y is None, got None")
    number = integer("number", number, "at least 0", 0)
    tokens = torch.zeros(number, 0, dtype=torch.int64, device=device)
    if prefix is not None:
        check_rows(prefix, model.vocab, None)
        if len(prefix) not in (1, number) or prefix.shape[1] > model.length:
            raise ValueError(
                f"prefix must have the shape ({number} or 1, 0..{model.length}), got {tuple(prefix.shape)}"
            )
        tokens = prefix.long().to(device).expand(number, -1)
    past: dict[str, Any] = {}
    past_without: dict[str, Any] = {}
    while tokens.shape[1] < model.length:
        logits = model.next_logits(tokens, labels, past).log_softmax(-1)
        if guidance != 1:
            logits = (1 - guidance) * model.next_logits(tokens, None, past_without).log_softmax(-1) + guidance * logits
        probabilities = (logits.double() / temperature).softmax(-1).cpu()
        drawn = torch.multinomial(probabilities, 1, generator=generator).to(device)
        tokens = torch.cat([tokens, drawn], dim=1)
    return tokens


@torch.no_grad()
def dependence(model: Any, y: OneEach | None = None, seed: int = 0) -> Bool[Tensor, "position token"]:
    """Which logits change with which token: entry (i, j) is True if those of position i change when token j does. (L, L).

    A copy of the model in float64 is asked, for a random row and for it with each token changed in turn. Of a model for the
    chain rule the matrix is strictly lower triangular; one that sees the whole past has all of that triangle."""
    asked = copy.deepcopy(model).double().eval()
    g = torch.Generator().manual_seed(seed)
    row = torch.randint(model.vocab, (1, model.length), generator=g)
    rows = row.repeat(model.length + 1, 1)
    changed = torch.arange(model.length)
    rows[changed + 1, changed] = (row[0] + 1) % model.vocab
    rows = rows.to(next(asked.parameters()).device)
    logits = asked(rows, y)
    return ((logits[1:] - logits[:1]).abs().amax(-1) > 1e-12).T.cpu()


def check_rows(tokens: Tensor, vocab: int, length: int | None) -> None:
    """ValueError unless tokens (B, length) hold integers 0..vocab-1."""
    whole = isinstance(tokens, Tensor) and not (
        tokens.is_floating_point() or tokens.is_complex() or tokens.dtype == torch.bool
    )
    if not whole:
        came = f"dtype {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"tokens must be a tensor of integers (B, {length or 'positions'}), got {came}")
    check_dense("tokens", tokens)
    if tokens.ndim != 2 or (length is not None and tokens.shape[1] != length):
        raise ValueError(f"tokens must have the shape (B, {length or 'positions'}), got {tuple(tokens.shape)}")
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < vocab:
        raise ValueError(f"tokens must lie in 0..{vocab - 1}, got {int(tokens.min())}..{int(tokens.max())}")


def _gate(x: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=1)
    return a.tanh() * b.sigmoid()
