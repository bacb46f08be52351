"""Exercises of chapter 11: hierarchical VAEs."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp
import torch

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows
from diffnotes.book.proof import chain
from diffnotes.book.proof.chain import Distribution
from diffnotes.book.proof.symbols import complete_square, exponent, unit
from diffnotes.process.elbo import elbo_terms
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.schedules import Schedule

# -- 11.1: a chain of one step ------------------------------------------------------------------------------------------


def _one_step() -> tuple[str, Rows]:
    schedule = Schedule.from_betas([0.5])
    data = torch.randn(4, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    terms = elbo_terms(GaussianDenoiser(schedule, variance=1.0), schedule, data, variance="beta", levels=None)
    left = (bool((terms.prior != 0).any()), len(terms.denoising), bool((terms.reconstruction != 0).any()))
    letter = {(True, 0, True): "a", (True, 1, False): "b", (False, 0, True): "c", (True, 0, False): "d"}[left]
    rows = (
        ("prior matching, image by image", f"{terms.prior.numpy().round(3)} nats"),
        ("denoising terms", f"{len(terms.denoising)}"),
        ("reconstruction", f"{(-terms.reconstruction).numpy().round(3)} nats"),
    )
    return letter, rows


# -- 11.2: the perfect decoder ------------------------------------------------------------------------------------------


def _chains(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    for states in (2, 3, 3):
        seed = int(torch.randint(0, 1000, (), generator=generator))
        q = Distribution.forward(
            chain.probabilities(states, seed).tolist(), [chain.kernel(states, seed + t) for t in (1, 2, 3)]
        )
        yield {"q": q}, q.joint


# -- 11.3: larger or smaller --------------------------------------------------------------------------------------------


def table(*peaks: int) -> np.ndarray:
    """A step from each of three states: to the state peaks[i] with probability 1/2, to each other one with 1/4."""
    half, quarter = Fraction(1, 2), Fraction(1, 4)
    return np.array([[half if state == peak else quarter for state in range(3)] for peak in peaks])


Peaks = tuple[tuple[int, ...], tuple[int, ...]]


def _two_tables(answer: Any) -> Peaks:
    first, second = (tuple(int(peak) for peak in peaks) for peaks in answer)
    if any(len(peaks) != 3 or not {0, 1, 2} >= {*peaks} for peaks in (first, second)):
        raise ValueError(f"no states: {answer}")
    return first, second


def _printed_against_true(upper: Peaks) -> tuple[bool, str, Rows]:
    """The bound of section 11.6's chain, and what the printed form gives for it, in bits."""
    q = Distribution.forward(table(1)[0], [table(0, 1, 2), table(2, 0, 2), table(0, 1, 1)])
    p = Distribution.backward(table(1)[0], [table(0, 2, 2), table(*upper[0]), table(*upper[1])])
    true = q.mean(chain.log(q("x1, x2, x3 | x0") / p.joint)) / math.log(2)
    off = 0.0  # of the two consistency terms: drawn as printed, minus drawn along the path
    for before, now, after in (("x0", "x1", "x2"), ("x1", "x2", "x3")):
        log_ratio = chain.log(q(f"{now} | {before}") / p(f"{now} | {after}")) / math.log(2)
        afresh = q(f"{before}, {after}") * q(f"{now} | {before}")
        off += (afresh * log_ratio).sum() - q.mean(log_ratio)
    rows = (("the bound", f"{true:.4f} bits"), ("as printed", f"{true + off:.4f} bits"))
    if off < -1e-9:
        words = "The printed form cannot be excused as a weaker bound, nor as a stronger one: it lies on either side."
    elif off > 1e-9:
        words = (
            "The printed form is still the larger one. Let the model expect x_2 where the step of q from x_2 to x_3 speaks "
            "against it."
        )
    else:
        words = "The two agree here: on the average, what this model expects does not go along with x_{t+1}."
    return off < -1e-9, words, rows


# -- 11.4: what the printed form omits ----------------------------------------------------------------------------------

b_t, b_next = unit(r"\beta_{t}"), unit(r"\beta_{t+1}")


def _omitted() -> sp.Expr:
    """I(x_t; x_{t+1} | x_{t-1}) of the forward process: half the log of the variance without and with x_{t+1}."""
    x, centre, after = sp.symbols("x m y", real=True)
    _, between, _ = complete_square(exponent(x, centre, b_t) + exponent(after, sp.sqrt(1 - b_next) * x, b_next), x)
    return sp.log(b_t / between) / 2


EXERCISES: dict[str, Exercise] = {
    "11.1": Predict(
        {
            "a": "The bound of the VAE (10.6). Denoising terms exist only between latent levels, and here there is one level.",
            "b": "The sum in (11.3) begins at t = 2: a denoising term compares two distributions of a latent level, "
            "and below x_1 there is only the image.",
            "c": "The prior matching stays: q(x_1|x_0) is not the prior. With the reconstruction alone, the best code "
            "would be one without any noise (A48).",
            "d": "The reconstruction stays: it is the only term in which the image is predicted at all (A55).",
        },
        _one_step,
    ),
    "11.2": Build(
        "a function of a chain q that returns a table over x0, x1, x2, x3",
        _chains,
        "The forward chain, read from its end. The log-ratio is then -log q(x_0) on every path, so the bound (11.2) is "
        "log q(x_0) for every image, and its gap is 0.",
        (
            Mistake(
                lambda q: q("x0") * q("x1") * q("x2") * q("x3"),
                "A product of marginals: its levels are independent of each other (A03).",
            ),
            Mistake(
                lambda q: q("x3") * q("x2 | x3, x0") * q("x1 | x2, x0") * q("x0 | x1"),
                "The steps down may not look at x_0, which is what they are to produce. q(x_{t-1} | x_t) and "
                "q(x_{t-1} | x_t, x_0) are different distributions (A22).",
            ),
            Mistake(
                lambda q: q("x2 | x3") * q("x1 | x2") * q("x0 | x1") / q.joint.shape[-1],
                "The steps are right, the top is not: it begins with q(x_3), and not with all states alike.",
            ),
            Mistake(
                lambda q: q("x1, x2, x3 | x0"),
                "That is the encoder, the distribution of the path for a given image. It sums to 1 for each image; the model's "
                "joint distribution sums to 1 over all of them.",
            ),
        ),
    ),
    "11.3": Break(
        "two tables, each given by three states out of 0, 1, 2, such as ((1, 2, 2), (0, 2, 1))",
        _two_tables,
        _printed_against_true,
    ),
    "11.4": Derive(
        _omitted,
        (b_t, b_next),
        "With neighbouring β small and nearly equal it is almost ½ log 2 = 0.347 nats for each pixel and each step.",
        (
            Mistake(
                sp.log(1 + (1 - b_next) * b_t / b_next),
                "The ½ is missing: a divergence of Gaussians contains half the logarithm of the ratio of the variances (A.13).",
            ),
            Mistake(
                sp.log(1 + b_t / b_next) / 2,
                "x_{t+1} looks at √α_{t+1} x_t, so its precision for x_t is α_{t+1}/β_{t+1}, with α_{t+1} = 1 - β_{t+1}.",
            ),
            Mistake(
                -sp.log(1 + (1 - b_next) * b_t / b_next) / 2,
                "The sign: an information is a mean divergence and never negative. The variance without x_{t+1}, β_t, "
                "stands above.",
            ),
            Mistake(
                sp.log(2) / 2,
                "That is what it comes close to, if the two β are nearly equal and small. The exact formula contains both.",
            ),
        ),
    ),
}
