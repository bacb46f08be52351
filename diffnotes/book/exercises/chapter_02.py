"""Exercises of chapter 2: one step back."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar_prev, alpha, alpha_prev, complete_square, exponent, unit
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

# -- 2.1: half of the variance --------------------------------------------------------------------------------------------------


def _narrow_steps() -> tuple[str, Rows]:
    schedule = Schedule.linear()
    ratio = schedule.posterior_variance[1:] / schedule.beta[1:]
    found = {t + 1 for t in range(schedule.T) if ratio[t] <= 0.5}
    options = {"a": set(range(1, 501)), "b": set(range(501, 1001)), "c": {1, 2}, "d": set[int]()}
    letter = next(k for k, times in options.items() if times == found)
    return letter, tuple((f"β̃_t / β_t at t = {t}", f"{ratio[t - 1]:.3f}") for t in (1, 2, 3, 10, 500))


# -- 2.2: two sources and more ------------------------------------------------------------------------------------------

Sources = list[tuple[Tensor, Tensor]]


def _sources(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """The present and the start, as q_posterior combines them; and four with numbers of their own."""
    schedule = Schedule.linear(T=20, beta_1=0.01, beta_T=0.3)
    for t in (2, 10, 20):
        x0, x_t = torch.randn(2, generator=generator, dtype=torch.float64)
        alpha_t, beta_t, before = schedule.alpha[t], schedule.beta[t], schedule.alpha_bar[t - 1]
        present, start = (x_t / alpha_t.sqrt(), beta_t / alpha_t), (before.sqrt() * x0, 1 - before)
        yield {"sources": [present, start]}, q_posterior(schedule, x0[None], x_t[None], t)
    x = sp.Symbol("x", real=True)
    estimates, variances = (
        torch.randn(4, generator=generator).double(),
        torch.rand(4, generator=generator).double() + 0.1,
    )
    pairs = zip(map(sp.Rational, estimates.tolist()), map(sp.Rational, variances.tolist()), strict=True)
    mean, variance, _ = complete_square(sp.Add(*(exponent(x, m, v) for m, v in pairs)), x)
    yield {"sources": list(zip(estimates, variances, strict=True))}, (float(mean), float(variance))


def _combined(sources: Sources) -> tuple[Tensor, Tensor]:
    """The right function, from which two of the wrong ones begin."""
    weights = torch.stack([1 / v for _, v in sources])
    return (weights * torch.stack([m for m, _ in sources])).sum() / weights.sum(), 1 / weights.sum()


def _plain_average(sources: Sources) -> tuple[Tensor, Tensor]:
    return torch.stack([m for m, _ in sources]).mean(), torch.stack([v for _, v in sources]).mean()


def _weighted_by_variance(sources: Sources) -> tuple[Tensor, Tensor]:
    total = torch.stack([v for _, v in sources]).sum()
    return torch.stack([m * v for m, v in sources]).sum() / total, _combined(sources)[1]


# -- 2.3: two steps back ------------------------------------------------------------------------------------------------

abar_two = unit(r"\bar{\alpha}_{t-2}")


def _long_step() -> sp.Expr:
    """The variance of x_{t-2}, if x_t and x_0 are known: (2.11) with s = t - 2, by completing the square."""
    x, start, now = sp.symbols("x x_0 x_t", real=True)
    jump = alpha * alpha_prev
    parabola = exponent(now, sp.sqrt(jump) * x, 1 - jump) + exponent(x, sp.sqrt(abar_two) * start, 1 - abar_two)
    return sp.factor(complete_square(parabola, x)[1])


def _variance_back(a: sp.Expr, before: sp.Expr) -> sp.Expr:
    return (1 - before) * (1 - a) / (1 - a * before)


# -- 2.4: one mode or two -----------------------------------------------------------------------------------------------


@cache
def _border() -> sp.Expr:
    """The beta_t at which the two bells of the coin stand two standard deviations apart: a squared distance of 4."""
    b = sp.Symbol("b", positive=True)
    now = abar_prev * (1 - b)
    (border,) = sp.solve(4 * (abar_prev / (1 - abar_prev) - now / (1 - now)) - 4, b)
    return border


# -- 2.5: more than beta -----------------------------------------------------------------------------------------------


def _spread(answer: Any) -> float:
    (s,) = numbers([answer], 1)
    if not 0 <= s <= 100:
        raise ValueError(f"no standard deviation of data: {s}")
    return s


def _wider_than_beta(s: float) -> tuple[bool, str, Rows]:
    """The true step's variance by (2.15): that of q_posterior, and the variance of the image given x_t."""
    schedule, times = Schedule.linear(), (1, 10, 100, 500)
    denoiser = GaussianDenoiser(schedule, variance=max(s, 1e-6) ** 2)
    one, zero = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    ratios = []
    for t in times:
        weight, narrow = q_posterior(schedule, one, zero, t)
        slope = denoiser(one, torch.tensor([t]))  # E[x_0 | x_t] = slope x_t, so Var(x_0 | x_t) = s² (1 - slope √ᾱ_t)
        left_open = s**2 * (1 - slope * schedule.alpha_bar[t].sqrt())
        ratios.append(((narrow + weight**2 * left_open) / schedule.beta[t]).item())
    rows = tuple((f"variance / β_t at t = {t}", f"{ratio:.6f}") for t, ratio in zip(times, ratios, strict=True))
    broken = min(ratios) > 1 + 1e-9
    if broken:
        words = (
            "The chain brings a variance above 1 down towards 1, so v_{t-1} > v_t in (2.16), and the step back has "
            "a larger variance than the step forwards."
        )
    elif s == 0:
        words = "A single image: nothing about x_0 is left open, and the variance is β̃_t."
    elif s == 1:
        words = "Just at the border: such data look like noise from the start, and the variance is β_t itself."
    else:
        words = "Smaller than β_t: for data of variance below 1 the chain makes it larger, v_{t-1} < v_t in (2.16)."
    return broken, words, rows


EXERCISES: dict[str, Exercise] = {
    "02.1": Predict(
        {
            "a": "The picture in section 2.7 has a logarithmic axis: what looks like a long way there is a few steps. By "
            "(2.9) the ratio compares the noise before the step with the noise after it, and soon one step adds little.",
            "b": "There the two are all but equal: 1 - ᾱ_{t-1} and 1 - ᾱ_t are both nearly 1 (2.9).",
            "c": "The ratio (2.9) is about (β_1+...+β_{t-1})/(β_1+...+β_t): 0 at t = 1, just below one half at t = 2. "
            "Halving all β_t changes next to nothing.",
            "d": "At t = 1 the step before is x_0 itself, which is known: β̃_1 = 0 (2.8).",
        },
        _narrow_steps,
    ),
    "02.2": Build(
        "a function of a list of pairs (estimate, variance) that returns the mean and the variance",
        _sources,
        "Precisions add. With two sources it is (2.4) and (2.5), as q_posterior computes them; a third is one more pair.",
        (
            Mistake(
                _plain_average,
                "All sources alike: but a precise one should count for more. Weigh with the precisions, 1/variance.",
            ),
            Mistake(
                _weighted_by_variance,
                "Weighted by the variance, the least precise source counts most. Weigh with 1/variance.",
            ),
            Mistake(
                lambda sources: (_combined(sources)[0], 1 / _combined(sources)[1]),
                "The mean is right. What you return beside it is the sum of the precisions; the variance is one over it.",
            ),
            Mistake(
                lambda sources: (_combined(sources)[0], _combined(sources)[1].sqrt()),
                "The mean is right. What you return beside it is a standard deviation, the root of the variance (A34).",
            ),
        ),
    ),
    "02.3": Derive(
        _long_step,
        (alpha, alpha_prev, abar_two),
        "It is the variance of one long step (2.11) with s = t - 2. Two steps of a bridge are one step of a bridge.",
        (
            Mistake(
                _variance_back(alpha_prev, abar_two) + _variance_back(alpha, alpha_prev * abar_two),
                "The two variances do not simply add: the second step multiplies x_{t-1}, and with it the noise in it, by "
                "its weight in (2.5), and this enters squared.",
            ),
            Mistake(
                _variance_back(alpha_prev, abar_two),
                "That is the second step alone, for a known x_{t-1}. The first step left x_{t-1} uncertain.",
            ),
            Mistake(
                (1 - alpha * alpha_prev) * (1 - alpha_prev * abar_two) / (1 - alpha * alpha_prev * abar_two),
                "The long step ends at t - 2, so the variance before it is 1 - ᾱ_{t-2}, without the factor α_{t-1}.",
            ),
            Mistake(
                sp.sqrt((1 - abar_two) * (1 - alpha * alpha_prev) / (1 - alpha * alpha_prev * abar_two)),
                "That is its root, a standard deviation. The second slot is a variance (A34).",
            ),
            Mistake(
                1 - alpha * alpha_prev,
                "That is the variance of two steps forwards. Known x_0 makes the way back narrower.",
            ),
        ),
    ),
    "02.4": Derive(
        _border,
        (abar_prev,),
        "One over the squared signal-to-noise ratio before the step. Below ᾱ_{t-1} = ½ it is above 1, and no step can make "
        "two modes there.",
        (
            Mistake(
                (1 - abar_prev) / abar_prev,
                "Nearly: a square is missing. Two modes appear if SNR(t-1) - SNR(t) > 1; solve that for β_t once more.",
            ),
            Mistake(
                (abar_prev / (1 - abar_prev)) ** 2,
                "Upside down: the clearer the image before the step, the smaller is the step that splits it.",
            ),
            Mistake(
                sp.Rational(1, 16),
                "That is the border at ᾱ_{t-1} = 0.8. The question is for every ᾱ_{t-1}.",
            ),
            Mistake(
                4 * (1 - abar_prev) ** 2 / (abar_prev * (4 * abar_prev - 3)),
                "The two images are 2 apart, not 1: the squared distance in units of the variance is 4 (SNR(t-1) - SNR(t)).",
            ),
        ),
    ),
    "02.5": Break("one number s from 0 to 100, the standard deviation of the data", _spread, _wider_than_beta),
}
