"""Where the bits are (chapter 12): a digit under a slider of noise, and below it what a network pays at each noise level."""

import math
from dataclasses import dataclass

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
from diffnotes.process.continuous import gamma, noise_errors
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import predict
from diffnotes.process.schedules import Schedule

PLACES = 33
FIRST, LAST = -10.0, 8.0  # of gamma
WEIGHTS = {"the bound": plots.BLUE, "the simple loss": plots.ORANGE, "min-SNR, 5": plots.GREEN}
HIGHEST = 0.42  # of the curves, share per unit of gamma


@dataclass(frozen=True)
class Bill:
    """What a network pays at each of the places: gamma, times, ||eps - eps_hat||^2 (places, images), and dims."""

    gammas: np.ndarray
    times: list[int]
    errors: Tensor
    dims: int
    schedule: Schedule

    def bits(self) -> np.ndarray:
        """Bits per dimension of the bound for each unit of gamma, in the mean over the images (book, eq. 12.11)."""
        return (self.errors.mean(1) / (2 * self.dims * math.log(2))).numpy()

    def share(self, weight: str) -> np.ndarray:
        """The same error with another weight, as a share of its own integral for each unit of gamma."""
        table = self.errors.mean(1).numpy()
        if weight != "the bound":  # dt / d gamma, by the schedule
            steps = torch.arange(self.schedule.T + 1, dtype=torch.float64)
            table = table * np.gradient(steps[1:].numpy(), gamma(self.schedule)[1:].numpy())[np.array(self.times) - 1]
        if weight == "min-SNR, 5":
            table = table * np.minimum(1, 5 * np.exp(self.gammas))
        return np.asarray(table / np.trapezoid(table, self.gammas))

    def below(self, density: np.ndarray, place: int) -> float:
        """The integral of a density from the first place to this one."""
        return float(np.trapezoid(density[: place + 1], self.gammas[: place + 1]))


def bill(model: Denoiser, schedule: Schedule, images: Tensor, seed: int = 0) -> Bill:
    """Noise the images to each of the places, and let the network predict."""
    table = gamma(schedule)[1:]
    wanted = torch.linspace(FIRST, LAST, PLACES, dtype=torch.float64)
    times = [1 + int((table - value).abs().argmin()) for value in wanted]
    times = sorted(set(times))
    g = torch.Generator().manual_seed(seed)
    errors = 2 * noise_errors(model, schedule, images, times, generator=g)
    return Bill(gamma(schedule)[times].numpy(), times, errors, images[0].numel(), schedule)


def bits(model: Denoiser, schedule: Schedule, images: Tensor, place: int = 10) -> None:
    """A digit, the first of `images`, noised to a level that a slider sets, and the network's estimate of it; beside it the bits
    that the network pays for each unit of gamma = -log SNR, those at less noise filled. A menu changes to two training losses,
    each as a share of its own whole. All is worked out once, from all of the images."""
    build_bits(model, schedule, images, place).show()


def build_bits(model: Denoiser, schedule: Schedule, images: Tensor, place: int = 10) -> Explorer:
    """The explorer of `bits`, not yet shown."""
    check_images("images", images)
    found = bill(model, schedule, images)
    check_range({"place": (place, 0, len(found.times) - 1)})
    g = torch.Generator().manual_seed(1)
    eps = torch.randn(images[:1].shape, generator=g)
    noisy = [q_sample(schedule, images[:1], t, eps) for t in found.times]
    estimates = [predict(model, schedule, x_t, t)[0] for x_t, t in zip(noisy, found.times, strict=True)]

    figure = plots.subplots(1, 1, size=(7.6, 3.7))[0]
    figure.clear()
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 3.1])
    pictures = noisy_and_estimate(figure, grid, images[0])
    ax = figure.add_subplot(grid[:, 1])
    (curve,) = ax.plot([], [], marker=".", ms=4)
    (area,) = ax.fill([0, 0, 0], [0, 0, 0], alpha=0.35)
    (here,) = ax.plot([], [], color=plots.BLACK, lw=1, ls="--")
    ax.set(xlim=(FIRST - 0.3, LAST + 0.3), ylim=(0, HIGHEST), ylabel="share of the whole, per unit of γ")
    ax.set_xlabel("γ = -log SNR:  little noise on the left, nothing but noise on the right")
    plot = LivePlot(figure, [*pictures, area, curve, here])
    controls: dict[str, widgets.Widget] = {
        "place": int_slider("noise", place, 0, len(found.times) - 1, readout=False),
        "weight": dropdown("counted", list(WEIGHTS)),
    }
    shares = {name: found.share(name) for name in WEIGHTS}
    whole = found.below(found.bits(), len(found.times) - 1)

    def update(place: int, weight: str) -> str:
        for picture, x in zip(pictures, (noisy[place], estimates[place]), strict=True):
            picture.set_data(shown_pixels(x[0].clamp(-1, 1).numpy()))
        share, at = shares[weight], found.gammas
        curve.set_data(at, share)
        area.set_xy(np.column_stack([[*at[: place + 1], at[place], at[0]], [*share[: place + 1], 0, 0]]))
        for artist in (curve, area):
            artist.set_color(WEIGHTS[weight])
        here.set_data([at[place]] * 2, [0, HIGHEST])
        left = found.below(share, place)
        t = found.times[place]
        noise = 127.5 * math.exp(at[place] / 2)
        words = f"γ = {at[place]:.1f}, t = {t}: noise of {noise:.3g} grey steps. Of {weight}, {100 * left:.0f} % is at less noise"
        return (
            f"{words} ({left * whole:.3f} of {whole:.3f} bits per dimension)." if weight == "the bound" else f"{words}."
        )

    left = 100 * found.below(shares["the bound"], place)
    alt = (
        f"Left: a digit under noise of {127.5 * math.exp(found.gammas[place] / 2):.2g} grey steps, and the network's estimate. "
        f"Right: what the bound pays for each unit of gamma, highest at the left end, at little noise; {left:.0f} per cent of it "
        "is filled, left of the slider."
    )
    return Explorer("Where the bits are", controls, plot, update, alt)
