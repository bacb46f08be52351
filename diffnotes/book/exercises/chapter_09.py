"""Exercises of chapter 9: guidance."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import complete_square, exponent, x_t
from diffnotes.process import samplers
from diffnotes.process.adapters import Pair
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.parameterize import eps_from_x0
from diffnotes.process.schedules import Schedule


@dataclass(frozen=True)
class Late:
    """Guidance in the last part of the way only: for t <= latest; before, the plain conditional prediction."""

    pair: Pair
    scale: float
    latest: int
    target: str = "x0"

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The prediction at the times t, which are all the same."""
        return ClassifierFreeGuidance(self.pair, self.scale if int(t[0]) <= self.latest else 1.0)(x_t, t, y)


def _drawn(model: Any, schedule: Schedule, starts: Tensor, steps: int) -> Tensor:
    *_, end = samplers.ddim_sample(model, schedule, starts, steps=steps, y=torch.ones(len(starts), dtype=torch.long))
    return end.x_t[:, 0]


def _evenly(n: int) -> Tensor:
    """n numbers that stand for the standard normal distribution: one for each n-th part of it."""
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return torch.distributions.Normal(0.0, 1.0).icdf(share)[:, None]


# -- 9.1: a class that nobody could mistake -----------------------------------------------------------------------------


@cache
def _a_lonely_class() -> tuple[str, Rows]:
    """Classes at -1 and 1, each a Gaussian of standard deviation 0.2, guided towards the second."""
    schedule, sigma = Schedule.cosine(), 0.2
    both = MixtureDenoiser(schedule, torch.tensor([[-1.0], [1.0]], dtype=torch.float64), sigma**2)
    pair, starts = Pair(both, GaussianDenoiser(schedule, 1.0, sigma**2)), _evenly(200)
    drawn = {s: _drawn(ClassifierFreeGuidance(pair, s), schedule, starts, steps=50) for s in (1, 4)}
    further = bool(drawn[4].mean() > drawn[1].mean() + sigma / 2)
    narrower = bool(drawn[4].std() < 0.8 * drawn[1].std())
    x = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    bells = [torch.exp(-((x - y) ** 2) / (2 * sigma**2)) for y in (-1, 1)]
    tilted = (bells[0] + bells[1]) * (bells[1] / (bells[0] + bells[1])) ** 4
    mean = (tilted * x).sum() / tilted.sum()
    spread = ((tilted * (x - mean) ** 2).sum() / tilted.sum()).sqrt()
    letter = {(False, False): "a", (False, True): "b", (True, False): "c", (True, True): "d"}[further, narrower]
    rows = [(f"drawn with s = {s}", f"mean {x.mean():.2f}, standard deviation {x.std():.2f}") for s, x in drawn.items()]
    return letter, (*rows, ("the tilted distribution, s = 4", f"mean {mean:.2f}, standard deviation {spread:.2f}"))


# -- 9.2: two Gaussians -------------------------------------------------------------------------------------------------

s, V, V_y = sp.symbols("s V V_{y}", positive=True)


def _tilted_variance() -> sp.Expr:
    """The variance of q(x_t | y)^s q(x_t)^(1-s), by completing the square."""
    mean, mean_y = sp.symbols("m m_{y}", real=True)
    parabola = s * exponent(x_t, mean_y, V_y) + (1 - s) * exponent(x_t, mean, V)
    return complete_square(parabola, x_t)[1]


# -- 9.3: from two predictions of the image to the guided noise ---------------------------------------------------------

Guidance = Callable[[Schedule, Tensor, Tensor, Tensor, int, float], Tensor]


def _always(x0: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x_t, t: x0


def _answers(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    schedule, label = Schedule.linear(T=20, beta_1=0.01, beta_T=0.3), torch.ones(1, dtype=torch.long)
    for t, scale in ((20, 3.0), (15, 0.0), (9, 1.0), (4, 0.5), (1, 7.5)):
        x0_y, x0_null, x = (torch.randn(1, 3, generator=generator, dtype=torch.float64) for _ in range(3))
        x0_hat = ClassifierFreeGuidance(Pair(_always(x0_null), _always(x0_y)), scale)(x, torch.tensor([t]), label)
        book = eps_from_x0(schedule, x0_hat, x, t)[0]
        given = {"schedule": schedule, "x0_y": x0_y[0], "x0_null": x0_null[0], "x_t": x[0], "t": t, "s": scale}
        yield given, book


def _guidance(weights: Callable[[float], tuple[float, float]], as_noise: bool = True) -> Guidance:
    """A function with these weights for the answers with and without a label; s and 1 - s are the right ones."""

    def guided(schedule: Schedule, x0_y: Tensor, x0_null: Tensor, x_t: Tensor, t: int, s: float) -> Tensor:
        abar = schedule.alpha_bar[t]
        told, untold = ((x_t - abar.sqrt() * x0) / (1 - abar).sqrt() if as_noise else x0 for x0 in (x0_y, x0_null))
        return weights(s)[0] * told + weights(s)[1] * untold

    return guided


# -- 9.4: too narrow? ---------------------------------------------------------------------------------------------------


def _scale(answer: Any) -> float:
    (scale,) = numbers([answer], 1)
    if not 0 <= scale <= 10:
        raise ValueError(f"no scale from 0 to 10: {scale}")
    return scale


def _variance_of_samples(scale: float) -> float:
    """What the thousand steps of DDIM make of variance 1, in section 9.7's example with r = 1. Each step is affine."""
    schedule, times = Schedule.cosine(), torch.arange(1, 1001)
    pair = Pair(GaussianDenoiser(schedule), GaussianDenoiser(schedule, mean=0.4, variance=0.5))
    zero, one = torch.zeros(1000, 1, dtype=torch.float64), torch.ones(1000, 1, dtype=torch.float64)

    def step(x: Tensor) -> Tensor:
        x0_hat = ClassifierFreeGuidance(pair, scale)(x, times, torch.ones(1000, dtype=torch.long))
        return samplers.ddim_step(schedule, x0_hat, eps_from_x0(schedule, x0_hat, x, times), times, times - 1, zero)

    return ((step(one) - step(zero)) ** 2).prod().item()


def _wider_than_tilted(scale: float) -> tuple[bool, str, Rows]:
    drawn, tilted = _variance_of_samples(scale), 1 / (1 + scale)
    rows = (("variance of the samples", f"{drawn:.4f}"), ("of the tilted distribution", f"{tilted:.4f}"))
    if drawn > 1.01 * tilted:
        words = (
            "Here the densities on the right of (9.6) are wider than those on the left: their difference has a factor s - 1, "
            "which is negative. The samples follow no such distribution, neither above s = 1 nor below (A50)."
        )
    elif scale > 1:
        words = (
            "Narrower, as in section 9.7: for s > 1 the sampler follows the scores of densities "
            "narrower than the tilted ones (A50)."
        )
    elif scale in (0, 1):
        words = "Here the two agree, up to the sampler's own error: s and s - 1 are factors of the difference in (9.6)."
    else:
        words = "Too near to 0 or to 1: there the two differ by little more than the sampler's own error. Go further from both."
    return drawn > 1.01 * tilted, words, rows


# -- 9.5: guidance that comes late --------------------------------------------------------------------------------------


@cache
def _late_guidance() -> tuple[str, Rows]:
    """The three clusters of section 9.6, with s = 7: where do the samples go?"""
    schedule = Schedule.cosine()
    centres, weights = torch.tensor([[-0.4], [0.3], [1.5]]).double(), torch.tensor([0.5, 0.25, 0.25]).double()
    pair = Pair(MixtureDenoiser(schedule, centres, 0.2**2, weights), MixtureDenoiser(schedule, centres[1:], 0.2**2))
    starts, inner, rows = _evenly(200), {}, []
    for name, latest, scale in (("without guidance", 0, 1.0), ("for t <= 300", 300, 7.0), ("all the way", 1000, 7.0)):
        x = _drawn(Late(pair, scale, latest), schedule, starts, steps=200)
        inner[name] = x[x < 0.9]
        share = len(inner[name]) / len(x)
        at = f", around {inner[name].mean():.2f}" if share else ""
        rows.append((f"guided {name}" if scale > 1 else name, f"{100 * share:.0f} % in the inner cluster{at}"))
    late, plain = inner["for t <= 300"], inner["without guidance"]
    if len(late) < 0.1 * len(starts):
        letter = "a"
    elif len(late) > 0.9 * len(starts):
        letter = "d"
    else:
        letter = "b" if late.mean() > plain.mean() + 0.1 else "c"
    return letter, tuple(rows)


EXERCISES: dict[str, Exercise] = {
    "09.1": Predict(
        {
            "a": "That is what the tilted distribution would be: on clean data this class is certain, so tilting by it "
            "changes nothing. But the sampler does not draw from the tilted one (9.6). It is guided in the noise, where the two "
            "classes overlap (A50).",
            "b": "Narrower, yes. But the push is always away from the other class, and it is felt by all samples, also by "
            "those in the middle of their class.",
            "c": "Further out, yes. But the push is not the same for all: the nearer to the other class, the stronger it is, "
            "and so it brings the samples together.",
            "d": "In the noise the classes overlap, and there every sample is pushed away from the other class, the nearer "
            "ones more. When the noise is gone, so is the push, and the samples stay in the outer part of their class. The "
            "tilted distribution has nothing of all this (A50).",
        },
        _a_lonely_class,
    ),
    "09.2": Derive(
        _tilted_variance,
        (s, V, V_y),
        "The precisions follow (9.4): from that of q(x_t) towards that of the class, s times as far. For s > 1 the class is "
        "made narrower still, wherever it was narrower than the whole.",
        (
            Mistake(
                s * V_y + (1 - s) * V,
                "It is the precisions, one over the variances, that go on a straight line with s, not the variances.",
            ),
            Mistake(
                1 / (1 / V + s / V_y),
                "That is q(x_t) times the density of the class to the power s. In (9.5) the power belongs to the classifier, "
                "and that is q(x_t|y)/q(x_t), up to a constant.",
            ),
            Mistake(
                V_y / s,
                "That is the density of the class to the power s alone. The power 1 - s of q(x_t) is missing (9.5).",
            ),
            Mistake(
                V_y,
                "That is s = 1, plain Bayes. The variance stays untouched only if the classifier's logarithm is a straight line, "
                "as in (9.2).",
            ),
            Mistake(
                s / V_y + (1 - s) / V,
                "That is the precision. The variance is one over it.",
            ),
        ),
    ),
    "09.3": Build(
        "a function of schedule, x0_y, x0_null, x_t, t and s that returns the guided noise, of the shape of x_t",
        _answers,
        "At s = 0 the result is unconditional, at s = 1 conditional. Whether one converts first or guides first makes no "
        "difference: the two weights sum to one.",
        (
            Mistake(
                _guidance(lambda s: (1 + s, -s)),
                "That is the spelling with w, which counts from the conditional prediction: w = s - 1. At s = 1 it must be "
                "just that one (9.4).",
            ),
            Mistake(
                _guidance(lambda s: (1 - s, s)),
                "The two predictions have changed places: at s = 0 the unconditional one is wanted.",
            ),
            Mistake(
                _guidance(lambda s: (s, 1)),
                "It is the difference of the two predictions that is taken s times. Your weights sum to 1 + s, and what the two "
                "have in common is counted too often.",
            ),
            Mistake(
                _guidance(lambda s: (-s, 1 + s)),
                "The minus of (9.3) stands before a gradient. The difference of the two noises has that sign already.",
            ),
            Mistake(
                _guidance(lambda s: (s, 1 - s), as_noise=False),
                "That is the guided prediction of the image. The question is for the noise that belongs to it, by (1.9).",
            ),
        ),
    ),
    "09.4": Break("one number s from 0 to 10", _scale, _wider_than_tilted),
    "09.5": Predict(
        {
            "a": "That needs the push at large t, where the inner cluster cannot be told from the other class. At t = 300 the "
            "choice between the two clusters is all but made.",
            "b": "The choice between the clusters is made early, without a push. What is left to the late push is to move "
            "those in the inner cluster away from the other class, and a few of them over the gap.",
            "c": "For the outer cluster, nearly. But the inner one has the other class for a neighbour also at t <= 300: there "
            "is still doubt, and with it a push.",
            "d": "Guidance pushes away from the other class, and that is outwards. Without it, half of the samples go to the "
            "outer cluster; a push in this direction cannot bring them back.",
        },
        _late_guidance,
    ),
}
