"""Optimal denoisers in closed form: E[x_0 | x_t], what a perfect network would predict, for a known data distribution.

They are called like a network, model(x_t, t, y), with target "x0", so every sampler can be run and tested without
training. The data distribution is a mixture, its noised version is one too (book, eq. 1.11), and Bayes' rule does the rest.
"""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Integer
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    Labels,
    as_labels,
    check_floats,
    check_images,
    flatten_images,
    integers,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times
from diffnotes.process.schedules import Schedule, check_schedule, check_t, check_times, per_image


@dataclass(frozen=True)
class GaussianDenoiser:
    """E[x_0 | x_t] for data N(mean, variance I) (book, eq. 2.16 and 4.13):

    mean + sqrt(alpha_bar_t) variance / (alpha_bar_t variance + 1 - alpha_bar_t) * (x_t - sqrt(alpha_bar_t) mean)."""

    schedule: Schedule
    mean: float = 0.0
    variance: float = 1.0
    target: str = field(default="x0", init=False)

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        object.__setattr__(self, "mean", number("mean", self.mean, "be a finite number", math.isfinite))
        object.__setattr__(self, "variance", _variance(self.variance))

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T; y is accepted, as a network would, and not used."""
        check_images(x_t=x_t)
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        gain = abar.sqrt() * self.variance / (abar * self.variance + 1 - abar)
        return self.mean + per_image(gain, x_t) * (x_t - per_image(abar.sqrt(), x_t) * self.mean)


@dataclass(frozen=True, eq=False)
class JointGaussianDenoiser:
    """E[x_0 | x_t] for data N(mean, covariance), mean (d,), covariance (d, d), whatever the covariance (book, eq. 2.7, with
    matrices): mean + sqrt(alpha_bar_t) S (alpha_bar_t S + (1 - alpha_bar_t) I)^{-1} (x_t - sqrt(alpha_bar_t) mean)."""

    schedule: Schedule
    mean: Float[Tensor, "d"]
    covariance: Float[Tensor, "d d"]
    target: str = field(default="x0", init=False)

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        check_floats("mean", self.mean, "(d,)")
        check_floats("covariance", self.covariance, "(d, d)")
        if self.mean.ndim != 1 or self.covariance.shape != (len(self.mean), len(self.mean)):
            raise ValueError(
                f"covariance must have the shape ({len(self.mean)}, {len(self.mean)}), got {shown(self.covariance)}"
            )
        if (
            not torch.equal(self.covariance, self.covariance.T)
            or float(torch.linalg.eigvalsh(self.covariance.double()).min()) < 0
        ):
            raise ValueError("covariance must be symmetric, with no negative eigenvalue")

    def __call__(self, x_t: Float[Tensor, "batch d"], t: Times, y: Labels | None = None) -> Float[Tensor, "batch d"]:
        """E[x_0 | x_t] at the times t in 1..T, one for all images or one for each; y is accepted and not used."""
        check_images(x_t=x_t)
        if x_t.shape[1:] != self.mean.shape:
            raise ValueError(f"x_t must have the shape (B, {len(self.mean)}), got {tuple(x_t.shape)}")
        abar = self.schedule.alpha_bar[check_times(self.schedule, t, x_t).cpu()].to(x_t)
        values, axes = torch.linalg.eigh(self.covariance.to(x_t))
        a = abar.sqrt()[:, None]
        gain = a * values / (abar[:, None] * values + 1 - abar[:, None])  # of each axis of the covariance
        return self.mean.to(x_t) + ((x_t - a * self.mean.to(x_t)) @ axes * gain) @ axes.T


@dataclass(frozen=True)
class MixtureDenoiser:
    """E[x_0 | x_t] for a mixture of K isotropic Gaussians: `means` (K, *dims), one `variance` >= 0 for all, `weights` (K,).

    Component k predicts as in GaussianDenoiser; its share is its posterior probability given x_t."""

    schedule: Schedule
    means: Float[Tensor, "K *dims"]
    variance: float = 0.0
    weights: Float[Tensor, "K"] | None = None
    target: str = field(default="x0", init=False)

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        _check_data("means", self.means)
        object.__setattr__(self, "variance", _variance(self.variance))
        weights = self.weights
        if weights is None:
            return
        check_floats("weights", weights, "(K,)")
        if weights.shape != self.means.shape[:1]:
            raise ValueError(
                f"weights must hold {len(self.means)} probabilities, one for each mean, got {shown(weights)}"
            )
        if not (bool((weights >= 0).all()) and abs(float(weights.sum()) - 1) < 1e-6):
            raise ValueError(f"weights must be >= 0 and sum to 1, got {weights.tolist()}")

    def responsibilities(self, x_t: Images, t: Times) -> Float[Tensor, "batch K"]:
        """The probability of each component given x_t; rows sum to 1."""
        _check_like("means", self.means, x_t)
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        x, means = flatten_images(x_t), flatten_images(self.means.to(x_t))
        a, v = per_image(abar.sqrt(), x), per_image(abar * self.variance + 1 - abar, x)
        # -||x_t - a mean||^2 / (2 v) without ||x_t||^2, which is the same for every component
        logits = (a * (x @ means.T) - 0.5 * a**2 * means.square().sum(1)) / v
        if self.weights is not None:
            logits = logits + self.weights.to(x_t).log()
        return logits.softmax(1)

    def log_density(self, x_t: Images, t: Times) -> Float[Tensor, "batch"]:
        """log q(x_t) in nats, summed over the coordinates: a mixture of N(sqrt(alpha_bar_t) mean, v I) with the variance
        v = alpha_bar_t variance + 1 - alpha_bar_t (book, eq. 1.11). t in 1..T."""
        _check_like("means", self.means, x_t)
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        x, means = flatten_images(x_t), flatten_images(self.means.to(x_t))
        a, v = per_image(abar.sqrt(), x), per_image(abar * self.variance + 1 - abar, x)
        away = (x[:, None] - a[..., None] * means).square().sum(2)
        weights = torch.full((len(means),), 1 / len(means)) if self.weights is None else self.weights
        logits = weights.to(x).log() - away / (2 * v) - 0.5 * x.shape[1] * (2 * math.pi * v).log()
        return logits.logsumexp(1)

    def score(self, x_t: Images, t: Times) -> Images:
        """The gradient of log q(x_t) with respect to x_t, by Tweedie's formula (book, eq. 4.10):
        (sqrt(alpha_bar_t) E[x_0 | x_t] - x_t) / (1 - alpha_bar_t). t in 1..T."""
        x0_hat = self(x_t, t)
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        return (per_image(abar.sqrt(), x_t) * x0_hat - x_t) / per_image(1 - abar, x_t)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T; y is accepted, as a network would, and not used."""
        share = self.responsibilities(x_t, t)
        expected_mean = (share @ flatten_images(self.means.to(x_t))).reshape(x_t.shape)
        if self.variance == 0:
            return expected_mean
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        gain = per_image(abar.sqrt() * self.variance / (abar * self.variance + 1 - abar), x_t)
        return expected_mean + gain * (x_t - per_image(abar.sqrt(), x_t) * expected_mean)


@dataclass(frozen=True)
class DatasetDenoiser:
    """E[x_0 | x_t] when the data are exactly these N images, each equally likely: a softmax-weighted mean of them all.

    It is the minimiser of the training loss on this data set (book, eq. 4.8 and 4.9), and shows why that is not the goal:
    started from noise it can only give training images back. With labels (N,), a call with y uses the images of that
    class alone."""

    schedule: Schedule
    images: Float[Tensor, "N *dims"]
    labels: Integer[Tensor, "N"] | None = None
    target: str = field(default="x0", init=False)

    def __post_init__(self) -> None:
        check_schedule(self.schedule)
        _check_data("images", self.images)
        if self.labels is not None:
            labels = integers("labels", self.labels)
            if labels.shape != self.images.shape[:1]:
                raise ValueError(f"labels must hold one for each of the {len(self.images)} images, got {shown(labels)}")
            object.__setattr__(self, "labels", labels)

    def __call__(self, x_t: Images, t: Times, y: Labels | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T: over all images, or with y (B,) over those of each label."""
        _check_like("images", self.images, x_t)
        classes = as_labels(y, x_t)
        if classes is None:
            return MixtureDenoiser(self.schedule, self.images)(x_t, t)
        if self.labels is None:
            raise ValueError("y was given, but this DatasetDenoiser was made without labels")
        times = check_times(self.schedule, t, x_t)
        prediction = torch.empty_like(x_t)
        for label in classes.unique():
            theirs, ours = classes == label, self.images[self.labels.to(classes.device) == label]
            if len(ours) == 0:
                raise ValueError(f"y holds label {int(label)}, which none of the {len(self.images)} images has")
            prediction[theirs] = MixtureDenoiser(self.schedule, ours)(x_t[theirs], times[theirs.cpu()])
        return prediction


def _variance(value: FloatLike) -> float:
    return number("variance", value, "be >= 0", lambda v: 0 <= v < math.inf)


def _check_data(name: str, x: Tensor) -> None:
    check_images(**{name: x})
    if x.numel() == 0:
        raise ValueError(f"{name} must hold one or more images, got {shown(x)}")


def _check_like(name: str, data: Tensor, x_t: Tensor) -> None:
    check_images(x_t=x_t)
    if x_t.shape[1:] != data.shape[1:]:
        raise ValueError(
            f"x_t must have the shape of {name}, (B, {', '.join(map(str, data.shape[1:]))}), got {tuple(x_t.shape)}"
        )
