"""Bits per dimension: the one measure in which every model of the book that has a likelihood is compared.

An image of 256 grey values is one of 256^d. What a model pays for it is -log2 of its probability, shared among the d coordinates.
A density pays for the bin in which a value lies: its logarithm plus that of the bin's length. Chapter 12 tells what may go wrong.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import IntLike, check_floats, integer, number, shown

GREY_STEP = 2 / 255  # from one of 256 grey values to the next, on [-1, 1]


def bits_per_dim(
    log_likelihood: Float[Tensor, "batch"], dims: IntLike, *, bin_width: float | None = GREY_STEP
) -> Float[Tensor, "batch"]:
    """-log p(x) / (d log 2) - log2(bin_width), float64, for each image (Theis et al. 2016, section 3.1).

    log_likelihood (B,): in nats, summed over the `dims` coordinates; a lower bound gives an upper bound of the bits.
    bin_width: how long a grey value's bin is in the units in which the density is one, 2/255 for images in [-1, 1];
    None where log_likelihood is already the probability of grey values, which needs no bin."""
    check_floats("log_likelihood", log_likelihood)
    if log_likelihood.ndim != 1:
        raise ValueError(f"log_likelihood must have shape (B,), got {tuple(log_likelihood.shape)}")
    d = integer("dims", dims, 1)
    bits = -log_likelihood.double() / (d * math.log(2))
    if bin_width is None:
        return bits
    return bits - math.log2(number("bin_width", bin_width, "be a positive number", lambda v: 0 < v < math.inf))


def dequantise(
    x: Float[Tensor, "batch *shape"], *, bin_width: float = GREY_STEP, generator: torch.Generator | None = None
) -> Float[Tensor, "batch *shape"]:
    """x + u, u uniform on (-bin_width/2, bin_width/2) for each coordinate: a value somewhere in its grey value's bin.

    A density on the grey values themselves has no upper limit; on dequantised images its mean log is, up to log(bin_width), a
    lower bound of the log-probability of the grey values (Jensen's inequality; Theis et al. 2016, section 3.1)."""
    check_floats("x", x)
    width = number("bin_width", bin_width, "be a positive number", lambda v: 0 < v < math.inf)
    if not isinstance(generator, torch.Generator | None):
        raise ValueError(f"generator must be a torch.Generator or None, got {shown(generator)}")
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype, device=generator.device if generator else x.device)
    return x + width * (noise.to(x.device) - 0.5)
