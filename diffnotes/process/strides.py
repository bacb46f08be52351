"""The bound and the sampler of a chain of few steps, for any variance and any decoder.

The chain visits 0 = tau_0 < tau_1 < ... < tau_S. Each of its steps is a stride (book, eq. 7.6), and the bound has the terms of
chapter 3 with strides in the place of steps: L_T, a divergence for each stride from tau_i to tau_{i-1}, i >= 2, and L_0 at tau_1.
A step's distribution p(x_s | x_t), with x0_hat for x_0 in the mean of q(x_s | x_t, x_0), is one of

    "beta", "beta_tilde"   N(mean, sigma^2 I) with the two simple variances                        (book, eq. 7.2)
    a table                the same with a number for each step, such as optimal_variance           (book, eq. 12.2)
    "learned"              the same with a variance for each pixel and each x_t: model.moments      (book, eq. 12.6)
    "mixture"              q(x_s | x_t, x_0) with x_0 drawn from model.mixture                        (book, eq. 12.10)
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from diffnotes.process.arguments import IntLike, Labels, as_labels, check_batch, check_floats, choice, number
from diffnotes.process.elbo import CHUNK, ElboTerms
from diffnotes.process.forward import Images, q_posterior, q_sample
from diffnotes.process.gaussian import discretized_log_likelihood, normal_kl
from diffnotes.process.losses import check_denoiser
from diffnotes.process.parallel import predict_in_parallel
from diffnotes.process.parameterize import eps_from_x0, x0_and_eps
from diffnotes.process.samplers import Frame, Noise, TimeList, times_visited
from diffnotes.process.schedules import Schedule, Table
from diffnotes.process.variance import stride

SIMPLE, OWN = ("beta", "beta_tilde"), ("learned", "mixture")
ENDS = ("mean", "draw")


def stride_variances(schedule: Schedule, times: list[int], variance: str | Tensor = "beta_tilde") -> Table:
    """sigma_i^2 of the stride from tau_i to tau_{i-1}, for the times [tau_0 = 0, ..., tau_S]: (S + 1,), entry 0 unused.

    Entry 1, the decoder's, is as in chapter 3: that of the second stride for "beta_tilde", beta'_1 for "beta"."""
    if isinstance(variance, Tensor):
        check_floats("variance", variance, "(S + 1,)")
        if variance.shape != (len(times),) or not bool((variance[1:] > 0).all()):
            raise ValueError(
                f"variance must hold S + 1 = {len(times)} numbers, positive from entry 1 on, got {variance}"
            )
        return variance.double()
    tau = torch.tensor(times)
    beta, beta_tilde, _ = stride(schedule, tau[1:], tau[:-1])
    if choice("variance", variance, SIMPLE) == "beta" or len(times) < 3:
        return torch.cat([torch.zeros(1, dtype=torch.float64), beta])
    return torch.cat([torch.zeros(1, dtype=torch.float64), beta_tilde[1:2], beta_tilde[1:]])


@torch.no_grad()
def strided_elbo(
    model: Any,
    schedule: Schedule,
    x0: Images,
    *,
    steps: IntLike | None = None,
    times: TimeList | None = None,
    variance: str | Tensor = "beta_tilde",
    decoder: str | float | None = None,
    y: Labels | None = None,
    generator: torch.Generator | None = None,
) -> ElboTerms:
    """The bound's terms for images x0 (B, ...) of 256 grey values under a chain of `steps` strides, in nats (book, eq. 3.4).

    model: a network or closed form; for variance "learned" or "mixture", or the decoder "grey", one with moments, mixture and
    log_probability (models/grey.py). variance: see above. decoder: the discretised Gaussian (book, eq. 3.7) around x0_hat
    with this number as its variance, or, if None, entry 1 of stride_variances; "grey": the model's own probabilities."""
    check_denoiser(model)
    check_batch(model, x0=x0)
    tau = times_visited(schedule, steps, "uniform", None, times)
    own = isinstance(variance, str) and variance in OWN
    _check_own(model, str(variance) if own else None, decoder)
    sigma2 = stride_variances(schedule, tau, "beta_tilde" if own else variance)
    if decoder is not None and decoder != "grey":
        sigma2[1] = number("decoder", decoder, 'be "grey" or a positive variance', lambda v: 0 < v < math.inf)
    labels = as_labels(y, x0)

    rows: list[list[Tensor]] = [[] for _ in tau[1:]]
    for part in torch.arange(len(x0)).split(CHUNK):
        clean, asked = x0[part].double(), None if labels is None else labels[part]
        for i, (s, t) in enumerate(zip(tau[:-1], tau[1:], strict=True)):
            x_t = q_sample(schedule, clean, t, _normal(clean, generator))
            if s == 0 and decoder == "grey":
                rows[i].append(-model.log_probability(clean, x_t.to(x0.dtype), t, asked))
            elif s == 0:
                x0_hat, _ = _estimate(model, schedule, x_t, x0.dtype, t, asked, False)
                rows[i].append(-discretized_log_likelihood(clean, x0_hat, sigma2[1]))
            elif variance == "mixture":
                rows[i].append(_mixture_kl(model, schedule, clean, x_t, x0.dtype, t, s, asked, generator))
            else:
                x0_hat, error = _estimate(model, schedule, x_t, x0.dtype, t, asked, own)
                mean, beta_tilde = q_posterior(schedule, clean, x_t, t, s)
                mean_hat, _ = q_posterior(schedule, x0_hat, x_t, t, s)
                ours = sigma2[i + 1] if error is None else beta_tilde + stride(schedule, t, s)[2] ** 2 * error
                rows[i].append(normal_kl(mean, beta_tilde, mean_hat, ours))
    decoded, *denoising = (torch.cat(row) for row in rows)
    return ElboTerms(
        prior=_prior(schedule, x0, tau[-1]),
        times=torch.tensor(tau[2:])[:, None].expand(-1, len(x0)),
        denoising=torch.stack(denoising) if denoising else torch.empty(0, len(x0), dtype=torch.float64),
        reconstruction=decoded,
        weights=torch.ones(len(denoising), len(x0), dtype=torch.float64),
        dims=x0[0].numel(),
    )


def strided_sample(
    model: Any,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    times: TimeList | None = None,
    variance: str | Tensor = "beta_tilde",
    end: str = "mean",
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Ancestral sampling along the same chain, with the same choices of variance: yields S + 1 Frames, the last one at t = 0.
    With a simple variance it is ddpm_sample.

    end: what the last step gives: "mean", the model's x0_hat, or "draw", a grey value for each pixel from model.mixture."""
    check_denoiser(model)
    check_batch(model, x_T=x_T)
    tau = times_visited(schedule, steps, "uniform", None, times)
    own = isinstance(variance, str) and variance in OWN
    _check_own(model, str(variance) if own else None, "grey" if choice("end", end, ENDS) == "draw" else None)
    sigma2 = stride_variances(schedule, tau, "beta_tilde" if own else variance)
    return _walk(model, schedule, x_T, tau, variance, sigma2, own, end, as_labels(y, x_T), Noise(generator, len(x_T)))


@torch.no_grad()
def _walk(model, schedule, x_t, tau, variance, sigma2, own, end, y, noise) -> Iterator[Frame]:  # type: ignore[no-untyped-def]
    for i in range(len(tau) - 1, 0, -1):
        t, s = tau[i], tau[i - 1]
        drawn = end == "draw" if s == 0 else variance == "mixture"
        if drawn:
            mixture, _ = model.mixture(x_t, t, y)
            x0_hat, error = mixture.moments()
            taken = mixture.draw(noise.like(x_t), noise.like(x_t))
        else:
            x0_hat, error = _estimate(model, schedule, x_t, x_t.dtype, t, y, own)
            taken = x0_hat
        mean, beta_tilde = q_posterior(schedule, taken, x_t.double(), t, s)
        ours = beta_tilde if drawn else sigma2[i]
        if variance == "learned":
            ours = beta_tilde + stride(schedule, t, s)[2] ** 2 * error
        shown = x0_hat.to(x_t.dtype)
        yield Frame(t, x_t, shown, eps_from_x0(schedule, shown, x_t, t))
        x_t = (mean + (ours.sqrt() * noise.like(x_t).double() if s > 0 else 0)).to(x_t.dtype)
    yield Frame(0, x_t, x_t, torch.zeros_like(x_t))


def _estimate(  # type: ignore[no-untyped-def]
    model, schedule, x_t, dtype, t, y, own
) -> tuple[Tensor, Tensor | None]:
    """x0_hat in float64, and, of a model with moments, the squared error expected at each pixel."""
    if own:
        mean, variance = model.moments(x_t.to(dtype), t, y)
        return mean, variance
    times = torch.full((len(x_t),), t, device=x_t.device)
    output = predict_in_parallel(model, x_t.to(dtype), times, y).double()
    return x0_and_eps(schedule, model.target, output, x_t.double(), times)[0], None


def _mixture_kl(model, schedule, x0, x_t, dtype, t, s, y, generator) -> Tensor:  # type: ignore[no-untyped-def]
    """log q(x_s | x_t, x_0) - log p(x_s | x_t) at one draw of x_s from q: in the mean over the draws their divergence."""
    mixture, _ = model.mixture(x_t.to(dtype), t, y)
    mean, beta_tilde = q_posterior(schedule, x0, x_t, t, s)
    c = stride(schedule, t, s)[2]
    z = _normal(x0, generator)
    log_q = -(z**2 + (2 * math.pi * beta_tilde).log()) / 2
    log_p = mixture.moved(mean - c * x0, c, beta_tilde).log_density(mean + beta_tilde.sqrt() * z)
    return (log_q - log_p).flatten(1).sum(1)


def _prior(schedule: Schedule, x0: Images, last: int) -> Tensor:
    """D_KL(q(x_t | x_0) || N(0, I)) at the chain's first time, in nats (book, eq. 3.4)."""
    bar = schedule.alpha_bar[last]
    squares = x0.double().square().flatten(1)
    return ((bar * squares - bar - torch.log1p(-bar)) / 2).sum(1)


def _check_own(model: Any, variance: str | None, decoder: object) -> None:
    """ValueError if the model lacks what is asked of it."""
    wanted = {"learned": "moments", "mixture": "mixture"}.get(variance or "")
    for name in [*([wanted] if wanted else []), *(["log_probability", "mixture"] if decoder == "grey" else [])]:
        if not callable(getattr(model, name, None)):
            raise ValueError(f"model must have .{name} for this, as models/grey.py has, got {type(model).__name__}")


def _normal(x: Tensor, generator: torch.Generator | None) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)
