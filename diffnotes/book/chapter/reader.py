"""Whose model a chapter samples from: the reader's own, if there is one, or the one that comes with the package."""

import os
from pathlib import Path

import torch

from diffnotes.book.chapter.budget import runs_folder
from diffnotes.book.explorers.controls import dropdown
from diffnotes.book.live.drawing import draw
from diffnotes.book.live.widgets import Explorer, LivePicture
from diffnotes.models.unet import UNet
from diffnotes.process.parameterize import TARGETS
from diffnotes.process.samplers import initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.training.checkpoint import FILE_NAME
from diffnotes.training.grid import grid_image
from diffnotes.training.pretrained import load_pretrained
from diffnotes.training.restore import item_shape_of, load_model

PACKAGE = "the package's"
RUN = "mine"  # the run of the chapter on training
SHAPE, TIMES, DIGITS = (1, 28, 28), 1000, 10  # what the chapters ask of a model: digits, at times up to 1000
CALLS = 8  # of a network for each picture of the switch
_set: dict[str, str] = {}  # what the switch was last set to, as long as the kernel lives


def reader_model(labels: bool = False, quick: bool = False, package: str = "mnist") -> tuple[UNet, Schedule]:
    """The network to sample from, in eval mode, and its schedule; says which one it is.

    With a run from the chapter on training there are two, and a switch that shows both: the reader's own is taken until it
    is set otherwise. A run that cannot be used here, with `labels` also one whose network takes no labels of the digits,
    is named with the reason.

    package: which of the package's networks it is, where it is one of them.

    quick: for pictures that are drawn again whenever a slider moves, the small network that comes with the package in the place
    of the large one. It says nothing and shows no switch: that of the cell without `quick` counts."""
    folder = runs_folder() / RUN
    of_package = load_pretrained("mnist-small" if quick else package)
    own, reason = _own_model(folder, labels)
    if own is None:
        if not quick:
            print(f"The model that comes with the package{reason}.")
        return of_package
    models = {f"your own, from {folder}": own, PACKAGE: of_package}
    if quick:
        return models.get(_set.get("model", ""), own)
    build_switch(models).show()
    return models[_set["model"]]


def _own_model(folder: Path, labels: bool) -> tuple[tuple[UNet, Schedule] | None, str]:
    """The reader's own model; or None, and why it is not there or cannot be used."""
    if not (folder / FILE_NAME).is_file():
        return None, f" (there is no run of your own in {where(folder)})"
    try:
        own = load_model(folder)
        reason = why_not(*own, labels)
    except Exception as error:  # damaged, of another version, of a class that is not here: whatever it is, it is said
        reason = (str(error) or type(error).__name__).splitlines()[0]
    if reason:
        return None, f": your own, in {where(folder)}, cannot be used here, since {reason}"
    return own, ""


def where(folder: Path) -> str:
    """The folder in words that say where it was looked for: as DIFFNOTES_RUNS gives it, or where the notebook runs."""
    given = os.environ.get("DIFFNOTES_RUNS")
    if given:
        return str(Path(given) / folder.name)
    if any(Path.cwd().glob("*.ipynb")):
        return f"{folder} beside this notebook"
    here, home = Path.cwd(), Path.home()
    place = Path("~") / here.relative_to(home) if here.is_relative_to(home) else here
    return f"{place / folder}, for the notebook runs in {place}"


def why_not(model: UNet, schedule: Schedule | None, labels: bool) -> str:
    """Why the chapters cannot sample from this model; "" if they can."""
    shape, target, K = item_shape_of(model), getattr(model, "target", None), getattr(model, "num_classes", None)
    if shape != SHAPE:
        return f"it draws images of shape {shape}, not {SHAPE}"
    if schedule is None:
        return "it was trained without a noise schedule"
    if schedule.T < TIMES:
        return f"it has T = {schedule.T} steps, and the chapters look at times up to {TIMES}"
    if target not in TARGETS:
        return f'its prediction target is {target!r}, not "eps", "x0", "v" or "u"'
    if target == "eps" and schedule.alpha_bar[-1] == 0:
        return "it predicts eps, and with alpha_bar_T = 0 (zero terminal SNR) no image can be had from eps at t = T"
    if labels and K is None:
        return "it takes no labels"
    if labels and K != DIGITS:
        return f"it takes {K} labels, not the {DIGITS} digits"
    if K is not None and getattr(model, "label_dropout", None) == 0:
        return "it was trained with label_dropout = 0 and cannot draw without a label"
    if not all(value.isfinite().all() for value in model.state_dict().values()):
        return "its weights are not finite"
    with torch.no_grad():
        answer = model(initial_noise(0, 2), torch.tensor([1, schedule.T]))
    if answer.shape != (2, *SHAPE) or not answer.isfinite().all():
        return f"it does not answer with finite images of shape {SHAPE}"
    return ""


def build_switch(models: dict[str, tuple[UNet, Schedule]]) -> Explorer:
    """The switch between models, each with its name, not yet shown: its picture has a row of digits from each."""
    rows = []
    for model, schedule in models.values():
        y = None if model.num_classes is None else torch.arange(10) % model.num_classes
        rows.append(draw(model, schedule, initial_noise(0, 10), CALLS, y))
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
