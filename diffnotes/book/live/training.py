"""Training beside the notebook, one run or several in turn, under a button that stops it and lets it go on.

What is drawn meanwhile is the business of a TrainingView: book/live/dashboard.py for one run, book/live/comparison.py for
several. There is one training at a time in a folder: where a second begins, the reader says what becomes of the first.
"""

import asyncio
import html
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import ipywidgets as widgets
from IPython import get_ipython

from diffnotes.book.live import cells
from diffnotes.book.live.background import AnyTrainer, BackgroundRun, release_idle_threads, round_robin
from diffnotes.book.live.keeping import Keeper
from diffnotes.book.live.widgets import FOR_THE_KEYBOARD, show_widget
from diffnotes.training.config import TrainState
from diffnotes.training.run_folder import RunInUse

REDRAW_SECONDS = 1.0
GRID_SECONDS = 15.0
SAVE_SECONDS = 30.0
MORE_SECONDS = 60
TURN_SECONDS = 1.0

_training: list["LiveTraining"] = []  # those whose threads train, in this process
_changing = threading.Lock()
_watched: list[Any] = []  # the shells whose cells are followed by release_idle_threads


class TrainingView(Protocol):
    """What draws the runs that LiveTraining trains."""

    pictures: widgets.Widget

    def rescale(self, seconds: float) -> None:
        """Make room on the axes for `seconds` of training."""

    def redraw(self, left: float) -> str:
        """Draw the curves, and return a line that says how it stands, `left` seconds of training before the end."""

    def draw_samples(self) -> None:
        """Draw samples with the weights as they are."""

    def html(self) -> str:
        """The pictures for readers without a kernel."""


def check_seconds(seconds: float) -> None:
    """ValueError unless the budget is a positive number."""
    try:
        positive = 0 < seconds < math.inf
    except TypeError:
        positive = False
    if not positive:
        raise ValueError(f"seconds must be positive, got {seconds}")


class LiveTraining:
    """Trains beside the notebook, each of the trainers for `seconds` in turn, under a button, a bar and a line of text;
    `view` draws how it goes, the curves once a second and samples every `grid_every` seconds; `after_update` is called after
    every update.

    It starts by itself. Stop keeps everything; Resume goes on; when the budget is spent, the button offers a minute more.
    Each run is saved to its folder, if it has one, every `save_every` seconds and at every end, and owns the folder while it
    trains: RunInUse names a training in another process that does, OSError says that nothing can be written there.

    A training that is still going on in this process, in one of the folders or in the same cell, is shown first, and the
    reader chooses whether it is stopped or kept. Where no reader is at a page (nbconvert, nbval) it is stopped. Stopping loses
    nothing: it is saved, and what this one would write over gets a folder beside it (keeping.py)."""

    def __init__(
        self,
        view: TrainingView,
        trainers: Sequence[AnyTrainer],
        seconds: float,
        folders: Sequence[str | Path | None],
        grid_every: float = GRID_SECONDS,
        save_every: float = SAVE_SECONDS,
        after_update: Callable[[], object] = lambda: None,
    ) -> None:
        self.after_update = after_update
        self.view, self.trainers, self.seconds, self.grid_every = view, list(trainers), seconds, grid_every
        self.keeper = Keeper(trainers, folders, save_every)
        self.cell = cells.cell_id()
        self.run: BackgroundRun | None = None
        self.training, self.kept = False, list[LiveTraining]()
        self._earlier: list[LiveTraining] = []  # while the reader is asked what to do with them
        self._troubles: dict[str, str] = {}
        self._last_redraw, self._last_grid = -1e9, time.monotonic() - grid_every / 2  # the first samples come early

        self.button = widgets.Button(layout={"width": "150px"})
        self.button.on_click(lambda _button: self._clicked())
        self.bar = widgets.FloatProgress(min=0, max=1, layout={"width": "100%"})
        self.status = widgets.HTML("starting ...")
        self.widget = widgets.VBox()
        self._line, self._end, self._unsaved, self._failed = "", "", False, False
        self._redraw()
        try:
            self._start(reader=self.cell is not None)
        except BaseException:
            cells.close([self.widget, self.button, self.bar, self.status, view.pictures])
            raise
        self._display_id = f"training-{id(self)}"
        show_widget(self.widget, "<p>The training is shown here while the notebook runs.</p>", self._display_id)

    async def finished(self) -> None:
        """Wait until the training ends or is stopped, then show where it stands as plain pictures too. A training that was
        kept in its place is waited for instead."""
        while self._earlier and not self.kept:  # the reader has not chosen yet
            await asyncio.sleep(0.1)
            if not any(other.training for other in self._earlier):
                self._begin([])  # there is nothing left to choose
        for other in self.kept:
            await other.finished()
        run = None
        while run is not self.run:
            run = self.run
            if run is not None:
                await run.finished()  # it may be resumed in the meantime
        show_widget(self.widget, self.html(), self._display_id, update=True)

    def html(self) -> str:
        """What is shown, for readers without a kernel."""
        if self.kept:
            return "".join(other.html() for other in self.kept)
        return f"{self.view.html()}<p>{self.status.value}</p>"

    def stop(self) -> None:
        """Ask the thread to end after the update that it is at, and to save."""
        if self.run is not None and self.training:
            self._set_button("Stopping ...", disabled=True)
            self.run.stop.set()

    # -- beginning --------------------------------------------------------------------------------------------------------

    def _start(self, reader: bool) -> None:
        """Begin to train, if need be after asking the reader, if there is one."""
        earlier = self._in_the_way()
        theirs = [other for other in earlier if not set(other.trainers) <= set(self.trainers)]
        if theirs and reader:
            self._ask(earlier)
        else:
            self._begin(earlier)

    def _in_the_way(self) -> list["LiveTraining"]:
        """The trainings in this process that use a folder or a trainer of this one, or that this cell has started."""
        folders = {folder.resolve() for _, folder in self.keeper.folders}

        def meets(other: LiveTraining) -> bool:
            same_folder = not folders.isdisjoint(folder.resolve() for _, folder in other.keeper.folders)
            same_cell = self.cell is not None and other.cell == self.cell
            return same_folder or same_cell or not set(self.trainers).isdisjoint(other.trainers)

        with _changing:
            return [other for other in _training if other is not self and meets(other)]

    def _ask(self, earlier: list["LiveTraining"]) -> None:
        """Show the earlier trainings, as they go on, under a question with two buttons."""
        self._earlier = earlier
        lines = [f"A training is running{other.where} (since {other.since}, {_updates(other)})." for other in earlier]
        question = widgets.HTML(f"{'<br>'.join(lines)} The new one has not been started.{FOR_THE_KEYBOARD}")
        stop = widgets.Button(description="Stop it and start this one", layout={"width": "220px"})
        keep = widgets.Button(description="Keep it", layout={"width": "100px"})
        buttons = widgets.HBox([stop, keep])

        def stop_it(_button: widgets.Button) -> None:
            try:
                self._begin([other for other in earlier if other.training])
            except (RunInUse, OSError) as error:
                question.value = html.escape(str(error))

        def keep_it(_button: widgets.Button) -> None:
            self.kept = earlier
            question.value = "The training below was kept; the new one has not been started."
            buttons.children = (stop,)

        stop.on_click(stop_it)
        keep.on_click(keep_it)
        self.widget.children = (question, buttons, *(other.widget for other in earlier))

    def _begin(self, earlier: list["LiveTraining"]) -> None:
        """Start the thread. The earlier trainings are stopped first, and their widgets closed if this cell has shown them."""
        if not earlier:
            self.keeper.own()
        self._earlier, self.kept, self._end = [], [], ""
        question = self.widget.children
        gone = [other.widget for other in earlier if self.cell is not None and other.cell == self.cell]
        self.widget.children = (widgets.HBox([self.button, self.bar]), self.status, self.view.pictures)
        cells.close(question, kept=[self.widget, *(other.widget for other in earlier)])
        self._set_button("Waiting ..." if earlier else "Stop", disabled=bool(earlier))
        if earlier:
            self.status.value = f"Stopping the training that is running{earlier[0].where} ..."
        for other in earlier:
            other.stop()
        release_idle_threads()
        _release_after_cells()
        self.training, self.since = True, time.strftime("%H:%M")
        with _changing:
            _training.append(self)
        self.run = BackgroundRun(self._states(earlier, gone), self._on_state, self._at_end)

    @property
    def where(self) -> str:
        """The folders in words: " on runs/mine", or nothing if there are none."""
        folders = " and ".join(_code(folder) for _, folder in self.keeper.folders)
        return f" on {folders}" if folders else ""

    # -- the thread's side ------------------------------------------------------------------------------------------------

    def _states(self, earlier: list["LiveTraining"], gone: list[widgets.Widget]) -> Iterator[TrainState]:
        for other in earlier:
            if other.run is not None:
                other.run.thread.join()
        if earlier:
            cells.close(gone)
            self.keeper.own()
            self._set_button("Stop")
        if not self._unsaved:  # else all that is asked for is another save
            yield from round_robin(self.trainers, self.seconds, TURN_SECONDS)

    def _on_state(self, _state: TrainState) -> None:
        self._attempt("Drawing a snapshot", self.after_update)
        now = time.monotonic()
        if now - self._last_redraw > REDRAW_SECONDS:
            self._redraw()
            self._last_redraw = now
        if now - self._last_grid > self.grid_every:
            self._attempt("Drawing samples", self.view.draw_samples)
            self._last_grid = time.monotonic()
        self.keeper.save_if_due()

    def _at_end(self, error: BaseException | None) -> None:
        spent, owned, unsaved, saved = self._left() == 0, self.keeper.owns, None, ""
        self._set_button("Finishing ..." if spent else "Stopping ...", disabled=True)
        try:
            if owned and (paths := self.keeper.save()):
                saved = f"; saved to {' and '.join(map(_code, paths))}"
        except Exception as failure:
            unsaved = failure
        finally:
            self.keeper.release()
        self._attempt("Drawing samples", self.view.draw_samples)
        self._unsaved, self._failed = unsaved is not None, self._failed or (owned and error is not None)
        ended = "Done" if spent else "Stopped"
        what = "" if error is None else f" by an error, {html.escape(f'{type(error).__name__}: {error}')}"
        moved = "".join(f" The run that was in {_code(a)} is now in {_code(b)}." for a, b in self.keeper.kept_beside)
        self._end = f" {ended}{what}{saved}.{moved}"
        self._redraw()
        if self._failed and not self._unsaved:
            self.button.layout.display = "none"  # what has failed would fail again
        more = f"Train {MORE_SECONDS} s more" if spent else "Resume"
        self._set_button("Save again" if self._unsaved else more)
        with _changing:
            _training.remove(self)
        self.training = False
        if unsaved is not None:
            raise unsaved

    def _clicked(self) -> None:
        if self.training:
            self.stop()
            return
        if self._left() == 0 and not self._unsaved:
            self.seconds = max(trainer.seconds for trainer in self.trainers) + MORE_SECONDS
            self._attempt("Drawing the curves", lambda: self.view.rescale(self.seconds))
        try:
            self._start(reader=True)
        except (RunInUse, OSError) as error:
            self.status.value = f"{self._line} {html.escape(str(error))}"

    # -- what it shows ----------------------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Seconds of training to come, of all runs together."""
        return sum(max(self.seconds - trainer.seconds, 0) for trainer in self.trainers)

    def _redraw(self) -> None:
        left = self._left()

        def draw() -> None:
            self._line = self.view.redraw(left)

        self._attempt("Drawing the curves", draw)
        self.bar.value = 1 - left / (self.seconds * len(self.trainers))
        troubles = list(self._troubles.values())
        if self.keeper.trouble:
            again = "" if self._end else f" It is tried again every {self.keeper.every:g} s."
            troubles.append(f"{self.keeper.trouble}{again}")
        warning = "".join(f"<br><b>⚠</b> {html.escape(trouble)}" for trouble in troubles)
        self.status.value = f"{self._line}{self._end}{warning}"

    def _attempt(self, what: str, function: Callable[[], object]) -> None:
        """Call the function; what goes wrong is said in the line of text and does not end the training."""
        try:
            function()
            self._troubles.pop(what, None)
        except Exception as error:
            self._troubles[what] = f"{what} failed ({type(error).__name__}: {error})."

    def _set_button(self, words: str, disabled: bool = False) -> None:
        self.button.description, self.button.disabled = words, disabled


def _release_after_cells() -> None:
    """See to it that the threads are given back that a cell leaves waiting which runs beside a training."""
    shell = get_ipython()
    if shell is not None and shell not in _watched:
        shell.events.register("post_run_cell", lambda _result: release_idle_threads() if _training else None)
        _watched.append(shell)


def _updates(live: LiveTraining) -> str:
    numbers = [f"{trainer.update:,}" for trainer in live.trainers]
    return f"update{'s' * (len(numbers) > 1)} {' and '.join(numbers)}"


def _code(path: Path) -> str:
    return f"<code>{html.escape(str(path))}</code>"
