"""The forward process: adding noise, and what is known about the step before.

    q(x_t | x_{t-1}) = N(x_t; sqrt(alpha_t) x_{t-1}, beta_t I)                     (book, eq. 1.1)
    q(x_t | x_0)     = N(x_t; sqrt(alpha_bar_t) x_0, (1 - alpha_bar_t) I)          (book, eq. 1.6)

The noise is an argument everywhere, so that every function here is a formula and nothing else.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from diffnotes.process.arguments import IntLike, check_images
from diffnotes.process.schedules import Schedule, check_t, per_image

Images = Float[Tensor, "batch *dims"]
Times = IntLike | Integer[Tensor, "batch"] | Integer[np.ndarray, "batch"] | Sequence[IntLike]


def q_step(schedule: Schedule, x_prev: Images, t: Times, eps_step: Images) -> Images:
    """One noising step: x_t = sqrt(alpha_t) x_{t-1} + sqrt(beta_t) eps_step (book, eq. 1.1).

    eps_step is the noise of this one step, standard normal, of x_prev's shape; t in 1..T. See `q_sample` for the
    noise accumulated since x_0: the two are different random variables."""
    check_images(x_prev=x_prev, eps_step=eps_step)
    t = check_t(schedule, t)
    beta = schedule.beta[t]
    return per_image((1 - beta).sqrt(), x_prev) * x_prev + per_image(beta.sqrt(), x_prev) * eps_step


def q_sample(schedule: Schedule, x0: Images, t: Times, eps: Images) -> Images:
    """Straight to time t: x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps (book, eq. 1.6; Ho et al. 2020, eq. 4).

    eps is the accumulated noise, standard normal, of x0's shape; t in 0..T, one integer or one for each image."""
    check_images(x0=x0, eps=eps)
    t = check_t(schedule, t, lowest=0)
    abar = schedule.alpha_bar[t]
    return per_image(abar.sqrt(), x0) * x0 + per_image((1 - abar).sqrt(), x0) * eps


def q_posterior(schedule: Schedule, x0: Images, x_t: Images, t: Times, s: Times | None = None) -> tuple[Images, Tensor]:
    """Mean and variance of q(x_s | x_t, x_0), s < t; s = t - 1 unless given (book, eq. 2.7; Ho et al. 2020, eq. 6-7).

    With alpha' = alpha_bar_t / alpha_bar_s and beta' = 1 - alpha' (book, eq. 2.11; for s = t - 1, eq. 2.4 and 2.5):

        mean     = sqrt(alpha') (1 - alpha_bar_s) / (1 - alpha_bar_t) x_t  +  sqrt(alpha_bar_s) beta' / (1 - alpha_bar_t) x_0
        variance = (1 - alpha_bar_s) / (1 - alpha_bar_t) beta'

    The mean has x_t's shape; the variance is the same for every coordinate and is shaped to broadcast against it."""
    check_images(x0=x0, x_t=x_t)
    t, s = check_step(schedule, t, s)
    abar_t, abar_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    alpha = abar_t / abar_s
    beta = torch.where(
        s == t - 1, schedule.beta[t], 1 - alpha
    )  # the table's beta_t where it applies, to the last digit
    coefficient_x_t = alpha.sqrt() * (1 - abar_s) / (1 - abar_t)
    coefficient_x0 = abar_s.sqrt() * beta / (1 - abar_t)
    mean = per_image(coefficient_x_t, x_t) * x_t + per_image(coefficient_x0, x_t) * x0
    return mean, per_image((1 - abar_s) / (1 - abar_t) * beta, x_t)


def check_step(schedule: Schedule, t: Times, s: Times | None) -> tuple[Tensor, Tensor]:
    """The two times of a reverse step as integer tensors: t in 1..T, s in 0..t-1 (s = t - 1 where it is None)."""
    t = check_t(schedule, t)
    s = t - 1 if s is None else check_t(schedule, s, lowest=0, name="s")
    if t.ndim == s.ndim == 1 and len(t) != len(s):
        raise ValueError(f"s must hold as many times as t, got {len(s)} and {len(t)}")
    if not bool((s < t).all()):
        raise ValueError(f"a reverse step goes from t to an earlier time s < t, got t = {t.tolist()}, s = {s.tolist()}")
    return t, s
