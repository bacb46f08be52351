"""A dashboard for a training run: what it shows while a thread trains, with Stop and Resume.

Cell 1:  dashboard = Dashboard(trainer, seconds=180, folder="runs/mine")
Cell 2:  await dashboard.finished()          # waits without blocking the page, and raises what went wrong in the thread
"""

from collections.abc import Sequence
from pathlib import Path

import ipywidgets as widgets

from diffnotes.book.live.background import AnyTrainer
from diffnotes.book.live.run_view import RunView
from diffnotes.book.live.snapshots import LABEL, ROW, Snapshots
from diffnotes.book.live.training import GRID_SECONDS, SAVE_SECONDS, LiveTraining, check_seconds


class Dashboard:
    """Trains `trainer` until it has had `seconds` of training, and shows its loss, also by time, the norm of its gradient,
    the speed, the time left, and every `grid_every` seconds samples drawn in `steps` steps with the averaged weights and
    with the last ones. After each of the numbers of updates in `snapshots` a row of samples is drawn, and stays. The run is
    saved to `folder` every `save_every` seconds, and when it ends or is stopped.

    It starts by itself, unless a training in the same folder is still going on: then the reader is asked first
    (training.py). Stop keeps everything; Resume goes on; when the budget is spent, the button offers a minute more."""

    def __init__(
        self,
        trainer: AnyTrainer,
        seconds: float,
        folder: str | Path,
        grid_every: float = GRID_SECONDS,
        steps: int = 8,
        save_every: float = SAVE_SECONDS,
        snapshots: Sequence[int] = (),
    ) -> None:
        check_seconds(seconds)
        self.view = RunView(trainer, seconds, steps=steps, details=True)
        self.snapshots = Snapshots(self.view, snapshots)
        rows: list[widgets.Widget] = [
            widgets.HBox(
                [widgets.Label(name, layout=LABEL), image],
                layout=ROW,
            )
            for name, image in self.view.images.items()
        ]
        if rows and self.view.labels:
            rows.append(widgets.HTML(self.view.labels))
        grown = [self.snapshots.widget] if self.snapshots.widget else []
        self.pictures = widgets.VBox([widgets.HBox([self.view.picture]), *grown, *rows])
        after_update = self.snapshots.take_if_due
        self.live = LiveTraining(self, [trainer], seconds, [folder], grid_every, save_every, after_update)

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

    def draw_samples(self) -> None:
        """Draw samples with both sets of weights."""
        self.view.draw_samples()

    def html(self) -> str:
        """The pictures for readers without a kernel."""
        samples = "".join(f"<p>{name}<br>{self.view.samples_html(name)}</p>" for name in self.view.networks)
        labels = f"<p>{self.view.labels}</p>" if samples and self.view.labels else ""
        return f"{self.view.curves_html()}{self.snapshots.html()}{samples}{labels}"
