"""Several ways to estimate one number, and how far their estimates scatter (chapter 11: the bound, by log-ratios or by KLs)."""

import math
from collections.abc import Mapping

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import dropdown, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

LARGEST = 100  # draws in one mean
DOTS = 200  # means of each way that are drawn, at most
FAR, NEAR = 30.0, 2.5  # the two panels show this many nats on either side of the truth
COLOURS = plots.RED, plots.ORANGE, plots.SKY, plots.BLUE
Ways = Mapping[str, Tensor]


def estimators(estimates: Mapping[int, Ways], truth: float) -> None:
    """Ways of estimating the same number, each with its cloud: a point is the mean of n draws, a slider sets n in 1..100.

    estimates: for each T, in nats, the single draws by each way's name: 2 to 4 ways, those of one T with equally many draws,
    at least 200. truth: what all of them estimate. The reading compares the first way with the last."""
    build_estimators(estimates, truth).show()


def build_estimators(estimates: Mapping[int, Ways], truth: float) -> Explorer:
    """The explorer of `estimators`, not yet shown."""
    names = _names(estimates)
    figure, (wide, near) = plots.subplots(1, 2, size=(7.6, 3.4), sharey=True, width_ratios=[1.25, 1])
    rows = list(range(len(names)))[::-1]  # the first way stands at the top
    clouds, bars = [], []
    for ax, reach, title in ((wide, FAR, "one point, one estimate"), (near, NEAR, "the same, magnified")):
        ax.axvline(truth, color=plots.BLACK, lw=1, ls=":")
        ax.set(xlim=(truth - reach, truth + reach), ylim=(-0.6, len(rows) - 0.4), xlabel="nats", title=title)
        ax.set_yticks(rows, names)
        ax.tick_params(left=False)
        ax.grid(False)
        for colour in COLOURS[: len(names)]:
            clouds.append(ax.plot([], [], ".", color=colour, ms=4, alpha=0.6)[0])
            bars.append(ax.plot([], [], color=plots.BLACK, marker="|", ms=12, lw=1.6)[0])
    plot = LivePlot(figure, [*clouds, *bars])
    jitter = 0.3 * (2 * torch.rand(len(rows), DOTS, generator=torch.Generator().manual_seed(0)) - 1).numpy()

    def update(T: int, n: int) -> str:
        draws = list(estimates[T].values())
        errors = [values.std().item() / math.sqrt(n) for values in draws]
        for i, row in enumerate(rows):
            means = draws[i][: len(draws[i]) // n * n].reshape(-1, n).mean(1)[:DOTS].numpy()
            for panel in (0, len(rows)):
                clouds[panel + i].set_data(means, row + jitter[i, : len(means)])
                bars[panel + i].set_data([truth - errors[i], truth + errors[i]], [row, row])
        return _reading(names, T, n, errors)

    controls: dict[str, widgets.Widget] = {"T": dropdown("T", list(estimates)), "n": int_slider("n", 1, 1, LARGEST)}
    first = next(iter(estimates))
    closest, *_, widest = sorted(names, key=lambda name: estimates[first][name].std())
    alt = (
        f"{len(names)} rows of points around the same dotted line, for T = {first} and single draws. The row of {widest!r} is "
        f"spread widest, that of {closest!r} lies closest to the line; each has a bar of one standard error to either side. "
        "Right, the part around the line, magnified."
    )
    return Explorer("The same number, estimated in several ways", controls, plot, update, alt)


def _names(estimates: Mapping[int, Ways]) -> list[str]:
    """The names of the ways, after a look at the estimates."""
    if not estimates:
        raise ValueError("estimates must hold the draws of at least one T, got none")
    names = list(next(iter(estimates.values())))
    if not 2 <= len(names) <= len(COLOURS):
        raise ValueError(f"estimates must hold 2 to {len(COLOURS)} ways for each T, got {len(names)}")
    for T, ways in estimates.items():
        if list(ways) != names:
            raise ValueError(
                f"estimates must have the same ways for each T, got {names} and, for T = {T}, {list(ways)}"
            )
        for name, values in ways.items():
            if values.ndim != 1 or len(values) < 2 * LARGEST:
                raise ValueError(
                    f"estimates must hold at least {2 * LARGEST} draws of each way in one dimension, "
                    f"got shape {tuple(values.shape)} for {name!r}, T = {T}"
                )
    return names


def _reading(names: list[str], T: int, n: int, errors: list[float]) -> str:
    ratio = errors[0] / errors[-1]
    each = " · ".join(f"{name} {error:.3f}" for name, error in zip(names, errors, strict=True))
    drawn = "a single draw" if n == 1 else f"the mean of {n} draws"
    return (
        f"T = {T}, {drawn}; standard error in nats: {each}.<br>"
        f"The first is {ratio:.1f} times as large as the last, and that does not depend on n: to be as sure, the first way "
        f"needs {ratio**2:.0f} times as many draws."
    )
