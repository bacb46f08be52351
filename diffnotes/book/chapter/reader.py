"""Whose model a chapter samples from: the reader's own, if there is one, or the one that comes with the package."""

import torch

from diffnotes.book.chapter.budget import runs_folder
from diffnotes.book.explorers.controls import dropdown
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.models.unet import UNet
from diffnotes.process.samplers import ddim_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.checkpoint import FILE_NAME
from diffnotes.training.grid import grid_image
from diffnotes.training.pretrained import load_pretrained
from diffnotes.training.trainer import load_model

PACKAGE = "the package's"
_set: dict[str, str] = {}  # what the switch was last set to, as long as the kernel lives


def reader_model(labels: bool = False) -> tuple[UNet, Schedule]:
    """The network to sample from, in eval mode, and its schedule; says which one it is.

    With a run of chapter 9 there are two, and a switch that shows both: the reader's own is taken until it is set
    otherwise. With `labels` a run counts only if its network knows labels."""
    folder = runs_folder() / "mine"
    package = load_pretrained("mnist")
    if not (folder / FILE_NAME).is_file():
        print("The model that comes with the package (you have not trained your own yet).")
        return package
    own = load_model(folder)
    if labels and own[0].num_classes is None:
        print(f"The model that comes with the package, for your own, in {folder}, knows no labels.")
        return package
    models = {f"your own, from {folder}": own, PACKAGE: package}
    build_switch(models).show()
    return models[_set["model"]]


def build_switch(models: dict[str, tuple[UNet, Schedule]]) -> Explorer:
    """The switch between models, each with its name, not yet shown: its picture has a row of digits from each."""
    rows = []
    for model, schedule in models.values():
        y = None if model.num_classes is None else torch.arange(10)
        *_, last = ddim_sample(model, schedule, initial_noise(0, 10), steps=20, eta=1.0, y=y, generator=0)
        rows.append(last.x_t)
    sheet = grid_image(torch.cat(rows), columns=10)
    live = LivePicture(sheet.width)
    live.current = sheet
    first, second = models
    if _set.get("model") not in models:
        _set["model"] = first
    chooser = dropdown("model", [first, second], value=_set["model"])

    def update(model: str) -> str:
        said = "" if model == _set["model"] else " Run this cell again, and those below it, for the change to count."
        _set["model"] = model
        return f"Upper row: {first}. Lower row: {second}. Chosen: {model}.{said}"

    alt = f"Two rows of ten digits. Upper row: {first}; lower row: {second}."
    return Explorer("Whose model?", {"model": chooser}, live, update, alt)
