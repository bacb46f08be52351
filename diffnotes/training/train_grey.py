"""Train the head that names grey values, on the frozen small U-Net, and store its weights in the package.

python -m diffnotes.training.train_grey          (a part of make weights; ten minutes on one core)
"""

import argparse
import hashlib
import time
from pathlib import Path
from typing import Any

import torch

from diffnotes.models.grey import GreyDenoiser, GreyHead
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import Images, load_images
from diffnotes.training.objectives import Elbo
from diffnotes.training.pretrained import GREY, WEIGHTS, load_pretrained
from diffnotes.training.trainer import Trainer

STEPS = 25


def new_denoiser() -> tuple[GreyDenoiser, Schedule]:
    """The frozen small U-Net with an untrained head on it, and the schedule."""
    unet, schedule = load_pretrained("mnist-small")
    return GreyDenoiser(unet, GreyHead(features=unet.norm.num_channels, patch=unet.patch), schedule.alpha_bar), schedule


def unet_digest() -> str:
    """SHA-256 of the network's file: the head goes with these weights and no others."""
    return hashlib.sha256((WEIGHTS / "mnist-small.safetensors").read_bytes()).hexdigest()


def train(images: Images, updates: int, batch: int = 32, seed: int = 0, report: int = 100) -> Trainer:
    """A trainer that has minimised the bound of a chain of 25 steps: half of each batch at the decoder, half at the steps."""
    torch.manual_seed(seed)
    denoiser, schedule = new_denoiser()
    config = TrainConfig(seed=seed, batch_size=batch, learning_rate=3e-3, ema_decay=0.99, precision="float32")
    trainer = Trainer(denoiser, Elbo(schedule, steps=STEPS), images, config)
    sums: dict[str, list[float]] = {}
    for state in trainer.steps(updates=updates):
        for name, value in state.parts.items():
            sums.setdefault(name, []).append(value)
        if state.update % report == 0:
            means = ", ".join(f"{name} {sum(v[-report:]) / len(v[-report:]):.4f}" for name, v in sums.items())
            print(f"{state.update:5d}  {state.seconds:6.0f} s  {means}", flush=True)
    return trainer


def main() -> None:
    """Train on MNIST's 60,000 training images and store what came out."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, default=6000)
    parser.add_argument("--out", type=Path, default=GREY)
    options = parser.parse_args()
    started = time.perf_counter()
    trainer = train(load_images("mnist", "train"), options.updates)
    head: Any = trainer.ema.model.head
    card = {
        "settings": head.settings,
        "updates": options.updates,
        "seconds": round(time.perf_counter() - started),
        "unet": unet_digest(),
    }
    path = checkpoint.write(options.out, {name: weight.half() for name, weight in head.state_dict().items()}, card)
    print(f"{path}, {path.stat().st_size / 1e6:.2f} MB, {card['seconds']} s")


if __name__ == "__main__":
    main()
