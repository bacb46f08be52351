"""Few calls, real pictures (chapter 14): what each solver makes of one and the same x_T with 3 to 12 calls of the network."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import ipywidgets as widgets
import torch
from torch import Tensor

from diffnotes.book.explorers.controls import LOOK, check_images, label_names
from diffnotes.book.explorers.films import image_rows, stacked
from diffnotes.book.live import plots
from diffnotes.book.live.widgets import Explorer, LivePlot
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import Denoiser, check_denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.parameterize import x0_and_eps
from diffnotes.process.samplers import Noise, ddim_step, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import dpm_solver_step, karras_times, noise_level
from diffnotes.training.restore import item_shape_of

# A sampler that asks for a prediction by yielding (x_t, t), is given (x0_hat, eps_hat) there, and returns the image
Asking = Generator[tuple[Tensor, int], tuple[Tensor, Tensor], Tensor]
REFERENCE = 40  # calls of 2M, whose end stands for that of the exact curve
ROWS = ("DDIM", "Heun", "2M", "predict and\nadd noise anew")


def few_calls(
    model: Denoiser, schedule: Schedule, calls: Iterable[int] = range(3, 13), number: int = 8, seed: int = 0
) -> None:
    """A slider over numbers of calls of the network: what DDIM, Heun, 2M, and prediction with noise added anew make of the same
    x_T, in one row each; on top what 2M draws with 40 calls, for the end of the exact curve.

    All begin where the noise level is 80: DDIM on times that are evenly spaced, Heun and 2M on Karras' grid, and the last row
    on the times of `anew_times`. The labels are 0, 1, 2 ... of a model that takes some. Everything is computed once, before it
    is shown: about 300 calls for each of the `number` pictures with 3 to 12 calls, in large batches."""
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


# -- drawing, all at once -----------------------------------------------------------------------------------------------


def draw(
    model: Denoiser, schedule: Schedule, x_T: Tensor, counts: Sequence[int], y: Tensor | None = None, seed: int = 0
) -> Drawn:
    """All rows for all numbers of calls. `seed` is that of the noise which is added anew."""
    check_denoiser(model)
    start = int(karras_times(schedule, 1)[0])

    def karras(steps: int) -> list[int]:
        times: list[int] = karras_times(schedule, steps).tolist()
        return times

    runs: list[Asking] = [_dpm_solver(schedule, x_T, karras(REFERENCE), order=2)]
    for calls in counts:
        even = schedule.subsequence(calls, start=start).tolist()[::-1]
        runs += [
            _dpm_solver(schedule, x_T, even, order=1),
            _heun(schedule, x_T, karras((calls + 1) // 2)),
            _dpm_solver(schedule, x_T, karras(calls), order=2),
            _anew(schedule, x_T, anew_times(start, calls), Noise(seed, len(x_T))),
        ]
    reference, *ends = together(model, schedule, runs, y)
    return Drawn(
        {calls: dict(zip(ROWS, ends[4 * i : 4 * i + 4], strict=True)) for i, calls in enumerate(counts)}, reference
    )


def anew_times(start: int, calls: int) -> list[int]:
    """Falling times for predicting and adding noise anew: start (1 - i / calls)^(3/4), and 0. For four calls from 992 they are
    992, 799, 590, 351: from much later ones the first prediction, a blurred mean, would not be left."""
    times = [start]
    for i in range(1, calls):
        times.append(min(times[-1] - 1, max(calls - i, round(start * (1 - i / calls) ** 0.75))))
    return [*times, 0]


def together(model: Denoiser, schedule: Schedule, runs: Sequence[Asking], y: Tensor | None) -> list[Tensor]:
    """Advance all runs together, one call of the model for all that they ask for, and for the same question only one answer.
    Returns what each run returns."""
    asked, ends = {i: next(run) for i, run in enumerate(runs)}, {}
    while asked:
        different = {(id(x), t): (x, t) for x, t in asked.values()}
        x_t = torch.cat([x for x, _ in different.values()])
        times = torch.cat([torch.full((len(x),), t) for x, t in different.values()])
        with torch.no_grad():
            output = predict_in_parallel(model, x_t, times, None if y is None else y.repeat(len(different))).to(
                x_t.dtype
            )
        pairs = [
            part.split(len(x_t) // len(different)) for part in x0_and_eps(schedule, model.target, output, x_t, times)
        ]
        answers = dict(zip(different, zip(*pairs, strict=True), strict=True))
        for i, (x, t) in list(asked.items()):
            try:
                asked[i] = runs[i].send(answers[id(x), t])
            except StopIteration as end:
                ends[i] = end.value
                del asked[i]
    return [ends[i] for i in range(len(runs))]


def _dpm_solver(schedule: Schedule, x: Tensor, times: Sequence[int], order: int) -> Asking:
    """Order 1 is DDIM (book, eq. 14.3), order 2 is 2M (book, eq. 14.5)."""
    before = None
    for t, s in pairwise(times):
        x0_hat, _ = yield x, t
        x = dpm_solver_step(schedule, x0_hat, x, t, s, torch.zeros_like(x), before=before)
        before = (x0_hat, t) if order == 2 else None
    return x


def _heun(schedule: Schedule, x: Tensor, times: Sequence[int]) -> Asking:
    """Two calls a step, and one in the last (book, eq. 14.6)."""
    level, a = noise_level(schedule), schedule.alpha_bar.sqrt()
    for t, s in pairwise(times):
        x0_hat, eps_hat = yield x, t
        x = ddim_step(schedule, x0_hat, eps_hat, t, s, torch.zeros_like(x))
        if s > 0:
            _, eps_there = yield x, s
            x = x + (a[s] * (level[s] - level[t]) / 2).item() * (eps_there - eps_hat)
    return x


def _anew(schedule: Schedule, x: Tensor, times: Sequence[int], noise: Noise) -> Asking:
    """Predict the image, add fresh noise for the next time, predict again; the last prediction is the image."""
    for t, s in pairwise(times):
        x0_hat, _ = yield x, t
        x = q_sample(schedule, x0_hat, s, noise.like(x)) if s > 0 else x0_hat
    return x
