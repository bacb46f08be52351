"""Guidance: a denoiser that is steered towards a class more (or less) than the data are. A guided model is called like any.

    eps_tilde = eps_null + s (eps_y - eps_null)                                    (book, eq. 9.4)
    eps_hat   = eps - s sqrt(1 - alpha_bar_t) grad log p(y | x_t)                  (book, eq. 9.3)
    eps_tilde = eps - g sqrt(1 - alpha_bar_t) grad s_t(x_t, y), a score of image and caption   (book, eq. 19.10)
    eps_tilde = eps_minus + s (eps_y - eps_minus), with a negative caption        (book, eq. 19.15)

s is the guidance scale: 0 is unconditional, 1 conditional as the data are, more exaggerates what is typical of the class.
"""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    Labels,
    as_labels,
    check_callable,
    check_images,
    number,
    one_each,
    shown,
)
from diffnotes.process.forward import Images, Times
from diffnotes.process.losses import Denoiser, check_denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.parameterize import eps_from_score, x0_and_eps
from diffnotes.process.schedules import Schedule, check_schedule

Classifier = Callable[[Tensor, Tensor], Float[Tensor, "batch classes"]]
Score = Callable[[Tensor, Tensor, Tensor], Float[Tensor, "batch"]]


@dataclass(frozen=True)
class ClassifierFreeGuidance:
    """Classifier-free guidance: eps_tilde = eps_null + s (eps_y - eps_null) (book, eq. 9.4; Ho and Salimans 2022, eq. 6,
    with s = 1 + w).

    The prediction target is the model's own: eps, x0, v and u are affine in each other, so the formula is the same in all. Two
    calls of the model for each prediction; one where s is 0 or 1. A model that was trained with label_dropout = 0 has never
    seen the null label, and guiding it gives a UserWarning.

    negative: a label, one for all images or one for each, that takes the place of the null one: the prediction is led away
    from it (a negative prompt; book, eq. 19.15). At scale 1 it does nothing."""

    model: Denoiser
    scale: float | int
    negative: Labels | None = None

    def __post_init__(self) -> None:
        check_denoiser(self.model)
        object.__setattr__(self, "scale", _scale(self.scale))
        labelled = getattr(self.model, "num_classes", 0) is not None
        if self.scale != 1 and labelled and getattr(self.model, "label_dropout", None) == 0:
            warnings.warn(
                f"model was trained with label_dropout = 0: its null label was never trained, so guidance with scale = "
                f"{self.scale:g} gives nonsense. Use scale = 1, or a model trained with label_dropout > 0 (0.1, say)",
                stacklevel=3,
            )

    @property
    def target(self) -> str:
        """What is predicted: the model's own target."""
        return self.model.target

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of the model's images, if it is known."""
        return getattr(self.model, "item_shape", None)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """The guided prediction for x_t at the times t; without labels y, the unconditional one."""
        check_images(x_t=x_t)
        y = as_labels(y, x_t)
        if y is None or (self.scale == 0 and self.negative is None):
            return predict_in_parallel(self.model, x_t, t, None)
        given = predict_in_parallel(self.model, x_t, t, y)
        if self.scale == 1:
            return given
        null = predict_in_parallel(self.model, x_t, t, None if self.negative is None else as_labels(self.negative, x_t))
        return null + self.scale * (given - null)


@dataclass(frozen=True)
class ClassifierGuidance:
    """Classifier guidance: eps_hat = eps - s sqrt(1 - alpha_bar_t) grad_{x_t} log p(y | x_t) (book, eq. 9.3; Dhariwal and
    Nichol 2021, algorithm 2).

    The model's prediction is the unconditional one. `classifier(x_t, t)` gives logits (B, classes) for *noised* images at the
    times t, differentiable in x_t; the gradient is taken with respect to the image."""

    model: Denoiser
    schedule: Schedule
    classifier: Classifier
    scale: float | int

    def __post_init__(self) -> None:
        check_denoiser(self.model)
        check_schedule(self.schedule)
        check_callable("classifier", self.classifier, "classifier(x_t, t)")
        object.__setattr__(self, "scale", _scale(self.scale))

    @property
    def target(self) -> str:
        """What is predicted: the noise, as in the formula."""
        return "eps"

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of the model's images, if it is known."""
        return getattr(self.model, "item_shape", None)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """eps_hat for x_t at the times t; without labels y, the model's own eps."""
        return _shifted(self, x_t, t, y, lambda y: log_classifier_gradient(self.classifier, x_t, t, y))


@dataclass(frozen=True)
class ScoreGuidance:
    """Guidance by a score of image and caption, such as CLIP's: eps_tilde = eps - g sqrt(1 - alpha_bar_t) grad_{x_t} s(x_t, t, y)
    (book, eq. 19.10; Nichol et al. 2022, section 2.4).

    The model's prediction is the unconditional one. `score(x_t, t, y)` gives a number for each *noised* image and its caption,
    (B,), differentiable in x_t. With s(x_t, t, y) = log p(y | x_t) it is ClassifierGuidance."""

    model: Denoiser
    schedule: Schedule
    score: Score
    scale: float | int

    def __post_init__(self) -> None:
        check_denoiser(self.model)
        check_schedule(self.schedule)
        check_callable("score", self.score, "score(x_t, t, y)")
        object.__setattr__(self, "scale", _scale(self.scale))

    @property
    def target(self) -> str:
        """What is predicted: the noise, as in the formula."""
        return "eps"

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of the model's images, if it is known."""
        return getattr(self.model, "item_shape", None)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """eps_tilde for x_t at the times t; without captions y, the model's own eps."""
        return _shifted(self, x_t, t, y, lambda y: _score_gradient(self.score, x_t, t, y))


def log_classifier_gradient(classifier: Classifier, x_t: Images, t: Times, y: Labels) -> Images:
    """grad_{x_t} log p(y | x_t), of x_t's shape: one gradient for each image, with respect to the image."""
    check_callable("classifier", classifier, "classifier(x_t, t)")
    check_images(x_t=x_t)
    t, labels = one_each("t", t, x_t), as_labels(y, x_t)
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        logits = classifier(x_t, t)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(x_t):
            came = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else shown(logits)
            raise ValueError(f"classifier must give logits (batch, classes), got {came} for {len(x_t)} images")
        if labels is None or bool(((labels < 0) | (labels >= logits.shape[1])).any()):
            raise ValueError(
                f"y must hold labels 0..{logits.shape[1] - 1}, of which classifier gives logits, got {shown(y)}"
            )
        chosen = logits.log_softmax(1).gather(1, labels[:, None]).sum()
        return torch.autograd.grad(chosen, x_t)[0]


def _score_gradient(score: Score, x_t: Images, t: Times, y: Labels) -> Images:
    """grad_{x_t} s(x_t, t, y), of x_t's shape."""
    with torch.enable_grad():
        at = x_t.detach().requires_grad_()
        scores = score(at, one_each("t", t, x_t), one_each("y", y, x_t))
        if not isinstance(scores, Tensor) or scores.shape != (len(x_t),):
            came = f"shape {tuple(scores.shape)}" if isinstance(scores, Tensor) else shown(scores)
            raise ValueError(f"score must give one number for each of the {len(x_t)} images, got {came}")
        return torch.autograd.grad(scores.sum(), at)[0]


def _shifted(
    guided: ClassifierGuidance | ScoreGuidance,
    x_t: Images,
    t: Times,
    y: Labels | None,
    gradient: Callable[[Labels], Images],
) -> Images:
    """eps - scale sqrt(1 - alpha_bar_t) gradient(y), eps being the model's; without labels y, that eps."""
    check_images(x_t=x_t)
    y = as_labels(y, x_t)
    _, eps = x0_and_eps(guided.schedule, guided.model.target, predict_in_parallel(guided.model, x_t, t), x_t, t)
    if y is None or guided.scale == 0:
        return eps
    return eps + guided.scale * eps_from_score(guided.schedule, gradient(y), t)


def _scale(scale: FloatLike) -> float:
    return number("scale", scale, "be a finite number", math.isfinite)
