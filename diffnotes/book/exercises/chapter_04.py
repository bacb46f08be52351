"""Exercises of chapter 4: from a divergence to a regression."""

import math
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp
import torch
from torch import Tensor

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows
from diffnotes.book.proof.symbols import abar, abar_prev
from diffnotes.process.exact import DatasetDenoiser, MixtureDenoiser
from diffnotes.process.forward import q_sample
from diffnotes.process.gaussian import normal_kl, normal_log_density
from diffnotes.process.parameterize import eps_from_x0, x0_from_eps
from diffnotes.process.schedules import Schedule

# -- 4.1: twice the variance --------------------------------------------------------------------------------------------


def _twice_the_variance() -> tuple[str, Rows]:
    """The divergence of two Gaussians with the same mean, one with twice the variance, at every step; in bits per pixel."""
    beta_tilde = Schedule.linear().posterior_variance[2:, None]
    mean = torch.zeros_like(beta_tilde)
    bits = normal_kl(mean, beta_tilde, mean, 2 * beta_tilde) / math.log(2)
    options = {"a": 0.0, "b": bits[0].item(), "c": 8.0, "d": 139.0}
    letter = min(options, key=lambda k: abs(options[k] - bits.sum().item()))
    return letter, (
        ("one step", f"{bits[0]:.4f} bits per pixel"),
        (f"all {len(bits)} steps", f"{bits.sum():.1f} bits per pixel"),
    )


# -- 4.2: the factor of v -----------------------------------------------------------------------------------------------

snr_prev, snr = sp.symbols("SNR_{t-1} SNR_{t}", positive=True)


@cache
def _factor_of_v() -> sp.Expr:
    """The factor of (4.2) with sigma_t^2 = beta-tilde_t, times the image error that an error of 1 in v makes, squared."""
    step = 1 - abar / abar_prev
    beta_tilde = (1 - abar_prev) / (1 - abar) * step
    before_the_image = abar_prev * step**2 / (2 * beta_tilde * (1 - abar) ** 2)
    factor = before_the_image * (1 - abar)  # x_0 = sqrt(abar) x_t - sqrt(1 - abar) v
    return sp.simplify(factor.subs({abar: snr / (1 + snr), abar_prev: snr_prev / (1 + snr_prev)}))


# -- 4.3: the image without a factor ------------------------------------------------------------------------------------


def _image_without_a_factor() -> tuple[str, Rows]:
    """What an error of 0.1 in the noise is in the image, squared, at t = 100 and t = 900."""
    schedule, t = Schedule.linear(), torch.tensor([100, 900])
    x_t, noise = torch.randn(2, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    missed = x0_from_eps(schedule, noise + 0.1, x_t, t) - x0_from_eps(schedule, noise, x_t, t)
    early, late = (missed.square() / 0.1**2).flatten().tolist()
    options = {"a": 1.0, "b": math.sqrt(late / early), "c": 30_000.0, "d": early / late}
    letter = min(options, key=lambda k: abs(math.log(options[k] / (late / early))))
    rows = (
        ("factor at t = 100", f"{early:.3g}"),
        ("factor at t = 900", f"{late:.4g}"),
        ("ratio", f"{late / early:.0f}"),
    )
    return letter, rows


# -- 4.4: the image from the density ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Density:
    """q(x_t) for pixels that take a few values, each with its weight: a function of x, as the reader gets it."""

    values: Tensor
    weights: Tensor
    bar: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """The density at each entry of x, of any shape."""
        points = torch.as_tensor(x, dtype=torch.float64)
        centres = [self.bar.sqrt() * value for value in self.values]
        bells = [normal_log_density(points.reshape(-1, 1), centre, 1 - self.bar).exp() for centre in centres]
        return (self.weights[:, None] * torch.stack(bells)).sum(0).reshape(points.shape)

    def __str__(self) -> str:
        return f"the density of a pixel with {len(self.values)} values, noised"


def _densities(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    schedule = Schedule.linear()
    for number_of_values, t in ((2, 250), (2, 320), (3, 280), (3, 400)):
        values = 2 * torch.rand(number_of_values, generator=generator, dtype=torch.float64) - 1
        weights = torch.rand(number_of_values, generator=generator, dtype=torch.float64) + 0.2
        weights, bar = weights / weights.sum(), schedule.alpha_bar[t]
        x = 1.5 * torch.randn(5, generator=generator, dtype=torch.float64)
        image = MixtureDenoiser(schedule, values[:, None], weights=weights)(x[:, None], t)[:, 0]
        yield {"q": Density(values, weights, bar), "x": x, "bar": bar}, image


Function = Callable[[Tensor], Tensor]


def _slope(f: Function, x: Tensor, h: float = 1e-4) -> Tensor:
    return (f(x + h) - f(x - h)) / (2 * h)


def _slope_of_log(q: Function, x: Tensor) -> Tensor:
    return _slope(lambda point: q(point).log(), x)


# -- 4.5: below the irreducible loss ------------------------------------------------------------------------------------


def _time(answer: Any) -> int:
    t = operator.index(answer)
    if isinstance(answer, bool) or not 1 <= t <= 1000:
        raise ValueError(f"no time of the chain: {answer}")
    return t


def _below_the_irreducible_loss(t: int) -> tuple[bool, str, Rows]:
    """A hundred draws of N(0, I) in 16 coordinates: the loss of their optimal denoiser on them, and on a thousand new draws."""
    generator, schedule = torch.Generator().manual_seed(0), Schedule.linear()
    own, new = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (100, 1000))
    denoiser = DatasetDenoiser(schedule, own)

    def loss(x0: Tensor) -> float:
        noise = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x_t = q_sample(schedule, x0, t, noise)
        return (noise - eps_from_x0(schedule, denoiser(x_t, t), x_t, t)).square().mean().item()

    on_own, on_new, least = loss(own.repeat(10, 1)), loss(new), schedule.alpha_bar[t].item()
    rows = (
        ("the denoiser's loss on its own images", f"{on_own:.2g}"),
        ("the irreducible loss for N(0, I)", f"{least:.2g}"),
        ("the denoiser's loss on new images", f"{on_new:.2g}"),
    )
    broken = on_own < least / 100
    if broken:
        words = (
            "No predictor's mean loss over the whole distribution is below it, and there this denoiser is far above: worse "
            "than 1, the loss of the prediction 0. A training loss below the irreducible loss is the mark of memorisation."
        )
    elif on_own > 0.8 * least:
        words = (
            "Here the noise hides which of the hundred images it was, and the denoiser predicts nearly what the optimal one of "
            "N(0, I) does: its losses are near the irreducible loss, on its own images and on new ones."
        )
    else:
        words = (
            "Below the irreducible loss, but not a hundred times. With this much noise the hundred images can no longer be "
            "told apart for certain."
        )
    return broken, words, rows


EXERCISES: dict[str, Exercise] = {
    "04.1": Predict(
        {
            "a": "For fixed variances the best mean is the same; but the divergence vanishes only if the variances agree as well "
            "(A47).",
            "b": "That is one step: ½ (½ - 1 + log 2) = 0.0966 nats, or 0.14 bits. It is the same at every t, and there are "
            "999 of them.",
            "c": "8 bits are what a pixel costs without any model. They do not limit a bound: it adds up its 999 terms, "
            "whatever comes out.",
            "d": "0.14 bits a step, 999 times (4.1). That is what a wrong variance costs, with perfect means. With the "
            "variance β_t the ratio is close to 1 at nearly every t, and the cost is nearly 0.",
        },
        _twice_the_variance,
    ),
    "04.2": Derive(
        _factor_of_v,
        (snr_prev, snr),
        "Where SNR(t) is large it is nearly the factor before the noise, where SNR(t) is small that before the image: v "
        "itself turns from the one into minus the other.",
        (
            Mistake(
                (snr_prev - snr) / 2,
                "That is the factor before the error in the image (4.3). An error in v makes one in the image that is "
                "√(1-ᾱ_t) times as large (4.7), and 1-ᾱ_t = 1/(1 + SNR(t)).",
            ),
            Mistake(
                (snr_prev / snr - 1) / 2,
                "That is the factor before the error in the noise. From there ‖ε - ε_θ‖² = ᾱ_t ‖v - v_θ‖² (4.7).",
            ),
            Mistake(
                (snr_prev - snr) * (1 + snr) / 2,
                "The exchange rate is upside down: ‖x_0 - x̂_θ‖² is 1-ᾱ_t times ‖v - v_θ‖², so the factor is multiplied by "
                "1-ᾱ_t, not divided.",
            ),
            Mistake(
                (snr_prev - snr) / (2 * sp.sqrt(1 + snr)),
                "The error in v reaches the image with the factor √(1-ᾱ_t). The loss contains the square of it.",
            ),
            Mistake(
                (snr_prev - snr) / (1 + snr),
                "The ½ of (4.3) is missing.",
            ),
        ),
    ),
    "04.3": Predict(
        {
            "a": "Without a factor for one target is not without a factor for another: the exchange rate (4.5) depends on t.",
            "b": "That is how much larger the error in the image is. The loss contains its square.",
            "c": "In noise units this loss has the factor (1-ᾱ_t)/ᾱ_t (4.5), which is 1/SNR(t): the noisier, the heavier.",
            "d": "The other way round: the less of the image is left, the more an error in the noise is enlarged on the way "
            "to the image (A20).",
        },
        _image_without_a_factor,
    ),
    "04.4": Build(
        "a function of q, x and bar that returns one estimate of the image for each entry of x",
        _densities,
        "Tweedie's formula (4.9): no posterior, no x_0, only how the density of the noisy pixels slopes.",
        (
            Mistake(
                lambda q, x, bar: (x + _slope_of_log(q, x)) / bar.sqrt(),
                "The slope has to be multiplied by the variance of the noise, 1-ᾱ_t (4.9).",
            ),
            Mistake(
                lambda q, x, bar: x + (1 - bar) * _slope_of_log(q, x),
                "That is where the arrows of section 4.7 end, √ᾱ_t E[x_0|x_t]. The noisy picture sees the image shrunk by "
                "√ᾱ_t.",
            ),
            Mistake(
                lambda q, x, bar: (x + (1 - bar) * _slope(q, x)) / bar.sqrt(),
                "That is the slope of q. Tweedie's formula has the slope of log q: divide by q (4.9).",
            ),
            Mistake(
                lambda q, x, bar: (x - (1 - bar) * _slope_of_log(q, x)) / bar.sqrt(),
                "The sign: the best estimate lies where the density rises.",
            ),
            Mistake(
                lambda q, x, bar: -(1 - bar).sqrt() * _slope_of_log(q, x),
                "That is the best estimate of the noise (4.10). The question is for the image.",
            ),
            Mistake(
                lambda q, x, bar: x / bar.sqrt(),
                "That undoes the shrinking and leaves the noise in. The slope of log q tells how much noise to expect there.",
            ),
        ),
    ),
    "04.5": Break("one whole number t from 1 to 1000", _time, _below_the_irreducible_loss),
}
