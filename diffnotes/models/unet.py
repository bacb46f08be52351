"""The U-Net: from a noisy image and its time to a prediction of the image's size.

    pixels -> patches -> down, down, ... -> middle -> up, up, ... -> patches -> pixels
                           \\_______ skip connections ______/

On the way down the feature maps get smaller and the channels more; on the way up each block also gets the feature map of
its size from the way down. Every residual block is conditioned on the time t (and the label y). After Ho et al. 2020,
appendix B, with the scale-and-shift (adaptive group norm) of Dhariwal and Nichol 2021, section 3.1.
"""

import contextlib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import (
    LARGEST,
    IntLike,
    OneEach,
    as_int,
    check_dense,
    check_tensor,
    finite_numbers,
    integer,
    times_and_labels,
)

Images = Float[Tensor, "batch channel height width"]
Embedding = Float[Tensor, "batch embedding"]
TARGETS = ("eps", "x0", "v", "u")
Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def time_embedding(t: Integer[Tensor, "batch"], dim: IntLike) -> Float[Tensor, "batch dim"]:
    """[cos(omega_i t), sin(omega_i t)], omega_i = 10000^(-2i/dim), i = 0..dim/2-1
    (book, eq. 5.1; Vaswani et al. 2017, section 3.5), float32.

    A sinusoidal embedding of several frequencies: near times are near, and far ones can be told apart."""
    dim = integer("dim", dim, "from 2 to 65536", 2, 65536)
    if dim % 2:
        raise ValueError(f"dim must be even (cosines and sines come in pairs), got {dim}")
    if not isinstance(t, Tensor) or t.ndim != 1 or t.is_floating_point() or t.is_complex() or t.dtype == torch.bool:
        came = f"dtype {t.dtype}, shape {tuple(t.shape)}" if isinstance(t, Tensor) else type(t).__name__
        raise ValueError(f"t must be a tensor of integers of shape (B,), got {came}")
    check_dense("t", t)
    i = torch.arange(dim // 2, dtype=torch.float32, device=t.device)
    angle = t.float()[:, None] * torch.exp(-2 * i / dim * math.log(10000))
    return torch.cat([angle.cos(), angle.sin()], dim=1)


class ResidualBlock(nn.Module):
    """h -> h + f(h, t): group norm, SiLU, convolution, twice, and in between a scale and shift of every channel that depend
    on t (book, eq. 16.2); with add, only a shift, before the norm. With attend, self-attention follows."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        embedding: int,
        attend: bool = False,
        add: bool = False,
        head_channels: int = 64,
    ) -> None:
        super().__init__()
        self.add = add
        self.norm_1 = nn.GroupNorm(math.gcd(8, channels_in), channels_in)
        self.conv_1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.scale_shift = nn.Linear(embedding, channels_out if add else 2 * channels_out)
        self.norm_2 = nn.GroupNorm(math.gcd(8, channels_out), channels_out)
        self.conv_2 = _zero_init(nn.Conv2d(channels_out, channels_out, 3, padding=1))  # starts as the identity
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()
        self.attention = SelfAttention(channels_out, head_channels) if attend else nn.Identity()

    def forward(self, h: Images, embedding: Embedding) -> Float[Tensor, "batch channel_out height width"]:
        """(B, channels_in, H, W) to (B, channels_out, H, W)."""
        of_time = self.scale_shift(F.silu(embedding))[:, :, None, None]
        f = self.conv_1(F.silu(self.norm_1(h)))
        if self.add:
            f = self.norm_2(f + of_time)
        else:
            scale, shift = of_time.chunk(2, dim=1)
            f = self.norm_2(f) * (1 + scale) + shift
        return self.attention(self.skip(h) + self.conv_2(F.silu(f)))


class SelfAttention(nn.Module):
    """h -> h + f(h): every position attends to every other one (Vaswani et al. 2017, section 3.2)."""

    def __init__(self, channels: int, head_channels: int = 64) -> None:
        super().__init__()
        self.heads = math.gcd(max(1, channels // head_channels), channels)  # about head_channels channels a head
        self.norm = nn.GroupNorm(math.gcd(8, channels), channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        self.out = _zero_init(nn.Linear(channels, channels))

    def forward(self, h: Images) -> Images:
        """(B, C, H, W) to the same shape."""
        B, C, H, W = h.shape
        tokens = self.norm(h).flatten(2).transpose(1, 2)  # (B, H*W, C): a sequence of H*W tokens
        qkv = self.query_key_value(tokens).reshape(B, H * W, 3, self.heads, C // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, H*W, C / heads)
        weight = (query / math.sqrt(C / self.heads) @ key.transpose(-1, -2)).softmax(-1)
        attended = weight @ value
        return h + self.out(attended.transpose(1, 2).reshape(B, H * W, C)).transpose(1, 2).reshape(B, C, H, W)


class Downsample(nn.Conv2d):
    """Half the height and width: a convolution of stride 2."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Conv2d):
    """Twice the height and width: nearest-neighbour interpolation, then a convolution."""

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
    attention    number of levels, counted from the smallest feature maps, that have self-attention
    num_classes  number of labels, or None; the label num_classes is the null label ("no label"): what y = None means
    patch        side of the patches of pixels that are folded into channels at the input and back at the output
    target       the prediction target: "eps", "x0", "v" or "u"
    input_mean   None, or for each time 0..T the mean of x_t over data and pixels, sqrt(alpha_bar_t) times that of the images.
                 It is subtracted from x_t first: the convolutions take what lies beyond the border for 0, which then is an
                 average pixel, and not the grey in the middle between black and white
    conditioning "scale_shift": time and label scale and shift every channel after a norm (adaptive group norm; Dhariwal and
                 Nichol 2021); "add": they are added to it before the norm (Ho et al. 2020)
    head_channels   channels of an attention head, about

    Height and width must be divisible by patch * 2^(levels - 1); ValueError says so otherwise. `settings` builds the same
    network again; trainer and loader write down beside it what the weights were trained on: the images' shape, the names of
    the classes, and the share of labels that were dropped."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None
    input_mean: Tensor | None

    def __init__(
        self,
        channels: IntLike = 32,
        multipliers: Sequence[IntLike] | Integer[np.ndarray, "levels"] = (1, 2, 2),
        blocks: IntLike = 2,
        attention: IntLike = 1,
        num_classes: IntLike | None = None,
        patch: IntLike = 1,
        target: str = "eps",
        image_channels: IntLike = 1,
        input_mean: Sequence[float] | Float[Tensor, "T_plus_1"] | Float[np.ndarray, "T_plus_1"] | None = None,
        conditioning: str = "scale_shift",
        head_channels: IntLike = 64,
    ) -> None:
        super().__init__()
        channels = integer("channels", channels, "at least 1", 1)
        blocks = integer("blocks", blocks, "at least 1", 1)
        patch = integer("patch", patch, "at least 1", 1)
        image_channels = integer("image_channels", image_channels, "at least 1", 1)
        multipliers = _multipliers(multipliers)
        levels = len(multipliers)
        attention = integer("attention", attention, f"a number of levels from 0 to {levels}", 0, levels)
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, "at least 1, or None for no labels", 1)
        if not isinstance(target, str) or target not in TARGETS:
            raise ValueError(f'target must be one of "eps", "x0", "v", "u", got {target!r}')
        if conditioning not in ("scale_shift", "add"):
            raise ValueError(f'conditioning must be "scale_shift" or "add", got {conditioning!r:.80}')
        head_channels = integer("head_channels", head_channels, "at least 1", 1)
        self.settings: dict[str, Any] = dict(
            channels=channels, multipliers=multipliers, blocks=blocks, attention=attention,
            num_classes=num_classes, patch=patch, target=target, image_channels=image_channels,
        )  # fmt: skip
        if input_mean is not None:
            self.settings["input_mean"] = finite_numbers("input_mean", input_mean)
        if conditioning != "scale_shift":  # these two are named only where they are not as in earlier versions
            self.settings["conditioning"] = conditioning
        if head_channels != 64:
            self.settings["head_channels"] = head_channels
        mean = self.settings.get("input_mean")
        self.register_buffer("input_mean", None if mean is None else torch.tensor(mean), persistent=False)
        self.target, self.num_classes, self.patch = target, num_classes, patch
        widths = [channels * m for m in multipliers]
        embedding = 4 * channels
        self.time_dim = 2 * channels

        self.time = nn.Sequential(nn.Linear(self.time_dim, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.label = nn.Embedding(num_classes + 1, embedding) if num_classes is not None else None
        self.first = nn.Conv2d(image_channels * patch**2, channels, 3, padding=1)

        def block(width_in: int, level: int) -> ResidualBlock:
            attend = level >= len(widths) - attention
            return ResidualBlock(width_in, widths[level], embedding, attend, conditioning == "add", head_channels)

        # the way down; `skips` holds the width of every skip connection, for the way up
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

        self.middle = ResidualBlock(width, width, embedding, attention > 0, conditioning == "add", head_channels)

        # the way up; every block also gets the skip connection of its size, last one first
        up: list[nn.Module] = []
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                up.append(block(width + skips.pop(), level))
                width = widths[level]
            if level > 0:
                up.append(Upsample(width))
        self.up = nn.ModuleList(up)

        self.norm = nn.GroupNorm(math.gcd(8, width), width)
        self.last = _zero_init(nn.Conv2d(width, image_channels * patch**2, 3, padding=1))

    def forward(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> Images:
        """The prediction, of x_t's shape. t: times 1..T (T is not known here). y: labels 0..num_classes - 1, or num_classes for
        "no label"; None: no labels. Of both, one for each image, or a single one for all."""
        return self._answer(self.features(x_t, t, y))

    def _answer(self, features: Tensor) -> Images:
        """From the last features to the prediction."""
        return F.pixel_shuffle(self.last(F.silu(self.norm(features))), self.patch)

    def features(
        self, x_t: Images, t: OneEach, y: OneEach | None = None
    ) -> Float[Tensor, "batch feature height_in_patches width_in_patches"]:
        """What the last layer turns into the prediction: `channels` maps, a position for each patch of pixels. A smaller network
        can stand on them (models/grey.py)."""
        times, labels = self._check(x_t, t, y)
        return self._through(self._centred(x_t, times), self._embedded(times, labels, x_t.dtype))

    def _embedded(self, times: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Embedding:
        """The vector that conditions every residual block: of the time and of the label."""
        embedding = self.time(time_embedding(times, self.time_dim).to(dtype))
        if self.label is not None:
            null = torch.full_like(times, self.label.num_embeddings - 1)
            embedding = embedding + self.label(null if labels is None else labels)
        return embedding

    def _centred(self, x_t: Tensor, times: Tensor) -> Tensor:
        return x_t if self.input_mean is None else x_t - self.input_mean[times].to(x_t.dtype)[:, None, None, None]

    def _through(self, x: Tensor, embedding: Embedding) -> Tensor:
        """Down, middle and up."""
        h = self.first(F.pixel_unshuffle(x, self.patch))
        skips = [h]
        for layer in self.down:
            h = layer(h, embedding) if isinstance(layer, ResidualBlock) else layer(h)
            skips.append(h)

        h = self.middle(h, embedding)

        for layer in self.up:
            h = layer(torch.cat([h, skips.pop()], dim=1), embedding) if isinstance(layer, ResidualBlock) else layer(h)
        return h

    def _check(self, x_t: Tensor, t: OneEach, y: OneEach | None) -> tuple[Tensor, Tensor | None]:
        """The times and labels as tensors, one for each image."""
        check_tensor("x_t", x_t, ("B", self.settings["image_channels"], "H", "W"), self)
        factor = self.patch * 2 ** sum(isinstance(layer, Downsample) for layer in self.down)
        if x_t.shape[-1] % factor or x_t.shape[-2] % factor or 0 in x_t.shape[-2:]:
            raise ValueError(
                f"x_t: height and width must be divisible by {factor} = patch * 2^(levels - 1), "
                f"got {x_t.shape[-2]} x {x_t.shape[-1]}; use fewer multipliers or a smaller patch"
            )
        return times_and_labels("UNet", x_t, t, y, self.num_classes, self.input_mean)


def _multipliers(values: Sequence[IntLike] | np.ndarray) -> tuple[int, ...]:
    given: tuple[IntLike, ...] = ()
    if not isinstance(values, str | bytes | dict | set):
        with contextlib.suppress(TypeError):  # not iterable
            given = tuple(values)
    widths = tuple(as_int(width) or 0 for width in given)
    if not widths or min(widths) < 1:
        raise ValueError(
            f"multipliers must be one or more numbers >= 1, one for each level, got {given or values!r:.80}"
        )
    if max(widths) > LARGEST:
        raise ValueError(f"multipliers must be at most {LARGEST:,}, got {max(widths)}")
    return widths


def _zero_init(layer: Layer) -> Layer:
    """The layer with weights and bias set to zero: the residual branch that ends in it starts as the identity."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
