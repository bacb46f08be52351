"""The U-Net: an image and a time go in, a prediction of the image's size comes out.

    pixels -> patches -> down, down, ... -> middle -> up, up, ... -> patches -> pixels
                           \\_______ skip connections ______/

On the way down the picture gets smaller and the channels more; on the way up each block also sees what the block of the
same size saw on the way down. The time t (and the label y) is told to every residual block. After Ho et al. 2020,
appendix B, with the scale-and-shift of Dhariwal and Nichol 2021, section 3.1.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

Images = Float[Tensor, "batch channel height width"]
Embedding = Float[Tensor, "batch embedding"]
TARGETS = ("eps", "x0", "v")
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def time_embedding(t: Int[Tensor, "batch"], dim: int) -> Float[Tensor, "batch dim"]:
    """[cos(omega_i t), sin(omega_i t)], omega_i = 10000^(-2i/dim), i = 0..dim/2-1
    (book, eq. 8.1; Vaswani et al. 2017, section 3.5).

    Times become points on circles that turn at different speeds: near times are near, far ones are told apart."""
    if dim % 2:
        raise ValueError(f"dim must be even (cosines and sines come in pairs), got {dim}")
    i = torch.arange(dim // 2, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(-2 * i / dim * math.log(10000))
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResidualBlock(nn.Module):
    """h -> h + f(h, time): normalise, bend, convolve, twice, and in between scale and shift every channel as t says.
    With attend, self-attention follows."""

    def __init__(self, channels_in: int, channels_out: int, embedding: int, attend: bool = False) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(math.gcd(8, channels_in), channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, 2 * channels_out)
        self.norm_2 = nn.GroupNorm(math.gcd(8, channels_out), channels_out)
        self.conv_2 = _zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))  # at first only the skip
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.attention = SelfAttention(channels_out) if attend else nn.Identity()

    def forward(self, h: Images, embedding: Embedding) -> Float[Tensor, "batch channel_out height width"]:
        """(B, channels_in, H, W) to (B, channels_out, H, W)."""
        scale, shift = self.scale_shift(F.silu(embedding))[:, :, None, None].chunk(2, dim=1)
        f = self.conv_1(F.silu(self.norm_1(h)))
        f = self.norm_2(f) * (1 + scale) + shift
        return self.attention(self.skip(h) + self.conv_2(F.silu(f)))


class SelfAttention(nn.Module):
    """h -> h + f(h): every position looks at every other one and takes what it needs (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.heads = math.gcd(max(1, channels // 64), channels)  # about 64 channels a head
        self.norm = nn.GroupNorm(math.gcd(8, channels), channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = _zero(nn.Linear(channels, channels))

    def forward(self, h: Images) -> Images:
        """(B, C, H, W) to the same shape."""
        B, C, H, W = h.shape
        places = self.norm(h).flatten(2).transpose(1, 2)  # (B, H*W, C): a sentence of H*W words
        qkv = self.query_key_value(places).reshape(B, H * W, 3, self.heads, C // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H*W, C / heads)
        weight = (query / math.sqrt(C / self.heads) @ key.transpose(-1, -2)).softmax(-1)  # who looks at whom
        seen = weight @ value
        return h + self.out(seen.transpose(1, 2).reshape(B, H * W, C)).transpose(1, 2).reshape(B, C, H, W)


class Downsample(nn.Conv2d):
    """Half the height and width: a convolution that looks at every second place."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Twice the height and width: every place is repeated, then a convolution smooths the seams."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1)

    def forward(self, h: Images) -> Float[Tensor, "batch channel height_out width_out"]:
        """(B, C, H, W) to (B, C, 2H, 2W)."""
        return super().forward(F.interpolate(h, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """model(x_t, t, y): the prediction for noisy images x_t (B, image_channels, H, W) at times t (B,), of x_t's shape.

    channels     width of the first level
    multipliers  width of each level, in units of `channels`; each level has half the height and width of the one before
    blocks       residual blocks per level on the way down (one more on the way up)
    attention    number of levels, counted from the smallest pictures, that have self-attention
    num_classes  number of labels, or None; the label num_classes is "no label" and is what y = None means
    patch        side of the squares of pixels that are folded into channels at the input and back at the output
    target       what the answer is: "eps", "x0" or "v"

    Height and width must be divisible by patch * 2^(levels - 1); ValueError says so otherwise."""

    def __init__(
        self,
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention: int = 1,
        num_classes: int | None = None,
        patch: int = 1,
        target: str = "eps",
        image_channels: int = 1,
    ) -> None:
        super().__init__()
        for name, value in dict(channels=channels, blocks=blocks, patch=patch, image_channels=image_channels).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not multipliers or min(multipliers) < 1:
            raise ValueError(
                f"multipliers must be one or more numbers >= 1, one for each level, got {tuple(multipliers)}"
            )
        if not 0 <= attention <= len(multipliers):
            raise ValueError(f"attention must be a number of levels from 0 to {len(multipliers)}, got {attention}")
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, or None for no labels, got {num_classes}")
        if target not in TARGETS:
            raise ValueError(f'target must be one of "eps", "x0", "v", got {target!r}')
        self.settings = dict(
            channels=channels, multipliers=tuple(multipliers), blocks=blocks, attention=attention,
            num_classes=num_classes, patch=patch, target=target, image_channels=image_channels,
        )  # fmt: skip
        self.target, self.num_classes, self.patch = target, num_classes, patch
        widths = [channels * m for m in multipliers]
        embedding = 4 * channels
        self.time_dim = 2 * channels

        self.time = nn.Sequential(nn.Linear(self.time_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(num_classes + 1, embedding) if num_classes is not None else None
        self.first = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)

        def block(width_in: int, level: int) -> ResidualBlock:
            return ResidualBlock(width_in, widths[level], embedding, attend=level >= len(widths) - attention)

        # the way down; `skips` notes the width of every stop, for the way up
        width, skips = channels, [channels]
        down: list[nn.Module] = []
        for level in range(len(widths)):
            for _ in range(blocks):
                down.append(block(width, level))
                width = widths[level]
                skips.append(width)
            if level < len(widths) - 1:
                down.append(Downsample(width))
                skips.append(width)
        self.down = nn.ModuleList(down)

        self.middle = ResidualBlock(width, width, embedding, attend=attention > 0)

        # the way up; every block also gets the stop of the same size, last one first
        up: list[nn.Module] = []
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                up.append(block(width + skips.pop(), level))
                width = widths[level]
            if level > 0:
                up.append(Upsample(width))
        self.up = nn.ModuleList(up)

        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.last = _zero(nn.Conv2d(width, image_channels * patch**2, 3, padding=1))

    def forward(self, x_t: Images, t: Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None) -> Images:
        """The prediction, of x_t's shape. y: labels 0..num_classes - 1, or num_classes for "no label"; None: no labels."""
        self._check(x_t, t, y)
        embedding = self.time(time_embedding(t, self.time_dim))
        if self.label is not None:
            nothing = torch.full_like(t, self.label.num_embeddings - 1)
            embedding = embedding + self.label(nothing if y is None else y)

        h = self.first(F.pixel_unshuffle(x_t, self.patch))
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)

        h = self.middle(h, embedding)

        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), embedding) if isinstance(layer, ResidualBlock) else layer(h)

        return F.pixel_shuffle(self.last(F.silu(self.norm(h))), self.patch)

    def _check(self, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
        factor = self.patch * 2 ** sum(isinstance(layer, Downsample) for layer in self.down)
        if x_t.shape[-1] % factor or x_t.shape[-2] % factor:
            raise ValueError(
                f"height and width must be divisible by {factor} = patch * 2^(levels - 1), "
                f"got {x_t.shape[-2]} x {x_t.shape[-1]}; use fewer multipliers or a smaller patch"
            )
        if len(t) != len(x_t):
            raise ValueError(f"t must hold one time for each image: got {len(t)} times for {len(x_t)} images")
        if y is not None and self.num_classes is None:
            raise ValueError("y was given, but this UNet was made without labels (num_classes=None)")
        if y is not None and len(y) != len(x_t):
            raise ValueError(f"y must hold one label for each image: got {len(y)} labels for {len(x_t)} images")
        if y is not None and y.numel() and not (0 <= int(y.min()) and int(y.max()) <= (self.num_classes or 0)):
            raise ValueError(
                f"y must hold labels 0..{self.num_classes} ({self.num_classes} = no label), got {y.tolist()}"
            )


def _zero(layer: Layer) -> Layer:
    """The layer with weights and bias set to zero: what it feeds starts out unchanged."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
