"""Exercises of chapter 14: fewer steps."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof import line
from diffnotes.book.proof.symbols import abar, abar_s
from diffnotes.process import solvers
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule

# -- 14.1: what is frozen -----------------------------------------------------------------------------------------------

a_t, b_t, a_s, b_s, h = sp.symbols("a_{t} b_{t} a_{s} b_{s} h", positive=True)
x_t, x_0_hat = sp.symbols(r"x_{t} \hat{x}_{0}", real=True)
TABLES = {a_t: sp.sqrt(abar), b_t: sp.sqrt(1 - abar), a_s: sp.sqrt(abar_s), b_s: sp.sqrt(1 - abar_s)}
EPS_HAT = (x_t - a_t * x_0_hat) / b_t


@cache
def _noise_frozen() -> sp.Expr:
    """The second form of (14.2) with the noise taken out of the integral, and written with the prediction."""
    lam = sp.Symbol("lambda", real=True)
    integral = sp.integrate(sp.exp(-lam), (lam, sp.log(a_t / b_t), sp.log(a_s / b_s)))
    return a_s / a_t * x_t - a_s * integral * EPS_HAT


# -- 14.2: ten calls ----------------------------------------------------------------------------------------------------

PLANS = {"a": ("DDIM", 10, 10), "b": ("Heun", 10, 19), "c": ("2M", 10, 10), "d": ("Heun", 5, 9)}  # steps and calls


@cache
def _ten_calls() -> tuple[str, Rows]:
    """Of the plans that are within ten calls, the one that ends nearest to the exact curves of the mixture on a line."""
    off = {letter: _off(solver, steps) for letter, (solver, steps, _) in PLANS.items()}
    within = [letter for letter, (_, _, calls) in PLANS.items() if calls <= 10]
    rows = tuple(
        (f"{solver}, {steps} steps", f"{calls} calls, mean distance {off[letter]:.3f}")
        for letter, (solver, steps, calls) in PLANS.items()
    )
    return min(within, key=lambda letter: off[letter]), (*rows, ("2M, 19 steps", f"19 calls, {_off('2M', 19):.3f}"))


def _off(solver: str, steps: int) -> float:
    """The mean distance from the ends of the exact curves, for starts that stand for the whole distribution."""
    data, schedule, shares = line.Mixture(), Schedule.cosine(), (np.arange(40) + 0.5) / 40
    times = solvers.karras_times(schedule, steps)
    level = solvers.noise_level(schedule)[times[0]].item()
    start, end = data.curves(shares, np.array([level, 0.0]))
    x_T = schedule.alpha_bar[times[0]].sqrt() * torch.from_numpy(start)[:, None]
    means = torch.tensor(data.means, dtype=torch.float64)[:, None]
    weights = torch.tensor(data.weights, dtype=torch.float64)
    model = MixtureDenoiser(schedule, means, data.sd**2, weights)
    sample: Any = {"DDIM": ddim_sample, "Heun": solvers.heun_sample, "2M": solvers.dpm_solver_sample}[solver]
    *_, last = sample(model, schedule, x_T, times=times)
    return float(np.abs(last.x_t[:, 0].numpy() - end).mean())


# -- 14.3: the step -----------------------------------------------------------------------------------------------------

Step = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def _steps(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Uneven steps, and predictions on a straight line in lambda, both positive."""
    schedule = Schedule.cosine()
    lam, zero = solvers.half_log_snr(schedule), torch.zeros(1, 4, dtype=torch.float64)
    for before, t, s in ((990, 900, 600), (800, 500, 430), (300, 260, 30), (120, 60, 45), (40, 15, 0)):
        x_t, g = (torch.randn(4, generator=generator, dtype=torch.float64) for _ in range(2))
        level = 9 + torch.rand(4, generator=generator, dtype=torch.float64)
        x0_before, x0_hat = level + g * lam[before], level + g * lam[t]
        book = solvers.dpm_solver_step(schedule, x0_hat[None], x_t[None], t, s, zero, before=(x0_before[None], before))
        given = {"x_t": x_t, "x0_hat": x0_hat, "x0_before": x0_before}
        tables = {"abar_before": schedule.alpha_bar[before], "abar_t": schedule.alpha_bar[t]}
        yield given | tables | {"abar_s": schedule.alpha_bar[s]}, book[0]


def _two_m(
    *,
    r: Callable[[Tensor, Tensor, Tensor], Any] = lambda before, t, s: (t - before) / (s - t),
    half: float = 0.5,
    weight: Callable[[Tensor, Tensor], Tensor] = lambda h_before, h: 1 - (-h).exp(),
    exact: bool = False,
    rooted: bool = True,
    last: str = "first order",
) -> Step:
    """The right function, and with one of its settings changed a wrong one; `last`: what is done for s = 0."""

    def step(
        x_t: Tensor, x0_hat: Tensor, x0_before: Tensor, abar_before: Tensor, abar_t: Tensor, abar_s: Tensor
    ) -> Tensor:
        if abar_s == 1 and last == "first order":
            return x0_hat
        lam = [0.5 * (abar / (1 - abar)).log() for abar in (abar_before, abar_t, abar_s)]
        h_before, h = lam[1] - lam[0], lam[2] - lam[1]
        share = half / r(*lam)
        if exact:
            share = (h - 1 + (-h).exp()) / (1 - (-h).exp()) / h_before
        D = (1 + share) * x0_hat - share * x0_before if last == "two terms" else x0_hat + share * (x0_hat - x0_before)
        root = 0.5 if rooted else 1
        return ((1 - abar_s) / (1 - abar_t)) ** root * x_t + abar_s**root * weight(h_before, h) * D

    return step


def _slips(means: str, **slip: Any) -> tuple[Mistake, ...]:
    """One slip, for readers who have thought of s = 0 and for those who have not, in two ways of writing the bracket."""
    return tuple(Mistake(_two_m(**slip, last=last), means) for last in ("first order", "two terms", "a difference"))


# -- 14.4: what an order test does not see ------------------------------------------------------------------------------

Slip = tuple[line.Ratio, list[float]]
FINEST = 320


def _uneven(steps: int) -> np.ndarray:
    """Levels from 8 to 0.1 whose steps in lambda are in turns one and three long."""
    share = np.append(0, np.cumsum(np.where(np.arange(steps) % 2, 3.0, 1.0)))
    return np.asarray(8.0 * (0.1 / 8) ** (share / share[-1]))


GRIDS: dict[str, Callable[[int], np.ndarray]] = {
    "on Karras' grid": lambda steps: line.karras(steps + 1, rho=7.0, highest=8.0, lowest=0.1)[:-1],
    "with steps in turns 1 and 3 long": _uneven,
}


def _ratio_and_step(answer: Any) -> Slip:
    ratio, given = answer
    case = numbers(given, 3)
    if not case[0] < case[1] < case[2]:
        raise ValueError(f"lambda does not rise: {case}")
    grids = [-np.log(grid(steps)) for grid in GRIDS.values() for steps in (FINEST // 4, FINEST)]
    for lam in (*grids, np.array(case)):
        for three in zip(lam, lam[1:], lam[2:], strict=False):
            (value,) = numbers([ratio(*map(float, three))], 1)
            if value == 0:
                raise ValueError("no r may be 0")
    return lambda *three: float(ratio(*three)), case


def _order(ratio: line.Ratio, grid: Callable[[int], np.ndarray]) -> float:
    """p in error = C S^(-p), from S = 80 and 320 steps between two positive noise levels (book, eq. 14.7)."""
    data, shares, off = line.Mixture(), (np.arange(20) + 0.5) / 20, []
    for steps in (FINEST // 4, FINEST):
        levels = grid(steps)
        start, end = data.curves(shares, levels[[0, -1]])
        off.append(np.abs(line.dpm_solver(data, levels, start, ratio=ratio)[-1] - end).mean())
    return float(np.log(off[0] / off[1]) / np.log(4))


def _unseen(answer: Slip) -> tuple[bool, str, Rows]:
    ratio, (before, t, s) = answer
    with np.errstate(all="ignore"):
        orders = {name: _order(ratio, grid) for name, grid in GRIDS.items()}
    seen = [not 1.7 < order < 3 for order in orders.values()]
    bracket, middle = t + (t - before) / (2 * ratio(before, t, s)), (t + s) / 2
    shown = abs(bracket - middle) > 0.01 * (s - t)
    rows = (
        *((f"order {name}", f"{order:.2f}") for name, order in orders.items()),
        ("your r in your step", f"{ratio(before, t, s):.4g}, where h'/h = {line.ratio_of_steps(before, t, s):.4g}"),
        ("the bracket for the prediction λ", f"{bracket:.4g}, and the middle of the step is {middle:.4g}"),
    )
    if seen[0]:
        words = "The order test sees this: the order is not 2, even on Karras' grid. Look for errors that cancel over the steps."
    elif seen[1]:
        words = (
            "On Karras' grid the order test does not see it, for neighbouring steps are nearly alike there, and r is near 1. "
            "With uneven steps it does: an order test needs them."
        )
    elif all(abs(ratio(*x) / line.ratio_of_steps(*x) - 1) < 1e-6 for x in ((0.0, 1.0, 3.0), (0.0, 0.3, 0.4))):
        words = "That is r itself, h'/h. The order is 2, but there is nothing to be exposed (14.5)."
    elif not shown:
        words = (
            "The order test does not see it, as wanted. But in this step the other test does not either: the bracket is in the "
            "middle, to one per cent of the step. How must two steps differ, for your r and h'/h to be different?"
        )
    else:
        words = (
            "Order 2 on both grids, and yet not (14.5): a prediction on a straight line in λ is not continued to the middle of "
            "the step. An order test sees what is left when the steps are small and their errors are added up."
        )
        return True, words, rows
    return False, words, rows


EXERCISES: dict[str, Exercise] = {
    "14.1": Derive(
        _noise_frozen,
        (x_t, x_0_hat, a_t, b_t, a_s, b_s, h),
        "b_s/b_t x_t + (a_s - a_t b_s/b_t) x̂_0: just what the frozen prediction gives. Not two methods but one, DDIM (14.3), "
        "since x_t = a_t x̂_0 + b_t ε̂.",
        (
            Mistake(
                a_s / a_t * x_t - a_s * h * b_t / a_t * EPS_HAT,
                "That is Euler's method for (14.1) in λ: h times the integrand at t. Only the noise is to be frozen; the "
                "exponential is known on the whole way, and its integral is e^{-λ_t} - e^{-λ_s}.",
            ),
            Mistake(
                a_s / a_t * x_t + b_s * (sp.exp(h) - 1) * EPS_HAT,
                "The sign: the second form of (14.2) has a minus. Towards the image noise is taken away.",
            ),
            Mistake(
                a_s / a_t * x_t - b_s * (1 - sp.exp(-h)) * EPS_HAT,
                "The factor of the other form. a_s (e^{-λ_t} - e^{-λ_s}) is b_s (e^h - 1): take b_s = a_s e^{-λ_s} out.",
            ),
            Mistake(
                a_s / a_t * x_t - b_s * (sp.exp(h) - 1) * x_0_hat,
                "The prediction of the image stands where the noise belongs. The noise is (x_t - a_t x̂_0)/b_t.",
            ),
            Mistake(
                a_s / a_t * x_t - b_s * (sp.exp(h) - 1) * (x_t - a_t * x_0_hat),
                "x_t - a_t x̂_0 is b_t ε̂: divide by b_t.",
            ),
            Mistake(
                b_s / b_t * x_t + (a_s / b_s - a_t / b_t) * x_0_hat,
                "In the first form of (14.2) there is a b_s before the integral.",
            ),
        ),
        {**TABLES, h: sp.log(TABLES[a_s] * TABLES[b_t] / (TABLES[b_s] * TABLES[a_t]))},
    ),
    "14.2": Predict(
        {
            "a": "Ten calls, yes. But DDIM takes each prediction as if it did not move during the step (14.3). At the same cost "
            "2M lets it move (14.5).",
            "b": "Nearest by steps, but not by calls: Heun calls the network twice a step and once in the last, nineteen times "
            "in all (14.6). Ten were allowed.",
            "c": "Within ten calls it is the nearest: of second order, with one call a step, because it uses the prediction "
            "before once more. Heun with ten steps ends nearer, but that takes nineteen calls, and with as many 2M is nearer "
            "still.",
            "d": "Nine calls, within the ten. But half as many steps, each twice as long, and in a long step Heun's prediction "
            "on arrival has a large weight (14.6). Order 2 speaks of small steps.",
        },
        _ten_calls,
    ),
    "14.3": Build(
        "a function of x_t, x0_hat, x0_before, abar_before, abar_t and abar_s that returns x_s, of the shape of x_t",
        _steps,
        "Also where the steps are uneven, and at s = 0. The bracket is the straight line through the two predictions, "
        "continued to the middle of the step (14.5).",
        (
            *(
                Mistake(
                    _two_m(last=last),
                    "Right but for s = 0. There λ_s and h are infinite, r is 0, and the bracket is no number. The last step is "
                    "of first order: it returns the prediction x̂_0 (14.3).",
                )
                for last in ("two terms", "a difference")
            ),
            *_slips(
                "r stands upside down: it is h'/h, the step before in units of this one. An order test would not have seen "
                "it (14.5); uneven steps and a prediction on a straight line do.",
                r=lambda before, t, s: (s - t) / (t - before),
            ),
            *_slips(
                "That is r = 1, as if this step were as long as the one before. The steps here are uneven (14.5).",
                r=lambda before, t, s: torch.ones_like(t),
            ),
            *_slips(
                "The ½ is missing: the line through the predictions is continued to the middle of the step, not to its end "
                "(14.5).",
                half=1.0,
            ),
            *_slips(
                "r has to be counted in λ. You have counted it in noise levels, which are e^{-λ} (14.5).",
                r=lambda before, t, s: ((-before).exp() - (-t).exp()) / ((-t).exp() - (-s).exp()),
            ),
            *_slips(
                "The two weights have the wrong signs: the line is to be continued beyond x̂_0, away from the prediction "
                "before, not back to it (14.5).",
                half=-0.5,
            ),
            *_slips(
                "h of the wrong step in e^{-h}: it is the step to be taken, λ_s - λ_t, not the one before.",
                weight=lambda h_before, h: 1 - (-h_before).exp(),
            ),
            *_slips(
                "λ is half the log-SNR: with the whole of it h is twice as long. (In r the factor 2 drops out.)",
                weight=lambda h_before, h: 1 - (-2 * h).exp(),
            ),
            *_slips(
                "The sign of h: λ rises from t to s, and e^{-h} is less than 1.",
                weight=lambda h_before, h: 1 - h.exp(),
            ),
            *_slips(
                "That is the first-order step, DDIM (14.3). It does not use the prediction before.",
                half=0.0,
            ),
            *_slips(
                "That is the exact integral of the straight line, by (14.4), and it is of order 2 as well. 2M writes "
                "(1 - e^{-h}) h/2 for its h - 1 + e^{-h}; they differ by h³/12 (14.5).",
                exact=True,
            ),
            *_slips(
                "a and b are the roots of ᾱ and of 1 - ᾱ.",
                rooted=False,
            ),
        ),
    ),
    "14.4": Break(
        "a pair: a function of λ at t', t and s that gives a finite number, not 0, in the place of r; and a list of three "
        "values of λ that rise",
        _ratio_and_step,
        _unseen,
    ),
}
