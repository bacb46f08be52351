"""Two humps noised to a bell, and back (appendix A): every part of the picture is a formula of the appendix."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.collections import LineCollection

from diffnotes.book.explorers.controls import check_range, float_slider
from diffnotes.book.explorers.gaussians import log_density
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

HUMPS = ((0.6, -1.0), (0.4, 1.0))  # of the clean density: the share and the mean of each
SPREAD = 0.3  # the standard deviation of both
LEAST = 0.2  # noise: with less, the posterior leaves its axes
REACH = 3.2  # the pictures show x from -REACH to REACH
X_0, EPS = 1.1, -1.6  # the draw that is followed, and its noise
OTHERS = 24  # draws that are drawn with it
GRID = torch.linspace(-2 * REACH, 2 * REACH, 1281, dtype=torch.float64)
SHOWN = slice(320, 961)  # the part of the grid from -REACH to REACH


def humps(b: float = 0.46) -> None:
    """A density with two humps, noised by x_t = a x_0 + b eps with a^2 + b^2 = 1, until it is the bell N(0, 1); and, from one
    x_t, the way back: slope (book, eq. A.9), posterior (book, eq. A.7) and its mean (book, eq. A.19).

    A slider for b in 0.2..1."""
    build_humps(b).show()


def build_humps(b: float = 0.46) -> Explorer:
    """The explorer of `humps`, not yet shown."""
    check_range({"b": (b, LEAST, 1)})
    figure, axes = plots.subplots(3, 2, size=(8.6, 6.9), height_ratios=[1, 0.85, 1])
    (clean, back), (moves, slope), (noisy, distance) = axes
    x = GRID[SHOWN].numpy()

    clean.fill_between(x, density(GRID, 0)[SHOWN].numpy(), color=plots.SKY, alpha=0.35, lw=0)
    clean.plot(x, density(GRID, 0)[SHOWN].numpy(), color=plots.BLUE)
    clean.plot([X_0], [0], "o", color=plots.RED, ms=7, clip_on=False, label="the draw we follow")
    clean.set(ylim=(0, 0.95), title="↓  1. data: two bells (A.1)", xlabel="$x_0$")
    clean.legend(loc="upper left", fontsize=8)

    lines = LineCollection([], colors=plots.SKY, lw=0.9)
    moves.add_collection(lines)
    (followed,) = moves.plot([], [], "o-", color=plots.RED, lw=1.8, ms=5)
    moves.set(ylim=(-0.2, 2.2), title="↓  2. squeeze (A.3), then add noise (A.4)")
    moves.set_yticks([2, 1, 0], ["$x_0$", "$a\\,x_0$", "$x_t$"])

    (shade,) = noisy.plot([], [], color=plots.BLUE, label="$q(x_t)$")
    parts = [noisy.plot([], [], color=plots.SKY, lw=1.2)[0] for _ in HUMPS]
    noisy.plot(x, log_density(GRID, 0, 1).exp()[SHOWN].numpy(), color=plots.BLACK, ls=":", lw=1.4, label="the bell")
    (seen,) = noisy.plot([], [], "o", color=plots.RED, ms=7, clip_on=False)
    noisy.set(ylim=(0, 0.95), title="↓  3. wider bells (A.5), which merge", xlabel="$x_t$")
    noisy.legend(loc="upper right", fontsize=8)

    (log_curve,) = slope.plot([], [], color=plots.BLUE, label="$\\log\\,q(x_t)$")
    (tangent,) = slope.plot([], [], color=plots.RED, ls="--", lw=1.6, label="its slope: the score")
    (there,) = slope.plot([], [], "o", color=plots.RED, ms=7)
    slope.set(ylim=(-6.5, 1.2), title="↑  5. which way is uphill? The score (A.9)", xlabel="$x_t$")
    slope.legend(loc="lower center", fontsize=8)

    noises = np.linspace(LEAST, 1, 81)
    distance.plot(noises, [kl_to_bell(value) for value in noises], color=plots.GREEN)
    (now,) = distance.plot([], [], "o", color=plots.RED, ms=7, clip_on=False)
    distance.set(xlim=(LEAST, 1), ylim=(0, 0.52), xlabel="noise b", ylabel="nats")
    distance.set_title("→  4. how far from the bell? KL divergence (A.11)")

    back.fill_between(x, density(GRID, 0)[SHOWN].numpy(), color="#dddddd", lw=0, label="prior: the data")
    (likelihood,) = back.plot([], [], color=plots.ORANGE, ls="--", lw=1.6, label="likelihood of $x_t$")
    (posterior,) = back.plot([], [], color=plots.GREEN, label="posterior")
    (mean,) = back.plot([], [], color=plots.BLACK, lw=1.6, label="its mean (A.19)")
    back.plot([X_0], [0], "o", color=plots.RED, ms=7, clip_on=False)
    back.set(ylim=(0, 2.6), title="↑  6. what was there? Bayes (A.7)", xlabel="$x_0$")
    back.legend(loc="upper left", fontsize=8)
    for ax in (clean, moves, noisy, slope, back):
        ax.set(xlim=(-REACH, REACH))

    artists = [lines, followed, *parts, shade, seen, log_curve, tangent, there, now, likelihood, posterior, mean]
    for artist in artists:
        artist.set_in_layout(False)  # they are empty yet
    plot = LivePlot(figure, artists)
    draws = _draws()

    def update(b: float) -> str:
        a, step = math.sqrt(1 - b**2), look_back(b)
        lines.set_segments([[(x_0, 2), (a * x_0, 1), (a * x_0 + b * eps, 0)] for x_0, eps in draws])
        followed.set_data([X_0, a * X_0, step.x_t], [2, 1, 0])
        for part, (share, centre) in zip(parts, HUMPS, strict=True):
            bell = log_density(GRID, a * centre, a**2 * SPREAD**2 + b**2).exp()
            part.set_data(x, share * bell[SHOWN].numpy())
        q = density(GRID, b)[SHOWN].numpy()
        shade.set_data(x, q)
        seen.set_data([step.x_t], [0])
        log_curve.set_data(x, np.log(q))
        at, reach = step.log_q, 0.9
        tangent.set_data([step.x_t - reach, step.x_t + reach], [at - reach * step.score, at + reach * step.score])
        there.set_data([step.x_t], [at])
        now.set_data([b], [kl_to_bell(b)])
        likelihood.set_data(x, step.likelihood[SHOWN].numpy())
        posterior.set_data(x, step.posterior[SHOWN].numpy())
        mean.set_data([step.mean, step.mean], [0, 2.6])
        return _reading(b, step)

    slider = float_slider("noise b", b, LEAST, 1, 0.02)
    slider.style.description_width = "60px"  # a name longer than most
    controls: dict[str, widgets.Widget] = {"b": slider}
    step = look_back(b)
    alt = (
        "Six pictures, down on the left and up on the right. Left: a density with two humps; its draws squeezed towards 0 and "
        f"then spread by noise b = {b:g}; the noisy density, a sum of two wider bells, beside the bell N(0, 1). Right, from "
        "below: the KL divergence from the bell, which falls to 0 as b goes to 1; the logarithm of the noisy density and its "
        f"slope at x_t = {step.x_t:.2f}; prior, likelihood and posterior of x_0, whose mean is {step.mean:.2f}, while the draw "
        f"was {X_0:g}."
    )
    return Explorer("Two humps, to a bell and back", controls, plot, update, alt)


# -- the numbers ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """What is seen at the followed draw, and what it says about x_0."""

    x_t: float
    log_q: float
    score: float
    likelihood: torch.Tensor  # on GRID, of x_0
    posterior: torch.Tensor  # on GRID, of x_0
    right: float  # the probability that x_0 is from the right hump
    mean: float


def density(x: torch.Tensor, b: float) -> torch.Tensor:
    """q(x_t) at every x: each hump is scaled by a and noised, and stays a bell (book, eq. A.4); b = 0 is the clean density."""
    a_squared = 1 - b**2
    return torch.stack(
        [
            share * log_density(x, math.sqrt(a_squared) * centre, a_squared * SPREAD**2 + b**2).exp()
            for share, centre in HUMPS
        ]
    ).sum(0)


def kl_to_bell(b: float) -> float:
    """D_KL(q(x_t) || N(0, 1)) in nats (book, eq. A.11), integrated numerically."""
    q = density(GRID, b)
    return float(torch.trapezoid(q * (q.clamp(min=1e-300).log() - log_density(GRID, 0, 1)), GRID))


def look_back(b: float) -> Step:
    """The way back from x_t: each hump has its posterior (book, eq. A.7), and its weight is its share times the evidence."""
    a = math.sqrt(1 - b**2)
    x_t = a * X_0 + b * EPS
    variance = 1 / (1 / SPREAD**2 + a**2 / b**2)
    means = [variance * (centre / SPREAD**2 + a * x_t / b**2) for _, centre in HUMPS]
    total = a**2 * SPREAD**2 + b**2
    joint = [share * math.exp(-((x_t - a * centre) ** 2) / (2 * total)) for share, centre in HUMPS]
    weights = [part / sum(joint) for part in joint]
    score = sum(w * (a * centre - x_t) / total for w, (_, centre) in zip(weights, HUMPS, strict=True))
    return Step(
        x_t,
        math.log(sum(joint) / math.sqrt(2 * math.pi * total)),
        score,
        (-((x_t - a * GRID) ** 2) / (2 * b**2)).exp() / math.sqrt(2 * math.pi * b**2),
        torch.stack([w * log_density(GRID, m, variance).exp() for w, m in zip(weights, means, strict=True)]).sum(0),
        weights[1],
        sum(w * m for w, m in zip(weights, means, strict=True)),
    )


def _draws() -> np.ndarray:
    """Pairs (x_0, eps), always the same ones; the share of each hump is the number of its draws."""
    eps = torch.randn(OTHERS, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    left = round(HUMPS[0][0] * OTHERS)
    centres = np.repeat([centre for _, centre in HUMPS], [left, OTHERS - left])
    return np.column_stack([centres + SPREAD * eps[:, 0], eps[:, 1]])


def _reading(b: float, step: Step) -> str:
    a = math.sqrt(1 - b**2)
    return (
        f"b = {b:.2f} and a = {a:.2f}, so that a² + b² = 1. The red draw: x_t = {a:.2f} × {X_0:.2f} + {b:.2f} × ({EPS:.2f}) = "
        f"{step.x_t:.2f}. KL divergence from the bell: {kl_to_bell(b):.3f} nats.<br>From x_t alone: slope of log q "
        f"{step.score:.2f}; x_0 is from the right hump with probability {step.right:.0%}, and its mean is {step.mean:.2f}. "
        f"(It was {X_0:.2f}.)"
    )
