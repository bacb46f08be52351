"""Whose model a chapter samples from: the reader's own, if there is one, else the one that comes with the package."""

from pathlib import Path

from diffnotes.book.budget import runs_folder
from diffnotes.models.unet import UNet
from diffnotes.process.schedules import Schedule
from diffnotes.training.checkpoint import FILE_NAME
from diffnotes.training.pretrained import load_pretrained
from diffnotes.training.trainer import load_model


def reader_model(prefer: str = "mine") -> tuple[UNet, Schedule]:
    """The network to sample from and its schedule; says in a line which one it is.

    prefer="mine": the run that chapter 9 saved, if it did; prefer="ours": the one that comes with the package."""
    if prefer not in ("mine", "ours"):
        raise ValueError(f'prefer must be "mine" or "ours", got {prefer!r}')
    folder: Path = runs_folder() / "mine"
    if prefer == "mine" and (folder / FILE_NAME).is_file():
        print(f"Your own model, from {folder}.")
        return load_model(folder)
    print(
        "The model that comes with the package" + (" (you have not trained your own yet)." if prefer == "mine" else ".")
    )
    return load_pretrained("mnist")
