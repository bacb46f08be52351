"""Exercises of chapter 15: flows and flow matching."""

from collections.abc import Callable, Iterator
from functools import cache
from itertools import combinations
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import abar
from diffnotes.process.exact import DatasetDenoiser
from diffnotes.process.flow import flow_sample, flow_schedule
from diffnotes.process.samplers import initial_noise
from diffnotes.training.data import load_images

# -- 15.1: the velocity of a v-prediction -------------------------------------------------------------------------------

x, v = sp.symbols("x v", real=True)
a, b = sp.symbols("a b", positive=True)


def _velocity() -> sp.Expr:
    """eps - x_0, both by rotating (x, v) back."""
    return (b * x + a * v) - (a * x - b * v)


# -- 15.2: one step -----------------------------------------------------------------------------------------------------


@cache
def _one_step() -> tuple[str, Rows]:
    """What one Euler step of the exact velocity makes of two noises, for the digits that come with scikit-learn as the data."""
    data = load_images("digits", "train", size=28)
    schedule = flow_schedule(10)
    *_, last = flow_sample(DatasetDenoiser(schedule, data.x), schedule, initial_noise(0, 2), steps=1)
    apart = (last.x_t[0] - last.x_t[1]).abs().max().item()
    off = (last.x_t[0] - data.x.mean(0)).abs().max().item()
    rows = (
        ("largest difference of the two pictures", f"{apart:.1g}"),
        ("largest difference from the mean of all digits", f"{off:.1g}"),
    )
    return ("c" if apart < 1e-4 and off < 1e-4 else "d"), rows


# -- 15.3: a coupling layer ---------------------------------------------------------------------------------------------

Function = Callable[[Tensor], Tensor]
Layer = Callable[[Tensor, Function, Function, bool], tuple[Tensor, Tensor]]


def _layers(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Points of four coordinates, forwards and backwards, with scales and shifts that are no straight lines."""
    for inverse in (False, True, False, True):
        points, weights = (torch.randn(n, generator=generator, dtype=torch.float64) for n in ((3, 4), (2, 2, 2)))

        def scale(kept: Tensor, w: Tensor = weights[0]) -> Tensor:
            return torch.tanh(kept @ w) + 0.3

        def shift(kept: Tensor, w: Tensor = weights[1]) -> Tensor:
            return (kept**2) @ w

        yield (
            {"x": points, "scale": scale, "shift": shift, "inverse": inverse},
            _coupling()(points, scale, shift, inverse),
        )


def _coupling(
    *, scale_of: str = "kept", sign: int = 1, summed: bool = True, order: str = "right", turned: bool = True
) -> Layer:
    """The right function, and with one of its settings changed a wrong one."""

    def layer(x: Tensor, scale: Function, shift: Function, inverse: bool) -> tuple[Tensor, Tensor]:
        kept, other = x[:, :2], x[:, 2:]
        told = other if scale_of == "other" and inverse else kept
        s, m = scale(told), shift(kept)
        log_det = sign * (s.sum(1) if summed else s.exp().prod(1))
        if not inverse:
            changed = other * s.exp() + m
        else:
            changed = (other - m) * (-s).exp() if order == "right" else other * (-s).exp() - m
            log_det = -log_det if turned else log_det
        return torch.cat([kept, changed], dim=1), log_det

    return layer


# -- 15.4: lines that meet ----------------------------------------------------------------------------------------------

Lines = tuple[list[float], list[float]]
NUMBER = 4


def _noises_and_partners(answer: Any) -> Lines:
    noises, partners = (numbers(part, NUMBER) for part in answer)
    if len({*noises}) < NUMBER or len({*partners}) < NUMBER:
        raise ValueError("the numbers of a list must differ")
    return noises, partners


def _meetings(answer: Lines) -> tuple[bool, str, Rows]:
    """Whether two of the lines (1 - t) x_0 + t eps are at one place at a time between 0 and 1."""
    noises, partners = answer
    found = []
    for i, j in combinations(range(NUMBER), 2):
        e, p = noises[i] - noises[j], partners[i] - partners[j]
        if e * p < 0:  # (1 - t) p + t e = 0
            t = p / (p - e)
            place = (1 - t) * partners[i] + t * noises[i]
            there = [e - p for e, p in zip(noises, partners, strict=True) if abs((1 - t) * p + t * e - place) < 1e-9]
            found.append((t, place, there))
    if not found:
        words = (
            "The noises and their partners are in the same order. Then no two lines meet: at every point there is one pair "
            "alone, the mean velocity is its own, and the flow is straight. On a line these are the pairs of optimal transport "
            "(15.14). Which order lets two lines meet?"
        )
        return False, words, (("two lines that meet", "none"),)
    t, place, there = found[0]
    words = (
        "A fixed partner for each noise is not enough. Where two lines meet, the flow can have only one velocity, and least "
        "squares takes the mean of theirs (15.7): the dots go on together, and they do not go straight to their partners."
    )
    rows = (
        ("two lines meet at", f"t = {t:.3g}, x = {place:.3g}"),
        ("the velocities of all lines there", ", ".join(f"{u:.3g}" for u in there)),
        ("the velocity of the flow there", f"{sum(there) / len(there):.3g}"),
        ("meetings in all", f"{len(found)}"),
    )
    return True, words, rows


EXERCISES: dict[str, Exercise] = {
    "15.1": Derive(
        _velocity,
        (x, v, a, b),
        "ε = b x + a v and x_0 = a x - b v, both at once from the rotation back; their difference is the velocity (15.8).",
        (
            Mistake(
                (a + b) * v,
                "The term in x is lost. (x, v) is a rotation of (x_0, ε), so both of them contain x as well: b x of the noise "
                "and a x of the image. Only where a = b do they cancel.",
            ),
            Mistake(
                (a - b) * x + (a + b) * v,
                "The sign of the term in x is turned: ε brings b x, and x_0 takes a x away. With yours, one Euler step from the "
                "pure noise, where a = 0, would not give -v, the predicted image.",
            ),
            Mistake(
                (a - b) * x - (a + b) * v,
                "That is x_0 - ε, the velocity of those whose time runs from noise to data. Here t = 1 is the noise.",
            ),
            Mistake(
                (b - a) * x + (a - b) * v,
                "x_0 is a x - b v, with a minus; subtracting it brings + b v.",
            ),
            Mistake(
                ((b - a) * x + (a + b) * v) / (a + b),
                "Right up to the factor 1/(a + b). That one belongs to the state: the state of the flow is x/(a + b). "
                "The velocity "
                "ε - x_0 does not depend on how the state is scaled.",
            ),
        ),
        {a: sp.sqrt(abar), b: sp.sqrt(1 - abar)},
    ),
    "15.2": Predict(
        {
            "a": "That would need straight flow lines. The lines of the pairs are straight; those of the flow are not, "
            "and the first "
            "velocity is a mean over all images (15.12).",
            "b": "One step from t = 1 to t = 0 takes the whole noise away: x_1 - u is the predicted image, without "
            "noise. But it is "
            "no digit.",
            "c": "At t = 1 the noise says nothing about its image. So the prediction is the mean of all images, for "
            "every noise the "
            "same (15.12).",
            "d": "A grey picture, yes, but not a different one for each noise: at t = 1 noise and image are "
            "independent, and nothing "
            "in the noise can choose (15.12).",
        },
        _one_step,
    ),
    "15.3": Build(
        "a function of x, scale, shift and inverse that returns the changed points (N, 4) and log |det| (N,)",
        _layers,
        "The kept half passes, so the inverse can compute the same scales and shifts. Backwards the determinant is the "
        "inverse one "
        "(15.2).",
        (
            Mistake(
                _coupling(scale_of="other"),
                "In the inverse you have computed the scales from the changed half. They have to be the same as on the "
                "way there: from "
                "the half that was kept, the first two coordinates (15.2).",
            ),
            Mistake(
                _coupling(sign=-1),
                "The sign of log |det|: the layer multiplies by e^s, so forwards the logarithm is the sum of s itself (15.2).",
            ),
            Mistake(
                _coupling(turned=False),
                "Forwards right. Backwards the layer divides by e^s, so its log-determinant is minus the sum.",
            ),
            Mistake(
                _coupling(summed=False), "That is the determinant. What is asked for is its logarithm, the sum of s."
            ),
            Mistake(
                _coupling(order="wrong"),
                "Backwards the steps come in the other order: first take the shift away, then divide by e^s.",
            ),
        ),
    ),
    "15.4": Break(
        f"a pair of lists of {NUMBER} numbers each, all different within a list: noises, and their partners in the same order",
        _noises_and_partners,
        _meetings,
    ),
}
