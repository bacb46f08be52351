"""Exercises of chapter 13: scores and differential equations."""

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.schedules import Schedule
from diffnotes.process.sde import reverse_sde_sample

# -- 13.1: the irreducible loss -----------------------------------------------------------------------------------------

d, s_0, varsigma = sp.symbols(r"d s_{0} \varsigma", positive=True)


@cache
def _irreducible() -> sp.Expr:
    """E tr Cov(x_0 | x_bar) / varsigma^4 for data N(0, s_0^2 I), by (13.2)."""
    x = sp.Symbol("x", real=True)
    log_density = -(x**2) / (2 * (s_0**2 + varsigma**2))
    covariance = varsigma**2 * (1 + varsigma**2 * sp.diff(log_density, x, 2))
    return d * covariance / varsigma**4


# -- 13.2: ten steps of each --------------------------------------------------------------------------------------------


@cache
def _ten_steps() -> tuple[str, Rows]:
    """The variance after ten steps in t and after ten of DDIM, for data N(0, 1), the exact predictor and one start."""
    schedule = Schedule.linear()
    model, x_T = GaussianDenoiser(schedule), torch.randn(20_000, 1, generator=torch.Generator().manual_seed(0)).double()
    left = {}
    for name in ("euler-maruyama", "exponential"):
        *_, last = reverse_sde_sample(model, schedule, x_T, steps=10, lam=0, step=name)
        left[name] = (last.x_t.var() / x_T.var()).item()
    euler, ddim = left.values()
    letter = {(True, True): "a", (True, False): "b", (False, True): "c", (False, False): "d"}[
        abs(euler - 1) < 1e-3, abs(ddim - 1) < 1e-3
    ]
    return letter, (("Euler in t, 10 steps", f"variance {euler:.4f}"), ("DDIM, 10 steps", f"variance {ddim:.4f}"))


# -- 13.3: the likelihood along the flow --------------------------------------------------------------------------------

Velocity = Callable[[Tensor, Tensor], Tensor]


def _log_density(
    *,
    sign: float = 1.0,
    prior: bool = True,
    at_end: bool = False,
    coordinates: int = 2,
    constant: bool = True,
    integral: bool = True,
    moved: bool = True,
) -> Callable[[Velocity, Tensor, Tensor], Tensor]:
    """The right function, and with one of its settings changed a wrong one."""

    def divergence(velocity: Velocity, x: Tensor, phi: Tensor) -> Tensor:
        x = x.detach().requires_grad_()
        v, total = velocity(x, phi), torch.zeros(len(x), dtype=x.dtype)
        for i in range(coordinates):
            (gradient,) = torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)
            total = total + gradient[:, i]
        return total.detach()

    def log_density(velocity: Velocity, x: Tensor, angles: Tensor) -> Tensor:
        total, start = torch.zeros(len(x), dtype=x.dtype), x
        for now, then in zip(angles[:-1], angles[1:], strict=True):
            there = x + (then - now) * velocity(x, now)
            at, phi = (there, then) if at_end else (x, now)
            total = total + (then - now) * divergence(velocity, at, phi)
            x = there
        end = x if moved else start
        normal = -end.square().sum(1) / 2 - (math.log(2 * math.pi) if constant else 0)
        return prior * normal + integral * sign * total

    return log_density


def _flows(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Velocities that bend, and points, with a few uneven angles."""
    for _ in range(4):
        A, c = (torch.randn(2, n, generator=generator, dtype=torch.float64) for n in (2, 1))

        def velocity(x: Tensor, phi: Any, A: Tensor = A, c: Tensor = c) -> Tensor:
            return torch.tanh(x @ A + phi) + c.T * x

        x = torch.randn(5, 2, generator=generator, dtype=torch.float64)
        angles = torch.tensor([0.02, 0.3, 0.5, 1.1, 1.55], dtype=torch.float64)
        given = {"velocity": velocity, "x": x, "angles": angles}
        yield given, _log_density()(velocity, x, angles)


# -- 13.4: a small score error, a large divergence ----------------------------------------------------------------------


def _shares(answer: Any) -> list[float]:
    m, w, w_2 = numbers(answer, 3)
    if not (0 < m <= 20 and 0 < w < 1 and 0 < w_2 < 1):
        raise ValueError("m must lie in (0, 20], and the shares in (0, 1)")
    return [m, w, w_2]


def score_error_and_kl(m: float, w: float, w_2: float) -> tuple[float, float]:
    """E_q (grad log q - grad log p)^2 and D_KL(q || p) of (13.4), by a sum over a fine grid."""
    x = np.linspace(-m - 9, m + 9, 40_001)
    left, right = -((x + m) ** 2) / 2, -((x - m) ** 2) / 2
    log_q, log_p = (np.logaddexp(math.log(share) + left, math.log1p(-share) + right) for share in (w, w_2))
    r, r_2 = np.exp(math.log(w) + left - log_q), np.exp(math.log(w_2) + left - log_p)
    mass = np.exp(log_q) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    return float((mass * (2 * m * (r - r_2)) ** 2).sum()), float((mass * (log_q - log_p)).sum())


def _unseen(answer: list[float]) -> tuple[bool, str, Rows]:
    m, w, w_2 = answer
    error, kl = score_error_and_kl(m, w, w_2)
    rows = (("score error", f"{error:.3g}"), ("KL divergence", f"{kl:.3f} nats"))
    if w == w_2:
        words = "The two distributions are the same: there is nothing to be seen. Give them different shares."
    elif error >= 1e-3 and kl <= 1:
        words = (
            "The score error is too large, and the divergence too small. m decides about the first, the "
            "shares about the second."
        )
    elif error >= 1e-3:
        words = "The divergence is large enough, but the training would see it: the clusters overlap. Move them apart (13.4)."
    elif kl <= 1:
        words = (
            "The training would not see it, as wanted, but the divergence is at most one nat. Which shares "
            "are far from each other?"
        )
    else:
        return (
            True,
            "A network with this score error is better than most, and it has exchanged the shares (13.4).",
            rows,
        )
    return False, words, rows


EXERCISES: dict[str, Exercise] = {
    "13.1": Derive(
        _irreducible,
        (d, s_0, varsigma),
        "d/ς² - d/(s_0² + ς²): what the noise leaves unknown about x_0, over ς⁴ (13.2). It vanishes "
        "only without data noise, s_0 = 0.",
        (
            Mistake(
                sp.Integer(0),
                "A perfect network has a loss too. The target -ε/ς is right on average only; what it strays by stays (13.1).",
            ),
            Mistake(
                d / varsigma**2,
                "That is the mean square of the target, the loss of a network that predicts 0. Take E‖∇log q‖² from it (13.1).",
            ),
            Mistake(
                d / (s_0**2 + varsigma**2),
                "That is E‖∇log q‖² itself, which is to be taken from d/ς² (13.1).",
            ),
            Mistake(
                d * s_0**2 / (s_0**2 + varsigma**2),
                "That is the irreducible loss of the noise ε (4.13). The target here is -ε/ς: divide by ς².",
            ),
            Mistake(
                d * s_0**2 * varsigma**2 / (s_0**2 + varsigma**2),
                "That is tr Cov(x_0|x̄). C is this over ς⁴ (13.2).",
            ),
            Mistake(
                s_0**2 / (varsigma**2 * (s_0**2 + varsigma**2)),
                "Right for one coordinate. The squared norm has d of them.",
            ),
        ),
    ),
    "13.2": Predict(
        {
            "a": "They solve the same equation, but with ten steps neither need be exact. Which of the two "
            "slopes is constant here?",
            "b": "x + ∇log q = 0 at every time: Euler in t does not move, and that is right. DDIM turns by each "
            "angle as if the image "
            "were a point, x_{φ-δ} = cos δ x, so every step shrinks the variance by cos² δ (13.11).",
            "c": "The other way round. DDIM is exact for data at a single point. For N(0, 1) the slope in t is "
            "0, and Euler is exact.",
            "d": "That would be the sampler of (7.4), which takes the mean of each ancestral step and adds "
            "nothing. The flow has only "
            "half the score: its points keep their distances where the distribution does not change (13.10).",
        },
        _ten_steps,
    ),
    "13.3": Build(
        "a function of velocity, x and angles that returns a number for each point, shape (B,)",
        _flows,
        "The normal density at the end, and the divergence, summed over both coordinates, for every step on the way (13.12).",
        (
            Mistake(
                _log_density(sign=-1.0),
                "The sign of the integral: where the way to the noise spreads, the density at the image is "
                "higher (13.12). For N(0, 1/4) "
                "your sign would cost two bits.",
            ),
            Mistake(
                _log_density(prior=False),
                "The density at the noise is missing: log N(x(φ_1); 0, I).",
            ),
            Mistake(
                _log_density(integral=False),
                "That is the density of the point at the noise only. On the way it has changed by the integral "
                "of the divergence (13.12).",
            ),
            Mistake(
                _log_density(constant=False),
                "The normal density in two dimensions has the factor 1/(2π).",
            ),
            Mistake(
                _log_density(coordinates=1),
                "A divergence is the sum over all coordinates; you have taken the first one alone.",
            ),
            Mistake(
                _log_density(at_end=True),
                "The divergence is taken where the step arrives. Euler's method takes velocity and divergence at its start.",
            ),
            Mistake(
                _log_density(moved=False),
                "The normal density stands at the end of the curve, x(φ_1), not at the image.",
            ),
        ),
    ),
    "13.4": Break(
        "three numbers (m, w, w'): m in (0, 20], and two shares between 0 and 1",
        _shares,
        _unseen,
    ),
}
