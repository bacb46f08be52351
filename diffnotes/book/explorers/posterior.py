"""The reverse step with sliders (chapter 2): given x_0, a product of two Gaussians; without it, a mixture."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import numpy as np
import torch

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider, log_slider
from diffnotes.book.explorers.gaussians import log_density
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

LINE = (-3.2, 3.2)  # the part of the number line that is drawn


def posterior(schedule: Schedule, t: int | None = None, x_t: float = -0.4, x_0: float = 0.8) -> None:
    """Explore q(x_{t-1} | x_t, x_0) for one pixel: the prior of x_{t-1} given x_0, the likelihood of x_t, and the posterior.

    Sliders for t (half of T unless given), x_t in -3..3 and x_0 in -1..1. Bells are scaled to height 1."""
    build_posterior(schedule, t, x_t, x_0).show()


def build_posterior(schedule: Schedule, t: int | None = None, x_t: float = -0.4, x_0: float = 0.8) -> Explorer:
    """The explorer of `posterior`, not yet shown."""
    t = max(1, schedule.T // 2) if t is None else t
    check_range({"t": (t, 1, schedule.T), "x_t": (x_t, -3, 3), "x_0": (x_0, -1, 1)})

    figure, axes = plots.subplots(2, 2, size=(6.4, 4.9), height_ratios=[1.15, 1])
    for ax in axes[0]:
        ax.remove()
    line_ax, (zoom_ax, share_ax) = figure.add_subplot(axes[0, 0].get_gridspec()[0, :]), axes[1]
    looks = (
        ("prior: q(x_{t-1} | x_0)", plots.BLUE, "-"),
        ("likelihood: q(x_t | x_{t-1})", plots.ORANGE, "-"),
        ("posterior: q(x_{t-1} | x_t, x_0)", plots.BLACK, "--"),
    )
    wide = [line_ax.plot([], [], color=colour, ls=style, label=name)[0] for name, colour, style in looks]
    near = [zoom_ax.plot([], [], color=colour, ls=style)[0] for _, colour, style in looks]
    line_ax.set(xlim=LINE, ylim=(0, 1.6), yticks=[], xlabel="x_{t-1}", title="one step back, given x_t and x_0")
    line_ax.legend(loc="upper center", ncols=3, fontsize=8, columnspacing=1.0, handlelength=1.6)
    zoom_ax.set(
        xlim=(-4, 4), ylim=(0, 1.15), yticks=[], title="the same, magnified", xlabel="(x_{t-1} - posterior mean) / √β_t"
    )
    times = np.unique(np.geomspace(1, schedule.T, 200).round().astype(int))
    share_ax.plot(times, [_shares(schedule, int(k))[0] for k in times], color=plots.ORANGE)
    share_ax.set(
        xscale="log",
        xlim=(1, max(schedule.T, 2)),
        ylim=(-0.03, 1.03),
        title="share of the precision that x_t gives",
        xlabel="t",
    )
    marker = share_ax.axvline(t, color=plots.RED, lw=1.2)
    plot = LivePlot(figure, [*wide, *near, marker])

    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, 1, schedule.T),
        "x_t": float_slider("x_t", x_t, -3, 3, 0.01),
        "x_0": float_slider("x_0", x_0, -1, 1, 0.01),
    }

    def update(t: int, x_t: float, x_0: float) -> str:
        mean, variance = _posterior(schedule, t, x_t, x_0)
        bells = [*_two_bells(schedule, t, x_t, x_0), (mean, variance)]
        unit = math.sqrt(schedule.beta[t].item())
        for far, close, (centre, variance) in zip(wide, near, bells, strict=True):
            far.set_data(*_bell(centre, variance, *LINE))
            close.set_data(*_bell((centre - mean) / unit, variance / unit**2, -4, 4))
        marker.set_xdata([t, t])
        return _posterior_reading(schedule, t, x_t, x_0)

    alt = (
        f"Three bells over x_(t-1) at t = {t}: the prior from the start x_0 = {x_0:g}, the likelihood of the present "
        f"x_t = {x_t:g}, and between them, narrower than either, the posterior. Below, the same magnified, and x_t's share of "
        "the precision over time."
    )
    return Explorer("One step back, with the start known", controls, plot, update, alt)


def _two_bells(schedule: Schedule, t: int, x_t: float, x_0: float) -> list[tuple[float, float]]:
    """(mean, variance) of two bells over x_{t-1}: q(x_{t-1} | x_0), and q(x_t | x_{t-1}) read as a function of x_{t-1}."""
    before, alpha, beta = schedule.alpha_bar[t - 1].item(), schedule.alpha[t].item(), schedule.beta[t].item()
    return [(math.sqrt(before) * x_0, 1 - before), (x_t / math.sqrt(alpha), beta / alpha)]


def _posterior(schedule: Schedule, t: int, x_t: float, x_0: float) -> tuple[float, float]:
    start, present = (torch.tensor([[value]], dtype=torch.float64) for value in (x_0, x_t))
    mean, variance = q_posterior(schedule, start, present, t)
    return mean.item(), variance.item()


def _shares(schedule: Schedule, t: int) -> tuple[float, float]:
    """How much of the posterior's precision 1 / beta-tilde_t comes from x_t, and how much from x_0; they sum to 1."""
    before, now = schedule.alpha_bar[t - 1].item(), schedule.alpha_bar[t].item()
    return schedule.alpha[t].item() * (1 - before) / (1 - now), schedule.beta[t].item() / (1 - now)


def _posterior_reading(schedule: Schedule, t: int, x_t: float, x_0: float) -> str:
    (prior, prior_variance), (likely, likely_variance) = _two_bells(schedule, t, x_t, x_0)
    mean, variance = _posterior(schedule, t, x_t, x_0)
    (of_x_t, of_x_0), beta = _shares(schedule, t), schedule.beta[t].item()
    now = schedule.alpha_bar[t].item()
    weight_x_t, weight_x_0 = _posterior(schedule, t, 1, 0)[0], _posterior(schedule, t, 0, 1)[0]
    eps = (x_t - math.sqrt(now) * x_0) / math.sqrt(1 - now)
    reading = (
        f"t = {t}: x_0 gives {prior:.3f} (variance {prior_variance:.3g}), x_t gives {likely:.3f} (variance "
        f"{likely_variance:.3g}); together μ̃ = {weight_x_t:.3f} x_t + {weight_x_0:.3f} x_0 = {mean:.3f}, variance "
        f"β̃_t = {variance:.3g} = {variance / beta:.3f} β_t.<br>"
    )
    if t == 1:
        return f"{reading}At t = 1 the image before is x_0 itself: nothing is uncertain, and x_t has no weight."
    reading += f"Of the precision 1/β̃_t {100 * of_x_t:.1f} % comes from x_t, {100 * of_x_0:.1f} % from x_0. "
    if abs(eps) <= 4:
        return f"{reading}The noise since the start is ε = {eps:.2f}."
    return (
        f'{reading}<span style="color:#B04A00"><b>⚠ Hardly ever seen.</b> To come from this x_0 to this x_t takes '
        f"ε = {eps:.1f}; the formula holds all the same. Move x_t and x_0 together.</span>"
    )


def reverse_step(abar_prev: float = 0.8, beta: float = 0.3, x_t: float = 0.2) -> None:
    """Explore q(x_{t-1} | x_t) for data that are +1 or -1 with equal chance: a mixture, and the Gaussian nearest to it.

    Sliders for beta_t (logarithmic, 0.001..0.9), x_t in -3..3 and alpha_bar_{t-1} in 0.05..0.99."""
    build_reverse_step(abar_prev, beta, x_t).show()


def build_reverse_step(abar_prev: float = 0.8, beta: float = 0.3, x_t: float = 0.2) -> Explorer:
    """The explorer of `reverse_step`, not yet shown."""
    check_range({"abar_prev": (abar_prev, 0.05, 0.99), "beta": (beta, 0.001, 0.9), "x_t": (x_t, -3, 3)})
    figure, ax = plots.subplots(size=(6.4, 3.1))
    looks = (
        ("part of x_0 = -1", plots.BLUE, "-", 1.2),
        ("part of x_0 = +1", plots.GREEN, "-", 1.2),
        ("q(x_{t-1} | x_t)", plots.BLACK, "-", 2.0),
        ("Gaussian of the same mean and variance", plots.RED, "--", 2.0),
    )
    lines = [ax.plot([], [], color=colour, ls=style, lw=width, label=name)[0] for name, colour, style, width in looks]
    ax.set(xlim=LINE, ylim=(0, 1.75), yticks=[], xlabel="x_{t-1}", title="density, its highest point at 1")
    ax.legend(loc="upper center", ncols=2, fontsize=8)
    plot = LivePlot(figure, lines)
    lowest = math.log10(beta) - 0.02 * math.floor((math.log10(beta) + 3) / 0.02)  # so that beta lies on a step
    controls: dict[str, widgets.Widget] = {
        "beta": log_slider("β_t", beta, lowest, math.log10(0.9), 0.02, ".3f"),
        "x_t": float_slider("x_t", x_t, -3, 3, 0.05),
        "abar_prev": float_slider("ᾱ_{t-1}", abar_prev, 0.05, 0.99, 0.01),
    }

    def update(beta: float, x_t: float, abar_prev: float) -> str:
        step = coin_step(abar_prev, beta, x_t)
        x = np.unique(np.r_[np.linspace(*LINE, 600), step.grid])
        minus, plus = (s * _normal(x, m, step.beta_tilde) for s, m in zip(step.shares, step.means, strict=True))
        curves = minus, plus, minus + plus, _normal(x, step.mean, step.variance)
        for line, y in zip(lines, curves, strict=True):
            line.set_data(x, y / (minus + plus).max())
        return _reverse_reading(step, beta)

    alt = (
        f"The density of x_(t-1) given x_t = {x_t:g} alone, for beta = {beta:g}: two bells, one for each possible x_0, their "
        "sum, and the single Gaussian of the same mean and variance beside it."
    )
    return Explorer("One step back, with the start unknown", controls, plot, update, alt)


@dataclass(frozen=True)
class CoinStep:
    """q(x_{t-1} | x_t) for data -1 or +1: the `shares` q(x_0 | x_t) and `means` of its two parts, their variance
    `beta_tilde`, the `mean` and `variance` of the whole, and `kl`, the divergence in nats of the whole from the Gaussian
    with these two, by quadrature on `grid`."""

    shares: np.ndarray
    means: np.ndarray
    beta_tilde: float
    mean: float
    variance: float
    grid: np.ndarray
    kl: float


def coin_step(abar_prev: float, beta: float, x_t: float) -> CoinStep:
    """The true step back for data that are -1 or +1 with equal chance, from the parts of (book, eq. 2.12)."""
    schedule = Schedule.from_betas([1 - abar_prev, beta])  # a chain of two steps; this is its second
    coin = MixtureDenoiser(schedule, torch.tensor([[-1.0], [1.0]], dtype=torch.float64))
    here = torch.tensor([[x_t]], dtype=torch.float64)
    shares = coin.responsibilities(here, 2)[0].numpy()
    tilde, beta_tilde = q_posterior(schedule, coin.means, here.expand(2, 1), 2)
    means, narrow = tilde[:, 0].numpy(), beta_tilde.item()
    mean = float(shares @ means)
    variance = narrow + float(shares @ (means - mean) ** 2)
    grid = mean + math.sqrt(variance) * np.linspace(-9, 9, 3001)
    q = sum(share * _normal(grid, centre, narrow) for share, centre in zip(shares, means, strict=True))
    p = _normal(grid, mean, variance)
    kl = float((q * np.log(np.maximum(q, 1e-300) / p)).sum() * (grid[1] - grid[0]))
    return CoinStep(shares, means, narrow, mean, variance, grid, kl)


def coin_divergence(abar_prev: float, beta: float) -> float:
    """The mean over x_t of `coin_step(abar_prev, beta, x_t).kl`, all values of x_t at once, in nats."""
    alpha, abar = 1 - beta, abar_prev * (1 - beta)
    x_t, spacing = np.linspace(-5, 5, 161)[:, None], 10 / 160
    z, fine = np.linspace(-9, 9, 301), 18 / 300
    drawn = 0.5 * (_density(x_t, math.sqrt(abar), 1 - abar) + _density(x_t, -math.sqrt(abar), 1 - abar))
    plus = (1 + np.tanh(math.sqrt(abar) * x_t / (1 - abar))) / 2  # the share of x_0 = +1
    centre, reach = math.sqrt(alpha) * (1 - abar_prev) / (1 - abar) * x_t, math.sqrt(abar_prev) * beta / (1 - abar)
    narrow = (1 - abar_prev) / (1 - abar) * beta
    mean, variance = centre + reach * (2 * plus - 1), narrow + reach**2 * 4 * plus * (1 - plus)
    x = mean + np.sqrt(variance) * z  # x_{t-1}
    q = plus * _density(x, centre + reach, narrow) + (1 - plus) * _density(x, centre - reach, narrow)
    kl = (
        (q * np.log(np.maximum(q, 1e-300) / _density(x, mean, variance))).sum(1, keepdims=True)
        * np.sqrt(variance)
        * fine
    )
    return float((drawn * kl).sum() * spacing)


def _density(x: np.ndarray, mean: np.ndarray | float, variance: np.ndarray | float) -> np.ndarray:
    return np.exp(-((x - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)


def _reverse_reading(step: CoinStep, beta: float) -> str:
    minus, plus = (f"{100 * share:.1f} %" for share in step.shares)
    apart = (step.means[1] - step.means[0]) / math.sqrt(step.beta_tilde)
    reading = (
        f"Given x_t, x_0 is -1 with {minus} and +1 with {plus}. The two bells stand {apart:.2f} standard deviations √β̃_t "
        f"apart. Mean of the whole {step.mean:.3f}, variance {step.variance:.3g} = {step.variance / beta:.3f} β_t.<br>"
    )
    far = "less than 1e-10" if step.kl < 1e-10 else f"{step.kl:.2g}"
    if step.kl < 0.01:
        return f"{reading}Divergence from the Gaussian: {far} nats. A Gaussian can do this step."
    return f"{reading}Divergence from the Gaussian: {far} nats. No Gaussian can be right here."


def _normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return log_density(torch.from_numpy(x), mean, variance).exp().numpy()


def _bell(mean: float, variance: float, low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """x and y of a bell of height 1 from low to high, drawn finely where it is; a needle if its variance is 0."""
    spread = math.sqrt(variance)
    z = np.linspace(-5, 5, 201) if spread > 0 else np.zeros(3)
    y = np.exp(-(z**2) / 2) if spread > 0 else np.array([0.0, 1.0, 0.0])
    return np.r_[min(low, mean - 5 * spread), mean + spread * z, max(high, mean + 5 * spread)], np.r_[0, y, 0]
