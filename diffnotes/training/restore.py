"""What a checkpoint's header says, made into networks, objectives and data again; and what a network carries of its images."""

import contextlib
import importlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.schedules import Schedule
from diffnotes.training import checkpoint, objectives
from diffnotes.training.data import DataUnavailable, load_images
from diffnotes.training.objectives import Denoising, num_classes_of

# what a run was trained with whose checkpoint does not say, for it is older than these settings
OLDER_CONFIG = {"optimizer": "adamw"}
OLDER_OBJECTIVE = {"min_snr": None, "even_times": False, "label_dropout": 0.1}
MODELS = "diffnotes.models"


def load_model(folder: str | Path, model: nn.Module | None = None) -> tuple[Any, Any]:
    """The averaged network of the run saved in `folder`, in eval mode on the CPU, and its schedule (None if it was trained
    with an objective that has none): enough to sample. `model`: a network made like the one that was trained, where its class
    is not one of diffnotes.models."""
    tensors, metadata = checkpoint.read(folder)
    network = network_from(tensors, metadata, "ema.", model)
    # a pixel's channels side by side in memory: a small U-Net's forward pass on the CPU is then quicker
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.eval().requires_grad_(False), _schedule(tensors, metadata)


def network_from(
    tensors: dict[str, Tensor], metadata: dict[str, Any], prefix: str, model: nn.Module | None
) -> nn.Module:
    """The network that a checkpoint holds, made anew, or `model` with its weights ("model." or "ema.")."""
    name = metadata.get("model_class", f"{MODELS}.unet.UNet")
    if model is None:
        model = _made(name, metadata["model"])
    try:
        model.load_state_dict(with_prefix(tensors, prefix))
    except RuntimeError as error:
        raise ValueError(f"model must be made like the network of the run, a {name}: {error}") from error
    target = metadata.get("target", getattr(model, "target", None))
    if getattr(model, "target", None) != target:
        raise ValueError(f"model must predict {target!r}, as the network of the run does, got target {model.target!r}")
    mark(model, metadata["images"], _objective_settings(metadata).get("label_dropout"))
    return model


def objective_from(tensors: dict[str, Tensor], metadata: dict[str, Any], objective: Any = None) -> Any:
    """The objective that a checkpoint names, or `objective`, which must be the same; ValueError if it is neither of
    training/objectives/ nor given."""
    if objective is not None and "objective" in metadata:
        described, tables = objectives.to_checkpoint(objective)
        same = json.loads(json.dumps(described)) == metadata["objective"]
        if not same or not all(torch.equal(table, tensors[name]) for name, table in tables.items() if name in tensors):
            raise ValueError(f"objective must be that of the run, {metadata['objective']}, got {objective}")
        return objective
    if "objective" in metadata:
        return objectives.from_checkpoint(metadata["objective"], tensors)
    schedule = Schedule(metadata["schedule"], tensors["schedule.beta"], tensors["schedule.alpha_bar"])
    return Denoising(schedule, **_objective_settings(metadata))


def data_from(folder: str | Path, images: dict[str, Any]) -> Any:
    """The images that a checkpoint names, loaded again; ValueError, saying what to do, if they cannot be."""
    try:
        return load_images(images["name"], "train", **(images.get("load") or {}))
    except (ValueError, DataUnavailable) as error:
        raise ValueError(
            f"{folder} was trained on {images['number']:,} images of {images['name']!r}, which cannot be loaded here ({error}): "
            "hand them over, Trainer.load(folder, data=...), or on the command line --images"
        ) from error


def with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin so, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _made(name: str, settings: dict[str, Any] | None) -> nn.Module:
    module, _, kind = name.rpartition(".")
    if module.startswith(f"{MODELS}.") and settings is not None:
        made = None
        with contextlib.suppress(ImportError, AttributeError):
            made = getattr(importlib.import_module(module), kind)
        if isinstance(made, type) and issubclass(made, nn.Module) and made.__module__ == module:
            try:
                return made(**settings)
            except TypeError as error:
                raise ValueError(f"the run's {kind} has settings that this version does not know: {error}") from error
    raise ValueError(
        f"the run's network is a {name}, which diffnotes cannot make by itself: hand one over that is made like it, "
        "load_model(folder, model=...) or Trainer.load(folder, model=...)"
    )


def _objective_settings(metadata: dict[str, Any]) -> dict[str, Any]:
    if "objective" in metadata:
        return metadata["objective"]["settings"]
    return OLDER_OBJECTIVE | {k: v for k, v in metadata["config"].items() if k in OLDER_OBJECTIVE}


def _schedule(tensors: dict[str, Tensor], metadata: dict[str, Any]) -> Schedule | None:
    if "schedule.beta" not in tensors:
        return None
    name = (
        metadata["objective"]["settings"]["schedule"]["schedule"] if "objective" in metadata else metadata["schedule"]
    )
    return Schedule(name, tensors["schedule.beta"], tensors["schedule.alpha_bar"])


# -- what is written on a network of its images ------------------------------------------------------------------------------


def mark(model: Any, images: dict[str, Any], label_dropout: float | None) -> None:
    """Write on the network what its samplers need: what images it was trained on, their shape, the names of
    their labels, and how often a label was hidden from it."""
    older = images["name"] in ("mnist", "digits")  # a checkpoint that does not say is of these
    shape = images.get("item_shape") or ((1, 28, 28) if older else None)
    classes = images.get("classes") or (tuple("0123456789") if older else ())
    try:
        model.trained_on = images["name"]
        model.item_shape = None if shape is None else tuple(shape)
        model.classes = tuple(classes)
        model.label_dropout = None if num_classes_of(model) is None else label_dropout
    except (TypeError, AttributeError) as error:
        raise ValueError(
            f"model must leave the names trained_on, item_shape, classes and label_dropout free: {error}"
        ) from error


def item_shape_of(model: Any) -> tuple[int, ...]:
    """The shape (C, H, W) of the images that a network was trained on; MNIST's where it does not say."""
    return getattr(model, "item_shape", None) or (1, 28, 28)


def class_names_of(model: Any) -> tuple[str, ...]:
    """The names of a network's labels: "0", "1" ... where it does not say; () where it takes no labels."""
    number_of_them = num_classes_of(model)
    if number_of_them is None:
        return ()
    names = tuple(getattr(model, "classes", ()))
    return names if len(names) == number_of_them else tuple(map(str, range(number_of_them)))
