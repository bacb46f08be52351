"""The encoder's arrows turned one after the other, and what cancels along the chain (chapter 11)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from matplotlib.artist import Artist
from matplotlib.patches import FancyArrowPatch, Rectangle
from matplotlib.path import Path

from diffnotes.book.explorers.controls import check_range, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

APART = 2.1  # of two levels, on the picture
PAIRS = (plots.ORANGE, plots.GREEN, plots.PURPLE, plots.SKY)  # of q(z_1|x), q(z_2|x), ...: each stands twice


def telescope(T: int = 4, stop: int | None = None) -> None:
    """The chain x, z_1, ..., z_T with the encoder's arrows above and the decoder's below (book, eq. 11.3). A slider turns the
    encoder's arrows, given x, one after the other; then it strikes out what cancels; and at last it pairs what is left with the
    decoder's arrows. It begins where all is struck out, or at `stop`, 0..2T - 1. T: 2 to 5 levels above the image."""
    build_telescope(T, stop).show()


def build_telescope(T: int = 4, stop: int | None = None) -> Explorer:
    """The explorer of `telescope`, not yet shown."""
    check_range({"T": (T, 2, 5)})
    last = 2 * T - 1
    start = last - 1 if stop is None else stop
    check_range({"stop": (start, 0, last)})
    figure, ax = plots.subplots(size=(1.85 * T + 1.4, 3.6))
    ax.set(xlim=(-0.6, APART * T + 2.0), ylim=(-1.95, 2.3))
    ax.axis("off")
    shown = [_above(ax, T, k) for k in range(last)]
    bands, rest = _pairs(ax, T), _above(ax, T, last)
    plot = LivePlot(figure, [*bands, *_below(ax, T), *(artist for group in [*shown, rest] for artist in group)])
    shown.append([*bands, *rest])
    controls: dict[str, widgets.Widget] = {"stop": int_slider("stop", start, 0, last)}

    def update(stop: int) -> str:
        for k, group in enumerate(shown):
            for artist in group:
                artist.set_visible(k == stop)
        return _reading(T, stop)

    return Explorer("Turn the arrows, given the image", controls, plot, update, _alt(T, start))


@dataclass(frozen=True)
class Factor:
    """A factor of q(z_1, ..., z_T | x), as `chain.Distribution` takes it, with x0 for x and xt for z_t: above the line of its
    fraction (power 1) or below it (-1), `struck` if it cancels. It stands at the arrow between z_{t-1} and z_t; the jump from x
    to z_T is arrow T + 1."""

    words: str
    arrow: int
    power: int = 1
    struck: bool = False


def factors(T: int, stop: int) -> list[Factor]:
    """What q(z_1, ..., z_T | x) is written as: at stop 0 as the chain itself; then with one arrow more turned at every stop, by
    Bayes' rule, q(z_t | z_{t-1}) = q(z_{t-1} | z_t, x) q(z_t | x) / q(z_{t-1} | x), up to T - 1; then with one pair more struck
    out; and at stop 2T - 1 without all that was struck out."""
    turned, struck = min(stop, T - 1), max(stop - (T - 1), 0)
    if stop == 2 * T - 1:
        return [*(Factor(f"x{t - 1} | x{t}, x0", t) for t in range(2, T + 1)), Factor(f"x{T} | x0", T + 1)]
    found = [Factor("x1 | x0", 1, struck=struck >= 1)]
    for t in range(2, T + 1):
        if t > turned + 1:
            found.append(Factor(f"x{t} | x{t - 1}", t))
            continue
        found.append(Factor(f"x{t - 1} | x{t}, x0", t))
        found.append(Factor(f"x{t} | x0", t, struck=struck >= t))
        found.append(Factor(f"x{t - 1} | x0", t, -1, struck=struck >= t - 1))
    return found


def label(words: str, letter: str = r"q_\phi") -> str:
    r"""A factor as a formula: "x1 | x2, x0" is $q_\phi(\mathbf{z}_1|\mathbf{z}_2,\mathbf{x})$."""
    for t in range(6):
        words = words.replace(f"x{t}", rf"\mathbf{{z}}_{t}" if t else r"\mathbf{x}")
    return f"${letter}({words.replace(' ', '')})$"


def _below(ax: Any, T: int) -> list[Artist]:
    """The levels, smaller and smaller, and the decoder's arrows below them."""
    artists: list[Artist] = []
    for t in range(T + 1):
        artists.append(ax.scatter(APART * t, 0, s=1250 - 210 * t, color="white", edgecolor=plots.BLACK, zorder=3))
        name = rf"$\mathbf{{z}}_{t}$" if t else r"$\mathbf{x}$"
        artists.append(ax.text(APART * t, 0, name, ha="center", va="center"))
        words, place = (label(f"x{t} | x{t + 1}", r"p_\theta"), t + 0.5) if t < T else (label(f"x{T}", "p"), T + 0.52)
        high = -1.12 if t < T else -0.46
        artists.append(ax.text(APART * place, high, words, color=plots.RED, ha="center", va="center", fontsize=10))
        if t < T:
            artists.append(_arc(ax, t + 1, t, plots.RED, below=True))
    return [*artists, _line(ax, [(APART * T + 1.75, -0.16), (APART * T + 0.36, -0.16)], plots.RED, "--")]


def _pairs(ax: Any, T: int) -> list[Artist]:
    """The grey bands of the last stop: what stands in one is compared."""
    middles = [APART * (k + 0.5) for k in range(T)] + [APART * T + 1.1]
    heights = [-0.1] + [1.4] * (T - 1) + [0.75]
    bands = [
        Rectangle((middle - 0.78, -1.4), 1.56, high + 1.4, color="#ececec")
        for middle, high in zip(middles, heights, strict=True)
    ]
    return [ax.add_patch(band) for band in bands]


def _above(ax: Any, T: int, stop: int) -> list[Artist]:
    """The encoder's side of the picture at a stop."""
    artists: list[Artist] = []
    turned, struck = min(stop, T - 1), max(stop - (T - 1), 0)
    last = stop == 2 * T - 1
    for factor in factors(T, stop):
        t = factor.arrow
        middle, colour, height = APART * (t - 0.5), plots.BLUE, 1.12
        given_x_alone = factor.words.endswith("| x0") and stop > 0
        if given_x_alone and t <= T:
            level = int(factor.words[1])
            colour = PAIRS[level - 1] if level < T else plots.BLUE
            height = 1.12 if t == 1 else 1.98 if factor.power > 0 else 1.56
        if t == T + 1:
            middle, height = APART * T + 1.1, 0.46
        artists.append(
            ax.text(middle, height, label(factor.words), color=colour, ha="center", va="center", fontsize=10)
        )
        if factor.struck:
            artists += ax.plot([middle - 0.5, middle + 0.5], [height - 0.13, height + 0.13], color=colour, lw=1.3)
    for t in range(1, T + 1):
        down = 2 <= t <= turned + 1
        if t == 1 and struck:
            continue  # what the first arrow was has cancelled
        artists.append(_arc(ax, t if down else t - 1, t - 1 if down else t, plots.BLUE))
        if down and not last:
            middle = APART * (t - 0.5)
            artists += ax.plot([middle - 0.55, middle + 0.55], [1.77, 1.77], color=plots.BLACK, lw=1)
    if last:
        right = APART * T + 1.75
        over = [(0, 0.5), (0, 1.75), (right, 1.75), (right, 0.16), (APART * T + 0.36, 0.16)]
        artists.append(_line(ax, over, plots.BLUE))
        for k, name in enumerate(["reconstruction", *["denoising"] * (T - 1), "prior matching"]):
            middle = APART * (k + 0.5) if k < T else APART * T + 1.1
            artists.append(ax.text(middle, -1.65, name, ha="center", va="center", fontsize=10))
    return artists


def _arc(ax: Any, a: int, b: int, colour: str, below: bool = False) -> Artist:
    """An arrow from level a to level b, bent away from the levels."""
    y = -0.5 if below else 0.5
    bend = -0.3 if (b > a) != below else 0.3
    ends = [(APART * t + 0.08 * (1 if t == min(a, b) else -1), y) for t in (a, b)]
    style = "--" if below else "-"
    arrow = FancyArrowPatch(
        *ends, connectionstyle=f"arc3,rad={bend}", arrowstyle="-|>", mutation_scale=13, color=colour, ls=style, lw=1.6
    )
    return ax.add_patch(arrow)


def _line(ax: Any, corners: Sequence[tuple[float, float]], colour: str, style: str = "-") -> Artist:
    """A line along the corners, with a head at its end."""
    return ax.add_patch(
        FancyArrowPatch(path=Path(corners), arrowstyle="-|>", mutation_scale=13, color=colour, ls=style, lw=1.6)
    )


def _reading(T: int, stop: int) -> str:
    if stop == 0:
        return "The encoder's arrows lead up, the decoder's down: no arrow has a partner to be compared with."
    if stop <= T - 1:
        t = stop + 1
        rest = "All but the first are turned." if stop == T - 1 else ""
        return (
            f"Bayes' rule, with x given throughout, turns the arrow between z_{t - 1} and z_{t}: q(z_{t} | z_{t - 1}) = "
            f"q(z_{t - 1} | z_{t}, x) · q(z_{t} | x) / q(z_{t - 1} | x). {rest}"
        )
    if stop < 2 * T - 1:
        k = stop - (T - 1)
        where = "as the first arrow and once below a line" if k == 1 else "above a line and once below one"
        rest = f"Of all the fractions only q(z_{T} | x) is left." if k == T - 1 else ""
        return f"q(z_{k} | x) stands once {where}: it cancels. {rest}"
    return (
        f"What is left: one jump from x to z_{T}, and steps down to z_1. Each has a partner among the decoder's arrows: prior "
        "matching, and denoising. The last, p(x | z_1), has none: reconstruction."
    )


def _alt(T: int, stop: int) -> str:
    base = f"Levels x, z_1 to z_{T} in a row; below them the decoder's dashed arrows lead down to x. Above, "
    if stop == 0:
        return f"{base}the encoder's arrows lead up, from x to z_{T}."
    if stop <= T - 1:
        return f"{base}{stop} of the encoder's {T} arrows are turned and lead down, each with a fraction above it."
    if stop < 2 * T - 1:
        return (
            f"{base}all but the first of the encoder's arrows are turned and lead down, each with a fraction above it; in the "
            f"fractions {stop - (T - 1)} of {T - 1} pairs are struck out."
        )
    return (
        f"{base}the encoder jumps from x to z_{T} and comes down in steps to z_1. Grey bands join each of its arrows with the "
        "decoder's below it; the decoder's arrow to x stands alone."
    )
