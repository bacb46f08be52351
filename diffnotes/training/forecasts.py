"""How good are forecasts that come as draws? The continuous ranked probability score, and how often bands hold the truth."""

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import FloatLike, check_floats, number, shown


def crps(draws: Float[Tensor, "draw *dims"], truth: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """The continuous ranked probability score E|X - y| - E|X - X'|/2 at every position, from m >= 2 draws: smaller is better,
    and in the units of y (book, eq. 22.15; Gneiting and Raftery 2007).

    The second mean is over the m (m - 1) pairs of different draws, so the estimate has no bias, whatever m is (the fair
    score; Ferro 2014)."""
    m, draws, truth = _check(draws, truth)
    ordered = draws.sort(0).values
    rank = torch.arange(1, m + 1, dtype=draws.dtype, device=draws.device).reshape(-1, *[1] * truth.ndim)
    spread = (
        ((2 * rank - m - 1) * ordered).sum(0) * 2 / (m * (m - 1))
    )  # sum over pairs of |x - x'|, by the ordered draws
    return (draws - truth).abs().mean(0) - spread / 2


def coverage(
    draws: Float[Tensor, "draw *dims"], truth: Float[Tensor, "*dims"], level: FloatLike = 0.9
) -> Float[Tensor, "*dims"]:
    """1 where the truth lies between the quantiles (1 - level)/2 and (1 + level)/2 of the draws, else 0: its mean should be
    `level`. With few draws the quantiles lie too far inside, even for draws from the exact distribution."""
    _, draws, truth = _check(draws, truth)
    level = number("level", level, "lie between 0 and 1", lambda v: 0 < v < 1)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype, device=draws.device)
    low, high = torch.quantile(draws, ends, dim=0)
    return ((low <= truth) & (truth <= high)).to(draws)


def _check(draws: Tensor, truth: Tensor) -> tuple[int, Tensor, Tensor]:
    check_floats("draws", draws, "(draw, ...)")
    if len(draws) < 2:
        raise ValueError(f"draws must hold 2 draws or more, got {len(draws)}")
    if not isinstance(truth, Tensor) or truth.shape != draws.shape[1:]:
        raise ValueError(f"truth must have the shape of one draw, {tuple(draws.shape[1:])}, got {shown(truth)}")
    return len(draws), draws, truth.to(draws)
