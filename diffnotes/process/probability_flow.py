"""The probability-flow ODE in the angle, and the exact log-likelihood along it.

With sqrt(alpha_bar_t) = cos(phi_t) and sqrt(1 - alpha_bar_t) = sin(phi_t), phi between 0 (image) and pi/2 (noise),

    dx / dphi       = v_hat = cos(phi) eps_hat - sin(phi) x0_hat                                   (book, eq. 13.11)
    log q(x at t_0) = log q(x at t_1) + integral of div v_hat over phi, from phi at t_0 to t_1     (book, eq. 13.12)
    div v           = E[z . (dv/dx) z],      z of independent signs +-1                            (book, eq. 13.13)

The angle stays finite at both ends, and a network that predicts v predicts the slope itself.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import (
    IntLike,
    Labels,
    choice,
    flag,
    flatten_images,
    integer,
)
from diffnotes.process.forward import Images
from diffnotes.process.losses import Denoiser, check_prediction
from diffnotes.process.parameterize import v_from_x0_eps, x0_and_eps
from diffnotes.process.samplers import Frame, Noise, TimeList, check_sampling, in_shares, predict, times_visited
from diffnotes.process.schedules import Schedule, Table, check_schedule, per_image
from diffnotes.process.solvers import karras_times

SOLVERS = ("heun", "euler", "ddim")
TRACES = ("hutchinson", "exact")
MOST_PROBES = 10_000  # more is a mistake
MOST_EXACT = 64  # coordinates, each of which takes a pass through the network and back


def angle(schedule: Schedule) -> Table:
    """phi_t = arccos sqrt(alpha_bar_t) for t = 0..T: 0 at the image, pi/2 where alpha_bar_t = 0."""
    check_schedule(schedule)
    return torch.atan2((1 - schedule.alpha_bar).sqrt(), schedule.alpha_bar.sqrt())


def probability_flow(
    model: Denoiser,
    schedule: Schedule,
    x: Images,
    *,
    times: TimeList,
    up: bool = False,
    solver: str = "heun",
    y: Labels | None = None,
) -> Iterator[Frame]:
    """The probability-flow ODE dx/dphi = v_hat through the falling `times`, a Frame for each (book, eq. 13.11).

    Down: x is the state at the first time; after the last one comes the step to t = 0, where x is x0_hat, and its Frame. up: x is
    the state at the last time, and the way leads to the first. solver: "euler"; "heun", of second order, two calls a step; or
    "ddim", which turns (x, v) by the step in phi, exact where x0_hat and eps_hat stay as they are."""
    tau, solver, up = _between(schedule, times), choice("solver", solver, SOLVERS), flag("up", up)
    y = check_sampling(model, schedule, tau, False, y, x=x)
    path, phi = (tau if up else tau[::-1]), angle(schedule)

    def loop(x: Images, y: Labels | None, noise: Noise | None) -> Iterator[Frame]:
        for t, s in [*pairwise(path), (path[-1], None)]:
            with torch.no_grad():
                frame = Frame(t, x, *predict(model, schedule, x, t, y))
                if s is not None:
                    v, d = v_from_x0_eps(schedule, frame.x0_hat, frame.eps_hat, t), phi[s] - phi[t]
                    turn = (d.cos(), d.sin()) if solver == "ddim" else (torch.ones_like(d), d)
                    x = per_image(turn[0], x) * x + per_image(turn[1], x) * v
                    if solver == "heun":
                        there = v_from_x0_eps(schedule, *predict(model, schedule, x, s, y), s)
                        x = x + per_image(d / 2, x) * (there - v)
            yield frame
        if not up:
            yield Frame(0, frame.x0_hat, frame.x0_hat, torch.zeros_like(frame.x0_hat))

    return in_shares(model, x, y, None, loop)


def flow_log_likelihood(
    model: Denoiser,
    schedule: Schedule,
    x: Images,
    *,
    steps: IntLike = 40,
    times: TimeList | None = None,
    trace: str = "hutchinson",
    probes: IntLike = 1,
    y: Labels | None = None,
    generator: torch.Generator | IntLike | None = None,
) -> tuple[Float[Tensor, "batch"], Images]:
    """(log-density of x in nats, float64, summed over its coordinates; x at the first time) under the model's probability flow
    (book, eq. 13.12; Song et al. 2021, section 4.3).

    The flow starts from N(0, I) at the first of the falling `times` and ends at the last one, where x is taken to be: Heun's
    method in the angle, with the divergence as one more coordinate. Unless given, the times are `steps` + 1 of Karras' grid, from
    the noise level 80 to 0.02. So the density is that of images with as much noise as there is at the last time.

    trace: "hutchinson", an unbiased estimate from `probes` sign vectors for each image, the same on the whole way; or "exact", a
    pass for each coordinate, of which there may be 64. A step calls the model twice, with a backward pass for each probe."""
    given = (
        karras_times(schedule, integer("steps", steps, 1, schedule.T - 1, "T - 1 = ") + 1) if times is None else times
    )
    tau = _between(schedule, given)
    y = check_sampling(model, schedule, tau, False, y, x=x)
    directions = _directions(x, choice("trace", trace, TRACES), integer("probes", probes, 1, MOST_PROBES), generator)
    share = 1.0 if trace == "exact" else 1 / len(directions)
    phi, x = angle(schedule), x.detach()
    total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
    for t, s in pairwise(tau):
        d = phi[s] - phi[t]
        v, div = _velocity_and_divergence(model, schedule, x, t, y, directions)
        ahead = x + per_image(d, x) * v
        there, div_there = _velocity_and_divergence(model, schedule, ahead, s, y, directions)
        x = x + per_image(d / 2, x) * (v + there)
        total += float(d) / 2 * share * (div + div_there)
    square = flatten_images(x.double()).square().sum(1)
    prior = -0.5 * (square + x[0].numel() * math.log(2 * math.pi))
    return prior + total, x


def _velocity_and_divergence(
    model: Denoiser, schedule: Schedule, x: Images, t: int, y: Tensor | None, directions: list[Tensor]
) -> tuple[Images, Tensor]:
    """v_hat at (x, t), and the sum of z . (dv/dx) z over the directions z, float64."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        output = check_prediction(model(x, torch.full((len(x),), t, device=x.device), y), x).to(x.dtype)
        v = v_from_x0_eps(schedule, *x0_and_eps(schedule, model.target, output, x, t), t)
        div = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for i, z in enumerate(directions):
            (gradient,) = torch.autograd.grad(v, x, z, retain_graph=i + 1 < len(directions))
            div += flatten_images((gradient * z).double()).sum(1)
    return v.detach(), div


def _directions(x: Images, trace: str, probes: int, generator: torch.Generator | IntLike | None) -> list[Tensor]:
    """Sign vectors, or the unit vectors of all coordinates."""
    noise, d = Noise(generator, len(x)), x[0].numel()
    if trace == "hutchinson":
        return [torch.where(noise.like(x) < 0, -1.0, 1.0).to(x) for _ in range(probes)]
    if d > MOST_EXACT:
        raise ValueError(
            f'trace must be "hutchinson" for more than {MOST_EXACT} coordinates, got "exact" for images of {d}'
        )
    unit = torch.eye(d, dtype=x.dtype, device=x.device).reshape(d, 1, *x.shape[1:])
    return [z.expand_as(x) for z in unit]


def _between(schedule: Schedule, times: TimeList) -> list[int]:
    """The rising times without the 0, two or more of them."""
    tau = times_visited(schedule, None, "uniform", None, times)[1:]
    if len(tau) < 2:
        raise ValueError(f"times must hold two times in 1..T or more, which fall strictly, got {tau}")
    return tau
