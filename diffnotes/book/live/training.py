"""Training on a thread beside the notebook, one run or several in turn, under a button that stops it and lets it go on.

What is drawn meanwhile is the business of a Board: book/live/dashboard.py for one run, book/live/comparison.py for several.
"""

import asyncio
import ctypes
import html
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import ipywidgets as widgets
import threadpoolctl

from diffnotes.book.live.widgets import show_widget
from diffnotes.training.trainer import Trainer, TrainState

REDRAW_SECONDS = 1.0
GRID_SECONDS = 15.0
MORE_SECONDS = 60
TURN_SECONDS = 1.0


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


def round_robin(trainers: Sequence[Trainer], seconds: float, turn: float) -> Iterator[TrainState]:
    """Train every run until it has had `seconds` of training in all, in turns of `turn` seconds, so that a slow minute of
    the machine is slow for all of them. A run that is behind the others catches up first."""
    loops = {trainer: trainer.steps(seconds=seconds) for trainer in trainers}
    while loops:
        goal = min(trainer.seconds for trainer in loops) + turn
        for trainer, loop in list(loops.items()):
            while trainer.seconds < goal:
                state = next(loop, None)
                if state is None:
                    del loops[trainer]
                    break
                yield state


class Board(Protocol):
    """What draws the runs that LiveTraining trains."""

    pictures: widgets.Widget

    def rescale(self, seconds: float) -> None:
        """Make room on the axes for `seconds` of training."""

    def redraw(self, left: float) -> str:
        """Draw the curves, and return a line that says how it stands, `left` seconds of training before the end."""

    def draw_digits(self) -> None:
        """Draw digits with the weights as they are."""

    def html(self) -> str:
        """The pictures for readers without a kernel."""


def check_seconds(seconds: float) -> None:
    """ValueError unless the budget is positive."""
    if not seconds > 0:
        raise ValueError(f"seconds must be positive, got {seconds}")


class LiveTraining:
    """Trains beside the notebook, each of the trainers for `seconds` in turn, under a button, a bar and a line of text;
    `board` draws how it goes, the curves once a second and the digits every `grid_every` seconds.

    It starts by itself. Stop keeps everything; Resume goes on; when the budget is spent, the button offers a minute more.
    At every end each run is saved to its folder, if it has one."""

    def __init__(
        self,
        board: Board,
        trainers: Sequence[Trainer],
        seconds: float,
        folders: Sequence[str | Path | None],
        grid_every: float = GRID_SECONDS,
    ) -> None:
        self.board, self.trainers, self.seconds, self.grid_every = board, trainers, seconds, grid_every
        self.folders = folders
        self._last_redraw, self._last_grid = -1e9, time.monotonic() - grid_every / 2  # the first digits come early

        self.button = widgets.Button(description="Stop", layout={"width": "150px"})
        self.button.on_click(lambda _button: self._clicked())
        self.bar = widgets.FloatProgress(min=0, max=1, layout={"width": "100%"})
        self.status = widgets.HTML("starting ...")
        self.widget = widgets.VBox([widgets.HBox([self.button, self.bar]), self.status, board.pictures])
        self._redraw()
        self._display_id = f"training-{id(self)}"
        show_widget(self.widget, "<p>The training is shown here while the notebook runs.</p>", self._display_id)
        self.run = self._start()

    async def finished(self) -> None:
        """Wait until the training ends or is stopped, then show where it stands as plain pictures too."""
        run = self.run
        while True:
            await run.finished()
            if run is self.run:
                break
            run = self.run  # resumed in the meantime
        pictures = f"{self.board.html()}<p>{self.status.value}</p>"
        show_widget(self.widget, pictures, self._display_id, update=True)

    # -- the thread's side ------------------------------------------------------------------------------------------------

    def _start(self) -> BackgroundRun:
        self.button.description, self.training = "Stop", True
        release_idle_threads()
        return BackgroundRun(round_robin(self.trainers, self.seconds, TURN_SECONDS), self._on_state, self._at_end)

    def _on_state(self, _state: TrainState) -> None:
        now = time.monotonic()
        if now - self._last_redraw > REDRAW_SECONDS:
            self._redraw()
            self._last_redraw = now
        if now - self._last_grid > self.grid_every:
            self.board.draw_digits()
            self._last_grid = time.monotonic()

    def _at_end(self) -> None:
        runs = zip(self.trainers, self.folders, strict=True)
        paths = [trainer.save(folder) for trainer, folder in runs if folder is not None]
        self._redraw()
        self.board.draw_digits()
        self.training = False
        spent = self._left() == 0
        self.button.description = f"Train {MORE_SECONDS} s more" if spent else "Resume"
        saved = " and ".join(f"<code>{html.escape(str(path))}</code>" for path in paths)
        self.status.value += f" {'Done' if spent else 'Stopped'}{'; saved to ' if paths else ''}{saved}."

    def _clicked(self) -> None:
        if self.training:
            self.button.description = "Stopping ..."
            self.run.stop.set()
            return
        if self._left() == 0:
            self.seconds = max(trainer.seconds for trainer in self.trainers) + MORE_SECONDS
            self.board.rescale(self.seconds)
        self.run = self._start()

    # -- what it shows ----------------------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Seconds of training to come, of all runs together."""
        return sum(max(self.seconds - trainer.seconds, 0) for trainer in self.trainers)

    def _redraw(self) -> None:
        left = self._left()
        self.status.value = self.board.redraw(left)
        self.bar.value = 1 - left / (self.seconds * len(self.trainers))
