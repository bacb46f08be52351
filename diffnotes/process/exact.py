"""Denoisers in closed form: what a perfect network would answer, E[x_0 | x_t], for data whose law we know.

They are called like a network, model(x_t, t, y), with target "x0", so every sampler can be run and tested without
training. The data law is a mixture, its noised version is one too (book, eq. 4.11), and Bayes' rule does the rest.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.schedules import Schedule, check_t, per_image

Images = Float[Tensor, "batch *dims"]


@dataclass(frozen=True)
class GaussianDenoiser:
    """E[x_0 | x_t] for data N(mean, variance I) (book, eq. 5.16 and 7.13):

    mean + sqrt(alpha_bar_t) variance / (alpha_bar_t variance + 1 - alpha_bar_t) * (x_t - sqrt(alpha_bar_t) mean)."""

    schedule: Schedule
    mean: float = 0.0
    variance: float = 1.0
    target: str = "x0"

    def __post_init__(self) -> None:
        if not self.variance >= 0:
            raise ValueError(f"variance must be >= 0, got {self.variance}")

    def __call__(self, x_t: Images, t: int | Int[Tensor, "batch"], y: Tensor | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T; y is accepted, as a network would, and not used."""
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        gain = abar.sqrt() * self.variance / (abar * self.variance + 1 - abar)
        return self.mean + per_image(gain, x_t) * (x_t - per_image(abar.sqrt(), x_t) * self.mean)


@dataclass(frozen=True)
class MixtureDenoiser:
    """E[x_0 | x_t] for a mixture of K isotropic Gaussians: `means` (K, *dims), one `variance` >= 0 for all, `weights` (K,).

    Component k answers as in GaussianDenoiser; its share is its posterior probability given x_t."""

    schedule: Schedule
    means: Float[Tensor, "K *dims"]
    variance: float = 0.0
    weights: Float[Tensor, "K"] | None = None
    target: str = "x0"

    def __post_init__(self) -> None:
        if not self.variance >= 0:
            raise ValueError(f"variance must be >= 0, got {self.variance}")
        if self.weights is not None and not (
            bool((self.weights >= 0).all()) and abs(float(self.weights.sum()) - 1) < 1e-6
        ):
            raise ValueError(f"weights must be >= 0 and sum to 1, got {self.weights.tolist()}")

    def responsibilities(self, x_t: Images, t: int | Int[Tensor, "batch"]) -> Float[Tensor, "batch K"]:
        """The probability of each component given x_t; rows sum to 1."""
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        a, v = per_image(abar.sqrt(), x_t.flatten(1)), per_image(abar * self.variance + 1 - abar, x_t.flatten(1))
        means = self.means.to(x_t).flatten(1)
        # -||x_t - a mean||^2 / (2 v) without ||x_t||^2, which is the same for every component
        logits = (a * (x_t.flatten(1) @ means.T) - 0.5 * a**2 * means.square().sum(1)) / v
        if self.weights is not None:
            logits = logits + self.weights.to(x_t).log()
        return logits.softmax(1)

    def __call__(self, x_t: Images, t: int | Int[Tensor, "batch"], y: Tensor | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T; y is accepted, as a network would, and not used."""
        share = self.responsibilities(x_t, t)
        expected_mean = (share @ self.means.to(x_t).flatten(1)).reshape(x_t.shape)
        if self.variance == 0:
            return expected_mean
        abar = self.schedule.alpha_bar[check_t(self.schedule, t)]
        gain = per_image(abar.sqrt() * self.variance / (abar * self.variance + 1 - abar), x_t)
        return expected_mean + gain * (x_t - per_image(abar.sqrt(), x_t) * expected_mean)


@dataclass(frozen=True)
class DatasetDenoiser:
    """E[x_0 | x_t] when the data are exactly these N images, each equally likely: a softmax-weighted mean of them all.

    It is the minimiser of the training loss on this data set (book, eq. 7.8 and 7.9), and shows why that is not the goal:
    started from noise it can only give training images back. With labels (N,), a call with y uses the images of that
    class alone."""

    schedule: Schedule
    images: Float[Tensor, "N *dims"]
    labels: Int[Tensor, "N"] | None = None
    target: str = "x0"

    def __call__(self, x_t: Images, t: int | Int[Tensor, "batch"], y: Int[Tensor, "batch"] | None = None) -> Images:
        """E[x_0 | x_t] at the times t in 1..T: over all images, or with y (B,) over those of each label."""
        if y is None:
            return MixtureDenoiser(self.schedule, self.images)(x_t, t)
        if self.labels is None:
            raise ValueError("y was given, but this DatasetDenoiser was made without labels")
        times = check_t(self.schedule, t).expand(len(x_t))
        answer = torch.empty_like(x_t)
        for label in y.unique():
            theirs, ours = y == label, self.images[self.labels.to(y.device) == label]
            if len(ours) == 0:
                raise ValueError(f"y asks for label {int(label)}, which none of the {len(self.images)} images has")
            answer[theirs] = MixtureDenoiser(self.schedule, ours)(x_t[theirs], times[theirs.cpu()])
        return answer
