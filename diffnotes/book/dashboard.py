"""Training beside the reader: a thread that trains, and a dashboard that shows what it does, with Stop and Resume.

Cell 1:  dashboard = Dashboard(trainer, seconds=180, folder="runs/mine")
Cell 2:  await dashboard.finished()          # waits without blocking the page, and raises what went wrong in the thread
"""

import asyncio
import ctypes
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import ipywidgets as widgets
import numpy as np
import threadpoolctl
import torch

from diffnotes.book import plots
from diffnotes.book.live import LivePlot, png, show_widget
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.training.grid import grid_image
from diffnotes.training.trainer import Trainer, TrainState

REDRAW_SECONDS = 0.5
MORE_SECONDS = 60


class BackgroundRun:
    """Goes through `states` on a thread, calling on_state for each, until they end, `stop` is set, or something fails."""

    def __init__(
        self,
        states: Iterable[TrainState],
        on_state: Callable[[TrainState], None],
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(states, on_state, at_end), daemon=True)
        self.thread.start()

    def _run(
        self, states: Iterable[TrainState], on_state: Callable[[TrainState], None], at_end: Callable[[], None]
    ) -> None:
        try:
            for state in states:
                on_state(state)
                if self.stop.is_set():
                    break
        except BaseException as error:  # kept for the cell that waits: a thread's exception reaches no cell by itself
            self.error = error
        try:
            at_end()
        except BaseException as error:
            self.error = self.error or error

    async def finished(self) -> None:
        """Wait for the end; raise what went wrong. While it waits, buttons and sliders work."""
        await asyncio.to_thread(self.thread.join)
        if self.error is not None:
            raise self.error


def release_idle_threads() -> None:
    """Give back the OpenMP threads that earlier cells have left waiting in the calling thread's pool.

    GNU OpenMP keeps a pool of threads for each thread that has computed something. With one pool for the notebook's cells and
    one for the training there are more threads than cores, and then all of them go to sleep between any two pieces of
    work: training beside the notebook was 1.8 times slower for it. The pool comes back by itself when it is needed."""
    for library in threadpoolctl.threadpool_info():
        if library["user_api"] == "openmp" and library["prefix"] == "libgomp":
            pause = getattr(ctypes.CDLL(library["filepath"]), "omp_pause_resource_all", None)
            if pause is not None:
                pause(1)  # omp_pause_soft


class Dashboard:
    """Trains `trainer` until it has had `seconds` of training, and shows the loss, the speed, the time left and digits
    drawn with the averaged weights every `grid_every` seconds, 0 to 9 and again if the network knows labels. When it ends
    or is stopped, the run is saved to `folder`.

    It starts by itself. Stop keeps everything; Resume goes on; when the budget is spent, the button offers a minute more."""

    def __init__(
        self, trainer: Trainer, seconds: float, folder: str | Path, grid_every: float = 15.0, steps: int = 20
    ) -> None:
        if not seconds > 0:
            raise ValueError(f"seconds must be positive, got {seconds}")
        self.trainer, self.seconds, self.folder = trainer, seconds, Path(folder)
        self.grid_every, self.steps = grid_every, steps
        self.x_T = initial_noise(seed=0, batch=20)
        self._last_redraw = self._last_grid = -1e9

        self.button = widgets.Button(description="Stop", layout={"width": "150px"})
        self.button.on_click(lambda _button: self._clicked())
        self.bar = widgets.FloatProgress(min=0, max=1, layout={"width": "100%"})
        self.status = widgets.HTML("starting ...")
        self.grid = widgets.Image(format="png", width=236)
        self.plot, self._raw, self._smooth = self._loss_plot()
        pictures = widgets.HBox([self.plot.image, self.grid], layout={"flex_flow": "row wrap", "align_items": "center"})
        top = widgets.HBox([self.button, self.bar])
        self.widget = widgets.VBox([top, self.status, pictures])
        self._redraw()
        self._display_id = f"dashboard-{id(self)}"
        show_widget(self.widget, self._fallback(), self._display_id)
        self.run = self._start()

    async def finished(self) -> None:
        """Wait until the run ends or is stopped, then show where it stands as a plain picture too."""
        run = self.run
        while True:
            await run.finished()
            if run is self.run:
                break
            run = self.run  # resumed in the meantime
        show_widget(self.widget, self._fallback(), self._display_id, update=True)

    # -- the thread's side ------------------------------------------------------------------------------------------------

    def _start(self) -> BackgroundRun:
        self.button.description, self.training = "Stop", True
        release_idle_threads()
        return BackgroundRun(self.trainer.steps(seconds=self.seconds), self._on_state, self._at_end)

    def _on_state(self, state: TrainState) -> None:
        now = time.monotonic()
        if now - self._last_redraw > REDRAW_SECONDS:
            self._redraw()
            self._last_redraw = now
        if now - self._last_grid > self.grid_every:
            self._draw_digits()
            self._last_grid = time.monotonic()

    def _at_end(self) -> None:
        path = self.trainer.save(self.folder)
        self._redraw()
        self._draw_digits()
        self.training = False
        spent = self.trainer.seconds >= self.seconds
        self.button.description = f"Train {MORE_SECONDS} s more" if spent else "Resume"
        self.status.value += f" {'Done' if spent else 'Stopped'}; saved to <code>{path}</code>."

    def _clicked(self) -> None:
        if self.training:
            self.button.description = "Stopping ..."
            self.run.stop.set()
            return
        if self.trainer.seconds >= self.seconds:
            self.seconds = self.trainer.seconds + MORE_SECONDS
            self.plot, self._raw, self._smooth = self._loss_plot(self.plot.image)
        self.run = self._start()

    # -- what it draws ----------------------------------------------------------------------------------------------------

    def _loss_plot(self, image: widgets.Image | None = None) -> tuple[LivePlot, Any, Any]:
        figure, ax = plots.subplots(size=(5.2, 2.9))
        (raw,) = ax.plot([], [], color=plots.SKY, lw=0.8, label="of each update")
        (smooth,) = ax.plot([], [], color=plots.BLUE, label="running median of 50")
        ax.set(
            xlim=(0, self.seconds),
            ylim=(0.02, 2),
            yscale="log",
            xlabel="seconds of training",
            title="loss (mean squared error)",
        )
        ax.legend(loc="upper right")
        return LivePlot(figure, [raw, smooth], image), raw, smooth

    def _redraw(self) -> None:
        history = list(self.trainer.history)
        seconds, loss = np.array([s.seconds for s in history]), np.array([s.loss for s in history])
        keep = np.unique(np.linspace(0, max(len(history) - 1, 0), min(len(history), 1500)).astype(int))
        self._raw.set_data(seconds[keep], loss[keep])
        blocks = len(history) // 50
        if blocks:
            middle = seconds[: blocks * 50].reshape(blocks, 50)[:, 25]
            self._smooth.set_data(middle, np.median(loss[: blocks * 50].reshape(blocks, 50), axis=1))
        self.plot.refresh()
        if history:
            last = history[-1]
            recent = history[-100:]
            speed = (last.images - recent[0].images) / max(last.seconds - recent[0].seconds, 1e-9)
            left = max(self.seconds - last.seconds, 0)
            self.bar.value = min(last.seconds / self.seconds, 1)
            self.status.value = (
                f"update {last.update:,} · {last.images:,} images seen · loss {np.median(loss[-50:]):.3f} · "
                f"{speed:,.0f} images per second · {left:,.0f} s left."
            )

    def _draw_digits(self) -> None:
        model, x_T = self.trainer.ema.model, self.x_T.to(self.trainer.accelerator.device)
        y = None if model.num_classes is None else torch.arange(len(x_T), device=x_T.device) % model.num_classes
        *_, last = ddim_sample(model, self.trainer.schedule, x_T, steps=self.steps, y=y)
        self.grid.value = png(grid_image(last.x_t, columns=5))

    def _fallback(self) -> str:
        state = self.trainer.history[-1] if self.trainer.history else None
        if state is None:
            return "<p>The training dashboard stands here while the notebook runs.</p>"
        curve = plots.img_tag(
            self.plot.picture(),
            f"The loss over {state.seconds:.0f} seconds of training: steep at first, then slow; now about {state.loss:.2f}.",
        )
        return f"{curve}<p>{self.status.value}</p>"
