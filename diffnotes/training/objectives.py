"""What training minimises: an objective says what a batch costs.

An objective is a frozen dataclass, called as objective(model, batch, draw). `batch` is what the data give for the items of
this update (of images: x and y), `draw` is the update's randomness, and the answer has a cost for each item. The trainer
minimises the mean of the costs, and refers to no model and to no loss by name.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffnotes.process.arguments import flag, number
from diffnotes.process.losses import min_snr_weight, simple_loss
from diffnotes.process.parameterize import TARGETS
from diffnotes.process.schedules import Schedule

TIME_BINS = 10  # the times are looked at in ten parts
PerItem = Float[Tensor, "batch"]
Batch = TypeVar("Batch", contravariant=True)


@dataclass(frozen=True)
class Draw:
    """The randomness of one update: draw("noise") is a generator that depends on seed, update and purpose alone.

    Where several processes share a batch, every one of them has the same generators: draw numbers for all `size` items, and
    take those of this process, [draw.share]. Then two processes do together what one would have done."""

    seed: int
    update: int
    size: int
    share: slice = field(default_factory=lambda: slice(None))

    def __call__(self, purpose: str) -> torch.Generator:
        """A generator for one purpose: the same numbers whenever it is asked for."""
        words = np.random.SeedSequence(
            [self.seed, int.from_bytes(purpose.encode(), "big"), self.update]
        ).generate_state(2)
        return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


@dataclass(frozen=True)
class Losses:
    """What each item of a batch costs.

    total     (B,) what is minimised, in the mean over the items
    parts     by name, (B,) each, unweighted: what to look at while it trains, the most telling first
    time_bin  (B,) which tenth of the time axis an item was at, 0..9; None for objectives without a time"""

    total: PerItem
    parts: dict[str, PerItem]
    time_bin: Int[Tensor, "batch"] | None = None

    def __post_init__(self) -> None:
        others = self.parts | ({} if self.time_bin is None else {"time_bin": self.time_bin})
        for name, value in {"total": self.total, **others}.items():
            if value.shape != self.total.shape or value.ndim != 1:
                raise ValueError(f"{name} must hold one number for each item, shape (B,), got {tuple(value.shape)}")
        bins = self.time_bin
        if bins is not None and len(bins) and not (0 <= int(bins.min()) and int(bins.max()) < TIME_BINS):
            raise ValueError(f"time_bin must lie in 0..{TIME_BINS - 1}, got {int(bins.min())}..{int(bins.max())}")


class Objective(Protocol[Batch]):
    """What the trainer asks of an objective."""

    def __call__(self, model: Callable[..., Any], batch: Batch, draw: Draw) -> Losses:
        """What the items of the batch cost under the model."""

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError, naming the argument, if this model cannot be trained on these data with this objective."""


@dataclass(frozen=True)
class Denoising:
    """The training loss of a diffusion model: the weighted squared error of its prediction at random times
    (book, eq. 4.11, 6.1 and 6.4; Ho et al. 2020, algorithm 1).

    min_snr        the squared error at time t gets the weight min(SNR, min_snr), counted about x0 (losses.min_snr_weight;
                   Hang et al. 2023); None: no weights, the simple loss
    even_times     the times of a batch lie evenly over 1..T from a random start, so each of them is uniform and their mean
                   loss jumps less (the low-discrepancy sampler of Kingma et al. 2021); False: each is drawn by itself
    label_dropout  share of labels replaced by "no label" (only for a model with classes; classifier-free guidance needs it:
                   Ho and Salimans 2022, algorithm 1)"""

    schedule: Schedule
    min_snr: float | None = 5.0
    even_times: bool = True
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        if self.min_snr is not None:
            expected = "be a positive number, or None for no weights"
            object.__setattr__(self, "min_snr", number("min_snr", self.min_snr, expected, lambda v: 0 < v < math.inf))
        object.__setattr__(self, "even_times", flag("even_times", self.even_times))
        share = number("label_dropout", self.label_dropout, "lie in [0, 1]", lambda v: 0 <= v <= 1)
        object.__setattr__(self, "label_dropout", share)

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """The weighted squared errors of a batch of images (batch.x, batch.y), a mean over the pixels of each."""
        x0, y, t, eps = self.inputs(model, batch, draw)
        squared_error = simple_loss(model, self.schedule, x0, t, eps, y)
        total = self.weight(model.target, t).to(squared_error) * squared_error
        return Losses(total, {"mean squared error": squared_error}, (t - 1) * TIME_BINS // self.schedule.T)

    def inputs(self, model: Any, batch: Any, draw: Draw) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """What the network is shown: images x0, labels y (None without classes), times t and noise eps."""
        x0, g = batch.x, draw("noise")
        lot = torch.rand(1 if self.even_times else draw.size, generator=g, dtype=torch.float64)
        if self.even_times:  # each is uniform on [0, 1) still
            lot = (lot + torch.arange(draw.size, dtype=torch.float64) / draw.size) % 1
        t = 1 + (lot * self.schedule.T).long()
        eps = torch.randn(draw.size, *x0.shape[1:], generator=g)
        dropped = torch.rand(draw.size, generator=g) < self.label_dropout
        y = None
        if (K := num_classes_of(model)) is not None:
            y = torch.where(dropped[draw.share].to(x0.device), K, batch.y)
        return x0, y, t[draw.share], eps[draw.share].to(x0.device)

    def weight(self, target: str, t: Int[Tensor, "batch"]) -> PerItem:
        """What the squared error at each of these times counts in the loss, for a network with this prediction target."""
        if self.min_snr is None:
            return torch.ones(len(t))
        return min_snr_weight(self.schedule, t, self.min_snr, target)

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model has no known target, if the images are not in [-1, 1], if the labels do not fit the
        model's classes, if an eps-prediction meets zero terminal SNR, or if the answer has not the images' shape."""
        target = getattr(model, "target", None)
        if target not in TARGETS:
            raise ValueError(f'model must name what it predicts, model.target = "eps", "x0" or "v", got {target!r}')
        if not hasattr(data, "x") or not hasattr(data, "y"):
            raise ValueError(f"data must be Images, with .x and .y, got {type(data).__name__}")
        data.check_range()
        if target == "eps" and float(self.schedule.alpha_bar[-1]) == 0:
            raise ValueError(
                'model.target must not be "eps" where alpha_bar_T = 0 (zero terminal SNR): x_T is all noise, and no image can be '
                'had from it by eps; train with target "v" or "x0", or with another schedule'
            )
        K = num_classes_of(model)
        if K is not None and not (0 <= int(data.y.min()) and int(data.y.max()) < K):
            raise ValueError(
                f'data.y must hold labels 0..{K - 1} for a model with num_classes = {K} (the label {K} means "no label"), '
                f"got {int(data.y.min())}..{int(data.y.max())}"
            )
        few = data[:2]
        check_answer(model, few.x, torch.ones(len(few.x), dtype=torch.long), None if K is None else few.y)


def check_answer(model: nn.Module, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
    """ValueError if model(x_t, t, y) cannot be called, or does not answer with a tensor of x_t's shape."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            answer = model(x_t.to(device), t.to(device), None if y is None else y.to(device))
    except (RuntimeError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"model must answer model(x_t, t, y) for images of shape {tuple(x_t.shape)}, got {type(error).__name__}: {error}"
        ) from error
    finally:
        for module in training:
            module.training = True
    if not isinstance(answer, Tensor) or answer.shape != x_t.shape:
        got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise ValueError(
            f"model must answer with a tensor of x_t's shape {tuple(x_t.shape)}, got {got}"
            + ("" if isinstance(answer, Tensor) else "; for a network of diffusers see process/adapters.py")
        )


def num_classes_of(model: Any) -> int | None:
    """The number of labels that a model was made for; None if it takes none."""
    return getattr(model, "num_classes", None)


# -- an objective in a checkpoint -------------------------------------------------------------------------------------------


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
    return {"class": f"{kind.__module__}.{kind.__qualname__}", "settings": settings}, tensors


def from_checkpoint(metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Any:
    """The objective that to_checkpoint described; ValueError if this module has no such class."""
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
