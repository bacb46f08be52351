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


def gap(x: float = 1.5, m: float = 0.4, width: float = 0.3) -> None:
    """An approximate posterior q = N(m, width^2) of the hidden z behind x, in the linear-Gaussian model with w = 0.8 and
    s = 0.6: the ELBO, its two parts (book, eq. 10.6) and its gap to log p(x) (book, eq. 10.5). Sliders for x and m in 0..2,
    width in 0.25..1."""
    build_gap(x, m, width).show()


def build_gap(x: float = 1.5, m: float = 0.4, width: float = 0.3) -> Explorer:
    """The explorer of `gap`, not yet shown."""
    check_range({"x": (x, 0, 2), "m": (m, 0, 2), "width": (width, 0.25, 1)})
    figure, (bells, sums) = plots.subplots(1, 2, size=(7.4, 3.7))
    (prior,) = bells.plot([], [], color=plots.BLUE, label="prior: N(z; 0, 1)")
    (posterior,) = bells.plot([], [], color=plots.ORANGE, lw=4, label="posterior: p(z | x)")
    (guess,) = bells.plot([], [], color=plots.BLACK, ls="--", label="the guess: q = N(z; m, width²)")
    bells.set(xlim=Z, ylim=(0, 2.15), xlabel="z", ylabel="density", title="what z may have been")
    bells.legend(loc="upper left")
    boxes = []
    for place, colour in enumerate(("#bbbbbb", plots.BLUE, plots.ORANGE)):
        boxes.append(sums.add_patch(Rectangle((place - 0.35, 0), 0.7, 0, facecolor=colour, alpha=0.75)))
    looks = ((-0.5, "-"), (0.65, "--"))
    lines = [sums.plot([left, 3.65], [0, 0], color=plots.BLACK, ls=style, lw=1.6)[0] for left, style in looks]
    names = [sums.text(3.6, 0, name, va="center", ha="right") for name in ("log p(x)", "ELBO")]
    sums.set(xlim=(-0.5, 3.65), ylim=(LOWEST, 0.5), ylabel="nats", title="reconstruction - price + gap = log p(x)")
    sums.set_xticks(range(3), ["reconstruction", "price", "gap"])
    plot = LivePlot(figure, [prior, posterior, guess, *boxes, *lines, *names])
    z = torch.linspace(*Z, 641, dtype=torch.float64)

    def update(x: float, m: float, width: float) -> str:
        entry = account(x, m, width)
        true_mean, true_width = posterior_of(x)
        for bell, mean, spread in ((prior, 0, 1), (posterior, true_mean, true_width), (guess, m, width)):
            bell.set_data(z.numpy(), log_density(z, mean, spread**2).exp().numpy())
        steps = (0, entry.reconstruction), (entry.reconstruction, entry.elbo), (entry.elbo, entry.elbo + entry.gap)
        for box, (start, stop) in zip(boxes, steps, strict=True):
            box.set_y(min(start, stop))
            box.set_height(abs(stop - start))
        for line, name, height, aside in zip(lines, names, (entry.log_p, entry.elbo), (0.3, -0.3), strict=True):
            line.set_ydata([height, height])
            name.set_y(height + aside)
        return _reading(entry, abs(m - true_mean), width, true_width)

    controls: dict[str, widgets.Widget] = {
        "x": float_slider("x", x, 0, 2, 0.05),
        "m": float_slider("m", m, 0, 2, 0.02),
        "width": float_slider("width", width, 0.25, 1, 0.05),
    }
    entry = account(x, m, width)
    alt = (
        f"Left, three bells over z: the wide prior around 0, the posterior around {posterior_of(x)[0]:.2g} and, dashed, the "
        f"guess q around {m:g}. Right, three boxes one after the other: the reconstruction goes down from 0 to "
        f"{entry.reconstruction:.2f} nats, the price on to {entry.elbo:.2f}, the ELBO, and the gap back up to log p(x), "
        f"{entry.log_p:.2f}."
    )
    return Explorer("A guess, its price and its gap", controls, plot, update, alt)


@dataclass(frozen=True)
class Account:
    """The bound of log p(x) for a Gaussian guess q, in nats: `log_p`, the `reconstruction` term and the `price`, which is the
    prior matching term (book, eq. 10.6), and the gap (book, eq. 10.5) in two parts: `by_mean` for the wrong mean of q alone,
    `by_width` for its wrong width alone."""

    log_p: float
    reconstruction: float
    price: float
    by_mean: float
    by_width: float

    @property
    def elbo(self) -> float:
        """reconstruction - price."""
        return self.reconstruction - self.price

    @property
    def gap(self) -> float:
        """D_KL(q || p(z | x)): by_mean + by_width."""
        return self.by_mean + self.by_width


def account(x: float, m: float, width: float) -> Account:
    """What the guess q = N(m, width^2) for the z behind x gains and costs."""
    (here,) = torch.tensor([[x]], dtype=torch.float64)
    true_mean, true_width = posterior_of(x)
    return Account(
        log_p=log_density(here, 0, W**2 + S**2).item(),
        reconstruction=log_density(here, W * m, S**2).item() - W**2 * width**2 / (2 * S**2),  # E_q[log N(x; W z, S^2)]
        price=divergence(m, width, 0, 1),
        by_mean=divergence(m, true_width, true_mean, true_width),
        by_width=divergence(true_mean, width, true_mean, true_width),
    )


def posterior_of(x: float) -> tuple[float, float]:
    """Mean and width of p(z | x): prior times likelihood (book, eq. A.7 with a = W)."""
    V = 1 / (1 + W**2 / S**2)
    return V * W * x / S**2, V**0.5


def _reading(entry: Account, off: float, width: float, true_width: float) -> str:
    reading = (
        f"log p(x) = {entry.log_p:.3f} nats = ELBO {entry.elbo:.3f} + gap {entry.gap:z.3f}. "
        f"The ELBO: reconstruction {entry.reconstruction:.3f}, less a price of {entry.price:z.3f}.<br>"
    )
    if entry.gap < 5e-4:
        return f"{reading}The guess is the posterior: nothing is lost, whatever the price."
    if entry.price < 5e-4:
        return f"{reading}The guess is the prior: it pays nothing, and knows nothing of x."
    return (
        f"{reading}Of the gap, {entry.by_mean:z.3f} nats are for a mean that is off by {off:.2f}, and {entry.by_width:z.3f} for "
        f"a width of {width:.2f} instead of {true_width:.2f}."
    )
