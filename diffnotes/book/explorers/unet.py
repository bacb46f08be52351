"""The U-Net as a map: click on a block, and see its shapes, its cost, and its feature maps for a digit at time t (chapter 5)."""

import math
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider, one_image, shown_pixels
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.unet import Downsample, ResidualBlock, SelfAttention, UNet, Upsample
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import to_uint8

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
ROW = 1.7  # from one row of boxes to the next, where the boxes of a row stand 1 apart
PICTURES = 2.2  # the row of the noisy picture and the prediction


@dataclass(frozen=True)
class Block:
    """A box of the map. All of `layers` count as its own, and the last of them gives its output. `row` is the number of
    halvings before it; `skip_from` the index of the block whose output it gets over a skip connection."""

    name: str
    kind: str
    layers: tuple[nn.Module, ...]
    row: float
    skip_from: int | None = None


@dataclass(frozen=True)
class Seen:
    """What a block was given (its shape, without the batch) and its output; `factors` are what a residual block
    multiplies its channels by at this time, 1 + scale."""

    given: tuple[int, ...]
    answer: Tensor
    factors: Tensor | None


def blocks(model: UNet) -> list[Block]:
    """The network's blocks in the order in which they run. Every weight of it belongs to one of them."""
    label = () if model.label is None else (model.label,)
    lowest = sum(isinstance(layer, Downsample) for layer in model.down) + 0.55
    found = [
        Block("time", "two linear layers", (*label, model.time), lowest),
        Block("first", "convolution", (model.first,), 0),
    ]
    row, numbers, stops = 0, {"halve": 0, "double": 0, "down": 0, "up": 0}, [1]
    for way, layers in (("down", model.down), ("up", model.up)):
        for layer in layers:
            row += isinstance(layer, Downsample) - isinstance(layer, Upsample)
            kind = _kind(layer)
            name = {"downsampling": "halve", "upsampling": "double"}.get(kind, way)
            numbers[name] += 1
            skip = stops.pop() if way == "up" and isinstance(layer, ResidualBlock) else None
            if way == "down":
                stops.append(len(found))
            found.append(Block(f"{name} {numbers[name]}", kind, (layer,), row, skip))
        if way == "down":
            found.append(Block("middle", _kind(model.middle), (model.middle,), lowest))
    return [*found, Block("last", "convolution", (model.norm, model.last), 0)]


def costs(model: UNet, found: list[Block], image: Tensor) -> list[tuple[int, int]]:
    """Each block's weights, and the multiplications and additions that it needs for the image (1, 1, H, W)."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(image, torch.tensor([1]))
    counts = {name: sum(kinds.values()) for name, kinds in counter.get_flop_counts().items()}
    names = {layer: f"{type(model).__name__}.{name}" for name, layer in model.named_modules()}
    return [
        (
            sum(p.numel() for layer in b.layers for p in layer.parameters()),
            sum(counts.get(names[m], 0) for m in b.layers),
        )
        for b in found
    ]


def activations(model: UNet, found: list[Block], x_t: Tensor, t: Tensor) -> tuple[list[Seen], Tensor]:
    """Run the network on one noisy image: the input and output of every block, and the prediction."""
    seen: dict[str, Seen] = {}

    def hear(block: Block) -> Any:
        def note(layer: nn.Module, given: tuple[Tensor, ...], answer: Tensor) -> None:
            factors = None
            if isinstance(layer, ResidualBlock):
                factors = 1 + layer.scale_shift(F.silu(given[1]))[0].chunk(2)[0]
            seen[block.name] = Seen(tuple(given[0].shape[1:]), answer[0], factors)

        return note

    hooks = [block.layers[-1].register_forward_hook(hear(block)) for block in found]
    try:
        with torch.no_grad():
            answer = model(x_t, t)
    finally:
        for hook in hooks:
            hook.remove()
    return [seen[block.name] for block in found], answer


def unet(
    model: UNet, schedule: Schedule, image: Tensor, block: str = "down 1", t: int | None = None, seed: int = 0
) -> None:
    """Walk through a U-Net: choose one of its blocks, from the menu or by a click on the map, and a time t, and see the
    block's shapes, its share of weights and computation, and its feature maps for the image at that time.

    image: (C, H, W) or (1, C, H, W) with the network's channels, values in [-1, 1]. It begins at t, or, if that is None,
    after three tenths of the schedule."""
    build_unet(model, schedule, image, block, t, seed).show()


def build_unet(
    model: UNet, schedule: Schedule, image: Tensor, block: str = "down 1", t: int | None = None, seed: int = 0
) -> Explorer:
    """The explorer of `unet`, not yet shown."""
    image = one_image("image", image)
    channels = model.settings["image_channels"]
    if image.shape[1] != channels:
        raise ValueError(f"image must have the {channels} channels of the network, got shape {tuple(image.shape)}")
    t = 3 * schedule.T // 10 if t is None else t
    check_range({"t": (t, 1, schedule.T)})
    found = blocks(model)
    names = [b.name for b in found]
    if block not in names:
        raise ValueError(f"block must be one of {', '.join(names)}, got {block!r}")
    eps = torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)

    cost = costs(model, found, image)
    first_activations, _ = activations(model, found, image, torch.tensor([t]))

    figure, (map_ax, maps_ax) = plots.subplots(1, 2, size=(8.6, 3.9), width_ratios=(1.75, 1))
    places = _draw_map(map_ax, found, first_activations, _side(image.shape))
    noisy = _picture(map_ax, 0.5, "x_t")
    answered = _picture(map_ax, places[-1][0] - 0.5, f"prediction ({model.target})")
    mark = Rectangle((0, 0), 0.92, 0.84, fill=False, ec=plots.RED, lw=2.5, zorder=4)
    map_ax.add_patch(mark)
    maps_ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal", anchor="N")
    maps_ax.set_title("Feature maps of the marked block")
    maps_ax.grid(False)
    maps_ax.spines[:].set_visible(False)
    sheet = maps_ax.imshow([[0.0]], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest")
    plot = LivePlot(figure, [noisy, answered, mark, sheet])

    state: dict[int, tuple[Tensor, list[Seen], Tensor]] = {}  # of the last time asked for

    def update(block: int, t: int) -> str:
        if t not in state:
            state.clear()
            x_t = q_sample(schedule, image, t, eps)
            state[t] = x_t, *activations(model, found, x_t, torch.tensor([t]))
        x_t, seen, answer = state[t]
        noisy.set_data(shown_pixels(to_uint8(x_t)[0]))
        answered.set_data(shown_pixels(to_uint8(answer)[0]))
        mark.set_xy((places[block][0] - 0.46, places[block][1] - 0.42))
        _draw_maps(sheet, seen[block].answer)
        return _reading(found, seen, block, cost, t)

    controls: dict[str, widgets.Widget] = {
        "block": dropdown("block", [(name, i) for i, name in enumerate(names)], value=names.index(block)),
        "t": int_slider("t", t, 1, schedule.T),
    }
    alt = (
        "Left: the network as a map in the shape of a U, a box for each block with its number of channels, from the noisy "
        f"image at t = {t} down to the lowest resolution and up to the prediction; lines over the boxes are the skip "
        f"connections, and {block} is marked. Right: the feature maps of {block}, in grey."
    )
    frame = map_ax.transData - figure.transFigure  # from places on the map to shares of the picture, from below
    corners = [frame.transform([(x - 0.44, y + 0.4), (x + 0.44, y - 0.4)]) for x, y in places]
    boxes = [(left, 1 - top, right, 1 - bottom) for (left, top), (right, bottom) in corners]
    return Explorer("The U-Net as a map", controls, plot, update, alt, boxes)


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, ResidualBlock):
        return ATTENTION if isinstance(layer.attention, SelfAttention) else "residual block"
    return "downsampling" if isinstance(layer, Downsample) else "upsampling"


def _draw_map(ax: Any, found: list[Block], seen: list[Seen], top: str) -> list[tuple[float, float]]:
    """The boxes, the path through them, the skip connections over them and the key to the colours; `top` names the row
    of the pictures. Returns where the middles of the boxes are."""
    places = [(0.0, -ROW * found[0].row), *((float(i), -ROW * block.row) for i, block in enumerate(found[1:]))]
    ax.plot(*zip(*places[1:], strict=True), color="#888888", lw=1.2, zorder=1)
    sides = {PICTURES: top}
    for block, one, (x, y) in zip(found, seen, places, strict=True):
        ax.add_patch(Rectangle((x - 0.44, y - 0.4), 0.88, 0.8, fc=COLOURS[block.kind], ec="none", zorder=2))
        words = f"{block.name}\n{one.answer.shape[0]}"
        ax.text(x, y, words, ha="center", va="center", fontsize=min(7.6, 88 / len(found)), linespacing=1.5, zorder=3)
        if block.row == int(block.row):
            sides[y] = _side(one.answer.shape)
        if block.skip_from is not None:
            left = places[block.skip_from][0]
            over = y + 0.4 + 0.06 * (x - left)
            ax.plot([left, left, x, x], [y, over, over, y], color=plots.GREEN, lw=1.2, zorder=1)
    ax.text(0.6, places[0][1], "→ to every\nresidual block", va="center", fontsize=7.6, linespacing=1.5)
    kinds = [kind for kind in KEY if any(block.kind == kind for block in found)]
    patches = [Rectangle((0, 0), 1, 1, fc=COLOURS[kind], ec="none") for kind in kinds]
    small = {
        "fontsize": 7,
        "frameon": False,
        "handlelength": 1.2,
        "labelspacing": 0.25,
        "borderaxespad": 0,
        "borderpad": 0,
    }
    ax.legend(patches, [KEY[kind] for kind in kinds], loc="lower right", **small)
    ax.set(xlim=(-0.6, len(found) - 1.4), ylim=(places[0][1] - 0.5, PICTURES + 0.8), xticks=[])
    ax.set_yticks([*sides], [*sides.values()])
    ax.set_title("The U-Net: blocks, numbers of channels, skip connections", fontsize=10)
    ax.grid(False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return places


def _picture(ax: Any, x: float, words: str) -> Any:
    """Room for a picture in the row of the pictures, over x."""
    box = ax.inset_axes((x - 0.8, PICTURES - 0.75, 1.6, 1.5), transform=ax.transData)
    box.set(xticks=[], yticks=[])
    box.grid(False)
    box.spines[:].set_visible(False)
    box.set_title(words, fontsize=8, loc="center", pad=2)
    return box.imshow([[0]], cmap="gray", vmin=0, vmax=255)


def _draw_maps(sheet: Any, maps: Tensor) -> None:
    """The maps (C, H, W) side by side, each in grey from its own smallest value to its own largest; of single numbers
    (C,), from the smallest to the largest of all."""
    flat = maps.flatten(1) if maps.ndim == 3 else maps[None]
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    greys = ((flat - low) / (high - low).clamp(min=1e-12)).reshape(len(maps), *(maps.shape[1:] or (1, 1)))
    C, H, W = greys.shape
    columns = math.ceil(math.sqrt(C))
    rows = math.ceil(C / columns)
    whole = np.full((rows, H + 1, columns, W + 1), np.nan)
    for i, one in enumerate(greys.numpy()):
        whole[i // columns, :H, i % columns, :W] = one
    sheet.set_data(whole.reshape(rows * (H + 1), columns * (W + 1)))
    sheet.set_extent((0, 1, 1 - rows / columns, 1))


def _side(shape: tuple[int, ...]) -> str:
    return " × ".join(str(n) for n in shape[-2:])


def _sizes(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} numbers" if len(shape) == 1 else " × ".join(str(n) for n in shape)


def _reading(found: list[Block], seen: list[Seen], i: int, cost: list[tuple[int, int]], t: int) -> str:
    """The chosen block in words."""
    block, one, (weights, flops) = found[i], seen[i], cost[i]
    all_weights, all_flops = (sum(column) for column in zip(*cost, strict=True))
    given = _sizes(one.given)
    if block.skip_from is not None:
        channels = len(seen[block.skip_from].answer)
        given = f"{given}, {channels} of these channels over the skip connection from {found[block.skip_from].name}"
    reading = (
        f"<b>{block.name}</b>, {block.kind} · in: {given} · out: {_sizes(tuple(one.answer.shape))}<br>{weights:,} weights, "
        f"{weights / all_weights:.1%} of all · {flops / 1e6:.2f} million multiplications and additions for a picture, "
        f"{flops / all_flops:.1%} of all<br>"
    )
    if one.factors is not None:
        low, high = one.factors.min().item(), one.factors.max().item()
        return f"{reading}At t = {t} it multiplies its channels by factors from {low:.2f} to {high:.2f}."
    if block.name == "time":
        return f"{reading}It embeds t = {t}; every residual block is conditioned on this embedding."
    return f"{reading}It does not use the time; its input depends on it."
