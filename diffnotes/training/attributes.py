"""Three meters for a drawn digit: how it leans, how thick its strokes are, how large it is. No network takes part.

    slant = -mu_11 / mu_02        thickness = 2 area / length of the edge        size = larger side of the box

What a caption says of a picture can then be checked on the picture. Ink is I = (x + 1) / 2 in 0..1, and what is fainter than a
tenth counts as paper: a faint pixel far away has a long lever. Castro et al. 2019 (Morpho-MNIST) measure the same by skeletons.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from diffnotes.process.arguments import check_images, number

Pictures = Float[Tensor, "batch 1 height width"]
Readings = Float[Tensor, "batch"]
PAPER = 0.1  # ink below this is paper
THICKNESS_EDGES = (2.2, 2.7)  # pixels; thirds of the training images of MNIST, rounded
SLANT_EDGES = (0.0, 0.2)  # pixels to the right for each pixel up
SIZE_EDGES = (14.5, 17.5)  # pixels; thirds of the training images zoomed by 0.6 to 1
METERS = ("thickness", "size", "slant")  # the order of `readings` and of `attribute_words`


def ink(x: Pictures) -> Pictures:
    """Ink 0..1 of pictures in [-1, 1]; what is fainter than a tenth is 0."""
    check_images(x=x)
    if x.shape[1] != 1:
        raise ValueError(f"x must be grey pictures (B, 1, H, W), got {tuple(x.shape)}")
    amount = ((x + 1) / 2).clamp(0, 1)
    return torch.where(amount < PAPER, 0.0, amount)


def slant(x: Pictures) -> Readings:
    """slant = -mu_11 / mu_02, mu_pq = sum I (c - c_mean)^p (r - r_mean)^q / sum I over rows r (downwards) and columns c
    (book, eq. 19.1): how many pixels to the right a stroke moves for each pixel up, (B,). A shear by k adds k. nan for paper."""
    amount = ink(x)
    r, c = (torch.arange(n, dtype=x.dtype, device=x.device) for n in x.shape[-2:])
    total = amount.sum((1, 2, 3))
    rows, columns = amount.sum((1, 3)), amount.sum((1, 2))
    r_mean, c_mean = rows @ r / total, columns @ c / total
    r0, c0 = r - r_mean[:, None], c - c_mean[:, None]
    mu_11 = torch.einsum("bhw,bh,bw->b", amount[:, 0], r0, c0) / total
    mu_02 = (rows * r0**2).sum(1) / total
    return -mu_11 / mu_02


def thickness(x: Pictures) -> Readings:
    """thickness = 2 int I / int |grad I| (book, eq. 19.2), in pixels, (B,): twice the area over the length of the edge. A ribbon
    of width w and length L reads w / (1 + w / L). The gradient is that between four neighbouring pixels. nan for paper."""
    amount = F.pad(ink(x), (1, 1, 1, 1))
    down = (amount[..., 1:, :] - amount[..., :-1, :]).unfold(-1, 2, 1).mean(-1)
    right = (amount[..., 1:] - amount[..., :-1]).unfold(-2, 2, 1).mean(-1)
    edge = (down**2 + right**2).sqrt().sum((1, 2, 3))
    return 2 * amount.sum((1, 2, 3)) / edge


def size(x: Pictures) -> Readings:
    """The larger side of the box around the pixels with I >= 0.3, in pixels, (B,). 0 for paper."""
    dark = ink(x) >= 0.3
    sides = []
    for other in (2, 3):
        line = dark.any(other)[:, 0]
        first = line.int().argmax(1)
        last = line.shape[1] - 1 - line.flip(1).int().argmax(1)
        sides.append(torch.where(line.any(1), last - first + 1, 0))
    return torch.maximum(*sides).to(x.dtype)


def readings(x: Pictures) -> Float[Tensor, "batch 3"]:
    """Thickness, size and slant of each picture, (B, 3)."""
    return torch.stack([thickness(x), size(x), slant(x)], dim=1)


def attribute_words(x: Pictures) -> Tensor:
    """0, 1 or 2 for thickness (thin, medium, thick), size (small, normal, large) and slant (left, upright, right), int64 (B, 3).

    The edges between the words are thirds of the training images, rounded. What cannot be measured is nan, and counts as 2."""
    edges = torch.tensor([THICKNESS_EDGES, SIZE_EDGES, SLANT_EDGES], dtype=x.dtype, device=x.device)
    return (~(readings(x)[:, :, None] < edges)).sum(2)


def zoom(x: Pictures, factor: float | Readings = 1.0, shear: float | Readings = 0.0) -> Pictures:
    """The pictures drawn smaller (factor below 1) and sheared about the centre of the image, by linear interpolation: after it
    a pixel one row higher stands `shear` pixels further to the right. One number for all, or one for each."""
    check_images(x=x)
    u, k = _each("factor", factor, x), _each("shear", shear, x)
    if bool((u <= 0).any()):
        raise ValueError(f"factor must be positive, got {float(u.min()):g}")
    height, width = x.shape[-2:]
    one, zero = torch.ones_like(u), torch.zeros_like(u)
    # from where in the old picture a pixel comes, in units of half a side: c = (c' + k (r' - middle)) / u, r = r' / u
    matrix = torch.stack([one / u, k * height / width / u, zero, zero, one / u, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    return F.grid_sample(x + 1, grid, align_corners=False) - 1  # beyond the border is paper


def _each(name: str, values: float | Tensor, x: Tensor) -> Tensor:
    if not isinstance(values, Tensor):
        values = torch.full((len(x),), number(name, values, "be a finite number", math.isfinite))
    if values.shape != (len(x),) or not bool(values.isfinite().all()):
        raise ValueError(
            f"{name} must be a finite number, or one for each of the {len(x)} pictures, got {values!r:.80}"
        )
    return values.to(x)
