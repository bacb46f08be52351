"""A denoiser of vectors: what the U-Net is for images, a multilayer perceptron is for embeddings (chapter 18)."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, OneEach, check_tensor, integer, times_and_labels
from diffnotes.models.unet import TARGETS, time_embedding

Vectors = Float[Tensor, "batch dim"]


class Block(nn.Module):
    """h -> h + f(h, t): a norm whose scale and shift depend on the embedding, and two layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.scale_shift = nn.Linear(width, 2 * width)
        self.wide, self.out = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, h: Vectors, embedding: Vectors) -> Vectors:
        """(B, width) to the same shape."""
        scale, shift = self.scale_shift(F.silu(embedding)).chunk(2, dim=1)
        return h + self.out(F.silu(self.wide(self.norm(h) * (1 + scale) + shift)))


class MLPDenoiser(nn.Module):
    """model(z_t, t, y): the prediction for noisy vectors z_t (B, dim), given the row y of a table.

    dim     numbers of a vector
    table   (K, numbers), the shape of a table with a row for each label, such as the text embedding of each caption, the last
            one for "no label": num_classes is K - 1. set_table fills it, and training leaves it as it is. None: no labels
    width, blocks   of the network
    target  the prediction target: "eps", "x0", "v" or "u"

    (The prior of Ramesh et al. 2022, section 2.2, is a transformer with target "x0".)"""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None
    table: Tensor | None

    def __init__(
        self,
        dim: IntLike,
        table: Sequence[IntLike] | None = None,
        width: IntLike = 256,
        blocks: IntLike = 3,
        target: str = "x0",
    ) -> None:
        super().__init__()
        dim, width = integer("dim", dim, "at least 1", 1), integer("width", width, "at least 1", 1)
        blocks = integer("blocks", blocks, "at least 1", 1)
        if not isinstance(target, str) or target not in TARGETS:
            raise ValueError(f'target must be one of "eps", "x0", "v", "u", got {target!r}')
        sizes = None if table is None else _sizes(table)
        self.dim, self.target = dim, target
        self.num_classes = None if sizes is None else sizes[0] - 1
        self.settings: dict[str, Any] = dict(dim=dim, table=sizes, width=width, blocks=blocks, target=target)
        self.register_buffer("table", None if sizes is None else torch.zeros(sizes))
        self.first = nn.Linear(dim, width)
        self.time = nn.Sequential(nn.Linear(64, width), nn.SiLU(), nn.Linear(width, width))
        self.label = None if sizes is None else nn.Linear(sizes[1], width)
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.norm, self.last = nn.LayerNorm(width), nn.Linear(width, dim)

    def set_table(self, rows: Float[Tensor, "label numbers"]) -> None:
        """Put these rows, one for each label and the last for "no label", into the table."""
        if self.table is None:
            raise ValueError("rows were given, but this network was made without labels (table=None)")
        check_tensor("rows", rows, tuple(self.table.shape))
        self.table.copy_(rows)

    def forward(self, z_t: Vectors, t: OneEach, y: OneEach | None = None) -> Vectors:
        """The prediction, of z_t's shape; y = None: no label."""
        check_tensor("z_t", z_t, ("B", self.dim), self)
        times, labels = times_and_labels("MLPDenoiser", z_t, t, y, self.num_classes, None)
        embedding = self.time(time_embedding(times, 64).to(z_t.dtype))
        if self.table is not None and self.label is not None:
            embedding = embedding + self.label(self.table[labels].to(z_t.dtype))
        h = self.first(z_t)
        for block in self.blocks:
            h = block(h, embedding)
        return self.last(self.norm(h))


def _sizes(table: Any) -> tuple[int, int]:
    given = tuple(table) if isinstance(table, list | tuple) else ()
    if len(given) != 2:
        raise ValueError(f"table must be two sizes, (labels, numbers), or None for no labels, got {table!r:.80}")
    return integer("table's labels", given[0], "at least 2", 2), integer("table's numbers", given[1], "at least 1", 1)
