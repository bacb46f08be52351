"""The scale of latents as a shift of the noise schedule (chapter 18)."""

import math

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, dropdown, log_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof.line import Mixture, dpm_solver
from diffnotes.process.schedules import Schedule

UNIT = Mixture(means=(-0.96, 0.96), weights=(0.5, 0.5), sd=0.28)  # of variance 1
SCHEDULES = {"cosine": "cosine", "linear": "linear"}
LOW, HIGH = -1.7, 1.7  # of the slider, powers of ten
BAND = (0.05, 20.0)  # of the SNR: below hardly anything of the data is seen, above hardly any noise
STEPS, POINTS, EDGE = 20, 801, 3.0
TABLES = {"cosine": Schedule.cosine(T=1000), "linear": Schedule.linear(T=1000)}


def scale(sigma: float = 1.0, schedule: str = "cosine") -> None:
    """Data of standard deviation sigma_z given to a schedule that was made for 1 (book, eq. 18.5).

    Left log SNR against the time, with the band in which something is decided; in the middle the density of z_t in units of its
    own standard deviation; right what 20 DDIM steps with the exact denoiser draw, in units of sigma_z, over the data.
    sigma: a slider from 0.02 to 50; schedule: a menu, "cosine" or "linear"."""
    build_scale(sigma, schedule).show()


def build_scale(sigma: float = 1.0, schedule: str = "cosine") -> Explorer:
    """The explorer of `scale`, not yet shown."""
    check_range({"sigma": (sigma, 10**LOW, 10**HIGH)})
    if schedule not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(map(repr, SCHEDULES))}, got {schedule!r}")
    figure, axes = plots.subplots(1, 3, size=(10.4, 3.2))
    t, x = np.arange(1, 1001), np.linspace(-EDGE, EDGE, 121)
    axes[0].axhspan(*np.log10(BAND), color=plots.YELLOW, alpha=0.35)
    (plain,) = axes[0].plot([], [], color="#999999", ls="--", lw=1.3, label="σ_z = 1")
    (line,) = axes[0].plot([], [], color=plots.BLUE, label="this σ_z")
    axes[0].set(xlim=(0, 1000), ylim=(-9, 8), xlabel="time t", ylabel="log₁₀ SNR", title="which schedule the data see")
    axes[0].legend(loc="lower left")
    extent = (0, 1000, -EDGE, EDGE)
    heat = axes[1].imshow(
        np.zeros((len(x), 200)), aspect="auto", origin="lower", extent=extent, cmap="viridis", vmin=0, vmax=0.75
    )
    axes[1].set(xlabel="time t", ylabel="z_t / its deviation", title="density of z_t")
    axes[1].grid(False)
    bins = np.linspace(-2.2, 2.2, 45)
    centres = (bins[1:] + bins[:-1]) / 2
    axes[2].plot(centres, density(centres, 0.0), color="#999999", ls="--", lw=1.3, label="the data")
    (drawn,) = axes[2].plot([], [], color=plots.ORANGE, drawstyle="steps-mid", label="drawn")
    axes[2].set(xlim=(-2.2, 2.2), ylim=(0, 3), xlabel="z / σ_z", ylabel="density", title=f"{STEPS} exact steps")
    axes[2].legend(loc="upper right")
    plot = LivePlot(figure, [plain, line, heat, drawn])
    controls: dict[str, widgets.Widget] = {
        "sigma": log_slider("σ_z", sigma, LOW, HIGH, 0.02),
        "schedule": dropdown("schedule", [(words, name) for name, words in SCHEDULES.items()], value=schedule),
    }

    def update(sigma: float, schedule: str) -> str:
        alpha_bar = TABLES[schedule].alpha_bar.numpy()
        snr = np.clip(alpha_bar[1:] / (1 - alpha_bar[1:]), 1e-300, None)
        plain.set_data(t, np.log10(snr))
        line.set_data(t, np.log10(snr * sigma**2))
        abar = alpha_bar[5::5]
        seen = abar * sigma**2 / (abar * sigma**2 + 1 - abar)  # alpha_bar' of (18.5)
        heat.set_data(spread(x, seen))
        values = draws(sigma, schedule) / sigma
        counts, _ = np.histogram(values, bins)
        drawn.set_data(centres, counts / len(values) / (bins[1] - bins[0]))
        share = ((snr * sigma**2 > BAND[0]) & (snr * sigma**2 < BAND[1])).mean()
        return (
            f"σ_z = {sigma:.3g}: log SNR is shifted by {2 * math.log(sigma):+.2f}, {2 * math.log10(sigma):+.2f} powers of ten; "
            f"{share:.0%} of the times lie in the band. What {STEPS} exact steps draw has {values.std():.2f} of the "
            "standard deviation of the data."
        )

    alt = (
        f"Left, log SNR falls with time, dashed for σ_z = 1 and blue for σ_z = {sigma:g}, and crosses a yellow band. "
        "Middle, a map of the density of z_t over time: two bright lines run together into one. Right, the "
        "two humps of the data, dashed, and an orange step line of what 20 exact DDIM steps draw."
    )
    return Explorer("Which schedule is it really?", controls, plot, update, alt)


def draws(sigma: float, schedule: str) -> np.ndarray:
    """Quantiles (POINTS,) of what 20 even DDIM steps with the exact denoiser make of N(0, 1), for data of deviation sigma."""
    alpha_bar = TABLES[schedule].alpha_bar.numpy()[np.linspace(1000, 0, STEPS + 1).round().astype(int)]
    levels = np.sqrt((1 - alpha_bar) / alpha_bar)
    data = Mixture(tuple(sigma * m for m in UNIT.means), UNIT.weights, sigma * UNIT.sd)
    return np.asarray(dpm_solver(data, levels, quantiles() / np.sqrt(alpha_bar[0]), order=1)[-1])


def quantiles() -> np.ndarray:
    """Even quantiles of N(0, 1)."""
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(POINTS) + 0.5) / POINTS))


def density(x: np.ndarray, variance: float) -> np.ndarray:
    """The density of the data plus noise of this variance."""
    total = UNIT.sd**2 + variance
    bells = np.exp(-((x[:, None] - np.array(UNIT.means)) ** 2) / (2 * total)) / np.sqrt(2 * np.pi * total)
    return np.asarray(bells @ np.array(UNIT.weights))


def spread(x: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """The density of sqrt(seen) z_0 / sigma_z + sqrt(1 - seen) eps at x, a column for each time."""
    means, variance = np.sqrt(seen)[:, None] * np.array(UNIT.means), seen * UNIT.sd**2 + 1 - seen
    bells = (
        np.exp(-((x[:, None, None] - means) ** 2) / (2 * variance[:, None])) / np.sqrt(2 * np.pi * variance)[:, None]
    )
    return np.asarray(bells @ np.array(UNIT.weights))
