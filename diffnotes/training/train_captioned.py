"""Train the small U-Net to draw what a caption says, starting from the package's weights, and store the result in the package.

python -m diffnotes.training.train_captioned          (a part of make weights; half an hour on one core)
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from diffnotes.models.captioned import CaptionedUNet
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.captions import DIGITS, START, VOCABULARY, captioned, token_table
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import Images, load_images
from diffnotes.training.objectives import DenoisingCaptions
from diffnotes.training.pretrained import CAPTIONED, load_pretrained
from diffnotes.training.trainer import Trainer


def new_network() -> tuple[CaptionedUNet, Schedule]:
    """The small U-Net with a bag of words in place of its label embedding: it answers as before, and the new words do nothing."""
    unet, schedule = load_pretrained("mnist-small", trainable=True)
    settings = {name: value for name, value in unet.settings.items() if name != "num_classes"}
    network = CaptionedUNet(token_table(), len(VOCABULARY), settings)
    network.start_from(unet, [VOCABULARY.index(word) for word in DIGITS], VOCABULARY.index(START))
    return network, schedule


def new_trainer(images: Images, batch: int = 32, seed: int = 0, rate: float = 1.5e-3) -> Trainer:
    """A trainer of the new network on pictures with captions."""
    torch.manual_seed(seed)
    network, schedule = new_network()
    config = TrainConfig(
        seed=seed, batch_size=batch, learning_rate=rate, warmup=50, ema_decay=0.995, precision="float32"
    )
    return Trainer(network, DenoisingCaptions(schedule), captioned(images), config)


def train(images: Images, out: Path | None = None, **budget: Any) -> Trainer:
    """The trainer after this budget, updates=... or seconds=...; what it has so far is stored in `out` every 200 updates."""
    trainer, started = new_trainer(images), time.process_time()
    for state in trainer.steps(**budget):
        if out is not None and (state.update % 200 == 0 or state.progress >= 1):
            store(trainer, out)
            recent = [before.loss for before in trainer.history[-200:]]
            spent, mean = time.process_time() - started, sum(recent) / len(recent)
            print(
                f"{state.update:5d} updates, {spent:.0f} s of processor time, mean squared error {mean:.5f}", flush=True
            )
    return trainer


def store(trainer: Trainer, path: Path) -> Path:
    """The averaged weights in half precision, with what it takes to make the network again."""
    network: Any = trainer.ema.model
    objective: Any = trainer.objective
    card = {
        "settings": {name: value for name, value in network.settings.items() if name != "tokens"},
        "all_out": objective.all_out,
        "updates": trainer.update,
        "seconds": round(trainer.seconds),
    }
    return checkpoint.write(path, {name: weight.half() for name, weight in network.state_dict().items()}, card)


def main() -> None:
    """Train on MNIST's 60,000 training images and store what came out, every 200 updates and at the end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, default=2400)
    parser.add_argument("--seconds", type=float, default=None, help="a budget in seconds in place of updates")
    parser.add_argument("--out", type=Path, default=CAPTIONED)
    options = parser.parse_args()
    budget = {"seconds": options.seconds} if options.seconds else {"updates": options.updates}
    trainer = train(load_images("mnist", "train"), out=options.out, **budget)
    print(f"{options.out}, {options.out.stat().st_size / 1e6:.2f} MB, {trainer.update} updates")


if __name__ == "__main__":
    main()
