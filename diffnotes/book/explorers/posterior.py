"""One step back, as Bayes' rule makes it (chapter 2): a slice of q(x_t) times a likelihood, with the start known or unknown."""

import math
from dataclasses import dataclass

import ipywidgets as widgets
import matplotlib
import numpy as np
import torch

from diffnotes.book.explorers.controls import check_range, dropdown, float_slider, int_slider
from diffnotes.book.explorers.gaussians import log_density
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.exact import MixtureDenoiser
from diffnotes.process.forward import q_posterior
from diffnotes.process.schedules import Schedule

LINE = (-2.6, 2.6)  # the part of the number line that is drawn
UNKNOWN = "unknown"
GREYS = 20  # of the heat map; with many more, a stored picture of 128 colours has none left for the curves
STARTS = {UNKNOWN: (-1.0, 1.0), "+1": (1.0,), "-1": (-1.0,)}  # what x_0 may be


def posterior(schedule: Schedule, t: int | None = None, back: int = 1, x_t: float = 0.2, start: str = UNKNOWN) -> None:
    """Slice and multiply, for one pixel that is -1 or +1 with equal chance: a heat map of q(x_t) over t, and beside it its
    slice at s = t - back, the likelihood of x_t, and their product, scaled to a density: the posterior of x_s.

    Sliders for t in 2..T (0.4 T unless given), back in 1..T-1 (s is at least 1) and x_t in -2..2; start: "unknown", "+1" or
    "-1". With a start the slice is the prior q(x_s | x_0) and the product (book, eq. 2.11); without one, q(x_s) and (book,
    eq. 2.12). Curves are scaled to height 1."""
    build_posterior(schedule, t, back, x_t, start).show()


def build_posterior(
    schedule: Schedule, t: int | None = None, back: int = 1, x_t: float = 0.2, start: str = UNKNOWN
) -> Explorer:
    """The explorer of `posterior`, not yet shown."""
    if schedule.T < 2:
        raise ValueError(f"schedule must have 2 steps or more, got {schedule.T}")
    t = max(2, round(0.4 * schedule.T)) if t is None else t
    check_range({"t": (t, 2, schedule.T), "back": (back, 1, schedule.T - 1), "x_t": (x_t, -2, 2)})
    if start not in STARTS:
        raise ValueError(f"start must be one of {', '.join(map(repr, STARTS))}, got {start!r}")

    figure, (map_ax, curve_ax) = plots.subplots(1, 2, size=(8.6, 4.2), sharey=True, width_ratios=[1.35, 1])
    maps = {name: _heat(schedule, values) for name, values in STARTS.items()}
    heat = map_ax.imshow(
        maps[start],
        extent=(0.5, schedule.T + 0.5, *LINE),
        origin="lower",
        aspect="auto",
        cmap=matplotlib.colormaps["Greys"].resampled(GREYS),
        vmin=0,
        vmax=1.4,
    )
    (cut,) = map_ax.plot([], [], color=plots.BLUE, lw=1.6)
    (now,) = map_ax.plot([], [], color=plots.ORANGE, lw=1.6, ls="--")
    (dot,) = map_ax.plot([], [], "o", color=plots.ORANGE, ms=8, mec=plots.BLACK)
    map_ax.grid(False)
    map_ax.set(xlim=(0, schedule.T + 0.5), ylim=LINE, xlabel="t", ylabel="a pixel")
    map_ax.set_title("$q(x_t)$, each time on its own scale")
    looks = (
        ("slice at s", plots.BLUE, "-", 2.0),
        ("likelihood of $x_t$", plots.ORANGE, "-", 2.0),
        ("product: the posterior of $x_s$", plots.BLACK, "-", 2.4),
        ("a Gaussian of its mean and variance", plots.RED, "--", 1.6),
    )
    curves = [curve_ax.plot([], [], color=colour, ls=ls, lw=lw, label=name)[0] for name, colour, ls, lw in looks]
    curve_ax.set(xlim=(0, 1.25), xticks=[], xlabel="each curve's own scale")
    curve_ax.set_title("slice, and multiply")
    figure.legend(handles=curves, loc="outside lower center", ncols=4, fontsize=8.5, columnspacing=1.6)
    plot = LivePlot(figure, [heat, cut, now, dot, *curves])
    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, 2, schedule.T),
        "back": int_slider("back", back, 1, schedule.T - 1),
        "x_t": float_slider("x_t", x_t, -2, 2, 0.05),
        "start": dropdown("start", list(STARTS), value=start),
    }

    def update(t: int, back: int, x_t: float, start: str) -> str:
        s = max(1, t - back)
        step = slice_and_multiply(schedule, t, s, x_t, start)
        heat.set_data(maps[start])
        cut.set_data([s, s], LINE)
        now.set_data([t, t], LINE)
        dot.set_data([t], [x_t])
        gaussian = _normal(step.x, step.mean, step.variance)
        scales = (step.prior.max(), step.likelihood.max(), step.posterior.max(), step.posterior.max())
        lines = (step.prior, step.likelihood, step.posterior, gaussian)
        for curve, y, scale in zip(curves, lines, scales, strict=True):
            curve.set_data(y / scale, step.x)
        curves[3].set_visible(start == UNKNOWN)
        return _reading(schedule, step, t, s, x_t, start)

    s = max(1, t - back)
    step = slice_and_multiply(schedule, t, s, x_t, start)
    alt = (
        f"Left, a heat map of a pixel over t: {'two branches begin' if start == UNKNOWN else 'a branch begins'} narrow and "
        f"widen into noise; a dot at {x_t:g} marks the present, t = {t}, a line the slice at s = {s}. Right, on the same axis, "
        f"the slice, the likelihood of the present, and their product, with {_humps(step.posterior)} and mean {step.mean:.2f}."
    )
    return Explorer("Slice and multiply", controls, plot, update, alt)


@dataclass(frozen=True)
class Product:
    """Bayes' rule on a line of values `x` of x_s: the `prior` times the `likelihood` of x_t, scaled to a density, is the
    `posterior`, with this `mean` and `variance`."""

    x: np.ndarray
    prior: np.ndarray
    likelihood: np.ndarray
    posterior: np.ndarray
    mean: float
    variance: float


def slice_and_multiply(schedule: Schedule, t: int, s: int, x_t: float, start: str = UNKNOWN) -> Product:
    """q(x_s | x_t), or q(x_s | x_t, x_0) with a start, by the product alone; (book, eq. 2.11) only says where on the
    line there is something to see."""
    before, alpha = schedule.alpha_bar[s].item(), (schedule.alpha_bar[t] / schedule.alpha_bar[s]).item()
    bells = [(math.sqrt(before) * value, 1 - before) for value in STARTS[start]]
    there = [
        (x_t / math.sqrt(alpha), (1 - alpha) / alpha),
        *(bridge(schedule, t, s, x_t, x_0) for x_0 in STARTS[start]),
    ]
    z = np.linspace(-7, 7, 701)  # points where there is something to see
    fine = [centre + math.sqrt(variance) * z for centre, variance in bells + there]
    x = np.unique(np.concatenate([np.linspace(*LINE, 400), *fine]))
    log_prior = np.logaddexp.reduce([_log_normal(x, *bell) for bell in bells]) - math.log(len(bells))
    log_likelihood = _log_normal(x_t, math.sqrt(alpha) * x, 1 - alpha)
    product = log_prior + log_likelihood
    posterior = np.exp(product - product.max())
    posterior /= np.trapezoid(posterior, x)
    mean = float(np.trapezoid(x * posterior, x))
    variance = float(np.trapezoid((x - mean) ** 2 * posterior, x))
    return Product(x, np.exp(log_prior), np.exp(log_likelihood), posterior, mean, variance)


def bridge(schedule: Schedule, t: int, s: int, x_t: float, x_0: float) -> tuple[float, float]:
    """Mean and variance of q(x_s | x_t, x_0) (book, eq. 2.11)."""
    start, present = (torch.tensor([[value]], dtype=torch.float64) for value in (x_0, x_t))
    mean, variance = q_posterior(schedule, start, present, t, s)
    return mean.item(), variance.item()


def humps(y: np.ndarray) -> int:
    """How many maxima a curve has, those below a thousandth of the highest left out."""
    inner = y[1:-1]
    return int(((inner > y[:-2]) & (inner >= y[2:]) & (inner > y.max() / 1000)).sum())


def _heat(schedule: Schedule, values: tuple[float, ...]) -> np.ndarray:
    """q(x_t) for data at these values with equal chance, at most 250 times as columns, each in shares of its highest."""
    times = np.unique(np.linspace(1, schedule.T, min(schedule.T, 250)).round().astype(int))
    left = schedule.alpha_bar[torch.from_numpy(times)].numpy()
    x = np.linspace(*LINE, 240)[:, None]
    columns = sum(np.exp(-((x - np.sqrt(left) * value) ** 2) / (2 * (1 - left))) for value in values)
    return np.asarray((columns / columns.max(0)) ** 0.7)


def _reading(schedule: Schedule, step: Product, t: int, s: int, x_t: float, start: str) -> str:
    before, now = schedule.alpha_bar[s].item(), schedule.alpha_bar[t].item()
    alpha = now / before
    where = f"From t = {t} back to s = {s} (ᾱ_s = {before:.3f}, and from there one step with β = {1 - alpha:.3f}): "
    if start == UNKNOWN:
        coin = coin_step(before, 1 - alpha, x_t)
        minus, plus = (f"{100 * share:.1f} %" for share in coin.shares)
        far = "less than 1e-10" if coin.kl < 1e-10 else f"{coin.kl:.2g}"
        return (
            f"{where}given x_t, x_0 is -1 with {minus} and +1 with {plus}. The product has {_humps(step.posterior)}, mean "
            f"{round(step.mean, 3) + 0.0:.3f} and variance {step.variance:.3g}; its divergence from the Gaussian with these "
            f"two is {far} nats."
        )
    x_0 = STARTS[start][0]
    weights = bridge(schedule, t, s, 1, 0)[0], bridge(schedule, t, s, 0, 1)[0]
    reading = (
        f"{where}x_0 gives {math.sqrt(before) * x_0:.3f} (variance {1 - before:.3g}), x_t gives {x_t / math.sqrt(alpha):.3f} "
        f"(variance {(1 - alpha) / alpha:.3g}); together {weights[0]:.3f} x_t + {weights[1]:.3f} x_0 = {step.mean:.3f}, "
        f"variance {step.variance:.3g}."
    )
    eps = (x_t - math.sqrt(now) * x_0) / math.sqrt(1 - now)
    if abs(eps) <= 4:
        return reading
    return (
        f'{reading} <span style="color:#B04A00"><b>⚠ Hardly ever seen.</b> To come from this x_0 to this x_t takes '
        f"ε = {eps:.1f}; the formula holds all the same.</span>"
    )


def _humps(y: np.ndarray) -> str:
    return "one hump" if humps(y) == 1 else "two humps"


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


def _normal(x: np.ndarray, mean: float, variance: float) -> np.ndarray:
    return log_density(torch.from_numpy(x), mean, variance).exp().numpy()


def _log_normal(x: np.ndarray | float, mean: np.ndarray | float, variance: float) -> np.ndarray:
    return np.asarray(-((x - mean) ** 2) / (2 * variance) - 0.5 * math.log(2 * math.pi * variance))
