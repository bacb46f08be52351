"""The plane of a two-dimensional autoencoder with sliders, and its two terms while it trains (chapter 10)."""

import math
import time
from collections.abc import Sequence

import ipywidgets as widgets
import matplotlib
import numpy as np
import torch

from diffnotes.book.explorers.controls import float_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot, show_widget
from diffnotes.models.vae import VAE, binarize
from diffnotes.training.data import Images
from diffnotes.training.grid import to_uint8

# a colour for each digit; the marks in the plane are numerals, so that no one needs the colours
COLOURS = (
    plots.BLUE, plots.ORANGE, plots.GREEN, plots.RED, plots.PURPLE, plots.SKY, "#7B3F00", plots.BLACK, "#8C8C8C", "#B8A800",
)  # fmt: skip
NEIGHBOURS = 20
REDRAW_SECONDS = 0.3
BLOCK = 10  # updates whose mean is one point of a curve


def latent_plane(vae: VAE, images: Images, reach: float = 4.0, codes: int = 1000) -> None:
    """Wander in the plane of codes: sliders for z_1 and z_2 in [-reach, reach], the mean image that the decoder makes of
    them, and the plane with the codes (means of q(z|x)) of the first `codes` images, each drawn as its digit."""
    build_latent_plane(vae, images, reach, codes).show()


def build_latent_plane(vae: VAE, images: Images, reach: float = 4.0, codes: int = 1000) -> Explorer:
    """The explorer of `latent_plane`, not yet shown."""
    if vae.latent != 2:
        raise ValueError(f"vae must have a latent plane (latent=2), got latent={vae.latent}")
    if not reach > 0:
        raise ValueError(f"reach must be positive, got {reach}")
    if codes < NEIGHBOURS:
        raise ValueError(f"codes must be at least {NEIGHBOURS}, got {codes}")
    if tuple(images.x.shape[1:]) != (1, 28, 28):
        raise ValueError(f"images must be (N, 1, 28, 28), as the VAE takes them, got shape {tuple(images.x.shape)}")
    if len(images) < NEIGHBOURS:
        raise ValueError(f"images must hold at least {NEIGHBOURS} images, got {len(images)}")
    labels = images.y[:codes].numpy()
    with torch.no_grad():
        means = vae.encode(binarize(images.x[:codes]))[0].numpy()
    outside = int((np.abs(means).max(axis=1) > reach).sum())

    figure, (digit_ax, plane_ax) = plots.subplots(1, 2, size=(7.4, 4.0), width_ratios=(1, 1.45))
    digit_ax.set(xticks=[], yticks=[], title="the mean image, E[x | z]")
    digit_ax.grid(False)
    greys = matplotlib.colormaps["gray"].resampled(
        32
    )  # few, or a small picture would have no colours left for the codes
    digit = digit_ax.imshow(np.zeros((28, 28)), cmap=greys, vmin=0, vmax=255)
    for value in np.unique(labels):
        plane_ax.scatter(
            *means[labels == value].T, marker=f"${value}$", s=20, linewidths=0, color=COLOURS[value % len(COLOURS)]
        )
    title = f"codes of {len(means):,} images, each as its digit"
    plane_ax.set(
        xlim=(-reach, reach), ylim=(-reach, reach), xlabel="$z_1$", ylabel="$z_2$", title=title, aspect="equal"
    )
    cross = [plane_ax.axvline(0, color=plots.RED, lw=0.9), plane_ax.axhline(0, color=plots.RED, lw=0.9)]
    (marker,) = plane_ax.plot([], [], "o", ms=11, mfc="none", mec=plots.RED, mew=2.2)
    plot = LivePlot(figure, [digit, *cross, marker])

    def update(z_1: float, z_2: float) -> str:
        with torch.no_grad():
            digit.set_data(to_uint8(vae.decode(torch.tensor([[z_1, z_2]], dtype=torch.float32)))[0, 0])
        cross[0].set_xdata([z_1, z_1])
        cross[1].set_ydata([z_2, z_2])
        marker.set_data([z_1], [z_2])
        return _plane_reading(z_1, z_2, means, labels, outside)

    step = reach / 80
    controls: dict[str, widgets.Widget] = {
        name: float_slider(description, 0.0, -reach, reach, step)
        for name, description in (("z_1", "z₁"), ("z_2", "z₂"))
    }
    alt = (
        "Left: the image that the decoder makes of z = (0, 0). Right: the plane of codes. Each test image is drawn as its "
        "digit at the mean of its q(z|x), and a red cross marks z."
    )
    return Explorer("The latent plane", controls, plot, update, alt)


def _plane_reading(z_1: float, z_2: float, means: np.ndarray, labels: np.ndarray, outside: int) -> str:
    """Where z lies under N(0, I), and whose codes are around it."""
    radius = math.hypot(z_1, z_2)
    beyond = math.exp(-(radius**2) / 2)  # the chance that a draw of N(0, I) in the plane lies further out
    distance = np.hypot(means[:, 0] - z_1, means[:, 1] - z_2)
    nearest = labels[np.argsort(distance)[:NEIGHBOURS]]
    kinds, counts = np.unique(nearest, return_counts=True)
    most = counts.argmax()
    reading = (
        f"z = ({z_1:.2f}, {z_2:.2f}), {radius:.2f} from the origin; {beyond:.1%} of the draws of N(0, I) lie further out. "
        f"The nearest code is {distance.min():.2f} away, that of a {nearest[0]}; of the {NEIGHBOURS} nearest, "
        f"{counts[most]} are of the digit {kinds[most]}."
    )
    if outside:
        reading += f"<br>{outside:,} of the {len(means):,} codes lie outside this picture."
    return reading


class ElboCurves:
    """The two terms of the ELBO while a VAE trains, in nats per image; shown at once, redrawn a few times a second.

    A history is a list of (reconstruction, prior_kl), one for each of `updates` updates."""

    def __init__(self, updates: int, highest_kl: float = 12.0) -> None:
        if not updates > 0:
            raise ValueError(f"updates must be positive, got {updates}")
        figure, (left, right) = plots.subplots(1, 2, size=(8, 2.8))
        (self._reconstruction,) = left.plot([], [], color=plots.RED, label="reconstruction term")
        (self._elbo,) = left.plot([], [], color=plots.GREEN, ls="--", lw=1.6, label="ELBO")
        left.set(xlim=(0, updates), ylim=(-260, -60), xlabel="updates", title="nats per image")
        left.legend(loc="upper right")
        (self._prior,) = right.plot([], [], color=plots.ORANGE)
        right.set(xlim=(0, updates), ylim=(0, highest_kl), xlabel="updates")
        right.set_title("prior matching term, nats per image")
        self.plot = LivePlot(figure, [self._reconstruction, self._elbo, self._prior])
        self.plot.refresh()
        self._drawn = time.monotonic()
        self._display_id = f"elbo-curves-{id(self)}"
        show_widget(self.plot.image, "<p>The two terms are drawn here while the notebook runs.</p>", self._display_id)

    def draw(self, history: Sequence[tuple[float, float]]) -> None:
        """Redraw the curves, unless that was done a moment ago."""
        if time.monotonic() - self._drawn >= REDRAW_SECONDS:
            self._redraw(history)

    def close(self, history: Sequence[tuple[float, float]]) -> None:
        """Draw them for the last time, and leave a picture for readers without a kernel."""
        self._redraw(history)
        alt = "No training yet: both curves are empty."
        if history:
            _, reconstruction, prior_kl = _blocks(history)[:, -1]
            alt = (
                f"The terms of the ELBO over {len(history):,} updates. Left: the reconstruction term, which ends at "
                f"{reconstruction:.0f} nats per image, and the ELBO, at {reconstruction - prior_kl:.0f}. Right: the prior "
                f"matching term, which ends at {prior_kl:.1f} nats."
            )
        show_widget(self.plot.image, plots.img_tag(self.plot.figure, alt), self._display_id, update=True)

    def _redraw(self, history: Sequence[tuple[float, float]]) -> None:
        update, reconstruction, prior_kl = _blocks(history)
        self._reconstruction.set_data(update, reconstruction)
        self._elbo.set_data(update, reconstruction - prior_kl)
        self._prior.set_data(update, prior_kl)
        self.plot.refresh()
        self._drawn = time.monotonic()


def _blocks(history: Sequence[tuple[float, float]]) -> np.ndarray:
    """Means over blocks of updates, (3, blocks), the number of the update first: the batches' own jitter would hide the
    curves."""
    rows = np.array(history, dtype=np.float64).reshape(-1, 2)
    rows = np.column_stack([np.arange(1, len(rows) + 1), rows])
    size = min(BLOCK, max(len(rows), 1))
    blocks = len(rows) // size
    return rows[: blocks * size].reshape(blocks, size, 3).mean(axis=1).T.reshape(3, blocks)
