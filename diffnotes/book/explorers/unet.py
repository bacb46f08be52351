"""The U-Net as a map: with a feature map beside each block; and one on which a click on a block shows its shapes, its cost,
and all its feature maps for a digit at time t (chapter 5)."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from diffnotes.book.explorers.controls import check_range, dropdown, int_slider, one_image, shown_pixels
from diffnotes.book.explorers.unet_map import (
    ATTENTION,
    HEIGHT,
    LEFT,
    MIDDLE,
    RIGHT,
    WIDTH,
    Block,
    Seen,
    draw_map,
    limits,
    places_of,
)
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.models.unet import Downsample, ResidualBlock, SelfAttention, UNet
from diffnotes.process.forward import q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import to_uint8


def blocks(model: UNet) -> list[Block]:
    """The network's blocks in the order in which they run. Every weight of it belongs to one of them."""
    label = () if model.label is None else (model.label,)
    found = [
        Block("time", "two linear layers", (*label, model.time)),
        Block("first", "convolution", (model.first,)),
    ]
    numbers, stops = {"halve": 0, "double": 0, "down": 0, "up": 0}, [1]
    for way, layers in (("down", model.down), ("up", model.up)):
        for layer in layers:
            kind = _kind(layer)
            name = {"downsampling": "halve", "upsampling": "double"}.get(kind, way)
            numbers[name] += 1
            skip = stops.pop() if way == "up" and isinstance(layer, ResidualBlock) else None
            if way == "down":
                stops.append(len(found))
            found.append(Block(f"{name} {numbers[name]}", kind, (layer,), skip))
        if way == "down":
            found.append(Block("middle", _kind(model.middle), (model.middle,)))
    return [*found, Block("last", "convolution", (model.norm, model.last))]


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
    image, t = _checked(model, schedule, image, t)
    found = blocks(model)
    names = [b.name for b in found]
    if block not in names:
        raise ValueError(f"block must be one of {', '.join(names)}, got {block!r}")
    eps = _noise(image, seed)
    cost = costs(model, found, image)
    first_activations, _ = activations(model, found, image, torch.tensor([t]))

    places = places_of(found)
    left, right, bottom, top = limits(places, aside=False)
    wide, tall = 0.78 * (right - left), 0.66 * (top - bottom)  # in inches
    figure, (map_ax, maps_ax) = plots.subplots(1, 2, size=(wide + 3.2, tall), width_ratios=(wide, 3.2))
    noisy, answered = draw_map(map_ax, found, first_activations, model.target, model.patch)
    mark = Rectangle((0, 0), WIDTH + 0.06, HEIGHT + 0.06, fill=False, ec=plots.RED, lw=2.8, zorder=4)
    map_ax.add_patch(mark)
    maps_ax.set(xlim=(0, 1), ylim=(0, 1), xticks=[], yticks=[], aspect="equal", anchor="N")
    maps_ax.set_title("Feature maps of the marked block")
    maps_ax.grid(False)
    maps_ax.spines[:].set_visible(False)
    sheet = maps_ax.imshow([[0.0]], cmap="gray", vmin=0, vmax=1, extent=(0, 1, 0, 1), interpolation="nearest")
    signs = [text for text in map_ax.texts if text.get_text() == "t"]  # of the time: above the mark
    plot = LivePlot(figure, [noisy, answered, mark, sheet, *signs])

    state: dict[int, tuple[Tensor, list[Seen], Tensor]] = {}  # of the last time asked for

    def update(block: int, t: int) -> str:
        if t not in state:
            state.clear()
            x_t = q_sample(schedule, image, t, eps)
            state[t] = x_t, *activations(model, found, x_t, torch.tensor([t]))
        x_t, seen, answer = state[t]
        noisy.set_data(shown_pixels(to_uint8(x_t)[0]))
        answered.set_data(shown_pixels(to_uint8(answer)[0]))
        mark.set_xy((places[block][0] - WIDTH / 2 - 0.03, places[block][1] - HEIGHT / 2 - 0.03))
        _draw_maps(sheet, seen[block].answer)
        return _reading(found, seen, block, cost, t)

    controls: dict[str, widgets.Widget] = {
        "block": dropdown("block", [(name, i) for i, name in enumerate(names)], value=names.index(block)),
        "t": int_slider("t", t, 1, schedule.T),
    }
    alt = (
        "Left: the network as a map in the shape of a U, a box for each block with its number of channels, from the noisy "
        f"image at t = {t} down to the lowest resolution and up to the prediction; green arrows are the skip "
        f"connections, and {block} is marked. Right: the feature maps of {block}, in grey."
    )
    frame = map_ax.transData - figure.transFigure  # from places on the map to shares of the picture, from below
    half, high = WIDTH / 2, HEIGHT / 2
    corners = [frame.transform([(x - half, y + high), (x + half, y - high)]) for x, y in places]
    boxes = [(left, 1 - top, right, 1 - bottom) for (left, top), (right, bottom) in corners]
    return Explorer("The U-Net as a map", controls, plot, update, alt, boxes)


def labelled(model: UNet, schedule: Schedule, image: Tensor, t: int | None = None, seed: int = 0) -> None:
    """The whole U-Net in one picture, large enough for a small screen: its blocks, its skip connections, where the time
    enters, and beside each block one of its feature maps for the image at time t: the channel that resembles the image most.

    image: (C, H, W) or (1, C, H, W) with the network's channels, values in [-1, 1]; t: 3/10 of the schedule unless given."""
    image, t = _checked(model, schedule, image, t)
    found = blocks(model)
    x_t = q_sample(schedule, image, t, _noise(image, seed))
    seen, answer = activations(model, found, x_t, torch.tensor([t]))
    left, right, bottom, top = limits(places_of(found), aside=True)
    figure, ax = plots.subplots(size=(7.2, 7.2 / (right - left) * (top - bottom)))
    for end, picture in zip(
        draw_map(ax, found, seen, model.target, model.patch, aside=True), (x_t, answer), strict=True
    ):
        end.set_data(shown_pixels(to_uint8(picture)[0]))
    for block, one, (x, y) in zip(found, seen, places_of(found), strict=True):
        if block.name == "time":
            continue
        aside = {LEFT: (-WIDTH / 2 - 0.5, 0), MIDDLE: (0, -HEIGHT / 2 - 0.5), RIGHT: (WIDTH / 2 + 0.5, 0)}[x]
        x, y = x + aside[0], y + aside[1]
        ax.imshow(most_alike(one.answer, image[0]).numpy(), cmap="gray", extent=(x - 0.4, x + 0.4, y - 0.4, y + 0.4))
    alt = (
        f"The network in the shape of a U. On the left the way down: the noisy image at t = {t}, then boxes with the names of "
        "the blocks and their numbers of channels, to the lowest resolution; on the right the way up to the prediction. Green "
        "arrows lead across from the left to the right, from block to block of the same resolution. Beside each box one of its "
        "feature maps, on which the digit gets coarser on the way down and finer on the way up. A small t marks the residual "
        "blocks, which the time enters."
    )
    plots.show(figure, alt)


def most_alike(maps: Tensor, image: Tensor) -> Tensor:
    """Of feature maps (C, H, W) the one that is correlated most with the image (channels, height, width)."""
    shrunk = F.interpolate(image.mean(0)[None, None], maps.shape[-2:], mode="area")[0]
    centred, wanted = (x - x.mean((1, 2), keepdim=True) for x in (maps, shrunk))
    alike = (centred * wanted).sum((1, 2)) / centred.square().sum((1, 2)).sqrt().clamp(min=1e-12)
    return maps[alike.argmax()]


def _checked(model: UNet, schedule: Schedule, image: Tensor, t: int | None) -> tuple[Tensor, int]:
    """The image as a batch of one, and the time."""
    image = one_image("image", image)
    channels = model.settings["image_channels"]
    if image.shape[1] != channels:
        raise ValueError(f"image must have the {channels} channels of the network, got shape {tuple(image.shape)}")
    t = 3 * schedule.T // 10 if t is None else t
    check_range({"t": (t, 1, schedule.T)})
    return image, t


def _noise(image: Tensor, seed: int) -> Tensor:
    return torch.randn(image.shape, generator=torch.Generator().manual_seed(seed), dtype=image.dtype)


def _kind(layer: nn.Module) -> str:
    if isinstance(layer, ResidualBlock):
        return ATTENTION if isinstance(layer.attention, SelfAttention) else "residual block"
    return "downsampling" if isinstance(layer, Downsample) else "upsampling"


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
        f"{weights / all_weights:.1%} of all · {flops / 1e6:.2f} million multiplications and additions for an image, "
        f"{flops / all_flops:.1%} of all<br>"
    )
    if one.factors is not None:
        low, high = one.factors.min().item(), one.factors.max().item()
        return f"{reading}At t = {t} it multiplies its channels by factors from {low:.2f} to {high:.2f}."
    if block.name == "time":
        return f"{reading}It embeds t = {t}; every residual block is conditioned on this embedding."
    return f"{reading}It does not use the time; its input depends on it."
