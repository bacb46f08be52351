"""The forward process, to be moved through (chapter 1): digits walked from x_0 to x_T as a film, and a data set of points in
the plane that dissolves into noise."""

import ipywidgets as widgets
import matplotlib
import numpy as np
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_images, check_range, dropdown, int_slider
from diffnotes.book.explorers.films import image_rows, stacked
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.forward import q_sample, q_step
from diffnotes.process.parameterize import eps_from_x0
from diffnotes.process.schedules import Schedule

MOST = 8  # images side by side
PATH, JUMPED = "walked", "jumped"
SPIRAL, MOONS = "a spiral", "two moons"
POINTS, SHADES = 1200, 24  # of a cloud, and their colours, along the data
MARKED = (150, 600, 1050)  # the points whose paths are drawn
BINS = np.linspace(-3.2, 3.2, 33)


def chain(schedule: Schedule, x0: Tensor, t: int | None = None, seed: int = 0) -> None:
    """Explore the forward chain as a film: images at time t, what is left of them, and the squares of the two weights over
    all t. A slider for t, and a menu for how the frames are made: "walked" goes from x_0 to x_T, step by step (book, eq.
    1.1); "jumped" goes from x_0 to every frame, with noise of its own (book, eq. 1.6).

    x0: 1 to 8 images (B, C, H, W), grey or in colour, values in [-1, 1]. t: where the slider begins, 0..T; at 0.3 T unless
    given."""
    build_chain(schedule, x0, t, seed).show()


def build_chain(schedule: Schedule, x0: Tensor, t: int | None = None, seed: int = 0) -> Explorer:
    """The explorer of `chain`, not yet shown."""
    check_images("x0", x0, MOST)
    start = round(0.3 * schedule.T) if t is None else t
    check_range({"t": (start, 0, schedule.T)})
    g = torch.Generator().manual_seed(seed)
    noises = torch.randn(schedule.T + 1, *x0.shape, generator=g, dtype=x0.dtype)  # entry 0 is not used
    path = walk(schedule, x0, noises)

    figure, (film_ax, share_ax) = plots.subplots(2, 1, size=(6.0, 4.6), height_ratios=(2.3, 1))
    sheet = image_rows(film_ax, [r"$\mathbf{x}_t$", r"$\sqrt{\bar\alpha_t}\,\mathbf{x}_0$"], x0)
    times, share = np.arange(schedule.T + 1), schedule.alpha_bar.numpy()
    share_ax.fill_between(times, 0, share, color=plots.SKY, alpha=0.5, lw=0)
    share_ax.fill_between(times, share, 1, color="#e6e6e6", lw=0)
    share_ax.plot(times, share, color=plots.BLUE)
    share_ax.text(0.02, 0.12, r"image: $\bar\alpha_t$", transform=share_ax.transAxes)
    share_ax.text(0.98, 0.78, r"noise: $1-\bar\alpha_t$", transform=share_ax.transAxes, ha="right")
    share_ax.set(
        xlim=(-0.01 * schedule.T, 1.01 * schedule.T),
        ylim=(0, 1),
        xlabel="t",
        title=r"the two weights in $\mathbf{x}_t$, squared",
    )
    share_ax.xaxis.get_major_locator().set_params(integer=True)
    share_ax.grid(False)
    marker = share_ax.axvline(start, color=plots.RED, lw=1.6)
    plot = LivePlot(figure, [sheet, marker])
    controls: dict[str, widgets.Widget] = {
        "film": dropdown("film", [PATH, JUMPED]),
        "t": int_slider("t", start, 0, schedule.T),
    }

    def frame(film: str, t: int) -> Tensor:
        return path[t] if film == PATH else q_sample(schedule, x0, t, noises[t])

    def update(film: str, t: int) -> str:
        x_t, left = frame(film, t), q_sample(schedule, x0, t, torch.zeros_like(x0))
        sheet.set_data(stacked([x_t, left]))
        marker.set_xdata([t, t])
        shared = None if t < 2 else correlation(schedule, x0, frame(film, t - 1), x_t, t)
        return _reading(schedule, film, t, shared)

    alt = (
        f"Above, {len(x0)} images at t = {start}, noisy, and under each what is left of it, the image with a weight below 1 and "
        "no noise. Below, over t, the squared weight of the image falls from 1 to "
        f"{schedule.alpha_bar[-1].item():.1g}, and that of the noise takes its place."
    )
    return Explorer("The whole chain as a film", controls, plot, update, alt)


def cloud(schedule: Schedule, t: int | None = None, seed: int = 0) -> None:
    """Explore a whole data set under the forward process: 1,200 points in the plane at time t, each walked from x_0 to x_T
    (book, eq. 1.1) and coloured by its place in the data, three of them with their paths; and beside them the histogram of
    their first coordinate (book, eq. 1.11), with the standard normal density.

    A menu for the data, a spiral or two moons, with mean 0 and variance 1 in either coordinate; a slider for t, 0..T, which
    begins at 0.08 T unless given."""
    build_cloud(schedule, t, seed).show()


def build_cloud(schedule: Schedule, t: int | None = None, seed: int = 0) -> Explorer:
    """The explorer of `cloud`, not yet shown."""
    start = round(0.08 * schedule.T) if t is None else t
    check_range({"t": (start, 0, schedule.T)})
    g = torch.Generator().manual_seed(seed)
    noises = torch.randn(schedule.T + 1, POINTS, 2, generator=g, dtype=torch.float64)
    gathered = walk(schedule, torch.zeros(POINTS, 2, dtype=torch.float64), noises).numpy()  # the noise in x_t
    clouds = {SPIRAL: spiral(), MOONS: moons()}
    left = schedule.alpha_bar.numpy()
    paths = {name: np.sqrt(left)[:, None, None] * x0[list(MARKED)] + gathered[:, MARKED] for name, x0 in clouds.items()}

    figure, (plane, side) = plots.subplots(1, 2, size=(8.0, 4.3), width_ratios=(1.25, 1))
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 1, SHADES))
    # a line of markers for each shade: drawn more quickly than points with a colour each
    dots = [plane.plot([], [], "o", color=shade, ms=2.6, mew=0)[0] for shade in shades]
    trails = [plane.plot([], [], color="#333333", lw=0.7)[0] for _ in MARKED]
    (heads,) = plane.plot([], [], "o", color=plots.RED, ms=7, mec="white", mew=1.2)
    plane.set(xlim=(-3, 3), ylim=(-3, 3), aspect="equal", xlabel="first coordinate", ylabel="second coordinate")
    plane.set_title("the points, $\\mathbf{x}_t$")
    bars = side.stairs(np.zeros(len(BINS) - 1), BINS, fill=True, color=plots.SKY)
    at = np.linspace(-3.2, 3.2, 200)
    (bell,) = side.plot(at, np.exp(-(at**2) / 2) / np.sqrt(2 * np.pi), color=plots.ORANGE, ls="--", label="N(0, 1)")
    side.set(xlim=(-3.2, 3.2), ylim=(0, 0.8), xlabel="first coordinate", ylabel="density")
    side.set_title("their first coordinate")
    side.legend(loc="upper right")
    plot = LivePlot(figure, [bars, bell, *dots, *trails, heads])
    controls: dict[str, widgets.Widget] = {
        "data": dropdown("data", list(clouds)),
        "t": int_slider("t", start, 0, schedule.T),
    }

    def update(data: str, t: int) -> str:
        x0 = clouds[data]
        x_t = np.sqrt(left[t]) * x0 + gathered[t]
        for group, points in zip(dots, np.split(x_t, SHADES), strict=True):
            group.set_data(points.T)
        for trail, path in zip(trails, paths[data].transpose(1, 2, 0), strict=True):
            trail.set_data(path[:, : t + 1])
        heads.set_data(x_t[list(MARKED)].T)
        bars.set_data(np.histogram(x_t[:, 0], BINS)[0] / (POINTS * (BINS[1] - BINS[0])))
        return _moments(t, left[t], np.cov(x0.T, bias=True), np.cov(x_t.T, bias=True))

    alt = (
        f"Left, {POINTS:,} points of a spiral in the plane at t = {start}, coloured from its inner end to its outer one and "
        "blurred by noise, and three jagged paths from where they began. Right, the histogram of their first coordinate, and "
        "the standard normal density."
    )
    return Explorer("A data set becomes noise", controls, plot, update, alt)


def spiral() -> np.ndarray:
    """1,200 points along a spiral of nearly two turns (N, 2), from inside; mean 0, and covariance exactly the identity."""
    angle = 0.6 + 3.5 * np.pi * np.sqrt((np.arange(POINTS) + 0.5) / POINTS)
    x = np.stack([angle * np.cos(angle), angle * np.sin(angle)], axis=1)
    x -= x.mean(0)
    return np.linalg.solve(np.linalg.cholesky(np.cov(x.T, bias=True)), x.T).T


def moons() -> np.ndarray:
    """1,200 points of two moons (N, 2), one after the other; mean 0, and variance 1 in either coordinate."""
    angle = np.pi * (np.arange(POINTS // 2) + 0.5) / (POINTS // 2)
    upper = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    x = np.concatenate([upper, [1, 0.5] - upper]) + 0.05 * np.random.default_rng(0).standard_normal((POINTS, 2))
    return (x - x.mean(0)) / x.std(0)


def walk(schedule: Schedule, x0: Tensor, noises: Tensor) -> Tensor:
    """One path x_0, ..., x_T by single steps (book, eq. 1.1), with noises[t] as the noise of step t: (T + 1, *x0.shape)."""
    path = [x0]
    for t in range(1, schedule.T + 1):
        path.append(q_step(schedule, path[-1], t, noises[t]))
    return torch.stack(path)


def correlation(schedule: Schedule, x0: Tensor, before: Tensor, x_t: Tensor, t: int) -> float:
    """The correlation, over all pixels, of the accumulated noises in x_{t-1} and x_t (t >= 2), read off by (book, eq. 1.9)."""
    noises = eps_from_x0(schedule, x0, before, t - 1), eps_from_x0(schedule, x0, x_t, t)
    return torch.corrcoef(torch.stack([noise.flatten() for noise in noises]))[0, 1].item()


def _reading(schedule: Schedule, film: str, t: int, shared: float | None) -> str:
    image, noise = schedule.alpha_bar[t].sqrt().item(), (1 - schedule.alpha_bar[t]).sqrt().item()
    weights = f"t = {t}: the image enters with weight {image:.2f}, the noise with {noise:.2f}."
    if shared is None:
        return f"{weights}<br>{'There is no noise yet.' if t == 0 else 'Here is the first noise.'}"
    made = (
        f"Walked: x_{t} is x_{t - 1} after one more step"
        if film == PATH
        else f"Jumped: x_{t} and x_{t - 1} have both jumped from x_0, each with noise of its own"
    )
    return f"{weights}<br>{made}. The noises in the two have correlation {round(shared, 2) + 0:.2f}."


def _moments(t: int, left: float, before: np.ndarray, now: np.ndarray) -> str:
    """The covariance matrix of the points at time t, and what (1.10) says of it."""
    expected = left * before + (1 - left) * np.eye(2)

    def in_words(matrix: np.ndarray) -> str:
        (a, c), (_, b) = np.round(matrix, 2) + 0.0
        return f"variances {a:.2f} and {b:.2f}, covariance {c:.2f}"

    return (
        f"t = {t}: the data enter with weight {left**0.5:.2f}, the noise with {(1 - left) ** 0.5:.2f}.<br>"
        f"The points have {in_words(now)}; by (1.10): {in_words(expected)}."
    )
