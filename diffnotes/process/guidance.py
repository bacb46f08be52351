"""Guidance: a denoiser that leans towards a class more (or less) than the data do. Wrapped models are called like others.

    eps_tilde = eps_null + s (eps_y - eps_null)                                    (book, eq. 12.4)
    eps_hat   = eps - s sqrt(1 - alpha_bar_t) grad log p(y | x_t)                  (book, eq. 12.3)

s is the guidance scale: 0 asks for no class, 1 for the class as it is in the data, more for what is typical of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.forward import Images
from diffnotes.process.losses import Denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.parameterize import eps_from_score, x0_and_eps
from diffnotes.process.schedules import Schedule

Labels = Int[Tensor, "batch"]
Classifier = Callable[[Tensor, Tensor], Float[Tensor, "batch classes"]]


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Classifier-free guidance: eps_tilde = eps_null + s (eps_y - eps_null) (book, eq. 12.4; Ho and Salimans 2022, eq. 6,
    with s = 1 + w).

    The answer is in the model's own language: eps, x0 and v are affine in each other, so the formula is the same in all.
    Two calls of the model for each answer; one where s is 0 or 1."""

    model: Denoiser
    scale: float | int

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def target(self) -> str:
        """What the answer is: the model's own target."""
        return self.model.target

    def __call__(self, x_t: Images, t: Int[Tensor, "batch"], y: Labels | None = None) -> Images:
        """The guided prediction for x_t at the times t; without labels y there is nothing to lean towards."""
        if y is None or self.scale == 0:
            return predict_in_parallel(self.model, x_t, t, None)
        given = predict_in_parallel(self.model, x_t, t, y)
        if self.scale == 1:
            return given
        null = predict_in_parallel(self.model, x_t, t, None)
        return null + self.scale * (given - null)


@dataclass(frozen=True)
class ClassifierGuidance:
    """Classifier guidance: eps_hat = eps - s sqrt(1 - alpha_bar_t) grad_{x_t} log p(y | x_t) (book, eq. 12.3; Dhariwal and
    Nichol 2021, algorithm 2).

    The model is asked without a label. `classifier(x_t, t)` gives logits (B, classes) for *noised* images at the times t,
    differentiable in x_t; the gradient is taken with respect to the image."""

    model: Denoiser
    schedule: Schedule
    classifier: Classifier
    scale: float | int

    def __post_init__(self) -> None:
        _check_scale(self.scale)

    @property
    def target(self) -> str:
        """What the answer is: the noise, the language of this formula."""
        return "eps"

    def __call__(self, x_t: Images, t: Int[Tensor, "batch"], y: Labels | None = None) -> Images:
        """eps_hat for x_t at the times t; without labels y, the model's own eps."""
        _, eps = x0_and_eps(self.schedule, self.model.target, predict_in_parallel(self.model, x_t, t), x_t, t)
        if y is None or self.scale == 0:
            return eps
        return eps + self.scale * eps_from_score(self.schedule, log_classifier_gradient(self.classifier, x_t, t, y), t)


def log_classifier_gradient(classifier: Classifier, x_t: Images, t: Int[Tensor, "batch"], y: Labels) -> Images:
    """grad_{x_t} log p(y | x_t), of x_t's shape: one gradient for each image, with respect to the image."""
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        logits = classifier(x_t, t)
        if logits.ndim != 2 or len(logits) != len(x_t):
            raise ValueError(
                f"classifier must give logits (batch, classes), got shape {tuple(logits.shape)} for {len(x_t)} images"
            )
        chosen = logits.log_softmax(1).gather(1, y[:, None]).sum()
        return torch.autograd.grad(chosen, x_t)[0]


def _check_scale(scale: float | int) -> None:
    if not math.isfinite(scale):
        raise ValueError(f"scale must be a finite number, got {scale}")
