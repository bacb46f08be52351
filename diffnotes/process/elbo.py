"""The variational bound on -log p(x_0), term by term.

    L_VLB = D_KL(q(x_T | x_0) || p(x_T))                                           L_T      ("prior")
          + sum over t = 2..T of E D_KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t))  L_{t-1}  ("denoising")
          + E[-log p(x_0 | x_1)]                                                   L_0      ("reconstruction")
                                                                                   (book, eq. 3.4)

Here p(x_{t-1} | x_t) = N(mean, sigma_t^2 I), with the mean of q(x_{t-1} | x_t, x_0) in which the model's estimate of the
image stands for x_0. Everything is in nats and float64, for each image, summed over its coordinates; bits_per_dim() converts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Integer
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    Labels,
    array,
    as_int,
    as_labels,
    check_batch,
    check_floats,
    choice,
    flag,
    integer,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times, q_posterior, q_sample
from diffnotes.process.gaussian import discretized_log_likelihood, normal_kl, normal_log_density
from diffnotes.process.losses import Denoiser, check_denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.parameterize import x0_and_eps
from diffnotes.process.samplers import VARIANCES
from diffnotes.process.schedules import Numbers, Schedule, Table, check_schedule, check_t, per_image

PerImage = Float[Tensor, "batch"]
CHUNK = 128  # images in one call of the model
MOST_DRAWS = 1_000_000  # of times for an image; more is a mistake


@dataclass(frozen=True, eq=False)
class ElboTerms:
    """The bound of each image, in its three kinds of terms: nats, float64, summed over the `dims` coordinates.

    prior (B,) is exact. denoising (times, B) is L_{t-1} at the t in `times` (times, B), with one draw of x_t each, and
    reconstruction (B,) is L_0 with one draw of x_1. weights (times, B) are what the terms count in the sum over t: 1 where
    every t is there, 1 / (draws p_t) where times were drawn, None where they were chosen by hand. `density` says that L_0
    comes from a density on [-1, 1] and not from the probability of grey values."""

    prior: PerImage
    times: Int[Tensor, "times batch"]
    denoising: Float[Tensor, "times batch"]
    reconstruction: PerImage
    weights: Float[Tensor, "times batch"] | None
    dims: int
    density: bool = False

    def total(self) -> PerImage:
        """L_VLB for each image, in nats: L_T + sum of the L_{t-1} + L_0 (book, eq. 3.4); an unbiased estimate where the
        times were drawn (book, eq. 3.9). mean_and_error(terms.total()) gives its mean over images and how sure that is."""
        if self.weights is None:
            raise ValueError(
                "total needs every t, or times drawn from a known distribution; these were chosen by hand. "
                "Leave times out, or give the number of draws"
            )
        return self.prior + (self.weights * self.denoising).sum(0) + self.reconstruction

    def bits_per_dim(self) -> PerImage:
        """L_VLB / (d log 2), plus log2(127.5) where L_0 is that of a density: a grey value stands for 1 / 127.5 of
        [-1, 1]'s length 2 (book, eq. 3.8). Bits per coordinate of an image with 256 grey values."""
        return self.total() / (self.dims * math.log(2)) + (math.log2(127.5) if self.density else 0.0)


@torch.no_grad()
def elbo_terms(
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    *,
    times: IntLike | Integer[Tensor, "times"] | Integer[np.ndarray, "times"] | Sequence[IntLike] | None = None,
    distribution: Numbers | None = None,
    variance: str = "beta_tilde",
    clip: bool = False,
    levels: IntLike | None = 256,
    y: Labels | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    """The bound's terms for images x0 (B, ...) under a network or closed-form denoiser (book, eq. 3.4), in nats.

    times: None for every t = 2..T, one draw of x_t each; a number K of times drawn anew for each image from `distribution`
    (T + 1 probabilities, see importance_distribution; uniform on 2..T unless given); or the t themselves, for a curve. t = 1
    is always there. variance: sigma_t^2, see model_variance. clip: cut the estimate of x_0 to [-1, 1], as samplers do.
    levels: x0 holds this many evenly spaced grey values, and L_0 is minus the log-probability of them (book, eq. 3.7);
    None for data that are not quantised: minus the log-density. y: labels, for -log p(x_0 | y)."""
    check_denoiser(model)
    check_batch(model, x0=x0)
    if len(x0) == 0:
        raise ValueError("x0 must hold at least one image, got none")
    sigma2, clip, labels = model_variance(schedule, variance), flag("clip", clip), as_labels(y, x0)
    levels = None if levels is None else integer("levels", levels, 2, 65536)
    if not isinstance(generator, torch.Generator | None):
        raise ValueError(f"generator must be a torch.Generator or None, got {shown(generator)}")
    t, weights = _choose_times(schedule, len(x0), times, distribution, generator)

    def denoise(t: Tensor, image: Tensor) -> tuple[Images, Images, Images]:
        """x_0, x_t, and what the model takes for x_0: float64, though the model itself works in x0's precision."""
        clean = x0[image].double()
        x_t = q_sample(schedule, clean, t, _normal_like(clean, generator))
        output = predict_in_parallel(
            model, x_t.to(x0.dtype), t.to(x0.device), None if labels is None else labels[image]
        ).double()
        x0_hat, _ = x0_and_eps(schedule, model.target, output, x_t, t)
        return clean, x_t, x0_hat.clamp(-1, 1) if clip else x0_hat

    denoising = [torch.empty(0, dtype=torch.float64, device=x0.device)]
    for at, image in _chunks(t):
        clean, x_t, x0_hat = denoise(at, image)
        denoising.append(denoising_kl(schedule, clean, x0_hat, x_t, at, sigma2))
    reconstruction = []
    for at, image in _chunks(torch.ones(1, len(x0), dtype=torch.long)):
        clean, _, x0_hat = denoise(at, image)  # at t = 1 the mean of p(x_0 | x_1) is the estimate itself
        if levels is None:
            reconstruction.append(-normal_log_density(clean, x0_hat, sigma2[1]))
        else:
            reconstruction.append(-discretized_log_likelihood(clean, x0_hat, sigma2[1], levels))
    return ElboTerms(
        prior=schedule.prior_kl(x0),
        times=t,
        denoising=torch.cat(denoising).reshape(t.shape),
        reconstruction=torch.cat(reconstruction),
        weights=None if weights is None else weights.to(x0.device),
        dims=x0[0].numel(),
        density=levels is None,
    )


def model_variance(schedule: Schedule, variance: str = "beta_tilde") -> Table:
    """sigma_t^2 of p(x_{t-1} | x_t) for t = 1..T, with entry 0 unused and 0: "beta_tilde", the posterior's own, or "beta"
    (Ho et al. 2020, section 3.2).

    beta-tilde_1 = 0 would make the decoder a point: at t = 1 "beta_tilde" takes beta-tilde_2 (Nichol and Dhariwal 2021, whose
    code does so for "beta" as well), or beta_1 if T = 1. "beta" takes beta_1 there."""
    check_schedule(schedule)
    if choice("variance", variance, VARIANCES) == "beta" or schedule.T == 1:
        return schedule.beta
    table = schedule.posterior_variance.clone()
    table[1] = table[2]
    return table


def denoising_kl(schedule: Schedule, x0: Images, x0_hat: Images, x_t: Images, t: Times, sigma2: Table) -> PerImage:
    """D_KL(q(x_{t-1} | x_t, x_0) || N(mean, sigma_t^2 I)) in nats, the mean being that of q(x_{t-1} | x_t, x0_hat); t in
    2..T, one for each image (book, eq. 3.4). Give float64: the means differ by far less than they are."""
    t = check_t(schedule, t, lowest=2)
    check_floats("sigma2", sigma2, "(T + 1,)")
    if sigma2.shape != schedule.beta.shape or not bool((sigma2[2:] > 0).all()):
        raise ValueError(
            f"sigma2 must hold T + 1 = {schedule.T + 1} variances, positive at t = 2..T, got {shown(sigma2)}"
        )
    mean, beta_tilde = q_posterior(schedule, x0, x_t, t)
    mean_hat, _ = q_posterior(schedule, x0_hat, x_t, t)
    return normal_kl(mean, beta_tilde, mean_hat, per_image(sigma2[t], x_t))


def importance_distribution(mean_squares: Numbers, uniform: FloatLike = 0.0) -> Table:
    """p_t proportional to sqrt(E[l_t^2]), l_t one draw of L_{t-1}, t = 2..T: the distribution of t under which a draw, divided by
    its probability, has the smallest variance (Nichol and Dhariwal 2021, section 3.3; book, eq. 3.9). T + 1 entries, 0 at
    t = 0 and 1.

    mean_squares: E[l_t^2] for t = 2..T, as terms.denoising.square().mean(1) gives it. uniform: the share that is drawn
    without regard to it, so that a term estimated too small can never count for more than (T - 1) / uniform times itself."""
    uniform = number("uniform", uniform, "lie in 0..1", lambda share: 0 <= share <= 1)
    squares = _numbers("mean_squares", mean_squares)
    if squares.ndim != 1 or len(squares) == 0 or not bool(((squares >= 0) & squares.isfinite()).all()):
        raise ValueError("mean_squares must hold a finite number >= 0 for each t = 2..T")
    root = squares.sqrt()
    if not root.sum() > 0:
        raise ValueError("mean_squares must not all be 0")
    p = (1 - uniform) * root / root.sum() + uniform / len(root)
    return torch.cat([torch.zeros(2), p])


def mean_and_error(values: Float[Tensor, "*rows batch"]) -> tuple[Float[Tensor, "*rows"], Float[Tensor, "*rows"]]:
    """The mean over the last axis and its standard error, std / sqrt(B): how far the mean of other images, with other noise
    and other times, would be from it. Works for terms.total(), terms.bits_per_dim() and, row by row, terms.denoising."""
    check_floats("values", values, "(..., B)")
    if values.shape[-1] < 2:
        raise ValueError(f"values must hold at least 2 images, got {values.shape[-1]}")
    return values.mean(-1), values.std(-1) / math.sqrt(values.shape[-1])


def _choose_times(
    schedule: Schedule,
    batch: int,
    times: object,
    distribution: Numbers | None,
    generator: torch.Generator | None,
) -> tuple[Int[Tensor, "times batch"], Float[Tensor, "times batch"] | None]:
    """The t of every image, and the weights of their terms in the sum over t = 2..T."""
    T, draws = schedule.T, as_int(times)
    if distribution is not None and draws is None:
        raise ValueError(
            f"distribution says how to draw times: give times as a number of draws, got times = {shown(times)}"
        )
    if times is None:
        every = torch.arange(2, T + 1)[:, None].expand(-1, batch)
        return every, torch.ones(every.shape, dtype=torch.float64)
    if draws is None:
        chosen = check_t(schedule, times, lowest=2, name="times")
        return chosen[:, None].expand(-1, batch), None
    if draws < 1 or T < 2:
        raise ValueError(f"times must be at least 1 draw from 2..T, got {draws} with T = {T}")
    draws = integer("times", draws, 1, MOST_DRAWS)
    p = importance_distribution(torch.ones(T - 1)) if distribution is None else _numbers("distribution", distribution)
    if p.shape != (T + 1,) or p[:2].any() or not (p[2:] > 0).all() or not abs(p.sum().item() - 1) <= 1e-6:
        raise ValueError(
            f"distribution must be T + 1 = {T + 1} probabilities with sum 1: 0 at t = 0 and 1, and above 0 at t = 2..T"
        )
    device = "cpu" if generator is None else generator.device
    t = torch.multinomial(p.to(device), draws * batch, replacement=True, generator=generator).cpu()
    t = t.reshape(draws, batch)
    return t, 1 / (draws * p[t])


def _numbers(name: str, values: object) -> Tensor:
    """The numbers as a float64 tensor on the CPU."""
    found = array(name, values, "fiu", "be a sequence of numbers, one for each t")
    return torch.tensor(np.ascontiguousarray(found), dtype=torch.float64)


def _chunks(t: Int[Tensor, "times batch"]) -> list[tuple[Tensor, Tensor]]:
    """Pairs (t, image), a portion of them at a time, row after row of t."""
    image = torch.arange(t.shape[1]).expand_as(t)
    return list(zip(t.flatten().split(CHUNK), image.flatten().split(CHUNK), strict=True)) if t.numel() else []


def _normal_like(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard normal noise of x's shape and precision, where x is."""
    device = x.device if generator is None else generator.device
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=device).to(x.device)
