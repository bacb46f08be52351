"""A thread that trains beside the notebook, one run or several in turn."""

import asyncio
import ctypes
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

import threadpoolctl

from diffnotes.training.adversarial import GanTrainer
from diffnotes.training.config import TrainState
from diffnotes.training.trainer import Trainer

AnyTrainer = Trainer | GanTrainer


class BackgroundRun:
    """Goes through `states` on a thread, calling on_state for each, until they end, `stop` is set, or something fails; then
    calls at_end with what failed, or None."""

    def __init__(
        self,
        states: Iterable[TrainState],
        on_state: Callable[[TrainState], None],
        at_end: Callable[[BaseException | None], None] = lambda _error: None,
    ) -> None:
        self.stop = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, args=(states, on_state, at_end), daemon=True)
        self.thread.start()

    def _run(
        self,
        states: Iterable[TrainState],
        on_state: Callable[[TrainState], None],
        at_end: Callable[[BaseException | None], None],
    ) -> None:
        try:
            for state in states:
                on_state(state)
                if self.stop.is_set():
                    break
        except BaseException as error:  # kept for the cell that waits: a thread's exception reaches no cell by itself
            self.error = error
        try:
            at_end(self.error)
        except BaseException as error:
            self.error = self.error or error

    async def finished(self) -> None:
        """Wait for the end; raise what went wrong. While it waits, buttons and sliders work."""
        while self.thread.is_alive():
            await asyncio.sleep(0.02)  # not a thread that waits: an interrupted cell would leave it waiting
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


def round_robin(trainers: Sequence[AnyTrainer], seconds: float, turn: float) -> Iterator[TrainState]:
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
