"""A transformer that completes a series: some positions are seen, and the others are denoised in the light of them."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, OneEach, check_dense, integer, one_each
from diffnotes.models.transformer import Block

Series = Float[Tensor, "batch position"]
Seen = Bool[Tensor, "batch position"]


class SeriesTransformer(nn.Module):
    """model(x_t, t, seen): v for every position of a series. Where `seen`, x_t holds the value itself, without noise, and what is
    predicted there has no meaning.

    Each position is given its value, whether it is seen, and its neighbours within three positions; then come blocks of
    attention, whose norms the time scales and shifts (adaLN-Zero; Peebles and Xie 2023). That the mask is an input is the idea
    of CSDI (Tashiro et al. 2021). `settings` builds the same network again."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None
    num_classes = None
    target = "v"

    def __init__(self, length: IntLike = 48, width: IntLike = 64, depth: IntLike = 3, heads: IntLike = 4) -> None:
        super().__init__()
        self.length = integer("length", length, "at least 1", 1)
        width, depth = integer("width", width, "at least 2", 2), integer("depth", depth, "at least 1", 1)
        if width % 2:
            raise ValueError(f"width must be even (sines and cosines come in pairs), got {width}")
        self.width = width
        self.settings: dict[str, Any] = dict(length=self.length, width=width, depth=depth, heads=heads)
        self.embed = nn.Conv1d(2, width, 7, padding=3)
        # sines and cosines of wavelengths from 6 to 300 positions: those that a window can tell apart
        angle = torch.arange(self.length)[:, None] * 50 ** (-torch.arange(width // 2) * 2 / width)
        self.places = nn.Parameter(torch.cat([angle.sin(), angle.cos()], dim=1))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU())
        self.blocks = nn.ModuleList(Block(width, heads, adaptive=True) for _ in range(depth))
        modulations = [nn.Linear(width, 6 * width) for _ in range(depth)]
        self.modulations = nn.ModuleList(modulations)
        for modulation in modulations:  # gates 0: every block begins as the identity
            nn.init.zeros_(modulation.weight)
            nn.init.zeros_(modulation.bias)
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, 1)

    def forward(self, x_t: Series, t: OneEach, seen: Seen | None = None) -> Series:
        """v (B, length). x_t (B, length), clean where seen (B, length) is True; t 1..1000, one for each series or for all; seen
        None: nothing is."""
        self._check(x_t)
        if seen is None:
            seen = torch.zeros_like(x_t, dtype=torch.bool)
        if not isinstance(seen, Tensor) or seen.dtype != torch.bool or seen.shape != x_t.shape:
            came = f"{seen.dtype} {tuple(seen.shape)}" if isinstance(seen, Tensor) else type(seen).__name__
            raise ValueError(f"seen must hold True or False for each position, shape {tuple(x_t.shape)}, got {came}")
        t = one_each("t", t, x_t)
        frequency = torch.exp(torch.arange(self.width // 2, device=x_t.device) * (-2 / self.width * math.log(10000)))
        angle = t[:, None] * frequency
        time = self.time(torch.cat([angle.cos(), angle.sin()], dim=1))
        h = self.embed(torch.stack([x_t, seen.to(x_t)], dim=1)).transpose(1, 2) + self.places
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            h = block(h, modulation(time).unflatten(1, (6, self.width)))
        return self.last(self.norm(h)).squeeze(2)

    def muon_parameters(self) -> list[str]:
        """The matrices inside the blocks; all else is for AdamW."""
        return [f"blocks.{k}.{name}" for k, block in enumerate(self.blocks) for name in block.matrices()]  # type: ignore[operator]

    def _check(self, x_t: Tensor) -> None:
        if not isinstance(x_t, Tensor) or not x_t.is_floating_point():
            came = f"dtype {x_t.dtype}" if isinstance(x_t, Tensor) else type(x_t).__name__
            raise ValueError(f"x_t must be a tensor of floating-point numbers (B, {self.length}), got {came}")
        check_dense("x_t", x_t)
        if x_t.ndim != 2 or x_t.shape[1] != self.length:
            raise ValueError(f"x_t must have the shape (B, {self.length}), got {tuple(x_t.shape)}")
