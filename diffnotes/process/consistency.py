"""One step, or a few: sampling with a model whose x0_hat is meant as a sample, not as a mean.

A consistency function f(x_t, t) leads every point of a curve of the probability-flow ODE to the end of that curve, so one call
draws a sample (book, eq. 14.14; Song et al. 2023). Its training is an objective: training/objectives/consistency.py.
"""

from collections.abc import Iterator

import torch

from diffnotes.process.arguments import IntLike, Labels
from diffnotes.process.forward import Images, q_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import (
    Frame,
    Noise,
    TimeList,
    check_sampling,
    fresh_noise,
    in_shares,
    step_by_step,
    times_visited,
)
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import karras_times


def consistency_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    times: TimeList | None = None,
    y: Labels | None = None,
    clip: bool = False,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Predict the image, add fresh noise to it, predict again: one call of the model for each of the falling `times`, and a
    Frame for each; the last Frame, at t = 0, is the last prediction (Song et al. 2023, algorithm 1).

        x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s) z,    z new for every time s

    x_T is the state at the first time. Without `times` there is one call, where the noise level is 80 (karras_times: t = 992
    of the cosine schedule with T = 1000). Noise is added between two calls and never after the last. Any denoiser will do: the
    first x0_hat of one that was trained to denoise is a mean, and the calls after it make a sample of it. clip, generator: as in
    samplers.py."""
    given = karras_times(schedule, 1) if times is None else times
    tau = times_visited(schedule, None, "uniform", None, given)
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T))

    def loop(x_T: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        def step(frame: Frame, s: int, before: Frame | None) -> Images:
            return q_sample(schedule, frame.x0_hat, s, fresh_noise(noise if s > 0 else None, frame.x_t))

        return step_by_step(model, schedule, x_T, tau, step, clip, y)

    return in_shares(model, x_T, y, noise if len(tau) > 2 else None, loop)
