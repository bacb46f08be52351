"""Images as rows of codes: a vector quantiser, and the VQ-VAE around it (van den Oord, Vinyals and Kavukcuoglu 2017).

    x -> encoder -> z, a vector for each position of a small map -> the nearest of K codes -> decoder -> the image

The place of the code in the codebook is its token: an image of 28 x 28 pixels becomes 7 x 7 tokens. Encoder and decoder are
modules of their own, of use also without the codebook.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from diffnotes.models.arguments import IntLike, check_dense, check_tensor, integer

Maps = Float[Tensor, "batch dim rows columns"]
Images = Float[Tensor, "batch 1 height width"]
TokenMaps = Int[Tensor, "batch rows columns"]
SHRINK = 4  # a position of the map is 4 x 4 pixels


@dataclass(frozen=True)
class Quantized:
    """What a VectorQuantizer answers.

    q           the codes at the positions of z, (B, D, H, W); its gradient goes to z as it is (straight-through, book, eq. 17.7)
    tokens      which codes, (B, H, W) int64
    commitment  squared distance of z from its codes, summed over the map, (B,); its gradient goes to z alone"""

    q: Maps
    tokens: TokenMaps
    commitment: Float[Tensor, "batch"]


class VectorQuantizer(nn.Module):
    """Replaces every vector of a map by the nearest of K codes (book, eq. 17.5; van den Oord et al. 2017, section 3.1).

    codes    K, the size of the codebook
    dim      D, the numbers of a code
    decay    gamma of the moving averages that the codes are (book, eq. 17.6; their appendix A.1)
    restart  a code whose average count is below this share of an even one is put where a vector of the batch is; 0: never

    In train mode every call moves the codebook: the first one draws the codes from its batch, with torch's own random numbers.
    The codes are buffers, not weights: no optimiser sees them, and a moving average of weights takes them over as they are."""

    codebook: Tensor
    count: Tensor
    total: Tensor
    begun: Tensor

    def __init__(self, codes: IntLike = 64, dim: IntLike = 16, decay: float = 0.99, restart: float = 0.01) -> None:
        super().__init__()
        codes, dim = integer("codes", codes, "at least 2", 2), integer("dim", dim, "at least 1", 1)
        for name, value in (("decay", decay), ("restart", restart)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {value!r:.80}")
        self.codes, self.dim, self.decay, self.restart = codes, dim, float(decay), float(restart)
        self.register_buffer("codebook", torch.randn(codes, dim))
        self.register_buffer("count", torch.zeros(codes))  # N_k
        self.register_buffer("total", torch.zeros(codes, dim))  # m_k
        self.register_buffer("begun", torch.zeros((), dtype=torch.bool))

    def forward(self, z: Maps) -> Quantized:
        """Quantise maps z (B, D, H, W); in train mode, move the codebook afterwards."""
        check_tensor("z", z, ("B", self.dim, "H", "W"))
        vectors = z.detach().movedim(1, -1).reshape(-1, self.dim).to(self.codebook.dtype)
        if self.training and not bool(self.begun):
            self._begin(vectors)
        tokens = self.nearest(vectors)
        e = self.codebook[tokens].reshape(len(z), *z.shape[2:], self.dim).movedim(-1, 1)
        commitment = (z - e).square().flatten(1).sum(1)
        if self.training:
            self._move(vectors, tokens)
        return Quantized(z + (e - z).detach(), tokens.reshape(len(z), *z.shape[2:]), commitment)

    def nearest(self, vectors: Float[Tensor, "n dim"]) -> Int[Tensor, "n"]:
        """argmin_k |z - e_k|^2 = argmin_k |e_k|^2 - 2 z . e_k, for |z|^2 is the same for all k."""
        return (self.codebook.square().sum(1) - 2 * vectors @ self.codebook.T).argmin(1)

    def lookup(self, tokens: TokenMaps) -> Maps:
        """The codes of maps of tokens (B, H, W), as (B, D, H, W)."""
        check_token_maps(tokens, self.codes)
        return self.codebook[tokens.long()].movedim(-1, 1)  # bytes would be read as a mask

    @torch.no_grad()
    def _begin(self, vectors: Tensor) -> None:
        self.codebook.copy_(self._some(vectors, self.codes))
        self.begun.fill_(True)

    @torch.no_grad()
    def _move(self, vectors: Tensor, tokens: Tensor) -> None:
        n = torch.zeros_like(self.count).index_add_(0, tokens, torch.ones_like(vectors[:, 0]))
        self.count.mul_(self.decay).add_(n, alpha=1 - self.decay)
        self.total.mul_(self.decay).index_add_(0, tokens, vectors, alpha=1 - self.decay)
        used = self.count > 0  # the others stay where they are
        self.codebook[used] = self.total[used] / self.count[used, None]
        least = self.restart * self.count.sum() / self.codes  # a share of the even count
        dead = self.count < least
        if number := int(dead.sum()):
            self.codebook[dead] = self._some(vectors, number)
            self.count[dead] = 2 * least
            self.total[dead] = 2 * least * self.codebook[dead]

    @staticmethod
    def _some(vectors: Tensor, number: int) -> Tensor:
        return vectors[torch.randint(len(vectors), (number,)).to(vectors.device)]


class Residual(nn.Module):
    """x + 1x1 convolution of SiLU of 3x3 convolution of SiLU of x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.near, self.mix = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) to the same shape."""
        return x + self.mix(F.silu(self.near(F.silu(x))))


def encoder(dim: int, width: int, blocks: int = 1) -> nn.Sequential:
    """Images (B, 1, H, W) to maps (B, dim, H/4, W/4): two convolutions of stride 2 and some residual blocks."""
    return nn.Sequential(
        nn.Conv2d(1, width, 4, 2, 1), nn.SiLU(), nn.Conv2d(width, width, 4, 2, 1),
        *(Residual(width) for _ in range(blocks)), nn.SiLU(), nn.Conv2d(width, dim, 1),
    )  # fmt: skip


def decoder(dim: int, width: int, blocks: int = 1) -> nn.Sequential:
    """Maps (B, dim, H, W) to the logits of images (B, 1, 4H, 4W), the way of `encoder` backwards."""
    return nn.Sequential(
        nn.Conv2d(dim, width, 3, padding=1), *(Residual(width) for _ in range(blocks)), nn.SiLU(),
        nn.ConvTranspose2d(width, width, 4, 2, 1), nn.SiLU(), nn.ConvTranspose2d(width, 1, 4, 2, 1),
    )  # fmt: skip


class VQVAE(nn.Module):
    """model(x): the logits of the image that comes back, (B, 1, H, W), and what the quantiser answers.

    codes, dim     size of the codebook, and the numbers of a code
    width, blocks  channels, and residual blocks each of encoder and decoder
    decay, restart see VectorQuantizer

    A grey value in [-1, 1] is read as 2 P(ink) - 1, so that the reconstruction loss is a cross-entropy. `encoder`, `quantizer`
    and `decoder` are its three parts. `settings` builds the same network again."""

    item_shape: tuple[int, ...] | None = None
    classes: tuple[str, ...] = ()
    label_dropout: float | None = None

    def __init__(
        self,
        codes: IntLike = 64,
        dim: IntLike = 16,
        width: IntLike = 48,
        blocks: IntLike = 1,
        decay: float = 0.99,
        restart: float = 0.01,
    ) -> None:
        super().__init__()
        width, blocks = integer("width", width, "at least 1", 1), integer("blocks", blocks, "at least 0", 0)
        self.quantizer = VectorQuantizer(codes, dim, decay, restart)
        self.encoder = encoder(self.quantizer.dim, width, blocks)
        self.decoder = decoder(self.quantizer.dim, width, blocks)
        self.codes = self.quantizer.codes
        self.settings: dict[str, Any] = dict(
            codes=self.codes, dim=self.quantizer.dim, width=width, blocks=blocks, decay=self.quantizer.decay,
            restart=self.quantizer.restart,
        )  # fmt: skip

    def forward(self, x: Images) -> tuple[Images, Quantized]:
        """Encode, quantise, decode: images (B, 1, H, W) in [-1, 1], H and W divisible by 4."""
        quantized = self.quantizer(self._encoded(x))
        return self.decoder(quantized.q), quantized

    @torch.no_grad()
    def encode(self, x: Images) -> TokenMaps:
        """The tokens of images (B, 1, H, W): (B, H/4, W/4) int64, 0..codes-1. The codebook stays as it is."""
        z = self._encoded(x)
        vectors = z.movedim(1, -1).reshape(-1, self.quantizer.dim)
        return self.quantizer.nearest(vectors.to(self.quantizer.codebook.dtype)).reshape(len(z), *z.shape[2:])

    @torch.no_grad()
    def decode(self, tokens: TokenMaps) -> Images:
        """The images of maps of tokens (B, H, W): (B, 1, 4H, 4W) in [-1, 1]."""
        return torch.tanh(self.decoder(self.quantizer.lookup(tokens)) / 2)

    def _encoded(self, x: Tensor) -> Tensor:
        check_tensor("x", x, ("B", 1, "H", "W"), self)
        if x.shape[2] % SHRINK or x.shape[3] % SHRINK or not x.shape[2] * x.shape[3]:
            raise ValueError(f"x must have height and width divisible by {SHRINK}, got {tuple(x.shape[2:])}")
        return self.encoder(x)


def perplexity(tokens: Int[Tensor, "..."], codes: IntLike) -> float:
    """exp of the entropy of the shares of the codes among the tokens (book, eq. 17.10): 1 if all are alike, `codes` if all occur
    equally often."""
    codes = integer("codes", codes, "at least 1", 1)
    _check_integers(tokens, codes)
    if tokens.numel() == 0:
        raise ValueError("tokens must hold at least one token, got none")
    share = torch.bincount(tokens.flatten(), minlength=codes).double() / tokens.numel()
    return float(torch.special.entr(share).sum().exp())


def check_token_maps(tokens: Tensor, codes: int) -> None:
    """ValueError unless tokens (B, H, W) hold integers 0..codes-1."""
    _check_integers(tokens, codes)
    if tokens.ndim != 3 or not tokens.shape[1] * tokens.shape[2]:
        raise ValueError(f"tokens must have the shape (B, H, W), got {tuple(tokens.shape)}")


def _check_integers(tokens: Tensor, codes: int) -> None:
    whole = isinstance(tokens, Tensor) and tokens.dtype in (
        torch.int64,
        torch.int32,
        torch.int16,
        torch.int8,
        torch.uint8,
    )
    if not whole:
        came = f"dtype {tokens.dtype}" if isinstance(tokens, Tensor) else type(tokens).__name__
        raise ValueError(f"tokens must be a tensor of integers, got {came}")
    check_dense("tokens", tokens)
    if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < codes:
        raise ValueError(f"tokens must lie in 0..{codes - 1}, got {int(tokens.min())}..{int(tokens.max())}")
