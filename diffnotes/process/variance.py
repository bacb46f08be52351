"""Which variance for a step back: the best one for a measured error, and one between the two simple ones.

For a stride from t to s, alpha' = alpha_bar_t / alpha_bar_s, beta' = 1 - alpha' and beta-tilde' = (1 - alpha_bar_s) / (1 -
alpha_bar_t) beta' (book, eq. 2.11 and 7.6). The mean of the step moves by c (x_0 - x0_hat), c = sqrt(alpha_bar_s) beta' / (1 -
alpha_bar_t), where x0_hat stands for the image, so

    optimal        sigma^2 = beta-tilde' + c^2 E|x_0 - x0_hat|^2 / d          (book, eq. 12.2; Bao et al. 2022)
    learned range  log sigma^2 = nu log beta' + (1 - nu) log beta-tilde'      (book, eq. 12.7; Nichol and Dhariwal 2021)
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from diffnotes.process.arguments import FloatLike, Labels, check_dense, check_images, number, shown
from diffnotes.process.forward import Images, Times, check_step, q_sample
from diffnotes.process.losses import Denoiser
from diffnotes.process.samplers import predict
from diffnotes.process.schedules import Schedule, check_t


def stride(schedule: Schedule, t: Times, s: Times | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """beta', beta-tilde' and c of the stride from t to s (s = t - 1 if None), float64, of t's shape."""
    t, s = check_step(schedule, t, s)
    bar, before = schedule.alpha_bar[t], schedule.alpha_bar[s]
    beta = 1 - bar / before
    return beta, (1 - before) / (1 - bar) * beta, before.sqrt() * beta / (1 - bar)


def optimal_variance(schedule: Schedule, mse: Tensor | FloatLike, t: Times, s: Times | None = None) -> Tensor:
    """beta-tilde' + c^2 mse, float64: the variance with which the step from t to s costs least in the bound, where the mean
    squared error of the model's x0_hat at t is `mse`, a number, one for each t, or one for each pixel (book, eq. 12.2).

    For the best possible x0_hat it is Analytic-DPM's (Bao et al. 2022, theorem 1); for any other it is the best all the same."""
    error = _numbers("mse", mse)
    if not bool((error >= 0).all()):
        raise ValueError(f"mse must be >= 0, got a smallest value of {error.min().item():g}")
    _, beta_tilde, c = stride(schedule, t, s)
    extra = max(0, error.ndim - beta_tilde.ndim) if beta_tilde.ndim else 0
    beta_tilde, c = (value.reshape(value.shape + (1,) * extra).to(error.device) for value in (beta_tilde, c))
    return beta_tilde + c**2 * error


def learned_range(schedule: Schedule, nu: Tensor | FloatLike, t: Times, s: Times | None = None) -> Tensor:
    """exp(nu log beta' + (1 - nu) log beta-tilde'), float64, 0 <= nu <= 1: an output of a network, made a variance between the
    two simple ones (book, eq. 12.7; Nichol and Dhariwal 2021, eq. 15, where it is called v). The step must not end at s = 0."""
    share = _numbers("nu", nu)
    if not bool(((share >= 0) & (share <= 1)).all()):
        raise ValueError(f"nu must lie in [0, 1] (of an output u in [-1, 1] take (u + 1) / 2), got {shown(nu)}")
    t, s = check_step(schedule, t, s)
    if bool((s == 0).any()):
        raise ValueError("s must be >= 1: the posterior variance of the step to s = 0 is 0, and has no logarithm")
    beta, beta_tilde, _ = stride(schedule, t, s)
    extra = max(0, share.ndim - beta.ndim) if beta.ndim else 0
    beta, beta_tilde = (value.reshape(value.shape + (1,) * extra) for value in (beta, beta_tilde))
    return torch.exp(share * beta.log() + (1 - share) * beta_tilde.log())


@torch.no_grad()
def measure_mse(
    model: Denoiser,
    schedule: Schedule,
    x0: Images,
    times: Int[Tensor, "times"] | list[int],
    *,
    y: Labels | None = None,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "times"]:
    """E|x_0 - x0_hat|^2 / d at each of the times, float64: the mean over the images x0 (B, ...), with one draw of noise each.
    Take images that the model was not trained on, or the variance comes out too small."""
    check_images(x0=x0)
    found = []
    for t in check_t(schedule, torch.as_tensor(times), name="times").tolist():
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        x0_hat, _ = predict(model, schedule, q_sample(schedule, x0, t, noise), t, y)
        found.append((x0_hat.double() - x0.double()).square().mean())
    return torch.stack(found)


def extra_kl(true: Tensor | FloatLike, chosen: Tensor | FloatLike) -> Tensor:
    """(rho - 1 - log rho) / 2 with rho = true / chosen, float64: what a step costs more, in nats for each coordinate, with the
    variance `chosen` in the place of the optimal one, `true` (book, eq. 12.5)."""
    best, taken = _numbers("true", true), _numbers("chosen", chosen)
    for name, value in (("true", best), ("chosen", taken)):
        if not bool((value > 0).all()):
            raise ValueError(f"{name} must be positive, got a smallest value of {value.min().item():g}")
    excess = best / taken - 1
    return (excess - torch.log1p(excess)) / 2


def _numbers(name: str, values: Tensor | FloatLike) -> Tensor:
    """A number, or a tensor of numbers, in float64."""
    if not isinstance(values, Tensor):
        return torch.tensor(number(name, values, "be a number or a tensor", lambda _: True), dtype=torch.float64)
    check_dense(name, values)
    if not values.is_floating_point():
        raise ValueError(f"{name} must hold floating-point numbers, got dtype {values.dtype}")
    return values.double()
