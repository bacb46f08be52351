"""What every training loop has in common, whatever it trains: a budget, a clock, interrupts, the order of the data, a record.

A run (training/trainer.py, training/adversarial.py) says what one update is; here stands how updates follow one another.
"""

import math
import threading
import time
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from diffnotes.process.arguments import integer, number
from diffnotes.training.config import TrainState
from diffnotes.training.interrupts import defer_interrupts
from diffnotes.training.objectives.base import Draw


class TrainingDiverged(FloatingPointError):
    """The loss or the gradient is no finite number any more. The trainer still holds the last good weights."""


@runtime_checkable
class Run(Protocol):
    """What the loop asks of a run."""

    config: Any
    update: int
    seconds: float
    interrupted: bool
    history: list[TrainState]
    loss_by_time: list[np.ndarray]
    _turn: threading.Lock
    _newest_loop: object

    def _update(self, progress: float) -> tuple[dict[str, float], float, float, np.ndarray]:
        """One update, at this part of the budget: the parts of the loss, the gradient's norm, the learning rate, and the mean
        loss in each tenth of the times."""

    def _agree(self, value: float, mean: bool = False) -> float:
        """One value for all processes that share the run."""


def steps(run: Run, updates: int | None, seconds: float | None) -> Iterator[TrainState]:
    """Update after update until the run has had `updates` of them or `seconds` of training, counted from its very beginning.
    An interrupt ends the loop after the update it met, and so does another loop over the same run that begins."""
    if (updates is None) == (seconds is None):
        raise ValueError(f"give a budget either in updates or in seconds, got updates={updates}, seconds={seconds}")
    if updates is not None:
        return _steps(run, integer("updates", updates, 1), None)
    return _steps(run, None, number("seconds", seconds, "be a positive number", lambda v: 0 < v < math.inf))


def _steps(run: Run, updates: int | None, seconds: float | None) -> Iterator[TrainState]:
    run.interrupted = False
    this_loop = run._newest_loop = object()
    while not run.interrupted:
        with run._turn, defer_interrupts() as interrupts:
            if run._newest_loop is not this_loop:
                return
            spent = run._agree(run.seconds)
            progress = run.update / updates if updates is not None else spent / (seconds or math.inf)
            if progress >= 1:
                return
            started = time.perf_counter()
            parts, norm, rate, by_time = run._update(progress)
            run.update += 1
            run.seconds += time.perf_counter() - started
            done = run.update / updates if updates is not None else run.seconds / (seconds or math.inf)
            images = run.update * run.config.batch_size
            loss = next(iter(parts.values()))
            state = TrainState(run.update, images, run.seconds, loss, norm, rate, min(done, 1.0), parts)
            run.history.append(state)
            run.loss_by_time.append(by_time)
        run.interrupted = run._agree(float(bool(interrupts)), mean=True) > 0  # one process met it: all end here
        yield state


class Batches:
    """Which items belong to update n: each epoch goes through the data in its own random order, and leaves out a last batch
    that would not be full."""

    def __init__(self, items: int, size: int, seed: int) -> None:
        self.items, self.size, self.seed = items, size, seed
        self._order: tuple[int, Tensor] = (-1, torch.empty(0))

    def __call__(self, n: int) -> Tensor:
        """The numbers of the items of update n, (size,)."""
        epoch, k = divmod(n, self.items // self.size)
        if self._order[0] != epoch:
            order = Draw(self.seed, epoch, self.size)("order")
            self._order = epoch, torch.randperm(self.items, generator=order)
        return self._order[1][k * self.size : (k + 1) * self.size]


def record(history: list[TrainState]) -> tuple[Tensor, list[str]]:
    """The states of a run as a table for its checkpoint, a row an update, and the names of the parts in its last columns."""
    parts = list(history[-1].parts) if history else []
    rows = [[*_numbers(state), *(state.parts.get(name, math.nan) for name in parts)] for state in history]
    return torch.tensor(rows, dtype=torch.float64), parts


def recorded(table: Tensor, parts: list[str]) -> list[TrainState]:
    """The states that `record` made a table of."""
    states = []
    for update, images, *rest in table.tolist():
        seconds, loss, norm, rate, progress, *means = rest
        named = dict(zip(parts, means, strict=True))
        states.append(TrainState(int(update), int(images), seconds, loss, norm, rate, progress, named))
    return states


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """The optimiser's state for a checkpoint."""
    states = optimizer.state_dict()["state"].items()
    return {f"{prefix}{i}.{name}": value for i, values in states for name, value in values.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor], prefix: str) -> None:
    """Give the optimiser the state that `optimizer_tensors` took from it."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith(prefix):
            i, name = key.removeprefix(prefix).split(".")
            state.setdefault(int(i), {})[name] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _numbers(s: TrainState) -> list[float | int]:
    return [s.update, s.images, s.seconds, s.loss, s.gradient_norm, s.learning_rate, s.progress]
