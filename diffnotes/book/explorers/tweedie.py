"""Tweedie's formula (chapter 4): the slope of the log-density of a noisy pixel, and the mean image that it gives."""

import math

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.markers import CARETLEFT, CARETRIGHT  # their tips, not their centres, stand at the point

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.linear()
FACES = {-1: 0.3, 1: 0.7}  # a clean pixel, and its probabilities
FIRST, LAST, X = 90, 700, 2.0  # t and x_t in -X..X, where the density and its arrow are inside the axes
LOWEST = 1e-4  # of the density
ARROW = 2.6e-4  # the height at which it is drawn
COIN = MixtureDenoiser(
    SCHEDULE,
    torch.tensor([[face] for face in FACES], dtype=torch.float64),
    weights=torch.tensor(list(FACES.values()), dtype=torch.float64),
)


def tweedie(t: int = 150, x_t: float = -0.3) -> None:
    """Explore Tweedie's formula (book, eq. 4.9) for pixels that are -1 with probability 0.3 and +1 with 0.7: the density of
    the noisy pixel with its slope at x_t, and beside it the two posterior probabilities, whose mean the slope gives.

    Sliders for t in 90..700 of the linear schedule and x_t in -2..2."""
    build_tweedie(t, x_t).show()


def build_tweedie(t: int = 150, x_t: float = -0.3) -> Explorer:
    """The explorer of `tweedie`, not yet shown."""
    check_range({"t": (t, FIRST, LAST), "x_t": (x_t, -X, X)})
    figure, (density_ax, bars_ax) = plots.subplots(1, 2, size=(8.2, 3.9), width_ratios=[1.75, 1])
    (curve,) = density_ax.plot([], [], color=plots.BLUE, label="density $q(x_t)$")
    (tangent,) = density_ax.plot([], [], color=plots.BLACK, lw=1.4, ls="--", label="slope of its logarithm")
    (drop,) = density_ax.plot([], [], color="#999999", lw=1, ls=":")
    (shaft,) = density_ax.plot([], [], color=plots.RED, lw=2.4, label="arrow of length $(1-\\barα_t)$ × slope")
    (head,) = density_ax.plot([], [], color=plots.RED, ms=8, ls="")
    (dots,) = density_ax.plot([], [], "o", color=plots.ORANGE, ms=8, label="$\\sqrt{\\barα_t}\\,x_0$ of the two values")
    (here,) = density_ax.plot([], [], "o", color=plots.BLACK, ms=6)
    density_ax.set(yscale="log", xlim=(-2.6, 2.6), ylim=(LOWEST, 2), xlabel="$x_t$", ylabel="density (log)")
    density_ax.set_title("the slope of $\\log\\,q(x_t)$ ...")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, columnspacing=1.4, handlelength=1.8)
    bars = [bars_ax.plot([face] * 2, [0, 0], color=plots.SKY, lw=26, solid_capstyle="butt")[0] for face in FACES]
    (mean,) = bars_ax.plot([], [], color=plots.RED, lw=2.4, label="mean of $x_0$")
    (point,) = bars_ax.plot([], [], "v", color=plots.RED, ms=9)
    bars_ax.set(xlim=(-1.6, 1.6), ylim=(0, 1.28), xlabel="$x_0$", xticks=[-1, 0, 1], yticks=[0, 0.5, 1])
    bars_ax.set_ylabel("probability, given $x_t$")
    bars_ax.legend(loc="upper center")
    bars_ax.set_title("... gives the mean of $q(x_0|x_t)$")
    plot = LivePlot(figure, [curve, tangent, drop, dots, shaft, head, here, *bars, mean, point])
    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, FIRST, LAST),
        "x_t": float_slider("x_t", x_t, -X, X, 0.05),
    }
    grid = np.linspace(-2.6, 2.6, 521)

    def update(t: int, x_t: float) -> str:
        left = SCHEDULE.alpha_bar[t].item()
        slope, shares = score(x_t, t), posterior(x_t, t)
        height, end = density(x_t, t), x_t + (1 - left) * slope
        curve.set_data(grid, density(grid, t))
        reach = 0.8 / math.hypot(1, slope / 2)  # on the logarithmic axis about as long, however steep
        tangent.set_data(
            [x_t - reach, x_t + reach], [height * math.exp(-reach * slope), height * math.exp(reach * slope)]
        )
        drop.set_data([x_t, x_t], [ARROW, height])
        shaft.set_data([x_t, end], [ARROW, ARROW])
        head.set_data([end], [ARROW])
        head.set_marker(CARETRIGHT if slope > 0 else CARETLEFT)
        dots.set_data([math.sqrt(left) * face for face in FACES], [ARROW, ARROW])
        here.set_data([x_t], [height])
        image = end / math.sqrt(left)
        for bar, face, share in zip(bars, FACES, shares, strict=True):
            bar.set_data([face, face], [0, share])
        mean.set_data([image, image], [0, 1])
        point.set_data([image], [1])
        return (
            f"t = {t}, ᾱ_t = {left:.3f}: the slope of log q at x_t = {x_t:.2f} is {slope:.3f}. By Tweedie's formula the mean "
            f"of x_0 is ({x_t:.2f} + {1 - left:.3f} × {slope:.3f}) / {math.sqrt(left):.3f} = {image:.2f}.<br>By Bayes' rule x_0 "
            f"is +1 with probability {shares[1]:.3f} and -1 with {shares[0]:.3f}: mean {shares[1] - shares[0]:.2f}."
        )

    minus, plus = posterior(x_t, t)
    way = "right" if score(x_t, t) > 0 else "left"
    alt = (
        f"Left, on a logarithmic axis, the density of a noisy pixel at t = {t}, with its slope at x_t = {x_t:g} and an arrow to "
        f"the {way}. Right, two bars: given x_t, the clean pixel is -1 with probability {minus:.2f} and +1 with {plus:.2f}; a "
        f"line at their mean, {plus - minus:.2f}, where the arrow leads when the shrinking is undone."
    )
    return Explorer("Tweedie's formula", controls, plot, update, alt)


def density(x: np.ndarray | float, t: int) -> np.ndarray:
    """q(x_t), the sum of a bell for each value of the pixel (book, eq. 1.11)."""
    left = SCHEDULE.alpha_bar[t].item()
    bells = [
        chance * np.exp(-((np.asarray(x) - math.sqrt(left) * face) ** 2) / (2 * (1 - left)))
        for face, chance in FACES.items()
    ]
    return np.asarray(sum(bells) / math.sqrt(2 * math.pi * (1 - left)))


def score(x_t: float, t: int, h: float = 1e-5) -> float:
    """The slope of log q at x_t, from the density alone: no posterior is used."""
    return float(np.log(density(x_t + h, t) / density(x_t - h, t)) / (2 * h))


def posterior(x_t: float, t: int) -> tuple[float, float]:
    """The probabilities of -1 and +1, given x_t, by Bayes' rule: no slope is used."""
    minus, plus = COIN.responsibilities(torch.tensor([[x_t]], dtype=torch.float64), t)[0].tolist()
    return minus, plus
