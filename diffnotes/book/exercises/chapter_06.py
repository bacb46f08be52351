"""Exercises of chapter 6: training."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

import numpy as np
import sympy as sp
import torch

from diffnotes.book.exercises.kinds import Break, Build, Derive, Exercise, Mistake, Predict, Rows, numbers
from diffnotes.book.proof.symbols import unit
from diffnotes.models.unet import UNet
from diffnotes.process.losses import min_snr_weight
from diffnotes.process.schedules import Schedule
from diffnotes.training.muon import Muon

# -- 6.1: the forgotten 784 ---------------------------------------------------------------------------------------------


def _way(make: Callable[[Iterable[torch.Tensor]], torch.optim.Optimizer], factor: float) -> float:
    """How far one update moves the weights, if the mean loss is multiplied by a factor."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = UNet(channels=16, multipliers=(1, 2), blocks=1, patch=2)
        with torch.no_grad():
            for p in network.parameters():
                p.add_(0.1 * torch.randn(p.shape))
        x_t, eps = torch.randn(2, 4, 1, 28, 28)
    before = torch.nn.utils.parameters_to_vector(network.parameters()).detach()
    optimizer = make(network.parameters())
    (factor * (network(x_t, torch.tensor([1, 300, 600, 900])) - eps).square().mean()).backward()
    optimizer.step()
    return (torch.nn.utils.parameters_to_vector(network.parameters()).detach() - before).norm().item()


@cache
def _without_the_784() -> tuple[str, Rows]:
    mean, total = (_way(lambda weights: Muon(weights, lr=3e-3), factor) for factor in (1, 784))
    plain = [_way(lambda weights: torch.optim.SGD(weights, lr=3e-3), factor) for factor in (1, 784)]
    options = {"a": 784.0, "b": 28.0, "c": 1.0, "d": 1 / 784}
    letter = min(options, key=lambda k: abs(math.log(options[k] * mean / total)))
    return letter, (
        ("length of an update, loss a mean", f"{mean:.3f}"),
        ("the same, loss a sum", f"{total:.3f}, which is {total / mean:.3f} times as long"),
        ("by plain gradient descent", f"{plain[1] / plain[0]:.0f} times as long"),
    )


# -- 6.2: how far the average lags behind -------------------------------------------------------------------------------

decay = unit("decay")


@cache
def _lag() -> sp.Expr:
    """The weights go one step on, and (6.3) keeps the share `decay` of the distance: the distance that stays the same."""
    lag = sp.Symbol("lag", positive=True)
    (steady,) = sp.solve(decay * (lag + 1) - lag, lag)
    return steady


# -- 6.3: the weight for a network that predicts the noise -------------------------------------------------------


def _levels(generator: torch.Generator) -> Iterator[tuple[dict[str, Any], Any]]:
    """Signal-to-noise ratios of three schedules; the last one ends with nothing but noise."""
    schedules = (Schedule.linear(), Schedule.cosine(), Schedule.cosine().rescale_zero_terminal_snr())
    for schedule, gamma in zip(schedules, (5.0, 1.0, 5.0), strict=True):
        t = torch.cat([torch.randint(1, 1001, (5,), generator=generator), torch.tensor([schedule.T])])
        yield {"snr": schedule.snr[t], "gamma": gamma}, min_snr_weight(schedule, t, gamma, "eps")


# -- 6.4: what the Fréchet distance does not see ------------------------------------------------------------------------


def _ten_clusters(dice: np.random.Generator, digits: int = 10) -> np.ndarray:
    """A thousand points in clusters on a circle, one for each digit: what features might look like, in two dimensions."""
    angle = math.tau / 10 * (np.arange(1000) % digits)
    return 3 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + 0.2 * dice.normal(size=(1000, 2))


def _with_the_moments_of(points: np.ndarray, dice: np.random.Generator) -> np.ndarray:
    """A Gaussian cloud with exactly their mean and covariance."""
    cloud = dice.normal(size=points.shape)
    root, own = (np.linalg.cholesky(np.cov(x, rowvar=False)) for x in (points, cloud))
    return points.mean(0) + (cloud - cloud.mean(0)) @ np.linalg.solve(own.T, root.T)


@cache
def _nearest_set() -> tuple[str, Rows]:
    from diffnotes.training import metrics

    dice = np.random.default_rng(0)
    real = _ten_clusters(dice)
    sets = {
        "a": _ten_clusters(dice),
        "b": real + 0.2 * dice.normal(size=real.shape),
        "c": _ten_clusters(dice, digits=9),
        "d": _with_the_moments_of(real, dice),
    }
    found = {letter: metrics.frechet_distance(points, real) for letter, points in sets.items()}
    rows = tuple(
        (
            f"({letter})",
            f"Fréchet distance {found[letter]:.5f}, precision {metrics.in_manifold(points, real).mean():.2f}",
        )
        for letter, points in sets.items()
    )
    return min(found, key=lambda letter: found[letter]), rows


# -- 6.5: the recall of five points -------------------------------------------------------------------------------------


def _five_points(answer: Any) -> np.ndarray:
    points = np.array([numbers(point, 2) for point in answer])
    if points.shape != (5, 2) or np.abs(points).max() > 100:
        raise ValueError(f"no five points: {answer}")
    return points


def _deceives_the_recall(points: np.ndarray) -> tuple[bool, str, Rows]:
    from diffnotes.training import metrics

    real = np.random.default_rng(0).normal(size=(200, 2))
    precision, recall = metrics.in_manifold(points, real, k=3).mean(), metrics.in_manifold(real, points, k=3).mean()
    apart = np.linalg.norm(points[:, None] - points, axis=2)
    rows = (
        ("precision", f"{precision:.2f}"),
        ("recall", f"{recall:.2f}"),
        ("radius of the balls around your points", ", ".join(f"{r:.1f}" for r in np.sort(apart, axis=1)[:, 3])),
    )
    broken = bool(precision == 0 and recall == 1)
    if broken:
        words = (
            "Not one of your points is near a real one, and together they get the best recall there is: they are so far "
            "from each other that their balls (6.7) cover everything. A few wild samples are enough to spoil a recall, "
            "and the precision beside it tells."
        )
    elif precision > 0:
        words = "One or more of your points lie in the region of the real ones. That is what a sample should do: move them away."
    elif recall == 0:
        words = (
            "Far away, and the balls do not reach back. The radius of a ball is the way to the third nearest of your own "
            "points: what makes it large?"
        )
    else:
        words = (
            "A part of the real points is covered already. Let the balls be larger, or come from more than one side."
        )
    return broken, words, rows


EXERCISES: dict[str, Exercise] = {
    "06.1": Predict(
        {
            "a": "So it is with plain gradient descent, whose step is the learning rate times the gradient. The trainer's "
            "optimiser does not use the gradient's norm.",
            "b": "28 is the root of 784, but no root of the norm is taken anywhere: what the optimiser takes from the "
            "gradient is its directions.",
            "c": "Muon divides a matrix by its norm before anything else (6.5), and AdamW divides each gradient by its "
            "own recent size. So the learning rate alone says how long a step is, and the unit of the loss cancels.",
            "d": "That would be a division by the square of the gradient's size. AdamW divides by the root of a mean "
            "square, Muon by the norm: the factor cancels, and no more.",
        },
        _without_the_784,
    ),
    "06.2": Derive(
        _lag,
        (decay,),
        "It is the mean age of what is in the average: weights that are k updates old have the share (1 - r) rᵏ in it.",
        (
            Mistake(
                1 / (1 - decay),
                "One too many. So it is if the average is updated before the optimiser's step (P09); after it, the newest "
                "weights come in at once.",
            ),
            Mistake(
                sp.log(sp.Rational(1, 2)) / sp.log(decay),
                "After so many updates one half is forgotten. That is the median of the ages; the lag is their mean.",
            ),
            Mistake(
                (1 - decay) / decay,
                "Upside down: the nearer r is to 1, the longer the average reaches back.",
            ),
            Mistake(
                decay,
                "That is the lag after the first step, if there was none before it. It goes on growing.",
            ),
            Mistake(
                1 - decay,
                "That is the share of the newest weights. The question is how old the average is.",
            ),
        ),
    ),
    "06.3": Build(
        "a function of snr, a tensor, and gamma, a number, that returns a weight for each entry of snr",
        _levels,
        "As long as SNR is at most γ it is 1: there the simple loss in ε is already what (6.4) asks for. Only where the image "
        "is plain to see, an error about the noise counts less.",
        (
            Mistake(
                lambda snr, gamma: snr.clamp(max=gamma) / (snr + 1),
                "That is the weight for v (6.4). The same prediction errs by another factor about ε: by (1.9), SNR times as "
                "much as about the image, squared.",
            ),
            Mistake(
                lambda snr, gamma: snr.clamp(max=gamma),
                "So much shall an error about the image count. The same prediction errs SNR times as much about ε (squared), so "
                "there each error counts less.",
            ),
            Mistake(
                lambda snr, gamma: snr.clamp(max=gamma) / snr,
                "The formula is right. But where SNR is 0 it is 0/0, and one nan in a batch is enough to spoil the loss: "
                "write it so that nothing is divided by itself.",
            ),
            Mistake(
                lambda snr, gamma: snr.clamp(max=gamma) * snr,
                "The error about ε is SNR times that about the image (squared): to count the same, it is divided by it.",
            ),
            Mistake(
                lambda snr, gamma: (gamma / snr).clamp(min=1),
                "max in the place of min: this makes errors count most where nothing is to be seen.",
            ),
        ),
    ),
    "06.4": Predict(
        {
            "a": "As good as samples can be, and yet not at 0: two draws from the same distribution differ a little in mean "
            "and covariance, and every difference counts (6.6).",
            "b": "Each lies near a real one, but the noise has made the clusters a little wider, and the covariance with it.",
            "c": "A digit is missing, so mean and covariance are off: (6.6) changes with both.",
            "d": "(6.6) contains a mean and a covariance, nothing else, and these are the same. That the real points lie in ten "
            "small clusters, and hardly one of these in any of them, only the precision shows.",
        },
        _nearest_set,
    ),
    "06.5": Break(
        "five points in the plane, a list of five pairs of numbers from -100 to 100",
        _five_points,
        _deceives_the_recall,
    ),
}
