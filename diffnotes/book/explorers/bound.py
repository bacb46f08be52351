"""The gap of the bound (chapter 3) for Gaussian data, where every reverse step is known: the model's steps against them."""

import math
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import dropdown, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.elbo import model_variance
from diffnotes.process.schedules import Schedule

SCALE = math.log2(127.5)  # from a density on [-1, 1] to 256 grey values, bits (book, eq. 3.8)


def bound() -> None:
    """Explore the bound for data N(0, s^2) and the optimal denoiser E[x_0 | x_t]: the variance of each reverse step, that of
    the model, and the KL divergence that their difference makes. Controls: kind of schedule, T, s, and the model's choice of
    sigma_t^2."""
    build_bound().show()


def build_bound() -> Explorer:
    """The explorer of `bound`, not yet shown."""
    figure, (variance_ax, cost_ax) = plots.subplots(1, 2, size=(7.0, 3.3))
    looks = ((plots.BLACK, "-", "true step back"), (plots.RED, "--", "the model's σ_t²"))
    true_line, model_line = (variance_ax.plot([], [], color=c, ls=ls, label=name)[0] for c, ls, name in looks)
    variance_ax.set(
        xscale="log", xlim=(1, 1000), ylim=(0, 1.5), xlabel="t", title="variance of the step, in units of β_t"
    )
    variance_ax.legend(loc="lower right")
    (cost_line,) = cost_ax.plot([], [], color=plots.BLUE, marker=".", ms=3)
    cost_ax.set(
        xscale="log",
        yscale="log",
        xlim=(1, 1000),
        ylim=(1e-9, 10),
        xlabel="t",
        title="their KL divergence, nats per pixel",
    )
    plot = LivePlot(figure, [true_line, model_line, cost_line])

    controls: dict[str, widgets.Widget] = {
        "kind": dropdown("kind", ["cosine", "linear"]),
        "T": int_slider("T", 1000, 10, 1000, 10),
        "s": float_slider("s", 0.5, 0.02, 1.2, 0.02),
        "variance": dropdown("σ_t²", ["beta_tilde", "beta"]),
    }

    def update(kind: str, T: int, s: float, variance: str) -> str:
        # T linear steps with the same noise in all: beta is proportional to 1 / T, as far as beta_t < 1 lets it
        scale = 1000 / T
        schedule = (
            Schedule.cosine(T)
            if kind == "cosine"
            else Schedule.linear(T, min(1e-4 * scale, 0.5), min(0.02 * scale, 0.999))
        )
        step_back, sigma2, cost = gaussian_steps(schedule, s, variance)
        t, beta = torch.arange(1, T + 1), schedule.beta[1:]
        true_line.set_data(t, step_back / beta)
        model_line.set_data(t, sigma2 / beta)
        cost_line.set_data(t, cost.clamp(min=1e-12))
        return _reading(schedule, s, cost)

    alt = (
        "Left, over t from 1 to 1000 on a logarithmic axis: the true step back has nearly the variance beta_t, the model's "
        "beta-tilde_t is half of that at t = 2 and approaches it later. Right: the KL divergence of the two falls from 0.2 "
        "nats per pixel at the first steps to less than 0.0001 after the hundredth."
    )
    return Explorer("The gap of the bound, step by step", controls, plot, update, alt)


def gaussian_steps(schedule: Schedule, s: float, variance: str) -> tuple[Tensor, Tensor, Tensor]:
    """For data N(0, s^2), one pixel, t = 1..T: the variance beta_t v_{t-1} / v_t of the true step back (book, eq. 2.16),
    v_t = alpha_bar_t s^2 + 1 - alpha_bar_t; the model's sigma_t^2; and the mean divergence of the two in nats. The optimal
    denoiser gives both the same mean, so only their ratio rho counts: 1/2 (rho - 1 - log rho) (book, eq. A.16)."""
    v = schedule.alpha_bar * s**2 + 1 - schedule.alpha_bar
    step_back = schedule.beta[1:] * v[:-1] / v[1:]
    sigma2 = model_variance(schedule, variance)[1:]
    excess = step_back / sigma2 - 1
    return step_back, sigma2, 0.5 * (excess - torch.log1p(excess))


def _reading(schedule: Schedule, s: float, cost: Tensor) -> str:
    excess = schedule.alpha_bar[-1].item() * (s**2 - 1)  # v_T - 1
    prior = 0.5 * (excess - math.log1p(excess))
    bits: Any = {
        "entropy": 0.5 * math.log2(2 * math.pi * math.e * s**2) + SCALE,
        "prior": prior / math.log(2),
        "first": cost[:10].sum().item() / math.log(2),
        "rest": cost[10:].sum().item() / math.log(2),
    }
    return (
        f"the bound: {sum(bits.values()):.3f} bits per dimension = {bits['entropy']:.3f} entropy of the data "
        f"+ {bits['prior']:.2g} prior + {bits['first']:.3g} the steps t ≤ 10 + {bits['rest']:.2g} the others."
    )
