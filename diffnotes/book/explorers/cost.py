"""What a transformer costs (chapter 16): operations and weights against width, depth, patch and heads."""

import ipywidgets as widgets
import numpy as np

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot

SIDE = 28
PATCHES, WIDTHS, HEADS = (1, 2, 4, 7, 14), (24, 48, 96, 192, 384, 768), (1, 2, 3, 6, 12)
PARTS = ("matrices", "scores and mixing", "modulation")


def cost(width: int = 96, depth: int = 6, patch: int = 4, heads: int = 3) -> None:
    """Operations and weights of the blocks of a transformer on patches of a 28 x 28 image (book, eq. 16.12 and 16.13).

    width, patch, heads: menus; depth: a slider. Left, how the operations of a block with a modulation of its own are made up;
    right, the scores and the mixing in units of the matrices, against the number of tokens, N / (6 width)."""
    build_cost(width, depth, patch, heads).show()


def build_cost(width: int = 96, depth: int = 6, patch: int = 4, heads: int = 3) -> Explorer:
    """The explorer of `cost`, not yet shown."""
    check_range({"depth": (depth, 1, 24)})
    for name, value, values in (("width", width, WIDTHS), ("patch", patch, PATCHES), ("heads", heads, HEADS)):
        if value not in values:
            raise ValueError(f"{name} must be one of {', '.join(map(str, values))}, got {value!r}")
    figure, axes = plots.subplots(1, 2, size=(8.6, 3.1), width_ratios=(1.25, 1))
    left, right = axes
    left.set(
        xlim=(0, 100), ylim=(-0.6, 2.6), xlabel="% of the operations of a block", yticks=range(3), yticklabels=PARTS
    )
    left.invert_yaxis()
    bars = left.barh(range(3), [0, 0, 0], color=(plots.BLUE, plots.ORANGE, plots.GREEN), height=0.6)
    tokens = np.geomspace(4, 1000, 50)
    right.set(
        xscale="log", yscale="log", xlim=(4, 1000), ylim=(1e-3, 10), xlabel="tokens N", ylabel="scores / matrices"
    )
    right.axhline(1, color="#777777", ls="--", lw=1)
    right.text(4.6, 1.25, "equal, at N = 6 × width", color="#555555", fontsize=9)
    (line,) = right.plot([], [], color=plots.ORANGE)
    (here,) = right.plot([], [], ls="", marker="o", ms=8, color=plots.BLACK)
    sum_of_all = left.text(0.98, 0.45, "", transform=left.transAxes, ha="right", fontsize=9)
    plot = LivePlot(figure, [*bars, sum_of_all, line, here])
    controls: dict[str, widgets.Widget] = {
        "width": dropdown("width", WIDTHS, value=width),
        "depth": int_slider("depth", depth, 1, 24),
        "patch": dropdown("patch", PATCHES, value=patch),
        "heads": dropdown("heads", HEADS, value=heads),
    }

    def update(width: int, depth: int, patch: int, heads: int) -> str:
        N = (SIDE // patch) ** 2
        parts = np.array(operations(N, width))
        total = depth * parts[:2].sum() + parts[2]  # one modulation for all blocks
        for bar, share in zip(bars, 100 * parts / parts.sum(), strict=True):
            bar.set_width(share)
        sum_of_all.set_text(f"depth {depth}, in all: {total / 1e6:.1f} million")
        line.set_data(tokens, tokens / (6 * width))
        here.set_data([N], [N / (6 * width)])
        return (
            f"{N} tokens of width {width}, {depth} block{'s' * (depth > 1)}: {weights(width, depth):,} weights in the blocks and "
            f"their modulation, {total / 1e6:.1f} million operations for an image, forward; scores and mixing are "
            f"{N / (6 * width):.1%} of the matrices. {heads} attention pattern{'s' * (heads > 1)} a block, from "
            f"{width // heads} numbers each: their number changes nothing else."
        )

    alt = (
        f"Left, three bars: of the operations of a block with its own modulation on {(SIDE // patch) ** 2} tokens of "
        f"width {width}, the shares of the matrices, of scores and mixing, and of the modulation. Right, scores and mixing in "
        "units of the matrices, a rising line against the number of tokens on logarithmic axes, with a point for this setting "
        "and a dashed line where both are equal."
    )
    return Explorer("What does a transformer cost?", controls, plot, update, alt)


def operations(tokens: int, width: int) -> tuple[int, int, int]:
    """Operations of one block, forward, for an image: matrices, scores and mixing, modulation of its own (book, eq. 16.13)."""
    return 24 * tokens * width**2, 4 * tokens**2 * width, 12 * width**2


def weights(width: int, depth: int) -> int:
    """Weights of `depth` blocks with one modulation for all and a table of 6 width numbers in each (book, eq. 16.12)."""
    return depth * (12 * width**2 + 15 * width) + 6 * width**2 + 6 * width
