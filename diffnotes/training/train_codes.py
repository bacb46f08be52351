"""Train the VQ-VAE of chapter 17 and the GPT over its codes for longer than the chapter does, and store their averaged weights
in the package.

python -m diffnotes.training.train_codes          (a part of make weights; half an hour on one core)
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from torch import nn

from diffnotes.models.codes import VQVAE
from diffnotes.models.transformer import TokenTransformer
from diffnotes.training.config import TrainConfig
from diffnotes.training.data import Images, load_images
from diffnotes.training.objectives import NextToken, VectorQuantised
from diffnotes.training.pretrained import CODES, export
from diffnotes.training.tokens import Tokens
from diffnotes.training.trainer import Trainer

UPDATES = {"vqvae": 1500, "gpt": 1300}
CODEBOOK, SIDE = 64, 7


def tokens_of(vqvae: VQVAE, images: Images) -> Tokens:
    """The codes of the images, a row of 49 for each, with their labels."""
    with torch.no_grad():
        codes = torch.cat([vqvae.encode(part) for part in images.x.split(1000)]).flatten(1)
    return Tokens(codes, CODEBOOK, "codes", f"of {images.name}, by the VQ-VAE", y=images.y, classes=images.classes)


def trained(model: nn.Module, objective: Any, data: Any, updates: int, run: Path, **other: Any) -> Any:
    """Train, save the run every 100 updates, and give the averaged network."""
    settings: dict[str, Any] = {"precision": "float32", "ema_decay": 0.995}
    config = TrainConfig(**(settings | other))
    trainer = Trainer(model, objective, data, config)
    for state in trainer.steps(updates=updates):
        if state.update % 100 == 0 or state.progress == 1:
            last = trainer.history[-100:]
            mean = sum(s.loss for s in last) / len(last)
            print(f"{run.name} {state.update:5d}  {state.seconds:6.0f} s  {mean:.4f}", flush=True)
            trainer.save(run)
    return trainer.ema.model.eval()


def main() -> None:
    """Train the two of them on MNIST's training images, and store them in half precision."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, help="of each of them")
    parser.add_argument("--run", type=Path, default=Path("runs/codes"), help="the folder of the runs")
    parser.add_argument("--out", type=Path, default=CODES)
    options = parser.parse_args()
    images = load_images("mnist", "train")
    updates = {name: options.updates or number for name, number in UPDATES.items()}

    torch.manual_seed(0)
    vqvae = VQVAE(codes=CODEBOOK, dim=16, width=48)
    run = options.run / "vqvae"
    vqvae = trained(vqvae, VectorQuantised(commitment=0.25), images, updates["vqvae"], run, batch_size=64)
    data = tokens_of(vqvae, images)
    gpt = TokenTransformer(CODEBOOK, (SIDE, SIDE), width=96, depth=4, heads=4, num_classes=10, near=9)
    trained(gpt, NextToken(), data, updates["gpt"], options.run / "gpt")
    for name in UPDATES:
        path = export([options.run / name], options.out / f"{name}.safetensors")
        print(f"{path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
