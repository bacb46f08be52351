"""CLIP in miniature: an image encoder and a text encoder whose unit vectors are near each other where picture and caption fit.

    s_ij = <u_i, v_j> / tau,    u_i = image(x_i) / |image(x_i)|,    v_j = text(c_j) / |text(c_j)|

(Radford et al. 2021, figure 3.) A noise-aware one is given the time t as well, and takes noised pictures (Nichol et al. 2022,
GLIDE, section 2.4).
"""

import math
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, integer, one_each
from diffnotes.models.captioned import CaptionEmbedding, Table
from diffnotes.models.text import TextEncoder
from diffnotes.models.unet import Images, time_embedding

Vectors = Float[Tensor, "batch dim"]
LARGEST_SCALE = 100.0  # of 1 / tau; more is not allowed


class ImageEncoder(nn.Module):
    """encoder(x, t) -> (B, dim), for pictures (B, 1, 28, 28): four convolutions on patches of 2 x 2 pixels, and a linear layer
    on what is left, 4 x 4 places. With noise_aware, t scales and shifts the channels; otherwise it is not looked at."""

    def __init__(self, dim: int, width: int, noise_aware: bool) -> None:
        super().__init__()
        widths = [4, width, 2 * width, 3 * width, 3 * width]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=stride, padding=1)
            for before, after, stride in zip(widths[:-1], widths[1:], (1, 2, 1, 2), strict=True)
        )
        self.norms = nn.ModuleList(nn.GroupNorm(math.gcd(8, after), after) for after in widths[1:])
        self.time = (
            nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2 * sum(widths[1:]))) if noise_aware else None
        )
        self.last = nn.Linear(widths[-1] * 16, dim)

    def forward(self, x: Images, t: Integer[Tensor, "batch"]) -> Vectors:
        """The vectors of the pictures, of any length still."""
        h = F.pixel_unshuffle(x, 2)
        given = None if self.time is None else self.time(time_embedding(t, 64).to(x.dtype))
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            h = norm(convolution(h))
            if given is not None:
                scale, shift, given = given.split([h.shape[1], h.shape[1], given.shape[1] - 2 * h.shape[1]], 1)
                h = h * (1 + scale[:, :, None, None]) + shift[:, :, None, None]
            h = F.silu(h)
        return self.last(h.flatten(1))


class CLIP(nn.Module):
    """image(x, t) and text(y): unit vectors of pictures (at time t) and of the captions with the numbers y.

    tokens       (captions, L): row n holds the tokens of caption n
    vocab        number of tokens
    dim          of the common space; width: channels of the first convolution
    noise_aware  the pictures are noised ones, x_t, and the image encoder is given t

    The temperature is learned as a logarithm, log(1 / tau), and 1 / tau stays below 100 (Radford et al. 2021, section 2.5)."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self, tokens: Table, vocab: IntLike, dim: IntLike = 64, width: IntLike = 24, noise_aware: bool = False
    ) -> None:
        super().__init__()
        table = torch.as_tensor(tokens)
        dim, width = integer("dim", dim, "at least 1", 1), integer("width", width, "at least 1", 1)
        if table.ndim != 2 or table.dtype != torch.int64 or len(table) < 2:
            raise ValueError(f"tokens must be whole numbers (captions, L), got {table.dtype} {tuple(table.shape)}")
        if not isinstance(noise_aware, bool):
            raise ValueError(f"noise_aware must be True or False, got {noise_aware!r:.80}")
        self.settings: dict[str, Any] = dict(
            tokens=table.tolist(), vocab=int(vocab), dim=dim, width=width, noise_aware=noise_aware
        )
        self.num_classes, self.noise_aware = len(table) - 1, noise_aware
        self.pictures = ImageEncoder(dim, width, noise_aware)
        self.captions = CaptionEmbedding(TextEncoder(vocab, table.shape[1], width=64, depth=1, heads=4), table)
        self.project = nn.Linear(64, dim, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def image(self, x: Images, t: OneEach = 0) -> Vectors:
        """The unit vectors of pictures x (B, 1, 28, 28), noised ones at times t if the model is noise-aware, 0 for clean ones."""
        check_tensor("x", x, ("B", 1, 28, 28), self)
        return F.normalize(self.pictures(x, one_each("t", t, x)), dim=1)

    def text(self, y: Integer[Tensor, "batch"]) -> Vectors:
        """The unit vectors of the captions with these numbers."""
        if len(y) and not 0 <= int(y.min()) <= int(y.max()) <= self.num_classes:
            raise ValueError(f"y must hold captions 0..{self.num_classes}, got {int(y.min())}..{int(y.max())}")
        return F.normalize(self.project(self.captions(y)), dim=1)

    def scale(self) -> Float[Tensor, ""]:
        """1 / tau = exp(log_scale), at most 100."""
        return self.log_scale.clamp(max=math.log(LARGEST_SCALE)).exp()

    def score(self, x: Images, t: OneEach, y: OneEach) -> Float[Tensor, "batch"]:
        """s(x_t, c) = <image(x_t, t), text(c)> / tau for each picture and its own caption, (B,): book, eq. 19.10's s_t."""
        return self.scale() * (self.image(x, t) * self.text(one_each("y", y, x))).sum(1)

    def muon_parameters(self) -> list[str]:
        """None: the network is small, and AdamW takes all of it."""
        return []


def contrastive_loss(u: Vectors, v: Vectors, scale: float | Float[Tensor, ""]) -> Float[Tensor, "batch"]:
    """-1/2 [log softmax over j of s_ij at j = i, + log softmax over j of s_ji at j = i], s_ij = scale <u_i, v_j>, for each pair
    (B,); its mean is the loss of book, eq. 19.3 (Radford et al. 2021, figure 3; van den Oord et al. 2018)."""
    if u.ndim != 2 or u.shape != v.shape:
        raise ValueError(f"u and v must have the same shape (B, dim), got {tuple(u.shape)} and {tuple(v.shape)}")
    s, right = scale * u @ v.T, torch.arange(len(u), device=u.device)
    return (F.cross_entropy(s, right, reduction="none") + F.cross_entropy(s.T, right, reduction="none")) / 2
