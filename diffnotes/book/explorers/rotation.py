"""v-prediction as a rotation (chapter 6): in the plane of image and noise, x_t and v are two arrows that turn together."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.patches import FancyArrowPatch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, int_slider, one_image, shown_pixels
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule

SCHEDULE = Schedule.cosine(T=1000)
STRIP = range(0, 1001, 125)  # the times of the pictures beside the plane
OUT, HALF = 1.45, 0.25  # how far out the pictures of x_t and v stand, and half their side
TURN = 0.36  # the radius of the arc that marks phi
GREY = "#888888"
GREYS = 31


def rotation(image: Tensor, t: int = 375) -> None:
    """Explore v (book, eq. 6.2) for one image and one noise on the cosine schedule: the arrows of x_t and v in the plane of
    the two, with their pictures, and beside it both at nine times. A slider for t in 0..1000."""
    build_rotation(image, t).show()


def build_rotation(image: Tensor, t: int = 375) -> Explorer:
    """The explorer of `rotation`, not yet shown."""
    check_range({"t": (t, 0, SCHEDULE.T)})
    x0 = one_image("image", image).detach().cpu().double()
    eps = initial_noise(seed=3, batch=1, shape=tuple(x0.shape[1:])).double()
    figure, (plane, strip) = plots.subplots(1, 2, size=(8.8, 3.1), width_ratios=(1, 1.25))
    for ax in (plane, strip):
        ax.grid(False)
        ax.spines[:].set_visible(False)
    plane.set(xlim=(-1.75, 1.75), ylim=(-0.62, 1.95), aspect="equal", xticks=[], yticks=[])
    circle = np.linspace(0, math.pi, 181)
    plane.plot(np.cos(circle), np.sin(circle), color="#cccccc", lw=1)
    for place, picture, name in (((1.0, 0.0), x0, "$x_0$"), ((0.0, 1.0), eps, "ε")):
        plane.add_patch(_arrow(GREY, place))
        _tile(plane, (1.3 * place[0], 1.3 * place[1])).set_data(_pixels(picture))
        plane.text(1.3 * place[0], 1.3 * place[1] + (0.31 if place[1] else -0.48), name, color=GREY, ha="center")
    arrows = [plane.add_patch(_arrow(colour)) for colour in (plots.BLUE, plots.ORANGE)]
    tiles = [_tile(plane, (0.0, 0.0)) for _ in arrows]
    names = [plane.text(0, 0, s, color=c, ha="center") for s, c in (("$x_t$", plots.BLUE), ("v", plots.ORANGE))]
    for time in STRIP:
        for y, picture in enumerate(pair(x0, eps, time)):
            _tile(strip, (time / 125, 1.15 * (1 - y)), half=0.46).set_data(_pixels(picture))
    strip.set(xlim=(-0.6, 8.6), ylim=(-0.75, 1.85), aspect="equal", xlabel="t")
    strip.set_xticks([time / 125 for time in STRIP][::2], [str(time) for time in STRIP][::2])
    strip.set_yticks([1.15, 0], ["$x_t$", "v"])
    strip.tick_params(length=0)
    marker = strip.axvline(0, color=plots.RED, lw=1.6, snap=False)
    (turn,) = plane.plot([], [], color=plots.BLACK, lw=1)
    phi_name = plane.text(0, 0, "φ", color=plots.BLACK, ha="center", va="center")
    plot = LivePlot(figure, [*arrows, *tiles, *names, marker, turn, phi_name])
    controls: dict[str, widgets.Widget] = {"t": int_slider("t", t, 0, SCHEDULE.T)}

    def update(t: int) -> str:
        phi = angle(t)
        ends = (math.cos(phi), math.sin(phi)), (-math.sin(phi), math.cos(phi))
        for arrow, tile, name, (x, y), picture in zip(arrows, tiles, names, ends, pair(x0, eps, t), strict=True):
            arrow.set_positions((0, 0), (x, y))
            tile.set_data(_pixels(picture))
            tile.set_extent((OUT * x - HALF, OUT * x + HALF, OUT * y - HALF, OUT * y + HALF))
            name.set_position((OUT * x, OUT * y + HALF + 0.05))
        marker.set_xdata([t / 125] * 2)
        arc = np.linspace(0, phi, 50)
        turn.set_data(TURN * np.cos(arc), TURN * np.sin(arc))
        phi_name.set_position((1.35 * TURN * math.cos(phi / 2), 1.35 * TURN * math.sin(phi / 2)))
        cos, sin = math.cos(phi), math.sin(phi)
        return (
            f"t = {t}, φ = {math.degrees(phi):.0f}°: x_t = {cos:.2f} x_0 + {sin:.2f} ε, and v = {cos:.2f} ε − {sin:.2f} x_0. "
            f"An error in v is {sin:.2f} times as large in the image, {cos:.2f} times in the noise."
        )

    degrees = math.degrees(angle(t))
    alt = (
        f"Left, the plane of an image, to the right, and noise, upwards: the arrow of x_t at {degrees:.0f} degrees, that of v "
        "a quarter turn further, with their pictures. Right, both at nine times: x_t from image to noise, v from noise to the "
        "negative of the image."
    )
    return Explorer("v turns with x_t", controls, plot, update, alt)


def angle(t: int) -> float:
    """phi, with cos phi = sqrt(alpha_bar_t)."""
    return math.acos(math.sqrt(SCHEDULE.alpha_bar[t].item()))


def pair(x0: Tensor, eps: Tensor, t: int) -> tuple[Tensor, Tensor]:
    """x_t and v of this image and this noise."""
    cos, sin = SCHEDULE.alpha_bar[t].sqrt(), (1 - SCHEDULE.alpha_bar[t]).sqrt()
    return cos * x0 + sin * eps, cos * eps - sin * x0


def _arrow(colour: str, end: tuple[float, float] = (1.0, 0.0)) -> FancyArrowPatch:
    return FancyArrowPatch((0, 0), end, arrowstyle="-|>", color=colour, lw=2.2, mutation_scale=15, shrinkA=0, shrinkB=0)


def _tile(ax: Any, place: tuple[float, float], half: float = HALF) -> Any:
    x, y = place
    extent = (x - half, x + half, y - half, y + half)
    return ax.imshow(np.zeros((2, 2)), extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest", zorder=3)


def _pixels(picture: Tensor) -> np.ndarray:
    """A picture for imshow, -1.5 .. 1.5 as 0 .. 1, in few greys: a stored picture has room for 128 colours in all."""
    shades = ((picture[0].numpy() + 1.5) / 3).clip(0, 1)
    return np.asarray(shown_pixels((shades * GREYS).round() / GREYS))
