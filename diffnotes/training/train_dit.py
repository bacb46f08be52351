"""Train the diffusion transformer that comes with the package, and store its averaged weights.

python -m diffnotes.training.train_dit          (a part of make weights; twenty minutes on one core)
"""

import argparse
from pathlib import Path

import torch

from diffnotes.models.dit import DiT
from diffnotes.process.schedules import Schedule
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import Images, load_images
from diffnotes.training.objectives import Denoising
from diffnotes.training.pretrained import WEIGHTS, export
from diffnotes.training.trainer import Trainer


def new_trainer(images: Images, label_dropout: float = 0.2, batch: int = 64, seed: int = 0) -> Trainer:
    """A DiT of 6 blocks of width 96 before its first update, by the recipe of chapter 6 with larger batches."""
    torch.manual_seed(seed)
    schedule = Schedule.cosine(T=1000)
    model = DiT(width=96, depth=6, heads=3, num_classes=10, input_mean=schedule.alpha_bar.sqrt() * images.x.mean())
    loss = Denoising(schedule, min_snr=None, logit_normal=(0.3, 1.0), label_dropout=label_dropout)
    return Trainer(model, loss, images, TrainConfig(seed=seed, batch_size=batch, learning_rate=4e-3, warmup=50))


def main() -> None:
    """Train on MNIST's 60,000 training images, save the run often, and store what came out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--seconds", type=float, help="a budget in seconds, in place of updates")
    parser.add_argument("--run", type=Path, default=Path("runs/dit"), help="the folder of the run")
    parser.add_argument("--out", type=Path, default=WEIGHTS / "dit.safetensors")
    options = parser.parse_args()
    trainer = new_trainer(load_images("mnist", "train"))
    budget = {"seconds": options.seconds} if options.seconds else {"updates": options.updates}
    for state in trainer.steps(**budget):
        if state.update % 50 == 0:
            last = trainer.history[-50:]
            print(f"{state.update:5d}  {state.seconds:6.0f} s  {sum(s.loss for s in last) / 50:.4f}", flush=True)
            trainer.save(options.run)
    trainer.save(options.run)
    path = export([options.run], options.out)
    print(f"{path}, {path.stat().st_size / 1e6:.2f} MB, {trainer.update} updates, {trainer.seconds:.0f} s")


if __name__ == "__main__":
    main()
