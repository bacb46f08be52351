"""The normal distribution: log-density, KL divergence, and the likelihood of an 8-bit image under it.

Everything is in nats, summed over the coordinates of each image: shape (B,). Divide by d log 2 for bits per dimension.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    check_dense,
    check_images,
    flatten_images,
    integer,
    number,
    shown,
)

Images = Float[Tensor, "batch *dims"]
PerImage = Float[Tensor, "batch"]
Broadcast = Float[Tensor, "..."] | FloatLike  # a number, or a tensor that broadcasts against the images


def normal_log_density(x: Images, mean: Broadcast, variance: Broadcast) -> PerImage:
    """log N(x; mean, variance I) = sum over coordinates of  -1/2 [log(2 pi variance) + (x - mean)^2 / variance]
    (book, eq. A.1 and A.2).

    mean and variance broadcast against x; a variance that is not positive raises ValueError."""
    check_images(x=x)
    mean, variance = _like("mean", mean, x), _variance("variance", variance, x)
    log_density = -0.5 * (math.log(2 * math.pi) + variance.log() + (x - mean) ** 2 / variance)
    return flatten_images(log_density.expand_as(x)).sum(1)


def normal_kl(mean_1: Images, variance_1: Broadcast, mean_2: Broadcast, variance_2: Broadcast) -> PerImage:
    """D_KL(N(mean_1, variance_1) || N(mean_2, variance_2)), diagonal covariances:
    sum over coordinates of  1/2 [log(variance_2 / variance_1) + (variance_1 + (mean_1 - mean_2)^2) / variance_2 - 1].

    (book, eq. A.13 and A.14). Not symmetric: the expectation is taken under the first distribution."""
    check_images(mean_1=mean_1)
    mean_2 = _like("mean_2", mean_2, mean_1)
    variance_1, variance_2 = _variance("variance_1", variance_1, mean_1), _variance("variance_2", variance_2, mean_1)
    log_ratio = variance_2.log() - variance_1.log()
    kl = 0.5 * (log_ratio + (variance_1 + (mean_1 - mean_2) ** 2) / variance_2 - 1)
    return flatten_images(kl.expand_as(mean_1)).sum(1)


def discretized_log_likelihood(x0: Images, mean: Broadcast, variance: Broadcast, levels: IntLike = 256) -> PerImage:
    """log-probability of an image with `levels` grey values in [-1, 1] under N(mean, variance), each grey value standing
    for the interval of half-width 1 / (levels - 1) around it, the first and last reaching to infinity
    (book, eq. 3.7; Ho et al. 2020, eq. 13).

    x0 must hold grey values -1 + 2 k / (levels - 1); anything else raises ValueError."""
    check_images(x0=x0)
    mean, variance = _like("mean", mean, x0), _variance("variance", variance, x0)
    levels = integer("levels", levels, 2, 65536)
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
    return flatten_images(log_b + torch.log1p(-torch.exp(log_a - log_b))).sum(1)


def _like(name: str, value: Broadcast, x: Tensor) -> Tensor:
    """The value as a tensor that broadcasts against x; a number in x's precision."""
    if not isinstance(value, Tensor):
        value = number(name, value, "be a number or a tensor", lambda _: True)
        return torch.tensor(value, dtype=x.dtype, device=x.device)
    check_dense(name, value)
    axes = zip(reversed(value.shape), reversed(x.shape), strict=False)
    if value.ndim > x.ndim or any(size not in (1, wanted) for size, wanted in axes) or not value.is_floating_point():
        raise ValueError(
            f"{name} must hold floating-point numbers and broadcast against {tuple(x.shape)}, got {shown(value)}"
        )
    if value.device != x.device and value.ndim > 0:
        raise ValueError(f"{name} must be where the images are, on {x.device}, got {value.device}")
    return value


def _variance(name: str, value: Broadcast, x: Tensor) -> Tensor:
    """The same, and positive."""
    variance = _like(name, value, x)
    if not bool((variance > 0).all()):
        raise ValueError(f"{name} must be positive, got a smallest value of {variance.min().item():g}")
    if not bool((variance < torch.inf).all()):
        raise ValueError(f"{name} must be finite, got inf")
    return variance
