"""The meters of chapter 19 on one digit: sheared, zoomed, with thicker or thinner strokes, and what is read off."""

import math
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor
from torch.nn import functional as F

from diffnotes.book.explorers.controls import check_range, float_slider, one_image
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.training import attributes
from diffnotes.training.captions import SIZE, SLANT, THICKNESS

LIMITS = {"shear": (-0.6, 0.6), "zoom": (0.6, 1.0), "stroke": (-1.0, 1.0)}
DIALS = (
    ("thickness, pixels", THICKNESS, attributes.THICKNESS_EDGES, (0.5, 5.0)),
    ("size, pixels", SIZE, attributes.SIZE_EDGES, (8.0, 24.0)),
    ("slant", SLANT, attributes.SLANT_EDGES, (-1.0, 1.2)),
)


def meter(image: Tensor, shear: float = 0.0, zoom: float = 1.0, stroke: float = 0.0) -> None:
    """One digit (1, 28, 28) under the meters for thickness, size and slant (book, eq. 19.1 and 19.2), with sliders that shear it,
    draw it smaller, and make its strokes thicker (a dilation) or thinner (an erosion)."""
    build_meter(image, shear, zoom, stroke).show()


def build_meter(image: Tensor, shear: float = 0.0, zoom: float = 1.0, stroke: float = 0.0) -> Explorer:
    """The explorer of `meter`, not yet shown."""
    x = one_image("image", image)
    if x.shape[1:] != (1, 28, 28):
        raise ValueError(f"image must be a grey picture (1, 28, 28), got {tuple(image.shape)}")
    chosen = {"shear": shear, "zoom": zoom, "stroke": stroke}
    check_range({name: (value, *LIMITS[name]) for name, value in chosen.items()})
    figure, axes = plots.subplots(1, 2, size=(7.6, 3.6), width_ratios=(1, 1.15))
    left, right = axes
    left.set(xlim=(-0.5, 27.5), ylim=(27.5, -0.5), xticks=[], yticks=[], title="line: columns on rows; box: size")
    left.grid(visible=False)
    left.spines[:].set_visible(False)
    picture = left.imshow(x[0, 0].numpy(), cmap="gray_r", vmin=-1, vmax=1)
    (line,) = left.plot([], [], color=plots.RED, lw=2.5)
    (box,) = left.plot([], [], color=plots.BLUE, lw=1.8)
    right.set(xlim=(-0.02, 1.02), ylim=(-0.7, 2.75), xticks=[], yticks=[])
    right.grid(visible=False)
    right.spines[:].set_visible(False)
    needles = [_dial(right, 2 - k, *dial) for k, dial in enumerate(DIALS)]
    plot = LivePlot(figure, [picture, line, box, *needles])
    controls: dict[str, widgets.Widget] = {
        "shear": float_slider("shear", shear, *LIMITS["shear"], 0.05),
        "zoom": float_slider("zoom", zoom, *LIMITS["zoom"], 0.02),
        "stroke": float_slider("stroke", stroke, *LIMITS["stroke"], 0.1, ".1f"),
    }
    at_rest = attributes.readings(x)[0]

    def update(shear: float, zoom: float, stroke: float) -> str:
        shown = attributes.zoom(stroked(x, stroke), zoom, shear)
        found = attributes.readings(shown)[0]
        picture.set_data(shown[0, 0].numpy())
        _regression(line, shown, found[2].item())
        _box(box, shown)
        for needle, (_, _, _, limits), value in zip(needles, DIALS, found.tolist(), strict=True):
            needle.set_xdata([_share(value, limits)])
        words = [names[k] for (_, names, _, _), k in zip(DIALS, attributes.attribute_words(shown)[0], strict=True)]
        return (
            f"Thickness {found[0]:.2f} pixels: {words[0]}. Size {found[1]:.0f} pixels: {words[1]}. Slant {found[2]:.2f}: "
            f"{words[2]}. Against the untouched digit the slant has moved by {found[2] - at_rest[2]:+.2f}, the thickness by "
            f"{found[0] - at_rest[0]:+.2f}."
        )

    alt = "A handwritten digit with a slanting line through it and a box around it; beside it three scales with a mark each."
    return Explorer("The meters", controls, plot, update, alt)


def stroked(x: Tensor, amount: float) -> Tensor:
    """The pictures with their strokes thicker by up to a pixel on each side (amount up to 1) or thinner (down to -1)."""
    sign = math.copysign(1, amount)
    wider = sign * F.max_pool2d(sign * x, 3, stride=1, padding=1)
    return x + abs(amount) * (wider - x)


def _dial(ax: Any, height: int, name: str, words: tuple[str, ...], edges: tuple[float, float], limits: Any) -> Any:
    """A scale with three parts at a height, and its mark, which is returned."""
    ends = [0.0, *(_share(edge, limits) for edge in edges), 1.0]
    for word, low, high, colour in zip(words, ends[:-1], ends[1:], ("#dbe9f4", "#f2f2f2", "#fbe8d3"), strict=True):
        ax.barh(height, high - low, left=low, height=0.3, color=colour, edgecolor="#999999", linewidth=0.6)
        ax.text((low + high) / 2, height - 0.34, word.replace(" ", "\n"), ha="center", va="top", fontsize=8)
    ax.text(0, height + 0.24, name, fontsize=10)
    (needle,) = ax.plot([0], [height], marker="D", ms=11, color=plots.RED, mec="black", ls="")
    return needle


def _share(value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    return min(max((value - low) / (high - low), 0.0), 1.0) if math.isfinite(value) else 0.0


def _regression(line: Any, x: Tensor, slant: float) -> None:
    """The regression of columns on rows: through the centre of the ink, slant pixels to the right for each pixel up."""
    amount = attributes.ink(x)[0, 0]
    total = amount.sum()
    r = (amount.sum(1) @ torch.arange(28.0) / total).item()
    c = (amount.sum(0) @ torch.arange(28.0) / total).item()
    line.set_data([c + slant * 11, c - slant * 11], [r - 11, r + 11])


def _box(box: Any, x: Tensor) -> None:
    dark = attributes.ink(x)[0, 0] >= 0.3
    rows, columns = dark.any(1).nonzero()[:, 0], dark.any(0).nonzero()[:, 0]
    if len(rows):
        top, bottom, left, right = (int(v) for v in (rows[0], rows[-1], columns[0], columns[-1]))
        box.set_data(
            [left - 0.5, right + 0.5, right + 0.5, left - 0.5, left - 0.5],
            [top - 0.5, top - 0.5, bottom + 0.5, bottom + 0.5, top - 0.5],
        )
