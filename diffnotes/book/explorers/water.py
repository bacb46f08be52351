"""The water level (chapter 17): which coordinates of the data a linear VAE keeps, and which drown."""

import ipywidgets as widgets
import numpy as np
from torch import Tensor

from diffnotes.book.explorers.controls import check_images, check_range, int_slider, log_slider, one_image, shown_pixels
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.book.proof.water import water_level

SHOWN = 150  # bars
LOW, HIGH, STEP = -1.5, 1.7, 0.02  # of the slider, powers of ten
LOWEST = 0.02  # of the axis


def water(x: Tensor, image: Tensor, theta: float = 0.5, draw: int = 0) -> None:
    """The optimal linear VAE of the images x (N, 1, H, W) in closed form (book, eq. 17.4), at a water level theta.

    Left the variances of the principal components, with the level; in the middle rate against distortion; right `image`, its
    reconstruction, and a draw from the model. theta: a slider from 0.03 to 50, in squared pixel values; draw: a slider for the
    random numbers of the draw."""
    build_water(x, image, theta, draw).show()


def build_water(x: Tensor, image: Tensor, theta: float = 0.5, draw: int = 0) -> Explorer:
    """The explorer of `water`, not yet shown."""
    check_range({"theta": (theta, 10**LOW, 10**HIGH), "draw": (draw, 0, 20)})
    theta = 10 ** (STEP * round(np.log10(theta) / STEP))  # where the slider can stand
    shape, pixels = check_images("x", x).shape[1:], one_image("image", image).double().numpy().ravel()
    mean, spectrum, basis = components(x)
    code = (pixels - mean) @ basis
    figure, axes = plots.subplots(1, 5, size=(10.2, 3.0), gridspec_kw={"width_ratios": [2.3, 1.7, 1, 1, 1]})
    number = np.arange(1, min(SHOWN, len(spectrum)) + 1)
    axes[0].set(yscale="log", xlim=(0, SHOWN + 1), ylim=(LOWEST, 60), xlabel="component", ylabel="variance")
    axes[0].set_title("the data and the level")
    (dead,) = axes[0].plot([], [], color="#c4c4c4", lw=1.4)
    (live,) = axes[0].plot([], [], color=plots.ORANGE, lw=1.4)
    (level,) = axes[0].plot([], [], color=plots.BLUE, lw=2)
    curve = [bill(spectrum, t) for t in np.logspace(LOW, HIGH, 200)]
    axes[1].plot([d for _, d in curve], [r for r, _ in curve], color=plots.BLACK, lw=1.3)
    axes[1].set(
        xlim=(0, 1.05 * spectrum.sum()), ylim=(-8, 1.05 * curve[0][0]), xlabel="squared error", ylabel="rate, nats"
    )
    axes[1].set_title("rate and distortion")
    (point,) = axes[1].plot([], [], ls="", marker="o", ms=8, color=plots.BLUE)
    pictures = []
    for ax, title in zip(axes[2:], ("image", "comes back", "a draw"), strict=True):
        blank = np.zeros(tuple(shape[1:]))
        pictures.append(ax.imshow(blank, cmap="gray", vmin=-1, vmax=1))
        ax.set(xticks=[], yticks=[], title=title)
    plot = LivePlot(figure, [dead, live, level, point, *pictures])
    controls: dict[str, widgets.Widget] = {
        "theta": log_slider("θ", theta, LOW, HIGH, STEP),
        "draw": int_slider("draw", draw, 0, 20),
    }

    def update(theta: float, draw: int) -> str:
        gain, rate, error = water_level(spectrum, theta)
        for line, chosen in ((live, spectrum > theta), (dead, spectrum <= theta)):
            line.set_data(*bars(number, np.where(chosen, spectrum, np.nan)[: len(number)]))
        level.set_data([0, SHOWN + 1], [theta, theta])
        point.set_data([error.sum()], [rate.sum()])
        z = np.random.default_rng(draw).standard_normal(len(spectrum))
        drawn = mean + basis @ (np.sqrt(np.maximum(spectrum - theta, 0)) * z)
        for picture, values in zip(pictures, (pixels, mean + basis @ (gain * code), drawn), strict=True):
            picture.set_data(shown_pixels(values.reshape(shape).clip(-1, 1)))
        return (
            f"θ = {theta:.3g}: {int((spectrum > theta).sum())} of {len(spectrum)} coordinates are above the level. Rate "
            f"{rate.sum():.1f} nats an image, squared error {error.sum():.1f} of {spectrum.sum():.1f}."
        )

    alt = (
        "Left, the variances of the principal components fall from about 20 to 0.1, and a blue line at the "
        f"level {theta:.3g} crosses them; bars below it are grey. Middle, a falling curve of rate against squared error with a "
        "point. Right, a digit, its blurred reconstruction, and a draw that is a tangle of grey strokes."
    )
    return Explorer("The water level", controls, plot, update, alt)


def components(x: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean (d,), variances in falling order (d,), and principal components (d, d), a column each, of images."""
    rows = x.flatten(1).double().numpy()
    mean = rows.mean(0)
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True))
    return mean, np.maximum(values[::-1], 0), vectors[:, ::-1]


def bill(spectrum: np.ndarray, theta: float) -> tuple[float, float]:
    """Rate and squared error, summed over the coordinates."""
    _, rate, error = water_level(spectrum, theta)
    return float(rate.sum()), float(error.sum())


def bars(number: np.ndarray, heights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bars as one line, from the lowest value of the axis to each height and a gap after it; no bar where the height is nan."""
    tops = np.where(np.isnan(heights), np.nan, np.maximum(heights, LOWEST))
    lows = np.where(np.isnan(heights), np.nan, LOWEST)
    gaps = np.full_like(tops, np.nan)
    return np.repeat(number, 3), np.stack([lows, tops, gaps], axis=1).ravel()
