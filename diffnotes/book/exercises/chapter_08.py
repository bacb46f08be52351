"""Exercises of chapter 8: DDIM."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar, abar_s, eps, eps_1, variance_of
from diffnotes.process import samplers
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.parameterize import eps_from_x0, x0_from_eps
from diffnotes.process.schedules import Schedule

# -- 8.1: half way between DDIM and DDPM --------------------------------------------------------------------------------


def _decided_by_the_start(eta: float) -> float:
    """The share of the variance of x_0 that comes from x_T, for data N(0, 1), the perfect predictor and a thousand steps."""
    schedule, times = Schedule.linear(), torch.arange(1, 1001)
    one, zero = torch.ones(1000, 1, dtype=torch.float64), torch.zeros(1000, 1, dtype=torch.float64)
    x0_hat = GaussianDenoiser(schedule)(one, times)
    eps_hat = eps_from_x0(schedule, x0_hat, one, times)
    kept = samplers.ddim_step(schedule, x0_hat, eps_hat, times, times - 1, zero, eta).flatten() ** 2
    fresh = samplers.ddim_step(schedule, zero, zero, times, times - 1, one, eta).flatten() ** 2
    after = kept.cumprod(0) / kept  # what the steps below t leave of what is added at t
    return (kept.prod() / (kept.prod() + (fresh * after).sum())).item()


@cache
def _half_way() -> tuple[str, Rows]:
    share = {eta: _decided_by_the_start(eta) for eta in (0.0, 0.5, 1.0)}
    options = {"a": 0.99, "b": 0.75, "c": 0.5, "d": 0.08}
    letter = min(options, key=lambda letter: abs(options[letter] - share[0.5]))
    return letter, tuple((f"decided by x_T at η = {eta:g}", f"{100 * value:.3g} %") for eta, value in share.items())


# -- 8.2: all of it fresh -----------------------------------------------------------------------------------------------


@cache
def _stays_as_it_is() -> sp.Expr:
    """The variance that a short step of (8.4) with the largest sigma leaves unchanged, if a prediction stands for x_0."""
    V = sp.Symbol("V", positive=True)
    x_t = sp.sqrt(V) * eps
    x_0_hat = sp.sqrt(abar) * x_t  # the perfect one for data N(0, 1)
    step = sp.sqrt(abar_s) * x_0_hat + sp.sqrt(1 - abar_s) * eps_1
    (still,) = sp.solve(variance_of(step, eps, eps_1).subs(abar_s, abar) - V, V)
    return still


# -- 8.3: the step ------------------------------------------------------------------------------------------------------

Step = Callable[[Schedule, Tensor, Tensor, int, int, float, Tensor], Tensor]


def _steps(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    schedule = Schedule.linear(T=20, beta_1=0.01, beta_T=0.3)
    for t, s, eta in ((20, 15, 0.0), (18, 6, 0.5), (12, 11, 1.0), (7, 3, 1.05), (5, 0, 0.5), (2, 1, 0.3)):
        eps_hat, x_t, z = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(3))
        x0_hat = x0_from_eps(schedule, eps_hat[None], x_t[None], t).clamp(-1, 1)
        anew = eps_from_x0(schedule, x0_hat, x_t[None], t)
        book = samplers.ddim_step(schedule, x0_hat, anew, t, s, z[None], eta)[0]
        given = {"schedule": schedule, "eps_hat": eps_hat, "x_t": x_t, "t": t, "s": s, "eta": eta, "z": z}
        yield given, book


def _step(
    *,
    stale: bool = False,
    full: bool = False,
    squared: bool = False,
    misread: bool = False,
    first: bool = False,
    sign: int = 1,
) -> Step:
    """The right function, and with one of its settings changed a wrong one."""

    def step(schedule: Schedule, eps_hat: Tensor, x_t: Tensor, t: int, s: int, eta: float, z: Tensor) -> Tensor:
        s = max(s, 1) if first else s
        abar_t, abar_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
        x0_hat = ((x_t - (1 - abar_t).sqrt() * eps_hat) / abar_t.sqrt()).clamp(-1, 1)
        if not stale:
            eps_hat = (x_t - abar_t.sqrt() * x0_hat) / (1 - abar_t).sqrt()
        a_t, a_s = (schedule.alpha[t], schedule.alpha[s]) if misread else (abar_t, abar_s)
        variance = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        sigma = variance if squared else variance.clamp(min=0).sqrt()
        room = 1 - abar_s - (0 if full else sigma**2)
        return abar_s.sqrt() * x0_hat + sign * room.clamp(min=0).sqrt() * eps_hat + sigma * z

    return step


# -- 8.4: a little more than DDPM ---------------------------------------------------------------------------------------


def _times(answer: Any) -> tuple[int, int]:
    t, s = numbers(answer, 2)
    if t != int(t) or s != int(s) or not 0 <= s < t <= 1000:
        raise ValueError(f"no step down: from {t} to {s}")
    return int(t), int(s)


def _a_little_more(times: tuple[int, int]) -> tuple[bool, str, Rows]:
    t, s = times
    schedule = Schedule.linear()
    abar_t, abar_s = schedule.alpha_bar[t].item(), schedule.alpha_bar[s].item()
    sigma = samplers.ddim_sigma(schedule, t, s, 1.0).item()
    try:
        samplers.ddim_sigma(schedule, t, s, 1.01)
        refused = False
    except ValueError:
        refused = True
    rows = (
        ("the noise that x_s has to hold, 1 - ᾱ_s", f"{1 - abar_s:.6g}"),
        ("σ² at η = 1", f"{sigma**2:.6g}"),
        ("σ² at η = 1.01", f"{(1.01 * sigma) ** 2:.6g}"),
    )
    if refused:
        words = (
            "Over this stride x_t is nearly independent of the noise in x_s, and DDPM renews all but a little of it. One per "
            "cent more would be more than x_s may hold (A33)."
        )
    elif s == 0:
        words = "The step to s = 0 lands on the image: σ = 0 for every η, and nothing is refused."
    elif (1 - abar_t) / (1 - abar_t / abar_s) < 2:
        words = "Not refused, but there is not much room left. Which strides leave even less to the old noise?"
    else:
        words = "Not refused: over so short a stride DDPM renews a small part of the noise only, and there is room for more."
    return refused, words, rows


# -- 8.5: the best twenty steps -----------------------------------------------------------------------------------------

S = sp.Symbol("S", integer=True, positive=True)


@cache
def _left_of_the_variance() -> sp.Expr:
    """One step of (8.7) without noise, for data N(0, 1), in angles; then S of them, all alike."""
    now, there = sp.symbols(r"\varphi_{t} \varphi_{s}", positive=True)
    step = sp.cos(there) * sp.cos(now) + sp.sin(there) * sp.sin(now)  # image cos(now) x_t, noise sin(now) x_t
    return sp.simplify(step).subs(now, there + sp.pi / (2 * S)) ** (2 * S)


EXERCISES: dict[str, Exercise] = {
    "08.1": Predict(
        {
            "a": "Every step adds little. But there are a thousand of them, and what they add is not taken back: at η = 1, "
            "with only four times as much in each, nothing at all is left of the start.",
            "b": "σ² is a quarter of DDPM's in every step. But what is renewed in one step is missing in all that follow: "
            "the shares that are kept multiply.",
            "c": "η = ½ is half of DDPM's σ. Neither the variances nor the shares that are kept go like that: those of a "
            "thousand steps multiply.",
            "d": "What is kept multiplies from step to step. DDPM keeps ᾱ_T of the variance, and η about ᾱ_T to the power "
            "η²: the logarithm goes with σ². By η = ½ nearly all is decided on the way.",
        },
        _half_way,
    ),
    "08.2": Derive(
        _stays_as_it_is,
        (abar,),
        "Not 1, which x_t should have, but ½ near the image, and shorter steps do not help. A mean stands where a draw of "
        "x_0 belongs.",
        (
            Mistake(
                sp.Integer(1),
                "That is what the lemma (8.5) promises, for the true x_0. Here the prediction stands in its place, and it has "
                "less variance: ᾱ_t V.",
            ),
            Mistake(
                abar**2 + 1 - abar,
                "That is what one step makes of variance 1. It is not 1, so the next step makes something else of it: ask "
                "for the V that stays.",
            ),
            Mistake(
                1 - abar,
                "That is the fresh noise alone. The prediction √ᾱ_t x_t comes with a factor √ᾱ_s, and brings its variance along.",
            ),
            Mistake(
                1 / (1 - abar**2),
                "The geometric series of the prediction's factor is right. What is added at every step is 1 - ᾱ_t, not 1.",
            ),
            Mistake(
                sp.Rational(1, 2),
                "That is where it ends, at ᾱ_t = 1. The question is for every t.",
            ),
        ),
    ),
    "08.3": Build(
        "a function of schedule, eps_hat, x_t, t, s, eta and z that returns x_s, of the shape of x_t",
        _steps,
        "From η = 0, DDIM, over η = 1, DDPM, to beyond it: the whole family in one step (8.7).",
        (
            Mistake(
                _step(stale=True),
                "The image is cut, the noise is not computed anew: together they do not make up x_t any more (P06).",
            ),
            Mistake(
                _step(full=True),
                "The old noise is kept at its full weight √(1-ᾱ_s), and new noise comes on top. What is brought in fresh has "
                "to be left out of the old: √(1-ᾱ_s-σ²) (8.4).",
            ),
            Mistake(
                _step(squared=True),
                "At η = 1 it is σ² that equals β̃, not σ: a root is missing (A34).",
            ),
            Mistake(
                _step(misread=True),
                "The formula for σ with the α of single steps. The paper that it comes from writes α for what is called ᾱ "
                "here (A57).",
            ),
            Mistake(
                _step(first=True),
                "Right but for the last step: at s = 0 the table has ᾱ_0 = 1, and nothing but the image is left. A step "
                "that ends at ᾱ_1 leaves grain (A37).",
            ),
            Mistake(
                _step(sign=-1),
                "That is the negative root of (8.2). It has the right distribution at every single time, but the whole step "
                "rests on the prediction (A35).",
            ),
        ),
    ),
    "08.4": Break("two times t and s, whole numbers with 0 <= s < t <= 1000", _times, _a_little_more),
    "08.5": Derive(
        _left_of_the_variance,
        (S,),
        "About exp(-π²/(4S)): 0.88 with twenty steps, 0.9975 with a thousand. Equal angles are what the cosine schedule "
        "(1.16) has, but for its small offset.",
        (
            Mistake(
                sp.cos(sp.pi / (2 * S)) ** S,
                "That is what is left of x_T itself. The variance is multiplied by the square.",
            ),
            Mistake(
                sp.cos(sp.pi / S) ** (2 * S),
                "The angles add up to φ_T, a right angle: each of them is π/(2S).",
            ),
            Mistake(
                sp.exp(-(sp.pi**2) / (4 * S)),
                "That is its approximation for many steps. Exactly, each step multiplies by a cosine.",
            ),
            Mistake(
                1 - sp.pi**2 / (4 * S),
                "That is the first term of it, for many steps. Exactly, each step multiplies by a cosine.",
            ),
            Mistake(
                sp.cos(sp.pi / 2) ** 2,
                "That is one step over the whole way: nothing is left. S steps of a small angle each lose far less.",
            ),
        ),
    ),
}
