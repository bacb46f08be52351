"""Train the transformer that completes a series of one of two periods, and store its weights in the package.

python -m diffnotes.training.train_series          (a part of make weights; ten minutes on one core)
"""

import argparse
import time
from pathlib import Path

import torch

from diffnotes.models.series import SeriesTransformer
from diffnotes.process.gp import MixtureOfGPs, periodic_kernel
from diffnotes.process.schedules import Schedule
from diffnotes.training.config import TrainConfig
from diffnotes.training.objectives import MaskedSeries
from diffnotes.training.pretrained import SERIES, export
from diffnotes.training.series import Series
from diffnotes.training.trainer import Trainer

PERIODS, LENGTH = (12.0, 20.0), 48


def two_periods() -> MixtureOfGPs:
    """Locally periodic series of 48 positions: with probability 1/2 each the period is 12 or 20. Three hundredths of the variance
    are independent noise."""
    kernels = torch.stack([periodic_kernel(LENGTH, period, noise=0.03) for period in PERIODS])
    return MixtureOfGPs(kernels, torch.tensor([0.5, 0.5]))


def windows(number: int = 200_000, seed: int = 0) -> Series:
    """So many windows of `two_periods`, to train on."""
    x = two_periods().draw(number, torch.Generator().manual_seed(seed))
    return Series(x, "two periods", f"drawn from a mixture of two Gaussian processes, seed {seed}")


def new_trainer(data: Series, batch: int = 32, seed: int = 0) -> Trainer:
    """A trainer for a network that has not learned anything yet."""
    torch.manual_seed(seed)
    config = TrainConfig(seed=seed, batch_size=batch, ema_decay=0.998, precision="float32")
    return Trainer(SeriesTransformer(LENGTH), MaskedSeries(Schedule.cosine()), data, config)


def main() -> None:
    """Train on windows drawn from the process and store what came out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, default=5000)
    parser.add_argument("--run", type=Path, default=Path("runs/weights-series"))
    parser.add_argument("--out", type=Path, default=SERIES)
    options = parser.parse_args()
    trainer, started = new_trainer(windows()), time.process_time()
    for state in trainer.steps(updates=options.updates):
        if state.update % 200 == 0:
            loss = sum(s.loss for s in trainer.history[-200:]) / 200
            print(f"{state.update:5d}  {time.process_time() - started:6.0f} s  loss {loss:.4f}", flush=True)
            trainer.save(options.run)
    trainer.save(options.run)
    path = export([options.run], options.out)
    print(f"{path}, {path.stat().st_size / 1e6:.2f} MB, {time.process_time() - started:.0f} s")


if __name__ == "__main__":
    main()
