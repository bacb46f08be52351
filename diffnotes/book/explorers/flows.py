"""Noise flows into a ring of eight blobs (chapter 15): the straight lines of the pairs, and the lines of the flow."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, dropdown, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof import plane

RING = plane.Ring()
DOTS, LINES, MOST = 400, 12, 50
EDGE = 3.3  # of both pictures
PAIRS = {
    "independent": "independent",
    "transport": "transport, one batch of 400",
    "reflow": "reflowed: the flow's own ends",
}


def flows(t: float = 0.2, steps: int = 50, pairs: str = "independent") -> None:
    """400 dots of noise that flow into a ring of eight blobs. Left, each on the straight line to its partner; right, along the
    marginal velocity of these pairs, in Euler steps. Twelve lines are drawn in full.

    t: a slider for the flow time, from 1 (noise) to 0 (data); steps: Euler steps, 1..50; pairs: a menu. "independent": each
    noise has any data point, and the velocity is exact (book, eq. 15.6). "transport": of all ways to pair these 400 dots the one
    with the smallest cost (book, eq. 15.14). "reflow": the partner of a noise is where the flow of the independent pairs takes
    it (book, eq. 15.13). No two lines of the last two meet, so the velocity at a dot is that of its own pair alone."""
    build_flows(t, steps, pairs).show()


def build_flows(t: float = 0.2, steps: int = 50, pairs: str = "independent") -> Explorer:
    """The explorer of `flows`, not yet shown."""
    check_range({"t": (t, 0, 1), "steps": (steps, 1, MOST)})
    if pairs not in PAIRS:
        raise ValueError(f"pairs must be one of {', '.join(map(repr, PAIRS))}, got {pairs!r}")
    figure, axes = plots.subplots(1, 2, size=(8.2, 4.25))
    colours = [(plots.BLUE, plots.ORANGE, plots.GREEN, plots.PURPLE)[i % 4] for i in range(LINES)]
    drawn, dots, marks = [], [], []
    for ax, title in zip(axes, ("the lines of the pairs", "the lines of the flow"), strict=True):
        ax.set(xlim=(-EDGE, EDGE), ylim=(-EDGE, EDGE), aspect="equal", title=title, xlabel="first coordinate")
        ax.plot(*RING.centres.T, ls="", marker="+", ms=9, color="#b5b5b5")
        (cloud,) = ax.plot([], [], ls="", marker="o", ms=2.2, color="#8c8c8c")
        dots.append(cloud)
        drawn.append([ax.plot([], [], lw=1.3, color=colour)[0] for colour in colours])
        marks.append([ax.plot([], [], ls="", marker="o", ms=6, mec="black", color=colour)[0] for colour in colours])
    axes[0].set_ylabel("second coordinate")
    plot = LivePlot(figure, [*dots, *drawn[0], *drawn[1], *marks[0], *marks[1]])
    controls: dict[str, widgets.Widget] = {
        "t": float_slider("t", t, 0.0, 1.0, 0.02),
        "steps": int_slider("steps", steps, 1, MOST),
        "pairs": dropdown("pairs", [(words, name) for name, words in PAIRS.items()], value=pairs),
    }

    def update(t: float, steps: int, pairs: str) -> str:
        for side, path in enumerate((straight(pairs), followed(pairs, steps))):
            now = at(path, t)
            dots[side].set_data(*now[LINES:].T)
            for i in range(LINES):
                drawn[side][i].set_data(*path[:, i].T)
                marks[side][i].set_data(*now[i : i + 1].T)
        return _reading(t, steps, pairs)

    alt = (
        f"Two pictures of {DOTS} dots at the flow time {t:g}, on the way from a cloud of noise in the middle to eight blobs on a "
        f"circle. Left, the twelve straight lines to the dots' partners cross one another; right, {LINES} lines of the flow lead "
        "from the same noises into blobs near by and hardly cross."
    )
    return Explorer("Noise flows into a ring", controls, plot, update, alt)


# -- what is drawn ------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=3)
def pair(pairs: str) -> tuple[np.ndarray, np.ndarray]:
    """The noises, always the same, and their partners among the data, (DOTS, 2) each."""
    rng = np.random.default_rng(4)
    eps, x0 = rng.standard_normal((DOTS, 2)), RING.draw(DOTS, rng)
    if pairs == "reflow":
        return eps, RING.ends(eps)
    if pairs == "transport":
        return eps, x0[plane.transport(eps, x0)]
    return eps, x0


def straight(pairs: str) -> np.ndarray:
    """The pairs' lines by their two ends, (2, DOTS, 2), noise first."""
    return np.stack(pair(pairs))


@lru_cache(maxsize=200)
def followed(pairs: str, steps: int) -> np.ndarray:
    """The flow in so many Euler steps, (steps + 1, DOTS, 2), noise first."""
    if pairs == "independent":
        return RING.euler(pair(pairs)[0], steps)
    return straight(
        pairs
    )  # no two of these lines meet: each dot keeps the velocity of its pair, in one step as in fifty


def at(path: np.ndarray, t: float) -> np.ndarray:
    """Where a path with even steps from t = 1 to t = 0 is at a time, (DOTS, 2)."""
    place = (1 - t) * (len(path) - 1)
    k = min(int(place), len(path) - 2)
    return np.asarray(path[k] + (place - k) * (path[k + 1] - path[k]))


@lru_cache(maxsize=400)
def crossed(pairs: str, steps: int | None) -> int:
    """How often the twelve lines cross: those of the flow, or without `steps` those of the pairs."""
    path = straight(pairs) if steps is None else followed(pairs, steps)
    return plane.crossings(path[:, :LINES])


def arrived(pairs: str, steps: int) -> float:
    """The share of the dots that end within three standard deviations of a blob's centre."""
    away = np.linalg.norm(followed(pairs, steps)[-1][:, None] - RING.centres, axis=2).min(1)
    return float((away < 3 * RING.sd).mean())


def _reading(t: float, steps: int, pairs: str) -> str:
    eps, x0 = pair(pairs)
    cost, moved = (((end - eps) ** 2).sum(1).mean() for end in (x0, followed(pairs, steps)[-1]))
    step = f"{steps} Euler step{'s' * (steps > 1)}"
    reading = (
        f"t = {t:.2f}. The twelve lines cross {crossed(pairs, None)} times on the left and {crossed(pairs, steps)} on the right. "
        f"Mean squared way: pairs {cost:.2f}, flow {moved:.2f}. After {step} {arrived(pairs, steps):.0%} of the dots "
        "are in a blob."
    )
    if pairs == "independent" and steps == 1:
        return f"{reading} One step: at t = 1 the noise says nothing about its partner, and all dots land on the mean."
    return reading
