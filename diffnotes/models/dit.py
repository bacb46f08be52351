"""The diffusion transformer: patches of the noisy image are tokens, and time and label steer every block through its norms.

    x -> x + g(c) * F((1 + a(c)) * LN(x) + b(c)),    c = embedding of time and label

The block is the one of models/transformer.py; its scales a, shifts b and gates g come from c, and are 0 at the start, so that
every block begins as the identity (adaLN-zero; Peebles and Xie 2023, section 3.2). DiT has a matrix for them in each block;
here one matrix serves all blocks, with a small table in each (Chen et al. 2023, PixArt, section 2.3).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, finite_numbers, integer, times_and_labels
from diffnotes.models.transformer import Block, check_heads, grid_positions
from diffnotes.models.unet import TARGETS, Images, time_embedding


def patches(x: Images, p: IntLike) -> Float[Tensor, "batch patch pixel"]:
    """An image cut into squares of p x p pixels, row after row: (B, C, H, W) to (B, HW / p^2, C p^2) (book, eq. 16.1).

    The numbers of a patch are ordered as (C, p, p), like the kernel of a convolution: so a linear layer on patches is a
    convolution with kernel and stride p."""
    p = integer("p", p, "at least 1", 1)
    check_tensor("x", x, ("B", "C", "H", "W"))
    if x.shape[-2] % p or x.shape[-1] % p:
        raise ValueError(f"x: height and width must be divisible by p = {p}, got {x.shape[-2]} x {x.shape[-1]}")
    return F.pixel_unshuffle(x, p).flatten(2).transpose(1, 2)


def unpatch(tokens: Float[Tensor, "batch patch pixel"], p: IntLike, height: IntLike, width: IntLike) -> Images:
    """The image of height x width pixels that `patches` cut: (B, N, C p^2) to (B, C, height, width)."""
    p, height = integer("p", p, "at least 1", 1), integer("height", height, "at least 1", 1)
    width = integer("width", width, "at least 1", 1)
    if height % p or width % p:
        raise ValueError(f"height and width must be divisible by p = {p}, got {height} x {width}")
    check_tensor("tokens", tokens, ("B", height * width // p**2, "C p^2"))
    if tokens.shape[2] % p**2:
        raise ValueError(f"tokens must have a multiple of p^2 = {p**2} numbers each, got {tokens.shape[2]}")
    return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, (height // p, width // p)), p)


class DiT(nn.Module):
    """model(x_t, t, y): the prediction for noisy images x_t (B, image_channels, side, side) at times t (B,), of x_t's shape.

    width        numbers in a token, divisible by 4 and by heads
    depth        blocks
    heads        attention heads of a block
    patch        side of the patches: (side / patch)^2 tokens
    num_classes  number of labels, or None; the label num_classes is "no label": what y = None means
    target       the prediction target: "eps", "x0", "v" or "u"
    side         height and width of the images, divisible by patch. It cannot change later: each position has an entry in a table
    convolution  a depthwise 3 x 3 convolution inside every MLP: what is near in the picture is near again
    input_mean   None, or for each time 0..T the mean of x_t over data and pixels, which is subtracted first, as in UNet

    The same call and attributes as UNet. The positional embedding begins as sines and is learned."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None
    input_mean: Tensor | None

    def __init__(
        self,
        width: IntLike = 96,
        depth: IntLike = 6,
        heads: IntLike = 3,
        patch: IntLike = 4,
        num_classes: IntLike | None = None,
        target: str = "v",
        image_channels: IntLike = 1,
        side: IntLike = 28,
        convolution: bool = True,
        input_mean: Sequence[float] | Float[Tensor, "T_plus_1"] | Float[np.ndarray, "T_plus_1"] | None = None,
    ) -> None:
        super().__init__()
        width, heads = check_heads(width, heads)
        if width % 4:
            raise ValueError(f"width must be divisible by 4 (sine and cosine of row and column), got {width}")
        depth, patch = integer("depth", depth, "at least 1", 1), integer("patch", patch, "at least 1", 1)
        image_channels = integer("image_channels", image_channels, "at least 1", 1)
        side = integer("side", side, "at least 1", 1)
        if side % patch:
            raise ValueError(f"side must be divisible by patch, got side {side} and patch {patch}")
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, "at least 1, or None for no labels", 1)
        if not isinstance(target, str) or target not in TARGETS:
            raise ValueError(f'target must be one of "eps", "x0", "v", "u", got {target!r}')
        if not isinstance(convolution, bool):
            raise ValueError(f"convolution must be True or False, got {convolution!r:.80}")
        self.settings: dict[str, Any] = dict(
            width=width, depth=depth, heads=heads, patch=patch, num_classes=num_classes, target=target,
            image_channels=image_channels, side=side, convolution=convolution,
        )  # fmt: skip
        if input_mean is not None:
            self.settings["input_mean"] = finite_numbers("input_mean", input_mean)
        mean = self.settings.get("input_mean")
        self.register_buffer("input_mean", None if mean is None else torch.tensor(mean), persistent=False)
        self.target, self.num_classes, self.patch, self.side, self.width = target, num_classes, patch, side, width
        grid, pixels = side // patch, image_channels * patch**2

        self.first = nn.Linear(pixels, width)
        self.positions = nn.Parameter(grid_positions(grid, grid, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.label = nn.Embedding(num_classes + 1, width) if num_classes is not None else None
        self.modulation = nn.Linear(width, 6 * width)  # one for all blocks ...
        self.tables = nn.Parameter(torch.zeros(depth, 6, width))  # ... and what each block adds to it
        near = grid if convolution else None
        self.blocks = nn.ModuleList(Block(width, heads, adaptive=True, side=near) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, pixels)
        for layer in (self.modulation, self.last_modulation, self.last):  # the zeros come last, after every other start
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x_t: Images, t: OneEach, y: OneEach | None = None) -> Images:
        """The prediction, of x_t's shape. t: times 1..T (T is not known here). y: labels 0..num_classes - 1, or num_classes for
        "no label"; None: no labels. Of both, one for each image, or a single one for all."""
        x, c, shared = self._begin(x_t, t, y)
        for block, table in zip(self.blocks, self.tables, strict=True):
            x = block(x, shared + table)
        shift, scale = self.last_modulation(c)[:, None].chunk(2, dim=2)
        x = self.last((1 + scale) * self.norm(x) + shift)
        return unpatch(x, self.patch, self.side, self.side)

    def attention_maps(
        self, x_t: Images, t: OneEach, y: OneEach | None = None
    ) -> Float[Tensor, "depth batch heads patch seen"]:
        """How much every patch looks at every other one, in each block and head: (depth, B, heads, N, N), rows sum to 1."""
        x, _, shared = self._begin(x_t, t, y)
        maps = []
        for block, table in zip(self.blocks, self.tables, strict=True):
            shift, scale = (shared + table)[:, :2, None].unbind(1)
            maps.append(block.attention.weights((1 + scale) * block.norm_1(x) + shift))  # type: ignore[union-attr, operator]
            x = block(x, shared + table)
        return torch.stack(maps)

    def muon_parameters(self) -> list[str]:
        """The matrices inside the blocks; patch layer, positions, time, label, modulation and output are for AdamW."""
        return [f"blocks.{k}.{name}" for k, block in enumerate(self.blocks) for name in block.matrices()]  # type: ignore[operator]

    def _begin(self, x_t: Images, t: OneEach, y: OneEach | None) -> tuple[Tensor, Tensor, Tensor]:
        """The tokens before the first block, silu(c), and the part of the modulation that all blocks share."""
        check_tensor("x_t", x_t, ("B", self.settings["image_channels"], "H", "W"), self)
        if x_t.shape[-2:] != (self.side, self.side):
            raise ValueError(
                f"x_t must be {self.side} x {self.side}, for each position has an entry in a table, got "
                f"{x_t.shape[-2]} x {x_t.shape[-1]}"
            )
        times, labels = times_and_labels("DiT", x_t, t, y, self.num_classes, self.input_mean)
        c = self.time(time_embedding(times, self.width).to(x_t.dtype))
        if self.label is not None:
            c = c + self.label(labels)
        c = F.silu(c)
        if self.input_mean is not None:
            x_t = x_t - self.input_mean[times].to(x_t.dtype)[:, None, None, None]
        x = self.first(patches(x_t, self.patch)) + self.positions
        return x, c, self.modulation(c).unflatten(1, (6, self.width))
