"""A codebook in the plane (chapter 17): points, their nearest codes, and how the codes move, die and are put back."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, dropdown, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

POINTS, CODES, MOST = 400, 16, 30
EDGE = 3.6
STARTS = {"far": "far away, in a corner", "points": "on points of the data"}
RESTARTS = {"off": "leave them", "on": "restart them"}


def codebook(step: int = 0, gamma: float = 0.5, start: str = "far", dead: str = "off") -> None:
    """400 points of the plane and a codebook of 16 codes, which moves towards the means of their points.

    step: a slider for the number of updates, 0..30; gamma: a slider for the decay of the moving averages (book, eq. 17.6), 0 is
    k-means; start: where the codes begin, "far" or "points"; dead: what becomes of a code that has no points, "off" or "on": it
    is put on a point."""
    build_codebook(step, gamma, start, dead).show()


def build_codebook(step: int = 0, gamma: float = 0.5, start: str = "far", dead: str = "off") -> Explorer:
    """The explorer of `codebook`, not yet shown."""
    check_range({"step": (step, 0, MOST), "gamma": (gamma, 0, 0.95)})
    for name, value, known in (("start", start, STARTS), ("dead", dead, RESTARTS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    figure, ax = plots.subplots(size=(5.0, 4.7))
    ax.set(
        xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", xlabel="first coordinate", ylabel="second coordinate"
    )
    (lines,) = ax.plot([], [], color="#c9c9c9", lw=0.7)
    ax.plot(*points().T, ls="", marker="o", ms=2.4, color="#777777")
    (used,) = ax.plot([], [], ls="", marker="o", ms=8, mec="white", color=plots.BLUE)
    (unused,) = ax.plot([], [], ls="", marker="x", ms=8, mew=2, color=plots.RED)
    plot = LivePlot(figure, [lines, used, unused])
    controls: dict[str, widgets.Widget] = {
        "step": int_slider("step", step, 0, MOST),
        "gamma": float_slider("γ", gamma, 0.0, 0.95, 0.05),
        "start": dropdown("start", [(words, name) for name, words in STARTS.items()], value=start),
        "dead": dropdown("dead", [(words, name) for name, words in RESTARTS.items()], value=dead),
    }

    def update(step: int, gamma: float, start: str, dead: str) -> str:
        codes = path(round(gamma, 2), start, dead)[step]
        k = nearest(codes)
        n = np.bincount(k, minlength=CODES)
        segments = np.stack([points(), codes[k], np.full_like(points(), np.nan)], axis=1).reshape(-1, 2)
        lines.set_data(*segments.T)
        used.set_data(*codes[n > 0].T)
        unused.set_data(*codes[n == 0].T)
        distortion = ((points() - codes[k]) ** 2).sum(1).mean()
        return (
            f"Step {step}: mean squared distance {distortion:.3f}; {int((n > 0).sum())} of {CODES} codes in use, perplexity "
            f"{spread(n):.1f}."
        )

    alt = (
        f"{POINTS} grey points in five clusters, each joined to its nearest code by a thin line. Blue dots are codes in use, red "
        "crosses codes without a point. At the beginning all codes lie in the upper right corner, and most of them are crosses."
    )
    return Explorer("A codebook in the plane", controls, plot, update, alt)


@lru_cache(maxsize=1)
def points() -> np.ndarray:
    """Five clusters of different sizes, always the same, (POINTS, 2)."""
    rng = np.random.default_rng(3)
    centres = np.array([[-2.0, -1.6], [-1.8, 1.7], [0.2, 0.1], [1.9, -1.9], [2.1, 1.2]])
    which = rng.choice(5, POINTS, p=[0.35, 0.2, 0.2, 0.15, 0.1])
    return centres[which] + 0.45 * rng.standard_normal((POINTS, 2))


def nearest(codes: np.ndarray) -> np.ndarray:
    """The nearest code of each point, (POINTS,)."""
    return ((points()[:, None] - codes) ** 2).sum(2).argmin(1)


@lru_cache(maxsize=100)
def path(gamma: float, start: str, dead: str) -> np.ndarray:
    """The codebook after 0..MOST updates of the moving averages over all points, (MOST + 1, CODES, 2). A code begins with the
    count of an even share."""
    rng = np.random.default_rng(5)
    codes = (
        2.9 + 0.25 * rng.standard_normal((CODES, 2)) if start == "far" else points()[rng.choice(POINTS, CODES, False)]
    )
    count = np.full(CODES, POINTS / CODES)
    total, found = count[:, None] * codes, [codes]
    for _ in range(MOST):
        k = nearest(codes)
        n = np.bincount(k, minlength=CODES)
        s = np.zeros((CODES, 2))
        np.add.at(s, k, points())
        count, total = gamma * count + (1 - gamma) * n, gamma * total + (1 - gamma) * s
        codes = np.where(count[:, None] > 1e-9, total / np.maximum(count, 1e-9)[:, None], codes)
        if dead == "on" and (gone := n == 0).any():
            codes[gone] = points()[rng.choice(POINTS, int(gone.sum()), False)]
            count[gone] = 1.0
            total[gone] = codes[gone]
        found.append(codes)
    return np.stack(found)


def spread(n: np.ndarray) -> float:
    """The perplexity of counts."""
    share = n[n > 0] / n.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
