"""Exercises of chapter 12: likelihood and the learned variance."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar, abar_s, unit
from diffnotes.process.likelihood import bits_per_dim
from diffnotes.process.schedules import Schedule
from diffnotes.process.variance import optimal_variance

# -- 12.1: the best variance of a stride --------------------------------------------------------------------------------

s_0 = sp.Symbol("s_{0}", positive=True)
BETA = 1 - abar / abar_s
BETA_TILDE = (1 - abar_s) / (1 - abar) * BETA
C_SQUARED = abar_s * BETA**2 / (1 - abar) ** 2
V_T, V_S = abar * s_0**2 + 1 - abar, abar_s * s_0**2 + 1 - abar_s


@cache
def _stride() -> sp.Expr:
    """(12.2) with the error of the best prediction, s_0^2 (1 - abar_t) / v_t."""
    return sp.simplify(BETA_TILDE + C_SQUARED * s_0**2 * (1 - abar) / V_T)


# -- 12.2: 99 of 100 samples are noise ----------------------------------------------------------------------------------


@cache
def _noise() -> tuple[str, Rows]:
    """On a line, 784 times over: a model N(0, 1), and a mixture with 1 per cent of it and 99 per cent of something far away."""
    x = torch.linspace(-3, 3, 601, dtype=torch.float64)[:, None].expand(-1, 784)
    model = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    far = torch.distributions.Normal(torch.tensor(9.0, dtype=torch.float64), 0.1)
    own, other = model.log_prob(x).sum(1), far.log_prob(x).sum(1)
    mixed = torch.logaddexp(own + math.log(0.01), other + math.log(0.99))
    rise = (bits_per_dim(mixed, 784) - bits_per_dim(own, 784)).max().item()
    rows = (
        ("for a whole image", f"log2 of 100 = {math.log2(100):.2f} bits"),
        ("for each of 784 pixels", f"{math.log2(100) / 784:.4f}"),
        ("highest rise in a case with 784 pixels", f"{rise:.4f} bits per dimension"),
    )
    return "d" if rise < 0.01 else "c", rows


# -- 12.3: bits per dimension -------------------------------------------------------------------------------------------


def _log_densities(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Draws of log-densities, for bins of the three usual widths."""
    for dims, width in ((784, 2 / 255), (784, 1 / 256), (3072, 1.0), (64, 2 / 255)):
        logs = dims * (1 + torch.rand(5, 4, generator=generator, dtype=torch.float64))
        logs = logs + 0.2 * dims * torch.randn(5, 4, generator=generator, dtype=torch.float64)
        yield {"log_density": logs, "dims": dims, "bin_width": width}, bits_per_dim(logs.mean(0), dims, bin_width=width)


def _bits(*, offset: Any = math.log2, mean: str = "of logs", base: float = 2.0, shared: bool = True) -> Any:
    """The right function, and with one of its settings changed a wrong one."""

    def bits(log_density: Tensor, dims: int, bin_width: float) -> Tensor:
        one = {
            "of logs": log_density.mean(0),
            "none": log_density[0],
            "log of": torch.logsumexp(log_density, 0) - math.log(len(log_density)),
            "sum": log_density.sum(0),
        }[mean]
        return -one / ((dims if shared else 1) * math.log(base)) - offset(bin_width)

    return bits


# -- 12.4: beta is no upper bound ---------------------------------------------------------------------------------------


def _s_and_t(answer: Any) -> tuple[float, int]:
    s, t = numbers(answer, 2)
    if not (0 < s < 1e6 and t == int(t) and 2 <= t <= 1000):
        raise ValueError(f"s must be positive and t a whole number from 2 to 1000, got {answer}")
    return s, int(t)


def _above(answer: tuple[float, int]) -> tuple[bool, str, Rows]:
    s, t = answer
    schedule = Schedule.linear(T=1000)
    bar = schedule.alpha_bar[t]
    mse = s**2 * (1 - bar) / (bar * s**2 + 1 - bar)
    best, beta = optimal_variance(schedule, mse, t).item(), schedule.beta[t].item()
    rows = (("best variance", f"{best:.8g}"), ("beta_t", f"{beta:.8g}"), ("ratio", f"{best / beta:.6f}"))
    if best > 1.0001 * beta:
        words = (
            "Above beta_t. For s > 1 the noisy data have a smaller variance than the data, so v_{t-1} > v_t, and the middle "
            "bound of (12.4) exceeds beta_t. It never exceeds beta_t / alpha_t."
        )
        return True, words, rows
    if s <= 1:
        return (
            False,
            "For s at most 1 it is a bound: v_{t-1} is at most v_t (12.4). Which s makes v_t fall with t?",
            rows,
        )
    return False, "Above, but by less than a hundredth of a per cent: the step is too small. Try another t.", rows


# -- 12.5: a table of v --------------------------------------------------------------------------------------------------

small, large, ratio = unit(r"\tilde{\beta}_{t}"), unit(r"\beta_{t}"), unit(r"\rho")
D = sp.Symbol("D", positive=True)


@cache
def _end_of_v() -> sp.Expr:
    """Where the slope of the bound in v vanishes, for the variance of (12.7)."""
    level, v = sp.symbols("l v", real=True)  # the logarithm of the variance, and the network's number
    bound = ((D + small) / sp.exp(level) - 1 - sp.log(small) + level) / 2
    (best,) = sp.solve(sp.diff(bound, level), level)
    (end,) = sp.solve(v * sp.log(large) + (1 - v) * sp.log(small) - best, v)
    return end


EXERCISES: dict[str, Exercise] = {
    "12.1": Derive(
        _stride,
        (abar, abar_s, s_0),
        "β' v_s/v_t, the middle bound of (12.4) over a stride: for s_0 = 1 it is β', for s_0 → 0 it is β̃'.",
        (
            Mistake(
                BETA_TILDE, "That is β̃', the variance if x_0 were known. The error of the prediction is missing (12.2)."
            ),
            Mistake(BETA, "That is β', which is right for s_0 = 1 only. The answer depends on s_0."),
            Mistake(
                BETA * V_T / V_S,
                "Upside down: v of the earlier time stands above. For s_0 → 0 it must become β̃'.",
            ),
            Mistake(
                BETA_TILDE + C_SQUARED * s_0**2,
                "The error of the best prediction is less than s_0²: x_t tells something about x_0. It is s_0² (1 - ᾱ_t)/v_t.",
            ),
            Mistake(
                BETA_TILDE + sp.sqrt(C_SQUARED) * s_0**2 * (1 - abar) / V_T,
                "The factor c of the mean has to be squared: variances are meant (12.2).",
            ),
        ),
    ),
    "12.2": Predict(
        {
            "a": "That is the share of the samples. Bits count the logarithm of a density, and a hundredth of it is still there.",
            "b": "A hundredth of the density is left at every digit, so -log2 rises by log2 of 100 at most.",
            "c": "log2 of 100 is 6.6 bits, but for the whole image. They are shared by its 784 pixels (12.15).",
            "d": "log2(100)/784 = 0.0085. A likelihood hardly notices what a glance at the samples would (12.15).",
        },
        _noise,
    ),
    "12.3": Build(
        "a function of log_density, dims and bin_width that returns one number for each image",
        _log_densities,
        "The mean of the logs is a bound for any number of draws (12.1), and each pixel adds log2 of the bin's width once.",
        (
            Mistake(
                _bits(offset=lambda width: 0.0),
                "The offset is missing: each pixel pays for a bin, not for a point, so -log2 of the bin's width is added (12.1).",
            ),
            Mistake(
                _bits(offset=lambda width: -math.log2(width)),
                "The sign of the offset: a narrow bin is less probable and costs more, so -log2 of its width is added.",
            ),
            Mistake(
                _bits(offset=lambda width: -8.0),
                "The offset is 8 only for bins of 1/256. For images in [-1, 1] it is 6.99, and for raw grey values 0.",
            ),
            Mistake(
                _bits(offset=lambda width: -7.0),
                "The offset is 7 only for bins of 1/128. Take it from bin_width.",
            ),
            Mistake(
                _bits(mean="none"),
                "That is one draw of u. It is not wrong in the mean, but the mean over the draws is asked for.",
            ),
            Mistake(
                _bits(mean="log of"),
                "The logarithm of the mean: the importance-weighted estimate, a tighter number. Asked is the mean of the "
                "logarithms, the right side of (12.1).",
            ),
            Mistake(_bits(mean="sum"), "The draws are to be averaged, not added."),
            Mistake(_bits(base=math.e), "In nats: divide by log 2 for bits."),
            Mistake(_bits(shared=False), "For the whole image: bits per dimension are shared among the pixels."),
        ),
    ),
    "12.4": Break("a pair (s, t): a standard deviation and a time from 2 to 1000", _s_and_t, _above),
    "12.5": Derive(
        _end_of_v,
        (small, large, D),
        "There Σ_θ of (12.7) is the best variance, β̃_t + D. D = 0, where the image is known, gives ν = 0; D = β_t - β̃_t, "
        "which is standard normal noise by (7.3), gives ν = 1.",
        (
            Mistake(
                D / (large - small),
                "That reads the best variance off between the two variances. (12.7) goes between their logarithms.",
            ),
            Mistake(
                sp.log(D / small) / sp.log(large / small),
                "That makes the variance D. The best one is the posterior's own plus the error of the mean, β̃_t + D.",
            ),
            Mistake(
                sp.log(large / (D + small)) / sp.log(large / small),
                "The two ends are exchanged: by (12.7), ν = 1 stands for β_t, and ν = 0 for β̃_t.",
            ),
            Mistake(
                sp.log(D + small),
                "That is the logarithm of the best variance. ν says where it stands between log β̃_t and log β_t (12.7).",
            ),
            Mistake(
                sp.log(1 + D / small) / (2 * sp.log(large / small)),
                "Twice that: 1/2 turns a variance into a standard deviation; (12.7) speaks of variances on all its sides (A34).",
            ),
        ),
        given={small: ratio * large},
    ),
}
