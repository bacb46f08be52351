"""Two clusters and the score between them (chapter 13): Langevin dynamics does not find the shares, annealed it does."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
from scipy.special import ndtr

from diffnotes.book.explorers.controls import check_range, dropdown, float_slider, int_slider, log_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

SD = 0.7  # of a cluster
WALKERS = 300
STEPS, EVERY = 500, 25  # of the walk, and how many of them the slider passes at a time
HIGHEST, LOWEST = 60.0, 0.05  # noise levels of the annealed walk and of the flow
LEVELS = 25
REACH = 8.0
HOW = {
    "Langevin": "at one noise level",
    "annealed Langevin": "from noise level 16 to 0.05",
    "probability flow": "16 to 0",
}
Walk = tuple[np.ndarray, tuple[float, ...]]


def walkers(how: str = "Langevin", noise: float = 0.05, weight: float = 0.8, m: float = 4.0) -> None:
    """Two clusters in a plane, at (-m, 0) and (m, 0) with shares w and 1 - w, the arrows of their exact score, and 300 points
    that move along it: by Langevin dynamics at one noise level (book, eq. 13.3), annealed through 25 falling levels (book,
    eq. 13.6), or along the probability flow. Two bars compare the share on the left with the right one.

    how: "Langevin", "annealed Langevin" or "probability flow"; sliders for the noise level in 0.05..10 (Langevin only), w in
    0.1..0.9, m in 1..5, and how far the walk has come, 0 to 500 steps."""
    build_walkers(how, noise, weight, m).show()


def build_walkers(how: str = "Langevin", noise: float = 0.05, weight: float = 0.8, m: float = 4.0) -> Explorer:
    """The explorer of `walkers`, not yet shown."""
    check_range({"noise": (noise, 0.05, 10), "weight": (weight, 0.1, 0.9), "m": (m, 1, 5)})
    if how not in HOW:
        raise ValueError(f"how must be one of {', '.join(map(repr, HOW))}, got {how!r}")
    figure, (plane, bars_ax) = plots.subplots(1, 2, size=(8.6, 3.9), width_ratios=[2.6, 1])
    plane.set(
        xlim=(-REACH, REACH), ylim=(-5, 5), xlabel="x_1", ylabel="x_2", title="300 points, and arrows of the score"
    )
    grid = np.stack(np.meshgrid(np.linspace(-7.4, 7.4, 17), np.linspace(-4.5, 4.5, 11)), -1).reshape(-1, 2)
    arrows = plane.quiver(*grid.T, *np.zeros_like(grid).T, color="#9a9a9a", scale=34, width=0.003, pivot="mid")
    (points,) = plane.plot([], [], "o", ms=2.6, color=plots.BLUE, alpha=0.7)
    (now,) = bars_ax.plot([0, 0], [0, 0], color=plots.BLUE, lw=34, solid_capstyle="butt")
    (truth,) = bars_ax.plot([1, 1], [0, 0], color=plots.ORANGE, lw=34, solid_capstyle="butt")
    bars_ax.set(xlim=(-0.6, 1.6), ylim=(0, 1), title="share on the left")
    bars_ax.set_xticks([0, 1], ["points", "exact"])
    plot = LivePlot(figure, [arrows, points, now, truth])
    level = log_slider("noise", noise, np.log10(0.05), 1, 0.05)
    controls: dict[str, widgets.Widget] = {
        "how": dropdown("how", list(HOW), value=how),
        "noise": level,
        "weight": float_slider("w", weight, 0.1, 0.9, 0.1, form=".1f"),
        "m": float_slider("m", m, 1, 5, 0.5, form=".1f"),
        "steps": int_slider("steps", STEPS, 0, STEPS, EVERY),
    }

    def update(how: str, noise: float, weight: float, m: float, steps: int) -> str:
        level.disabled = how != "Langevin"
        states, levels = walk(how, round(noise, 4), round(weight, 2), round(m, 2))
        x, sigma = states[steps // EVERY], levels[steps // EVERY]
        field = score(grid, sigma, weight, m)
        length = np.linalg.norm(field, axis=1, keepdims=True)
        shown = field / np.maximum(length, 1e-9) * np.minimum(1.0, 0.35 + 0.25 * length)  # long ones cut
        arrows.set_UVC(*shown.T)
        points.set_data(*x.T)
        left, right = float((x[:, 0] < 0).mean()), right_share(sigma, weight, m)
        now.set_data([0, 0], [0, left])
        truth.set_data([1, 1], [0, right])
        return (
            f"{how}, {steps} of {STEPS} steps, noise level {sigma:.2g}: {left:.2f} of the points are on the left; of the "
            f"distribution at this level it is {right:.2f}, and of the data {right_share(0.0, weight, m):.2f}."
        )

    states, levels = walk(how, round(noise, 4), round(weight, 2), round(m, 2))
    alt = (
        f"Left: two clusters of points on a plane, with arrows that point to the nearer one. Right: two bars. By {how} the share "
        f"on the left is {(states[-1][:, 0] < 0).mean():.2f}; it should be {right_share(levels[-1], weight, m):.2f}."
    )
    return Explorer("Two clusters and the score between them", controls, plot, update, alt)


# -- the walk -----------------------------------------------------------------------------------------------------------


def score(x: np.ndarray, sigma: float, weight: float, m: float) -> np.ndarray:
    """The gradient of the log-density of the two clusters with noise of this level, at points (N, 2) (book, eq. 4.9)."""
    variance = SD**2 + sigma**2
    left = 1 / (1 + np.exp(np.clip(2 * m * x[:, :1] / variance, -700, 700)) * (1 - weight) / weight)  # its probability
    mean = np.concatenate([m * (1 - 2 * left), np.zeros_like(left)], axis=1)
    return np.asarray((mean - x) / variance)


def right_share(sigma: float, weight: float, m: float) -> float:
    """The share of the distribution, with noise of this level, that has x_1 < 0."""
    away = m / np.sqrt(SD**2 + sigma**2)
    return float(weight * ndtr(away) + (1 - weight) * ndtr(-away))


@lru_cache(maxsize=128)
def walk(how: str, noise: float, weight: float, m: float) -> Walk:
    """The points after 0, 25, 50, ... steps, and the noise level at each of these."""
    g = np.random.default_rng(4)
    if how == "Langevin":
        x, sigmas = g.standard_normal((WALKERS, 2)) * 4, np.full(STEPS + 1, noise)
        taus = np.full(STEPS, 0.1) * (SD**2 + noise**2)
    else:
        x = g.standard_normal((WALKERS, 2)) * HIGHEST
        sigmas = np.repeat(np.geomspace(HIGHEST, LOWEST, LEVELS), STEPS // LEVELS)
        taus, sigmas = 0.3 * sigmas**2, np.append(sigmas, LOWEST)
    if how == "probability flow":
        sigmas = np.append(np.geomspace(HIGHEST, LOWEST, STEPS), 0.0)
    states = [x]
    for i in range(STEPS):
        s = score(x, sigmas[i], weight, m)
        if how == "probability flow":
            x = x + (sigmas[i] - sigmas[i + 1]) * sigmas[i] * s  # dx/dsigma = -sigma s
        else:
            x = x + taus[i] * s + np.sqrt(2 * taus[i]) * g.standard_normal(x.shape)
        if (i + 1) % EVERY == 0:
            states.append(x)
    return np.array(states), tuple(float(sigma) for sigma in sigmas[::EVERY])
