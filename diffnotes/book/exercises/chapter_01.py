"""Exercises of chapter 1: the forward process."""

import math
from collections.abc import Iterator
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar, abar_prev, alpha, eps_1, eps_2, variance_of, x_0
from diffnotes.process.forward import q_sample, q_step
from diffnotes.process.schedules import Schedule

# -- 1.1: half of every beta --------------------------------------------------------------------------------------------


def _half_of_every_beta() -> tuple[str, Rows]:
    schedule = Schedule.linear()
    before, after = schedule.alpha_bar[-1].item(), Schedule.from_betas(schedule.beta[1:] / 2).alpha_bar[-1].item()
    options = {"a": 2 * before, "b": math.sqrt(before), "c": before / 2, "d": before**2}
    letter = min(options, key=lambda k: abs(math.log(options[k] / after)))
    return letter, (
        ("ᾱ_T before", f"{before:.4g}"),
        ("ᾱ_T after", f"{after:.4g}"),
        ("√ of the first", f"{options['b']:.4g}"),
    )


# -- 1.2: one jump ------------------------------------------------------------------------------------------------------


def _walk(schedule: Schedule, x_s: Tensor, s: int, t: int, eps: Tensor) -> Tensor:
    """What single steps lead to: their mean, and eps times the root of the variance that they pile up."""
    mean, variance = x_s[None], torch.zeros((), dtype=torch.float64)
    for k in range(s + 1, t + 1):
        mean = q_step(schedule, mean, k, torch.zeros_like(mean))
        variance = schedule.alpha[k] * variance + schedule.beta[k]
    return mean[0] + variance.sqrt() * eps


def _same_noise_at_every_step(schedule: Schedule, x_s: Tensor, s: int, t: int, eps: Tensor) -> Tensor:
    x = x_s[None]
    for k in range(s + 1, t + 1):
        x = q_step(schedule, x, k, eps[None])
    return x[0]


def _jumps(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    schedule = Schedule.linear(T=20, beta_1=0.01, beta_T=0.3)
    for _ in range(6):
        s, t = sorted((torch.randperm(20, generator=generator)[:2] + 1).tolist())
        x_s, eps = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(2))
        yield {"schedule": schedule, "x_s": x_s, "s": s, "t": t, "eps": eps}, _walk(schedule, x_s, s, t, eps)


def _jump(root_of_noise: bool, from_the_start: bool = False) -> Any:
    def jump(schedule: Schedule, x_s: Tensor, s: int, t: int, eps: Tensor) -> Tensor:
        ratio = schedule.alpha_bar[t] / (1 if from_the_start else schedule.alpha_bar[s])
        return ratio.sqrt() * x_s + ((1 - ratio).sqrt() if root_of_noise else 1 - ratio) * eps

    return jump


# -- 1.3: a hundred steps -----------------------------------------------------------------------------------------------


def _beta_T(answer: Any) -> float:
    (beta_T,) = numbers([answer], 1)
    if not 0 < beta_T < 1:
        raise ValueError(f"no variance of a step: {beta_T}")
    return beta_T


def _bits_at_the_end(beta_T: float) -> float:
    """How far x_T is from noise, for 784 pixels that are all black or white, in bits."""
    return Schedule.linear(T=100, beta_T=beta_T).prior_kl(torch.ones(1, 784)).item() / math.log(2)


def _hundred_steps(beta_T: float) -> tuple[bool, str, Rows]:
    bits, below = _bits_at_the_end(beta_T), _bits_at_the_end(max(beta_T - 0.01, 1e-6))
    rows = ((f"β_T = {beta_T:g}", f"{bits:.3g} bits"), (f"β_T = {max(beta_T - 0.01, 0):g}", f"{below:.3g} bits"))
    if bits > 1:
        words = (
            "The warning is still there: ten times fewer steps have to do the same work. Compare the sums of the β_t."
        )
    elif below < 1:
        words = "No warning, but there was none at 0.01 less either. The smallest value destroys the image most slowly."
    else:
        words = "Here the divergence (1.14) falls below one bit. The sum of the β_t is what counts: β goes as 1/T."
    return bits <= 1 <= below, words, rows


# -- 1.4: the difference of two neighbours ------------------------------------------------------------------------------


def _variance_of_a_difference() -> sp.Expr:
    before = sp.sqrt(abar_prev) * x_0 + sp.sqrt(1 - abar_prev) * eps_1
    return variance_of(sp.sqrt(alpha) * before + sp.sqrt(1 - alpha) * eps_2 - before, eps_1, eps_2)


EXERCISES: dict[str, Exercise] = {
    "01.1": Predict(
        {
            "a": "Each factor 1 - β_t of (1.4) comes only a little nearer to 1, but there are a thousand of them. Together "
            "they do far more than double the product.",
            "b": "The logarithm of ᾱ_T is about minus the sum of the β_t. Half the sum is the root.",
            "c": "Smaller steps destroy less. More of the image is left at the end, not less.",
            "d": "Squared, it would be smaller than before: that is what twice the β_t would do, or walking the chain twice.",
        },
        _half_of_every_beta,
    ),
    "01.2": Build(
        "a function of schedule, x_s, s, t and eps that returns x_t, of the shape of x_s",
        _jumps,
        "One jump has the mean and the variance of all the single steps between (1.7).",
        (
            Mistake(
                _jump(root_of_noise=False),
                "1 - ᾱ_t/ᾱ_s is a variance. What multiplies the noise is its root (A01).",
            ),
            Mistake(
                _jump(root_of_noise=True, from_the_start=True),
                "That is the jump from x_0. From x_s only the steps after s count: ᾱ_t/ᾱ_s (1.7).",
            ),
            Mistake(
                _same_noise_at_every_step,
                "One eps in every step: then the noises add and not their variances, and the variance is too large (A10).",
            ),
            Mistake(
                lambda schedule, x_s, s, t, eps: q_sample(schedule, x_s[None], t - s, eps[None])[0],
                "ᾱ at t - s is the product of the first t - s factors. The steps from s to t have other, larger β: take "
                "the ratio ᾱ_t/ᾱ_s (1.7).",
            ),
        ),
    ),
    "01.3": Break("one number between 0 and 1", _beta_T, _hundred_steps),
    "01.4": Derive(
        _variance_of_a_difference,
        (alpha, abar_prev, abar),
        "So x_t - x_{t-1} is neither the noise of the step nor ε: to the step's β_t comes the part of x_{t-1} that the "
        "shrinking takes away (A18).",
        (
            Mistake(
                1 - alpha,
                "That is the new noise alone. x_{t-1} is noisy too, and (√α_t - 1) of it is left in the difference.",
            ),
            Mistake(
                (1 - abar) + (1 - abar_prev),
                "Variances add for independent things. x_t contains most of x_{t-1}: write the difference with the two "
                "independent noises first (1.8).",
            ),
            Mistake(
                (1 - abar) - (1 - abar_prev),
                "That is the difference of the variances, not the variance of the difference.",
            ),
            Mistake(
                (sp.sqrt(1 - abar) - sp.sqrt(1 - abar_prev)) ** 2,
                "That would be so if both had the same ε. The noise of the step is a new one (A10).",
            ),
            Mistake(
                (1 - sp.sqrt(alpha)) * (1 - abar_prev) + 1 - alpha,
                "A factor in front of a noise enters the variance squared: (1 - √α_t)².",
            ),
        ),
        given={abar: alpha * abar_prev},
    ),
}
