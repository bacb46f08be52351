"""Few calls, real pictures (chapter 14): what each solver makes of one and the same x_T with 3 to 12 calls of the network."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import LOOK, check_images, label_names
from diffnotes.book.explorers.films import image_rows, stacked
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.consistency import consistency_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import Frame, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_sample, heun_sample, karras_times
from diffnotes.training.restore import item_shape_of

REFERENCE = 40  # calls of 2M, whose end stands for that of the exact curve
ROWS = ("DDIM", "Heun", "2M", "predict and\nadd noise anew")


def few_calls(
    model: Denoiser, schedule: Schedule, calls: Iterable[int] = range(3, 13), number: int = 8, seed: int = 0
) -> None:
    """A slider over numbers of calls of the network: what DDIM, Heun, 2M, and prediction with noise added anew make of the same
    x_T, in one row each; on top what 2M draws with 40 calls, for the end of the exact curve.

    All begin where the noise level is 80: DDIM on times that are evenly spaced, Heun and 2M on Karras' grid, and the last row
    on the times of `anew_times`. The labels are 0, 1, 2 ... of a model that takes some. Everything is computed once, before it
    is shown: about 300 calls for each of the `number` pictures with 3 to 12 calls."""
    build_few_calls(model, schedule, calls, number, seed).show()


def build_few_calls(
    model: Denoiser, schedule: Schedule, calls: Iterable[int] = range(3, 13), number: int = 8, seed: int = 0
) -> Explorer:
    """The explorer of `few_calls`, not yet shown."""
    counts = sorted(set(calls))
    if len(counts) < 2 or counts[0] < 1:
        raise ValueError(f"calls must hold at least 2 numbers of calls >= 1, got {counts}")
    if number < 1:
        raise ValueError(f"number must be at least 1, got {number}")
    x_T, classes = initial_noise(seed, number, item_shape_of(model)), len(label_names(model))
    drawn = draw(
        model, schedule, check_images("x_T", x_T), counts, torch.arange(number) % classes if classes else None, seed
    )
    wide = min(0.73, 5.8 / number)  # of a picture, in inches
    figure, ax = plots.subplots(size=(1.3 + number * wide, 0.1 + 5.1 * wide * x_T.shape[2] / x_T.shape[3]))
    sheet = image_rows(ax, [f"2M, {REFERENCE} calls", *ROWS], x_T)
    ax.set_anchor("E")  # what is left of the width is for the names
    plot = LivePlot(figure, [sheet])
    first = counts[min(2, len(counts) - 1)]
    slider = widgets.SelectionSlider(options=counts, value=first, description="calls", **LOOK)

    def update(calls: int) -> str:
        rows = drawn.rows[calls]
        sheet.set_data(stacked([drawn.reference, *(rows[name] for name in ROWS)]))
        return _reading(drawn, calls)

    alt = (
        f"Five rows of {number} pictures drawn from the same noise: by 2M with {REFERENCE} calls of the network, and with "
        f"{first} calls by DDIM, by Heun, by 2M, and by prediction with noise added anew."
    )
    return Explorer("Few calls, from the same x_T", {"calls": slider}, plot, update, alt)


@dataclass(frozen=True)
class Drawn:
    """The pictures of each row by number of calls, and those of the `reference`, which stands for the exact curve's end."""

    rows: dict[int, dict[str, Tensor]]
    reference: Tensor

    def difference(self, calls: int, name: str) -> float:
        """Root mean squared difference of a pixel from the reference, grey values from -1 to 1."""
        return (self.rows[calls][name] - self.reference).square().mean().sqrt().item()


def _reading(drawn: Drawn, calls: int) -> str:
    steps = (calls + 1) // 2
    made = f" ({2 * steps - 1} calls: {steps} step{'s' * (steps > 1)})"
    off = [f"{name}{made if name == 'Heun' else ''} {drawn.difference(calls, name):.2f}" for name in ROWS[:3]]
    return (
        f"{calls} call{'s' * (calls > 1)} of the network for each picture. Difference from the end of the exact curve, for which "
        f"2M with {REFERENCE} calls stands (root mean square of a pixel, grey values from -1 to 1): {', '.join(off)}.<br>"
        "Where noise is added anew, no curve is followed, and other pictures come out."
    )


# -- drawing ------------------------------------------------------------------------------------------------------------


def draw(
    model: Denoiser, schedule: Schedule, x_T: Tensor, counts: Sequence[int], y: Tensor | None = None, seed: int = 0
) -> Drawn:
    """All rows for all numbers of calls. `seed` is that of the noise which is added anew."""
    start = int(karras_times(schedule, 1)[0])
    asked: dict[str, Any] = {"model": model, "schedule": schedule, "x_T": x_T, "y": y}
    rows = {}
    for calls in counts:
        even = schedule.subsequence(calls, start=start).flip(0)
        samplers = (
            dpm_solver_sample(**asked, times=even, order=1),
            heun_sample(**asked, steps=(calls + 1) // 2),
            dpm_solver_sample(**asked, steps=calls),
            consistency_sample(**asked, times=anew_times(start, calls), generator=seed),
        )
        rows[calls] = {name: _end(frames) for name, frames in zip(ROWS, samplers, strict=True)}
    return Drawn(rows, _end(dpm_solver_sample(**asked, steps=REFERENCE)))


def _end(frames: Iterable[Frame]) -> Tensor:
    *_, last = frames
    return last.x_t


def anew_times(start: int, calls: int) -> list[int]:
    """Falling times for predicting and adding noise anew: start (1 - i / calls)^(3/4), and 0. For four calls from 992 they are
    992, 799, 590, 351: from much later ones the first prediction, a blurred mean, would not be left."""
    times = [start]
    for i in range(1, calls):
        times.append(min(times[-1] - 1, max(calls - i, round(start * (1 - i / calls) ** 0.75))))
    return [*times, 0]
