"""Exercises of appendix A: Gaussians."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers, show
from diffnotes.book.proof.symbols import abar, abar_prev, alpha, complete_square, exponent, mu_1, mu_2, sigma_1, sigma_2
from diffnotes.process.gaussian import normal_kl

# -- A.1: forwards and backwards ----------------------------------------------------------------------------------------

x, y = sp.symbols("x y", real=True)
BACKWARDS = {  # mean and variance of x given y
    "a": (sp.Rational(5, 3) * y, sp.Rational(16, 9)),
    "b": (sp.Rational(3, 5) * y, sp.Rational(16, 25)),
    "c": (sp.Rational(3, 5) * y, sp.Integer(1)),
    "d": (y, sp.Rational(16, 25)),
}


def _backwards() -> tuple[str, Rows]:
    mean, variance, _ = complete_square(exponent(x, 0, 1) + exponent(y, sp.Rational(3, 5) * x, sp.Rational(16, 25)), x)
    letter = next(k for k, (centre, spread) in BACKWARDS.items() if sp.expand(mean - centre) == 0 == variance - spread)
    return letter, (("mean of x given y", show(mean)), ("its variance", show(variance)))


# -- A.2 and A.3: two derivations ---------------------------------------------------------------------------------------


def _step_back_variance() -> sp.Expr:
    """V of (A.7), with the numbers of the forward process."""
    m, P, a, r = sp.symbols("m P a r", positive=True)
    _, V, _ = complete_square(exponent(x, m, P) + exponent(y, a * x, r), x)
    return V.subs({P: 1 - abar_prev, a: sp.sqrt(alpha), r: 1 - alpha})


@cache
def _best_standard_deviation() -> sp.Expr:
    kl = sp.log(sigma_2 / sigma_1) + (sigma_1**2 + (mu_1 - mu_2) ** 2) / (2 * sigma_2**2) - sp.Rational(1, 2)
    (best,) = sp.solve(sp.diff(kl, sigma_2), sigma_2)
    return best


# -- A.4: a divergence that is far from symmetric -----------------------------------------------------------------------


def _kl(mu: float, sigma: float, other_mu: float, other_sigma: float) -> float:
    return normal_kl(
        *(torch.tensor([[v]], dtype=torch.float64) for v in (mu, sigma**2, other_mu, other_sigma**2))
    ).item()


def _on_the_sliders(answer: Any) -> list[float]:
    found = numbers(answer, 4)
    if any(abs(mu) > 2 for mu in found[::2]) or any(not 0.4 <= sigma <= 2 for sigma in found[1::2]):
        raise ValueError(f"no slider goes to {found}")
    return found


def _lopsided(value: list[float]) -> tuple[bool, str, Rows]:
    forward, backward = _kl(*value), _kl(*value[2:], *value[:2])
    ratio = forward / backward if backward else 1.0
    rows = (("D_KL(q ‖ p)", f"{forward:.3g} nats"), ("D_KL(p ‖ q)", f"{backward:.3g} nats"), ("ratio", f"{ratio:.3g}"))
    mu_1, sigma_1, mu_2, sigma_2 = value
    if ratio > 10:
        words = (
            "Many draws of a wide q fall where a narrow p has almost no density; the other way round, nearly all draws of p "
            "fall where q has some."
        )
    elif ratio < 0.1:
        words = "It is the other one that is large here: exchange the two bells."
    elif sigma_1 == sigma_2:
        words = "With equal standard deviations the two divergences are the same, whatever the means (A.15)."
    elif mu_1 == mu_2:
        words = (
            "With equal means only the ratio of the variances counts (A.16), and within the sliders it brings you to about "
            "nine. Let the means differ as well."
        )
    else:
        words = "Not ten times yet. Which of the two should be the wide one, and how far apart should the means be?"
    return ratio > 10, words, rows


# -- A.5: the least absolute error --------------------------------------------------------------------------------------


def _least_absolute_error(y: Tensor) -> Tensor:
    """For each y, the estimate with the smallest mean absolute error, found by trying many."""
    black, white = (torch.exp(-((y - 0.8 * pixel) ** 2) / 0.72) for pixel in (-1, 1))
    estimates = torch.linspace(-1.5, 1.5, 301, dtype=torch.float64)[:, None]
    error = black * (estimates + 1).abs() + white * (estimates - 1).abs()
    return estimates[error.argmin(0), 0]


def _pixels(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    for _ in range(5):
        y = torch.randn(4, generator=generator, dtype=torch.float64)
        yield {"y": y}, _least_absolute_error(y)


EXERCISES: dict[str, Exercise] = {
    "A.1": Predict(
        {
            "a": "This is y = 0.6 x + 0.8 ε solved for x, with ε still standard normal. But seeing y says something about "
            "ε too, and x was N(0, 1) before you looked: a large y is partly a large noise. Prior times likelihood (A.7).",
            "b": "For standard normal data the step back looks like the step forwards, x given y as y given x: N(0.6 y, "
            "0.64), while y itself is N(0, 0.36 + 0.64) = N(0, 1). The general case is (2.16).",
            "c": "The mean is right. But 1 is the variance of x before you look, and seeing y can only add precision: "
            "1/V = 1 + 0.36/0.64 (A.7).",
            "d": "The variance is right. But the mean does not follow y all the way: part of a large y is noise, and the "
            "prior pulls the estimate towards 0 (A.7).",
        },
        _backwards,
    ),
    "A.2": Derive(
        _step_back_variance,
        (alpha, abar, abar_prev),
        "This is β̃_t, a central result of chapter 2 (2.4).",
        (
            Mistake(
                sp.sqrt((1 - alpha) * (1 - abar_prev) / (1 - abar)),
                "That is the root of V, a standard deviation. V is a variance, and so is the second slot of every N(.;.) in "
                "this book (A34).",
            ),
            Mistake(
                (1 - alpha) * (1 - abar) / (1 - abar_prev),
                "The fraction stands on its head. After x_t is seen the variance must be smaller than that of the step, "
                "V < 1 - α_t, and 1 - ᾱ_{t-1} is smaller than 1 - ᾱ_t.",
            ),
            Mistake(
                1 / (1 / (1 - abar_prev) + 1 / (1 - alpha)),
                "The precision of the observation is a²/r, not 1/r: what was seen is a times x, with a = √α_t.",
            ),
            Mistake(
                1 / (1 / (1 - abar_prev) + sp.sqrt(alpha) / (1 - alpha)),
                "a enters squared: a²/r, and the square of √α_t is α_t.",
            ),
            Mistake(
                (1 - alpha) * (1 - abar_prev),
                "The numerator is right. The sum of the two precisions has a numerator too: (1 - α_t) + "
                "α_t (1 - ᾱ_{t-1}), and that is not 1.",
            ),
        ),
        given={abar: alpha * abar_prev},
    ),
    "A.3": Derive(
        _best_standard_deviation,
        (sigma_1, mu_1, mu_2),
        "If you may be wrong about the mean, claim less precision. The best variance of a sampler is found in this way "
        "(12.2).",
        (
            Mistake(
                sigma_1, "That would be best if the means agreed. Here p has to cover an error of the mean as well."
            ),
            Mistake(
                sigma_1**2 + (mu_1 - mu_2) ** 2,
                "That is the best variance, σ_2². The question is for σ_2, its root.",
            ),
            Mistake(
                sigma_1 + sp.Abs(mu_1 - mu_2),
                "Standard deviation and error are added here, but it is their squares that add, as the variances in (A.5) do.",
            ),
            Mistake(
                sp.sqrt(sigma_1**2 + sp.Abs(mu_1 - mu_2)),
                "σ_1² is a square, and the error of the mean enters (A.13) as a square too.",
            ),
        ),
    ),
    "A.4": Break(
        "four numbers (mu_1, sigma_1, mu_2, sigma_2), the means from -2 to 2, the standard deviations from 0.4 to 2",
        _on_the_sliders,
        _lopsided,
    ),
    "A.5": Build(
        "a function of y, a tensor, that returns an estimate for each entry",
        _pixels,
        "The likelier colour: it is the median of X given Y, where the error of moving left and right balances.",
        (
            Mistake(
                lambda y: torch.tanh(1.6 * y / 0.72),
                "That is the conditional mean, which has the smallest squared error (A.19). The absolute error punishes "
                "a distance of 1 twice as hard as one of ½, not four times.",
            ),
            Mistake(
                lambda y: y / 0.8,
                "That undoes the factor 0.8 and leaves the noise. A pixel is 1 or -1, and your estimate may lie far outside.",
            ),
            Mistake(lambda y: y, "y itself is an estimate, but one that does not use that pixels are black or white."),
            Mistake(
                lambda y: 0.8 * y,
                "That is the best straight line for the squared error. The rule need not be a line, nor the error squared.",
            ),
        ),
    ),
}
