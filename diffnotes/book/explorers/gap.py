"""An approximate posterior q (chapter 10): its reconstruction term, its KL to the prior, and the gap of its ELBO."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
from matplotlib.patches import Rectangle

from diffnotes.book.explorers.controls import check_range, float_slider
from diffnotes.book.explorers.gaussians import divergence, log_density
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

W, S = 0.8, 0.6  # z ~ N(0, 1) and x | z ~ N(W z, S^2); as W^2 + S^2 = 1, also x ~ N(0, 1)
Z = (-2.8, 3.6)  # the part of the line of z that is drawn
LOWEST = -7.5  # of the accounts, in nats


def gap(x: float = 1.5, m: float = 0.4, sigma: float = 0.3) -> None:
    """An approximate posterior q = N(m, sigma^2) of the hidden z behind x, in the linear-Gaussian model with w = 0.8 and
    s = 0.6: the ELBO, its two parts (book, eq. 10.6) and its gap to log p(x) (book, eq. 10.5). Sliders for x and m in 0..2,
    sigma in 0.25..1."""
    build_gap(x, m, sigma).show()


def build_gap(x: float = 1.5, m: float = 0.4, sigma: float = 0.3) -> Explorer:
    """The explorer of `gap`, not yet shown."""
    check_range({"x": (x, 0, 2), "m": (m, 0, 2), "sigma": (sigma, 0.25, 1)})
    figure, (bells, sums) = plots.subplots(1, 2, size=(7.4, 3.7))
    (prior,) = bells.plot([], [], color=plots.ORANGE, label="prior: N(z; 0, 1)")
    (posterior,) = bells.plot([], [], color="#999999", lw=4, label="posterior: p(z | x)")
    (approximate,) = bells.plot([], [], color=plots.BLUE, ls="--", label="approximate posterior: q = N(z; m, σ²)")
    bells.set(xlim=Z, ylim=(0, 2.15), xlabel="z", ylabel="density", title="prior, posterior and q")
    bells.legend(loc="upper left")
    boxes = []
    for i, colour in enumerate((plots.RED, plots.ORANGE, "#bbbbbb")):
        boxes.append(sums.add_patch(Rectangle((i - 0.35, 0), 0.7, 0, facecolor=colour, alpha=0.75)))
    looks = ((-0.5, "-", plots.BLACK), (0.65, "--", plots.GREEN))
    lines = [sums.plot([left, 3.65], [0, 0], color=colour, ls=style, lw=1.6)[0] for left, style, colour in looks]
    names = [sums.text(3.6, 0, name, va="center", ha="right") for name in ("log p(x)", "ELBO")]
    sums.set(xlim=(-0.5, 3.65), ylim=(LOWEST, 0.5), ylabel="nats", title="reconstruction - KL + gap = log p(x)")
    sums.set_xticks(range(3), ["reconstruction", "KL", "gap"])
    plot = LivePlot(figure, [prior, posterior, approximate, *boxes, *lines, *names])
    z = torch.linspace(*Z, 641, dtype=torch.float64)

    def update(x: float, m: float, sigma: float) -> str:
        entry = account(x, m, sigma)
        true_mean, true_sigma = posterior_of(x)
        for bell, mean, spread in ((prior, 0, 1), (posterior, true_mean, true_sigma), (approximate, m, sigma)):
            bell.set_data(z.numpy(), log_density(z, mean, spread**2).exp().numpy())
        steps = (0, entry.reconstruction), (entry.reconstruction, entry.elbo), (entry.elbo, entry.elbo + entry.gap)
        for box, (start, stop) in zip(boxes, steps, strict=True):
            box.set_y(min(start, stop))
            box.set_height(abs(stop - start))
        for line, name, height, aside in zip(lines, names, (entry.log_p, entry.elbo), (0.3, -0.3), strict=True):
            line.set_ydata([height, height])
            name.set_y(height + aside)
        return _reading(entry, abs(m - true_mean), sigma, true_sigma)

    controls: dict[str, widgets.Widget] = {
        "x": float_slider("x", x, 0, 2, 0.05),
        "m": float_slider("m", m, 0, 2, 0.02),
        "sigma": float_slider("σ", sigma, 0.25, 1, 0.05),
    }
    entry = account(x, m, sigma)
    alt = (
        f"Left, three bells over z: the wide prior around 0, the posterior around {posterior_of(x)[0]:.2g} and, dashed, the "
        f"approximate posterior q around {m:g}. Right, three boxes one after the other: the reconstruction goes down from 0 to "
        f"{entry.reconstruction:.2f} nats, the KL to the prior on to {entry.elbo:.2f}, the ELBO, and the gap back up to "
        f"log p(x), {entry.log_p:.2f}."
    )
    return Explorer("An approximate posterior, its KL to the prior and its gap", controls, plot, update, alt)


@dataclass(frozen=True)
class Account:
    """The bound of log p(x) for a Gaussian q, in nats: `log_p`, the `reconstruction` term and `kl`, which is the
    prior matching term (book, eq. 10.6), and the gap (book, eq. 10.5) in two parts: `by_mean` for the wrong mean of q alone,
    `by_sigma` for its wrong standard deviation alone."""

    log_p: float
    reconstruction: float
    kl: float
    by_mean: float
    by_sigma: float

    @property
    def elbo(self) -> float:
        """reconstruction - kl."""
        return self.reconstruction - self.kl

    @property
    def gap(self) -> float:
        """D_KL(q || p(z | x)): by_mean + by_sigma."""
        return self.by_mean + self.by_sigma


def account(x: float, m: float, sigma: float) -> Account:
    """The bound for q = N(m, sigma^2) of the z behind x."""
    (here,) = torch.tensor([[x]], dtype=torch.float64)
    true_mean, true_sigma = posterior_of(x)
    return Account(
        log_p=log_density(here, 0, W**2 + S**2).item(),
        reconstruction=log_density(here, W * m, S**2).item() - W**2 * sigma**2 / (2 * S**2),  # E_q[log N(x; W z, S^2)]
        kl=divergence(m, sigma, 0, 1),
        by_mean=divergence(m, true_sigma, true_mean, true_sigma),
        by_sigma=divergence(true_mean, sigma, true_mean, true_sigma),
    )


def posterior_of(x: float) -> tuple[float, float]:
    """Mean and standard deviation of p(z | x): prior times likelihood (book, eq. A.7 with a = W)."""
    V = 1 / (1 + W**2 / S**2)
    return V * W * x / S**2, V**0.5


def _reading(entry: Account, off: float, sigma: float, true_sigma: float) -> str:
    reading = (
        f"log p(x) = {entry.log_p:.3f} nats = ELBO {entry.elbo:.3f} + gap {entry.gap:z.3f}. "
        f"The ELBO: reconstruction {entry.reconstruction:.3f}, less a KL to the prior of {entry.kl:z.3f}.<br>"
    )
    if entry.gap < 5e-4:
        return f"{reading}q is the posterior: the bound is tight."
    if entry.kl < 5e-4:
        return f"{reading}q is the prior: its KL is 0, and it does not depend on x."
    return (
        f"{reading}Of the gap, {entry.by_mean:z.3f} nats are for a mean that is off by {off:.2f}, and {entry.by_sigma:z.3f} for "
        f"a standard deviation of {sigma:.2f} instead of {true_sigma:.2f}."
    )
