"""Classifier-free guidance with sliders: which label, which guidance scale, and from which noise."""

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, enlargement, float_slider, int_slider, label_names, noun
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import grid_image
from diffnotes.training.restore import item_shape_of

LARGEST = 10.0  # the strongest guidance that the slider offers


def guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 15
) -> None:
    """Guide a class-conditional model: sliders for the label, by its number 0..num_classes - 1 (of a model of digits: the
    digit), the guidance scale s in 0..10 and the number of the noise. Draws `number` images by DDIM in `steps` steps (T, if
    that is less).

    ValueError for a model without labels, or trained with label_dropout = 0: its unconditional prediction means nothing."""
    build_guidance(model, schedule, digit, scale, number, steps).show()


def build_guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 15
) -> Explorer:
    """The explorer of `guidance`, not yet shown."""
    names, shape, steps = label_names(model), item_shape_of(model), min(steps, schedule.T)
    if not names:
        raise ValueError("model must take labels to be guided, got num_classes = None")
    if getattr(model, "label_dropout", None) == 0:
        raise ValueError("model must have been trained with label_dropout > 0 to be guided, got label_dropout = 0")
    check_range({"digit": (digit, 0, len(names) - 1), "scale": (scale, 0, LARGEST)})
    if number < 2:
        raise ValueError(f"number must be at least 2, for two drawings to be compared, got {number}")
    one, larger = noun(names), enlargement(shape[-1], 84)
    kind = "digit" if one == "digit" else "label"
    live = LivePicture(grid_image(torch.zeros(number, *shape), number, larger).width)
    controls: dict[str, widgets.Widget] = {
        "digit": int_slider(kind, digit, 0, len(names) - 1, continuous_update=False),
        "scale": float_slider("s", scale, 0, LARGEST, 0.5, ".1f", continuous_update=False),
        "seed": int_slider("noise", 0, 0, 99, continuous_update=False),
    }

    def update(digit: int, scale: float, seed: int) -> str:
        y, x_T = torch.full((number,), digit), initial_noise(seed, number, shape)
        *_, last = ddim_sample(ClassifierFreeGuidance(model, scale), schedule, x_T, steps=steps, y=y)
        live.current = grid_image(last.x_t, number, larger)
        return _reading(f"{kind} {names[digit]}", scale, steps, last.x_t)

    alt = (
        f"{number} drawings of the {kind} {names[digit]} with guidance scale {scale:g}: sliders for the {kind}, the scale and "
        "the noise."
    )
    return Explorer("Classifier-free guidance", controls, live, update, alt)


def _reading(label: str, scale: float, steps: int, drawn: Tensor) -> str:
    calls = steps * (1 if scale in (0, 1) else 2)
    if scale == 0:
        kind = "unconditional, the label is not used"
    elif scale < 1:
        kind = f"between unconditional and conditional, {label}"
    elif scale == 1:
        kind = f"conditional, {label}"
    else:
        kind = f"guided, {label}"
    return (
        f"s = {scale:.1f}: {kind} · {calls} network calls per image.<br>Spread (standard deviation of a pixel over these "
        f"{len(drawn)} drawings, grey values from -1 to 1): {spread(drawn):.2f}; ink: {100 * ink(drawn):.0f} % of the pixels."
    )


def spread(drawn: Tensor) -> float:
    """How much drawings (B, C, H, W) differ: the root of a pixel's variance over the batch, averaged over the pixels."""
    return drawn.var(0).mean().sqrt().item()


def ink(drawn: Tensor) -> float:
    """The share of values that are nearer to 1, white, than to -1, black."""
    return (drawn > 0).double().mean().item()
