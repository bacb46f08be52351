"""What training minimises: an objective says what a batch costs.

An objective is a frozen dataclass, called as objective(model, batch, draw). `batch` is what the data give for the items of
this update (of images: x and y), `draw` is the update's randomness, and the answer has a cost for each item. The trainer
minimises the mean of the costs, and refers to no model and to no loss by name.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from diffnotes.process.arguments import flag, integer, number
from diffnotes.process.forward import q_sample
from diffnotes.process.losses import min_snr_weight, simple_loss
from diffnotes.process.parameterize import TARGETS
from diffnotes.process.schedules import Schedule, per_image
from diffnotes.process.solvers import karras_times

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
    logit_normal   (m, s): times are T sigmoid(m + s z), z standard normal, so that the middle of the way, where the prediction
                   still improves, comes up more often (Esser et al. 2024, section 3.1); None: uniform times
    label_dropout  share of labels replaced by "no label" (only for a model with classes; classifier-free guidance needs it:
                   Ho and Salimans 2022, algorithm 1)"""

    schedule: Schedule
    min_snr: float | None = 5.0
    even_times: bool = True
    label_dropout: float = 0.1
    logit_normal: Sequence[float | int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        if self.min_snr is not None:
            expected = "be a positive number, or None for no weights"
            object.__setattr__(self, "min_snr", number("min_snr", self.min_snr, expected, lambda v: 0 < v < math.inf))
        object.__setattr__(self, "even_times", flag("even_times", self.even_times))
        if self.logit_normal is not None:
            object.__setattr__(self, "logit_normal", _mean_and_deviation(self.logit_normal))
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
        if self.logit_normal is not None:
            m, s = self.logit_normal
            lot = torch.sigmoid(m + s * torch.special.ndtri(lot)).clamp(max=1 - 1e-12)
        t = 1 + (lot * self.schedule.T).long()
        eps, y = noise_and_labels(model, batch, draw, g, self.label_dropout)
        return x0, y, t[draw.share], eps

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


@dataclass(frozen=True)
class Consistency:
    """Consistency training: one network for the end of every curve, held to predict the same end from two neighbouring noise
    levels of one image and one noise (book, eq. 14.14 and 14.15; Song et al. 2023, algorithm 3; Song and Dhariwal 2024):

        f(x_t, t) = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) F(x_t, t),    delta = f(x_t, t) - f(x_s, s)
        loss      = sqrt(||delta||^2 + softness^2) - softness                   (pseudo-Huber, the norm over the whole image)

    t > s are neighbours on Karras' grid with `levels` times and 0 after them (karras_times), x_t and x_s have the same noise, and
    f(x_s, s), which is x_0 at s = 0, is the network itself in eval mode, without gradient. F is a v-prediction, so f(x, 0) = x
    whatever F is: without such a boundary a constant would have loss 0. Where the trainer computes in bfloat16 only the F that is
    trained does: the target, whose rounding would be carried up from level to level, a x - b F and the difference are in float32.
    Sample with process/consistency.py, from the average of the weights.

    levels         the end is carried up from level to level: many levels follow the curve closely, and take many updates
    at_top         share of a batch at the highest level, from which one call samples; the rest lies evenly over the others
    softness       below it the loss is quadratic, above it linear, so that images that differ much do not outweigh the others
    label_dropout  share of labels replaced by "no label", so that the network still draws without them"""

    schedule: Schedule
    levels: int = 12
    at_top: float = 0.25
    softness: float = 0.3
    label_dropout: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.schedule, Schedule):
            raise ValueError(f"schedule must be a Schedule, got {type(self.schedule).__name__}")
        checked = {
            "levels": integer("levels", self.levels, 2, self.schedule.T, "T = "),
            "at_top": number("at_top", self.at_top, "lie between 0 and 1", lambda v: 0 < v < 1),
            "softness": number("softness", self.softness, "be a positive number", lambda v: 0 < v < math.inf),
            "label_dropout": number("label_dropout", self.label_dropout, "lie in [0, 1]", lambda v: 0 <= v <= 1),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        _ = self.times  # ValueError now if the schedule has no room for so many levels

    @functools.cached_property
    def times(self) -> Int[Tensor, "levels_plus_1"]:
        """The times from the highest level down to the lowest, and 0."""
        try:
            return karras_times(self.schedule, self.levels)
        except ValueError as error:
            raise ValueError(f"levels must fit into the schedule, got {self.levels}: {error}") from error

    def __call__(self, model: Any, batch: Any, draw: Draw) -> Losses:
        """How far apart the ends of two neighbouring times are, for a batch of images (batch.x, batch.y)."""
        x0, y, level, eps = self.inputs(model, batch, draw)
        t, s = self.times[level], self.times[level + 1]
        with evaluated(model), torch.autocast(x0.device.type, enabled=False):
            target = self.end(model, q_sample(self.schedule, x0, s, eps), s, y)
        delta = self.end(model, q_sample(self.schedule, x0, t, eps), t, y) - target
        square = delta.square().flatten(1).sum(1)
        total = (square + self.softness**2).sqrt() - self.softness
        distance = (square.detach() / delta[0].numel()).sqrt()
        return Losses(total, {"distance to the level below": distance}, (t - 1) * TIME_BINS // self.schedule.T)

    def end(self, model: Any, x_t: Tensor, t: Int[Tensor, "batch"], y: Tensor | None) -> Tensor:
        """f(x_t, t), t in 0..T: where the network takes the curve through x_t to end."""
        a, b = self.schedule.alpha_bar[t].sqrt(), (1 - self.schedule.alpha_bar[t]).sqrt()
        F = model(x_t, t.clamp(min=1).to(x_t.device), y).to(x_t.dtype)  # b = 0 at t = 0, which no network is shown
        return per_image(a, x_t) * x_t - per_image(b, x_t) * F

    def inputs(self, model: Any, batch: Any, draw: Draw) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Images x0, labels y (None without classes), numbers of levels (0 is the highest) and noise eps."""
        g = draw("noise")
        lot = torch.rand(1, generator=g, dtype=torch.float64) + torch.arange(draw.size, dtype=torch.float64) / draw.size
        ends = torch.linspace(self.at_top, 1, self.levels, dtype=torch.float64)  # of the levels' shares of [0, 1)
        level = torch.bucketize(lot % 1, ends[:-1], right=True)
        eps, y = noise_and_labels(model, batch, draw, g, self.label_dropout)
        return batch.x, y, level[draw.share], eps

    def check(self, model: nn.Module, data: Any) -> None:
        """ValueError if the model does not predict v, and for all that Denoising refuses."""
        if getattr(model, "target", None) != "v":
            raise ValueError(
                'model.target must be "v" for consistency training: then f = a x - b F is x at t = 0 whatever the network '
                f"predicts, and no number in it is large; got {getattr(model, 'target', None)!r}"
            )
        Denoising(self.schedule).check(model, data)


def noise_and_labels(
    model: Any, batch: Any, draw: Draw, g: torch.Generator, label_dropout: float
) -> tuple[Tensor, Tensor | None]:
    """Noise for the images of this process, and their labels (None if the model takes none), some replaced by "no label"."""
    eps = torch.randn(draw.size, *batch.x.shape[1:], generator=g)
    dropped = torch.rand(draw.size, generator=g) < label_dropout
    y = None
    if (K := num_classes_of(model)) is not None:
        y = torch.where(dropped[draw.share].to(batch.x.device), K, batch.y)
    return eps[draw.share].to(batch.x.device), y


@contextlib.contextmanager
def evaluated(model: Any) -> Iterator[None]:
    """The model in eval mode and without gradients, and afterwards in the modes in which it was."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module in training:
            module.training = True


def _mean_and_deviation(given: Any) -> tuple[float, float]:
    """Two numbers, the second of them positive."""
    values = list(given) if isinstance(given, tuple | list) else []
    if len(values) != 2:
        raise ValueError(
            f"logit_normal must be two numbers, mean and standard deviation, or None for uniform times, got {given!r:.80}"
        )
    m = number("logit_normal's mean", values[0], "be a finite number", math.isfinite)
    return m, number("logit_normal's standard deviation", values[1], "be a positive number", lambda v: 0 < v < math.inf)


def check_answer(model: nn.Module, x_t: Tensor, t: Tensor, y: Tensor | None) -> None:
    """ValueError if model(x_t, t, y) cannot be called, or does not answer with a tensor of x_t's shape."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    try:
        with evaluated(model):
            answer = model(x_t.to(device), t.to(device), None if y is None else y.to(device))
    except (RuntimeError, TypeError, IndexError, AssertionError) as error:
        raise ValueError(
            f"model must answer model(x_t, t, y) for images of shape {tuple(x_t.shape)}, got {type(error).__name__}: {error}"
        ) from error
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
