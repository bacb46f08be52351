"""What training minimises: the squared error of the prediction, weighted by time or not.

The network is called as model(x_t, t, y) and predicts what model.target names ("eps", "x0", "v" or "u").
Losses are means over the coordinates of an image. The derivation's squared norms are sums: d times as large.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    Labels,
    as_labels,
    check_callable,
    check_images,
    choice,
    flatten_images,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times, q_sample
from diffnotes.process.parameterize import TARGETS, target_of
from diffnotes.process.schedules import Schedule, check_t, check_times


@runtime_checkable
class Denoiser(Protocol):
    """Anything that can be called as model(x_t, t, y): a network, or a closed form of process/exact.py."""

    @property
    def target(self) -> str:
        """What the model predicts: "eps", "x0", "v" or "u"."""

    def __call__(self, x_t: Images, t: Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None) -> Images:
        """The prediction for x_t at the times t, of x_t's shape."""


def check_denoiser(model: object) -> None:
    """ValueError unless the model can be called and says what it predicts."""
    target = getattr(model, "target", None)
    if not callable(model) or isinstance(model, type) or not isinstance(target, str) or target not in TARGETS:
        came = f"{type(model).__name__} " + ("without target" if target is None else f"with target {target!r}")
        raise ValueError(
            'model must be called as model(x_t, t, y) and say what it predicts: model.target is "eps", "x0", "v" or "u"; '
            f"got {came}. A network of diffusers or a function of one's own: see process/adapters.py"
        )


def check_prediction(output: object, x_t: Tensor) -> Tensor:
    """The model's output, if it is a tensor of x_t's shape."""
    if not isinstance(output, Tensor) or output.shape != x_t.shape:
        came = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"model must give a tensor of x_t's shape {tuple(x_t.shape)}, got {came}. A network of diffusers (which gives "
            "its output in a dataclass) or a function of one's own: see process/adapters.py"
        )
    return output


def simple_loss(
    model: Denoiser, schedule: Schedule, x0: Images, t: Times, eps: Images, y: Labels | None = None
) -> Float[Tensor, "batch"]:
    """Mean squared error of the prediction for each image, with no weight in t (book, eq. 4.11 and 6.1; Ho et al. 2020, eq. 14):
    || target - model(sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t) ||^2 / d.   Shape (B,)."""
    check_denoiser(model)
    check_images(x0=x0, eps=eps)
    times = check_times(schedule, t, x0)
    x_t = q_sample(schedule, x0, times, eps)
    prediction = check_prediction(model(x_t, times.to(x_t.device), as_labels(y, x_t)), x_t)
    error = target_of(schedule, model.target, x0, eps, times) - prediction.to(x_t.dtype)
    return flatten_images(error.square()).mean(1)


def weighted_loss(
    weight: Callable[[Schedule, Int[Tensor, "batch"]], Float[Tensor, "batch"]],
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    t: Times,
    eps: Images,
    y: Labels | None = None,
) -> Float[Tensor, "batch"]:
    """simple_loss times weight(schedule, t), for each image. Shape (B,)."""
    check_callable("weight", weight, "weight(schedule, t)")
    loss = simple_loss(model, schedule, x0, t, eps, y)
    weights = weight(schedule, check_times(schedule, t, x0))
    if not isinstance(weights, Tensor) or weights.shape != loss.shape:
        raise ValueError(f"weight must give a tensor with one number for each image, got {shown(weights)}")
    return weights.to(x0) * loss


def bound_weight(schedule: Schedule, t: Times) -> Float[Tensor, "batch"]:
    """The weight of ||eps - eps_hat||^2 in the variational bound when sigma_t^2 = beta_t
    (book, eq. 4.12; Ho et al. 2020, eq. 12):
    beta_t / (2 alpha_t (1 - alpha_bar_t)), float64. For a network with target "eps"."""
    t = check_t(schedule, t)
    return schedule.beta[t] / (2 * schedule.alpha[t] * (1 - schedule.alpha_bar[t]))


def min_snr_weight(schedule: Schedule, t: Times, gamma: FloatLike = 5.0, target: str = "eps") -> Float[Tensor, "batch"]:
    """Min-SNR weights: min(SNR(t), gamma) on the squared error of x0, converted to a network with this target, float64:

    min(SNR, gamma) / SNR for "eps", min(SNR, gamma) for "x0", min(SNR, gamma) / (SNR + 1) for "v", since the squared error of
    the same prediction is SNR times as large in eps as in x0, and SNR + 1 times as large in v (book, eq. 6.4; Hang et al. 2023,
    section 3.4). In u it is (sqrt(SNR) + 1)^2 times as large, 1 over the square of the flow time (book, eq. 15.8)."""
    choice("target", target, TARGETS)
    gamma = number("gamma", gamma, "be positive", lambda gamma: gamma > 0)
    t = check_t(schedule, t)
    snr = schedule.snr[t]
    if target == "eps":
        return torch.clamp(gamma / snr, max=1)  # the same, and 1 where SNR = 0
    larger = {"x0": torch.ones_like(snr), "v": snr + 1, "u": (snr.sqrt() + 1) ** 2}[target]
    return snr.clamp(max=gamma) / larger
