"""Inverse problems and editing: samplers that are given a measurement of the image, with a denoiser that was trained without it.

    y = A x_0 + sigma_y n,   n ~ N(0, I),   A a matrix (m, d)                                  (book, eq. 22.1)

What each sampler does with y, in the order of what it makes use of:

    repaint_sample     puts the seen pixels, noised, into every state; goes back and forth      (book, eq. 22.3 and 22.4)
    nullspace_sample   x0_hat <- A^+ y + (I - A^+ A) x0_hat                                     (book, eq. 22.10)
    guided_sample      x0_hat <- x0_hat + C A^T (A C A^T + sigma_y^2 I)^{-1} (y - A x0_hat)     (book, eq. 22.7 and 22.8)
    dps_sample         a gradient step on |y - A x0_hat| after each step                        (Chung et al. 2023)
    edit_sample        starts in the middle, from an image of the user's, noised                (book, eq. 22.11)

They yield Frames as the samplers of samplers.py do; x0_hat is the prediction after its correction. The exact answer for data
that are a mixture of Gaussians, or a finite set of images, is posterior_mixture.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from diffnotes.process.arguments import (
    FloatLike,
    IntLike,
    Labels,
    as_labels,
    check_floats,
    check_images,
    flatten_images,
    integer,
    number,
    shown,
)
from diffnotes.process.forward import Images, q_sample
from diffnotes.process.losses import Denoiser, check_prediction
from diffnotes.process.operators import Linear, Measured, Seen, check_seen
from diffnotes.process.parameterize import eps_from_x0, x0_and_eps
from diffnotes.process.samplers import (
    Frame,
    Noise,
    check_sampling,
    ddim_sample,
    ddim_sigma,
    ddim_step,
    fresh_noise,
    predict,
    times_visited,
)
from diffnotes.process.schedules import Schedule, check_schedule, per_image

Moved = tuple[Frame, Images]  # the frame at t, and the state at the next time s
Corrected = tuple[Images, Images | float]  # x0_hat, and what is added to the state after the step

# -- the corrections, one formula each ------------------------------------------------------------------------------------


def nullspace_step(operator: Linear, y: Measured, x0_hat: Images) -> Images:
    """A^+ y + (I - A^+ A) x0_hat: of all images with A x = y the one nearest to x0_hat (book, eq. 22.10; Wang et al. 2023)."""
    check_images(x0_hat=x0_hat)
    _check_measured("x0_hat", x0_hat, y, operator)
    return x0_hat + operator.pinv(y - operator.forward(x0_hat)).reshape(x0_hat.shape)


def prediction_variance(schedule: Schedule, t: IntLike, prior_variance: FloatLike) -> float:
    """r_t^2 = v (1 - alpha_bar_t) / (v alpha_bar_t + 1 - alpha_bar_t): the variance of x_0 given x_t if x_0 has the variance v
    in every direction (book, eq. 22.8)."""
    check_schedule(schedule)
    abar = float(schedule.alpha_bar[integer("t", t, 1, schedule.T, "T = ")])
    v = number("prior_variance", prior_variance, "be >= 0", lambda v: 0 <= v < math.inf)
    return v * (1 - abar) / (v * abar + 1 - abar)


def guided_x0(
    model: Denoiser,
    schedule: Schedule,
    x_t: Images,
    t: IntLike,
    y: Measured,
    operator: Linear,
    sigma_y: FloatLike,
    prior_variance: FloatLike | None,
    labels: Labels | None = None,
) -> Images:
    """The estimate of E[x_0 | x_t, y] that guided_sample works with, of x_t's shape.

    prior_variance v > 0: x0_hat + (1 - abar)/sqrt(abar) J^T A^T (r_t^2 A A^T + sigma_y^2 I)^{-1} (y - A x0_hat), by one
    vector-Jacobian product (book, eq. 22.8; Song et al. 2023). 0: the same with r_t = 0, DPS's approximation (eq. 22.9). None:
    C_t = (1 - abar)/sqrt(abar) J in the place of r_t^2 I, by d vector-Jacobian products (book, eq. 22.7): for few
    dimensions. The model is called itself, with gradients."""
    check_images(x_t=x_t)
    t, abar = integer("t", t, 1, schedule.T, "T = "), float(schedule.alpha_bar[t])
    scale = (1 - abar) / abar**0.5
    with torch.enable_grad():
        x, x0_hat = _with_graph(model, schedule, x_t, t, labels)
        residual = y - operator.forward(x0_hat.detach())
        if prior_variance is not None:
            r2 = prediction_variance(schedule, t, prior_variance)
            weighted = operator.transpose(operator.solve(residual, r2, sigma_y)).reshape(x.shape)
            return x0_hat.detach() + scale * torch.autograd.grad(x0_hat, x, weighted)[0]
        flat = flatten_images(x0_hat)
        rows = [
            torch.autograd.grad(flat[:, i].sum(), x, retain_graph=i + 1 < flat.shape[1])[0]
            for i in range(flat.shape[1])
        ]
    C = scale * torch.stack([flatten_images(row) for row in rows], dim=1)  # (B, d, d)
    C = (C + C.transpose(1, 2)) / 2
    A = operator.A.to(x)
    noise = number("sigma_y", sigma_y, "be >= 0", lambda v: 0 <= v < math.inf) ** 2
    S = A @ C @ A.T + noise * torch.eye(len(A), dtype=x.dtype, device=x.device)
    gain = C @ A.T @ torch.linalg.pinv(S, hermitian=True)
    return (flat.detach() + (gain @ residual[..., None])[..., 0]).reshape(x.shape)


# -- the loops ------------------------------------------------------------------------------------------------------------


def repaint_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    known: Images,
    seen: Seen,
    *,
    steps: IntLike | None = None,
    repeats: IntLike = 1,
    eta: FloatLike = 1.0,
    clip: bool = False,
    labels: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """The replacement method: after each step from t to s, the seen pixels are set to q(x_s | known), with fresh noise
    (Song et al. 2021, appendix I). Its draws are biased, with an exact model and in any number of steps: the score has no term
    for `known` itself (book, eq. 22.3 and 22.5). With repeats = r > 1 the state goes back to t and the step is taken again, r - 1
    times a step (RePaint, Lugmayr et al. 2022; book, eq. 22.4): r calls of the model for each of the `steps`. That makes the
    bias smaller, for a weak dependence as 1/(r + 1).

    known (B, ...): images of x_T's shape, read where `seen` (the shape of one image) is True. eta: as for DDIM."""
    tau, eta, noise = _begin(schedule, x_T, steps, eta, generator)
    labels = check_sampling(model, schedule, tau, clip, labels, x_T=x_T)
    check_images(x_T=x_T, known=known)
    seen = check_seen(seen, x_T).to(x_T.device)
    repeats = integer("repeats", repeats, 1)

    def pasted(x: Images, s: int) -> Images:
        return torch.where(seen, q_sample(schedule, known, s, noise.like(known)), x)

    def once(x_t: Images, t: int, s: int) -> Moved:
        x0_hat, eps_hat = predict(model, schedule, x_t, t, labels, clip)
        x_s = ddim_step(schedule, x0_hat, eps_hat, t, s, noise.like(x_t), eta)
        return Frame(t, x_t, x0_hat, eps_hat), pasted(x_s, s)

    def move(x_t: Images, t: int, s: int) -> Moved:
        frame, x_s = once(x_t, t, s)
        for _ in range(repeats - 1):
            frame, x_s = once(renoise(schedule, x_s, s, t, noise.like(x_s)), t, s)
        return frame, x_s

    return _down(lambda: pasted(x_T, tau[-1]), tau, move)


def renoise(schedule: Schedule, x_s: Images, s: IntLike, t: IntLike, eps: Images) -> Images:
    """From s up to t > s: x_t = sqrt(abar_t / abar_s) x_s + sqrt(1 - abar_t / abar_s) eps (book, eq. 22.4)."""
    check_schedule(schedule)
    check_images(x_s=x_s, eps=eps)
    t = integer("t", t, 1, schedule.T, "T = ")
    s = integer("s", s, 0, t - 1, "t - 1 = ")
    ratio = schedule.alpha_bar[t] / schedule.alpha_bar[s]
    return per_image(ratio.sqrt(), x_s) * x_s + per_image((1 - ratio).sqrt(), x_s) * eps


def nullspace_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    y: Measured,
    operator: Linear,
    *,
    steps: IntLike | None = None,
    eta: FloatLike = 0.85,
    clip: bool = False,
    labels: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DDIM whose prediction is corrected by nullspace_step each time, and its noise computed anew from the corrected image
    (book, eq. 22.10; DDNM, Wang et al. 2023). No gradient is needed. With clip, the prediction is cut to [-1, 1] before it is
    corrected, so that A x = y still holds at the end."""
    _check_measured("x_T", x_T, y, operator)

    def correct(x_t: Images, t: int) -> Corrected:
        x0_hat, _ = predict(model, schedule, x_t, t, labels, clip)
        return nullspace_step(operator, y, x0_hat), 0.0

    return _corrected(model, schedule, x_T, steps, eta, clip, labels, generator, correct)


def guided_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    y: Measured,
    operator: Linear,
    sigma_y: FloatLike,
    *,
    prior_variance: FloatLike | None,
    steps: IntLike | None = None,
    eta: FloatLike = 1.0,
    clip: bool = False,
    labels: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DDIM with the prediction of guided_x0: pseudo-inverse guidance (Song et al. 2023) for a prior_variance > 0, for None a
    Kalman step with the network's own covariance (book, eq. 22.7 and 22.8). With clip, the corrected prediction is cut to
    [-1, 1]."""
    _check_measured("x_T", x_T, y, operator)
    number("sigma_y", sigma_y, "be >= 0", lambda v: 0 <= v < math.inf)

    def correct(x_t: Images, t: int) -> Corrected:
        x0_hat = guided_x0(model, schedule, x_t, t, y, operator, sigma_y, prior_variance, labels)
        return x0_hat.clamp(-1, 1) if clip else x0_hat, 0.0

    return _corrected(model, schedule, x_T, steps, eta, clip, labels, generator, correct)


def dps_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    y: Measured,
    operator: Linear,
    *,
    step: FloatLike,
    steps: IntLike | None = None,
    eta: FloatLike = 1.0,
    clip: bool = False,
    labels: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """Diffusion posterior sampling as published: x_s <- x_s - step * gradient of |y - A x0_hat(x_t)| with respect to x_t, one
    norm for each image, after every step (Chung et al. 2023, algorithm 1). The step is tuned for each operator."""
    _check_measured("x_T", x_T, y, operator)
    step = number("step", step, "be >= 0", lambda v: 0 <= v < math.inf)

    def correct(x_t: Images, t: int) -> Corrected:
        with torch.enable_grad():
            x, x0_hat = _with_graph(model, schedule, x_t, t, labels)
            misfit = (y - operator.forward(x0_hat)).norm(dim=1)
            gradient = torch.autograd.grad(misfit.sum(), x)[0]
        x0_hat = x0_hat.detach()
        return x0_hat.clamp(-1, 1) if clip else x0_hat, -step * gradient

    return _corrected(model, schedule, x_T, steps, eta, clip, labels, generator, correct)


def edit_sample(
    model: Denoiser,
    schedule: Schedule,
    guide: Images,
    start: IntLike,
    *,
    steps: IntLike | None = None,
    eta: FloatLike = 1.0,
    clip: bool = False,
    labels: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """SDEdit (Meng et al. 2022): the guide noised to the time `start`, x_start = sqrt(abar) guide + sqrt(1 - abar) eps, and from
    there down as DDIM goes (book, eq. 22.11). A small start keeps the guide, a large one follows the data."""
    check_images(guide=guide)
    check_schedule(schedule)
    start = integer("start", start, 1, schedule.T, "T = ")
    noise = Noise(generator, len(guide))
    x_start = q_sample(schedule, guide, start, noise.like(guide))
    way = dict(steps=steps, start=start, eta=eta, clip=clip, y=labels, generator=generator)
    return ddim_sample(model, schedule, x_start, **way)  # type: ignore[arg-type]


def conditional_sample(
    model: Callable[[Tensor, Tensor, Tensor], Tensor],
    schedule: Schedule,
    x_T: Images,
    known: Images,
    seen: Bool[Tensor, "batch *dims"],
    *,
    steps: IntLike | None = None,
    eta: FloatLike = 0.0,
    generator: torch.Generator | IntLike | None = None,
) -> Iterator[Frame]:
    """DDIM with a network that was trained to be told what is seen, model(x_t, t, seen), as SeriesTransformer is: the seen
    positions hold their values without noise at every time (book, eq. 22.14; Tashiro et al. 2021). seen has x_T's shape."""
    tau, eta, noise = _begin(schedule, x_T, steps, eta, generator)
    check_images(x_T=x_T, known=known)
    if not isinstance(seen, Tensor) or seen.dtype != torch.bool or seen.shape != x_T.shape:
        raise ValueError(f"seen must hold True or False, of x_T's shape {tuple(x_T.shape)}, got {shown(seen)}")

    def move(x_t: Images, t: int, s: int) -> Moved:
        output = model(x_t, torch.full((len(x_t),), t, device=x_t.device), seen)
        x0_hat, eps_hat = x0_and_eps(schedule, model.target, output, x_t, t)  # type: ignore[attr-defined]
        x_s = ddim_step(schedule, x0_hat, eps_hat, t, s, fresh_noise(noise if eta > 0 else None, x_t), eta)
        return Frame(t, x_t, torch.where(seen, known, x0_hat), eps_hat), torch.where(seen, known, x_s)

    return _down(lambda: torch.where(seen, known, x_T), tau, move)


# -- what the loops share -------------------------------------------------------------------------------------------------


def _begin(
    schedule: Schedule,
    x_T: Images,
    steps: IntLike | None,
    eta: FloatLike,
    generator: torch.Generator | IntLike | None,
) -> tuple[list[int], float, Noise]:
    """The times to be visited, an eta that is admissible between them, and the noise."""
    tau = times_visited(schedule, steps, "uniform", None, None)
    check_images(x_T=x_T)
    eta = number("eta", eta, "be >= 0", lambda eta: 0 <= eta < math.inf)
    ddim_sigma(schedule, torch.tensor(tau[1:]), torch.tensor(tau[:-1]), eta)
    return tau, eta, Noise(generator, len(x_T))


def _down(first: Callable[[], Images], tau: list[int], move: Callable[[Images, int, int], Moved]) -> Iterator[Frame]:
    """From tau_S down to tau_0 = 0, by move(x_t, t, s). Nothing is drawn, not even for the first state, before the first Frame
    is asked for: samplers that share a generator draw in the order in which they run."""
    x_t = first()
    for s, t in reversed(list(pairwise(tau))):
        with torch.no_grad():
            frame, x_t = move(x_t, t, s)
        yield frame
    yield Frame(0, x_t, x_t, torch.zeros_like(x_t))


def _corrected(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    steps: IntLike | None,
    eta: FloatLike,
    clip: bool,
    labels: Labels | None,
    generator: torch.Generator | IntLike | None,
    correct: Callable[[Images, int], Corrected],
) -> Iterator[Frame]:
    """DDIM with another x0_hat at every time, and the noise that belongs to it."""
    tau, eta, noise = _begin(schedule, x_T, steps, eta, generator)
    check_sampling(model, schedule, tau, clip, labels, x_T=x_T)

    def move(x_t: Images, t: int, s: int) -> Moved:
        x0_hat, shift = correct(x_t, t)
        eps_hat = eps_from_x0(schedule, x0_hat, x_t, t)
        x_s = ddim_step(schedule, x0_hat, eps_hat, t, s, noise.like(x_t), eta)
        return Frame(t, x_t, x0_hat, eps_hat), x_s + shift

    return _down(lambda: x_T, tau, move)


def _with_graph(
    model: Denoiser, schedule: Schedule, x_t: Images, t: int, labels: Labels | None
) -> tuple[Images, Images]:
    """x_t at the beginning of a graph, and x0_hat at its end: for a derivative of the one with respect to the other."""
    x = x_t.detach().requires_grad_()
    output = check_prediction(model(x, torch.full((len(x),), t, device=x.device), as_labels(labels, x)), x).to(x.dtype)
    x0_hat, _ = x0_and_eps(schedule, model.target, output, x, t)
    return x, x0_hat


# -- the exact answer -----------------------------------------------------------------------------------------------------


def posterior_mixture(
    means: Float[Tensor, "K *dims"],
    variance: FloatLike,
    operator: Linear,
    y: Measured,
    sigma_y: FloatLike,
    weights: Float[Tensor, "K"] | None = None,
) -> tuple[Float[Tensor, "batch K"], Float[Tensor, "batch K d"], Float[Tensor, "d d"]]:
    """p(x_0 | y) for a mixture of K Gaussians N(mean_k, variance I): the weights, means and the one covariance of the mixture
    that it is again (book, eq. 22.2). With variance 0 the data are the finite set of the means, and sigma_y > 0 is needed."""
    check_floats("means", means, "(K, ...)")
    flat = flatten_images(means)
    v = number("variance", variance, "be >= 0", lambda v: 0 <= v < math.inf)
    if weights is not None and (weights.shape != means.shape[:1] or not bool((weights >= 0).all())):
        raise ValueError(f"weights must hold {len(means)} numbers >= 0, one for each mean, got {shown(weights)}")
    seen = operator.forward(flat)
    y = operator.check(y).to(flat)
    if v == 0:  # no inverse to apply: |y - A mean|^2 by one product of matrices
        noise = number("sigma_y", sigma_y, "be > 0 where variance is 0", lambda s: 0 < s < math.inf)
        logits = (y @ seen.T - 0.5 * seen.square().sum(1)) / noise**2
        moved, covariance = flat.expand(len(y), -1, -1), torch.zeros(flat.shape[1], flat.shape[1]).to(flat)
    else:
        residual = (y[:, None] - seen).flatten(0, 1)
        solved = operator.solve(residual, v, sigma_y)
        logits = -0.5 * (residual * solved).sum(1).reshape(len(y), len(means))
        moved = flat + v * operator.transpose(solved).reshape(len(y), len(means), -1)
        A = operator.A.to(flat)
        covariance = v * (torch.eye(flat.shape[1]).to(flat) - v * operator.solve(A.T, v, sigma_y) @ A)
    if weights is not None:
        logits = logits + weights.to(flat).log()
    return logits.softmax(1), moved, covariance


def exact_draws(
    images: Float[Tensor, "K *dims"],
    operator: Linear,
    y: Measured,
    sigma_y: FloatLike,
    number_of_draws: IntLike = 1,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch draw *dims"]:
    """Draws from p(x_0 | y) where the data are these images and no others, (B, draws, ...): each is one of the images."""
    share, _, _ = posterior_mixture(images, 0, operator, y, sigma_y)
    return images[torch.multinomial(share, integer("number_of_draws", number_of_draws, 1), True, generator=generator)]


def _check_measured(name: str, x: Tensor, y: Tensor, operator: Linear) -> None:
    """Images x, of that name, with one row of y for each, and an operator for both."""
    check_floats(name, x)
    if not isinstance(operator, Linear):
        raise ValueError(f"operator must be a Linear, got {shown(operator)}")
    d = flatten_images(x).shape[1]
    if d != operator.A.shape[1]:
        raise ValueError(f"operator must be for images of {d} numbers, got A with {operator.A.shape[1]} columns")
    operator.check(y)
    if len(y) != len(x):
        raise ValueError(f"y must hold one row for each of the {len(x)} images, got {len(y)}")
