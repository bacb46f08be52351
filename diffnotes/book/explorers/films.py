"""A slider over pictures that are already drawn, and samplers that draw again when a slider moves."""

from collections.abc import Sequence

import ipywidgets as widgets
import torch
from PIL import Image
from torch import Tensor

from diffnotes.book.explorers.controls import choice, number, whole
from diffnotes.book.live import Explorer, LivePicture
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import Frame, ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.grid import grid_image


def pictures(title: str, name: str, choices: Sequence[tuple[str, Image.Image]], alt: str, start: int = 0) -> None:
    """A slider, called `name`, over (reading, picture) pairs; all pictures of one size. It begins at number `start`."""
    build_pictures(title, name, choices, alt, start).show()


def build_pictures(title: str, name: str, choices: Sequence[tuple[str, Image.Image]], alt: str, start: int) -> Explorer:
    """The explorer of `pictures`, not yet shown."""
    if not choices:
        raise ValueError("choices must hold at least one (reading, picture) pair, got none")
    live = LivePicture(choices[0][1].width)
    slider = whole(name, start, 0, len(choices) - 1, readout=False)

    def update(number: int) -> str:
        reading, live.current = choices[number]
        return reading

    return Explorer(title, {"number": slider}, live, update, alt)


def film(frames: Sequence[Frame], columns: int = 4, start: int | None = None) -> None:
    """A slider over a sampler's frames: on the left the noisy x_t, on the right the image x0_hat that the model sees in it."""
    choices = []
    for frame in frames:
        left, right = (grid_image(x, columns, scale=2) for x in (frame.x_t, frame.x0_hat))
        sheet = Image.new("L", (left.width + right.width + 24, left.height), 255)
        sheet.paste(left, (0, 0))
        sheet.paste(right, (left.width + 24, 0))
        choices.append((f"t = {frame.t}: on the left x_t, on the right what the model takes it for.", sheet))
    alt = (
        f"Two grids of {len(frames[0].x_t)} pictures. Left: x_t, noisy. Right: the model's estimate of the clean digits. "
        "The slider runs from pure noise to finished digits."
    )
    pictures("From noise to digits", "time", choices, alt, len(choices) // 2 if start is None else start)


def ddim(model: Denoiser, schedule: Schedule, x_T: Tensor, steps: int = 20, seed: int = 0) -> None:
    """Sample again and again from the same x_T: sliders for the number of steps and for eta."""
    build_ddim(model, schedule, x_T, steps, seed).show()


def build_ddim(model: Denoiser, schedule: Schedule, x_T: Tensor, steps: int = 20, seed: int = 0) -> Explorer:
    """The explorer of `ddim`, not yet shown."""
    live = LivePicture(grid_image(x_T, columns=8).width)
    controls: dict[str, widgets.Widget] = {
        "steps": whole("steps", steps, 1, 100, continuous_update=False),
        "eta": number("η", 0, 0, 1, 0.1, continuous_update=False),
    }

    def update(steps: int, eta: float) -> str:
        *_, last = ddim_sample(model, schedule, x_T, steps=steps, eta=eta, generator=seed)
        live.current = grid_image(last.x_t, columns=8)
        kind = (
            "deterministic: x_T alone decides"
            if eta == 0
            else "DDPM's own noise, β̃"
            if eta == 1
            else "part of DDPM's noise"
        )
        return f"{steps} network call{'s' * (steps != 1)} per image · η = {eta:.1f}, {kind}."

    alt = f"{len(x_T)} digits drawn by DDIM in {steps} steps with eta = 0."
    return Explorer("Steps and noise, from the same x_T", controls, live, update, alt)


def draw(model: Denoiser, schedule: Schedule, number: int = 8, steps: int = 20) -> None:
    """Ask a class-conditional model for digits: which one, and from which noise."""
    build_draw(model, schedule, number, steps).show()


def build_draw(model: Denoiser, schedule: Schedule, number: int = 8, steps: int = 20) -> Explorer:
    """The explorer of `draw`, not yet shown."""
    live = LivePicture(grid_image(torch.zeros(number, 1, 28, 28), number, scale=3).width)
    choices = [("any", None), *((str(digit), digit) for digit in range(10))]
    controls: dict[str, widgets.Widget] = {
        "label": choice("digit", choices, value=3),
        "seed": whole("noise", 0, 0, 99, continuous_update=False),
    }

    def update(label: int | None, seed: int) -> str:
        y = None if label is None else torch.full((number,), label)
        *_, last = ddim_sample(model, schedule, initial_noise(seed, number), steps=steps, y=y)
        live.current = grid_image(last.x_t, number, scale=3)
        wish = "whatever the noise suggests" if label is None else f"the digit {label}"
        return f"{number} drawings of {wish}, from noise number {seed}, in {steps} steps."

    alt = f"{number} drawings of the digit 3, each in another handwriting."
    return Explorer("Draw me a digit", controls, live, update, alt)
