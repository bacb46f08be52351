"""The noise schedule with sliders: its curves, and one image at a time t (chapter 1)."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import (
    dropdown,
    float_slider,
    int_slider,
    log_slider,
    one_image,
    shown_pixels,
)
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import to_uint8


def schedule(image: Tensor, seed: int = 0) -> None:
    """Explore noise schedules: kind, T, beta_1, beta_T (or s), and a time t at which one image is shown noised.

    image: (C, H, W) or (1, C, H, W), grey or in colour, values in [-1, 1]. Curves run over t / T, so that schedules of any
    length compare."""
    build_schedule(image, seed).show()


def build_schedule(image: Tensor, seed: int = 0) -> Explorer:
    """The explorer of `schedule`, not yet shown."""
    image = one_image("image", image)
    eps = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)

    figure, axes = plots.subplots(2, 2, size=(6.0, 4.7))
    beta_ax, abar_ax, snr_ax, digit_ax = axes.flat
    (beta,) = beta_ax.plot([], [], color=plots.BLUE, label=r"$\beta_t$")
    (beta_tilde,) = beta_ax.plot([], [], color=plots.ORANGE, ls="--", label=r"$\tilde\beta_t$")
    beta_ax.set(xlim=(0, 1), ylim=(1e-6, 1.5), yscale="log", title="noise of one step", xlabel="t / T")
    beta_ax.legend(loc="lower right")
    (abar,) = abar_ax.plot([], [], color=plots.BLUE)
    abar_ax.set(xlim=(0, 1), ylim=(-0.02, 1.02), title=r"what is left of the image, $\bar\alpha_t$", xlabel="t / T")
    (snr,) = snr_ax.plot([], [], color=plots.BLUE)
    snr_ax.set(xlim=(0, 1), ylim=(-25, 15), title="log SNR(t), nats", xlabel="t / T")
    digit_ax.set(xticks=[], yticks=[], title="the image at t")
    digit_ax.grid(False)
    digit = digit_ax.imshow(shown_pixels(to_uint8(image)[0]), cmap="gray", vmin=0, vmax=255)
    markers = [ax.axvline(0.2, color=plots.RED, lw=1.2) for ax in (beta_ax, abar_ax, snr_ax)]
    plot = LivePlot(figure, [beta, beta_tilde, abar, snr, digit, *markers])

    def beta_slider(value: float, below: int, above: int, name: str) -> widgets.FloatLogSlider:
        """`below` and `above` count the steps on either side of value, which so lies on a step: or the page would move it."""
        low, high = math.log10(value) - 0.05 * below, math.log10(value) + 0.05 * above
        return log_slider(name, value, low, high, 0.05)

    controls: dict[str, widgets.Widget] = {
        "kind": dropdown("kind", ["linear", "quadratic", "sigmoid", "cosine"]),
        "T": int_slider("T", 1000, 10, 2000, 10),
        "beta_1": beta_slider(1e-4, 20, 40, "β_1"),
        "beta_T": beta_slider(0.02, 26, 28, "β_T"),
        "s": float_slider("s", 0.008, 0, 0.1, 0.002, ".3f"),
        "t": int_slider("t", 200, 0, 1000),
    }
    controls["T"].observe(lambda change: setattr(controls["t"], "max", change["new"]), "value")

    def update(kind: str, T: int, beta_1: float, beta_T: float, s: float, t: int) -> str:
        cosine = kind == "cosine"
        controls["beta_1"].disabled = controls["beta_T"].disabled = cosine
        controls["s"].disabled = not cosine
        t = min(t, T)  # a moment ago t may have been beyond the new T
        noise = Schedule.cosine(T, s) if cosine else getattr(Schedule, kind)(T, beta_1, beta_T)
        _draw_curves(noise, beta, beta_tilde, abar, snr)
        for marker in markers:
            marker.set_xdata([t / T, t / T])
        digit.set_data(shown_pixels(to_uint8(q_sample(noise, image, t, eps))[0]))
        return _schedule_reading(noise, image, t)

    alt = (
        "Four panels for the linear schedule with T = 1000: the step variances rise from 0.0001 to 0.02; what is left of the "
        "image falls smoothly from 1 to almost 0; the log signal-to-noise ratio falls from 9 to -10; and a digit at t = 200, "
        "still readable under the noise."
    )
    return Explorer("The noise schedule", controls, plot, update, alt)


def _draw_curves(noise: Schedule, beta: Any, beta_tilde: Any, abar: Any, snr: Any) -> None:
    """Put the schedule's tables into the four curves, at 250 times at most: more than a screen can show apart."""
    t = torch.from_numpy(np.unique(np.linspace(1, noise.T, min(noise.T, 250)).round().astype(np.int64)))
    x = (t / noise.T).numpy()
    beta.set_data(x, noise.beta[t].numpy())
    beta_tilde.set_data(x[1:], noise.posterior_variance[t[1:]].numpy())
    abar.set_data(np.r_[0, x], np.r_[1, noise.alpha_bar[t].numpy()])
    snr.set_data(x, noise.log_snr[t].clamp(-60, 60).numpy())


def _schedule_reading(noise: Schedule, image: Tensor, t: int) -> str:
    abar_T, bits = noise.alpha_bar[-1].item(), noise.prior_kl(image).item() / math.log(2)
    abar_t = noise.alpha_bar[t].item()
    numbers = (
        f"ᾱ_T = {abar_T:.2g} · D_KL(q(x_T | x_0) ‖ N(0, I)) = {bits:.2g} bits for the whole image · "
        f"at t = {t}: ᾱ_t = {abar_t:.3g}, the image enters with weight {math.sqrt(abar_t):.3f}, "
        f"the noise with {math.sqrt(1 - abar_t):.3f}."
    )
    if bits <= 1:
        return f"{numbers}<br>The chain ends in noise: less than one bit sets x_T apart from N(0, I)."
    warning = "<b>⚠ The prior is missed.</b> A sampler starts from N(0, I), and this chain does not end there: "
    return (
        f'{numbers}<br><span style="color:#B04A00">{warning} {bits:.3g} bits set the two apart. Raise T or β_T.</span>'
    )
