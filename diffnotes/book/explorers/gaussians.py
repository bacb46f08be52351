"""Gaussians with sliders: a sum of two noises, two bells and their KL divergence, and a prior that meets an observation
(appendix A)."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.collections import PolyCollection

from diffnotes.book.explorers.controls import check_range, float_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.gaussian import normal_kl, normal_log_density

REACH = 6.0  # the pictures show x from -REACH to REACH
LOWEST, HIGHEST = -0.55, 1.65  # of the integrand, in nats per unit of x
LIGHTEST, HEAVIEST = 0.5, 1.2  # the weights a and b of the two noises
DRAWS, DOTS = 20_000, 500  # of the two noises: so many are added up, so many are drawn as points


def total(a: float = 0.8, b: float = 0.5, rho: float = 0.0) -> None:
    """The sum a x + b y of two standard noises of correlation rho: independent for 0 (book, eq. A.5), one noise used twice
    for 1. Sliders for a and b in 0.5..1.2 and rho in 0..1."""
    build_total(a, b, rho).show()


def build_total(a: float = 0.8, b: float = 0.5, rho: float = 0.0) -> Explorer:
    """The explorer of `total`, not yet shown."""
    check_range({"a": (a, LIGHTEST, HEAVIEST), "b": (b, LIGHTEST, HEAVIEST), "rho": (rho, 0, 1)})
    figure, axes = plots.subplots(2, 2, size=(6.4, 5.0), height_ratios=[1.25, 1])
    for ax in axes[1]:
        ax.remove()
    (cloud_ax, arrow_ax), sum_ax = axes[0], figure.add_subplot(axes[0, 0].get_gridspec()[1, :])
    (cloud,) = cloud_ax.plot([], [], ".", color=plots.BLUE, ms=3, alpha=0.6)
    cloud_ax.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xlabel="x", ylabel="y", title="the two noises")
    (of_sum,) = arrow_ax.plot([], [], color=plots.SKY, lw=7, solid_capstyle="butt", label="a x + b y")
    (of_x,) = arrow_ax.plot([], [], color=plots.BLACK, marker="o", ms=4, label="a x")
    (of_y,) = arrow_ax.plot([], [], color=plots.RED, marker="o", ms=4, label="b y")
    arrow_ax.set(xlim=(-0.1, 2.5), ylim=(-0.15, 2.05), aspect="equal", title="their standard deviations")
    arrow_ax.legend(loc="upper center", ncols=3, handlelength=1.2, columnspacing=1.0)
    bars = _area(sum_ax, plots.SKY, "the sums that were drawn")
    (two,) = sum_ax.plot([], [], color=plots.BLUE, label="two noises")
    (once,) = sum_ax.plot([], [], color=plots.ORANGE, ls="--", label="one noise, used twice")
    sum_ax.set(xlim=(-REACH, REACH), ylim=(0, 0.65), xlabel="a x + b y", ylabel="density")
    sum_ax.legend(handles=[bars, two, once], loc="upper left")
    plot = LivePlot(figure, [cloud, of_sum, of_x, of_y, bars, two, once])
    e_1, e_2 = torch.randn(2, DRAWS, generator=torch.Generator().manual_seed(0)).double().numpy()
    grid = torch.linspace(-REACH, REACH, 601, dtype=torch.float64)
    edges = np.linspace(-REACH, REACH, 121)

    def update(a: float, b: float, rho: float) -> str:
        rest = math.sqrt(1 - rho**2)
        y = rho * e_1 + rest * e_2  # of variance 1 by (A.5), and of correlation rho with x = e_1
        sums = a * e_1 + b * y
        cloud.set_data(e_1[:DOTS], y[:DOTS])
        corner, end = (a, 0), (a + b * rho, b * rest)  # a x + b y = (a + b rho) e_1 + b rest e_2: (A.5) once more
        for line, start, stop in ((of_sum, (0, 0), end), (of_x, (0, 0), corner), (of_y, corner, end)):
            line.set_data([start[0], stop[0]], [start[1], stop[1]])
        density = np.histogram(sums, edges)[0] / (DRAWS * (edges[1] - edges[0]))
        _fill(bars, np.repeat(edges, 2)[1:-1], np.repeat(density, 2))
        for line, variance in ((two, a**2 + b**2), (once, (a + b) ** 2)):
            line.set_data(grid.numpy(), log_density(grid, 0, variance).exp().numpy())
        return _total_reading(a, b, rho, end, float(sums.var()))

    controls: dict[str, widgets.Widget] = {
        "a": float_slider("a", a, LIGHTEST, HEAVIEST, 0.1, ".1f"),
        "b": float_slider("b", b, LIGHTEST, HEAVIEST, 0.1, ".1f"),
        "rho": float_slider("ρ", rho, 0, 1, 0.05),
    }
    alt = (
        f"Above left, a cloud of points (x, y) of correlation {rho:g}. Right of it two strokes joined end to end, {a:g} and "
        f"{b:g} long, and a third from the first's beginning to the second's end. Below, the histogram of {a:g} x + {b:g} y "
        f"and two bells: a narrow one of variance {a**2 + b**2:.2f}, for two noises, and a wide one of variance "
        f"{(a + b) ** 2:.2f}, for one noise used twice."
    )
    return Explorer("Two noises, or one used twice?", controls, plot, update, alt)


def _total_reading(a: float, b: float, rho: float, end: tuple[float, float], drawn: float) -> str:
    apart, shared = a**2 + b**2, (a + b) ** 2
    return (
        f"Two noises: a² + b² = {apart:.2f} · one noise, used twice: (a + b)² = {shared:.2f}, which is {shared / apart:.2f} "
        f"times as much.<br>Here ρ = {rho:.2f} and the variance is a² + b² + 2ρab = {apart + 2 * rho * a * b:.2f}, the square "
        f"of the length {math.hypot(*end):.2f}; the {DRAWS:,} sums that were drawn have the variance {drawn:.2f}."
    )


def kl() -> None:
    """Two Gaussians q and p: their densities, the integrand q log(q / p), and both KL divergences (book, eq. A.13)."""
    build_kl().show()


def build_kl() -> Explorer:
    """The explorer of `kl`, not yet shown."""
    figure, (bells, integrand) = plots.subplots(2, 1, size=(6.0, 4.7), sharex=True)
    (q_line,) = bells.plot([], [], color=plots.BLUE, label="q = N(μ₁, σ₁²)")
    (p_line,) = bells.plot([], [], color=plots.ORANGE, ls="--", label="p = N(μ₂, σ₂²)")
    bells.set(xlim=(-REACH, REACH), ylim=(0, 1.05), title="two densities", ylabel="density")
    bells.legend(loc="upper left")
    (line,) = integrand.plot([], [], color=plots.BLACK, lw=1.4)
    above, below = _area(integrand, plots.GREEN, "counts up"), _area(integrand, plots.RED, "counts down")
    integrand.axhline(0, color=plots.BLACK, lw=0.8)
    integrand.set(ylim=(LOWEST, HIGHEST), xlabel="x", ylabel="nats per unit of x")
    integrand.set_title("q log(q / p): its integral is the KL divergence")
    integrand.legend(handles=[above, below], loc="upper left")
    plot = LivePlot(figure, [q_line, p_line, above, below, line])
    wide = torch.linspace(-3 * REACH, 3 * REACH, 1801, dtype=torch.float64)  # beyond the picture, for the areas
    shown = slice(600, 1201)
    x = wide[shown].numpy()

    def update(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> str:
        log_q, log_p = log_density(wide, mu_1, sigma_1**2), log_density(wide, mu_2, sigma_2**2)
        q_line.set_data(x, log_q[shown].exp())
        p_line.set_data(x, log_p[shown].exp())
        values = (log_q.exp() * (log_q - log_p)).numpy()
        up, down = np.maximum(values, 0), np.minimum(values, 0)
        line.set_data(x, values[shown])
        _fill(above, x, up[shown])
        _fill(below, x, down[shown])
        areas = f"{np.trapezoid(up, wide.numpy()):.3f} nats counted up, {-np.trapezoid(down, wide.numpy()):.3f} counted down"
        outside = ". The curve leaves the picture" if values[shown].max() > HIGHEST else ""
        return f"{_kl_reading(mu_1, sigma_1, mu_2, sigma_2)}<br>The integral: {areas}{outside}."

    controls: dict[str, widgets.Widget] = {
        "mu_1": float_slider("μ_1", 0.0, -2, 2, 0.1),
        "sigma_1": float_slider("σ_1", 1.0, 0.4, 2, 0.1),
        "mu_2": float_slider("μ_2", 1.0, -2, 2, 0.1),
        "sigma_2": float_slider("σ_2", 1.0, 0.4, 2, 0.1),
    }
    alt = (
        "Above, two bells of standard deviation 1: q around 0 and p around 1. Below, the integrand q log(q / p): a hill left of "
        "one half, where q is the higher bell, and a shallow valley right of it. The hill is larger: the divergence is 0.5 nats."
    )
    return Explorer("The KL divergence of two bells", controls, plot, update, alt)


def _kl_reading(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> str:
    forward, backward = divergence(mu_1, sigma_1, mu_2, sigma_2), divergence(mu_2, sigma_2, mu_1, sigma_1)
    numbers = f"D_KL(q ‖ p) = {forward:.3f} nats · D_KL(p ‖ q) = {backward:.3f} nats · "
    if max(forward, backward) < 1e-9:
        return numbers + "the two distributions are the same."
    if abs(sigma_1 - sigma_2) < 1e-9:
        return (
            numbers
            + "equal standard deviations: half the squared distance of the means over σ², and the same both ways."
        )
    if abs(mu_1 - mu_2) < 1e-9:
        return numbers + f"equal means: what counts is u = σ_1²/σ_2² = {(sigma_1 / sigma_2) ** 2:.2f}."
    return numbers + "the order of the two distributions matters."


def divergence(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> float:
    """D_KL(N(mu_1, sigma_1^2) || N(mu_2, sigma_2^2)) in nats (book, eq. A.13)."""
    numbers = (torch.tensor([[v]], dtype=torch.float64) for v in (mu_1, sigma_1**2, mu_2, sigma_2**2))
    return normal_kl(*numbers).item()


def product() -> None:
    """Prior times likelihood: a prior of x, an observation y of it, and the posterior (book, eq. A.7 with a = 1)."""
    build_product().show()


def build_product() -> Explorer:
    """The explorer of `product`, not yet shown."""
    figure, ax = plots.subplots(size=(6.0, 3.6))
    (prior,) = ax.plot([], [], color=plots.BLUE, label="prior: N(x; m, P)")
    (likelihood,) = ax.plot([], [], color=plots.ORANGE, ls="--", label="likelihood: N(y; x, r), as a function of x")
    (posterior,) = ax.plot([], [], color=plots.GREEN, lw=3, label="posterior: N(x; mean, V)")
    ax.set(xlim=(-REACH, REACH), ylim=(0, 2.35), title="prior, likelihood and posterior")
    ax.set(xlabel="x", ylabel="density")
    ax.legend(loc="upper left")
    plot = LivePlot(figure, [prior, likelihood, posterior])
    x = torch.linspace(-REACH, REACH, 601, dtype=torch.float64)

    def update(m: float, P: float, y: float, r: float) -> str:
        V = 1 / (1 / P + 1 / r)
        mean = V * (m / P + y / r)
        for line, centre, variance in ((prior, m, P), (likelihood, y, r), (posterior, mean, V)):
            line.set_data(x, log_density(x, centre, variance).exp())
        return (
            f"Precisions add: 1/P + 1/r = {1 / P:.2f} + {1 / r:.2f} = {1 / V:.2f} = 1/V.<br>"
            f"Posterior mean {mean:.2f}, variance V = {V:.2f}: the observation has a share of {V / r:.0%} in the mean, "
            f"the prior {V / P:.0%}."
        )

    controls: dict[str, widgets.Widget] = {
        "m": float_slider("m", -1.0, -3, 3, 0.1, ".1f"),
        "P": float_slider("P", 1.0, 0.1, 4, 0.1, ".1f"),
        "y": float_slider("y", 2.0, -3, 3, 0.1, ".1f"),
        "r": float_slider("r", 0.5, 0.1, 4, 0.1, ".1f"),
    }
    alt = (
        "Three bells: the prior around -1 with variance 1, the likelihood around 2 with variance 0.5, and between them, "
        "nearer to the likelihood, the posterior around 1, narrower and taller than both."
    )
    return Explorer("Prior times likelihood", controls, plot, update, alt)


# -- how they are drawn ---------------------------------------------------------------------------------------------------


def log_density(x: torch.Tensor, mean: float, variance: float) -> torch.Tensor:
    """log N(x; mean, variance) at every x."""
    return normal_log_density(x[:, None], *torch.tensor([mean, variance], dtype=x.dtype))


def _area(ax: Any, colour: str, name: str) -> PolyCollection:
    """An area between a curve and zero, to be filled later."""
    area = PolyCollection([], facecolor=colour, alpha=0.35, label=name)
    ax.add_collection(area)
    return area


def _fill(area: PolyCollection, x: np.ndarray, values: np.ndarray) -> None:
    area.set_verts([np.column_stack([np.r_[x[0], x, x[-1]], np.r_[0, values, 0]])])
