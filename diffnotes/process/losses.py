"""What training minimises: the squared error of the prediction, weighted by time or not.

The network is called as model(x_t, t, y) and answers in the language that model.target names ("eps", "x0" or "v").
Losses are means over the coordinates of an image. The derivation's squared norms are sums: d times as large.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.forward import Images, q_sample
from diffnotes.process.parameterize import target_of
from diffnotes.process.schedules import Schedule, check_t


@runtime_checkable
class Denoiser(Protocol):
    """Anything that answers model(x_t, t, y): a network, or a closed form of process/exact.py."""

    @property
    def target(self) -> str:
        """What the answer is: "eps", "x0" or "v"."""

    def __call__(self, x_t: Images, t: Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None) -> Images:
        """The prediction for x_t at the times t, of x_t's shape."""


def simple_loss(
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    t: Int[Tensor, "batch"],
    eps: Images,
    y: Int[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch"]:
    """Mean squared error of the prediction for each image, with no weight in t (book, eq. 7.11 and 9.1; Ho et al. 2020, eq. 14):
    || target - model(sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps, t) ||^2 / d.   Shape (B,)."""
    x_t = q_sample(schedule, x0, t, eps)
    prediction = model(x_t, t.to(x_t.device), y)
    return (target_of(schedule, model.target, x0, eps, t) - prediction.to(x_t.dtype)).square().flatten(1).mean(1)


def weighted_loss(
    weight: Callable[[Schedule, Int[Tensor, "batch"]], Float[Tensor, "batch"]],
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    t: Int[Tensor, "batch"],
    eps: Images,
    y: Int[Tensor, "batch"] | None = None,
) -> Float[Tensor, "batch"]:
    """simple_loss times weight(schedule, t), for each image. Shape (B,)."""
    return weight(schedule, t).to(x0) * simple_loss(model, schedule, x0, t, eps, y)


def bound_weight(schedule: Schedule, t: Int[Tensor, "batch"]) -> Float[Tensor, "batch"]:
    """What the variational bound puts before ||eps - eps_hat||^2 when sigma_t^2 = beta_t
    (book, eq. 7.12; Ho et al. 2020, eq. 12):
    beta_t / (2 alpha_t (1 - alpha_bar_t)), float64. For a network with target "eps"."""
    t = check_t(schedule, t)
    return schedule.beta[t] / (2 * schedule.alpha[t] * (1 - schedule.alpha_bar[t]))


def min_snr_weight(
    schedule: Schedule, t: Int[Tensor, "batch"], gamma: float = 5.0, target: str = "eps"
) -> Float[Tensor, "batch"]:
    """min(SNR(t), gamma) before the squared error about x0, said for a network with this target, float64:

    min(SNR, gamma) / SNR for "eps", min(SNR, gamma) for "x0", min(SNR, gamma) / (SNR + 1) for "v", since the same answer
    errs by SNR times as much (squared) about eps as about x0, and by SNR + 1 times as much about v
    (book, eq. 9.4; Hang et al. 2023, section 3.4)."""
    if target not in ("eps", "x0", "v"):
        raise ValueError(f'target must be one of "eps", "x0", "v", got {target!r}')
    snr = schedule.snr[check_t(schedule, t)]
    if target == "eps":
        return torch.clamp(gamma / snr, max=1)  # the same, and 1 where SNR = 0
    return snr.clamp(max=gamma) / (snr + 1 if target == "v" else 1)
