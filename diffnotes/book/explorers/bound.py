"""The bound, counted while t runs (chapter 3): how many nats a step back has cost so far, and what can be seen by then."""

import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import (
    check_images,
    check_range,
    dropdown,
    int_slider,
    noisy_and_estimate,
    shown_pixels,
)
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.elbo import ElboTerms
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import predict
from diffnotes.process.schedules import Schedule

END = 0.45  # where t = 0 stands on the logarithmic axis


def bound(model: Denoiser, schedule: Schedule, images: Tensor, terms: ElboTerms, t: int = 300) -> None:
    """Walk down from T to the image: x_t, the network's estimate of the image, the nats of the bound spent so far, and how far
    the estimate is off. A slider for t, first at the place nearest to `t`, and a menu of the images.

    images: (B, C, H, W), 1 to 16 of them. terms: what elbo_terms(model, schedule, images) gives, every t in it."""
    build_bound(model, schedule, images, terms, t).show()


def build_bound(model: Denoiser, schedule: Schedule, images: Tensor, terms: ElboTerms, t: int = 300) -> Explorer:
    """The explorer of `bound`, not yet shown."""
    check_images("images", images, most=16)
    check_range({"t": (t, 0, schedule.T)})
    every = torch.arange(2, schedule.T + 1)[:, None].expand(-1, len(images))
    if not torch.equal(terms.times, every):
        raise ValueError(
            f"terms must hold t = 2..{schedule.T}, each once, for {len(images)} images, got times of shape "
            f"{tuple(terms.times.shape)}"
        )
    nats = spent(terms)
    times = places(schedule.T)
    noisy, estimates = _walk(model, schedule, images, times)
    errors = (estimates - images).square().mean((2, 3, 4)).sqrt().numpy()  # (places, B); 0 at t = 0
    start = min(range(len(times)), key=lambda place: abs(times[place] - t))

    figure = plots.subplots(1, 1, size=(7.6, 4.0))[0]
    figure.clear()
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 2.6])
    pictures = noisy_and_estimate(figure, grid, images[0], r"$\hat{\mathbf{x}}_\theta$")
    looks = ("nats spent so far", plots.BLUE, nats), (r"RMS error of $\hat{\mathbf{x}}_\theta$", plots.ORANGE, errors)
    lines: list[Any] = []
    for row, (title, colour, table) in enumerate(looks):
        ax = figure.add_subplot(grid[row, 1])
        ticks = [10**k for k in range(int(math.log10(schedule.T)) + 1)]
        ax.set(xscale="log", xlim=(1.15 * schedule.T, 0.85 * END), ylim=(0, 1.05 * table.max()), title=title)
        ax.set_xticks([*ticks, END], [*map(str, ticks), "0"], minor=False)
        ax.minorticks_off()
        lines += [ax.plot([], [], color=colour, lw=1, alpha=0.45)[0], ax.plot([], [], color=colour, lw=2.5)[0]]
        lines += [ax.plot([], [], "o", color=colour)[0]]
    ax.set_xlabel("t, from the noise on the left to the image on the right")
    plot = LivePlot(figure, [*pictures, *lines])
    controls: dict[str, widgets.Widget] = {
        "place": int_slider("down", start, 0, len(times) - 1, readout=False),
        "image": dropdown("image", range(len(images))),
    }
    at = np.array([max(time, END) for time in times])

    def update(place: int, image: int) -> str:
        for picture, x in zip(pictures, (noisy[place], estimates[place]), strict=True):
            picture.set_data(shown_pixels(x[image].clamp(-1, 1).numpy()))
        for three, values in zip((lines[:3], lines[3:]), (nats[times, image], errors[:, image]), strict=True):
            three[0].set_data(at, values)
            three[1].set_data(at[: place + 1], values[: place + 1])
            three[2].set_data(at[place : place + 1], values[place : place + 1])
        return _reading(times[place], nats[:, image], float(errors[place, image]))

    alt = (
        f"Left: a digit under noise at t = {times[start]}, and the network's estimate of the image. Right, over t from noise to "
        f"image: the nats spent so far, {nats[times[start], 0]:.0f} of {nats[0, 0]:.0f} at this t; and by how much a pixel of "
        f"the estimate is off, {errors[start, 0]:.2g} at this t."
    )
    return Explorer("Down from the noise, counting nats", controls, plot, update, alt)


def spent(terms: ElboTerms) -> np.ndarray:
    """(T + 1, B): the nats of the bound that lead from nothing to x_t (book, eq. 3.4): L_T at t = T, L_T + ... + L_t at t >= 1,
    and the whole bound at t = 0."""
    backwards = torch.cat([terms.prior[None], terms.denoising.flip(0), terms.reconstruction[None]])
    return backwards.cumsum(0).flip(0).numpy()


def places(T: int) -> list[int]:
    """The times where the slider stops: T first, evenly spaced down to T / 20, then closer and closer, and 0 at last."""
    even, close = np.linspace(T, T / 20, 20), np.geomspace(max(T / 20, 1), 1, 10)
    stops = {int(t) for t in np.r_[even, close].round()} | {0}
    return sorted(stops, reverse=True)


@torch.no_grad()
def _walk(model: Denoiser, schedule: Schedule, images: Tensor, times: Sequence[int]) -> tuple[Tensor, Tensor]:
    """x_t with the same noise at every time, and the model's estimates; at t = 0 the images themselves."""
    eps = torch.randn(images.shape, generator=torch.Generator().manual_seed(1))
    noisy = [q_sample(schedule, images, t, eps) for t in times[:-1]]
    estimates = [predict(model, schedule, x_t, t)[0] for x_t, t in zip(noisy, times[:-1], strict=True)]
    return torch.stack([*noisy, images]), torch.stack([*estimates, images])


def _reading(t: int, nats: np.ndarray, error: float) -> str:
    whole = nats[0]
    if t == 0:
        return (
            f"t = 0: the image, for {whole:.0f} nats in all; {whole - nats[1]:.0f} of them were L_0, the last step's."
        )
    now = f"{nats[t]:.0f}" if nats[t] >= 9.95 else f"{nats[t]:.1f}"
    return (
        f"t = {t}: {now} of {whole:.0f} nats are spent, {100 * nats[t] / whole:.1f} %. A pixel of the estimate is off by "
        f"{error:.2g} (root mean square, grey values from -1 to 1)."
    )
