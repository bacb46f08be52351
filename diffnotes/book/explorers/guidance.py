"""Guidance under the hands (chapter 12): which digit, how strongly asked for, and from which noise."""

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, float_slider, int_slider
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import grid_image

LARGEST = 10.0  # the strongest guidance that the slider offers


def guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 15
) -> None:
    """Ask a class-conditional model for a digit, as strongly as you like: sliders for the digit 0..9, the guidance scale s
    in 0..10 and the number of the noise. Draws `number` digits by DDIM in `steps` steps."""
    build_guidance(model, schedule, digit, scale, number, steps).show()


def build_guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 15
) -> Explorer:
    """The explorer of `guidance`, not yet shown."""
    check_range({"digit": (digit, 0, 9), "scale": (scale, 0, LARGEST)})
    if number < 2:
        raise ValueError(f"number must be at least 2, for two drawings to be compared, got {number}")
    live = LivePicture(grid_image(torch.zeros(number, 1, 28, 28), number, scale=3).width)
    controls: dict[str, widgets.Widget] = {
        "digit": int_slider("digit", digit, 0, 9, continuous_update=False),
        "scale": float_slider("s", scale, 0, LARGEST, 0.5, ".1f", continuous_update=False),
        "seed": int_slider("noise", 0, 0, 99, continuous_update=False),
    }

    def update(digit: int, scale: float, seed: int) -> str:
        y, x_T = torch.full((number,), digit), initial_noise(seed, number)
        *_, last = ddim_sample(ClassifierFreeGuidance(model, scale), schedule, x_T, steps=steps, y=y)
        live.current = grid_image(last.x_t, number, scale=3)
        return _reading(digit, scale, steps, last.x_t)

    alt = f"{number} drawings of the digit {digit} with guidance scale {scale:g}: sliders for the digit, the scale and the noise."
    return Explorer("Ask for a digit, more or less firmly", controls, live, update, alt)


def _reading(digit: int, scale: float, steps: int, drawn: Tensor) -> str:
    calls = steps * (1 if scale in (0, 1) else 2)
    if scale == 0:
        wish = "s = 0.0: the label is not asked, whatever the noise suggests"
    elif scale < 1:
        wish = f"s = {scale:.1f}: half-heartedly, a {digit}"
    elif scale == 1:
        wish = f"s = 1.0: a {digit}, as the label alone gives it"
    else:
        wish = f"s = {scale:.1f}: more of a {digit} than the data ask for"
    return (
        f"{wish} · {calls} network calls per image.<br>Spread (standard deviation of a pixel over these {len(drawn)} "
        f"drawings, grey values from -1 to 1): {spread(drawn):.2f}; ink: {100 * ink(drawn):.0f} % of the pixels."
    )


def spread(drawn: Tensor) -> float:
    """How much drawings (B, 1, H, W) differ: the root of a pixel's variance over the batch, averaged over the pixels."""
    return drawn.var(0).mean().sqrt().item()


def ink(drawn: Tensor) -> float:
    """The share of pixels that are more white than black."""
    return (drawn > 0).double().mean().item()
