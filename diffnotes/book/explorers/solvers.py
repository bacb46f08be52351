"""A race of the solvers (chapter 14): exact curves of data on a line, a solver's steps, and its error against calls."""

import math
from functools import lru_cache

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof import line
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import HIGHEST, LOWEST, karras_times, noise_level

DATA = line.Mixture()
CURVES = 15
PATHS = 1000  # of the stochastic solver, whose error is that of a distribution
MOST = 40  # calls
COUNTS = (2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 25, 30, 40)  # at which the errors are drawn
ZERO = 0.006  # where the noise level 0 stands on the logarithmic axis
HEIGHT = 2.6  # of the left picture, up and down
ERRORS = (4e-4, 60.0)
LOOKS = {
    "DDIM": (plots.BLUE, "-"),
    "Heun": (plots.ORANGE, "-"),
    "2M": (plots.GREEN, "-"),
    "2M with 1/r": (plots.RED, "--"),
    "SDE-2M": (plots.PURPLE, "-"),
}
GRIDS = {"karras": "Karras", "t": "even in t", "lambda": "even in λ"}


def solvers(solver: str = "2M", calls: int = 8, rho: float = 7) -> None:
    """A race of the solvers, on a mixture on a line with its exact predictions: exact curves in grey, each of which keeps the
    share of the distribution below it (book, eq. 14.1), and the steps of a solver from the same starts; beside it the error
    against the number of calls.

    solver: "DDIM", "Heun", "2M", "2M with 1/r" or "SDE-2M"; sliders for calls in 2..40, and rho in 1..20 of Karras' grid
    (book, eq. 14.8); a menu with two other grids."""
    build_solvers(solver, calls, rho).show()


def build_solvers(solver: str = "2M", calls: int = 8, rho: float = 7) -> Explorer:
    """The explorer of `solvers`, not yet shown."""
    check_range({"calls": (calls, 2, MOST), "rho": (rho, 1, 20)})
    if solver not in LOOKS:
        raise ValueError(f"solver must be one of {', '.join(map(repr, LOOKS))}, got {solver!r}")
    figure, (paths_ax, error_ax) = plots.subplots(1, 2, size=(8.6, 4.0), width_ratios=[1.45, 1])
    levels = np.geomspace(HIGHEST, ZERO, 240)
    paths_ax.plot(levels, _seen(DATA.curves(shares(CURVES), levels), levels), color="#b5b5b5", lw=1.3)
    paths_ax.set(
        xscale="log",
        xlim=(HIGHEST * 1.15, ZERO / 1.15),
        ylim=(-HEIGHT, HEIGHT),
        xlabel="noise level ς_t, logarithmic",
        ylabel="x_t",
        title="exact curves (grey) and the solver's steps",
    )
    paths_ax.set_xticks([80, 10, 1, 0.1, 0.02, ZERO], ["80", "10", "1", "0.1", "0.02", "0"], minor=False)
    (steps,) = paths_ax.plot([], [], lw=1.2, marker="o", ms=3.5)
    for words, counts, first, order, beside in (("1/calls", (16, 40), 1, 1, 1.5), ("1/calls²", (5, 20), 0.03, 2, 0.7)):
        last = first * (counts[0] / counts[1]) ** order
        error_ax.plot(counts, [first, last], color="#999999", lw=1, ls=":")
        error_ax.text(counts[1], beside * last, words, color="#666666", fontsize=8, ha="right", va="center")
    lines = {
        name: error_ax.plot([], [], color=colour, ls=style, lw=1.4, label=name)[0]
        for name, (colour, style) in LOOKS.items()
    }
    (here,) = error_ax.plot([], [], marker="o", ms=8)
    error_ax.set(
        xscale="log",
        yscale="log",
        xlim=(0.9, 46),
        ylim=ERRORS,
        xlabel="calls of the network",
        title="mean distance of the ends",
    )
    error_ax.set_xticks([1, 2, 5, 10, 20, 40], ["1", "2", "5", "10", "20", "40"])
    error_ax.minorticks_off()
    error_ax.legend(loc="upper right", fontsize=8)
    plot = LivePlot(figure, [steps, *lines.values(), here])

    rho_slider = int_slider("ρ", int(rho), 1, 20)
    controls: dict[str, widgets.Widget] = {
        "solver": dropdown("solver", list(LOOKS), value=solver),
        "calls": int_slider("calls", calls, 2, MOST),
        "grid": dropdown("grid", [(words, name) for name, words in GRIDS.items()]),
        "rho": rho_slider,
    }

    def update(solver: str, calls: int, grid: str, rho: int) -> str:
        rho_slider.disabled = grid != "karras"
        where = f"karras {rho}" if grid == "karras" else grid
        path, levels = run(solver, calls, where)
        x, y = np.maximum(levels, ZERO), _seen(path, levels)
        gap = np.full((1, CURVES), np.nan)  # between one path and the next
        steps.set_data(np.tile(np.append(x, np.nan), CURVES), np.concatenate([y, gap]).T.ravel())
        colour, _ = LOOKS[solver]
        steps.set_color(colour)
        for name, drawn in lines.items():
            drawn.set_visible(name == solver or name != "SDE-2M")
            drawn.set_linewidth(2.6 if name == solver else 1.2)
            if drawn.get_visible():
                drawn.set_data(*zip(*errors(name, where), strict=True))
        here.set_data([cost(solver, calls)], [error(solver, calls, where)])
        here.set_color(colour)
        return _reading(solver, calls, where, bool((np.abs(y) > HEIGHT).any()))

    ends = error(solver, calls, f"karras {int(rho)}")
    alt = (
        f"Left: {CURVES} grey curves lead from noise on the left to data in three clusters on the right; the steps of {solver} "
        f"with {cost(solver, calls)} calls lie beside them and end {ends:.2g} away on average. Right: the distance of the ends "
        f"against the number of calls, both logarithmic, for DDIM, Heun, 2M, and 2M with r upside down."
    )
    return Explorer("Race of the solvers", controls, plot, update, alt)


# -- what is drawn ------------------------------------------------------------------------------------------------------


def cost(solver: str, calls: int) -> int:
    """The calls that a solver makes when it may make so many: Heun needs an odd number, two for each step but the last."""
    return 2 * ((calls + 1) // 2) - 1 if solver == "Heun" else calls


@lru_cache(maxsize=512)
def grid_levels(steps: int, grid: str) -> np.ndarray:
    """Falling noise levels, the last of them 0. grid: "karras 7", for that rho; "lambda"; or "t", evenly over the times of the
    cosine schedule from the one whose level is `HIGHEST`."""
    if grid == "t":
        schedule = Schedule.cosine()
        start = int(karras_times(schedule, 1)[0])
        return noise_level(schedule)[schedule.subsequence(steps, start=start).flip(0)].numpy()
    rho = math.inf if grid == "lambda" else float(grid.split()[1])
    return line.karras(steps, rho, HIGHEST, LOWEST)


def shares(paths: int) -> np.ndarray:
    """The shares of the distribution that lie below so many curves, evenly."""
    return (np.arange(paths) + 0.5) / paths


@lru_cache(maxsize=8)
def exact(paths: int, level: float) -> np.ndarray:
    """Where so many exact curves are at a noise level."""
    return DATA.curves(shares(paths), np.array([level]))[0]


@lru_cache(maxsize=2)
def fresh(paths: int) -> np.ndarray:
    """The noise of the stochastic solver's steps, always the same."""
    return np.random.default_rng(0).standard_normal((MOST, paths))


def run(solver: str, calls: int, grid: str, paths: int = CURVES) -> tuple[np.ndarray, np.ndarray]:
    """The paths of x_t / a from where the exact curves begin, (levels, paths), and the levels."""
    levels = grid_levels((cost(solver, calls) + 1) // 2 if solver == "Heun" else calls, grid)
    start = exact(paths, float(levels[0]))
    if solver == "Heun":
        return line.heun(DATA, levels, start), levels
    if solver == "SDE-2M":
        return line.dpm_solver(DATA, levels, start, noise=fresh(paths)), levels
    ratio = line.ratio_of_steps if solver == "2M" else lambda before, t, s: 1 / line.ratio_of_steps(before, t, s)
    return line.dpm_solver(DATA, levels, start, 1 if solver == "DDIM" else 2, ratio), levels


@lru_cache(maxsize=4096)
def error(solver: str, calls: int, grid: str) -> float:
    """The mean distance of the ends from those of the exact curves; for SDE-2M, whose paths follow no curve, that of 1,000
    ends in their order from the exact quantiles: how far the distribution is from the data's (the 1-Wasserstein distance)."""
    paths = PATHS if solver == "SDE-2M" else CURVES
    (*_, ends), _ = run(solver, calls, grid, paths)
    return float(np.abs((np.sort(ends) if solver == "SDE-2M" else ends) - exact(paths, 0.0)).mean())


@lru_cache(maxsize=128)
def errors(solver: str, grid: str) -> list[tuple[int, float]]:
    """Calls and error, for all of COUNTS."""
    return [(cost(solver, calls), error(solver, calls, grid)) for calls in COUNTS]


@lru_cache(maxsize=1)
def by_chance() -> float:
    """The expected distance of 1,000 draws from the data's own distribution: the integral of E|F_N - F|."""
    x = np.linspace(-4, 4, 4001)
    F = DATA.cdf(x, 0.0)
    return float(np.sqrt(2 * F * (1 - F) / (math.pi * PATHS)).sum() * (x[1] - x[0]))


def _seen(x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """x_t of x_t / a: times a = 1 / sqrt(1 + varsigma^2)."""
    return x / np.sqrt(1 + levels[:, None] ** 2)


def _reading(solver: str, calls: int, grid: str, outside: bool) -> str:
    made, off = cost(solver, calls), error(solver, calls, grid)
    steps = f", {(made + 1) // 2} steps" if solver == "Heun" else ""
    name, *rho = grid.split()
    where = f"Karras' grid with ρ = {rho[0]}" if rho else f"times {GRIDS[name]}"
    reading = f"{solver}{steps}, {made} call{'s' * (made > 1)}, {where}: "
    if solver == "SDE-2M":
        return (
            f"{reading}with fresh noise in every step no path follows a curve. {PATHS:,} ends, in their order, are {off:.2g} "
            f"away on average from where the data have them; as many draws from the data themselves: {by_chance():.2g}."
        )
    reading += f"the ends of the {CURVES} paths are {off:.2g} away on average from those of the exact curves."
    return f"{reading} Some of them leave the picture." if outside else reading
