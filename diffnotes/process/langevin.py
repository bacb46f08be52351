"""Langevin dynamics: steps along the score, with fresh noise, at one noise level or at a falling sequence of them.

    x  <-  x + tau s(x) + sqrt(2 tau) z,      s = gradient of log q,  z ~ N(0, I)                 (book, eq. 13.3)

tau is the step. (Song and Ermon write alpha = 2 tau: alpha/2 before the score, sqrt(alpha) before the noise.) Annealed, with
the step tau_t = ratio (1 - alpha_bar_t) at the time t, it is a sampler (book, eq. 13.6):

    x  <-  x - ratio b eps_hat + sqrt(2 ratio) b z,      b = sqrt(1 - alpha_bar_t)
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    Labels,
    check_callable,
    check_images,
    flag,
    integer,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import Frame, Noise, TimeList, check_sampling, in_shares, predict, times_visited
from diffnotes.process.schedules import Schedule, check_t, per_image

MOST_STEPS = 1_000_000  # more is a mistake


def langevin_step(x: Images, score: Images, step: FloatLike | Tensor, noise: Images) -> Images:
    """x + step score + sqrt(2 step) noise (book, eq. 13.3); `step` is tau > 0, one number or one for each image."""
    check_images(x=x, score=score, noise=noise)
    tau = step if isinstance(step, Tensor) and step.ndim == 1 else torch.tensor(_step(step), dtype=torch.float64)
    if tau.ndim == 1 and (tau.shape != x.shape[:1] or not tau.is_floating_point() or not bool((tau > 0).all())):
        raise ValueError(f"step must hold a positive number for each of the {len(x)} images, got {shown(step)}")
    return x + per_image(tau, x) * score + per_image((2 * tau).sqrt(), x) * noise


def langevin(
    score: Callable[[Images], Images],
    x: Images,
    *,
    step: FloatLike,
    steps: IntLike,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Images]:
    """Langevin dynamics with the step tau: yields x and the states after each of `steps` steps (book, eq. 13.3).

    score(x) is the gradient of the log-density. With a small step the states become draws of that density, after a time that
    can be very long where it has several modes (book, eq. 13.5); the step leaves a bias of order tau."""
    check_callable("score", score, "score(x)")
    check_images(x=x)
    tau, S, noise = _step(step), integer("steps", steps, 0, MOST_STEPS), Noise(generator, len(x))

    def walk(x: Images) -> Iterator[Images]:
        yield x
        for _ in range(S):
            with torch.no_grad():
                x = langevin_step(x, score(x), tau, noise.like(x))
            yield x

    return walk(x)


def annealed_step(
    schedule: Schedule, eps_hat: Images, x_t: Images, t: Times, noise: Images, ratio: FloatLike
) -> Images:
    """One Langevin step at the time t with tau = ratio (1 - alpha_bar_t): x_t - ratio b eps_hat + sqrt(2 ratio) b noise, where
    b = sqrt(1 - alpha_bar_t) (book, eq. 13.6; Song and Ermon 2019, algorithm 1)."""
    check_images(eps_hat=eps_hat, x_t=x_t, noise=noise)
    ratio, t = _ratio(ratio), check_t(schedule, t)
    b = per_image((1 - schedule.alpha_bar[t]).sqrt(), x_t)
    return x_t - ratio * b * eps_hat + math.sqrt(2 * ratio) * b * noise


def annealed_langevin(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    times: TimeList,
    steps_each: IntLike = 5,
    ratio: FloatLike = 0.3,
    denoise: bool = True,
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Annealed Langevin dynamics from x_T: `steps_each` Langevin steps at each of the falling `times`; yields a Frame for each
    call of the model, and a last one at t = 0 (book, eq. 13.6; Song and Ermon 2019, algorithm 1; 2020).

    Between two times the state is multiplied by sqrt(alpha_bar_s / alpha_bar_t), which leaves it as it is in the units
    x / sqrt(alpha_bar): the noise that is too much has to go in the steps at s. denoise: the last image is x0_hat at the last
    state (Tweedie), one more call; otherwise the state itself. The times may be those of karras_times with rho = math.inf,
    whose noise levels have one ratio. clip, y, generator: as in samplers.py."""
    tau = times_visited(schedule, None, "uniform", None, times)
    each, ratio, denoise = integer("steps_each", steps_each, 1, MOST_STEPS), _ratio(ratio), flag("denoise", denoise)
    if schedule.alpha_bar[tau[-1]] == 0:
        raise ValueError(f"times must begin where alpha_bar_t > 0, got t = {tau[-1]}, where x_t is all noise")
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)

    def loop(x_t: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        assert noise is not None
        for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
            for _ in range(each):
                with torch.no_grad():
                    frame = Frame(t, x_t, *predict(model, schedule, x_t, t, y, clip))
                    x_t = annealed_step(schedule, frame.eps_hat, x_t, t, noise.like(x_t), ratio)
                yield frame
            if s > 0:
                x_t = per_image((schedule.alpha_bar[s] / schedule.alpha_bar[t]).sqrt(), x_t) * x_t
        last = x_t / per_image(schedule.alpha_bar[tau[1]].sqrt(), x_t)
        if denoise:
            with torch.no_grad():
                frame = Frame(tau[1], x_t, *predict(model, schedule, x_t, tau[1], y, clip))
            yield frame
            last = frame.x0_hat
        yield Frame(0, last, last, torch.zeros_like(last))

    return in_shares(model, x_T, y, Noise(generator, len(x_T)), loop)


def _step(step: object) -> float:
    return number("step", step, "be a positive number", lambda v: 0 < v < math.inf)


def _ratio(ratio: object) -> float:
    return number("ratio", ratio, "be a positive number below 2, or the walk grows without end", lambda v: 0 < v < 2)
