"""Trained networks that come with the package, so that every chapter has one from the first minute."""

import sys
from pathlib import Path

import torch

from diffnotes.models.unet import UNet
from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint
from diffnotes.training.restore import load_model

WEIGHTS = Path(__file__).parent / "weights"


def load_pretrained(name: str = "mnist", trainable: bool = False) -> tuple[UNet, Schedule]:
    """A trained network in eval mode, and its schedule: a class-conditional U-Net, target v, cosine schedule. Without y it
    draws any digit, with y (B,) the digits asked for.

    "mnist"        48 channels, trained for long: what the chapters draw with
    "mnist-small"  24 channels, half the time for a call: where speed counts more
    How each was trained, and how good it is: NAME.md in diffnotes/training/weights/.

    trainable: in training mode, with gradients, to be trained further (fine-tuning): Trainer(model, schedule, images)."""
    names = sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))
    if name not in names:
        raise ValueError(
            f"name must be one of {', '.join(map(repr, names))}, got {name!r}; for a run of your own use load_model"
        )
    model, schedule = load_model(WEIGHTS / f"{name}.safetensors")
    if trainable:  # in memory as a trainer that is loaded has it, so that a run goes on to the last bit
        model = model.to(memory_format=torch.contiguous_format)
    return model.train(trainable).requires_grad_(trainable), schedule


def export(run: str | Path, path: str | Path) -> Path:
    """Write to `path` what sampling needs of the run saved in folder `run`: averaged weights in half precision, schedule,
    settings, and how long it was trained."""
    tensors, metadata = checkpoint.read(run)
    kept = {
        n: t.half() if n.startswith("ema.") else t for n, t in tensors.items() if n.startswith(("ema.", "schedule."))
    }
    return checkpoint.write(path, kept, metadata)


if __name__ == "__main__":  # make weights: python -m diffnotes.training.pretrained RUN NAME
    print(export(sys.argv[1], WEIGHTS / f"{sys.argv[2]}.safetensors"))
