"""Networks from elsewhere as denoisers of this package. A UNet2DModel of diffusers, with its scheduler, in three lines:

    schedule = schedule_from_diffusers(pipeline.scheduler)
    model = DiffusersDenoiser(pipeline.unet, scheduler=pipeline.scheduler)
    frames = ddim_sample(model, schedule, x_T, steps=50)

diffusers counts times from 0: its timestep is t - 1, so its list of timesteps is times = [timestep + 1, ...] here. Nothing of
diffusers is imported.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from diffnotes.process.arguments import (
    IntLike,
    Labels,
    as_labels,
    check_callable,
    check_images,
    choice,
    integer,
    one_each,
)
from diffnotes.process.forward import Images, Times
from diffnotes.process.parameterize import TARGETS
from diffnotes.process.schedules import Schedule

PREDICTION_TYPES = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}


class DiffusersDenoiser(nn.Module):
    """model(x_t, t, y) by a UNet2DModel of diffusers, or a network that is called like one; it can be trained and saved.

    network      called as network(x_t, t - 1), or network(x_t, t - 1, class_labels=y) if it has a class embedding
    target       what it predicts, "eps" (unless given), "x0", "v" or "u"; read from the scheduler's prediction_type, if given
    num_classes  number of labels, all rows of the class embedding unless given. With one row fewer the last one is the null
                 label: what y = None means, and what label dropout trains for guidance"""

    def __init__(
        self,
        network: nn.Module,
        target: str | None = None,
        num_classes: IntLike | None = None,
        *,
        scheduler: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(network, nn.Module):
            raise ValueError(f"network must be a torch.nn.Module, got {type(network).__name__}")
        target = None if target is None else choice("target", target, TARGETS)
        said = None if scheduler is None else _target_of(scheduler)
        if target and said and target != said:
            raise ValueError(f"target must be {said!r}, as scheduler says, got {target!r}")
        self.rows: int | None = getattr(getattr(network, "class_embedding", None), "num_embeddings", None)
        if num_classes is not None and self.rows is None:
            raise ValueError("num_classes was given, but this network has no class embedding")
        if num_classes is not None:
            num_classes = integer("num_classes", num_classes, 1, self.rows, "the rows of its class embedding, ")
        self.network = network
        self.target = target or said or "eps"
        self.num_classes = self.rows if num_classes is None else num_classes
        size, channels = (
            getattr(getattr(network, "config", None), name, None) for name in ("sample_size", "in_channels")
        )
        self.item_shape = (channels, size, size) if isinstance(size, int) and isinstance(channels, int) else None
        self.classes: tuple[str, ...] = ()
        self.label_dropout: float | None = None

    def forward(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """The prediction, of x_t's shape, at the times t in 1..T. y: labels 0..num_classes - 1, or the null label."""
        check_images(x_t=x_t)
        times, labels = one_each("t", t, x_t), as_labels(y, x_t)
        if self.rows is None:
            if labels is not None:
                raise ValueError("y was given, but this network has no class embedding")
            return _tensor(self.network(x_t, times - 1))
        if labels is None:
            labels = torch.full_like(times, self.num_classes or 0)
        if labels.numel() and not (0 <= int(labels.min()) and int(labels.max()) < self.rows):
            raise ValueError(
                f"y must hold labels 0..{self.rows - 1}, the rows of the class embedding; a null label (y = None, or label "
                "dropout) needs one row more than num_classes"
            )
        return _tensor(self.network(x_t, times - 1, class_labels=labels))


class FunctionDenoiser(nn.Module):
    """model(x_t, t, y) by function(x_t, t), or with num_classes by function(x_t, t, y). A function that is an nn.Module is
    trained and saved with it; one that is called as (x_t, t, y=None) already needs only an attribute `target`."""

    def __init__(
        self, function: Callable[..., Tensor], target: str = "eps", num_classes: IntLike | None = None
    ) -> None:
        super().__init__()
        check_callable("function", function, "function(x_t, t)")
        self.function = function
        self.target = choice("target", target, TARGETS)
        self.num_classes = None if num_classes is None else integer("num_classes", num_classes, 1)

    def forward(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """The function's prediction for x_t at the times t."""
        check_images(x_t=x_t)
        times, labels = one_each("t", t, x_t), as_labels(y, x_t)
        if self.num_classes is not None:
            return self.function(x_t, times, labels)
        if labels is not None:
            raise ValueError("y was given, but this function was wrapped without num_classes")
        return self.function(x_t, times)


@dataclass(frozen=True, eq=False)
class Pair:
    """model(x_t, t, y) by one function for calls without y, and by another for calls with it: the two predictions of guidance
    (book, section 9.1), each called as function(x_t, t). target: what both predict, "x0" unless given."""

    without_label: Callable[[Tensor, Tensor], Tensor]
    with_label: Callable[[Tensor, Tensor], Tensor]
    target: str = "x0"

    def __post_init__(self) -> None:
        for name in ("without_label", "with_label"):
            check_callable(name, getattr(self, name), f"{name}(x_t, t)")
        choice("target", self.target, TARGETS)

    def __call__(self, x_t: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The prediction of the one without a label, or of the other if there is one."""
        return (self.without_label if y is None else self.with_label)(x_t, t)


def schedule_from_diffusers(scheduler: Any) -> Schedule:
    """The Schedule of one of diffusers' schedulers, from its alphas_cumprod."""
    table = getattr(scheduler, "alphas_cumprod", None)
    if not isinstance(table, Tensor):
        raise ValueError(
            f"scheduler must have a table alphas_cumprod, as DDPMScheduler and DDIMScheduler have, got {type(scheduler).__name__}"
        )
    return Schedule.from_alpha_bar(table, name=type(scheduler).__name__)


def _target_of(scheduler: Any) -> str:
    kind = getattr(getattr(scheduler, "config", None), "prediction_type", None)
    if kind not in PREDICTION_TYPES:
        raise ValueError(f"scheduler must have a prediction_type out of {', '.join(PREDICTION_TYPES)}, got {kind!r}")
    return PREDICTION_TYPES[kind]


def _tensor(output: Any) -> Tensor:
    """The tensor in what a network of diffusers gives: an output with .sample, a tuple, or the tensor itself."""
    return output[0] if isinstance(output, tuple) else getattr(output, "sample", output)
