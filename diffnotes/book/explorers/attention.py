"""What is attended to, over a noisy digit: a position of a U-Net's feature maps (chapter 5), and a patch in every head of a
diffusion transformer (chapter 16)."""

from functools import lru_cache, partial

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider, one_image
from diffnotes.book.explorers.unet import blocks
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.dit import DiT
from diffnotes.models.unet import SelfAttention, UNet
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule

MOST = 3.0  # in units of the uniform weight: where the scale of the maps ends
LARGEST = 5.0  # the same for a U-Net, whose weights differ more


def attention(
    model: DiT, schedule: Schedule, image: Tensor, t: int = 500, block: int = 3, row: int = 3, column: int = 3
) -> None:
    """The image at time t, and for every head of one block how much the patch in this row and column (counted from 0) attends to
    every other one (book, eq. 16.7), all maps on one scale: in units of the uniform weight, 1 / N, from 0 to 3 or more.

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
    bar.ax.set_yticklabels(["0", "uniform", "2", f"{MOST:g}+"])
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
        f"of block {block}: how much the marked patch attends to each of the others, bright for much, on one scale for all."
    )
    return Explorer("What does a patch attend to?", controls, plot, update, alt)


def positions(
    model: UNet, schedule: Schedule, image: Tensor, t: int = 300, block: str = "middle", row: int = 5, column: int = 2
) -> None:
    """The image at time t, and the weights that one position of the lowest feature maps, in this row and column (counted from
    0), gives to all positions in the attention of a block (book, eq. 5.6), in units of the uniform weight, from 0 to 5 or more;
    of several heads, their mean.

    A click on the image chooses the position, or the menu; the noise is always the same. The image (1, C, H, W) or (C, H, W)."""
    build_positions(model, schedule, image, t, block, row, column).show()


def build_positions(
    model: UNet, schedule: Schedule, image: Tensor, t: int = 300, block: str = "middle", row: int = 5, column: int = 2
) -> Explorer:
    """The explorer of `positions`, not yet shown."""
    if not isinstance(model, UNet):
        raise ValueError(f"model must be a UNet, got {type(model).__name__}")
    x0 = one_image("image", image)
    found = {b.name: getattr(b.layers[0], "attention", None) for b in blocks(model)}
    layers = {name: layer for name, layer in found.items() if isinstance(layer, SelfAttention)}
    if block not in layers:
        raise ValueError(f"block must be one of {', '.join(layers) or 'none: there is no attention'}, got {block!r}")
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0)).to(x0)

    @lru_cache(maxsize=8)
    def at(t: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The noisy image, and the weights of every block by row and column, of the position and of what it attends to."""
        found: dict[str, np.ndarray] = {}

        def note(name: str, layer: SelfAttention, given: tuple[Tensor, ...]) -> None:
            found[name] = weights(layer, given[0])[0].reshape(*given[0].shape[-2:], *given[0].shape[-2:]).numpy()

        hooks = [layer.register_forward_pre_hook(partial(note, name)) for name, layer in layers.items()]
        try:
            with torch.no_grad():
                x_t = q_sample(schedule, x0, t, noise)
                model(x_t, t)
        finally:
            for hook in hooks:
                hook.remove()
        return x_t[0].mean(0).numpy(), found

    check_range({"t": (t, 1, schedule.T)})
    noisy, first = at(t)
    rows, columns = first[block].shape[:2]
    check_range({"row": (row, 0, rows - 1), "column": (column, 0, columns - 1)})
    high, wide = (side / number for side, number in zip(noisy.shape, (rows, columns), strict=True))
    figure, axes = plots.subplots(1, 2, size=(7.0, 3.5))
    extent = (0, noisy.shape[1], noisy.shape[0], 0)
    picture = axes[0].imshow(noisy, cmap="gray", vmin=-1.5, vmax=1.5, extent=extent)
    shades = axes[1].imshow(first[block][row, column], cmap="magma", vmin=0, vmax=LARGEST, extent=extent)
    frames = []
    for ax, title, colour in (
        (axes[0], "the noisy image", plots.ORANGE),
        (axes[1], "weights over all positions", "white"),
    ):
        ax.set(xticks=[], yticks=[], title=title)
        ax.grid(False)
        frames.append(ax.add_patch(Rectangle((0, 0), wide, high, fill=False, lw=2.8, ec=colour)))
    thin = {"color": plots.SKY, "lw": 0.6, "alpha": 0.7}
    cuts = [axes[0].vlines(np.arange(1, columns) * wide, 0, noisy.shape[0], **thin)]
    cuts.append(axes[0].hlines(np.arange(1, rows) * high, 0, noisy.shape[1], **thin))
    bar = figure.colorbar(shades, ax=axes[1], ticks=(0, 1, LARGEST), fraction=0.046)
    bar.ax.set_yticklabels(["0", f"1/{rows * columns}", f"{LARGEST:g}/{rows * columns}\nor more"])
    plot = LivePlot(figure, [picture, shades, *cuts, *frames])
    all_of_them = [(f"row {i + 1}, column {j + 1}", (i, j)) for i in range(rows) for j in range(columns)]
    controls: dict[str, widgets.Widget] = {  # the menu of positions first: a click chooses from the first menu
        "position": dropdown("position", all_of_them, value=(row, column)),
        "block": dropdown("block", list(layers), value=block),
        "t": int_slider("t", t, 1, schedule.T),
    }

    def update(position: tuple[int, int], block: str, t: int) -> str:
        noisy, found = at(t)
        looks = found[block][position]
        picture.set_data(noisy)
        shades.set_data(looks * looks.size)
        for frame in frames:
            frame.set_xy((position[1] * wide, position[0] * high))
        i, j = np.unravel_index(looks.argmax(), looks.shape)
        return (
            f"t = {t}, {block}: the position in row {position[0] + 1}, column {position[1] + 1} gives itself the weight "
            f"{looks[position]:.2f}; its largest, {looks.max():.2f}, goes to row {i + 1}, column {j + 1}. All equal, each would "
            f"be {1 / looks.size:.2f}."
        )

    alt = (
        f"Left, a digit at time {t}, cut into {rows} x {columns} squares; the one in row {row + 1}, column {column + 1} is "
        "marked. Right, a heat map of the weights that this position gives to all positions in the attention of "
        f"{block}, bright for large ones; they are not equal."
    )
    to_shares = axes[0].transData - figure.transFigure
    corners = [
        to_shares.transform([(j * wide, i * high), ((j + 1) * wide, (i + 1) * high)]) for _, (i, j) in all_of_them
    ]
    boxes = [(left, 1 - top, right, 1 - bottom) for (left, top), (right, bottom) in corners]
    return Explorer("What does a position look at?", controls, plot, update, alt, boxes)


def weights(layer: SelfAttention, h: Tensor) -> Tensor:
    """The softmax of (5.6) for h (B, C, H, W): (B, position, position attended to), the mean over the heads."""
    rows = layer.norm(h).flatten(2).transpose(1, 2)
    query, key, _ = layer.query_key_value(rows).unflatten(2, (3, layer.heads, -1)).permute(2, 0, 3, 1, 4)
    scores = query @ key.transpose(2, 3) / query.shape[-1] ** 0.5
    return scores.softmax(dim=-1).mean(dim=1)


def reading(looks: np.ndarray, t: int, block: int, depth: int, row: int, column: int) -> str:
    """What the maps (heads, rows, columns) of one patch say in numbers."""
    parts = []
    for k, look in enumerate(looks, start=1):
        parts.append(f"head {k} {away(look, row, column):.1f} patches away, over {spread(look):.0f} of {look.size}")
    return f"t = {t}, block {block} of {depth}, patch ({row}, {column}). Mean distance and spread: {'; '.join(parts)}."


def away(look: np.ndarray, row: int, column: int) -> float:
    """The mean distance of what a patch attends to, in patches."""
    rows, columns = np.indices(look.shape)
    return float((look * np.hypot(rows - row, columns - column)).sum() / look.sum())


def spread(look: np.ndarray) -> float:
    """Over how many patches the weights are spread: e to the power of their entropy, 1 for a single one."""
    share = look[look > 0] / look.sum()
    return float(np.exp(-(share * np.log(share)).sum()))
