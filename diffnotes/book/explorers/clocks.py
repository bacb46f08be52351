"""The time embedding as the hands of clocks that turn at different speeds (chapter 5)."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Circle

from diffnotes.book.explorers.controls import check_range, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.unet import time_embedding
from diffnotes.process.arguments import integer

LATER = 100  # the largest δ


def clocks(t: int = 300, later: int = 20, hands: int = 6, T: int = 1000) -> None:
    """The hands of the time embedding (book, eq. 5.1) at t, and at t + δ: a clock face for each frequency, and below them
    the same numbers as a map over all times, cosines above and sines below, with a line at t and one at t + δ.

    Sliders for t and δ. While t moves, all hands turn, and the angle between the two hands of a face stays (book, eq. 5.2).
    later: the first δ; hands: the number of frequencies; T: the last time."""
    build_clocks(t, later, hands, T).show()


def build_clocks(t: int = 300, later: int = 20, hands: int = 6, T: int = 1000) -> Explorer:
    """The explorer of `clocks`, not yet shown."""
    hands = integer("hands", hands, 1)
    T = integer("T", T, LATER + 1)
    check_range({"t": (t, 1, T - LATER), "later": (later, 0, LATER)})
    embedded = time_embedding(torch.arange(1, T + 1), 2 * hands).double().numpy()
    speeds = 10000.0 ** (-np.arange(hands) / hands)

    figure, axes = plots.subplots(2, hands, size=(1.2 * hands, 3.9), height_ratios=(1.2, 1))
    now, then = [], []
    for ax, speed in zip(axes[0], speeds, strict=True):
        ax.set(xlim=(-1.15, 1.15), ylim=(-1.15, 1.15), aspect="equal")
        ax.set_title(f"{math.tau / speed:,.0f} steps", loc="center", fontsize=11.5)
        ax.axis("off")
        ax.add_patch(Circle((0, 0), 1.08, fc="#f6f6f6", ec="#999999", lw=1.2))
        angles = np.arange(12) * math.tau / 12
        ax.plot(0.98 * np.cos(angles), 0.98 * np.sin(angles), ".", ms=2.5, color="#999999")
        then += ax.plot([0, 0], [0, 0], "-", color=plots.ORANGE, lw=3.2, solid_capstyle="round")
        now += ax.plot([0, 0], [0, 0], "-", color=plots.BLUE, lw=3.2, solid_capstyle="round")
    grid = axes[1, 0].get_gridspec()
    for ax in axes[1]:
        ax.remove()
    below = figure.add_subplot(grid[1, :])
    below.imshow(
        embedded.T,
        cmap="gray",
        vmin=-1,
        vmax=1,
        extent=(0.5, T + 0.5, 2 * hands, 0),
        aspect="auto",
        interpolation="nearest",
    )
    below.set(xlabel="time t", yticks=[hands / 2, 1.5 * hands], yticklabels=["cosines", "sines"])
    below.axhline(hands, color="white", lw=1.5)
    below.grid(False)
    figure.suptitle("One turn takes", x=0.01, ha="left", fontsize=11.5)
    lines = [below.axvline(1, color=colour, lw=2) for colour in (plots.ORANGE, plots.BLUE)]
    plot = LivePlot(figure, [*then, *now, *lines])

    def update(t: int, later: int) -> str:
        for k in range(hands):
            for hand, at in ((now[k], t), (then[k], t + later)):
                hand.set_data([0, embedded[at - 1, k]], [0, embedded[at - 1, hands + k]])
        for line, at in zip(lines, (t + later, t), strict=True):
            line.set_xdata([at, at])
        return reading(embedded, t, later)

    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, 1, T - LATER),
        "later": int_slider("δ", later, 0, LATER),
    }
    alt = (
        f"A row of {hands} clock faces; the hands of the first turn once in {math.tau:.0f} steps, those of the last once in "
        f"{math.tau / speeds[-1]:,.0f}. Each face has a blue hand for t = {t} and an orange one for {later} steps later: they "
        "stand apart on the fast faces and together on the slow ones. Below, a map of the same numbers over all times, cosines "
        "above, sines below: narrow stripes in the first rows of each half, hardly any change in the last."
    )
    return Explorer("The time as the hands of clocks", controls, plot, update, alt)


def reading(embedded: Any, t: int, later: int) -> str:
    """What the two embeddings have in common; `embedded` has a row for each time from 1."""
    inner, distance = (
        embedded[t - 1] @ embedded[t + later - 1],
        np.linalg.norm(embedded[t - 1] - embedded[t + later - 1]),
    )
    return (
        f"Blue: t = {t}. Orange: t + δ = {t + later}. Inner product of the two embeddings {inner:.2f}, of at most "
        f"{embedded.shape[1] // 2}; distance {distance:.2f}. Both depend on δ alone."
    )
