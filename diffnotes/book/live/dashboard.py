"""A dashboard for a training run: what it shows while a thread trains, with Stop and Resume.

Cell 1:  dashboard = Dashboard(trainer, seconds=180, folder="runs/mine")
Cell 2:  await dashboard.finished()          # waits without blocking the page, and raises what went wrong in the thread
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch

from diffnotes.book.live import plots
from diffnotes.book.live.training import GRID_SECONDS, LiveTraining, check_seconds
from diffnotes.book.live.widgets import LivePlot, image_widget, png
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.training.grid import grid_image
from diffnotes.training.trainer import TIME_BINS, Trainer

WINDOW = 50  # updates in a running median
RECENT = 100  # updates in the median of the loss by time
LOWEST = {"v": 0.02, "x0": 0.005, "eps": 0.005}  # where the axis of the loss begins, for each target
LOWEST_BY_TIME = {"v": 0.01, "x0": 0.0005, "eps": 0.0005}


class Curve:
    """A number of each update over the seconds of training: thin as it is, thick its running median."""

    def __init__(self, ax: Any) -> None:
        (self.raw,) = ax.plot([], [], color=plots.SKY, lw=0.8, label="of each update")
        (self.smooth,) = ax.plot([], [], color=plots.BLUE, label=f"running median of {WINDOW}")

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
    """The pictures of one run: the curve of its loss, and twenty digits that are drawn always from the same noise with the
    average of its weights, 0 to 9 and again if the network knows labels.

    With details: also the norm of the gradient, the loss by time, and the digits of the weights after the last update.
    `picture` is the widget of the curves, `images` those of the digits; `lowest` is where the axis of the loss begins."""

    def __init__(self, trainer: Trainer, seconds: float, lowest: float, steps: int, details: bool = False) -> None:
        self.trainer, self.lowest, self.steps, self.details = trainer, lowest, steps, details
        self.networks = {"averaged weights": trainer.ema.model} | ({"last weights": trainer.model} if details else {})
        self.x_T = initial_noise(seed=0, batch=20)
        self.grids = {name: grid_image(self.x_T, columns=10) for name in self.networks}  # until there are digits
        self.images = {
            name: widgets.Image(value=png(grid), format="png", width=596 if details else 447)
            for name, grid in self.grids.items()
        }
        self.picture = image_widget(760 if details else 310)
        self.rescale(seconds)

    def rescale(self, seconds: float) -> None:
        """Make the figure, with room for `seconds` of training."""
        if self.details:
            figure, axes = plots.subplots(1, 3, size=(7.6, 2.6), width_ratios=(8, 5, 5))
        else:
            figure, axes = plots.subplots(1, 1, size=(3.1, 1.8), squeeze=False)
            axes = axes[0]
        time_axis = dict(xlim=(0, seconds), yscale="log", xlabel="seconds of training")
        self.loss = Curve(axes[0])
        axes[0].set(ylim=(self.lowest, 2), title="loss (mean squared error)", **time_axis)
        artists = [self.loss.raw, self.loss.smooth]
        if self.details:
            axes[0].legend(loc="lower left")
            self.norm = Curve(axes[1])
            axes[1].axhline(self.trainer.config.gradient_clip, color=plots.BLACK, lw=1, ls=":")
            axes[1].set(ylim=(0.02, 5), title="gradient norm", **time_axis)
            T, lowest = self.trainer.schedule.T, LOWEST_BY_TIME[self.trainer.model.target]
            (self.first,) = axes[2].plot([], [], "o-", color=plots.SKY, ms=3, lw=1, label=f"first {RECENT} updates")
            (self.last,) = axes[2].plot([], [], "o-", color=plots.BLUE, ms=4, label=f"last {RECENT}")
            axes[2].set(xlim=(0, T), ylim=(lowest, 2), yscale="log", xlabel="time t", title="loss by time")
            axes[2].legend(loc="lower left")
            artists += [self.norm.raw, self.norm.smooth, self.first, self.last]
        self.plot = LivePlot(figure, artists, self.picture)

    def redraw(self) -> None:
        """Draw the curves."""
        history = list(self.trainer.history)
        seconds = np.array([state.seconds for state in history])
        self.loss.set(seconds, np.array([state.loss for state in history]))
        if self.details:
            self.norm.set(seconds, np.array([state.gradient_norm for state in history]))
            middles = (np.arange(TIME_BINS) + 0.5) * self.trainer.schedule.T / TIME_BINS
            by_time = self.trainer.loss_by_time
            self.last.set_data(middles, median_by_time(by_time[-RECENT:]))
            if len(by_time) >= 2 * RECENT:
                self.first.set_data(middles, median_by_time(by_time[:RECENT]))
        self.plot.refresh()

    def draw_digits(self) -> None:
        """Draw the digits, from the same noise as ever."""
        x_T = self.x_T.to(self.trainer.accelerator.device)
        for name, network in self.networks.items():
            y = None if network.num_classes is None else torch.arange(len(x_T), device=x_T.device) % network.num_classes
            *_, last = ddim_sample(network, self.trainer.schedule, x_T, steps=self.steps, y=y)
            self.grids[name] = grid_image(last.x_t, columns=10)
            self.images[name].value = png(self.grids[name])

    def reading(self) -> str:
        """How the run stands, in a line."""
        recent = self.trainer.history[-100:]
        if not recent:
            return "starting ..."
        last = recent[-1]
        speed = (last.images - recent[0].images) / max(last.seconds - recent[0].seconds, 1e-9)
        seen = f"update {last.update:,} · {last.images:,} images seen"
        return f"{seen} · loss {self.median_loss:.3f} · {speed:,.0f} images per second"

    @property
    def median_loss(self) -> float:
        """The median of the loss in the newest updates."""
        return float(np.median([state.loss for state in self.trainer.history[-WINDOW:]]))

    def curves_html(self, of: str = "") -> str:
        """The curves for readers without a kernel; `of` names the run in their alt text."""
        if not self.trainer.history:
            return plots.img_tag(self.plot.picture(), f"The loss{of}: no update yet.")
        state = self.trainer.history[-1]
        alt = f"The loss{of} over {state.seconds:.0f} seconds of training: steep at first, then slow; now {self.median_loss:.2f}."
        if self.details:
            alt += (
                f" The norm of its gradient, now {state.gradient_norm:.2f}. The loss in each tenth of the times 1 to T."
            )
        return plots.img_tag(self.plot.picture(), alt)

    def digits_html(self, name: str, of: str = "") -> str:
        """The digits of these weights for readers without a kernel."""
        return plots.img_tag(self.grids[name], f"Twenty digits drawn with the {name}{of}.", self.images[name].width)


class Dashboard:
    """Trains `trainer` until it has had `seconds` of training, and shows its loss, also by time, the norm of its gradient,
    the speed, the time left, and every `grid_every` seconds digits drawn in `steps` steps with the averaged weights and
    with the last ones. When it ends or is stopped, the run is saved to `folder`.

    It starts by itself. Stop keeps everything; Resume goes on; when the budget is spent, the button offers a minute more."""

    def __init__(
        self, trainer: Trainer, seconds: float, folder: str | Path, grid_every: float = GRID_SECONDS, steps: int = 20
    ) -> None:
        check_seconds(seconds)
        self.view = RunView(trainer, seconds, LOWEST[trainer.model.target], steps, details=True)
        rows = [
            widgets.HBox(
                [widgets.Label(name, layout={"width": "130px"}), image],
                layout={"align_items": "center", "margin": "6px 0 0"},
            )
            for name, image in self.view.images.items()
        ]
        self.pictures = widgets.VBox([widgets.HBox([self.view.picture]), *rows])
        self.live = LiveTraining(self, [trainer], seconds, [folder], grid_every)

    async def finished(self) -> None:
        """Wait until the run ends or is stopped, then show where it stands as plain pictures too."""
        await self.live.finished()

    # -- as LiveTraining wants it

    def rescale(self, seconds: float) -> None:
        """Make room on the axes for `seconds` of training."""
        self.view.rescale(seconds)

    def redraw(self, left: float) -> str:
        """Draw the curves, and return a line that says how the run stands."""
        self.view.redraw()
        return f"{self.view.reading()} · {left:,.0f} s left."

    def draw_digits(self) -> None:
        """Draw digits with both sets of weights."""
        self.view.draw_digits()

    def html(self) -> str:
        """The pictures for readers without a kernel."""
        digits = "".join(f"<p>{name}<br>{self.view.digits_html(name)}</p>" for name in self.view.networks)
        return f"{self.view.curves_html()}{digits}"
