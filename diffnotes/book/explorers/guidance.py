"""Classifier-free guidance with sliders: which label, which guidance scale, and from which noise."""

from dataclasses import dataclass

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, enlargement, float_slider, int_slider, label_names, noun
from diffnotes.book.live.drawing import draw, quick_times
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import noise_level
from diffnotes.training.grid import grid_image
from diffnotes.training.restore import item_shape_of

LARGEST = 10.0  # the strongest guidance that the slider offers
DECIDING = (1.0, 5.0)  # noise levels at which the digit is decided; one of five of Karras' lies there


@dataclass(frozen=True)
class GuidedBetween:
    """Classifier-free guidance (book, eq. 9.4) at the noise levels of DECIDING, and the conditional prediction at all others:
    guidance in a limited interval (Kynkäänniemi et al. 2024). One more network call for every level in between, not for all."""

    guided: ClassifierFreeGuidance
    schedule: Schedule

    @property
    def target(self) -> str:
        """What is predicted: the model's own target."""
        return self.guided.target

    def guides(self, t: Tensor) -> Tensor:
        """Whether there is guidance at the times t."""
        low, high = DECIDING
        level = noise_level(self.schedule).to(t.device)[t]
        return (low <= level) & (level <= high)

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The prediction for x_t at the times t, one of a sampler's times for all of them."""
        if self.guides(t).all():
            return self.guided(x_t, t, y)
        return predict_in_parallel(self.guided.model, x_t, t, y)


def guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 5
) -> None:
    """Guide a class-conditional model: sliders for the label, by its number 0..num_classes - 1 (of a model of digits: the
    digit), the guidance scale s in 0..10 and the number of the noise. Draws `number` images by DPM-Solver++(2M) in `steps`
    steps, with predicted images clipped to [-1, 1].

    ValueError for a model without labels, or trained with label_dropout = 0: its unconditional prediction means nothing."""
    build_guidance(model, schedule, digit, scale, number, steps).show()


def build_guidance(
    model: Denoiser, schedule: Schedule, digit: int = 3, scale: float = 2.0, number: int = 8, steps: int = 5
) -> Explorer:
    """The explorer of `guidance`, not yet shown."""
    names, shape, steps = label_names(model), item_shape_of(model), len(quick_times(schedule, steps))
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
        x = draw(ClassifierFreeGuidance(model, scale), schedule, x_T, steps, y)
        live.current = grid_image(x, number, larger)
        return _reading(f"{kind} {names[digit]}", scale, steps, x)

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
