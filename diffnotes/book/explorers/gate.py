"""A gate for walkers (chapter 2): of those who start at x_0 and pass it at time t, where were they one step before?"""

import math

import ipywidgets as widgets
import numpy as np
import torch

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

WALKERS = 200_000
DRAWN = 40  # paths of walkers that pass, and twice as many of all
WIDTH = 0.1  # of the gate
LINE = (-2.4, 2.4)  # the part of the number line that is drawn
REACH = 1.6  # where the gate may stand: -1.6..1.6
MOST = 50  # steps: each of them is to be seen
BARS = 60
FEW = 100  # walkers are too few for a histogram


def gate(schedule: Schedule, t: int | None = None, x_t: float = -0.4, x_0: float = 0.8) -> None:
    """Move a gate through which 200,000 walkers may pass at time t, all of which start at x_0: the paths of those that pass,
    the histogram of where they were one step before, and on it the posterior q(x_{t-1} | x_t, x_0) (book, eq. 2.7).

    Sliders for t in 2..T (half of T unless given) and the gate's place x_t in -1.6..1.6; a schedule of 2 to 50 steps."""
    build_gate(schedule, t, x_t, x_0).show()


def build_gate(schedule: Schedule, t: int | None = None, x_t: float = -0.4, x_0: float = 0.8) -> Explorer:
    """The explorer of `gate`, not yet shown."""
    if not 2 <= schedule.T <= MOST:
        raise ValueError(f"schedule must have 2..{MOST} steps, so that each can be seen, got {schedule.T}")
    t = max(2, schedule.T // 2) if t is None else t
    check_range({"t": (t, 2, schedule.T), "x_t": (x_t, -REACH, REACH), "x_0": (x_0, -1, 1)})
    paths = walk(schedule, x_0)

    figure, (left, right) = plots.subplots(1, 2, size=(8.6, 3.7), sharey=True, width_ratios=[1.5, 1])
    left.plot(paths[:, : 2 * DRAWN], color="#bbbbbb", lw=0.5)
    (passing,) = left.plot([], [], color=plots.ORANGE, lw=0.8)
    (wall,) = left.plot([], [], color=plots.BLACK, lw=3, solid_capstyle="butt")
    left.set(xlim=(-0.3, schedule.T + 0.3), ylim=LINE, xlabel="t", ylabel="$x_t$")
    left.set_title(f"walkers from $x_0={x_0:g}$, and a gate")
    left.xaxis.get_major_locator().set_params(integer=True)
    edges = np.linspace(*LINE, BARS + 1)
    bars = [
        right.stairs(np.zeros(BARS), edges, orientation="horizontal", fill=True, color=colour, alpha=alpha, label=name)
        for name, colour, alpha in (("all walkers", "#bbbbbb", 0.8), ("those that pass the gate", plots.ORANGE, 0.7))
    ]
    (level,) = right.plot([], [], color=plots.BLACK, lw=1.2, ls=":", label="the gate")
    (curve,) = right.plot([], [], color=plots.BLACK, label="$q(x_{t-1}|x_t,x_0)$, computed")
    right.set(xlim=(0, 1.3), xticks=[], xlabel="density (the curve's top is 1)")
    right.set_title("where they were one step before")
    right.legend(loc="upper right", fontsize=8)
    plot = LivePlot(figure, [passing, wall, *bars, level, curve])
    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, 2, schedule.T),
        "x_t": float_slider("x_t", x_t, -REACH, REACH, 0.05),
    }
    x = np.linspace(*LINE, 600)

    def update(t: int, x_t: float) -> str:
        passed = np.flatnonzero(np.abs(paths[t] - x_t) < WIDTH / 2)
        passing.set_data(*_one_line(paths[: t + 1, passed[:DRAWN]]))
        wall.set_data([t, t, math.nan, t, t], [LINE[0], x_t - WIDTH / 2, math.nan, x_t + WIDTH / 2, LINE[1]])
        level.set_data([0, 1.3], [x_t, x_t])
        mean, variance = bell(schedule, t, x_t, x_0)
        top = 1 / math.sqrt(2 * math.pi * variance)
        for patch, walkers in zip(bars, (paths[t - 1], paths[t - 1, passed]), strict=True):
            counts = np.histogram(walkers, edges)[0]
            patch.set_data(counts / max(len(walkers), 1) / (edges[1] - edges[0]) / top, edges)
        curve.set_data(np.exp(-((x - mean) ** 2) / (2 * variance)), x)
        return _reading(t, x_t, paths[t - 1], passed, mean, variance)

    mean, variance = bell(schedule, t, x_t, x_0)
    alt = (
        f"Left: grey paths fan out from {x_0:g}, and a wall with a gate at {x_t:g} stands at t = {t}; orange paths pass it. "
        f"Right, one step before: a wide grey histogram of all walkers, an orange one of those that pass, around {mean:.2f}, "
        f"with standard deviation {math.sqrt(variance):.2f}, and on it a curve that fits."
    )
    return Explorer("A gate", controls, plot, update, alt)


def walk(schedule: Schedule, x_0: float) -> np.ndarray:
    """(T + 1, WALKERS): every walker at every time, by the steps of (book, eq. 1.1)."""
    noise = np.random.default_rng(5)
    paths = np.full((schedule.T + 1, WALKERS), x_0, dtype=np.float32)
    for t in range(1, schedule.T + 1):
        z = noise.standard_normal(WALKERS, dtype=np.float32)
        paths[t] = schedule.alpha[t].sqrt().item() * paths[t - 1] + schedule.beta[t].sqrt().item() * z
    return paths


def bell(schedule: Schedule, t: int, x_t: float, x_0: float) -> tuple[float, float]:
    """Mean and variance of q(x_{t-1} | x_t, x_0) (book, eq. 2.7)."""
    start, present = (torch.tensor([[value]], dtype=torch.float64) for value in (x_0, x_t))
    mean, variance = q_posterior(schedule, start, present, t)
    return mean.item(), variance.item()


def _one_line(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paths (times, number) as one broken line, which is drawn faster than many."""
    times, number = paths.shape
    gap = np.full((1, number), np.nan)
    x = np.tile(np.append(np.arange(times, dtype=float), np.nan), number)
    return x, np.concatenate([paths, gap]).T.ravel()


def _reading(t: int, x_t: float, before: np.ndarray, passed: np.ndarray, mean: float, variance: float) -> str:
    reading = (
        f"The gate stands at {x_t:.2f} at t = {t}; {len(passed):,} of {WALKERS:,} walkers pass. At t = {t - 1} all walkers have "
        f"mean {before.mean():.3f} and standard deviation {before.std():.3f}"
    )
    computed = f"computed: {mean:.3f} and {math.sqrt(variance):.3f}"
    if len(passed) < FEW:
        return f"{reading}.<br>Too few pass for a histogram: hardly any path leads there. Those of more walkers, {computed}."
    there = before[passed]
    return f"{reading},<br>those that pass {there.mean():.3f} and {there.std():.3f}; {computed}."
