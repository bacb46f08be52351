"""The reverse equations with lambda: against DDIM, DDPM, closed forms and diffusers; and slips in them."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from diffusers import ScoreSdeVeScheduler
from slips import refuted_by, slipped
from torch import Tensor

from diffnotes.book.proof import line
from diffnotes.process import sde
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.samplers import ddim_sample, ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule

COSINE, LINEAR = Schedule.cosine(), Schedule.linear()
UNEVEN = [950, 940, 700, 690, 400, 120, 100, 30, 5]
LAMBDAS = (0.0, 0.5, 1.0, 1.5)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


ZERO, ONE = column(0.0), column(1.0)


class Curved:
    """A network whose prediction of the image bends with x_t and with t."""

    target = "x0"

    def __call__(self, x_t, t, y=None):
        return torch.tanh(1.5 * x_t + torch.cos(t.to(x_t) / 90).reshape(-1, 1))


def parts(module: ModuleType, t: int, s: int, lam: float) -> tuple[float, float, float]:
    """The factors of x_t, of the image and of the noise in the exponential step."""
    step = module.exponential_step
    return tuple(step(COSINE, *given, lam).item() for given in (
        (ZERO, ONE, t, s, ZERO), (ONE, ZERO, t, s, ZERO), (ZERO, ZERO, t, s, ONE),
    ))  # fmt: skip


# -- what has to hold ---------------------------------------------------------------------------------------------------


def ends(module: ModuleType) -> None:
    """lambda = 0 is DDIM, lambda = 1 is DDPM with beta-tilde, from the same noise."""
    x = initial_noise(0, 6, (3,)).double()
    for schedule in (COSINE, LINEAR):
        for lam, sampler in ((0, ddim_sample), (1, ddpm_sample)):
            *_, ours = module.reverse_sde_sample(Curved(), schedule, x, times=UNEVEN, lam=lam, generator=3)
            *_, theirs = sampler(Curved(), schedule, x, times=UNEVEN, generator=3)
            assert (ours.x_t - theirs.x_t).abs().max() < 1e-9


def semigroup(module: ModuleType) -> None:
    """With the image frozen, two steps are one step: the exact solution of a linear equation."""
    for lam in (0.3, 0.7, 1.5):
        for t, r, s in ((900, 500, 100), (300, 290, 20)):
            kept, image, noise = parts(module, t, s, lam)
            kept_1, image_1, noise_1 = parts(module, t, r, lam)
            kept_2, image_2, noise_2 = parts(module, r, s, lam)
            found = [kept_1 * kept_2, kept_2 * image_1 + image_2, math.hypot(kept_2 * noise_1, noise_2)]
            assert np.allclose(found, [kept, image, noise], rtol=1e-9)


def short(module: ModuleType) -> None:
    """A short step of either kind is the equation: drift and variance per unit of the integrated rate."""
    fine, t = Schedule.linear(100_000, 1e-6, 2e-4), 40_000
    B = (fine.alpha_bar[t - 1] / fine.alpha_bar[t]).log().item()
    a, b = fine.alpha_bar[t].sqrt().item(), (1 - fine.alpha_bar[t]).sqrt().item()
    x, image = column(0.8), column(-0.4)
    eps_hat = (x - a * image) / b
    for lam in LAMBDAS:
        drift = 0.5 * x.item() - (1 + lam**2) / 2 * eps_hat.item() / b
        for step, given in ((module.exponential_step, image), (module.euler_maruyama_step, eps_hat)):
            still = step(fine, given, x, t, t - 1, ZERO, lam)
            assert abs((still - x).item() / B - drift) < 1e-3, (lam, step)
            variance = (step(fine, given, x, t, t - 1, ONE, lam) - still).item() ** 2 / B
            assert abs(variance - lam**2) < 1e-3, (lam, step)


def marginals(module: ModuleType) -> None:
    """For data N(0, 1/4) every lambda and both steps end at the variance 1/4, with an error that halves with the steps."""
    schedule, v_0 = Schedule.linear(4000, 2.5e-5, 5e-3), 0.25
    model = GaussianDenoiser(schedule, 0.0, v_0)
    for lam in LAMBDAS:
        for kind in ("exponential", "euler-maruyama"):
            errors = [abs(_variance(module, model, schedule, steps, lam, kind) / v_0 - 1) for steps in (1000, 2000)]
            assert errors[1] < 0.02, (lam, kind, errors)
            assert 1.6 < errors[0] / errors[1] < 2.5, (lam, kind, errors)


def _variance(module, model, schedule, steps: int, lam: float, kind: str) -> float:
    """Followed through all steps, each of which is affine in x and in the noise; all of them are asked for in one call."""
    tau, v = schedule.subsequence(steps).flip(0), 1.0
    t, s, one, zero = tau[:-1], tau[1:], torch.ones(steps, 1).double(), torch.zeros(steps, 1).double()
    hat, step = model(one, t), module.exponential_step
    if kind == "euler-maruyama":
        a, b = schedule.alpha_bar[t].sqrt()[:, None], (1 - schedule.alpha_bar[t]).sqrt()[:, None]
        hat, step = (one - a * hat) / b, module.euler_maruyama_step
    factors = step(schedule, hat, one, t, s, zero, lam)[:, 0].tolist()
    noises = (step(schedule, zero, zero, t, s, one, lam)[:, 0] * (s > 0)).tolist()
    for factor, noise in zip(factors, noises, strict=True):
        v = factor**2 * v + noise**2
    return v


def corrector(module: ModuleType) -> None:
    """The corrector's step is that of diffusers' ScoreSdeVeScheduler, for a batch of one and alpha = 1."""
    schedule = Schedule.from_betas([1e-12, 0.5])
    g = torch.Generator().manual_seed(4)
    x, score = torch.randn(2, 1, 3, 4, 4, generator=g, dtype=torch.float64)
    scheduler = ScoreSdeVeScheduler(snr=0.15)
    scheduler.set_timesteps(10)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(5)).double()
    theirs = scheduler.step_correct(score, x, generator=torch.Generator().manual_seed(5)).prev_sample
    b = (1 - schedule.alpha_bar[1]).sqrt()
    ours = module.corrector_step(schedule, -b * score, x, 1, noise, 0.15)
    assert (ours - theirs).abs().max() < 1e-6


CHECKS = {"ends": ends, "semigroup": semigroup, "short": short, "marginals": marginals, "corrector": corrector}
SLIPS = {
    "the whole score without noise": ("(x_t + (1 + lam**2) * score)", "(x_t + 2 * score)", {"short", "marginals"}),
    "the score of the ODE with noise": ("(x_t + (1 + lam**2) * score)", "(x_t + score)", {"short", "marginals"}),
    "the forward sign": ("per_image(B / 2, x_t) * (x_t", "per_image(B / 2, x_t) * (-x_t", {"short", "marginals"}),
    "lambda in place of its square": (
        "shrink ** (1 + lam**2)", "shrink ** (1 + lam)", {"semigroup", "short", "marginals"},
    ),
    "the noise of half a step": ("(2 * lam**2)", "(lam**2)", {"ends", "semigroup", "short", "marginals"}),
    "the corrector's half": ("tau = 2 * float", "tau = float", {"corrector"}),
    "no snr": ("(snr * norms[0] / norms[1])", "(norms[0] / norms[1])", {"corrector"}),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_equations_pass_every_check(check):
    CHECKS[check](sde)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refuted_by_the_checks_that_can_see_it(slip):
    right, wrong, expected = SLIPS[slip]
    assert refuted_by(slipped(sde, right, wrong), CHECKS) == expected


# -- the sampler --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lam", LAMBDAS)
@pytest.mark.parametrize("step", sde.STEPS)
def test_every_lambda_draws_the_mixture(lam, step):
    data, N = line.Mixture(), 1500
    weights = torch.tensor(data.weights, dtype=torch.float64)
    model = MixtureDenoiser(LINEAR, column(*data.means), data.sd**2, weights)
    x, g = initial_noise(1, N, (1,)).double(), torch.Generator().manual_seed(0)
    *_, last = sde.reverse_sde_sample(model, LINEAR, x, steps=200, lam=lam, step=step, generator=g)
    exact = data.curves((np.arange(N) + 0.5) / N, np.zeros(1))[0]
    assert np.abs(np.sort(last.x_t[:, 0].numpy()) - exact).mean() < 0.12


def test_the_corrector_costs_a_call_at_every_time_but_zero():
    calls = []

    class Counted(Curved):
        def __call__(self, x_t, t, y=None):
            calls.append(int(t[0]))
            return super().__call__(x_t, t, y)

    frames = list(
        sde.reverse_sde_sample(Counted(), COSINE, initial_noise(0, 2, (3,)), times=[900, 500, 9], corrector=2)
    )
    assert calls == [900, 500, 500, 500, 9, 9, 9]
    assert [frame.t for frame in frames] == [900, 500, 9, 0]


@pytest.mark.parametrize("d", [8, 400])
def test_the_corrector_keeps_the_distribution_but_for_a_part_of_order_1_over_d(d):
    """The rule makes the step depend on the state, tau ~ ||z||^2 / ||x||^2 here. Steps ~ 1/||x||^2 keep q / tau and not q, which
    for a Gaussian is (d + 2)/d of its variance; and E ||z||^2 z z^T is d + 2 where E ||z||^2 is d: once more as much."""
    g, t, v_0 = torch.Generator().manual_seed(0), 400, 0.25
    model = GaussianDenoiser(COSINE, 0.0, v_0)
    a, b = COSINE.alpha_bar[t].sqrt(), (1 - COSINE.alpha_bar[t]).sqrt()
    v = (a**2 * v_0 + b**2).item()
    x = math.sqrt(v) * torch.randn(80_000 // d, d, generator=g, dtype=torch.float64)
    for _ in range(150):
        noise = torch.randn(x.shape, generator=g, dtype=x.dtype)
        x = sde.corrector_step(COSINE, (x - a * model(x, t)) / b, x, t, noise, 0.1)
    assert x.var().item() / v == pytest.approx(((d + 2) / d) ** 2, rel=0.04)


def test_an_image_does_not_depend_on_the_others_in_its_batch():
    x = initial_noise(0, 3, (2,))
    how = {"times": UNEVEN, "corrector": 1, "generator": 7}
    *_, three = sde.reverse_sde_sample(Curved(), COSINE, x, **how)
    *_, one = sde.reverse_sde_sample(Curved(), COSINE, x[:1], **how)
    torch.testing.assert_close(three.x_t[:1], one.x_t)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"lam": -0.1}, "lam must be a finite number >= 0, got -0.1"),
        ({"lam": math.inf}, "lam must be a finite number >= 0, got inf"),
        ({"step": "euler"}, 'step must be "exponential" or "euler-maruyama", got'),
        ({"corrector": -1}, "corrector must be an integer from 0 to 1000, got -1"),
        ({"snr": 0}, "snr must be a positive number, got 0"),
        ({"steps": 0}, "steps must be an integer from 1"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        sde.reverse_sde_sample(Curved(), COSINE, column(1.0), **{"steps": 5, **wrong})


def test_euler_maruyama_from_noise_alone_is_refused():
    zero = Schedule.cosine(10).rescale_zero_terminal_snr()
    with pytest.raises(ValueError, match="times must begin where alpha_bar_t > 0"):
        sde.reverse_sde_sample(Curved(), zero, column(1.0), steps=5, step="euler-maruyama")
    with pytest.raises(ValueError, match="t must be a time where alpha_bar_t > 0"):
        sde.euler_maruyama_step(zero, ONE, ONE, 10, 5, ONE)
    *_, last = sde.reverse_sde_sample(Curved(), zero, column(1.0), steps=5, generator=0)
    assert last.x_t.isfinite().all()
