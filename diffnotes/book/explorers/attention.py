"""Where a patch looks (chapter 16): the attention of every head of a diffusion transformer, over a noisy digit."""

from functools import lru_cache

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, int_slider, one_image
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.dit import DiT
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule

MOST = 3.0  # in units of an even look: where the scale of the maps ends


def attention(
    model: DiT, schedule: Schedule, image: Tensor, t: int = 500, block: int = 3, row: int = 3, column: int = 3
) -> None:
    """The image at time t, and for every head of one block how much the patch in this row and column (counted from 0) looks at
    every other one (book, eq. 16.7), all maps on one scale: in units of an even look, 1 / N, from 0 to 3 or more.

    Sliders for t, the block 1..depth, the row and the column; the noise is always the same. The image (1, C, side, side) or
    (C, side, side)."""
    build_attention(model, schedule, image, t, block, row, column).show()


def build_attention(
    model: DiT, schedule: Schedule, image: Tensor, t: int = 500, block: int = 3, row: int = 3, column: int = 3
) -> Explorer:
    """The explorer of `attention`, not yet shown."""
    if not isinstance(model, DiT):
        raise ValueError(f"model must be a DiT, got {type(model).__name__}")
    x0 = one_image("image", image)
    p, grid, depth = model.patch, model.side // model.patch, len(model.blocks)
    heads = model.settings["heads"]
    check_range(
        {
            "t": (t, 1, schedule.T),
            "block": (block, 1, depth),
            "row": (row, 0, grid - 1),
            "column": (column, 0, grid - 1),
        }
    )
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)

    @lru_cache(maxsize=8)
    def at(t: int) -> tuple[np.ndarray, np.ndarray]:
        """The noisy image, and all maps (depth, heads, N, N)."""
        with torch.no_grad():
            x_t = q_sample(schedule, x0, t, noise)
            return x_t[0, 0].numpy(), model.attention_maps(x_t, t)[:, 0].numpy()

    figure, axes = plots.subplots(1, heads + 1, size=(2.15 * (heads + 1), 2.5))
    pictures, frames = [], []
    for k, ax in enumerate(axes):
        ax.set(xticks=[], yticks=[], title="the image at t" if k == 0 else f"head {k}")
        limits = (-1.5, 1.5) if k == 0 else (0.0, MOST)
        look = {"cmap": "gray" if k == 0 else "magma", "vmin": limits[0], "vmax": limits[1]}
        pictures.append(ax.imshow(np.zeros((model.side, model.side)), **look))
        frames.append(ax.add_patch(Rectangle((0, 0), p, p, fill=False, lw=2.2, ec=plots.ORANGE if k == 0 else "white")))
    edges, far = np.arange(1, grid) * p - 0.5, model.side - 0.5
    cuts = [along(edges, -0.5, far, color=plots.SKY, lw=0.6, alpha=0.7) for along in (axes[0].vlines, axes[0].hlines)]
    bar = figure.colorbar(pictures[-1], ax=axes[-1], ticks=(0, 1, 2, MOST), fraction=0.06)
    bar.ax.set_yticklabels(["0", "even", "2", f"{MOST:g}+"])
    plot = LivePlot(figure, [*pictures, *cuts, *frames])
    controls: dict[str, widgets.Widget] = {
        "t": int_slider("t", t, 1, schedule.T),
        "block": int_slider("block", block, 1, depth),
        "row": int_slider("row", row, 0, grid - 1),
        "column": int_slider("column", column, 0, grid - 1),
    }
    big = np.ones((p, p))

    def update(t: int, block: int, row: int, column: int) -> str:
        noisy, maps = at(t)
        looks = maps[block - 1, :, row * grid + column].reshape(heads, grid, grid)
        pictures[0].set_data(noisy)
        for picture, look in zip(pictures[1:], looks, strict=True):
            picture.set_data(np.kron(look * look.size, big))
        for frame in frames:
            frame.set_xy((column * p - 0.5, row * p - 0.5))
        return reading(looks, t, block, depth, row, column)

    alt = (
        f"A digit at time {t} with one of its {grid} x {grid} patches marked, and beside it a heat map for each of {heads} heads "
        f"of block {block}: how much the marked patch looks at each of the others, bright for much, on one scale for all of them."
    )
    return Explorer("Where does a patch look?", controls, plot, update, alt)


def reading(looks: np.ndarray, t: int, block: int, depth: int, row: int, column: int) -> str:
    """What the maps (heads, rows, columns) of one patch say in numbers."""
    parts = []
    for k, look in enumerate(looks, start=1):
        parts.append(f"head {k} {away(look, row, column):.1f} patches away, over {spread(look):.0f} of {look.size}")
    return f"t = {t}, block {block} of {depth}, patch ({row}, {column}). Mean distance and spread: {'; '.join(parts)}."


def away(look: np.ndarray, row: int, column: int) -> float:
    """The mean distance of where a patch looks, in patches."""
    rows, columns = np.indices(look.shape)
    return float((look * np.hypot(rows - row, columns - column)).sum() / look.sum())


def spread(look: np.ndarray) -> float:
    """Over how many patches the weights are spread: e to the power of their entropy, 1 for a single one."""
    share = look[look > 0] / look.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
