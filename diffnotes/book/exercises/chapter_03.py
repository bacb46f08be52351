"""Exercises of chapter 3: the bound."""

import math
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof import chain
from diffnotes.book.proof.chain import Distribution
from diffnotes.process.elbo import elbo_terms, importance_distribution
from diffnotes.process.exact import DatasetDenoiser, GaussianDenoiser
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

# -- 3.1: an optimal denoiser with labels -------------------------------------------------------------------------------


@cache
def _given_the_class() -> tuple[str, Rows]:
    """Fifty images, five of each of ten classes: the sum of the L_{t-1} of their optimal denoiser, without and with the class."""
    generator, schedule = torch.Generator().manual_seed(0), Schedule.cosine(T=60)
    images = torch.randint(0, 2, (50, 16), generator=generator).double() * 2 - 1
    classes = torch.arange(10).repeat_interleave(5)
    denoiser = DatasetDenoiser(schedule, images, classes)

    def nats(which: Tensor, y: Tensor | None = None) -> Tensor:
        return elbo_terms(denoiser, schedule, images[which], levels=None, y=y, generator=generator).denoising.sum(0)

    twice = torch.arange(50).repeat(2)
    one_class_each = [twice[classes[twice] == k] for k in range(10)]  # a call with one label is quick
    without = nats(twice).mean().item()
    given = torch.cat([nats(which, classes[which]) for which in one_class_each]).mean().item()
    options = {"a": without / 10, "b": without - math.log(10), "c": 0.0, "d": without}
    letter = min(options, key=lambda k: abs(options[k] - given))
    return letter, (
        ("the sum, without the class", f"{without:.2f} nats; log 50 = {math.log(50):.2f}"),
        ("given the class", f"{given:.2f} nats; log 5 = {math.log(5):.2f}"),
    )


# -- 3.2: term by term, image by image ----------------------------------------------------------------------------------


def _chains(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    for states in (2, 3, 3):
        seed = int(torch.randint(0, 1000, (), generator=generator))
        tables = [chain.kernel(states, seed + t) for t in range(8)]
        q = Distribution.forward(chain.probabilities(states, seed + 8).tolist(), tables[:4])
        p = Distribution.backward(chain.probabilities(states, seed + 9).tolist(), tables[4:])
        yield {"q": q, "p": p}, _terms(q, p)


def _terms(
    q: Distribution, p: Distribution, all_states_alike: bool = False, whole_prior_term: bool = True
) -> np.ndarray:
    """L_0, ..., L_4 for each image, each from a table of two or three variables, as in section 3.5."""
    rows = [q("x1 | x0") * -chain.log(p("x0 | x1"))]
    for t in (2, 3, 4):
        step, model = q(f"x{t - 1} | x{t}, x0"), p(f"x{t - 1} | x{t}")
        x_t_weights = 1 / q.joint.shape[t] if all_states_alike else q(f"x{t} | x0")
        rows.append(x_t_weights * step * (chain.log(step) - chain.log(model)))
    above = chain.log(q("x4 | x0")) if whole_prior_term else 0
    rows.append(q("x4 | x0") * (above - chain.log(p("x4"))))
    return np.array([row.reshape(len(row), -1).sum(axis=1) for row in rows], dtype=float)


def _without_the_image(q: Distribution, p: Distribution) -> np.ndarray:
    """The same along the paths, with steps of q that are not conditioned on x_0."""
    steps = {t: chain.log(q(f"x{t - 1} | x{t}")) - chain.log(p(f"x{t - 1} | x{t}")) for t in (2, 3, 4)}
    rows = _terms(q, p)
    for t, log_ratio in steps.items():
        rows[t - 1] = (q("x1, x2, x3, x4 | x0") * log_ratio).sum(axis=(1, 2, 3, 4))
    return rows


# -- 3.3: the best variance ---------------------------------------------------------------------------------------------

L, d = sp.symbols("L d", positive=True)


@cache
def _with_the_best_variance() -> sp.Expr:
    """The smallest L_{t-1} by (A.13), for d pixels, written with what it is at sigma^2 = beta-tilde: L = Q / (2 beta-tilde)."""
    v, b, Q = sp.symbols("v b Q", positive=True)
    term = d * (sp.log(v / b) + b / v - 1) / 2 + Q / (2 * v)
    (best,) = sp.solve(sp.diff(term, v), v)
    return sp.expand_log(sp.simplify(term.subs(v, best).subs(Q, 2 * b * L)))


# -- 3.4: worse than a uniform model ------------------------------------------------------------------------------------

UNIFORM, TRUE_S = 8.0, 0.2  # bits per pixel; the standard deviation of the data


def _standard_deviation(answer: Any) -> float:
    (s,) = numbers([answer], 1)
    if not 0.01 <= s <= 10:
        raise ValueError(f"no standard deviation from 0.01 to 10: {s}")
    return s


def _bits(s: float) -> float:
    """The bound of the exact denoiser for pixels N(0, s^2), shown grey values of pixels N(0, 0.2^2)."""
    generator, schedule = torch.Generator().manual_seed(0), Schedule.cosine(T=200)
    pixels = TRUE_S * torch.randn(16, 64, generator=generator, dtype=torch.float64)
    grey = ((pixels + 1) * 127.5).round().clamp(0, 255) / 127.5 - 1
    model = GaussianDenoiser(schedule, variance=s**2)
    return elbo_terms(model, schedule, grey, variance="beta", generator=generator).bits_per_dim().mean().item()


def _sampled_standard_deviation(s: float) -> float:
    """That of the pixels which the model makes in its 200 steps, the decoder's noise included: near s, for small steps."""
    schedule, one, variance = Schedule.cosine(T=200), torch.ones(1, 1, dtype=torch.float64), 1.0
    model = GaussianDenoiser(schedule, variance=s**2)
    for t in range(schedule.T, 0, -1):
        mean, _ = q_posterior(schedule, model(one, t), one, t)  # the mean of the step is this times x_t
        variance = mean.item() ** 2 * variance + schedule.beta[t].item()
    return math.sqrt(variance)


def _bits_by_formula(s: float) -> float:
    """The mean of -log2 N(x; 0, s^2) for pixels N(0, 0.2^2), plus log2(127.5): as (3.8) has it for densities."""
    return 0.5 * (math.log2(2 * math.pi * s**2) + (TRUE_S / s) ** 2 / math.log(2)) + math.log2(127.5)


def _certain_and_wrong(s: float) -> tuple[bool, str, Rows]:
    bits, made = _bits(s), _sampled_standard_deviation(s)
    rows = (
        (f"the bound for s = {s:g}", f"{bits:.2f} bits per pixel"),
        (f"for s = {TRUE_S:g}, the data's own", f"{_bits(TRUE_S):.2f} bits per pixel"),
        (f"-log₂ N(x; 0, {s:g}²)", f"{_bits_by_formula(s):.2f} bits per pixel"),
        ("the standard deviation of what the model makes", f"{made:.4f}"),
        (f"-log₂ N(x; 0, {made:.4f}²)", f"{_bits_by_formula(made):.2f} bits per pixel"),
    )
    broken = bits > 2 * UNIFORM
    if broken:
        words = (
            "Certain and wrong: under N(0, s²) the cost of a pixel x contains x²/2s², and nothing stops that at 8 bits. They "
            "are the cost under the uniform distribution, and nothing obliges a model to be as good as that."
        )
    elif bits > UNIFORM and s > TRUE_S:
        words = (
            "More than 8 already, for the model spreads its density over values that no pixel can have. But in this direction "
            "the cost grows as the logarithm only: s ten times too large is log₂ 10 = 3.3 bits."
        )
    elif bits > UNIFORM:
        words = "More than 8 already, and this is the direction in which it grows quickly."
    else:
        words = "The data are not far from this model's distribution, and its cost is less than 8 bits."
    return broken, words, rows


# -- 3.5: without the root ----------------------------------------------------------------------------------------------


@cache
def _without_the_root() -> tuple[str, Rows]:
    """The standard deviation of one estimate by each distribution of the times, for Gaussian data and the exact denoiser."""
    generator, schedule = torch.Generator().manual_seed(0), Schedule.linear(T=100, beta_1=1e-3, beta_T=0.2)
    pixels = 0.5 * torch.randn(128, 16, generator=generator, dtype=torch.float64)
    exact = GaussianDenoiser(schedule, variance=0.25)
    terms = elbo_terms(exact, schedule, pixels, levels=None, generator=generator).denoising
    mean_square, total = terms.square().mean(1), terms.mean(1).sum()

    def variance(p: Tensor) -> float:
        return ((mean_square / p[2:]).sum() - total**2).item()

    uniform = variance(importance_distribution(torch.ones_like(mean_square)))
    best, squares = variance(importance_distribution(mean_square)), variance(importance_distribution(mean_square**2))
    if math.isclose(squares, uniform, rel_tol=1e-9):
        letter = "c"
    else:
        letter = "a" if squares < best else "b" if squares < uniform else "d"
    found = {"uniform": uniform, "with the root (3.9)": best, "without the root": squares}
    return letter, tuple((name, f"{math.sqrt(v):.1f} nats, standard deviation") for name, v in found.items())


EXERCISES: dict[str, Exercise] = {
    "03.1": Predict(
        {
            "a": "A tenth of the images is left, but nats are logarithms. A tenth of log 50 would be 0.39, less than it takes "
            "to say which of five images it is.",
            "b": "Without the class it takes log 50 nats to say which image; with it, log 5. In section 3.7's words: given "
            "the class, h(x_0|x_T) is log 5, and h(x_0|x_1) is 0 as before.",
            "c": "Five images of each class are left, and pure noise does not say which of them it was. The denoiser is "
            "optimal, and yet its L_{t-1} are not 0: q is conditioned on the image, p on the class alone.",
            "d": "p is given the class; q was conditioned on the image all along. So p is nearer to q, and the "
            "divergences become smaller.",
        },
        _given_the_class,
    ),
    "03.2": Build(
        "a function of two chains q and p that returns an array of five rows, one number for each image in a row",
        _chains,
        "The columns add up to the bound of each image. Averaged over q(x_0), the rows are the terms of (3.4).",
        (
            Mistake(
                _without_the_image,
                "The steps of q should be conditioned on x_0. Otherwise the mean over images gives the terms of (3.6): smaller, "
                "by their irreducible parts, and the columns no longer add up to the bound.",
            ),
            Mistake(
                lambda q, p: _terms(q, p) * q("x0").ravel().astype(float),
                "Each column is multiplied by q(x_0), since the path was drawn together with its image. For one image alone "
                "it is the distribution of the path given x_0 (A06).",
            ),
            Mistake(
                lambda q, p: _terms(q, p, all_states_alike=True),
                "The divergences depend on which x_t was drawn, and some x_t are likelier than others (A14): the mean is "
                "taken under q(x_t|x_0), not over all states alike.",
            ),
            Mistake(
                lambda q, p: _terms(q, p, whole_prior_term=False),
                "In the last row log q(x_4|x_0) is missing, and the divergence has become -E log p(x_4): too large by the "
                "entropy of (3.5) (A07).",
            ),
            Mistake(
                lambda q, p: _terms(q, p)[::-1],
                "The right numbers, in the other order: row k is L_k, so L_0 comes first and L_T last.",
            ),
        ),
    ),
    "03.3": Derive(
        _with_the_best_variance,
        (L, d),
        "Never more than L, since log(1 + u) ≤ u, and nearly L where L is small against d. The best variance itself, "
        "β̃_t + Q/d, comes back as (12.2).",
        (
            Mistake(L, "That is what one has with β̃_t, which is best only if the means agree."),
            Mistake(
                d * sp.log(1 + 2 * L / d),
                "Twice too much: the divergence contains half the logarithm of the ratio of the variances (A.13).",
            ),
            Mistake(
                d * sp.log(1 + L / d) / 2,
                "With β̃_t the term is L = Q/(2 β̃_t), so Q/(d β̃_t) is 2L/d.",
            ),
            Mistake(
                sp.log(1 + 2 * L) / 2,
                "That is one pixel that has the whole error. Each of the d pixels has the same variance and, on the "
                "average, Q/d.",
            ),
            Mistake(
                d * (sp.log(2 * L / d) + d / (2 * L)) / 2,
                "That is L at σ² = Q/d, the error of the mean alone. The best variance also holds what is left if the mean "
                "is right: β̃_t + Q/d.",
            ),
            Mistake(
                1 + 2 * L / d,
                "That is the best variance in units of β̃_t. Put it into L(σ²).",
            ),
        ),
    ),
    "03.4": Break(
        "one number s from 0.01 to 10, the standard deviation of the model", _standard_deviation, _certain_and_wrong
    ),
    "03.5": Predict(
        {
            "a": "The one with the root is the best of all: by Lagrange's identity every other one has a larger variance (3.9).",
            "b": "So it would be for every power of E[ℓ_{t-1}²] between ½ and 1. Put p_t = m_t/Σ m_t into Σ m_t/p_t.",
            "c": "Σ m_t/p_t is (T-1) Σ m_t for p_t = m_t/Σ m_t, and it is the same for p_t = 1/(T-1). Now the small terms are "
            "looked at too seldom, and count for too much when they come.",
            "d": "That begins beyond the first power of E[ℓ_{t-1}²]. Put p_t = m_t/Σ m_t into Σ m_t/p_t.",
        },
        _without_the_root,
    ),
}
