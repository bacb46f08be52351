"""The whole forward chain as a film: digits walked from x_0 to x_T, and what is left of them (chapter 1)."""

import ipywidgets as widgets
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
PATH, STRANGERS = "one path", "strangers"


def chain(schedule: Schedule, x0: Tensor, t: int | None = None, seed: int = 0) -> None:
    """Explore the forward chain as a film: images at time t, what is left of them, and the squares of the two weights over
    all t. A slider for t, and a menu for how the frames are made: "one path" walks from x_0 to x_T, step by step (book, eq.
    4.1); "strangers" jumps from x_0 to every frame, with noise of its own (book, eq. 1.6).

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
    sheet = image_rows(film_ax, ["x_t", "√ᾱ_t x_0"], x0)
    times, share = np.arange(schedule.T + 1), schedule.alpha_bar.numpy()
    share_ax.fill_between(times, 0, share, color=plots.SKY, alpha=0.5, lw=0)
    share_ax.fill_between(times, share, 1, color="#e6e6e6", lw=0)
    share_ax.plot(times, share, color=plots.BLUE)
    share_ax.text(0.02, 0.12, "image: ᾱ_t", transform=share_ax.transAxes)
    share_ax.text(0.98, 0.78, "noise: 1 - ᾱ_t", transform=share_ax.transAxes, ha="right")
    share_ax.set(
        xlim=(-0.01 * schedule.T, 1.01 * schedule.T), ylim=(0, 1), xlabel="t", title="the two weights in x_t, squared"
    )
    share_ax.xaxis.get_major_locator().set_params(integer=True)
    share_ax.grid(False)
    marker = share_ax.axvline(start, color=plots.RED, lw=1.6)
    plot = LivePlot(figure, [sheet, marker])
    controls: dict[str, widgets.Widget] = {
        "film": dropdown("film", [PATH, STRANGERS]),
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
        f"One path: x_{t} is x_{t - 1} after one more step"
        if film == PATH
        else f"Strangers: x_{t} and x_{t - 1} have both jumped from x_0, each with noise of its own"
    )
    return f"{weights}<br>{made}. The noises in the two have correlation {round(shared, 2) + 0:.2f}."
