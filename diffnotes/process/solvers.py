"""Fewer steps: solvers of second order for the ordinary and the stochastic differential equation of sampling.

With a_t = sqrt(alpha_bar_t) and b_t = sqrt(1 - alpha_bar_t), the noise level is varsigma_t = b_t / a_t (sigma in Karras et al.
2022) and lambda_t = log(a_t / b_t) half the log-SNR. A step goes from t down to s, h = lambda_s - lambda_t > 0:

    DPM-Solver++   x_s = b_s/b_t e^(-eta h) x_t + a_s (1 - e^(-(1 + eta) h)) D + b_s sqrt(1 - e^(-2 eta h)) z
                   order 1: D = x0_hat at t;  order 2: D continues the line through the last two     (book, eq. 14.5 and 14.12)
    Heun           two slopes of x / a against varsigma, at the start and at the end of the step      (book, eq. 14.6)

eta = 0 is deterministic and eta = 1 stochastic; order 1 with eta = 0 is DDIM, with eta = 1 DDPM. What a sampler costs is the
number of calls of the network: one for each step of DPM-Solver++, two for each of Heun's but the last.
"""

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    Labels,
    check_images,
    choice,
    integer,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times, check_step
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import (
    Frame,
    Noise,
    TimeList,
    check_sampling,
    fresh_noise,
    in_shares,
    predict,
    step_by_step,
    times_visited,
)
from diffnotes.process.schedules import SPACINGS, Schedule, Table, check_schedule, check_t, per_image

HIGHEST, LOWEST = 80.0, 0.02  # noise levels between which the calls are placed
MOST_CHURN = math.sqrt(2) - 1  # then the new noise has the variance of the old (book, eq. 14.11)


# -- the times ----------------------------------------------------------------------------------------------------------


def noise_level(schedule: Schedule) -> Table:
    """varsigma_t = sqrt(1 - alpha_bar_t) / sqrt(alpha_bar_t) for t = 0..T: 0 at t = 0, infinite where alpha_bar_t = 0."""
    check_schedule(schedule)
    return ((1 - schedule.alpha_bar) / schedule.alpha_bar).sqrt()


def half_log_snr(schedule: Schedule) -> Table:
    """lambda_t = log(sqrt(alpha_bar_t) / sqrt(1 - alpha_bar_t)) for t = 0..T: infinite at t = 0."""
    check_schedule(schedule)
    return schedule.log_snr / 2


def karras_times(
    schedule: Schedule,
    steps: IntLike,
    *,
    rho: FloatLike = 7.0,
    highest: FloatLike = HIGHEST,
    lowest: FloatLike = LOWEST,
    start: IntLike | None = None,
) -> Int[Tensor, "steps_plus_1"]:
    """Falling times t_0 > ... > t_{S-1} > t_S = 0 whose noise levels are those of Karras et al. (2022, eq. 5; book, eq. 14.8):
    varsigma^(1/rho) evenly spaced from `highest` to `lowest`. rho = 1: even in varsigma; rho = math.inf: even in lambda.

    Each level is rounded once, to the nearest time of the schedule in lambda, and times that would coincide are moved apart. A
    schedule that does not reach `highest` begins at T. With `start` the first time is that one, and the levels of the others
    begin there or, if that is lower, at `highest`. ValueError where so many different times do not lie between the two levels."""
    levels = noise_level(schedule)
    S = integer("steps", steps, 1, schedule.T, "T = ")
    rho = number("rho", rho, "be a number >= 1, or math.inf", lambda v: v >= 1)
    highest = number("highest", highest, "be a positive number", lambda v: 0 < v < math.inf)
    lowest = number("lowest", lowest, f"be a positive number below highest = {highest:g}", lambda v: 0 < v < highest)
    first, last, top, bottom = _ends(levels, highest, lowest, start)
    if S > first - last + 1:
        raise ValueError(
            f"steps must be at most {first - last + 1}, the number of times from t = {first} down to t = {last}, where the "
            f"noise level is {levels[last]:.3g}, got {S}"
        )

    share = torch.arange(S, dtype=torch.float64) / max(1, S - 1)
    if rho > 1e6:  # the limit of the other line, which loses its digits there
        wanted = top * (bottom / top) ** share
    else:
        wanted = (top ** (1 / rho) + share * (bottom ** (1 / rho) - top ** (1 / rho))) ** rho
    times = _nearest(levels, wanted).tolist()
    times[0] = first
    for i in range(1, S):
        times[i] = min(times[i], times[i - 1] - 1)
    times[-1] = max(times[-1], last)
    for i in range(S - 2, -1, -1):
        times[i] = max(times[i], times[i + 1] + 1)
    return torch.tensor([*times, 0])


def most_karras_steps(schedule: Schedule, start: IntLike | None = None) -> int:
    """How many times karras_times has to choose from: those from `start`, or the noise level 80, down to the level 0.02."""
    first, last, _, _ = _ends(noise_level(schedule), HIGHEST, LOWEST, start)
    return first - last + 1


def _ends(levels: Table, highest: float, lowest: float, start: IntLike | None) -> tuple[int, int, float, float]:
    """The first time and the last before 0, and the levels between which the grid is drawn."""
    usual = int(_nearest(levels, torch.tensor([highest], dtype=torch.float64)))
    first = usual if start is None else integer("start", start, 1, len(levels) - 1, "T = ")
    top = float(levels[min(first, usual)])
    bottom = min(lowest, top)
    return first, int(_nearest(levels, torch.tensor([bottom], dtype=torch.float64))), top, bottom


def _nearest(levels: Table, wanted: Float[Tensor, "S"]) -> Int[Tensor, "S"]:
    """The times 1..T whose levels lie nearest to those wanted, on a logarithmic axis."""
    logarithms = levels[1:].log()
    return 1 + torch.searchsorted((logarithms[1:] + logarithms[:-1]) / 2, wanted.log())


def _solver_times(
    schedule: Schedule, steps: IntLike | None, spacing: str, start: IntLike | None, times: TimeList | None
) -> list[int]:
    """0 = tau_0 < ... < tau_S, as times_visited gives them; spacing "karras" is one more, and the usual one here."""
    choice("spacing", spacing, ("karras", *SPACINGS))
    if times is not None:
        return times_visited(schedule, steps, "uniform" if spacing == "karras" else spacing, start, times)
    if steps is None:
        raise ValueError("steps must be given, or a list of times, got neither")
    if spacing == "karras":
        return karras_times(schedule, steps, start=start).tolist()[::-1]
    return times_visited(schedule, steps, spacing, start, None)


# -- DPM-Solver++ -------------------------------------------------------------------------------------------------------


def dpm_solver_step(
    schedule: Schedule,
    x0_hat: Images,
    x_t: Images,
    t: Times,
    s: Times,
    noise: Images,
    eta: FloatLike = 0,
    before: tuple[Images, Times] | None = None,
) -> Images:
    """One step of DPM-Solver++ from t to s (book, eq. 14.12; Lu et al. 2022b, algorithm 2 and its stochastic form).

    before = (x0_hat at t', t'), the prediction of the step before, t' > t: then it is of second order, 2M (book, eq. 14.5),
    and without it, or where s = 0, of first. eta = 0: deterministic, and of first order DDIM (book, eq. 14.3); eta = 1:
    stochastic, and of first order DDPM with the variance beta-tilde."""
    check_images(x0_hat=x0_hat, x_t=x_t, noise=noise)
    eta = _zero_or_one(eta)
    t, s = check_step(schedule, t, s)
    a, b, level = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt(), noise_level(schedule)
    shrink = level[s] / level[t]  # e^(-h), 0 for the step to s = 0
    D = x0_hat
    if before is not None:
        x0_before, t_before = _check_before(schedule, before, x0_hat, t)
        ratio = (level[t_before] / level[t]).log() / (level[t] / level[s]).log()  # r = h' / h
        share = per_image((0.5 / ratio).where(s > 0, 0.0), x0_hat)
        D = (1 + share) * x0_hat - share * x0_before
    return (
        per_image(b[s] / b[t] * shrink**eta, x_t) * x_t
        + per_image(a[s] * (1 - shrink ** (1 + eta)), x_t) * D
        + per_image(b[s] * (1 - shrink ** (2 * eta)).sqrt(), x_t) * noise
    )


def _check_before(schedule: Schedule, before: object, x0_hat: Images, t: Tensor) -> tuple[Images, Tensor]:
    """The prediction of the step before and its time, which must be a later one than t."""
    if not isinstance(before, tuple) or len(before) != 2:
        raise ValueError(f"before must be (x0_hat, t) of the step before, or None, got {shown(before)}")
    check_images(x0_hat=x0_hat, before=before[0])
    t_before = check_t(schedule, before[1], name="the time in before")
    if not bool((t_before > t).all()):
        raise ValueError(f"before must be of a later time than t = {t.tolist()}, got {t_before.tolist()}")
    return before[0], t_before


def dpm_solver_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "karras",
    start: IntLike | None = None,
    times: TimeList | None = None,
    order: IntLike = 2,
    eta: FloatLike = 0,
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DPM-Solver++ from x_T in `steps` steps, which are as many calls of the model: yields steps + 1 Frames, the last one at
    t = 0 (Lu et al. 2022b).

    order = 2: 2M, with eta = 1 SDE-2M (book, eq. 14.5 and 14.12); order = 1: DDIM, with eta = 1 DDPM. spacing: "karras"
    (karras_times; it begins where the noise level is 80), or "uniform" or "quadratic" as the other samplers have them; start,
    times, generator: as there. For the step to t = 0, and the first one, the order is 1."""
    tau = _solver_times(schedule, steps, spacing, start, times)
    order, eta = integer("order", order, 1, 2), _zero_or_one(eta)
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T))

    def loop(x_T: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        def step(frame: Frame, s: int, before: Frame | None) -> Images:
            earlier = None if before is None or order == 1 else (before.x0_hat, before.t)
            fresh = fresh_noise(noise if s > 0 else None, frame.x_t)
            return dpm_solver_step(schedule, frame.x0_hat, frame.x_t, frame.t, s, fresh, eta, earlier)

        return step_by_step(model, schedule, x_T, tau, step, clip, y)

    return in_shares(model, x_T, y, noise if eta else None, loop)


def _zero_or_one(eta: FloatLike) -> int:
    return int(number("eta", eta, "be 0 (deterministic) or 1 (stochastic)", lambda v: v in (0, 1)))


# -- Heun ---------------------------------------------------------------------------------------------------------------


def heun_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "karras",
    start: IntLike | None = None,
    times: TimeList | None = None,
    churn: FloatLike = 0.0,
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Heun's method in x_t / sqrt(alpha_bar_t) against the noise level, from x_T in `steps` steps: yields steps + 1 Frames, the
    last one at t = 0 (book, eq. 14.6; Karras et al. 2022, algorithms 1 and 2).

    The model is called 2 steps - 1 times: twice a step, once in the last, to t = 0, which is Euler's. churn > 0: before each
    step the noise level is raised by the factor 1 + min(churn / steps, sqrt(2) - 1) with fresh noise (book, eq. 14.11), to the
    highest time of the schedule that does not exceed it, and the Frame shows the state there. spacing, start, times, clip,
    generator: as for dpm_solver_sample."""
    tau = _solver_times(schedule, steps, spacing, start, times)
    churn = number("churn", churn, "be a finite number >= 0", lambda v: 0 <= v < math.inf)
    if schedule.alpha_bar[tau[-1]] == 0:
        raise ValueError(f"times must begin where the noise level is finite, got t = {tau[-1]}, where alpha_bar_t = 0")
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T))

    def loop(x_T: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        return _heun(model, schedule, x_T, tau, churn, clip, y, noise)

    return in_shares(model, x_T, y, noise if churn > 0 else None, loop)


def _heun(model, schedule, x_T, tau, churn, clip, y, noise) -> Iterator[Frame]:  # type: ignore[no-untyped-def]
    a, level = schedule.alpha_bar.sqrt(), noise_level(schedule)
    x_t = x_T
    for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
        with torch.no_grad():
            if noise is not None:
                x_t, t = _churned(schedule, x_t, t, min(churn / (len(tau) - 1), MOST_CHURN), noise)
            frame = Frame(t, x_t, *predict(model, schedule, x_t, t, y, clip))
            x_t = per_image(a[s], x_t) * (frame.x0_hat + per_image(level[s], x_t) * frame.eps_hat)  # Euler's step
            if s > 0:
                _, eps_there = predict(model, schedule, x_t, s, y, clip)
                x_t = x_t + per_image(a[s] * (level[s] - level[t]) / 2, x_t) * (eps_there - frame.eps_hat)
        yield frame
    yield Frame(0, x_t, x_t, torch.zeros_like(x_t))


def _churned(schedule: Schedule, x_t: Images, t: int, gamma: float, noise: Noise) -> tuple[Images, int]:
    """The state with as much fresh noise as leads to the highest time whose level is at most (1 + gamma) times that of t."""
    a, level = schedule.alpha_bar.sqrt(), noise_level(schedule)
    higher = int((level <= (1 + gamma) * level[t]).sum()) - 1
    added = (level[higher] ** 2 - level[t] ** 2).sqrt()
    x_bar = x_t / per_image(a[t], x_t) + per_image(added, x_t) * noise.like(x_t)
    return per_image(a[higher], x_t) * x_bar, higher
