"""Exercises of chapter 21: the rivals, and how to judge."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.training.metrics import frechet_distance

# -- 21.1: the best discriminator where a part is covered ----------------------------------------------------------------

c = sp.Symbol("c", positive=True)


def _on_the_covered_part() -> sp.Expr:
    """p / (p + q) with the densities p = 1 and q = 1 / c (21.2)."""
    p, q = sp.Integer(1), 1 / c
    return p / (p + q)


# -- 21.2: a perfect model, measured ---------------------------------------------------------------------------------------

FEATURES, COUNTS = 64, (500, 2000)


@cache
def _perfect_model() -> tuple[str, Rows]:
    """The distance of n draws of N(0, I) from N(0, I) itself, the mean of five measurements."""
    dice, found = np.random.default_rng(0), []
    for n in COUNTS:
        tries = []
        for _ in range(5):
            x = dice.standard_normal((n, FEATURES))
            spread = np.sqrt(np.linalg.eigvalsh(np.cov(x, rowvar=False)))
            tries.append((x.mean(0) ** 2).sum() + ((spread - 1) ** 2).sum())
        found.append(float(np.mean(tries)))
    expected = {"a": (0.0, 0.0), "b": (2.3, 0.56), "c": (2.3, 1.1), "d": (0.13, 0.03)}
    nearest = min(expected, key=lambda letter: sum(abs(a - b) for a, b in zip(expected[letter], found, strict=True)))
    rows = tuple((f"from {n:,} samples", f"{value:.3f}") for n, value in zip(COUNTS, found, strict=True))
    return nearest, rows


# -- 21.3: the gradient of R1 ----------------------------------------------------------------------------------------------


def _r1_gradient(W: Tensor, v: Tensor, x: Tensor) -> Tensor:
    """By hand: grad_x l = W^T (s v), s = 1 - tanh^2; so d/dv of |W^T (s v)|^2 is 2 s W W^T (s v)."""
    s = 1 - torch.tanh(x @ W.T) ** 2
    return (2 * s * ((s * v) @ W @ W.T)).mean(0)


def _networks(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Tensor]]:
    for k, d, B in ((3, 2, 4), (5, 4, 6), (4, 6, 3)):
        W, v, x = (torch.randn(*shape, generator=generator).double() for shape in ((k, d), (k,), (B, d)))
        yield {"W": W, "v": v, "x": x}, _r1_gradient(W, v, x)


def _of_the_mean(W: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return _r1_gradient(W, v, x) / len(x) ** 2


def _mean_over_coordinates(W: Tensor, v: Tensor, x: Tensor) -> Tensor:
    return _r1_gradient(W, v, x) / x.shape[1]


def _not_squared(W: Tensor, v: Tensor, x: Tensor) -> Tensor:
    s = 1 - torch.tanh(x @ W.T) ** 2
    length = ((s * v) @ W).norm(dim=1, keepdim=True)
    return (s * ((s * v) @ W @ W.T) / length).mean(0)


# -- 21.4: two distributions at distance 0 ---------------------------------------------------------------------------------

REAL = (-2.0, -1.0, 0.0, 0.0, 1.0, 2.0)


def _others(answer: Any) -> list[float]:
    return numbers(answer, len(REAL))


def _distance_zero(answer: list[float]) -> tuple[bool, str, Rows]:
    """The Fréchet distance of the six numbers from the real ones, and which of them are real."""
    distance = frechet_distance(np.array(answer)[:, None], np.array(REAL)[:, None])
    same = [value for value in answer if min(abs(value - r) for r in REAL) < 1e-9]
    rows = (
        ("Fréchet distance", f"{distance:.3g}"),
        ("mean and variance", f"{np.mean(answer):.4g} and {np.var(answer, ddof=1):.4g}, of the real ones 0 and 2"),
    )
    if distance > 1e-9:
        words = (
            "The distance is not 0: mean and variance have to agree with those of the real numbers, 0 and 2 (the sum of the "
            "six squares is 10)."
        )
        return False, words, rows
    if same:
        return (
            False,
            f"The distance is 0, but {same[0]:g} is one of the real numbers. There are sets without any.",
            rows,
        )
    words = (
        "Not one of them is real, and the distance is 0. It sees mean and covariance of the features and nothing else; that "
        "features of a deep network have hardly ever such values is all that one relies on."
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "21.1": Derive(
        _on_the_covered_part,
        (c,),
        "Where the generator draws it draws too often, 1/c times, so the probability of real is below one half there.",
        (
            Mistake(
                sp.Rational(1, 2),
                "One half is right where both densities are equal. The generator puts all of its images on a share c, so its "
                "density there is 1/c times as high.",
            ),
            Mistake(
                1 / (1 + c), "That is the probability that a point there was drawn, 1 - D. Asked is that it is real."
            ),
            Mistake(c, "That is q's share of the interval. D is p/(p + q), with the two densities (21.2)."),
            Mistake(1 / (1 + 1 / c) / 2, "(21.2) has no factor of one half: the two kinds of images are equally many."),
            Mistake(-sp.log(1 / c), "That is the best logit, log p/q. D is its sigmoid."),
        ),
    ),
    "21.2": Predict(
        {
            "a": "Perfect it is, but its sample covariance is not the identity, and every deviation counts as distance: none "
            "of them is negative.",
            "b": "b/n with b = d + d(d + 1)/4 = 1104 (21.11), and a little more at 500, from the next order.",
            "c": "The deviations of the covariance shrink with one over the root of n, but the distance is of second order "
            "in them: it shrinks with 1/n.",
            "d": "That is the part of the mean. The covariance has d(d + 1)/2 entries that are all a little off, and they "
            "contribute d(d + 1)/4 over n, which is far more.",
        },
        _perfect_model,
    ),
    "21.3": Build(
        "a function of W, v and x that returns the gradient of the penalty with respect to v, a tensor (k,)",
        _networks,
        "Of the sum of the logits, with create_graph, and the mean of the squared norms. So it stands in the trainer.",
        (
            Mistake(
                lambda W, v, x: torch.zeros_like(v),
                "A gradient of 0: the first gradient is no longer part of the graph. With create_graph=True it is.",
            ),
            Mistake(
                _of_the_mean,
                "Too small by the square of the batch: take the first gradient of the sum of the logits, not of their mean.",
            ),
            Mistake(
                _mean_over_coordinates,
                "The squared norm is the sum over the coordinates of x; yours is their mean.",
            ),
            Mistake(lambda W, v, x: _r1_gradient(W, v, x) / 2, "Asked is the penalty without the factor γ/2."),
            Mistake(
                lambda W, v, x: _r1_gradient(W, v, x) * len(x), "The mean over the images is missing: yours is the sum."
            ),
            Mistake(_not_squared, "That is the gradient of the norm. R1 has its square."),
        ),
    ),
    "21.4": Break("a list of six numbers", _others, _distance_zero),
}
