"""A normalizing flow of affine coupling layers, RealNVP: a network that can be run backwards, with an exact density.

    z = f(x),   log p(x) = log N(z; 0, I) + log |det df/dx|                            (book, eq. 15.1; Dinh et al. 2017, eq. 2)

A coupling layer keeps a part of the coordinates, and scales and shifts the rest by what a network computes from the kept ones:

    h_A = x_A,   h_B = x_B * exp(s(x_A)) + m(x_A),   log |det| = sum_j s_j(x_A)        (book, eq. 15.2; Dinh et al. 2017, eq. 7)

The network is never inverted, so it may be any; what the layers compute is inverted by a subtraction and a division.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, as_int, check_tensor, integer, one_each

Items = Float[Tensor, "batch *dims"]
PerItem = Float[Tensor, "batch"]
LARGEST_SCALE = 3.0  # |s| of one layer stays below this
SMALLEST_STD = (
    0.3  # of a coordinate when the scales are set from data: a pixel that never changes must not weigh without bound
)


class Coupling(nn.Module):
    """One affine coupling layer (book, eq. 15.2).

    keep     of an item's shape, True for the coordinates x_A that pass unchanged
    network  gives 2C channels from (kept, y), C those of an item: first for the scales s, then the shifts m; |s| stays below
             LARGEST_SCALE by s = LARGEST_SCALE tanh(output / LARGEST_SCALE)"""

    keep: Tensor

    def __init__(self, keep: Bool[Tensor, "*dims"], network: nn.Module) -> None:
        super().__init__()
        if not isinstance(keep, Tensor) or keep.dtype != torch.bool or bool(keep.all()) or not bool(keep.any()):
            raise ValueError("keep must be a bool tensor that is True for some coordinates and False for others")
        self.register_buffer("keep", keep, persistent=False)
        self.network = network

    def scale_and_shift(self, kept: Items, y: Integer[Tensor, "batch"] | None) -> tuple[Items, Items]:
        """s and m of x_A, 0 for the coordinates that are kept."""
        s, m = self.network(kept, y).chunk(2, dim=1)
        s = LARGEST_SCALE * torch.tanh(s / LARGEST_SCALE)
        return s.masked_fill(self.keep, 0.0), m.masked_fill(self.keep, 0.0)

    def forward(self, x: Items, y: Integer[Tensor, "batch"] | None = None) -> tuple[Items, PerItem]:
        """The layer's output and log |det|, in nats, (B,)."""
        s, m = self.scale_and_shift(x.masked_fill(~self.keep, 0.0), y)
        return x * s.exp() + m, s.flatten(1).sum(1)

    def inverse(self, x: Items, y: Integer[Tensor, "batch"] | None = None) -> Items:
        """What `forward` made x of."""
        s, m = self.scale_and_shift(x.masked_fill(~self.keep, 0.0), y)
        return (x - m) * (-s).exp()


class RealNVP(nn.Module):
    """Coupling layers one after the other, from items x to z ~ N(0, I), with log p(x) in nats.

    shape        of an item: (d,) for points, whose layers have a small dense network; (C, H, W) for images, folded into patches
                 of 4 x 4 pixels, whose layers have a small convolutional one on the H/4 x W/4 places
    layers       each keeps another half of the coordinates than the one before
    hidden       width of the layers' networks
    num_classes  number of labels of y, or None
    margin       of images in [-1, 1], and half a grey step beyond: they are moved to [margin, 1 - margin] and through the logit,
                 log r - log(1 - r), so that the density has the whole line; its determinant is counted. None: x as it is

    `set_scales(data)` gives each coordinate mean 0 and standard deviation 1, once, before training."""

    shift: Tensor
    scale: Tensor
    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        shape: Sequence[IntLike],
        layers: IntLike = 8,
        hidden: IntLike = 64,
        num_classes: IntLike | None = None,
        margin: float | None = None,
    ) -> None:
        super().__init__()
        sizes = tuple(as_int(n) or 0 for n in shape) if isinstance(shape, Sequence) else ()
        if len(sizes) not in (1, 3) or min(sizes) < 1 or (len(sizes) == 1 and sizes[0] < 2):
            raise ValueError(f"shape must be (d,) with d >= 2, or (C, H, W), got {shape!r:.80}")
        if len(sizes) == 3 and (sizes[1] % 4 or sizes[2] % 4):
            raise ValueError(f"shape must have height and width divisible by 4, got {sizes}")
        layers = integer("layers", layers, "at least 1", 1)
        hidden = integer("hidden", hidden, "at least 1", 1)
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, "at least 1, or None for no labels", 1)
        if margin is not None and not (isinstance(margin, float) and 0.005 <= margin < 0.5):
            raise ValueError(f"margin must lie in [0.005, 0.5), or be None, got {margin!r:.80}")
        self.settings = dict(shape=sizes, layers=layers, hidden=hidden, num_classes=num_classes, margin=margin)
        self.shape, self.num_classes, self.margin = sizes, num_classes, margin
        folded = sizes if len(sizes) == 1 else (16 * sizes[0], sizes[1] // 4, sizes[2] // 4)
        self.layers = nn.ModuleList(
            Coupling(keep, _Network(folded, hidden, num_classes))
            for keep in _halves(folded, patches=len(sizes) == 3, number=layers)
        )
        self.register_buffer("shift", torch.zeros(folded))
        self.register_buffer("scale", torch.ones(folded))

    @torch.no_grad()
    def set_scales(self, data: Items) -> None:
        """Set shift and scale so that each coordinate of the data has mean 0 and standard deviation 1, or less: a standard
        deviation below SMALLEST_STD is taken as that."""
        h, _ = self._spread(data)
        self.shift.copy_(h.mean(0))
        self.scale.copy_(h.std(0).clamp(min=SMALLEST_STD))

    def forward(self, x: Items, y: OneEach | None = None) -> tuple[Float[Tensor, "batch coordinates"], PerItem]:
        """z, (B, coordinates), and log |det dz/dx| in nats, (B,)."""
        check_tensor("x", x, ("B", *self.shape), self)
        labels = self._labels(y, x)
        h, log_det = self._spread(x)
        h = (h - self.shift) / self.scale
        log_det = log_det - self.scale.log().sum()
        for layer in self.layers:
            h, more = layer(h, labels)
            log_det = log_det + more  # the chain rule: determinants multiply
        return h.flatten(1), log_det

    def inverse(self, z: Float[Tensor, "batch coordinates"], y: OneEach | None = None) -> Items:
        """x of z: the layers backwards. With z ~ N(0, I), a sample of the model."""
        check_tensor("z", z, ("B", math.prod(self.shape)), self)
        labels = self._labels(y, z)
        h = z.unflatten(1, self.shift.shape)
        for layer in reversed(self.layers):
            h = layer.inverse(h, labels)  # type: ignore[operator]
        h = h * self.scale + self.shift
        if len(self.shape) == 3:
            h = F.pixel_shuffle(h, 4)
        if self.margin is not None:
            h = (2 * torch.sigmoid(h) - 1) / (1 - 2 * self.margin)
        return h

    def log_prob(self, x: Items, y: OneEach | None = None) -> PerItem:
        """log p(x), or log p(x | y): log N(z; 0, I) + log |det dz/dx|, in nats, (B,) (book, eq. 15.1)."""
        z, log_det = self(x, y)
        return -0.5 * (z**2 + math.log(2 * math.pi)).sum(1) + log_det

    def _spread(self, x: Items) -> tuple[Float[Tensor, "batch *folded"], PerItem]:
        """x through the logit and folded into patches, and the logarithm of the determinant."""
        check_tensor("x", x, ("B", *self.shape), self)
        log_det = x.new_zeros(len(x))
        if self.margin is not None:
            r = 0.5 + (0.5 - self.margin) * x
            log_det = (math.log(0.5 - self.margin) - r.log() - (1 - r).log()).flatten(1).sum(1)
            x = torch.logit(r)
        return (F.pixel_unshuffle(x, 4) if len(self.shape) == 3 else x), log_det

    def _labels(self, y: OneEach | None, x: Tensor) -> Integer[Tensor, "batch"] | None:
        if (y is None) != (self.num_classes is None):
            raise ValueError(
                f"y must be given where num_classes is, and only there, got y = {y!r:.40}, num_classes = {self.num_classes}"
            )
        if y is None:
            return None
        labels = one_each("y", y, x)
        if labels.numel() and not (0 <= int(labels.min()) and int(labels.max()) < (self.num_classes or 0)):
            raise ValueError(
                f"y must hold labels 0..{(self.num_classes or 0) - 1}, got {int(labels.min())}..{int(labels.max())}"
            )
        return labels


class _Network(nn.Module):
    """Two numbers for each coordinate from the kept ones and the label; 0 before training, so that a layer begins as the
    identity. On points dense layers; on folded images convolutions 3 x 3 and a bias for each position."""

    def __init__(self, shape: tuple[int, ...], hidden: int, num_classes: int | None) -> None:
        super().__init__()
        if len(shape) == 1:
            self.first: nn.Module = nn.Linear(shape[0], hidden)
            self.middle: nn.Module = nn.Linear(hidden, hidden)
            self.last: nn.Linear | nn.Conv2d = nn.Linear(hidden, 2 * shape[0])
        else:
            self.first = nn.Conv2d(shape[0], hidden, 3, padding=1)
            self.middle = nn.Conv2d(hidden, hidden, 3, padding=1)
            self.last = nn.Conv2d(hidden, 2 * shape[0], 3, padding=1)
        self.place = nn.Parameter(torch.zeros(hidden, *shape[1:]))
        self.label = None if num_classes is None else nn.Embedding(num_classes, hidden)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, kept: Items, y: Integer[Tensor, "batch"] | None) -> Tensor:
        h = self.first(kept) + self.place
        if self.label is not None:
            told = self.label(y)
            h = h + told.reshape(*told.shape, *[1] * (h.ndim - 2))
        return self.last(F.silu(self.middle(F.silu(h))))


def _halves(shape: tuple[int, ...], patches: bool, number: int) -> list[Tensor]:
    """Which coordinates each layer keeps: of points every other one; of patches of 4 x 4 pixels a chessboard of pixels, then
    one of squares of 2 x 2 pixels. Every second layer keeps the other half."""
    if patches:
        row, column = torch.arange(16) // 4, torch.arange(16) % 4
        small = ((row + column) % 2 == 0).repeat(shape[0] // 16)[:, None, None].expand(shape)
        large = ((row // 2 + column // 2) % 2 == 0).repeat(shape[0] // 16)[:, None, None].expand(shape)
        kinds = [small, ~small, large, ~large]
    else:
        even = torch.arange(shape[0]) % 2 == 0
        kinds = [even, ~even]
    return [kinds[i % len(kinds)].clone() for i in range(number)]
