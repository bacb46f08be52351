"""Exercises of chapter 22: applications."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof import pasted

# -- 22.1: RePaint where the dependence is weak ------------------------------------------------------------------------

r, rho = sp.symbols("r rho", positive=True)
y = sp.Symbol("y", real=True)


def _mean() -> sp.Expr:
    """w(1) of a w' = -r (w - rho a y): (a^r w)' = r rho y a^r, integrated from 0 to 1."""
    return r * rho * y / (r + 1)


# -- 22.2: many steps ------------------------------------------------------------------------------------------------------


@cache
def _ten_thousand_steps() -> tuple[str, Rows]:
    """The exact recursion at rho = 0.6, with more and more steps."""
    found = {T: pasted.pasted(0.6, pasted.cosine(T))[0] for T in (100, 1000, 10_000)}
    rows = tuple((f"mean after {T:,} steps", f"{mean:.4f}") for T, mean in found.items())
    return ("c" if abs(found[10_000] - 1 / 3) < 0.01 else "a"), rows


# -- 22.3: a null-space step -----------------------------------------------------------------------------------------------

Step = Callable[..., Tensor]  # of x_t, x0_hat, known, seen, abar_t, abar_s


def _steps(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Images of six pixels, some of them seen; the last step ends at the image."""
    for abar_t, abar_s in ((0.2, 0.5), (0.6, 0.7), (0.9, 1.0)):
        x_t, x0_hat, known = torch.randn(3, 4, 6, generator=generator, dtype=torch.float64)
        seen = torch.tensor([1, 1, 0, 0, 1, 0], dtype=torch.float64)
        given = dict(x_t=x_t, x0_hat=x0_hat, known=known, seen=seen, abar_t=abar_t, abar_s=abar_s)
        yield given, _nullspace()(**given)


def _nullspace(*, corrected: str = "image", noise: str = "anew", seen_is: int = 1, root: bool = True) -> Step:
    """The right step, and with one of its settings changed a wrong one."""

    def step(x_t: Tensor, x0_hat: Tensor, known: Tensor, seen: Tensor, abar_t: float, abar_s: float) -> Tensor:
        mask = seen if seen_is == 1 else 1 - seen
        x0 = mask * known + (1 - mask) * x0_hat if corrected == "image" else x0_hat
        stale = (x_t - abar_t**0.5 * x0_hat) / (1 - abar_t) ** 0.5
        eps = (x_t - abar_t**0.5 * x0) / (1 - abar_t) ** 0.5 if noise == "anew" else stale
        x_s = (abar_s**0.5 if root else abar_s) * x0 + ((1 - abar_s) ** 0.5 if root else 1 - abar_s) * eps
        return mask * known + (1 - mask) * x_s if corrected == "state" else x_s

    return step


# -- 22.4: where the mean of DPS is off ----------------------------------------------------------------------------------


def _one_sigma(answer: Any) -> float:
    (sigma,) = numbers([answer], 1)
    if not 0.05 <= sigma <= 2:
        raise ValueError("sigma_y must lie between 0.05 and 2")
    return sigma


def _dps(sigma: float, spread: bool) -> tuple[float, float]:
    """Mean and variance of what guidance draws for x_0 ~ N(0, 1), y = 1, in 250 steps: exact, for all is linear. spread: with C_t
    in the denominator (book, eq. 22.7), else without (eq. 22.9)."""
    mean, variance, abar = 0.0, 1.0, pasted.cosine(250)
    for t in range(250, 0, -1):
        a, s, ratio = abar[t], abar[t - 1], abar[t] / abar[t - 1]
        C = 1 - a  # of x_0 given x_t; x0_hat is sqrt(a) x_t
        K = C / ((C if spread else 0) + sigma**2)
        keep, pull = np.sqrt(ratio) * (1 - s) / (1 - a), np.sqrt(s) * (1 - ratio) / (1 - a)
        factor = keep + pull * np.sqrt(a) * (1 - K)
        mean = factor * mean + pull * K
        variance = factor**2 * variance + (1 - s) / (1 - a) * (1 - ratio)
    return float(mean), float(variance)


def _off(sigma: float) -> tuple[bool, str, Rows]:
    mean, variance = _dps(sigma, spread=False)
    healed, _ = _dps(sigma, spread=True)
    true, right = 1 / (1 + sigma**2), sigma**2 / (1 + sigma**2)
    rows = (
        ("mean: true, DPS, with C_t", f"{true:.3f}, {mean:.3f}, {healed:.3f}"),
        ("variance: true, DPS", f"{right:.4f}, {variance:.4f}"),
    )
    if abs(mean - true) > 0.19:
        words = (
            "The mean is most off in between. Where the measurement is clean, truth and DPS are both at y; where it says little, "
            "neglecting C_t changes little. And C_t in the denominator heals it."
        )
        return True, words, rows
    if sigma < 0.55:
        words = (
            "So clean a measurement puts the true mean near y as well, and there is little for DPS to be wrong about. Look at "
            "the variance: that is where it is too sure. Try a noisier measurement."
        )
        return False, words, rows
    words = (
        "This measurement says little, so C_t is no longer large beside sigma_y^2, and leaving it out changes less. Try a "
        "cleaner one."
    )
    return False, words, rows


EXERCISES: dict[str, Exercise] = {
    "22.1": Derive(
        _mean,
        (r, rho, y),
        "One repeat gives half of ρy, ten give ten elevenths of it: the error falls as 1/(r+1), and not with more steps.",
        (
            Mistake(rho * y, "That is the posterior's mean, which only the limit of many repeats reaches."),
            Mistake(rho * y / 2, "That is r = 1, the replacement method itself. Keep r."),
            Mistake(rho * y / (r + 1), "r stands before the whole bracket, so it multiplies ρ a y as well."),
            Mistake(
                r * rho * y,
                "(a^r w)' = r ρ y a^r at a = 1: that is the derivative. Integrate it from 0 to 1.",
            ),
        ),
    ),
    "22.2": Predict(
        {
            "a": "It converges, but to another number: the denoiser is given a noised y at every step, however small the steps.",
            "b": "One half is the answer at ρ = 0.8. Put 0.6 into (22.3).",
            "c": "(1 - 0.8)/0.6 = 1/3: between half of the true mean, its limit for small ρ, and the true one.",
            "d": "Some of the dependence gets through: what the seen number is in the mean, √ᾱ y, acts at every time.",
        },
        _ten_thousand_steps,
    ),
    "22.3": Build(
        "a function of x_t, x0_hat, known, seen, abar_t and abar_s that returns x_s, of x_t's shape",
        _steps,
        "The prediction is corrected, and its noise computed anew, so the two still make up x_t (22.10).",
        (
            Mistake(
                _nullspace(corrected="state"),
                "You have put the known pixels into x_s, without noise. The step corrects the prediction of the clean image, "
                "and lets DDIM noise it.",
            ),
            Mistake(
                _nullspace(noise="stale"),
                "The noise is that of the old prediction: corrected image and stale noise no longer make up x_t. Compute the "
                "noise anew from the corrected image.",
            ),
            Mistake(_nullspace(seen_is=0), "The mask is turned round: `known` is to be read where `seen` is 1."),
            Mistake(_nullspace(root=False), "√ᾱ_s and √(1-ᾱ_s) belong to x_s, as in (1.6): the roots are missing."),
        ),
    ),
    "22.4": Break("one number, sigma_y, between 0.05 and 2", _one_sigma, _off),
}
