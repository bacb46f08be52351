"""The replacement method on a correlated pair of Gaussians, exactly: no samples, a recursion for one mean and one variance.

Data (x_1, x_2) ~ N(0, [[1, rho], [rho, 1]]), x_1 = y known. At every time the seen coordinate is fresh noise around
sqrt(alpha_bar) y, so it is independent of the hidden one, which stays Gaussian. A step of DDPM is linear in both."""

import numpy as np


def step(rho: float, abar_t: float, abar_s: float) -> tuple[float, float, float]:
    """The step of the hidden coordinate, u_s = A u_t + B k_t + sqrt(V) noise, k_t the seen one: (A, B, V). From E[x_0 | x_t] for
    the pair, and the mean and variance of q(x_s | x_t, x_0)."""
    a = np.sqrt(abar_t)
    own = 1 - (abar_t * rho) ** 2  # the determinant of the noised pair's covariance
    gain_u, gain_k = a * (1 - abar_t * rho**2) / own, a * rho * (1 - abar_t) / own
    ratio = abar_t / abar_s
    keep, pull = np.sqrt(ratio) * (1 - abar_s) / (1 - abar_t), np.sqrt(abar_s) * (1 - ratio) / (1 - abar_t)
    return keep + pull * gain_u, pull * gain_k, (1 - abar_s) / (1 - abar_t) * (1 - ratio)


def pasted(rho: float, alpha_bar: np.ndarray, repeats: int = 1, y: float = 1.0) -> tuple[float, float]:
    """Mean and variance of the hidden coordinate after the whole way down; alpha_bar[0] = 1. With repeats > 1, RePaint."""
    mean, variance = 0.0, 1.0
    for s in range(len(alpha_bar) - 2, -1, -1):
        abar_t, abar_s = float(alpha_bar[s + 1]), float(alpha_bar[s])
        A, B, V = step(rho, abar_t, abar_s)
        ratio = abar_t / abar_s
        for again in range(repeats):
            if again:  # back up to t, with fresh noise
                mean, variance = np.sqrt(ratio) * mean, ratio * variance + 1 - ratio
            mean = A * mean + B * np.sqrt(abar_t) * y
            variance = A**2 * variance + B**2 * (1 - abar_t) + V
    return float(mean), float(variance)


def limit(rho: float, y: float = 1.0) -> tuple[float, float]:
    """What `pasted` tends to for infinitely many steps (book, eq. 22.3)."""
    if rho == 0:
        return 0.0, 1.0
    return (1 - np.sqrt(1 - rho**2)) / rho * y, (1 - rho**2) * np.arctanh(rho) / rho


def truth(rho: float, y: float = 1.0) -> tuple[float, float]:
    """Mean and variance of the hidden coordinate given the seen one."""
    return rho * y, 1 - rho**2


def cosine(T: int) -> np.ndarray:
    """alpha_bar_0..T of the cosine schedule, as in (1.16), its steps cut at 0.999."""
    f = np.cos((np.arange(T + 1) / T + 0.008) / 1.008 * np.pi / 2) ** 2
    beta = np.minimum(1 - f[1:] / f[:-1], 0.999)
    return np.concatenate([[1.0], np.cumprod(1 - beta)])
