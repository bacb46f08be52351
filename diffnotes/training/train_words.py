"""Train the masked diffusion models of chapter 20 and store their weights in the package.

python -m diffnotes.training.train_words sums      (a part of make weights; a quarter of an hour on one core)
python -m diffnotes.training.train_words prose
"""

import argparse
from pathlib import Path

import torch

from diffnotes.models.transformer import TokenTransformer
from diffnotes.training import text
from diffnotes.training.config import TrainConfig
from diffnotes.training.objectives import MaskedTokens
from diffnotes.training.pretrained import WORDS, export
from diffnotes.training.trainer import Trainer

SIZES = {"sums": dict(width=64, depth=3), "prose": dict(width=96, depth=4)}
BATCH = {"sums": 128, "prose": 16}
UPDATES = {"sums": 3379, "prose": 834}


def new_trainer(name: str, seed: int = 0) -> Trainer:
    """A masked model of the sums or of the prose with its trainer, before the first update."""
    data = text.load_sums() if name == "sums" else text.load_prose()
    torch.manual_seed(seed)
    model = TokenTransformer(data.vocab, data.item_shape[0], heads=4, causal=False, near=5, **SIZES[name])
    config = TrainConfig(seed=seed, batch_size=BATCH[name], ema_decay=0.995, precision="float32")
    return Trainer(model, MaskedTokens(), data, config)


def main() -> None:
    """Train, save the run every 250 updates, and store the averaged weights in half precision."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("name", choices=sorted(SIZES))
    parser.add_argument("--updates", type=int, help="the budget in updates")
    parser.add_argument("--seconds", type=float, help="or the budget in seconds")
    parser.add_argument("--run", type=Path, help="folder of the run (runs/words-NAME)")
    options = parser.parse_args()
    run = options.run or Path("runs") / f"words-{options.name}"
    trainer = new_trainer(options.name)
    updates = None if options.seconds else options.updates or UPDATES[options.name]
    recent: list[float] = []
    for state in trainer.steps(updates=updates, seconds=options.seconds):
        recent.append(state.loss)
        if state.update % 250 == 0 or state.progress == 1:
            print(
                f"{state.update:6d}  {state.seconds:6.0f} s  {sum(recent) / len(recent):.4f} nats per token", flush=True
            )
            recent.clear()
            trainer.save(run)
    path = export([run], WORDS / f"{options.name}-masked.safetensors")
    print(f"{path}, {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
