"""Linear operators on images, each with its singular value decomposition: what is measured of an image (chapter 22).

    A x,    A^T z,    A^+ y,    (r^2 A A^T + sigma^2 I)^{-1} z

The samplers of inverse.py ask for no more than these four.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    check_dense,
    check_floats,
    check_images,
    flatten_images,
    integer,
    number,
    shown,
)
from diffnotes.process.forward import Images

MOST_PIXELS = 10_000  # of a dense matrix; its SVD takes minutes beyond
LARGEST_SIDE = 100  # of a square image with so many pixels
Matrix = Float[Tensor, "m d"]
Measured = Float[Tensor, "_ _"]
Flat = Float[Tensor, "_ _"]
Seen = Bool[Tensor, "..."]


@dataclass(frozen=True, eq=False)
class Linear:
    """A linear operator A (m, d) on images of d numbers, with its singular value decomposition A = U diag(s) V^T.

    Linear.mask(seen), Linear.pool(size, factor) and Linear.blur(size, width) make the usual ones. A dense matrix is the simplest
    thing that is right; images of more than 10,000 numbers are refused."""

    A: Matrix
    left: Tensor = field(init=False, repr=False)  # U (m, rank)
    singular: Tensor = field(init=False, repr=False)  # s (rank,), all positive
    right: Tensor = field(init=False, repr=False)  # V^T (rank, d)

    def __post_init__(self) -> None:
        check_floats("A", self.A, "(m, d)")
        if self.A.ndim != 2 or not self.A.numel() or not bool(self.A.isfinite().all()):
            raise ValueError(f"A must be a finite matrix (m, d), got {shown(self.A)}")
        if self.A.shape[1] > MOST_PIXELS:
            raise ValueError(
                f"A must have at most {MOST_PIXELS:,} columns, got {self.A.shape[1]:,}: a dense singular value "
                "decomposition would take minutes and gigabytes; larger images want an operator that is never written down"
            )
        A = self.A.double()
        square = A @ A.T
        if torch.equal(square, torch.diag(square.diagonal())):  # rows at right angles: masks and means of blocks
            s = square.diagonal().sqrt()
            U, Vt = torch.eye(len(A), dtype=torch.float64), A / s.clamp(min=1e-300)[:, None]
        else:
            U, s, Vt = torch.linalg.svd(A, full_matrices=False)
        kept = s > s.max() * max(A.shape) * 1e-15
        for name, value in (("left", U[:, kept]), ("singular", s[kept]), ("right", Vt[kept])):
            object.__setattr__(self, name, value.to(self.A))

    @classmethod
    def mask(cls, seen: Seen) -> "Linear":
        """The seen pixels, row after row; seen holds True or False for each pixel."""
        flat = check_seen(seen).flatten()
        if not bool(flat.any()):
            raise ValueError("seen must be True for at least one pixel, got none")
        return cls(torch.eye(len(flat))[flat])

    @classmethod
    def pool(cls, size: IntLike, factor: IntLike) -> "Linear":
        """The means of factor x factor blocks of a square image with `size` pixels a side: ((size / factor)^2, size^2)."""
        size = integer("size", size, 1, LARGEST_SIDE)
        factor = integer("factor", factor, 1, size, "size = ")
        if size % factor:
            raise ValueError(f"factor must divide size, got {factor} and {size}")
        line = torch.eye(size // factor).repeat_interleave(factor, dim=1) / factor
        return cls(torch.kron(line, line))

    @classmethod
    def blur(cls, size: IntLike, width: FloatLike) -> "Linear":
        """A Gaussian blur of standard deviation `width` pixels of a square image, (size^2, size^2); beyond the edge the weights
        are left out and the others sum to 1."""
        size = integer("size", size, 1, LARGEST_SIDE)
        width = number("width", width, "be a positive number", lambda v: 0 < v < math.inf)
        place = torch.arange(size, dtype=torch.float64)
        line = (-0.5 * ((place[:, None] - place) / width).square()).exp()
        line = line / line.sum(1, keepdim=True)
        return cls(torch.kron(line, line).float())

    def forward(self, x: Images) -> Measured:
        """A x, (B, m), for images x (B, ...) of d numbers each."""
        check_images(x=x)
        flat = flatten_images(x)
        if flat.shape[1] != self.A.shape[1]:
            raise ValueError(f"x must be images of {self.A.shape[1]} numbers, the columns of A, got {tuple(x.shape)}")
        return flat @ self.A.to(x).T

    def transpose(self, z: Measured) -> Flat:
        """A^T z, (B, d)."""
        return z @ self.A.to(self.check(z))

    def pinv(self, y: Measured) -> Flat:
        """A^+ y, (B, d): of all x with the smallest |y - A x| the shortest one."""
        self.check(y)
        return (y @ self.left.to(y) / self.singular.to(y)) @ self.right.to(y)

    def solve(self, z: Measured, r2: FloatLike, sigma_y: FloatLike) -> Measured:
        """(r2 A A^T + sigma_y^2 I)^{-1} z, (B, m); for sigma_y = 0 the pseudo-inverse in its place."""
        self.check(z)
        r2 = number("r2", r2, "be >= 0", lambda v: 0 <= v < math.inf)
        sigma_y = number("sigma_y", sigma_y, "be >= 0", lambda v: 0 <= v < math.inf)
        if r2 == sigma_y == 0:
            raise ValueError("r2 and sigma_y must not both be 0: there is nothing to divide by")
        U, along = self.left.to(z), z @ self.left.to(z)
        solved = along / (r2 * self.singular.to(z).square() + sigma_y**2) @ U.T
        return solved + (z - along @ U.T) / sigma_y**2 if sigma_y > 0 else solved

    def check(self, y: Tensor) -> Tensor:
        """y (B, m), if it is that: one number for each row of A."""
        check_floats("y", y, "(B, m)")
        if y.ndim != 2 or y.shape[1] != len(self.A):
            raise ValueError(
                f"y must have the shape (B, {len(self.A)}), one number for each row of A, got {tuple(y.shape)}"
            )
        return y


def check_seen(seen: Tensor, x: Tensor | None = None) -> Tensor:
    """A mask of True and False, if it is one, and of the shape of one of the images x where these are given."""
    if not isinstance(seen, Tensor) or seen.dtype != torch.bool:
        raise ValueError(f"seen must be a tensor of True and False, got {shown(seen)}")
    check_dense("seen", seen)
    if x is not None and seen.shape != x.shape[1:]:
        raise ValueError(f"seen must have the shape of one image, {tuple(x.shape[1:])}, got {tuple(seen.shape)}")
    return seen
