"""Runs against each other, beside the reader: the same seed, the same seconds for each, the same noise for their samples.

Cell 1:  comparison = Comparison({"linear": one, "cosine": other}, seconds=60)
Cell 2:  await comparison.finished()
"""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets as widgets
import torch

from diffnotes.book.live.run_view import LOWEST, RunView
from diffnotes.book.live.training import GRID_SECONDS, SAVE_SECONDS, LiveTraining, check_seconds
from diffnotes.process.schedules import Schedule
from diffnotes.training.trainer import Trainer

NOT_COMPARABLE = (
    "Losses of different prediction targets, schedules, objectives or times measure different things and cannot be compared. "
    "Compare the {what}, which come from the same noise."
)
COMPARABLE = (
    "All with the same prediction target, schedule and distribution of the times, so that their losses can be compared; the "
    "{what} come from the same noise."
)


class Comparison:
    """Trains two or more runs with the same seed on one thread, in turns of a second, until each has had `seconds` of
    training, and shows for each its loss, its speed, and every `grid_every` seconds samples drawn in `steps` steps with its
    averaged weights. If `folders` has one for each, each is saved there every `save_every` seconds, and when they end or are
    stopped.

    It starts by itself, unless a training in one of the folders is still going on: then the reader is asked (training.py).
    Stop and Resume are for all together; when the budget is spent, the button offers a minute more of each. ValueError for
    fewer than two runs, the same one twice, different seeds, or folders that do not fit."""

    def __init__(
        self,
        trainers: Mapping[str, Trainer],
        seconds: float,
        folders: Mapping[str, str | Path] | None = None,
        grid_every: float = GRID_SECONDS,
        steps: int = 8,
        save_every: float = SAVE_SECONDS,
    ) -> None:
        check_seconds(seconds)
        _check_runs(trainers)
        _check_folders(folders, trainers)
        lowest = min(LOWEST.get(getattr(t.model, "target", ""), 0.005) for t in trainers.values())
        self.views = {name: RunView(trainer, seconds, lowest, steps) for name, trainer in trainers.items()}
        self.lines = {name: widgets.HTML() for name in trainers}
        note = COMPARABLE if losses_comparable(list(trainers.values())) else NOT_COMPARABLE
        self.note = note.format(what="digits" if all(v.what == "digits" for v in self.views.values()) else "pictures")
        rows = [widgets.VBox([self.lines[name], _side_by_side(view)]) for name, view in self.views.items()]
        self.pictures = widgets.VBox([*rows, widgets.HTML(self.note)])
        kept = [folders[name] if folders else None for name in trainers]
        self.live = LiveTraining(self, list(trainers.values()), seconds, kept, grid_every, save_every)

    async def finished(self) -> None:
        """Wait until all runs end or are stopped, then show where they stand as plain pictures too."""
        await self.live.finished()

    # -- as LiveTraining wants it

    def rescale(self, seconds: float) -> None:
        """Make room on the axes for `seconds` of training."""
        for view in self.views.values():
            view.rescale(seconds)

    def redraw(self, left: float) -> str:
        """Draw the curves and what stands above them, and return a line about the whole."""
        for name, view in self.views.items():
            view.redraw()
            self.lines[name].value = f"<b>{html.escape(name)}</b> · {view.reading()}"
        return f"{len(self.views)} runs in turn · {left:,.0f} s left."

    def draw_samples(self) -> None:
        """Draw samples with the averaged weights of each run."""
        for view in self.views.values():
            view.draw_samples()

    def html(self) -> str:
        """The pictures for readers without a kernel."""
        parts = [
            f"<p>{self.lines[name].value}<br>{view.curves_html(f' of the run {name}')} "
            f"{' '.join(view.samples_html(weights, f' of the run {name}') for weights in view.networks)}</p>"
            for name, view in self.views.items()
        ]
        return f"{''.join(parts)}<p>{self.note}</p>"


def _side_by_side(view: RunView) -> widgets.HBox:
    return widgets.HBox(
        [view.picture, *view.images.values()], layout={"flex_flow": "row wrap", "align_items": "center"}
    )


def losses_comparable(trainers: Sequence[Trainer]) -> bool:
    """Whether the losses mean the same: the same kind of objective, target, schedule, and distribution of the times."""
    first, *others = trainers
    return all(
        type(other.objective) is type(first.objective)
        and getattr(other.model, "target", None) == getattr(first.model, "target", None)
        and _same_schedule(other.schedule, first.schedule)
        and getattr(other.objective, "logit_normal", None) == getattr(first.objective, "logit_normal", None)
        for other in others
    )


def _same_schedule(one: Schedule | None, other: Schedule | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.alpha_bar, other.alpha_bar)


def _check_runs(trainers: Mapping[str, Trainer]) -> None:
    if len(trainers) < 2:
        raise ValueError(f"trainers must hold two runs or more, got {list(trainers)}")
    if len(set(trainers.values())) < len(trainers):
        raise ValueError(f"trainers must be a different one for each name, got one twice in {list(trainers)}")
    seeds = {name: trainer.config.seed for name, trainer in trainers.items()}
    if len(set(seeds.values())) > 1:
        raise ValueError(f"trainers must have the same seed, got {seeds}")


def _check_folders(folders: Mapping[str, str | Path] | None, trainers: Mapping[str, Trainer]) -> None:
    if folders is None:
        return
    if folders.keys() != trainers.keys():
        raise ValueError(f"folders must have the names of the runs, {list(trainers)}, got {list(folders)}")
    if len({Path(folder) for folder in folders.values()}) < len(folders):
        raise ValueError(f"folders must be a different one for each run, got {[str(f) for f in folders.values()]}")
