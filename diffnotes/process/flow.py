"""Flow matching: the path x_t = (1 - t) x_0 + t eps, its velocity u = eps - x_0, and how both are read in the chapters' terms.

With a = sqrt(alpha_bar) and b = sqrt(1 - alpha_bar), flow time t = b / (a + b) runs from 0 (clean) to 1 (noise), and

    x_flow = x / (a + b)                  the state of flow matching from the variance-preserving one          (book, eq. 15.8)
    u      = (b - a) x + (a + b) v        the velocity from a v-prediction at the same x                       (book, eq. 15.8)
    x_0    = x_flow - t u,   eps = x_flow + (1 - t) u

Networks are shown the variance-preserving x, at whole times of a schedule, as everywhere in this package: a model with target
"u" is trained by Denoising(flow_schedule(T), min_snr=None) and sampled by every sampler. Many papers and libraries run the
other way, with t = 1 for the data and u = x_0 - eps.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import IntLike, Labels, check_images, choice, flatten_images, integer
from diffnotes.process.forward import Images, Times
from diffnotes.process.losses import Denoiser, check_prediction
from diffnotes.process.parameterize import x0_and_eps
from diffnotes.process.samplers import Frame, check_sampling, in_shares, predict
from diffnotes.process.schedules import LONGEST, Schedule, Table, check_schedule, check_t, check_times, per_image

METHODS = ("euler", "heun")


def flow_time(schedule: Schedule) -> Table:
    """The flow time b / (a + b) of each time 0..T of a schedule: 0 at t = 0, and 1 where alpha_bar_t = 0 (book, eq. 15.8)."""
    check_schedule(schedule)
    a, b = schedule.alpha_bar.sqrt(), (1 - schedule.alpha_bar).sqrt()
    return b / (a + b)


def flow_schedule(T: IntLike = 1000) -> Schedule:
    """The schedule whose times are even in flow time, flow_time = t / T: alpha_bar_t = (1 - r)^2 / ((1 - r)^2 + r^2), r = t / T.
    alpha_bar_T = 0, so a network on it predicts "u", "v" or "x0"."""
    T = integer("T", T, 2, LONGEST)
    r = torch.arange(1, T + 1, dtype=torch.float64) / T
    return Schedule.from_alpha_bar((1 - r) ** 2 / ((1 - r) ** 2 + r**2), name="flow")


# -- the dictionary -----------------------------------------------------------------------------------------------------


def u_from_v(schedule: Schedule, v: Images, x_t: Images, t: Times) -> Images:
    """u = (b - a) x_t + (a + b) v, x_t the variance-preserving state, t in 1..T (book, eq. 15.8)."""
    check_images(v=v, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return (b - a) * x_t + (a + b) * v


def v_from_u(schedule: Schedule, u: Images, x_t: Images, t: Times) -> Images:
    """v = (u - (b - a) x_t) / (a + b) (book, eq. 15.8)."""
    check_images(u=u, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return (u - (b - a) * x_t) / (a + b)


def flow_state(schedule: Schedule, x_t: Images, t: Times) -> Images:
    """x_flow = x_t / (a + b) = (1 - r) x_0 + r eps at the flow time r (book, eq. 15.8), t in 0..T."""
    check_images(x_t=x_t)
    a, b = _roots(schedule, t, x_t, lowest=0)
    return x_t / (a + b)


def velocity(model: Denoiser, schedule: Schedule, x_t: Images, t: Times, y: Labels | None = None) -> Images:
    """The marginal velocity E[eps - x_0 | x_t] that a model stands for, whatever it predicts: eps_hat - x0_hat, for images x_t
    at their times t in 1..T (book, eq. 15.6)."""
    check_images(x_t=x_t)
    times = check_times(schedule, t, x_t)
    labels = check_sampling(model, schedule, [0, int(times.max())], False, y, x_t=x_t)
    with torch.no_grad():
        output = check_prediction(model(x_t, times.to(x_t.device), labels), x_t)
    x0_hat, eps_hat = x0_and_eps(schedule, model.target, output.to(x_t.dtype), x_t, times)
    return eps_hat - x0_hat


def _roots(schedule: Schedule, t: Times, x: Tensor, lowest: int = 1) -> tuple[Tensor, Tensor]:
    t = check_t(schedule, t, lowest)
    abar = schedule.alpha_bar[t]
    return per_image(abar.sqrt(), x), per_image((1 - abar).sqrt(), x)


# -- sampling -----------------------------------------------------------------------------------------------------------


def even_flow_times(schedule: Schedule, steps: IntLike) -> Int[Tensor, "steps_plus_1"]:
    """Falling times T = t_0 > ... > t_S = 0 of a schedule that are even in flow time, each rounded to the nearest time; on
    flow_schedule(T) with steps that divide T they are exact. ValueError where two would coincide."""
    r = flow_time(schedule)
    S = integer("steps", steps, 1, schedule.T, "T = ")
    wanted = r[-1] * (1 - torch.arange(S, dtype=torch.float64) / S)
    times = torch.searchsorted((r[1:] + r[:-1]) / 2, wanted)
    if not bool((times[1:] < times[:-1]).all()) or int(times[-1]) == 0:
        raise ValueError(
            f"steps must be fewer: {S} even steps of flow time do not have times of their own in {schedule}"
        )
    return torch.cat([times, torch.zeros(1, dtype=torch.long)])


def flow_sample(
    model: Denoiser,
    schedule: Schedule,
    x_T: Images,
    *,
    steps: IntLike,
    method: str = "euler",
    y: Labels | None = None,
) -> Iterator[Frame]:
    """Integrate dx_flow/dt = u from noise to data in `steps` even steps of flow time: yields steps + 1 Frames, the last at t = 0.

    "euler": x_flow + (s - t) u, one call of the model a step, which is DDIM on the same times (book, eq. 15.9). "heun": with the
    mean of the velocities at both ends of the step, two calls, and one in the last step. Frames hold the variance-preserving x_t;
    x_T is all noise where alpha_bar_T = 0, and otherwise divided by a + b in the beginning like every other x_t."""
    tau, method = even_flow_times(schedule, steps).tolist(), choice("method", method, METHODS)
    labels = check_sampling(model, schedule, tau[::-1], False, y, x_T=x_T)
    r = flow_time(schedule)
    stretch = schedule.alpha_bar.sqrt() + (1 - schedule.alpha_bar).sqrt()  # a + b

    def loop(x_t: Images, y: Labels | None, _noise: object) -> Iterator[Frame]:
        for t, s in zip(tau[:-1], tau[1:], strict=True):
            with torch.no_grad():
                frame = Frame(t, x_t, *predict(model, schedule, x_t, t, y))
                u, x_flow, step = frame.eps_hat - frame.x0_hat, x_t / stretch[t].to(x_t), (r[s] - r[t]).to(x_t)
                arrived = x_flow + step * u
                if method == "heun" and s > 0:
                    x0_there, eps_there = predict(model, schedule, stretch[s].to(x_t) * arrived, s, y)
                    arrived = x_flow + step / 2 * (u + eps_there - x0_there)
                x_t = stretch[s].to(x_t) * arrived
            yield frame
        yield Frame(0, x_t, x_t, torch.zeros_like(x_t))

    return in_shares(model, x_T, labels, None, loop)


# -- pairs --------------------------------------------------------------------------------------------------------------


def transport_pairs(x0: Images, eps: Images) -> tuple[Int[Tensor, "batch"], Float[Tensor, ""]]:
    """The order of the noises that makes the sum of ||eps_order(i) - x0_i||^2 smallest, and the mean of these squares: optimal
    transport within the batch, which leaves both marginals as they are (book, eq. 15.14; Tong et al. 2024)."""
    from scipy.optimize import linear_sum_assignment

    check_images(x0=x0, eps=eps)
    if not bool(x0.isfinite().all() and eps.isfinite().all()):
        raise ValueError("x0 and eps must hold finite numbers, found NaN or infinity")
    cost = torch.cdist(flatten_images(x0).double(), flatten_images(eps).double()).square()
    rows, order = linear_sum_assignment(cost.detach().cpu().numpy())
    chosen = torch.from_numpy(order).to(x0.device)
    return chosen, cost[torch.from_numpy(rows).to(cost.device), chosen].mean()
