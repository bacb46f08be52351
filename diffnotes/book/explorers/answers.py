"""Half a digit, many answers (chapter 22): what a network makes of a digit with a hole, and which digits it could have been."""

from collections.abc import Iterator
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_images, check_range, dropdown, float_slider, int_slider
from diffnotes.book.explorers.films import GAP, image_rows, stacked
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.inverse import guided_sample, nullspace_sample, repaint_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.operators import Linear
from diffnotes.process.samplers import Frame, initial_noise
from diffnotes.process.schedules import Schedule

HOLES = {
    "lower": "from below",
    "right": "from the right",
    "box": "a box in the middle",
    "scattered": "scattered pixels",
}
METHODS = {"guided": "pseudo-inverse guidance", "nullspace": "null-space step", "replacement": "replacement"}
NUMBER = 8
ROWS = ("the digit, and\nwhat is seen", "drawn by\nthe network", "nearest\ntraining digits")


def answers(
    model: Denoiser,
    schedule: Schedule,
    images: Tensor,
    training: Tensor,
    hole: str = "lower",
    hidden: float = 0.5,
    method: str = "guided",
    steps: int = 12,
) -> None:
    """A digit out of `images` (N, 1, H, W) with a hole in it, eight completions by a network that was never trained for it, and
    the eight digits out of `training` that are nearest where something is seen.

    Sliders choose the digit and the share that is hidden, menus the shape of the hole and the method; when a slider is let go,
    the network draws again, `steps` calls for each of eight images."""
    build_answers(model, schedule, images, training, hole, hidden, method, steps).show()


def build_answers(
    model: Denoiser,
    schedule: Schedule,
    images: Tensor,
    training: Tensor,
    hole: str = "lower",
    hidden: float = 0.5,
    method: str = "guided",
    steps: int = 12,
) -> Explorer:
    """The explorer of `answers`, not yet shown."""
    check_images("images", images)
    check_images("training", training)
    check_range({"hidden": (hidden, 0.1, 0.9)})
    for name, value, known in (("hole", hole, HOLES), ("method", method, METHODS)):
        if value not in known:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    if len(training) < NUMBER:
        raise ValueError(f"training must hold at least {NUMBER} images, got {len(training)}")
    figure, ax = plots.subplots(size=(6.6, 2.35))
    sheet = image_rows(ax, ROWS, images[:1].expand(NUMBER, -1, -1, -1))
    ax.set_anchor("E")
    plot = LivePlot(figure, [sheet])
    controls: dict[str, widgets.Widget] = {
        "digit": int_slider("digit", 0, 0, len(images) - 1, continuous_update=False),
        "hole": dropdown("hole", [(words, name) for name, words in HOLES.items()], value=hole),
        "hidden": float_slider("hidden", hidden, 0.1, 0.9, 0.05, continuous_update=False),
        "method": dropdown("method", [(words, name) for name, words in METHODS.items()], value=method),
    }

    def update(digit: int, hole: str, hidden: float, method: str) -> str:
        image = images[digit : digit + 1]
        seen = seen_of(hole, hidden, image.shape[1:])
        drawn = complete(model, schedule, image, seen, method, steps)
        near = nearest(training, image, seen)
        top = torch.cat([image, torch.where(seen, image, -0.4), torch.ones(NUMBER - 2, *image.shape[1:])])
        rows, (H, W) = stacked([top, drawn, near]).copy(), image.shape[2:]
        rows[:H, 2 * (W + GAP) - GAP :] = 255  # nothing but the two digits in the first row
        sheet.set_data(rows)
        return _reading(image, seen, drawn, near, steps, method)

    alt = (
        f"Three rows of digits. On top a digit, and the same with a part of it hidden, grey; below {NUMBER} completions drawn by "
        f"a network; below these the {NUMBER} training digits that are nearest where something is seen."
    )
    return Explorer("A hole, and eight answers", controls, plot, update, alt)


def seen_of(hole: str, hidden: float, shape: Any) -> Tensor:
    """What is seen, True or False, of the shape of one image."""
    _, H, W = shape
    row, column = torch.meshgrid(torch.arange(H), torch.arange(W), indexing="ij")
    if hole == "lower":
        seen = row < round((1 - hidden) * H)
    elif hole == "right":
        seen = column < round((1 - hidden) * W)
    elif hole == "box":
        side = hidden**0.5 / 2
        seen = ((row + 0.5) / H - 0.5).abs().maximum(((column + 0.5) / W - 0.5).abs()) > side
    else:
        seen = torch.rand(H, W, generator=torch.Generator().manual_seed(0)) >= hidden
    return seen.expand(shape).contiguous()


def complete(model: Denoiser, schedule: Schedule, image: Tensor, seen: Tensor, method: str, steps: int) -> Tensor:
    """Eight completions, (8, C, H, W), always from the same noise."""
    known, x_T = image.expand(NUMBER, -1, -1, -1).contiguous(), initial_noise(0, NUMBER, image.shape[1:])
    way: dict[str, Any] = {"steps": steps, "clip": True, "generator": torch.Generator().manual_seed(0)}
    operator = Linear.mask(seen)
    y = operator.forward(known)
    frames: Iterator[Frame]
    if method == "guided":
        frames = guided_sample(model, schedule, x_T, y, operator, 0.05, prior_variance=0.35, **way)
    elif method == "nullspace":
        frames = nullspace_sample(model, schedule, x_T, y, operator, **way)
    else:
        frames = repaint_sample(model, schedule, x_T, known, seen, **way)
    *_, last = frames
    return last.x_t


def nearest(training: Tensor, image: Tensor, seen: Tensor) -> Tensor:
    """The eight training images with the smallest squared difference where something is seen, the nearest first."""
    flat, at = training.flatten(1)[:, seen.flatten()], image.flatten(1)[:, seen.flatten()]
    return training[(flat - at).square().sum(1).topk(NUMBER, largest=False).indices]


def _reading(image: Tensor, seen: Tensor, drawn: Tensor, near: Tensor, steps: int, method: str) -> str:
    misfit, hidden = (drawn - image)[:, seen].square().mean().sqrt(), ~seen
    spread, of_near = (x[:, hidden].std(0).square().mean().sqrt() for x in (drawn, near))
    calls = f"{steps} calls of the network for each" + (", with gradients" if method == "guided" else "")
    return (
        f"{hidden.float().mean():.0%} hidden; {METHODS[method]}, {calls}. Where something is seen the drawn digits are off by "
        f"{misfit:.3f} (root mean square, grey values from -1 to 1). Spread of a hidden pixel: drawn {spread:.2f}, nearest "
        f"training digits {of_near:.2f}."
    )
