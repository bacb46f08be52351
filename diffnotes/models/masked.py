"""A masked autoencoder: most of the patches of an image are hidden, and predicted from the others (He et al. 2022).

visible patches -> linear + position -> blocks -> a mask token for each hidden position -> blocks -> patches of pixels
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffnotes.models.arguments import IntLike, check_dense, check_tensor, integer
from diffnotes.models.transformer import Block, check_heads, grid_positions

Images = Float[Tensor, "batch 1 height width"]
LOUDER = 4.0  # centred patches are mostly near 0, the sines of the positions are not: so that both count alike
Patches = Float[Tensor, "batch position pixel"]


class MaskedAutoencoder(nn.Module):
    """model(x, visible): all patches (B, positions, patch^2), predicted from those of the positions `visible` (B, keep) alone.

    side           of the images, divisible by patch
    patch          side of a patch in pixels
    width, heads   features of a position, heads of the attention
    depth          blocks over the visible patches (the encoder)
    last           blocks over all positions (the decoder)

    The encoder never sees a mask token (He et al. 2022, section 3). Prediction = mean patch of the position, set by `set_mean`,
    plus what the network adds. `settings` builds the same network again."""

    mean: Tensor
    where: Tensor
    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self,
        side: IntLike = 28,
        patch: IntLike = 4,
        width: IntLike = 64,
        depth: IntLike = 3,
        last: IntLike = 1,
        heads: IntLike = 4,
    ) -> None:
        super().__init__()
        side, patch = integer("side", side, "at least 1", 1), integer("patch", patch, "at least 1", 1)
        depth, last = integer("depth", depth, "at least 1", 1), integer("last", last, "at least 1", 1)
        width, heads = check_heads(width, heads)
        if side % patch:
            raise ValueError(f"side must be divisible by patch, got {side} and {patch}")
        self.side, self.patch, self.positions = side, patch, (side // patch) ** 2
        self.settings: dict[str, Any] = dict(
            side=side, patch=patch, width=width, depth=depth, last=last, heads=heads
        )  # fmt: skip
        self.register_buffer("mean", torch.zeros(self.positions, patch**2))
        self.register_buffer("where", grid_positions(side // patch, side // patch, width))
        self.first = nn.Linear(patch**2, width)
        self.seen = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.middle = nn.LayerNorm(width)
        self.hidden = nn.Parameter(torch.zeros(width))  # the mask token
        self.all = nn.ModuleList(Block(width, heads) for _ in range(last))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, patch**2)
        nn.init.normal_(self.last.weight, std=0.02)
        nn.init.zeros_(self.last.bias)  # it begins at the mean

    def set_mean(self, x: Images) -> None:
        """Let the predictions begin at the mean of these images (N, 1, side, side)."""
        self.mean.copy_(self.patches(x).mean(0))

    def patches(self, x: Images) -> Patches:
        """Images (B, 1, side, side) as patches, row after row: (B, positions, patch^2)."""
        check_tensor("x", x, ("B", 1, self.side, self.side), self)
        p, n = self.patch, self.side // self.patch
        return x.reshape(len(x), n, p, n, p).transpose(2, 3).reshape(len(x), n * n, p * p)

    def image(self, patches: Patches) -> Images:
        """Patches (B, positions, patch^2) as images (B, 1, side, side)."""
        check_tensor("patches", patches, ("B", self.positions, self.patch**2))
        p, n = self.patch, self.side // self.patch
        return patches.reshape(-1, n, n, p, p).transpose(2, 3).reshape(-1, 1, self.side, self.side)

    def features(self, x: Images, visible: Int[Tensor, "batch keep"]) -> Float[Tensor, "batch keep feature"]:
        """What the encoder makes of the visible patches."""
        check_positions(visible, len(x), self.positions)
        centred = self.patches(x) - self.mean
        seen = centred.gather(1, visible[..., None].expand(-1, -1, centred.shape[2]))
        h = self.first(LOUDER * seen) + self.where[visible]
        for block in self.seen:
            h = block(h)
        return h

    def forward(self, x: Images, visible: Int[Tensor, "batch keep"]) -> Patches:
        """All patches, predicted from the visible ones. These are predicted too, and not to be counted."""
        seen = self.middle(self.features(x, visible))
        h = self.hidden.expand(len(x), self.positions, -1).to(seen.dtype)
        h = h.scatter(1, visible[..., None].expand_as(seen), seen) + self.where
        for block in self.all:
            h = block(h)
        return self.mean + self.last(self.norm(h))

    def muon_parameters(self) -> list[str]:
        """The matrices inside the blocks; all else is for AdamW."""
        return [
            f"{part}.{k}.{name}" for part in ("seen", "all") for k, block in enumerate(getattr(self, part))
            for name in block.matrices()
        ]  # fmt: skip


def check_positions(visible: Tensor, number: int, positions: int) -> None:
    """ValueError unless visible (number, keep) holds positions 0..positions-1."""
    if not isinstance(visible, Tensor) or visible.dtype != torch.int64:
        came = f"dtype {visible.dtype}" if isinstance(visible, Tensor) else type(visible).__name__
        raise ValueError(f"visible must be a tensor of int64 (B, keep), got {came}")
    check_dense("visible", visible)
    if visible.ndim != 2 or len(visible) != number or not 1 <= visible.shape[1] <= positions:
        raise ValueError(f"visible must have the shape ({number}, 1..{positions}), got {tuple(visible.shape)}")
    if not 0 <= int(visible.min()) <= int(visible.max()) < positions:
        raise ValueError(
            f"visible must hold positions 0..{positions - 1}, got {int(visible.min())}..{int(visible.max())}"
        )
