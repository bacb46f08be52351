"""Exercises of chapter 10: latent variables."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp
import torch

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof import chain

# -- 10.1: a die --------------------------------------------------------------------------------------------------------


def _likeliest_die() -> tuple[str, Rows]:
    counts = torch.randint(1, 20, (6,), generator=torch.Generator().manual_seed(0)).double()
    rules = {
        "a": torch.full((6,), 1 / 6).double(),
        "b": counts / counts.sum(),
        "c": (counts + 1) / (counts.sum() + 6),
        "d": torch.nn.functional.one_hot(counts.argmax(), 6).double(),
    }
    found = {letter: torch.special.xlogy(counts, theta).sum().item() for letter, theta in rules.items()}
    rows = [("counts n_k", ", ".join(f"{n:.0f}" for n in counts))]
    rows += [(f"log-likelihood of ({letter})", f"{value:.3f}") for letter, value in found.items()]
    return max(found, key=lambda letter: found[letter]), tuple(rows)


# -- 10.2: a q that never draws some states -----------------------------------------------------------------------------


def _three_probabilities(answer: Any) -> np.ndarray:
    q = np.array(numbers(answer, 3))
    if q.min() < 0 or abs(q.sum() - 1) > 1e-6:
        raise ValueError(f"these are no probabilities: {q}")
    return q


def _unseen_states(q: np.ndarray) -> tuple[bool, str, Rows]:
    """The small chain of section 10.4, its first image."""
    p = chain.Distribution.backward(
        prior=chain.probabilities(3, seed=5).tolist(), kernels=[chain.kernel(3, seed=8, next_states=4)]
    )
    joint = p("x0, x1")[0].astype(float)
    evidence, drawn = joint.sum(), q > 0
    mean_of_brackets = joint[drawn].sum()  # q p / q, over what can be drawn
    elbo = (q[drawn] * np.log(joint[drawn] / q[drawn])).sum()
    rows = (
        ("E_q[p(x, z) / q(z | x)]", f"{mean_of_brackets:.4f}, {mean_of_brackets / evidence:.0%} of the evidence"),
        ("p(x)", f"{evidence:.4f}"),
        ("ELBO and log p(x)", f"{elbo:.3f} and {math.log(evidence):.3f}"),
    )
    broken = bool(mean_of_brackets < evidence / 2)
    if broken:
        words = (
            "Where q is 0 one cannot multiply by q/q: the mean misses what is never drawn, and the equality in (10.4) is "
            "lost. The bound still holds, for what is missing makes it smaller."
        )
    elif drawn.all():
        words = (
            "As long as every state can be drawn, the mean of the brackets is exactly p(x), however unlikely you make "
            "one: what is drawn seldom counts the more, since q stands below the line."
        )
    else:
        words = (
            "Something is missing now, but not half of it yet: what counts is how much of p(x, z) lies in the states that "
            "you left out. Leave out more."
        )
    return broken, words, rows


# -- 10.3: a better bound -----------------------------------------------------------------------------------------------


def _brackets(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """log p and log q for K draws and two images; the last case is as far down as images of 784 pixels are."""
    for K, level in ((1, 0), (2, 0), (5, -3), (10, -800)):
        log_p, log_q = (torch.randn(K, 2, generator=generator, dtype=torch.float64) for _ in range(2))
        bound = level + torch.exp(log_p - log_q).mean(0).log()
        yield {"log_p": log_p + level, "log_q": log_q}, bound


# -- 10.4: what a code can carry ----------------------------------------------------------------------------------------


def _rate_and_information() -> tuple[str, Rows]:
    """On ten small chains: the prior matching term (the rate), averaged over the images, and the mutual information, in nats."""
    rate, information = [], []
    for seed in range(10):
        q = chain.Distribution.forward(
            chain.probabilities(4, seed).tolist(), [chain.kernel(4, seed + 10, next_states=3)]
        )
        prior = chain.probabilities(3, seed + 20)
        rate.append(q.mean(chain.log(q("x1 | x0") / prior)))
        information.append(q.mean(chain.log(q("x0, x1") / (q("x0") * q("x1")))))
    gap = np.array(rate, dtype=float) - np.array(information, dtype=float)
    letter = "a" if np.allclose(gap, 0) else "b" if (gap >= 0).all() else "c" if (gap <= 0).all() else "d"
    return letter, (("rate, first chain", f"{rate[0]:.4f} nats"), ("information", f"{information[0]:.4f} nats"))


# -- 10.5: the best decoder for a given q -------------------------------------------------------------------------------

x, m = sp.symbols("x m", real=True)
v, s = sp.symbols("v s", positive=True)


def _best_slope() -> sp.Expr:
    w = sp.Symbol("w", real=True)
    reconstruction = -((x - w * m) ** 2 + w**2 * v) / (2 * s**2)  # what of it depends on w
    (best,) = sp.solve(sp.diff(reconstruction, w), w)
    return best


EXERCISES: dict[str, Exercise] = {
    "10.1": Predict(
        {
            "a": "That is the die before it is thrown, all faces alike. The throws do not enter at all, and the "
            "likelihood of what was seen can be raised.",
            "b": "The shares that were seen: the divergence in (10.2) is then 0, and it cannot be less.",
            "c": "That is a good answer to another question: the mean of θ_k, if all θ were equally likely before the "
            "throws. With the data on the left, the divergence in (10.2) is 0 for the shares alone.",
            "d": "Then every throw of another face had probability 0, and the log-likelihood is -∞. False certainty costs "
            "more than anything else.",
        },
        _likeliest_die,
    ),
    "10.2": Break("three numbers q(z | x), none of them negative, that sum to 1", _three_probabilities, _unseen_states),
    "10.3": Build(
        "a function of log_p and log_q, both of shape (K, images), that returns one number for each image",
        _brackets,
        "K = 1 gives the ELBO, and from there it rises towards the evidence.",
        (
            Mistake(
                lambda log_p, log_q: (log_p - log_q).mean(0),
                "The mean of the logarithms is the ELBO (10.4), estimated with K draws. It does not get better with K: the "
                "logarithm has to stand outside the mean.",
            ),
            Mistake(
                lambda log_p, log_q: torch.logsumexp(log_p - log_q, 0),
                "1/K is missing: a sum of K brackets in the place of their mean, too large by log K. That would be no "
                "bound (A45 drops the same factor).",
            ),
            Mistake(
                lambda log_p, log_q: torch.log(torch.exp(log_p - log_q).mean(0)),
                "The formula is right, the numbers are not: exp(-800) is 0 in floating point, and its logarithm -∞. "
                "torch.logsumexp takes the largest exponent out first.",
            ),
            Mistake(
                lambda log_p, log_q: torch.logsumexp(log_p, 0) - torch.logsumexp(log_q, 0),
                "A ratio of means is not the mean of the ratios: divide by q for each draw, then average.",
            ),
        ),
    ),
    "10.4": Predict(
        {
            "a": "That would need codes whose distribution, over all images, is exactly the prior. If it is not, "
            "the rate contains the divergence of the two as well.",
            "b": "The rate is the information plus D_KL(q(z) ‖ p(z)), and a divergence is at least 0 (A.11).",
            "c": "Then a code could carry more information than its rate. Put q(z) into the fraction, above and below: "
            "what is left beside the information is a divergence, and it is not negative.",
            "d": "They are tied to each other: both are means of a logarithm with q(z|x) above. Write the one below with "
            "q(z), the other with p(z), and subtract.",
        },
        _rate_and_information,
    ),
    "10.5": Derive(
        _best_slope,
        (x, m, v, s),
        "Least squares, E[x z] over E[z²], with the moments of q. The noise s plays no part, and the more uncertain z is, the "
        "nearer to 0 is w.",
        (
            Mistake(
                x / m,
                "That hits x from the centre of q and forgets the penalty for its variance, w² v / (2 s²) (section 10.5).",
            ),
            Mistake(
                x * m / (m**2 + v + s**2),
                "s² divides both parts of the reconstruction alike, so it drops out. It would stand there if w had a prior of "
                "its own.",
            ),
            Mistake(
                x * m / (1 + m**2),
                "The variance of z is 1 under the prior. The mean is taken over q, which has the variance v.",
            ),
            Mistake(
                x * m / v,
                "E[z²] is not the variance alone: the square of the mean is missing.",
            ),
        ),
    ),
}
