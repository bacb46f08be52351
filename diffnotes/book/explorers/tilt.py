"""What guidance does to densities (chapter 9): for data on a line, the density whose score a guided sampler follows, the
tilted distribution that it is said to sample, and what it draws."""

import math
from dataclasses import dataclass
from functools import cache

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.adapters import Pair
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.samplers import ddim_sample
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine()
CENTRES, WEIGHTS, SD = (-0.4, 0.3, 1.5), (0.5, 0.25, 0.25), 0.2  # class y is the last two
BORDER = 0.9  # half way between the two clusters of class y
LARGEST, STEP = 7.0, 0.25  # of the guidance scale
EARLIEST = 200  # for smaller t the densities are nearly those of t = 0, and too high for the axes
STEPS, STARTS = 100, 1000  # of DDIM; starts that stand for the standard normal distribution, one for each part of it
LINE = np.linspace(-5, 5, 1001)
SHOWN = slice(280, 921)  # -2.2..4.2


@dataclass(frozen=True, eq=False)
class EachItsScale:
    """Classifier-free guidance (book, eq. 9.4) with a scale for every row of x_t, `scales` (B, 1)."""

    pair: Pair
    scales: Tensor
    target: str = "x0"

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The guided prediction of x_0."""
        null = self.pair.without_label(x_t, t)
        return null + self.scales * (self.pair.with_label(x_t, t) - null)


def clusters() -> Pair:
    """The perfect predictor of the data, with the label y and without: Gaussians around CENTRES."""
    centres, weights = torch.tensor(CENTRES).double()[:, None], torch.tensor(WEIGHTS).double()
    return Pair(MixtureDenoiser(SCHEDULE, centres, SD**2, weights), MixtureDenoiser(SCHEDULE, centres[1:], SD**2))


def tilt(s: float = 3.0, t: int = 300) -> None:
    """Explore the two sides of eq. 9.6 of the book for three clusters on a line, two of them of class y: the density
    q(x_t) q(y|x_t)^s, the distribution q(x_0) q(y|x_0)^s noised to time t, and a histogram of guided samples.

    Sliders for s in 0..7 and t in 200..1000 of the cosine schedule, in steps of 0.25 and 10; t = 0 always stands beside it."""
    build_tilt(s, t).show()


def build_tilt(s: float = 3.0, t: int = 300) -> Explorer:
    """The explorer of `tilt`, not yet shown."""
    T = SCHEDULE.T
    check_range({"s": (s, 0, LARGEST), "t": (t, EARLIEST, T)})
    for name, value, step in (("s", s, STEP), ("t", t, T // STEPS)):
        if value % step:
            raise ValueError(f"{name} must be a multiple of {step:g}, got {value}")
    figure, axes = plots.subplots(1, 2, size=(8.8, 3.5))
    x, edges = LINE[SHOWN], np.linspace(-2.2, 4.2, 81)
    bars, ahead, followed = [], [], []
    for ax, top in zip(axes, (2.0, 3.5), strict=True):
        ax.set(xlim=(-2.2, 4.2), ylim=(0, top))
        bars.append(ax.stairs(np.zeros(80), edges, fill=True, color=plots.SKY, label="guided samples"))
        followed.append(ax.plot([], [], color=plots.ORANGE, label="$q(x_t)\\,q(y|x_t)^s$: its score is followed")[0])
        words = "$q(x_0)\\,q(y|x_0)^s$, noised to $t$"
        ahead.append(ax.plot([], [], color=plots.BLACK, lw=1.4, ls="--", label=words)[0])
    axes[0].set(title="on the way, at the slider's $t$", xlabel="$x_t$", ylabel="density")
    axes[1].set(title="at the end, $t=0$", xlabel="$x_0$")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    plot = LivePlot(figure, [*bars, *followed, *ahead])
    controls: dict[str, widgets.Widget] = {
        "s": float_slider("s", s, 0, LARGEST, STEP),
        "t": int_slider("t", t, EARLIEST, T, T // STEPS),
    }

    def update(s: float, t: int) -> str:
        at_t, at_end = (samples(s, t), tilted(s, t), noised_tilt(s, t)), (samples(s, 0), tilted(s, 0), tilted(s, 0))
        for i, (drawn, right, left) in enumerate((at_t, at_end)):
            bars[i].set_data(np.histogram(drawn, edges)[0] / len(drawn) / np.diff(edges))
            followed[i].set_data(x, right[SHOWN])
            ahead[i].set_data(x, left[SHOWN])
        drawn, right, left = at_t
        below, share = shares_below(s)
        return (
            f"s = {s:.2f}, t = {t}: mean and standard deviation are {_moments(right)} for the density whose score is "
            f"followed, {_moments(left)} for the noised tilted distribution, and {drawn.mean():.2f} and {drawn.std():.2f} for "
            f"the samples.<br>At the end {100 * below:.0f} % of the samples are below {BORDER}; of the tilted distribution "
            f"{100 * share:.0f} %."
        )

    below, share = shares_below(s)
    alt = (
        f"Two panels for s = {s:g}. Left, at t = {t}, a histogram of guided samples and two densities: the one whose score is "
        "followed, and the noised tilted distribution. Right, at t = 0, the samples, and the tilted distribution. Below "
        f"{BORDER} are {100 * below:.0f} per cent of the samples and {100 * share:.0f} of the distribution."
    )
    return Explorer("Tilted, noised, drawn", controls, plot, update, alt)


# -- the densities, on LINE ---------------------------------------------------------------------------------------------


def tilted(s: float, t: int) -> np.ndarray:
    """q(x_t) q(y|x_t)^s, normalised: the right side of the book's eq. 9.6."""
    bar = SCHEDULE.alpha_bar[t].item()
    variance = bar * SD**2 + 1 - bar
    squares = (LINE - math.sqrt(bar) * np.array(CENTRES)[:, None]) ** 2
    logs = np.log(WEIGHTS)[:, None] - squares / (2 * variance)
    everything, of_y = np.logaddexp.reduce(logs), np.logaddexp.reduce(logs[1:])
    log_density = everything + s * (of_y - everything)
    return _normalised(np.exp(log_density - log_density.max()))


def noised_tilt(s: float, t: int) -> np.ndarray:
    """The integral of q(x_t|x_0) with the normalised q(x_0) q(y|x_0)^s: the left side of the book's eq. 9.6."""
    if t == 0:
        return tilted(s, 0)
    bar = SCHEDULE.alpha_bar[t].item()
    near = (LINE > -1.6) & (LINE < 3)  # no data elsewhere
    bells = np.exp(-((LINE[:, None] - math.sqrt(bar) * LINE[near]) ** 2) / (2 * (1 - bar)))
    return _normalised(bells @ tilted(s, 0)[near])


def _normalised(density: np.ndarray) -> np.ndarray:
    return np.asarray(density / (density.sum() * (LINE[1] - LINE[0])))


def _moments(density: np.ndarray) -> str:
    share = density / density.sum()
    mean = share @ LINE
    return f"{mean:.2f} and {math.sqrt(share @ (LINE - mean) ** 2):.2f}"


# -- the samples --------------------------------------------------------------------------------------------------------


def samples(s: float, t: int) -> np.ndarray:
    """x_t of the guided samples, (STARTS,), for s and t on the sliders."""
    return _all_samples()[round(t * STEPS / SCHEDULE.T), round(s / STEP)]


@cache
def _all_samples() -> np.ndarray:
    """x_t of guided samples by the frame, from t = 0, and by the scale: (STEPS + 1, scales, STARTS), from the same starts."""
    share = (torch.arange(STARTS, dtype=torch.float64) + 0.5) / STARTS
    starts = torch.distributions.Normal(0.0, 1.0).icdf(share)
    scales = torch.arange(round(LARGEST / STEP) + 1, dtype=torch.float64) * STEP
    model = EachItsScale(clusters(), scales.repeat_interleave(STARTS)[:, None])
    frames = ddim_sample(model, SCHEDULE, starts.repeat(len(scales))[:, None], steps=STEPS)
    states = torch.stack([frame.x_t[:, 0] for frame in frames])
    return states.flip(0).reshape(STEPS + 1, len(scales), STARTS).float().numpy()


def shares_below(s: float) -> tuple[float, float]:
    """At t = 0, the shares of the samples and of the tilted distribution below BORDER."""
    return float((samples(s, 0) < BORDER).mean()), float(tilted(s, 0)[LINE < BORDER].sum() * (LINE[1] - LINE[0]))
