"""What training minimises: an objective says what a batch costs.

An objective is a frozen dataclass, called as objective(model, batch, draw). `batch` is what the data give for the items of
this update (of images: x and y), `draw` is the update's randomness, and the answer has a cost for each item. The trainer
minimises the mean of the costs, and refers to no model and to no loss by name.

Each has a file of its own; base.py has what they share. A new one is added to the imports here: by them a checkpoint finds it.
"""

import dataclasses
from typing import Any

from torch import Tensor

from diffnotes.process.schedules import Schedule
from diffnotes.training.objectives.autoencoding import Autoencoding
from diffnotes.training.objectives.base import (
    TIME_BINS,
    Draw,
    Losses,
    Objective,
    check_answer,
    evaluated,
    noise_and_labels,
    num_classes_of,
)
from diffnotes.training.objectives.captions import DenoisingCaptions
from diffnotes.training.objectives.conditioned import DenoisingCodes, DenoisingEmbedded, DenoisingUpscaled
from diffnotes.training.objectives.consistency import Consistency
from diffnotes.training.objectives.contrastive import Contrastive
from diffnotes.training.objectives.denoising import Denoising
from diffnotes.training.objectives.elbo import Elbo
from diffnotes.training.objectives.likelihood import Likelihood
from diffnotes.training.objectives.masked_patches import MaskedPatches
from diffnotes.training.objectives.masked_series import MaskedSeries
from diffnotes.training.objectives.masked_tokens import MaskedTokens
from diffnotes.training.objectives.next_token import NextToken
from diffnotes.training.objectives.vector_quantised import VectorQuantised

__all__ = [
    "TIME_BINS",
    "Autoencoding",
    "Consistency",
    "Contrastive",
    "Denoising",
    "DenoisingCaptions",
    "DenoisingCodes",
    "DenoisingEmbedded",
    "DenoisingUpscaled",
    "Draw",
    "Elbo",
    "Likelihood",
    "Losses",
    "MaskedPatches",
    "MaskedSeries",
    "MaskedTokens",
    "NextToken",
    "Objective",
    "VectorQuantised",
    "check_answer",
    "evaluated",
    "from_checkpoint",
    "noise_and_labels",
    "num_classes_of",
    "to_checkpoint",
]


def to_checkpoint(objective: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What a checkpoint keeps of an objective: its class and settings, and the tables of its schedule, if it has one."""
    if not dataclasses.is_dataclass(objective) or isinstance(objective, type):
        raise ValueError(f"objective must be a dataclass, such as Denoising(schedule), got {type(objective).__name__}")
    settings: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
    for item in dataclasses.fields(objective):
        value = getattr(objective, item.name)
        if isinstance(value, Schedule):
            tensors |= {f"{item.name}.beta": value.beta, f"{item.name}.alpha_bar": value.alpha_bar}
            value = {"schedule": value.name}
        settings[item.name] = value
    kind = type(objective)
    module = (
        __name__ if kind.__module__.startswith(f"{__name__}.") else kind.__module__
    )  # not which file of this package
    return {"class": f"{module}.{kind.__qualname__}", "settings": settings}, tensors


def from_checkpoint(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The objective that to_checkpoint described; ValueError if this package has no such class."""
    module, _, name = metadata["class"].rpartition(".")
    kind = globals().get(name) if module == __name__ else None
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and hasattr(kind, "check")):
        raise ValueError(
            f"the run was trained with an objective {metadata['class']!r}, which diffnotes does not have: hand it over, "
            "Trainer.load(folder, objective=...)"
        )
    settings = {}
    for name, value in metadata["settings"].items():
        if isinstance(value, dict) and value.keys() == {"schedule"}:
            value = Schedule(value["schedule"], tensors[f"{name}.beta"], tensors[f"{name}.alpha_bar"])
        settings[name] = value
    return kind(**settings)
