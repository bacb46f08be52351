"""The normal distribution: log-density, KL divergence, and the likelihood of an 8-bit image under it.

Everything is in nats, summed over the coordinates of each image: shape (B,). Divide by d log 2 for bits per dimension.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

Images = Float[Tensor, "batch *dims"]
PerImage = Float[Tensor, "batch"]


def normal_log_density(x: Images, mean: Tensor, variance: Tensor) -> PerImage:
    """log N(x; mean, variance I) = sum over coordinates of  -1/2 [log(2 pi variance) + (x - mean)^2 / variance]
    (book, eq. 1.1 and 1.2).

    mean and variance broadcast against x; a variance that is not positive raises ValueError."""
    _check_variance("variance", variance)
    log_density = -0.5 * (math.log(2 * math.pi) + variance.log() + (x - mean) ** 2 / variance)
    return log_density.expand_as(x).flatten(1).sum(1)


def normal_kl(mean_1: Images, variance_1: Tensor, mean_2: Tensor, variance_2: Tensor) -> PerImage:
    """D_KL(N(mean_1, variance_1) || N(mean_2, variance_2)), diagonal covariances:
    sum over coordinates of  1/2 [log(variance_2 / variance_1) + (variance_1 + (mean_1 - mean_2)^2) / variance_2 - 1].

    (book, eq. 1.13 and 1.14). Not symmetric: the first law is the one the expectation is taken under."""
    _check_variance("variance_1", variance_1)
    _check_variance("variance_2", variance_2)
    log_ratio = variance_2.log() - variance_1.log()
    kl = 0.5 * (log_ratio + (variance_1 + (mean_1 - mean_2) ** 2) / variance_2 - 1)
    return kl.expand(torch.broadcast_shapes(kl.shape, mean_1.shape)).flatten(1).sum(1)


def discretized_log_likelihood(x0: Images, mean: Tensor, variance: Tensor, levels: int = 256) -> PerImage:
    """log-probability of an image with `levels` grey values in [-1, 1] under N(mean, variance), each grey value owning
    the interval of half-width 1 / (levels - 1) around it, the first and last reaching to infinity
    (book, eq. 6.7; Ho et al. 2020, eq. 13).

    x0 must hold grey values -1 + 2 k / (levels - 1); anything else raises ValueError."""
    _check_variance("variance", variance)
    if levels < 2:
        raise ValueError(f"levels must be at least 2, got {levels}")
    grey = (x0.double() + 1) * (levels - 1) / 2
    if not bool(
        ((grey - grey.round()).abs() < 1e-3).all() and (grey.round() >= 0).all() and (grey.round() < levels).all()
    ):
        raise ValueError(
            f"x0 must hold {levels} evenly spaced grey values in [-1, 1]; found a value that is none of them"
        )
    half_width = 1 / (levels - 1)
    std = variance.double().sqrt()
    upper = torch.where(x0 > 1 - half_width, torch.inf, (x0.double() + half_width - mean) / std)
    lower = torch.where(x0 < -1 + half_width, -torch.inf, (x0.double() - half_width - mean) / std)
    # log(Phi(b) - Phi(a)), taken in the lower tail, where the difference keeps its digits
    flip = lower + upper > 0
    a, b = torch.where(flip, -upper, lower), torch.where(flip, -lower, upper)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    return (log_b + torch.log1p(-torch.exp(log_a - log_b))).flatten(1).sum(1)


def _check_variance(name: str, variance: Tensor) -> None:
    if not bool((variance > 0).all()):
        raise ValueError(f"{name} must be positive, got a smallest value of {variance.min().item():g}")
