"""The bound in continuous time: an integral over gamma = -log SNR in which no schedule is left.

    L_infinity = 1/2 integral of E||eps - eps_hat(x_gamma)||^2 d gamma                (book, eq. 12.11; Kingma et al. 2021)

What a schedule still decides is how well the integral is estimated from few draws of gamma: with the density p(gamma) one draw
is worth f(gamma) / p(gamma), f = ||eps - eps_hat||^2 / 2, and the best p is proportional to sqrt(E f^2)     (book, eq. 12.13).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import Labels, check_floats, check_images, flatten_images
from diffnotes.process.forward import Images, q_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import predict
from diffnotes.process.schedules import Schedule, Table, check_schedule, check_t


def gamma(schedule: Schedule) -> Table:
    """gamma_t = -log SNR(t) for t = 0..T: minus infinity at t = 0, and rising."""
    check_schedule(schedule)
    return -schedule.log_snr


@torch.no_grad()
def noise_errors(
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    times: Tensor | list[int],
    *,
    y: Labels | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "times batch"]:
    """f = ||eps - eps_hat||^2 / 2 in nats for each unit of gamma, at each of the times and for each image x0 (B, ...), with
    one draw of noise each, float64 (book, eq. 12.11)."""
    check_images(x0=x0)
    found = []
    for t in check_t(schedule, torch.as_tensor(times), name="times").tolist():
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        _, eps_hat = predict(model, schedule, q_sample(schedule, x0, t, eps), t, y)
        found.append(flatten_images(eps_hat.double() - eps.double()).square().sum(1) / 2)
    return torch.stack(found)


def best_density(gammas: Float[Tensor, "points"], mean_squares: Float[Tensor, "points"]) -> Float[Tensor, "points"]:
    """p(gamma) proportional to sqrt(E f^2), at the given points, with integral 1 by the trapezoid rule (book, eq. 12.13)."""
    root = _positive("mean_squares", mean_squares, gammas).sqrt()
    return root / torch.trapezoid(root, gammas.double())


def spread(
    gammas: Float[Tensor, "points"],
    means: Float[Tensor, "points"],
    mean_squares: Float[Tensor, "points"],
    density: Float[Tensor, "points"],
) -> tuple[float, float]:
    """Mean and standard deviation of f(gamma) / p(gamma) with gamma drawn from the density p, between the first and the last of
    the points: integral of E f, and the root of the integral of E f^2 / p minus its square (book, eq. 12.13)."""
    squares, p = _positive("mean_squares", mean_squares, gammas), _positive("density", density, gammas)
    at = gammas.double()
    p = p / torch.trapezoid(p, at)
    mean = torch.trapezoid(means.double(), at)
    variance = torch.trapezoid(squares / p, at) - mean**2
    return mean.item(), variance.clamp(min=0).sqrt().item()


def _positive(name: str, values: Tensor, gammas: Tensor) -> Tensor:
    """The values as float64, one positive number for each of the points, which must rise."""
    check_floats("gammas", gammas, "(points,)")
    check_floats(name, values, "(points,)")
    if gammas.ndim != 1 or len(gammas) < 2 or not bool((gammas.diff() > 0).all()):
        raise ValueError("gammas must be two or more numbers that rise")
    if values.shape != gammas.shape or not bool((values > 0).all()):
        raise ValueError(f"{name} must hold a positive number for each of the {len(gammas)} points")
    return values.double()
