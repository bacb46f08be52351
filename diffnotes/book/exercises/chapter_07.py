"""Exercises of chapter 7: DDPM sampling."""

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import unit
from diffnotes.process import samplers
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.parameterize import x0_from_eps
from diffnotes.process.schedules import Schedule

# -- 7.1: sixteen samples from one start --------------------------------------------------------------------------------


@cache
def _sixteen_samples() -> tuple[str, Rows]:
    """Ten clusters in the place of the ten digits, with their optimal denoiser: which of them are reached?"""
    schedule = Schedule.linear()
    clusters = MixtureDenoiser(schedule, torch.eye(10, dtype=torch.float64), variance=0.05**2)
    generator = torch.Generator().manual_seed(0)
    starts = torch.randn(16, 10, generator=generator, dtype=torch.float64)

    def drawn(x_T: Tensor) -> Tensor:
        *_, end = samplers.ddpm_sample(clusters, schedule, x_T, steps=50, generator=generator)
        return end.x_t

    same, others = drawn(starts[:1].expand(16, -1)), drawn(starts)
    one, many = (len(x.argmax(1).unique()) for x in (same, others))
    found = {"a": bool((same == same[0]).all()), "c": one == 1, "d": one <= many / 2, "b": True}
    letter = next(letter for letter, holds in found.items() if holds)
    return letter, (
        ("clusters reached from one x_T, in 50 steps", f"{one} of 10"),
        ("from sixteen x_T, in 50 steps", f"{many} of 10"),
    )


# -- 7.2: a part of the noise -------------------------------------------------------------------------------------------

c, abar_T = unit("c"), unit(r"\bar{\alpha}_{T}")


def _part_of_the_noise() -> sp.Expr:
    """A step makes alpha V + c² (1 - alpha) out of V. One variance stays as it is; the distance from it shrinks by alpha."""
    alpha, V = unit(r"\alpha_{t}"), sp.Symbol("V", positive=True)
    after = alpha * V + c**2 * (1 - alpha)
    (still,) = sp.solve(sp.Eq(after, V), V)
    shrinks = sp.simplify((after - still) / (V - still))  # alpha; all steps together: abar_T
    return still + shrinks.subs(alpha, abar_T) * (1 - still)


# -- 7.3: one stride ----------------------------------------------------------------------------------------------------

Stride = Callable[[Schedule, Tensor, Tensor, int, int, Tensor], Tensor]


def _strides(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    schedule = Schedule.linear(T=20, beta_1=0.01, beta_T=0.3)
    for t, s in ((20, 14), (13, 12), (9, 3), (4, 0), (1, 0)):
        eps_hat, x_t, z = (torch.randn(3, generator=generator, dtype=torch.float64) for _ in range(3))
        x0_hat = x0_from_eps(schedule, eps_hat[None], x_t[None], t)
        book = samplers.ddpm_step(schedule, x0_hat, x_t[None], t, s, z[None], variance="beta")[0]
        yield {"schedule": schedule, "eps_hat": eps_hat, "x_t": x_t, "t": t, "s": s, "z": z}, book


def _stride(single: bool = False, always: bool = False, root: bool = True, stretched: bool = True) -> Stride:
    """The right function, and with one of its four settings changed a wrong one."""

    def stride(schedule: Schedule, eps_hat: Tensor, x_t: Tensor, t: int, s: int, z: Tensor) -> Tensor:
        abar = schedule.alpha_bar[t]
        a = schedule.alpha[t] if single else abar / schedule.alpha_bar[s]
        mean = (x_t - (1 - a) / (1 - abar).sqrt() * eps_hat) / (a.sqrt() if stretched else 1)
        sigma = (1 - a).sqrt() if root else 1 - a
        return mean + sigma * z if s > 0 or always else mean

    return stride


def _all_of_the_noise(schedule: Schedule, eps_hat: Tensor, x_t: Tensor, t: int, s: int, z: Tensor) -> Tensor:
    beta = 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s]
    return x_t - eps_hat + (beta.sqrt() * z if s > 0 else 0)


# -- 7.4: two variances, and few steps ----------------------------------------------------------------------------------


def _steps(answer: Any) -> int:
    (S,) = numbers([answer], 1)
    if S != int(S) or not 1 <= S <= 1000:
        raise ValueError(f"no number of steps: {S}")
    return int(S)


def _variance_of_samples(S: int, kind: str) -> float:
    """What the steps of ddpm_sample make of variance 1, for data N(0, 1) and the perfect predictor."""
    schedule = Schedule.linear()
    tau = schedule.subsequence(S)
    t, s, one, zero = tau[1:], tau[:-1], torch.ones(S, 1).double(), torch.zeros(S, 1).double()
    from_x = samplers.ddpm_step(schedule, GaussianDenoiser(schedule)(one, t), one, t, s, zero, kind)
    from_z = samplers.ddpm_step(schedule, zero, zero, t, s, one, kind)
    variance = 1.0
    for kept, fresh in zip(from_x.flatten().tolist()[::-1], from_z.flatten().tolist()[::-1], strict=True):
        variance = kept**2 * variance + fresh**2
    return variance


def _two_variances(S: int) -> tuple[bool, str, Rows]:
    wide, narrow = (_variance_of_samples(S, kind) for kind in ("beta", "beta_tilde"))
    rows = (("variance of the samples with β'", f"{wide:.4f}"), ("with β̃'", f"{narrow:.4f}"))
    if wide < 0.98:
        words = (
            "Here β' has lost too much as well: all in its last step, which adds no noise and leaves ᾱ at the time where "
            "it starts. With more steps that one is shorter."
        )
    elif narrow > 0.9:
        words = (
            "With so many steps the two are nearly alike: β̃'/β' = (1-ᾱ_s)/(1-ᾱ_t) is close to 1, if s is just below t, "
            "except for the first few times."
        )
    else:
        words = (
            "For these data β' is the true variance of the step (7.3), over strides of any length. β̃' is that of a "
            "single image. It is too narrow at every stride, the more so the longer the stride, and what it leaves out is "
            "missing in the samples."
        )
    return wide >= 0.98 and narrow <= 0.9, words, rows


EXERCISES: dict[str, Exercise] = {
    "07.1": Predict(
        {
            "a": "That would be so if x_T decided everything. But every step draws fresh noise, from another seed in each "
            "of the sixteen.",
            "b": "For data N(0, 1) the steps keep ᾱ_T of the variance of the start (7.4), next to nothing, and digits are no "
            "different: the noise of the steps decides. With DDIM it is the other way round.",
            "c": "Then the digit would be settled in x_T, and the steps would add the details. But to the predictor every x_T "
            "is the same: it predicts an average of all digits (7.5). The digit is decided on the way.",
            "d": "Then x_T would at least narrow the choice down. But hardly anything of it is left after the first few "
            "hundred steps, where the digit is still open.",
        },
        _sixteen_samples,
    ),
    "07.2": Derive(
        _part_of_the_noise,
        (c, abar_T),
        "Between (7.4), c = 0, and the data distribution, c = 1. A sampler with a part of the noise has about that part, "
        "squared, of the variance, however perfect its predictor is (A19).",
        (
            Mistake(
                abar_T,
                "That is what is left of the start (7.4), as if no noise at all were added. The noise of the steps adds to "
                "it, however good the predictor is (A19).",
            ),
            Mistake(
                c**2,
                "Nearly, if the chain is long: c² is the variance that a step leaves as it is. But the chain starts at 1, "
                "and ᾱ_T of the distance from c² is left at the end.",
            ),
            Mistake(
                abar_T + c * (1 - abar_T),
                "A factor before a noise enters the variance squared: c² β_t, not c β_t.",
            ),
            Mistake(
                c**2 * (1 - abar_T),
                "That is what the noise of the steps piles up. The start is missing: x_T has variance 1, and ᾱ_T of it is "
                "left.",
            ),
            Mistake(
                sp.Integer(1),
                "That is the variance with all of the noise, c = 1. With less of it every step leaves less.",
            ),
        ),
    ),
    "07.3": Build(
        "a function of schedule, eps_hat, x_t, t, s and z that returns x_s, of the shape of x_t",
        _strides,
        "It is ddpm_step with variance='beta', for single steps and for strides (7.6). A loop around it is a sampler.",
        (
            Mistake(
                _stride(single=True),
                "α_t and β_t are those of the step from t to t - 1. Over a stride take α' = ᾱ_t/ᾱ_s and β' = 1 - α' (7.6).",
            ),
            Mistake(
                _stride(always=True),
                "Right but for the step that lands on the image, s = 0: noise that is added there stays on it as grain "
                "(P04).",
            ),
            Mistake(
                _stride(root=False),
                "β' is a variance. What multiplies z is its root (A34).",
            ),
            Mistake(
                _stride(stretched=False),
                "The noise is taken away, but what is left is not stretched: divide by √α' (7.1).",
            ),
            Mistake(
                _all_of_the_noise,
                "eps_hat is the noise accumulated since x_0, not that of the last steps: only the part β'/√(1-ᾱ_t) of it is "
                "taken away (A18).",
            ),
            Mistake(
                lambda schedule, eps_hat, x_t, t, s, z: x0_from_eps(schedule, eps_hat[None], x_t[None], t)[0],
                "That is the prediction of the image, all the way to s = 0 in one step. It is an average, and has too little "
                "variance (A20).",
            ),
        ),
    ),
    "07.4": Break("a whole number from 1 to 1000, the number of steps", _steps, _two_variances),
}
