"""How a U-Net is drawn as a map, for explorers/unet.py: the way down on the left, the way up on the right, and a green arrow
for each skip connection."""

import itertools
from dataclasses import dataclass
from typing import Any

from matplotlib.patches import FancyBboxPatch, Rectangle
from torch import Tensor, nn

from diffnotes.book.live import plots

ATTENTION = "residual block with attention"
COLOURS = {
    "residual block": "#A9D3EE",
    ATTENTION: "#EFC6DD",
    "convolution": "#DDDDDD",
    "downsampling": "#F5D493",
    "upsampling": "#F5D493",
    "two linear layers": "#A5DCC9",
}  # of a box, by its kind
KEY = {  # the kinds that the colours tell apart, and the words for them under the map
    "residual block": "residual block",
    ATTENTION: "residual block with self-attention",
    "downsampling": "halves or doubles the resolution",
    "convolution": "convolution",
}
WIDTH, HEIGHT = 1.55, 0.76  # of a box, in a map whose rows are 1 apart
LEFT, MIDDLE, RIGHT = 0.0, 2.6, 5.2  # the way down, the bottom of the U, the way up
PICTURES, SIDE = 2.55, 1.7  # the height of the noisy picture and the prediction on the map, and their side
GREY = "#555555"  # of the path
TARGETS = {"eps": "ε", "x0": "$\\mathbf{x}_0$", "v": "$\\mathbf{v}$", "u": "$\\mathbf{u}$"}


@dataclass(frozen=True)
class Block:
    """A box of the map. All of `layers` count as its own, and the last of them gives its output. `skip_from` is the index of
    the block whose output it gets over a skip connection."""

    name: str
    kind: str
    layers: tuple[nn.Module, ...]
    skip_from: int | None = None


@dataclass(frozen=True)
class Seen:
    """What a block was given (its shape, without the batch) and its output; `factors` are what a residual block
    multiplies its channels by at this time, 1 + scale."""

    given: tuple[int, ...]
    answer: Tensor
    factors: Tensor | None


def places_of(found: list[Block]) -> list[tuple[float, float]]:
    """The middles of the boxes: the way down on the left, the way up on the right, each block beside the one that it has a
    skip connection from; and in the middle, the time above and the lowest block below."""
    bottom = next(i for i, block in enumerate(found) if block.name == "middle")
    places, beside, y = [(MIDDLE, PICTURES)], [], 0.0  # `beside`: rows on the left that stay free for a doubling
    for block in found[1:bottom]:
        if block.kind == "downsampling":
            beside.append(y)
            y -= 1
        places.append((LEFT, y))
        y -= 1
    places.append((MIDDLE, y))
    for block in found[bottom + 1 : -1]:
        places.append((RIGHT, beside.pop() if block.skip_from is None else places[block.skip_from][1]))
    return [*places, (RIGHT, 1.0)]


def limits(places: list[tuple[float, float]], aside: bool) -> tuple[float, float, float, float]:
    """What the map shows, left, right, bottom, top; `aside`: with room for feature maps beside and below the boxes."""
    side, below = (1.8, 1.95) if aside else (0.95, 1.75)
    return LEFT - side, RIGHT + side, min(y for _, y in places) - below, PICTURES + SIDE / 2 + 0.45


def draw_map(
    ax: Any, found: list[Block], seen: list[Seen], target: str, patch: int, aside: bool = False
) -> tuple[Any, Any]:
    """The boxes, the path through them, the skip connections and the key to the colours. Returns the two pictures at the
    ends of the U, still empty: the noisy one and the prediction."""
    places = places_of(found)
    for block, one, (x, y) in zip(found, seen, places, strict=True):
        corner = x - WIDTH / 2 + 0.05, y - HEIGHT / 2 + 0.05
        look: dict[str, Any] = {"boxstyle": "round,pad=0.05", "fc": COLOURS[block.kind], "ec": "none", "zorder": 2}
        ax.add_patch(FancyBboxPatch(corner, WIDTH - 0.1, HEIGHT - 0.1, **look))
        ax.text(x, y + 0.15, block.name, ha="center", va="center", fontsize=13.5, weight="bold", zorder=3)
        counted = f"{one.answer.shape[0]} {'numbers' if block.name == 'time' else 'channels'}"
        ax.text(x, y - 0.18, counted, ha="center", va="center", fontsize=11, zorder=3)
        if block.kind in ("residual block", ATTENTION):
            _sign_of_time(ax, x + (WIDTH / 2 - 0.04) * (-1 if x == RIGHT else 1), y + HEIGHT / 2 - 0.04)
        if block.skip_from is not None:
            _arrow(ax, [(LEFT + WIDTH / 2, y), (RIGHT - WIDTH / 2, y)], plots.GREEN, 2.2)
        if block.name == "first" or block.kind == "downsampling":
            ax.text(MIDDLE, y - 0.5, size_of(one.answer), ha="center", va="center", fontsize=13, color=GREY)
    _draw_path(ax, places)
    ax.text(MIDDLE, 0.08, "skip connection", ha="center", va="bottom", fontsize=13, color=plots.GREEN)
    ax.text(MIDDLE, PICTURES - 0.7, "enters the blocks\nwith this sign:", ha="center", va="center", fontsize=11)
    _sign_of_time(ax, MIDDLE, PICTURES - 1.2)
    rows, columns = (patch * n for n in seen[1].answer.shape[-2:])
    ax.text(MIDDLE, PICTURES + 0.72, f"{rows} × {columns}", ha="center", va="center", fontsize=13, color=GREY)
    if patch > 1:
        words = f"{patch} × {patch} pixels folded\ninto {seen[1].given[0]} channels"
        ax.text(LEFT + 0.1, 0.88, words, va="center", fontsize=11)
    kinds = [kind for kind in KEY if any(block.kind == kind for block in found)]
    patches = [Rectangle((0, 0), 1, 1, fc=COLOURS[kind], ec="none") for kind in kinds]
    close: dict[str, Any] = {"handlelength": 1.2, "labelspacing": 0.3, "borderpad": 0, "borderaxespad": 0}
    ax.legend(patches, [KEY[kind] for kind in kinds], loc="lower right", fontsize=10.5, frameon=False, **close)
    ends = [
        _picture(ax, x, w)
        for x, w in ((LEFT, "noisy image $\\mathbf{x}_t$"), (RIGHT, f"prediction of {TARGETS[target]}"))
    ]
    left, right, bottom, top = limits(places, aside)
    ax.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
    ax.axis("off")
    return ends[0], ends[1]


def _picture(ax: Any, x: float, words: str) -> Any:
    """Room for a picture at an end of the U."""
    ax.text(x, PICTURES + SIDE / 2 + 0.08, words, ha="center", va="bottom", fontsize=13)
    extent = (x - SIDE / 2, x + SIDE / 2, PICTURES - SIDE / 2, PICTURES + SIDE / 2)
    return ax.imshow([[0]], cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest", zorder=2)


def _draw_path(ax: Any, places: list[tuple[float, float]]) -> None:
    """The way of the features: down, through the middle, and up."""
    path = [(LEFT, PICTURES - SIDE / 2 + HEIGHT / 2), *places[1:], (RIGHT, PICTURES - SIDE / 2 + HEIGHT / 2)]
    for (x, y), (after, z) in itertools.pairwise(path):
        if x == after:
            step = HEIGHT / 2 if z > y else -HEIGHT / 2
            _arrow(ax, [(x, y + step), (x, z - step)])
        elif after == MIDDLE:
            _arrow(ax, [(x, y - HEIGHT / 2), (x, z), (MIDDLE - WIDTH / 2, z)])
        else:
            _arrow(ax, [(MIDDLE + WIDTH / 2, y), (after, y), (after, z - HEIGHT / 2)])


def _arrow(ax: Any, points: list[tuple[float, float]], colour: str = GREY, width: float = 1.6) -> None:
    """Through the points, with the head at the last."""
    *before, end = points
    ax.plot(*zip(*before, strict=True), color=colour, lw=width, zorder=1)
    look = {"arrowstyle": "-|>", "color": colour, "lw": width, "mutation_scale": 13, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, before[-1], arrowprops=look, zorder=1)


def _sign_of_time(ax: Any, x: float, y: float) -> None:
    """On the blocks that the time enters."""
    look = {"boxstyle": "circle,pad=0.12", "fc": COLOURS["two linear layers"], "ec": "white", "lw": 1.2}
    ax.text(x, y, "t", ha="center", va="center", fontsize=10.5, style="italic", bbox=look, zorder=5)


def size_of(maps: Tensor) -> str:
    """Height and width, in words."""
    return " × ".join(str(n) for n in maps.shape[-2:])
