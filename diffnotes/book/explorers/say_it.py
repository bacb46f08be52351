"""Say it (chapter 19): choose words, and the network draws what they say. Under each digit stands what the meters read."""

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import check_range, dropdown, float_slider, int_slider
from diffnotes.book.live import plots
from diffnotes.book.live.drawing import draw
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.guidance import ClassifierFreeGuidance
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.attributes import attribute_words, readings
from diffnotes.training.captions import CAPTIONS, DIGITS, SLANT, THICKNESS, number_of, parts_of, text_of

NUMBER, LARGEST = 8, 8.0


def say_it(
    model: Denoiser,
    schedule: Schedule,
    digit: str | None = "seven",
    thickness: str | None = "thick",
    slant: str | None = "leaning right",
    scale: float = 2.0,
    steps: int = 10,
) -> None:
    """Menus for the words of a caption, a slider for the guidance scale, a menu for a negative caption: a network of captions
    draws eight digits by DPM-Solver++(2M) in `steps` steps. Under each stand its thickness in pixels and its slant, as
    metered: in green where the word holds, in red where it does not."""
    build_say_it(model, schedule, digit, thickness, slant, scale, steps).show()


def build_say_it(
    model: Denoiser,
    schedule: Schedule,
    digit: str | None = "seven",
    thickness: str | None = "thick",
    slant: str | None = "leaning right",
    scale: float = 2.0,
    steps: int = 10,
) -> Explorer:
    """The explorer of `say_it`, not yet shown."""
    if getattr(model, "num_classes", None) != CAPTIONS - 1:
        raise ValueError(f"model must take captions, got num_classes {getattr(model, 'num_classes', None)}")
    check_range({"scale": (scale, 0, LARGEST)})
    figure, axes = plots.subplots(1, NUMBER, size=(8.4, 1.75))
    pictures, marks = [], []
    for ax in axes:
        ax.set(xticks=[], yticks=[], xlim=(-0.5, 27.5), ylim=(38.5, -0.5))
        ax.grid(visible=False)
        ax.spines[:].set_visible(False)
        pictures.append(
            ax.imshow(torch.zeros(28, 28).numpy(), cmap="gray_r", vmin=-1, vmax=1, extent=(-0.5, 27.5, 27.5, -0.5))
        )
        ax.set(ylim=(38.5, -0.5))
        marks.append([ax.text(13.5, 30 + 5 * k, "", ha="center", va="top", fontsize=9) for k in range(2)])
    plot = LivePlot(figure, [*pictures, *(mark for pair in marks for mark in pair)])
    controls: dict[str, widgets.Widget] = {
        "digit": dropdown("digit", [("(not said)", None), *((w, w) for w in DIGITS)], value=digit),
        "thickness": dropdown("stroke", [("(not said)", None), *((w, w) for w in THICKNESS)], value=thickness),
        "slant": dropdown("slant", [("(not said)", None), *((w, w) for w in SLANT)], value=slant),
        "against": dropdown("not", [(words or "(nothing)", words) for words in AGAINST], value=""),
        "scale": float_slider("w", scale, 0, LARGEST, 0.5, ".1f", continuous_update=False),
        "seed": int_slider("noise", 0, 0, 99, continuous_update=False),
    }

    def update(
        digit: str | None, thickness: str | None, slant: str | None, against: str, scale: float, seed: int
    ) -> str:
        y = caption_number(digit, thickness, slant)
        negative = AGAINST[against]
        x = draw(
            ClassifierFreeGuidance(model, scale, negative),
            schedule,
            initial_noise(seed, NUMBER),
            steps,
            torch.full((NUMBER,), y),
        ).clamp(-1, 1)
        for picture, image in zip(pictures, x, strict=True):
            picture.set_data(image[0].numpy())
        return _read(marks, x, y, scale, against)

    said = text_of(caption_number(digit, thickness, slant)) or "(nothing said)"
    alt = f"Eight drawn digits for the caption {said!r}; under each its thickness in pixels and its slant, as metered."
    return Explorer("Say it", controls, plot, update, alt)


def caption_number(digit: str | None, thickness: str | None, slant: str | None) -> int:
    """The number of the caption that says these words, None where one is not said."""
    which = torch.tensor([10 if digit is None else DIGITS.index(digit)])
    stroke = 3 if thickness is None else THICKNESS.index(thickness)
    lean = 3 if slant is None else SLANT.index(slant)
    return int(number_of(which, torch.tensor([[stroke, 3, lean]])))


AGAINST = {
    "": None,
    "a thin digit": caption_number(None, "thin", None),
    "a thick digit": caption_number(None, "thick", None),
    "a digit leaning left": caption_number(None, None, "leaning left"),
    "a digit leaning right": caption_number(None, None, "leaning right"),
    "a one": caption_number("one", None, None),
}


def obeyed(x: Tensor, y: int) -> Tensor:
    """For each picture whether the words for thickness and slant hold, by the meters, (B, 2); what is not said, holds."""
    _, thickness, _, slant = parts_of(torch.tensor([y]))[0].tolist()
    words = attribute_words(x)
    return torch.stack(
        [
            (words[:, column] == k) if k < 3 else torch.ones(len(x), dtype=torch.bool)
            for column, k in ((0, thickness), (2, slant))
        ],
        1,
    )


def _read(marks: list[list[widgets.Widget]], x: Tensor, y: int, scale: float, against: str) -> str:
    found, right = readings(x), obeyed(x, y)
    _, thickness, _, slant = parts_of(torch.tensor([y]))[0].tolist()
    for pair, values, holds in zip(marks, found.tolist(), right.tolist(), strict=True):
        for mark, value, said, good, form in zip(
            pair, (values[0], values[2]), (thickness < 3, slant < 3), holds, ("{:.1f} px", "{:+.2f}"), strict=True
        ):
            mark.set_text(form.format(value))
            mark.set_color((plots.GREEN if good else plots.RED) if said else "#555555")
    text = text_of(y) or "the empty caption"
    counts = [
        f"{int(right[:, k].sum())} of {len(x)} {name}"
        for k, (name, said) in enumerate((("thick as said", thickness < 3), ("leaning as said", slant < 3)))
        if said
    ]
    led = f", away from “{against}”" if against and scale not in (0, 1) else ""
    metered = f" By the meters {' and '.join(counts)}." if counts else " Nothing was said that a meter could read."
    no_use = " At w = 1 the negative caption does nothing." if against and scale == 1 else ""
    return (
        f"“{text}”, w = {scale:.1f}{led}.{metered}{no_use} Mean thickness {found[:, 0].nanmean():.2f} pixels, "
        f"mean slant {found[:, 2].nanmean():+.2f}."
    )
