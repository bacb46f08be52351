"""Exercises of chapter 18: latents and cascades."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar
from diffnotes.process.cascade import augment, enlarge, shrink
from diffnotes.process.schedules import Schedule

# -- 18.1: a scale that was forgotten -----------------------------------------------------------------------------------


def _forgotten() -> tuple[str, Rows]:
    """Gaussian latents of deviation s: the mean of the least eps-loss (18.7) over the times, and 20 exact DDIM steps."""
    abar_t = Schedule.cosine(T=1000).alpha_bar.numpy()
    tau = abar_t[np.linspace(1000, 0, 21).round().astype(int)]
    found = {}
    for s in (1.0, 0.18):
        loss = (abar_t * s**2 / (abar_t * s**2 + 1 - abar_t))[1:].mean()
        size = 1.0
        for t, then in zip(tau[:-1], tau[1:], strict=True):
            x0 = math.sqrt(t) * s**2 / (t * s**2 + 1 - t)
            size *= math.sqrt(then) * x0 + math.sqrt(1 - then) * (1 - math.sqrt(t) * x0) / math.sqrt(1 - t)
        found[s] = loss, size / s
    (loss, right), (low, wrong) = found[1.0], found[0.18]
    rows = (
        ("least ε-loss, mean over the times, σ_z = 1 and 0.18", f"{loss:.3f}, {low:.3f}"),
        ("deviation of 20 exact steps, in units of σ_z", f"{right:.2f}, {wrong:.2f}"),
    )
    letters = {(False, True): "a", (True, True): "b", (True, False): "c"}
    return letters.get((low < loss, abs(wrong - 1) > abs(right - 1)), "d"), rows


# -- 18.2: the schedule of the small image ------------------------------------------------------------------------------


def _small_schedule() -> sp.Expr:
    """alpha_bar' with SNR' = 4 SNR."""
    snr = 4 * abar / (1 - abar)
    return snr / (1 + snr)


# -- 18.3: the condition of the second stage ----------------------------------------------------------------------------


def _condition(x: Tensor, alpha_bar: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    a = alpha_bar[s][:, None, None, None]
    return enlarge(a.sqrt() * shrink(x) + (1 - a).sqrt() * eps)


def _conditions(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Tensor]]:
    schedule = Schedule.cosine(T=20)
    for size in (4, 6):
        x = torch.randn(3, 1, size, size, generator=generator, dtype=torch.float64)
        eps = torch.randn(3, 1, size // 2, size // 2, generator=generator, dtype=torch.float64)
        s = torch.randperm(20, generator=generator)[:3]
        given = {"x": x, "alpha_bar": schedule.alpha_bar, "s": s, "eps": eps}
        yield given, enlarge(augment(schedule, shrink(x), s, eps))


def _picked(x: Tensor, alpha_bar: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    a = alpha_bar[s][:, None, None, None]
    return enlarge(a.sqrt() * x[..., ::2, ::2] + (1 - a).sqrt() * eps)


def _one_level(x: Tensor, alpha_bar: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    return _condition(x, alpha_bar, s[:1].expand(len(s)), eps)


def _no_roots(x: Tensor, alpha_bar: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    a = alpha_bar[s][:, None, None, None]
    return enlarge(a * shrink(x) + (1 - a) * eps)


def _added(x: Tensor, alpha_bar: Tensor, s: Tensor, eps: Tensor) -> Tensor:
    a = alpha_bar[s][:, None, None, None]
    return enlarge(shrink(x) + (1 - a).sqrt() * eps)


CONDITIONS: tuple[tuple[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], str], ...] = (
    (
        _picked,
        "Every second pixel is not the mean of four: thin strokes vanish, and c = A x of (18.9) is another image.",
    ),
    (
        _one_level,
        "One level for the whole batch. Each image has its own s; with one for all, the shapes fit, and a batch is "
        "at one place of the axis only.",
    ),
    (_no_roots, "ᾱ and 1 - ᾱ are variances: the image and the noise are multiplied by their roots (18.12)."),
    (
        _added,
        "The noise is right. The image shrinks as well, by the root of ᾱ: (18.12) is the forward process of chapter 1.",
    ),
    (
        lambda x, alpha_bar, s, eps: enlarge(shrink(x)),
        "That is the condition without noise. It is what the level s = 0 gives, and no other.",
    ),
)

# -- 18.4: what the likelihood does not see -----------------------------------------------------------------------------

RARE = 0.001  # q of the strange small image, and of a bad large one


def _two_shares(answer: Any) -> tuple[float, float]:
    a, b = numbers(answer, 2)
    if not (0 < a < 1 and 0 < b < 1):
        raise ValueError("both must lie between 0 and 1")
    return a, b


def _kl(q: list[float], p: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(q, p, strict=True))


def _unseen(answer: tuple[float, float]) -> tuple[bool, str, Rows]:
    """The whole of (18.9), and the second term of (18.11)."""
    a, b = answer
    good, second = [1 - RARE, RARE], [1 - b, b]
    base, rest, drawn = _kl(good, [1 - a, a]), RARE * _kl(good, second), a * _kl(second, good)
    rows = (
        ("the whole of D(q || p), nats: what the likelihood pays", f"{base + rest:.4g}"),
        ("of this for the base, nats", f"{base:.4g}"),
        ("second term of D(p || q), nats: how strange the draws are", f"{drawn:.4g}"),
    )
    if drawn <= 1:
        words = (
            "The draws are hardly any stranger than the data. Let the base draw the strange small image more often, "
            "or the second stage make more of it bad."
        )
        return False, words, rows
    if base + rest >= 0.2:
        words = (
            "The likelihood sees the base: it pays nearly -log(1 - p) for what it no longer draws of the usual image. "
            "Draw the strange one less often, and let the second stage make more of it bad, which costs next to nothing."
        )
        return False, words, rows
    words = (
        "The mean of (18.9) is over the small images of the data, where this one is rare; that of (18.11) is over "
        "those that the base draws. The likelihood pays for the base, and hardly at all for what is made of its mistakes."
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "18.1": Predict(
        {
            "a": "That is what one expects, and what happens for a scale that is too large: see σ_z = 5.5 in the "
            "explorer. With σ_z = 0.18 the latents are nearly all noise at most times, and noise is easy to predict from noise.",
            "b": "At most times the latents are nearly all noise, so the noise is easy to read off, and the loss is "
            "small (18.7). The times at which something is decided are few (18.5), and 20 steps hardly visit "
            "them. The loss says nothing here.",
            "c": "The loss falls, yes (18.7): where all is noise, noise is easy to predict. That is no merit: few of "
            "the steps are at times where something is decided.",
            "d": "A first layer could multiply the latents, but it is given their sum with the noise, and multiplies "
            "that as well. The SNR is what it is.",
        },
        _forgotten,
    ),
    "18.2": Derive(
        _small_schedule,
        (abar,),
        "The noise of the mean of four pixels has a quarter of the variance (18.10), so the SNR is four times as "
        "large. Dividing by the standard deviation changes no SNR (18.5).",
        (
            Mistake(
                4 * abar,
                "Four times ᾱ may be more than 1. The SNR is ᾱ/(1 - ᾱ), and it is that which is multiplied by 4.",
            ),
            Mistake(
                abar / (abar + 4 * (1 - abar)),
                "That is a quarter of the SNR. Averaging leaves the image as it is and makes the noise smaller.",
            ),
            Mistake(
                2 * abar / (1 + abar),
                "That is twice the SNR. The standard deviation of the noise is halved, and its variance divided by four.",
            ),
            Mistake(
                abar, "Averaging four independent noises makes their variance smaller, so the time is an earlier one."
            ),
            Mistake(4 * abar / (1 - abar), "That is the SNR. Asked is the ᾱ' that has it: SNR/(1 + SNR)."),
        ),
    ),
    "18.3": Build(
        "a function of x, alpha_bar, s and eps that returns the enlarged condition, of x's shape",
        _conditions,
        "Mean of 2 × 2 pixels, noise of the image's own level (18.12), and each pixel four times. The level must be told, too.",
        tuple(Mistake(wrong, means) for wrong, means in CONDITIONS),
    ),
    "18.4": Break(
        "a pair of numbers between 0 and 1: p(c = strange) of the base, and p(bad | strange) of the second stage",
        _two_shares,
        _unseen,
    ),
}
