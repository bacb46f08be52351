"""Samplers that draw again when a slider moves: DDIM with its steps and its noise, and drawings of one's choice.

Both wait for a network. So `draw` takes as few calls of it as still give good digits; `ddim` is about the steps themselves, and
begins with few of them."""

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import (
    check_images,
    check_range,
    dropdown,
    enlargement,
    float_slider,
    int_slider,
    label_names,
    noun,
)
from diffnotes.book.explorers.guidance import GuidedBetween
from diffnotes.book.live import drawing
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample
from diffnotes.training.grid import grid_image
from diffnotes.training.restore import item_shape_of

MOST = 50  # steps on the slider
FINE = 100  # steps of 2M that stand for the end of the exact curve
KINDS = {0.0: "deterministic: x_T alone decides", 1.0: "DDPM's own noise, β̃"}


def ddim(
    model: Denoiser, schedule: Schedule, x_T: Tensor, steps: int = 5, seed: int = 0, y: Tensor | None = None
) -> None:
    """Sample again and again from the same x_T: sliders for the number of steps and for eta, and a menu that takes the steps by
    2M (chapter 14) in the place of DDIM, at the same times and with as many calls. Without fresh noise the line below says how
    far the picture is from where many steps lead.

    y: labels (B,), for a model that takes them."""
    build_ddim(model, schedule, x_T, steps, seed, y).show()


def build_ddim(
    model: Denoiser, schedule: Schedule, x_T: Tensor, steps: int = 5, seed: int = 0, y: Tensor | None = None
) -> Explorer:
    """The explorer of `ddim`, not yet shown."""
    scale, most = enlargement(check_images("x_T", x_T).shape[-1], 60), min(MOST, schedule.T)
    live = LivePicture(grid_image(x_T, 8, scale).width)
    controls: dict[str, widgets.Widget] = {
        "sampler": dropdown("sampler", ["DDIM", "2M"]),
        "steps": int_slider("steps", min(steps, most), 1, most, continuous_update=False),
        "eta": float_slider("η", 0, 0, 1, 0.1, continuous_update=False),
    }

    def second_order(steps: int) -> Tensor:
        *_, last = dpm_solver_sample(model, schedule, x_T, steps=steps, spacing="uniform", y=y)
        return last.x_t

    end = second_order(min(FINE, schedule.T)).clamp(-1, 1)

    def update(sampler: str, steps: int, eta: float) -> str:
        number = f"{steps} step{'s' * (steps != 1)}"
        if sampler == "2M":
            x, line = second_order(steps), f"{number} of 2M, of second order, without fresh noise: η does not enter."
        else:
            *_, last = ddim_sample(model, schedule, x_T, steps=steps, eta=eta, y=y, generator=seed)
            x, line = last.x_t, f"{number} · η = {eta:.1f}, {KINDS.get(eta, 'part of DDPM’s noise')}."
        live.current = grid_image(x, 8, scale)
        if sampler == "2M" or eta == 0:
            distance = (x.clamp(-1, 1) - end).square().mean().sqrt().item()
            line += (
                f"<br>From where many steps lead it is {distance:.3f} away (root mean square of a pixel, grey values from "
                "-1 to 1)."
            )
        return line

    what = "digits" if tuple(x_T.shape[1:]) == (1, 28, 28) else "images"
    alt = f"{len(x_T)} {what} drawn by DDIM in {min(steps, most)} steps with eta = 0."
    return Explorer("Steps and noise, from the same x_T", controls, live, update, alt)


def draw(
    model: Denoiser, schedule: Schedule, number: int = 8, steps: int = 5, scale: float = 1.5, seed: int = 0
) -> None:
    """Sample a class-conditional model: with which label or without one, and from which noise, at first that of `seed`, 0 to
    99. A model without labels is sampled without. `number` images by DPM-Solver++(2M) in `steps` steps (chapter 14).

    With a label, and a network that can be guided, there is guidance of this scale where the digit is decided
    (`GuidedBetween`). Without one more is left open: it takes twice as many steps, with fresh noise in each."""
    build_draw(model, schedule, number, steps, scale, seed).show()


def build_draw(
    model: Denoiser, schedule: Schedule, number: int = 8, steps: int = 5, scale: float = 1.5, seed: int = 0
) -> Explorer:
    """The explorer of `draw`, not yet shown."""
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    check_range({"seed": (seed, 0, 99)})
    shape, names = item_shape_of(model), label_names(model)
    one, larger = noun(names), enlargement(shape[-1], 84)
    live = LivePicture(grid_image(torch.zeros(number, *shape), number, larger).width)
    first = min(3, len(names) - 1) if names else None
    with_label, without = (drawing.quick_times(schedule, calls) for calls in (steps, 2 * steps))
    guided, calls = model, len(with_label)
    if getattr(model, "num_classes", None) is not None and getattr(model, "label_dropout", None) != 0:
        guided = GuidedBetween(ClassifierFreeGuidance(model, scale), schedule)
        calls += int(guided.guides(with_label).sum())
    controls: dict[str, widgets.Widget] = {"seed": int_slider("noise", seed, 0, 99, continuous_update=False)}
    if names:
        choices = [("any", None), *((name, label) for label, name in enumerate(names))]
        controls = {"label": dropdown("digit" if one == "digit" else "label", choices, value=first), **controls}

    def wanted(label: int | None) -> str:
        return f"any {one}" if label is None else f"the {'digit' if one == 'digit' else 'label'} {names[label]}"

    def update(seed: int, label: int | None = None) -> str:
        x_T = initial_noise(seed, number, shape)
        if label is None:
            x, cost = drawing.draw(model, schedule, x_T, len(without), seed=seed), len(without)
        else:
            x, cost = drawing.draw(guided, schedule, x_T, len(with_label), torch.full((number,), label)), calls
        live.current = grid_image(x, number, larger)
        return f"{number} drawings of {wanted(label)}, from noise number {seed}, with {cost} calls of the network."

    alt = f"{number} drawings of {wanted(first)}, each from another noise."
    return Explorer(f"Draw me a {one}", controls, live, update, alt)
