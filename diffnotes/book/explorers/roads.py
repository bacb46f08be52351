"""Every road from noise (chapter 13): paths of the reverse equation for any lambda, over the distributions that they share."""

from functools import lru_cache
from typing import Any

import numpy as np

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof import line

DATA = line.Mixture()
FIRST = 0.99  # where the paths begin on the time axis of the cosine schedule, whose angle is t pi/2: noise level 64
PATHS, MANY = 24, 4000  # drawn; and for the histogram
STEPS = 200  # at most
HEIGHT = 2.8
BINS = np.linspace(-HEIGHT, HEIGHT, 57)


def roads(lam: float = 1.0, steps: int = 100) -> None:
    """Every road from noise, on a mixture on a line with its exact score: paths of the reverse equation with this lambda from
    fixed starts, over a heat map of q(x_t) (book, eq. 13.10); beside it where 4,000 of them end, and the data's density.

    lam: slider in 0..1.5; 0 is the probability-flow ODE, 1 the reverse-time SDE. steps: slider in 5..200, even in t on the cosine
    schedule, each one exact where the predicted image stays as it is (book, eq. 13.14)."""
    build_roads(lam, steps).show()


def build_roads(lam: float = 1.0, steps: int = 100) -> Explorer:
    """The explorer of `roads`, not yet shown."""
    check_range({"lam": (lam, 0, 1.5), "steps": (steps, 5, STEPS)})
    figure, (paths_ax, ends_ax) = plots.subplots(1, 2, size=(8.6, 3.8), width_ratios=[3.2, 1], sharey=True)
    heat_map(paths_ax)
    paths_ax.set(title="paths from noise (left) to data (right)")
    (others,) = paths_ax.plot([], [], color=plots.BLUE, lw=0.8)
    (three,) = paths_ax.plot([], [], color=plots.RED, lw=1.8)
    x = np.linspace(-HEIGHT, HEIGHT, 400)
    ends_ax.plot(density(x, 0.0), x, color=plots.BLACK, lw=1.4)
    (ends,) = ends_ax.plot([], [], color=plots.ORANGE, lw=1.6)
    ends_ax.set(xlim=(0, 1.15), xlabel="density", title="where they end")
    plot = LivePlot(figure, [others, three, ends])
    controls = {
        "lam": float_slider("λ", lam, 0, 1.5, 0.1, form=".1f"),
        "steps": int_slider("steps", steps, 5, STEPS, 5),
    }

    def update(lam: float, steps: int) -> str:
        path, times = drawn(round(lam, 3), steps)
        others.set_data(*one_line(times, path))
        three.set_data(*one_line(times, path[:, [4, 11, 19]]))
        share, _ = np.histogram(final(round(lam, 3), steps), BINS, density=True)
        ends.set_data(np.repeat(share, 2), np.repeat(BINS, 2)[1:-1])
        return reading(round(lam, 3), steps)

    alt = (
        f"Left: a heat map of the distribution at every time, broad at the noise and in three branches at the data, and {PATHS} "
        f"paths over it with λ = {lam:g}. Right: the histogram of their ends lies on the density of the data."
    )
    return Explorer("Every road from noise", controls, plot, update, alt)


# -- what is drawn ------------------------------------------------------------------------------------------------------


def heat_map(ax: Any) -> None:
    """q(x_t) over t, each time in shares of its own highest density, with the axes' limits and names."""
    t, x = np.linspace(FIRST, 0, 240), np.linspace(-HEIGHT, HEIGHT, 240)
    columns = np.stack([density(x, time) for time in t], 1)
    ax.imshow(
        (columns / columns.max(0)) ** 0.7,
        extent=(FIRST, 0, -HEIGHT, HEIGHT),
        origin="lower",
        aspect="auto",
        cmap="Greys",
        vmin=0,
        vmax=1.6,
    )
    ax.grid(False)
    ax.set(xlim=(FIRST, 0), ylim=(-HEIGHT, HEIGHT), xlabel="time t: 1 is noise, 0 is data", ylabel="x_t")


def density(x: np.ndarray, t: float) -> np.ndarray:
    """q(x_t) of the mixture at a time of the continuous cosine schedule."""
    a, b = np.cos(t * np.pi / 2), np.sin(t * np.pi / 2)
    variance = (a * DATA.sd) ** 2 + b**2
    bells = np.exp(-((x - a * np.array(DATA.means)[:, None]) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)
    return np.asarray(np.array(DATA.weights) @ bells)


def run(lam: float, steps: int, start: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Paths of x_t from `start` at FIRST, (steps + 1, len(start)), and the times. The steps are those of eq. 13.14, written for
    x_t / a and the noise level."""
    times = np.linspace(FIRST, 0, steps + 1)
    levels, noise = np.tan(times * np.pi / 2), np.random.default_rng(seed)
    x = start / np.cos(times[0] * np.pi / 2)
    path = [start]
    for level, there, time in zip(levels[:-1], levels[1:], times[1:], strict=True):
        x0_hat, shrink = DATA.prediction(x, level), there / level
        x = x0_hat + shrink ** (1 + lam**2) * (x - x0_hat)
        if lam > 0:
            x = x + there * np.sqrt(1 - shrink ** (2 * lam**2)) * noise.standard_normal(len(start))
        path.append(np.cos(time * np.pi / 2) * x)
    return np.array(path), times


@lru_cache(maxsize=8)
def starts(number: int) -> np.ndarray:
    """So many points of q(x_t) at FIRST, one for each equal share of it."""
    level = np.tan(FIRST * np.pi / 2)
    return np.asarray(DATA.curves((np.arange(number) + 0.5) / number, np.array([level]))[0] * np.cos(FIRST * np.pi / 2))


@lru_cache(maxsize=256)
def drawn(lam: float, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The paths that are drawn."""
    return run(lam, steps, starts(PATHS), seed=1)


@lru_cache(maxsize=256)
def final(lam: float, steps: int) -> np.ndarray:
    """Where many paths end, in their order."""
    return np.sort(run(lam, steps, starts(MANY), seed=2)[0][-1])


@lru_cache(maxsize=1)
def quantiles() -> np.ndarray:
    """Of the data, one for each equal share."""
    return np.asarray(DATA.curves((np.arange(MANY) + 0.5) / MANY, np.zeros(1))[0])


def distance(lam: float, steps: int) -> float:
    """The mean distance of the ends, in their order, from the data's quantiles (the 1-Wasserstein distance)."""
    return float(np.abs(final(lam, steps) - quantiles()).mean())


@lru_cache(maxsize=1)
def by_chance() -> float:
    """The expected distance of as many draws from the data's own distribution: the integral of E|F_N - F|."""
    x = np.linspace(-4, 4, 4001)
    F = DATA.cdf(x, 0.0)
    return float(np.sqrt(2 * F * (1 - F) / (np.pi * MANY)).sum() * (x[1] - x[0]))


def one_line(times: np.ndarray, path: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All paths as one line with gaps."""
    gap = np.full((1, path.shape[1]), np.nan)
    return np.tile(np.append(times, np.nan), path.shape[1]), np.concatenate([path, gap]).T.ravel()


def reading(lam: float, steps: int) -> str:
    """The line below the picture."""
    name = {0.0: "the probability-flow ODE, no noise at all", 1.0: "the reverse-time SDE"}.get(
        lam, "between or beyond the two"
    )
    return (
        f"λ = {lam:g} ({name}), {steps} steps. {MANY:,} ends, in their order, are {distance(lam, steps):.3f} away on average "
        f"from where the data have them; as many draws from the data themselves: {by_chance():.3f}."
    )
