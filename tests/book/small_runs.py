"""Runs whose updates take milliseconds, and what one needs to look at them while they train on another thread."""

import io
import time
from collections.abc import Callable

import ipywidgets
import numpy as np
import torch
from PIL import Image

from diffnotes import Images, Schedule, TrainConfig, Trainer, UNet
from diffnotes.training.config import TrainState
from diffnotes.training.objectives import TIME_BINS

IMAGES = Images(
    torch.rand(64, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1,
    torch.arange(64) % 10,
    "noise",
    "64 squares of noise",
)


def small_trainer(target: str = "v", schedule: Schedule | None = None, **settings) -> Trainer:
    """A trainer of a small network on 64 images, with T = 20; other words go to TrainConfig."""
    torch.manual_seed(0)
    model = UNet(channels=8, multipliers=(1,), blocks=1, attention=0, patch=4, num_classes=10, target=target)
    return Trainer(model, schedule or Schedule.cosine(20), IMAGES, TrainConfig(**{"batch_size": 8, **settings}))


def with_history(trainer: Trainer, updates: int) -> Trainer:
    """The trainer, as if it had made these updates: every number of its history is another one."""
    g = np.random.default_rng(0)
    for n in range(1, updates + 1):
        state = TrainState(n, 8 * n, 0.1 * n + 0.05 * g.random(), *np.exp(g.normal(size=2)), 1e-3, 0.5)
        trainer.history.append(state)
        row = np.exp(g.normal(size=TIME_BINS))
        trainer.loss_by_time.append(np.where(g.random(TIME_BINS) < 0.3, np.nan, row).astype(np.float32))
    return trainer


def sent(image: ipywidgets.Image) -> np.ndarray:
    """The pixels that an image widget shows."""
    return np.asarray(Image.open(io.BytesIO(image.value)).convert("L"))


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)
