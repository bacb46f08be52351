"""Bells under the hands: two of them and their KL divergence, and a prior that meets an observation (chapter 1)."""

from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.collections import PolyCollection

from diffnotes.book import plots
from diffnotes.book.explorers.controls import number
from diffnotes.book.live import Explorer, LivePlot
from diffnotes.process.gaussian import normal_kl, normal_log_density

REACH = 6.0  # the pictures show x from -REACH to REACH
LOWEST, HIGHEST = -0.55, 1.65  # of the integrand, in nats per unit of x


def kl() -> None:
    """Two Gaussians q and p: their densities, the integrand q log(q / p), and both KL divergences (book, eq. 1.13)."""
    build_kl().show()


def build_kl() -> Explorer:
    """The explorer of `kl`, not yet shown."""
    figure, (bells, integrand) = plots.subplots(2, 1, size=(6.0, 4.7), sharex=True)
    (q_line,) = bells.plot([], [], color=plots.BLUE, label="q = N(μ_1, σ_1²)")
    (p_line,) = bells.plot([], [], color=plots.ORANGE, ls="--", label="p = N(μ_2, σ_2²)")
    bells.set(xlim=(-REACH, REACH), ylim=(0, 1.05), title="two densities", ylabel="density")
    bells.legend(loc="upper left")
    (line,) = integrand.plot([], [], color=plots.BLACK, lw=1.4)
    above, below = _area(integrand, plots.GREEN, "counts up"), _area(integrand, plots.RED, "counts down")
    integrand.axhline(0, color=plots.BLACK, lw=0.8)
    integrand.set(ylim=(LOWEST, HIGHEST), xlabel="x", ylabel="nats per unit of x")
    integrand.set_title("q log(q / p): its integral is D_KL(q ‖ p)")
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
        "mu_1": number("μ_1", 0.0, -2, 2, 0.1),
        "sigma_1": number("σ_1", 1.0, 0.4, 2, 0.1),
        "mu_2": number("μ_2", 1.0, -2, 2, 0.1),
        "sigma_2": number("σ_2", 1.0, 0.4, 2, 0.1),
    }
    alt = (
        "Above, two bells of width 1: q around 0 and p around 1. Below, the integrand q log(q / p): a hill left of one "
        "half, where q is the higher bell, and a shallow valley right of it. The hill is larger: the divergence is 0.5 nats."
    )
    return Explorer("How far is p from q?", controls, plot, update, alt)


def _kl_reading(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> str:
    forward, backward = _kl(mu_1, sigma_1, mu_2, sigma_2), _kl(mu_2, sigma_2, mu_1, sigma_1)
    numbers = f"D_KL(q ‖ p) = {forward:.3f} nats · D_KL(p ‖ q) = {backward:.3f} nats · "
    if max(forward, backward) < 1e-9:
        return numbers + "the two laws are the same."
    if abs(sigma_1 - sigma_2) < 1e-9:
        return numbers + "equal widths: half the squared distance of the means over σ², and the same both ways."
    if abs(mu_1 - mu_2) < 1e-9:
        return numbers + f"equal means: what counts is ρ = σ_1²/σ_2² = {(sigma_1 / sigma_2) ** 2:.2f}."
    return numbers + "the order of the two laws matters."


def _kl(mu_1: float, sigma_1: float, mu_2: float, sigma_2: float) -> float:
    numbers = (torch.tensor([[v]], dtype=torch.float64) for v in (mu_1, sigma_1**2, mu_2, sigma_2**2))
    return normal_kl(*numbers).item()


def product() -> None:
    """Prior times likelihood: what is known of x, an observation y of it, and the posterior (book, eq. 1.7 with a = 1)."""
    build_product().show()


def build_product() -> Explorer:
    """The explorer of `product`, not yet shown."""
    figure, ax = plots.subplots(size=(6.0, 3.6))
    (prior,) = ax.plot([], [], color=plots.BLUE, label="prior: N(x; m, P)")
    (likelihood,) = ax.plot([], [], color=plots.ORANGE, ls="--", label="likelihood: N(y; x, r), as a function of x")
    (posterior,) = ax.plot([], [], color=plots.GREEN, lw=3, label="posterior: N(x; mean, V)")
    ax.set(xlim=(-REACH, REACH), ylim=(0, 2.35), title="what was believed, what was seen, what follows")
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
        "m": number("m", -1.0, -3, 3, 0.1, ".1f"),
        "P": number("P", 1.0, 0.1, 4, 0.1, ".1f"),
        "y": number("y", 2.0, -3, 3, 0.1, ".1f"),
        "r": number("r", 0.5, 0.1, 4, 0.1, ".1f"),
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
