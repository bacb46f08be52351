"""From noise to images: DDPM (ancestral sampling) and DDIM, one step each, and the loops around them.

A loop is a generator. It yields a Frame for every time it visits, from t = T down to t = 0, and the caller decides
about progress bars, pictures and stopping. (Where the cores share out a batch, they are one step ahead of the caller.) The
times are a sub-sequence 0 = tau_0 < ... < tau_S = T of the schedule's:

    steps, spacing   S of them, evenly spaced or denser near the data (Schedule.subsequence)
    start            the same from tau_S = start down, from an x_T that is the state at that time, such as
                     q_sample(schedule, image, start, eps) for SDEdit (Meng et al. 2022)
    times            a list of one's own, strictly falling: the times at which the model is evaluated. The last step always
                     leads to 0, which the list may leave out

    DDPM   a draw from the model's own Gaussian, its mean the posterior's at x0_hat          (book, eq. 7.1 and 7.6)
    DDIM   x0_hat, the noise that is already there, and as much fresh noise as eta says      (book, eq. 8.7)
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    Labels,
    as_int,
    as_labels,
    check_batch,
    check_images,
    choice,
    flag,
    integer,
    integers,
    number,
    shown,
)
from diffnotes.process.forward import Images, Times, check_step, q_posterior
from diffnotes.process.losses import Denoiser, check_denoiser
from diffnotes.process.parallel import batch_slices, iterate_in_parallel, predict_in_parallel
from diffnotes.process.parameterize import ZERO_SNR, eps_from_x0, x0_and_eps
from diffnotes.process.schedules import Schedule, check_schedule, check_spacing, check_t, per_image

TimeList = Integer[Tensor, "times"] | Integer[np.ndarray, "times"] | Sequence[IntLike]
VARIANCES = ("beta", "beta_tilde")
LARGEST = 2**31  # numbers in a batch of noise: 8 GiB


@dataclass(frozen=True)
class Frame:
    """A sampler's state at time t: x_t, and how the model splits it into image and noise. At t = 0 all is image."""

    t: int
    x_t: Images
    x0_hat: Images
    eps_hat: Images


Step = Callable[[Frame, int, Frame | None], Images]  # the frame at t, the time s it goes to, the frame before


class Noise:
    """Standard normal noise for a batch: from a torch.Generator; or, given an integer seed, from one stream for each
    image, so that image i gets the same noise whatever the size of the batch; or, given None, from torch's own state."""

    def __init__(self, generator: torch.Generator | IntLike | None, batch: int) -> None:
        seed = as_int(generator)
        if seed is not None:
            integer("generator", seed, 0)
            self.streams = [_stream("steps", seed, i) for i in range(batch)]
        elif generator is None or isinstance(generator, torch.Generator):
            self.generator = generator
        else:
            raise ValueError(
                f"generator must be a torch.Generator, an integer seed or None, got {type(generator).__name__}"
            )

    @property
    def by_image(self) -> bool:
        """Whether each image has a stream of its own."""
        return hasattr(self, "streams")

    def of(self, images: slice) -> "Noise":
        """The noise of these images, each of which has a stream of its own."""
        part = copy.copy(self)
        part.streams = self.streams[images]
        return part

    def like(self, x: Tensor) -> Tensor:
        """Fresh noise of x's shape, dtype and device."""
        if self.by_image:
            noise = [torch.randn(x.shape[1:], generator=g, dtype=x.dtype) for g in self.streams]
            return torch.stack(noise).to(x.device) if noise else torch.empty_like(x)
        device = self.generator.device if self.generator is not None else x.device
        return torch.randn(x.shape, generator=self.generator, dtype=x.dtype, device=device).to(x.device)


Loop = Callable[[Images, Labels | None, Noise | None], Iterator[Frame]]


def initial_noise(
    seed: IntLike, batch: IntLike, shape: Sequence[IntLike] | Integer[np.ndarray, "axes"] = (1, 28, 28)
) -> Float[Tensor, "batch *dims"]:
    """x_T ~ N(0, I), float32, (batch, *shape): image i depends on the seed and on i only, not on the batch. The noise of
    the steps is other noise, also where a sampler is given the same seed."""
    seed, batch, axes = integer("seed", seed, 0), integer("batch", batch, 0), integers("shape", shape)
    sizes = [batch, *axes.flatten().tolist()]
    if axes.ndim != 1 or min(sizes) < 0 or math.prod(max(size, 1) for size in sizes) > LARGEST:
        raise ValueError(
            f"batch and shape must be sizes >= 0 of at most {LARGEST:,} numbers in all, got {batch} and {shown(shape)}"
        )
    noise = [torch.randn(axes.tolist(), generator=_stream("start", seed, i)) for i in range(batch)]
    return torch.stack(noise) if noise else torch.empty(0, *axes.tolist())


def _stream(purpose: str, seed: int, i: int) -> torch.Generator:
    """The random numbers of image i, for one purpose and one seed: unrelated to those of any other."""
    words = np.random.SeedSequence([*purpose.encode(), seed, i]).generate_state(2)
    return torch.Generator().manual_seed(int(words[0]) << 32 | int(words[1]))


# -- one step -----------------------------------------------------------------------------------------------------------


def ddpm_step(
    schedule: Schedule,
    x0_hat: Images,
    x_t: Images,
    t: Times,
    s: Times | None,
    noise: Images,
    variance: str = "beta_tilde",
) -> Images:
    """Ancestral step from t to s (s = t - 1 if None): a draw from N(posterior mean at x0_hat, sigma^2 I).

    For s = t - 1 it is x_{t-1} = (x_t - beta_t / sqrt(1 - alpha_bar_t) eps_hat) / sqrt(alpha_t) + sigma_t noise
    (book, eq. 7.1; Ho et al. 2020, algorithm 2); for a longer stride, alpha' and beta' stand in the place of alpha_t
    and beta_t (book, eq. 7.6). sigma^2 is beta' = 1 - alpha_bar_t / alpha_bar_s ("beta") or the posterior's own
    variance ("beta_tilde") (book, eq. 7.2; Ho et al. 2020, section 3.2). The step that ends at s = 0 adds no noise."""
    choice("variance", variance, VARIANCES)
    check_images(x0_hat=x0_hat, x_t=x_t, noise=noise)
    mean, beta_tilde = q_posterior(schedule, x0_hat, x_t, t, s)
    if variance == "beta_tilde":
        return mean + beta_tilde.sqrt() * noise
    t, s = check_step(schedule, t, s)
    beta = torch.where(s == 0, 0.0, 1 - schedule.alpha_bar[t] / schedule.alpha_bar[s])
    return mean + per_image(beta.sqrt(), x_t) * noise


def ddim_sigma(schedule: Schedule, t: Times, s: Times | None = None, eta: FloatLike = 1.0) -> Tensor:
    """sigma(eta) = eta sqrt((1 - alpha_bar_s) / (1 - alpha_bar_t)) sqrt(1 - alpha_bar_t / alpha_bar_s)
    (book, eq. 8.7; Song, Meng and Ermon 2021, eq. 16, whose alpha is our alpha_bar), float64, for the step from t to s.

    eta = 0 is deterministic, eta = 1 gives DDPM with beta-tilde (book, eq. 8.8). ValueError if eta is so large that
    sigma^2 > 1 - alpha_bar_s: no such process exists (book, eq. 8.9)."""
    t, s = check_step(schedule, t, s)
    abar_t, abar_s = schedule.alpha_bar[t], schedule.alpha_bar[s]
    eta = number("eta", eta, "be >= 0", lambda eta: 0 <= eta < math.inf)
    sigma = eta * ((1 - abar_s) / (1 - abar_t)).sqrt() * (1 - abar_t / abar_s).sqrt()
    bound = ((1 - abar_t) / (1 - abar_t / abar_s)).sqrt().where(s > 0, torch.inf)  # the step to s = 0 admits every eta
    if bool((eta > bound * (1 + 1e-12)).any()):
        start, end, bound = (value.flatten() for value in torch.broadcast_tensors(*check_step(schedule, t, s), bound))
        step = int(bound.argmin())
        largest = f"{bound[step].item():.4f} for the step from t = {int(start[step])} to s = {int(end[step])}"
        raise ValueError(f"eta must be at most {largest}, where sigma^2 reaches 1 - alpha_bar_s; got {eta}")
    return sigma


def ddim_step(
    schedule: Schedule, x0_hat: Images, eps_hat: Images, t: Times, s: Times | None, noise: Images, eta: FloatLike = 0.0
) -> Images:
    """x_s = sqrt(alpha_bar_s) x0_hat + sqrt(1 - alpha_bar_s - sigma^2) eps_hat + sigma noise,  sigma = sigma(eta)
    (book, eq. 8.7; Song, Meng and Ermon 2021, eq. 12)."""
    check_images(x0_hat=x0_hat, eps_hat=eps_hat, noise=noise)
    sigma = ddim_sigma(schedule, t, s, eta)
    t, s = check_step(schedule, t, s)
    abar_s = schedule.alpha_bar[s]
    direction = (1 - abar_s - sigma**2).clamp(min=0).sqrt()
    return (
        per_image(abar_s.sqrt(), x0_hat) * x0_hat
        + per_image(direction, x0_hat) * eps_hat
        + per_image(sigma, x0_hat) * noise
    )


# -- the loops ----------------------------------------------------------------------------------------------------------


def predict(
    model: Denoiser, schedule: Schedule, x_t: Images, t: IntLike, y: Labels | None = None, clip: bool = False
) -> tuple[Images, Images]:
    """(x0_hat, eps_hat) of a model at one time t for the whole batch (book, eq. 7.5).

    With clip, x0_hat is cut to [-1, 1] and eps_hat is computed anew from it, so that the two still make up x_t
    (book, eq. 7.7)."""
    check_denoiser(model)
    check_schedule(schedule)
    check_images(x_t=x_t)
    t, clip = integer("t", t, 1, schedule.T, "T = "), flag("clip", clip)
    times = torch.full((len(x_t),), t, device=x_t.device)
    output = predict_in_parallel(model, x_t, times, y).to(x_t.dtype)
    x0_hat, eps_hat = x0_and_eps(schedule, model.target, output, x_t, t)
    if clip:
        x0_hat = x0_hat.clamp(-1, 1)
        eps_hat = eps_from_x0(schedule, x0_hat, x_t, t)
    return x0_hat, eps_hat


def ddpm_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "uniform",
    start: IntLike | None = None,
    times: TimeList | None = None,
    variance: str = "beta_tilde",
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DDPM sampling from x_T in `steps` steps (one for every time if None): yields steps + 1 Frames, the last one at t = 0
    (book, eq. 7.6).

    variance: "beta" or "beta_tilde" (see ddpm_step); steps, spacing, start, times: see above; generator: see Noise."""
    choice("variance", variance, VARIANCES)
    tau = times_visited(schedule, steps, spacing, start, times)
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T))

    def loop(x_T: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        def step(frame: Frame, s: int, before: Frame | None) -> Images:
            return ddpm_step(schedule, frame.x0_hat, frame.x_t, frame.t, s, fresh_noise(noise, frame.x_t), variance)

        return step_by_step(model, schedule, x_T, tau, step, clip, y)

    return in_shares(model, x_T, y, noise, loop)


def ddim_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "uniform",
    start: IntLike | None = None,
    times: TimeList | None = None,
    eta: FloatLike = 0.0,
    clip: bool = False,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DDIM sampling from x_T in `steps` steps (one for every time if None): yields steps + 1 Frames, the last one at t = 0
    (book, eq. 8.7).

    eta = 0: x_T alone decides the image. eta = 1: DDPM with beta-tilde. Larger eta while it is admissible (ddim_sigma).
    steps, spacing, start, times: see above; generator: see Noise."""
    tau = times_visited(schedule, steps, spacing, start, times)
    eta = number("eta", eta, "be >= 0", lambda eta: 0 <= eta < math.inf)
    ddim_sigma(schedule, torch.tensor(tau[1:]), torch.tensor(tau[:-1]), eta)  # an inadmissible eta is refused here
    y = check_sampling(model, schedule, tau, clip, y, x_T=x_T)
    noise = Noise(generator, len(x_T))

    def loop(x_T: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        def step(frame: Frame, s: int, before: Frame | None) -> Images:
            return ddim_step(schedule, frame.x0_hat, frame.eps_hat, frame.t, s, fresh_noise(noise, frame.x_t), eta)

        return step_by_step(model, schedule, x_T, tau, step, clip, y)

    return in_shares(model, x_T, y, noise if eta > 0 else None, loop)


def times_visited(
    schedule: Schedule, steps: IntLike | None, spacing: str, start: IntLike | None, times: TimeList | None
) -> list[int]:
    """0 = tau_0 < ... < tau_S: the sub-sequence asked for, or the caller's own times from the last to the first."""
    check_schedule(schedule)
    if times is None:
        most = schedule.T if start is None else integer("start", start, 1, schedule.T, "T = ")
        return schedule.subsequence(most if steps is None else steps, spacing, start).tolist()
    if steps is not None or start is not None or check_spacing(spacing) != "uniform":
        raise ValueError(
            "times is the whole list of times: give no steps, spacing or start with it, "
            f"got steps = {shown(steps)}, spacing = {shown(spacing)}, start = {shown(start)}"
        )
    given = check_t(schedule, integers("times", times), lowest=0, name="times")
    falling = given.tolist() if given.ndim == 1 else []
    falling += [0] if falling and falling[-1] > 0 else []
    if len(falling) < 2 or any(t <= s for t, s in pairwise(falling)):
        raise ValueError(f"times must fall strictly, from the first time (1..T) to the last, got {shown(times)}")
    return falling[::-1]


def check_sampling(
    model: Denoiser, schedule: Schedule, tau: list[int], clip: bool, y: Labels | None, **batch: Tensor
) -> Integer[Tensor, "batch"] | None:
    """What all loops ask of their arguments; returns the labels as a tensor."""
    check_denoiser(model)
    check_batch(model, **batch)
    flag("clip", clip)
    if model.target == "eps" and schedule.alpha_bar[tau[-1]] == 0:
        raise ValueError(ZERO_SNR)
    return as_labels(y, *batch.values())


def fresh_noise(noise: Noise | None, x: Images) -> Images:
    """Noise of x's shape; zeros where a sampler is deterministic."""
    return torch.zeros_like(x) if noise is None else noise.like(x)


def step_by_step(
    model: Denoiser, schedule: Schedule, x_T: Images, tau: list[int], step: Step, clip: bool, y: Labels | None
) -> Iterator[Frame]:
    """From tau_S down to tau_0 = 0, one call of the model a step: x_s = step(frame at t, s, frame before it)."""
    x_t, before = x_T, None
    for t, s in zip(tau[:0:-1], tau[-2::-1], strict=True):
        with torch.no_grad():
            frame = Frame(t, x_t, *predict(model, schedule, x_t, t, y, clip))
            x_t = step(frame, s, before)
        yield frame
        before = frame
    yield Frame(0, x_t, x_t, torch.zeros_like(x_t))


def in_shares(
    model: Denoiser, x_T: Images, y: Integer[Tensor, "batch"] | None, noise: Noise | None, loop: Loop
) -> Iterator[Frame]:
    """loop(x_T, y, noise); where every image can go its way without the others, a loop for each core, with its share of
    them."""
    shares = batch_slices(model, x_T) if noise is None or noise.by_image else []
    if len(shares) < 2:
        return loop(x_T, y, noise)
    loops = [loop(x_T[images], None if y is None else y[images], noise and noise.of(images)) for images in shares]
    return (_concatenated(frames) for frames in iterate_in_parallel(loops))


def _concatenated(frames: list[Frame]) -> Frame:
    """The frame of the whole batch."""
    halves = zip(*((frame.x_t, frame.x0_hat, frame.eps_hat) for frame in frames), strict=True)
    return Frame(frames[0].t, *map(torch.cat, halves))


def ddim_invert(
    model: Denoiser,
    schedule: Schedule,
    x_0: Images,
    *,
    steps: IntLike | None = None,
    spacing: str = "uniform",
    start: IntLike | None = None,
    times: TimeList | None = None,
    refine: IntLike = 0,
    y: Labels | None = None,
) -> Iterator[Frame]:
    """DDIM inversion: from an image x_0 up to the x_T that (almost) leads to it. Yields Frames from t = 0 to t = T.

    steps, spacing, start and times name a sampler's way down, and the inversion goes the same way up: ddim_sample with the
    same arguments, from the last Frame's x_t, undoes it. So with start = t it ends at t, and times fall here too.

    One step is x_t / sqrt(alpha_bar_t) = x_s / sqrt(alpha_bar_s) + (change of the noise level) eps_hat (book, eq. 8.11).

    A downward step from t uses eps_hat at (x_t, t), which on the way up is not known yet. So the step up uses the eps_hat
    at x_s; then `refine` times it evaluates eps_hat anew at the x_t it has reached (a fixed-point iteration for the exact
    inverse). The error of the round trip falls with more steps, and with refine."""
    refine = integer("refine", refine, 0)
    tau = times_visited(schedule, steps, spacing, start, times)
    return _invert(model, schedule, x_0, tau, refine, check_sampling(model, schedule, tau, False, y, x_0=x_0))


def _invert(model, schedule, x_0, tau, refine, y) -> Iterator[Frame]:  # type: ignore[no-untyped-def]
    x_s = x_0
    yield Frame(0, x_0, x_0, torch.zeros_like(x_0))
    for s, t in zip(tau[:-1], tau[1:], strict=True):
        abar_s, abar_t = schedule.alpha_bar[s], schedule.alpha_bar[t]
        with torch.no_grad():
            x0_hat, eps_hat = predict(model, schedule, x_s, max(s, 1), y)
            for iteration in range(refine + 1):
                # x_s = sqrt(abar_s) x0_hat + sqrt(1 - abar_s) eps_hat, solved for x0_hat, and carried to time t
                x0_s = (x_s - per_image((1 - abar_s).sqrt(), x_s) * eps_hat) / per_image(abar_s.sqrt(), x_s)
                x_t = per_image(abar_t.sqrt(), x_s) * x0_s + per_image((1 - abar_t).sqrt(), x_s) * eps_hat
                if iteration < refine:
                    _, eps_hat = predict(model, schedule, x_t, t, y)
            x0_hat, eps_hat = predict(model, schedule, x_t, t, y)
        x_s = x_t
        yield Frame(t, x_t, x0_hat, eps_hat)
