"""The pictures of one training run: the curves of its loss, and samples that are drawn always from the same noise."""

import html
import math
from collections.abc import Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from diffnotes.book.live import plots
from diffnotes.book.live.background import AnyTrainer
from diffnotes.book.live.drawing import draw, quick_times
from diffnotes.book.live.widgets import LivePlot, image_widget, png
from diffnotes.process.samplers import initial_noise
from diffnotes.training.adversarial import GanConfig, GanTrainer, gan_sample
from diffnotes.training.grid import grid_image
from diffnotes.training.objectives import TIME_BINS
from diffnotes.training.restore import class_names_of, item_shape_of

WINDOW = 50  # updates in a running median
RECENT = 100  # updates in the median of the loss by time
# where the axis of the squared error begins, for each target
LOWEST = {"v": 0.02, "u": 0.02, "x0": 0.005, "eps": 0.005}
LOWEST_BY_TIME = {"v": 0.01, "u": 0.01, "x0": 0.0005, "eps": 0.0005}
HIGHEST = 2
SQUARED_ERROR = "mean squared error"  # what Denoising calls its part
COLOURS = (
    (plots.SKY, plots.BLUE),
    ("#f3cf7c", plots.ORANGE),
    ("#8fd0bd", plots.GREEN),
    ("#eeb58e", plots.RED),
    ("#e6c3d6", plots.PURPLE),
)
DIGITS = tuple("0123456789")


class Curve:
    """A number of each update over the seconds of training: thin as it is, thick its running median, which `name` names in
    the legend; without a name both say what they are."""

    def __init__(self, ax: Any, name: str = "", colours: tuple[str, str] = COLOURS[0]) -> None:
        (self.raw,) = ax.plot([], [], color=colours[0], lw=0.8, label=None if name else "of each update")
        (self.smooth,) = ax.plot([], [], color=colours[1], label=name or f"running median of {WINDOW}")

    def set(self, seconds: np.ndarray, values: np.ndarray) -> None:
        """Show these values, at most 1500 of them, and at most 300 medians."""
        keep = _spread(len(values), 1500)
        self.raw.set_data(seconds[keep], values[keep])
        if len(values) >= WINDOW:
            first = _spread(len(values) - WINDOW + 1, 300)
            windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[first]
            self.smooth.set_data(seconds[first + WINDOW // 2], np.median(windows, axis=1))


def _spread(number: int, most: int) -> np.ndarray:
    """The numbers 0 .. number - 1, or `most` of them, evenly chosen, with the first and the last."""
    return np.unique(np.linspace(0, max(number - 1, 0), min(number, most)).astype(int))


def median_by_time(losses: Sequence[np.ndarray]) -> np.ndarray:
    """The median of each tenth's loss over some updates (rows of Trainer.loss_by_time), nan where no update has one. (10,)"""
    columns = [column[~np.isnan(column)] for column in np.array(losses, dtype=float).reshape(-1, TIME_BINS).T]
    return np.array([np.median(column) if len(column) else np.nan for column in columns])


class RunView:
    """The pictures of one run: the curve of its loss, or one for each part of it where the objective names several; and, of a
    diffusion model, samples that are drawn always from the same noise with the average of its weights, for its labels in
    turn if it takes labels, in `steps` steps (live/drawing.py; in as many as the schedule has room for, if that is less);
    those of a GAN in one call.

    With details: also the norm of the gradient, the loss by time, and samples of the weights after the last update.
    `picture` is the widget of the curves, `images` those of the samples, by the weights they come from; `lowest` is where the
    axis of a squared error begins, for each target's own unless given."""

    def __init__(
        self, trainer: AnyTrainer, seconds: float, lowest: float | None = None, steps: int = 8, details: bool = False
    ) -> None:
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        self.trainer, self.details, self.seconds = trainer, details, seconds
        target = getattr(trainer.model, "target", None)
        self.target = target if target in LOWEST else "eps"
        self.lowest = LOWEST[self.target] if lowest is None else lowest
        self.parts: list[str] = []  # of the loss, as soon as they are known
        self._limits = (self.lowest, float(HIGHEST))
        self.picture = image_widget(760 if details else 310)
        self.rescale(seconds)

        shape = item_shape_of(trainer.model)
        self.columns, self.scale = (10 if shape[-1] <= 64 else 5), (2 if shape[-1] <= 32 else 1)
        self.names = class_names_of(trainer.model)
        self.what = "digits" if shape[-2:] == (28, 28) and self.names in ((), DIGITS) else "pictures"
        self.networks: dict[str, Any] = {}
        drawable = len(shape) == 3 and shape[0] in (1, 3)
        if isinstance(trainer, GanTrainer) or (trainer.schedule is not None and target in LOWEST and drawable):
            self.steps = 1 if trainer.schedule is None else len(quick_times(trainer.schedule, steps))
            self.x_T = initial_noise(0, 2 * self.columns, shape)
            self.networks = {"averaged weights": trainer.ema.model}
            if details:
                self.networks["last weights"] = trainer.model
        self.grids = {name: self._grid(self.x_T) for name in self.networks}  # until there are samples
        self.images = {
            name: widgets.Image(value=png(grid), format="png", width=self.shown_width(grid.width))
            for name, grid in self.grids.items()
        }

    def rescale(self, seconds: float) -> None:
        """Make the figure, with room for `seconds` of training."""
        self.seconds = seconds
        schedule = self.trainer.schedule if self.details else None
        if self.details:
            ratios = (8, 5) if schedule is None else (8, 5, 5)
            figure, axes = plots.subplots(1, len(ratios), size=(7.6, 2.6), width_ratios=ratios)
        else:
            figure, axes = plots.subplots(1, 1, size=(3.1, 1.8), squeeze=False)
            axes = axes[0]
        time_axis = dict(xlim=(0, seconds), xlabel="seconds of training")
        several = len(self.parts) > 1
        names = self.parts if several else [""]
        self.losses = [Curve(axes[0], name, COLOURS[i % len(COLOURS)]) for i, name in enumerate(names[: len(COLOURS)])]
        one = self.parts[0] if self.parts else SQUARED_ERROR
        title = "the parts of the loss" if several else f"loss ({one})"
        axes[0].set(ylim=self._limits, yscale="log" if self._limits[0] > 0 else "linear", title=title, **time_axis)
        artists = [line for curve in self.losses for line in (curve.raw, curve.smooth)]
        if self.details or several:
            falling = self._limits[0] > 0  # else a GAN's, which begin far from 0 and end near it
            axes[0].legend(loc="lower left" if falling else "upper right", ncols=1 if falling else 2)
        self.norm: Curve | None = None
        self.first: Any = None
        self.last: Any = None
        if self.details:
            self.norm = Curve(axes[1])
            if not isinstance(self.trainer.config, GanConfig):
                axes[1].axhline(self.trainer.config.gradient_clip, color=plots.BLACK, lw=1, ls=":")
            axes[1].set(ylim=(0.02, 5), yscale="log", title="gradient norm", **time_axis)
            artists += [self.norm.raw, self.norm.smooth]
        if schedule is not None:
            (self.first,) = axes[2].plot([], [], "o-", color=plots.SKY, ms=3, lw=1, label=f"first {RECENT} updates")
            (self.last,) = axes[2].plot([], [], "o-", color=plots.BLUE, ms=4, label=f"last {RECENT}")
            axes[2].set(xlim=(0, schedule.T), ylim=(LOWEST_BY_TIME[self.target], HIGHEST), yscale="log")
            axes[2].set(xlabel="time t", title="loss by time")
            axes[2].legend(loc="lower left")
            artists += [self.first, self.last]
        self.plot = LivePlot(figure, artists, self.picture)

    @property
    def loss(self) -> Curve:
        """The curve of the loss, or of its first part."""
        return self.losses[0]

    def redraw(self) -> None:
        """Draw the curves."""
        history = list(self.trainer.history)
        seconds = np.array([state.seconds for state in history])
        values = self._values(history)
        self._make_room(values)
        for curve, part in zip(self.losses, values.values(), strict=False):
            curve.set(seconds, part)
        if self.norm is not None:
            self.norm.set(seconds, np.array([state.gradient_norm for state in history]))
        if self.last is not None:
            middles = (np.arange(TIME_BINS) + 0.5) * self.last.axes.get_xlim()[1] / TIME_BINS
            by_time = self.trainer.loss_by_time
            self.last.set_data(middles, median_by_time(by_time[-RECENT:]))
            if len(by_time) >= 2 * RECENT:
                self.first.set_data(middles, median_by_time(by_time[:RECENT]))
        self.plot.refresh()

    def _values(self, history: Sequence[Any]) -> dict[str, np.ndarray]:
        """The parts of the loss over the updates, or the loss alone where there is one part at most."""
        parts = list(history[-1].parts) if history else []
        if len(parts) < 2:
            return {(parts or [SQUARED_ERROR])[0]: np.array([state.loss for state in history])}
        return {name: np.array([state.parts.get(name, math.nan) for state in history]) for name in parts}

    def _make_room(self, values: dict[str, np.ndarray]) -> None:
        """Make the figure anew where parts turn up that have no curve yet, or values that its axis cannot show. The squared
        error's axis stays as it is: a run's first updates may leave it at the top."""
        names, limits = list(values), self._limits
        if names != [SQUARED_ERROR]:
            numbers = np.concatenate(list(values.values()))
            limits = _room(numbers[np.isfinite(numbers)], limits if self.parts == names else None)
        if (names != self.parts and names != [SQUARED_ERROR]) or limits != self._limits:
            self.parts, self._limits = names, limits
            self.rescale(self.seconds)

    def draw_samples(self) -> None:
        """Draw the samples, from the same noise as ever."""
        for name, network in self.networks.items():
            self.grids[name] = self._grid(self._drawn(network, 2))
            self.images[name].value = png(self.grids[name])

    def row(self) -> Any:
        """The first row of samples with the averaged weights, as a picture."""
        return self._grid(self._drawn(self.trainer.ema.model, 1))

    def _drawn(self, network: Any, rows: int) -> torch.Tensor:
        """Rows of samples of this network."""
        number = rows * self.columns
        if isinstance(self.trainer, GanTrainer):
            return gan_sample(network, number, labels=bool(self.names))
        assert self.trainer.schedule is not None  # else there are no networks
        x_T = self.x_T[:number].to(self.trainer.accelerator.device)
        y = torch.arange(len(x_T), device=x_T.device) % len(self.names) if self.names else None
        return draw(network, self.trainer.schedule, x_T, self.steps, y)

    def _grid(self, x: torch.Tensor) -> Any:
        return grid_image(x, self.columns, self.scale)

    def shown_width(self, width: int) -> int:
        """How wide a picture of samples is shown."""
        return min(width, 760) * (4 if self.details else 3) // 4

    @property
    def labels(self) -> str:
        """Which labels the samples have, in a line of HTML; nothing where they can be seen, or there are none."""
        if self.names in ((), DIGITS):
            return ""
        shown = self.names[: 2 * self.columns]
        return f"Labels, from the left and again: {', '.join(map(html.escape, shown))}."

    def reading(self) -> str:
        """How the run stands, in a line."""
        recent = self.trainer.history[-100:]
        if not recent:
            return "starting ..."
        last = recent[-1]
        speed = (last.images - recent[0].images) / max(last.seconds - recent[0].seconds, 1e-9)
        parts = [f"{name} {median:.3f}" for name, median in self.medians().items()]
        images = "images" if hasattr(self.trainer.data, "x") else "items"
        return f"update {last.update:,} · {last.images:,} {images} seen · {' · '.join(parts)} · {speed:,.0f} {images} per second"

    def medians(self) -> dict[str, float]:
        """The medians of the loss, or of its parts, in the newest updates."""
        values = self._values(self.trainer.history[-WINDOW:])
        if len(values) == 1:
            values = {"loss": next(iter(values.values()))}
        return {name: float(np.median(part)) for name, part in values.items()}

    def curves_html(self, of: str = "") -> str:
        """The curves for readers without a kernel; `of` names the run in their alt text."""
        if not self.trainer.history:
            return plots.img_tag(self.plot.figure, f"The loss{of}: no update yet.")
        state, medians = self.trainer.history[-1], self.medians()
        if len(medians) == 1:
            now = f"{medians['loss']:.2f}"
            alt = f"The loss{of} over {state.seconds:.0f} seconds of training, now {now}."
        else:
            now = ", ".join(f"{name} {median:.2f}" for name, median in medians.items())
            alt = f"The parts of the loss{of} over {state.seconds:.0f} seconds of training; now {now}."
        if self.details:
            alt += f" The norm of its gradient, now {state.gradient_norm:.2f}."
        if self.last is not None:
            alt += " The loss in each tenth of the times 1 to T."
        return plots.img_tag(self.plot.figure, alt)

    def samples_html(self, name: str, of: str = "") -> str:
        """The samples of these weights for readers without a kernel."""
        number = {10: "Ten", 20: "Twenty"}[2 * self.columns]
        alt = f"{number} {self.what} drawn with the {name}{of}."
        return plots.img_tag(self.grids[name], alt, self.images[name].width, exact=True)


def _room(values: np.ndarray, before: tuple[float, float] | None) -> tuple[float, float]:
    """The ends of an axis for the values: those of before if they hold them, else with room for the values to change. Positive
    values get a logarithmic axis."""
    if not len(values):
        return before or (0.001, 1.0)
    low, high = float(values.min()), float(values.max())
    if before is not None and before[0] <= low and high <= before[1]:
        return before
    if low > 0:
        return low / 3, high * 2
    margin = 0.5 * (high - low) or 1.0
    return min(low - margin, 0.0), high + margin
