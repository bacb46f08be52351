"""Data on a line whose sampling curves are known exactly, and the solvers of chapter 14 in a few lines of numpy.

With a^2 = alpha_bar and b^2 = 1 - alpha_bar, the state is x_t / a, the noise levels are varsigma = b / a, and a solver's path
is an array with one row for each level. Nothing here uses the package's own samplers: the tests compare the two.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

Ratio = Callable[[float, float, float], float]  # r from lambda at the time before, at t, and at s


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one standard deviation on a line."""

    means: tuple[float, ...] = (-1.2, 0.25, 1.2)
    weights: tuple[float, ...] = (0.35, 0.25, 0.4)
    sd: float = 0.2

    def prediction(self, x: np.ndarray, level: float) -> np.ndarray:
        """E[x_0 | x_t / a = x], for x of shape (N,): what a perfect network predicts at a noise level (book, eq. 4.8)."""
        variance = self.sd**2 + level**2
        away = x - np.array(self.means)[:, None]
        squares = away**2
        share = np.exp((squares.min(0) - squares) / (2 * variance)) * np.array(self.weights)[:, None]
        return np.asarray(x - level**2 / variance * (share * away).sum(0) / share.sum(0))

    def cdf(self, x: np.ndarray, level: float | np.ndarray) -> np.ndarray:
        """The probability that x_0 plus noise of this level is at most x."""
        spread = np.sqrt(self.sd**2 + np.asarray(level)[..., None] ** 2)
        return np.asarray((ndtr((x[..., None] - np.array(self.means)) / spread) * np.array(self.weights)).sum(-1))

    def curves(self, shares: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """The exact curves, (levels, shares): a flow on a line cannot change the order of its points, so each keeps the share
        of the distribution that lies below it (book, eq. 14.1). By bisection."""
        reach = 9 * np.sqrt(self.sd**2 + levels**2)[:, None] + np.zeros(len(shares))
        low, high, level = min(self.means) - reach, max(self.means) + reach, np.asarray(levels)[:, None]
        for _ in range(60):
            middle = (low + high) / 2
            below = self.cdf(middle, level) < shares
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        return (low + high) / 2


# -- where the calls are placed -----------------------------------------------------------------------------------------


def karras(steps: int, rho: float, highest: float = 80.0, lowest: float = 0.02) -> np.ndarray:
    """Falling levels of Karras et al. (book, eq. 14.8), and 0; rho = inf: even in lambda."""
    share = np.arange(steps) / max(1, steps - 1)
    if np.isinf(rho):
        levels = highest * (lowest / highest) ** share
    else:
        levels = (highest ** (1 / rho) + share * (lowest ** (1 / rho) - highest ** (1 / rho))) ** rho
    return np.append(levels, 0.0)


# -- the solvers --------------------------------------------------------------------------------------------------------


def ratio_of_steps(before: float, now: float, then: float) -> float:
    """r = h' / h, the step before in units of this one (book, eq. 14.5)."""
    return (now - before) / (then - now)


def dpm_solver(
    data: Mixture,
    levels: np.ndarray,
    start: np.ndarray,
    order: int = 2,
    ratio: Ratio = ratio_of_steps,
    noise: np.ndarray | None = None,
) -> np.ndarray:
    """DDIM (order 1) or 2M (order 2), one call a step, with `ratio` for r; with `noise`, (steps, len(start)), the
    stochastic form (book, eq. 14.5 and 14.12). The step to level 0 is of first order."""
    path, before = [start], start
    lam = -np.log(np.maximum(levels, 1e-300))
    for i, (level, there) in enumerate(zip(levels[:-1], levels[1:], strict=True)):
        x0_hat = data.prediction(path[-1], level)
        D = x0_hat
        if order == 2 and i > 0 and there > 0:
            D = x0_hat + (x0_hat - before) / (2 * ratio(lam[i - 1], lam[i], lam[i + 1]))
        shrink = there / level  # e^(-h)
        if noise is None:
            path.append(shrink * path[-1] + (1 - shrink) * D)
        else:
            path.append(shrink**2 * path[-1] + (1 - shrink**2) * D + there * np.sqrt(1 - shrink**2) * noise[i])
        before = x0_hat
    return np.array(path)


def heun(data: Mixture, levels: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Heun's method, two calls a step and one in the step to level 0 (book, eq. 14.6)."""
    path = [start]
    for level, there in zip(levels[:-1], levels[1:], strict=True):
        x = path[-1]
        slope = (x - data.prediction(x, level)) / level
        arrived = x + (there - level) * slope
        if there > 0:
            slope = (slope + (arrived - data.prediction(arrived, there)) / there) / 2
        path.append(x + (there - level) * slope)
    return np.array(path)
