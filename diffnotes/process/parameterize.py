"""One prediction, five parameterisations: eps, x0, v, u and the score.

All follow from  x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) eps  (book, eq. 1.6), solved for what is wanted:

    x_0   = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t)                  (book, eq. 1.9)
    eps   = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t)                  (book, eq. 1.9)
    v     = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0                      (book, eq. 4.7; Salimans and Ho 2022, app. D)
    u     = eps - x_0                                                              (book, eq. 15.8; Liu et al. 2023)
    score = -eps / sqrt(1 - alpha_bar_t)                                           (book, eq. 4.6; Song et al. 2021, sec. 3)
"""

from jaxtyping import Float
from torch import Tensor

from diffnotes.process.arguments import check_images, choice
from diffnotes.process.forward import Times
from diffnotes.process.schedules import Schedule, check_t, per_image

Images = Float[Tensor, "batch *dims"]
TARGETS = ("eps", "x0", "v", "u")
ZERO_SNR = 'alpha_bar_t = 0: x_0 cannot be recovered from eps (zero terminal SNR); use a model with target "v" or "x0"'


def _roots(schedule: Schedule, t: Times, x: Tensor, lowest: int = 1) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), shaped to multiply x."""
    t = check_t(schedule, t, lowest)
    abar = schedule.alpha_bar[t]
    return per_image(abar.sqrt(), x), per_image((1 - abar).sqrt(), x)


def eps_from_x0(schedule: Schedule, x0: Images, x_t: Images, t: Times) -> Images:
    """eps = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t), t in 1..T (book, eq. 1.9)."""
    check_images(x0=x0, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return (x_t - a * x0) / b


def x0_from_eps(schedule: Schedule, eps: Images, x_t: Images, t: Times) -> Images:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) eps) / sqrt(alpha_bar_t), t in 1..T (book, eq. 1.9).

    Where alpha_bar_t = 0 the image is not in x_t any more, and ValueError says so."""
    check_images(eps=eps, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    if not bool((a > 0).all()):
        raise ValueError(ZERO_SNR)
    return (x_t - b * eps) / a


def v_from_x0_eps(schedule: Schedule, x0: Images, eps: Images, t: Times) -> Images:
    """v = sqrt(alpha_bar_t) eps - sqrt(1 - alpha_bar_t) x_0 (book, eq. 4.7; Salimans and Ho 2022, appendix D)."""
    check_images(x0=x0, eps=eps)
    a, b = _roots(schedule, t, x0)
    return a * eps - b * x0


def x0_from_v(schedule: Schedule, v: Images, x_t: Images, t: Times) -> Images:
    """x_0 = sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v: (x_t, v) is (x_0, eps) rotated (book, eq. 4.7)."""
    check_images(v=v, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return a * x_t - b * v


def eps_from_v(schedule: Schedule, v: Images, x_t: Images, t: Times) -> Images:
    """eps = sqrt(1 - alpha_bar_t) x_t + sqrt(alpha_bar_t) v (book, eq. 4.7)."""
    check_images(v=v, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return b * x_t + a * v


def x0_from_u(schedule: Schedule, u: Images, x_t: Images, t: Times) -> Images:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) u) / (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)), u = eps - x_0 the velocity of flow
    matching (book, eq. 15.8)."""
    check_images(u=u, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return (x_t - b * u) / (a + b)


def eps_from_u(schedule: Schedule, u: Images, x_t: Images, t: Times) -> Images:
    """eps = (x_t + sqrt(alpha_bar_t) u) / (sqrt(alpha_bar_t) + sqrt(1 - alpha_bar_t)) (book, eq. 15.8)."""
    check_images(u=u, x_t=x_t)
    a, b = _roots(schedule, t, x_t)
    return (x_t + a * u) / (a + b)


def score_from_eps(schedule: Schedule, eps: Images, t: Times) -> Images:
    """score = -eps / sqrt(1 - alpha_bar_t): the gradient of log q(x_t | x_0), or of log q(x_t) if eps = E[eps | x_t]
    (book, eq. 4.6 and 4.10)."""
    check_images(eps=eps)
    _, b = _roots(schedule, t, eps)
    return -eps / b


def eps_from_score(schedule: Schedule, score: Images, t: Times) -> Images:
    """eps = -sqrt(1 - alpha_bar_t) score (book, eq. 4.10)."""
    check_images(score=score)
    _, b = _roots(schedule, t, score)
    return -b * score


def target_of(schedule: Schedule, target: str, x0: Images, eps: Images, t: Times) -> Images:
    """The regression target of a network with this prediction target ("eps", "x0", "v" or "u") at the times t."""
    choice("target", target, TARGETS)
    check_images(x0=x0, eps=eps)
    check_t(schedule, t)
    if target == "eps":
        return eps
    if target == "x0":
        return x0
    if target == "u":
        return eps - x0
    return v_from_x0_eps(schedule, x0, eps, t)


def x0_and_eps(schedule: Schedule, target: str, output: Images, x_t: Images, t: Times) -> tuple[Images, Images]:
    """The estimates (x0_hat, eps_hat) that a network's `output` stands for; together they always give x_t back."""
    choice("target", target, TARGETS)
    check_images(output=output, x_t=x_t)
    if target == "eps":
        return x0_from_eps(schedule, output, x_t, t), output
    if target == "x0":
        return output, eps_from_x0(schedule, output, x_t, t)
    if target == "u":
        return x0_from_u(schedule, output, x_t, t), eps_from_u(schedule, output, x_t, t)
    return x0_from_v(schedule, output, x_t, t), eps_from_v(schedule, output, x_t, t)
