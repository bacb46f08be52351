"""The reverse-time equations that share the distributions q(x_t), one for each lambda >= 0, and samplers that step along them.

With beta the rate of the forward process dx = -1/2 beta x dt + sqrt(beta) dw and s = gradient of log q(x_t), time running down:

    dx = [-1/2 beta x - (1 + lambda^2)/2 beta s] dt + lambda sqrt(beta) dw                         (book, eq. 13.10)

lambda = 1 is Anderson's reverse-time equation, lambda = 0 the probability-flow ODE. Two steps from t down to s, with
a = sqrt(alpha_bar), b = sqrt(1 - alpha_bar), B = log(alpha_bar_s / alpha_bar_t) (the rate, integrated) and
e^(-h) = (b_s / a_s) / (b_t / a_t):

    Euler-Maruyama   x + B/2 x - (1 + lambda^2)/2 B eps_hat / b_t + lambda sqrt(B) z               (book, eq. 13.15)
    exponential      b_s/b_t e^(-lambda^2 h) x + a_s (1 - e^(-(1 + lambda^2) h)) x0_hat
                     + b_s sqrt(1 - e^(-2 lambda^2 h)) z                                           (book, eq. 13.14)

The exponential one solves the equation exactly if x0_hat stays as it is: DDIM for lambda = 0, DDPM for lambda = 1.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from diffnotes.process.arguments import FloatLike, IntLike, Labels, check_images, choice, integer, number
from diffnotes.process.forward import Images, Times, check_step
from diffnotes.process.losses import Denoiser
from diffnotes.process.parameterize import score_from_eps
from diffnotes.process.samplers import (
    Frame,
    Noise,
    TimeList,
    check_sampling,
    fresh_noise,
    in_shares,
    predict,
    times_visited,
)
from diffnotes.process.schedules import Schedule, check_schedule, per_image
from diffnotes.process.solvers import noise_level

STEPS = ("exponential", "euler-maruyama")
MOST_CORRECTIONS = 1000  # at a time; more is a mistake


def exponential_step(
    schedule: Schedule, x0_hat: Images, x_t: Images, t: Times, s: Times | None, noise: Images, lam: FloatLike = 1.0
) -> Images:
    """The step of the reverse equation with this lambda, exact where x0_hat stays as it is (book, eq. 13.14): lam = 0 is DDIM,
    lam = 1 DDPM with the variance beta-tilde. The step to s = 0 returns x0_hat."""
    check_images(x0_hat=x0_hat, x_t=x_t, noise=noise)
    lam = _lambda(lam)
    t, s = check_step(schedule, t, s)
    a, b, level = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt(), noise_level(schedule)
    shrink = level[s] / level[t]  # e^(-h), 0 for the step to s = 0
    return (
        per_image(b[s] / b[t] * shrink**lam**2, x_t) * x_t
        + per_image(a[s] * (1 - shrink ** (1 + lam**2)), x_t) * x0_hat
        + per_image(b[s] * (1 - shrink ** (2 * lam**2)).sqrt(), x_t) * noise
    )


def euler_maruyama_step(
    schedule: Schedule, eps_hat: Images, x_t: Images, t: Times, s: Times | None, noise: Images, lam: FloatLike = 1.0
) -> Images:
    """Euler-Maruyama's step of the reverse equation in t, with the rate integrated over the step (book, eq. 13.15): lam = 0 is
    Euler's step of the probability-flow ODE. ValueError where alpha_bar_t = 0, for the rate has no finite integral there."""
    check_images(eps_hat=eps_hat, x_t=x_t, noise=noise)
    lam = _lambda(lam)
    t, s = check_step(schedule, t, s)
    abar = schedule.alpha_bar
    if not bool((abar[t] > 0).all()):
        raise ValueError(f"t must be a time where alpha_bar_t > 0 for Euler-Maruyama's step, got {t.tolist()}")
    B = (abar[s] / abar[t]).log()
    score = -eps_hat / per_image((1 - abar[t]).sqrt(), x_t)
    drift = per_image(B / 2, x_t) * (x_t + (1 + lam**2) * score)
    return x_t + drift + per_image(lam * B.sqrt(), x_t) * noise


def reverse_sde_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "uniform",
    start: IntLike | None = None,
    times: TimeList | None = None,
    lam: FloatLike = 1.0,
    step: str = "exponential",
    corrector: IntLike = 0,
    snr: FloatLike = 0.16,
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Sampling along the reverse equation with this lambda, from x_T in `steps` steps: yields steps + 1 Frames, the last one at
    t = 0 (book, eq. 13.10; Song et al. 2021, section 3; Zhang and Chen 2023 for lambda).

    step: "exponential" or "euler-maruyama" (see above); the one that ends at 0 adds no noise. corrector: so many Langevin steps
    at every new time but 0, with a call of the model each (see corrector_step); the calls are steps + corrector (steps - 1).
    steps, spacing, start, times, clip, y, generator: as in samplers.py."""
    tau = times_visited(schedule, steps, spacing, start, times)
    lam, step = _lambda(lam), choice("step", step, STEPS)
    corrections, snr = integer("corrector", corrector, 0, MOST_CORRECTIONS), _snr(snr)
    if step == "euler-maruyama" and schedule.alpha_bar[tau[-1]] == 0:
        raise ValueError(f"times must begin where alpha_bar_t > 0 for Euler-Maruyama's steps, got t = {tau[-1]}")
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T)) if lam > 0 or corrections > 0 else None

    def loop(x_t: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
            with torch.no_grad():
                frame = Frame(t, x_t, *predict(model, schedule, x_t, t, y, clip))
                fresh = fresh_noise(noise if s > 0 and lam > 0 else None, x_t)
                if step == "exponential":
                    x_t = exponential_step(schedule, frame.x0_hat, x_t, t, s, fresh, lam)
                else:
                    x_t = euler_maruyama_step(schedule, frame.eps_hat, x_t, t, s, fresh, lam)
                for _ in range(corrections if s > 0 else 0):
                    _, eps_hat = predict(model, schedule, x_t, s, y, clip)
                    x_t = corrector_step(schedule, eps_hat, x_t, s, fresh_noise(noise, x_t), snr)
            yield frame
        yield Frame(0, x_t, x_t, torch.zeros_like(x_t))

    return in_shares(model, x_T, y, noise, loop)


def corrector_step(
    schedule: Schedule, eps_hat: Images, x_t: Images, t: IntLike, noise: Images, snr: FloatLike = 0.16
) -> Images:
    """A Langevin step at the time t, which leaves q(x_t) where it is up to its bias (book, eq. 13.3; Song et al. 2021,
    algorithm 5): tau = 2 alpha_t (snr ||noise|| / ||score||)^2. The norms are those of each image; score_sde takes their means
    over the batch, so that there an image's step depends on the others. As tau depends on the state and on its noise, the
    walk keeps not quite q: of the variance a share of about 4/d, with d coordinates, is too much."""
    check_images(eps_hat=eps_hat, x_t=x_t, noise=noise)
    check_schedule(schedule)
    t, snr = integer("t", t, 1, schedule.T, "T = "), _snr(snr)
    score = score_from_eps(schedule, eps_hat, t)
    norms = [_norm(x).clamp(min=1e-30) for x in (noise, score)]
    tau = 2 * float(schedule.alpha[t]) * (snr * norms[0] / norms[1]).square()
    return x_t + per_image(tau, x_t) * score + per_image((2 * tau).sqrt(), x_t) * noise


def _norm(x: Images) -> Tensor:
    return x.double().flatten(1).norm(dim=1) if x.ndim > 1 else x.double().abs()


def _snr(snr: object) -> float:
    return number("snr", snr, "be a positive number", lambda v: 0 < v < math.inf)


def _lambda(lam: object) -> float:
    return number("lam", lam, "be a finite number >= 0", lambda v: 0 <= v < math.inf)
