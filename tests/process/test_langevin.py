"""Langevin dynamics, plain and annealed: against closed forms, and slips in it, each of which a check refutes."""

import math
from types import ModuleType

import numpy as np
import pytest
import torch
from slips import refuted_by, slipped
from torch import Tensor

from diffnotes.book.proof import line
from diffnotes.process import langevin
from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.samplers import ddpm_sample, initial_noise
from diffnotes.process.schedules import Schedule
from diffnotes.process.solvers import karras_times

S = Schedule.geometric(60, 0.05, 20)


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


class Counter:
    """Passes every call on to a model, and counts them."""

    def __init__(self, model) -> None:
        self.model, self.target, self.times = model, model.target, []

    def __call__(self, x_t, t, y=None):
        self.times.append(int(t[0]))
        return self.model(x_t, t, y)


# -- what has to hold ---------------------------------------------------------------------------------------------------


def stationary(module: ModuleType) -> None:
    """The variance at which a step for N(0, v) comes to rest is v / (1 - tau / 2v): its factor and its noise give it."""
    for v, tau in ((1.0, 0.1), (0.25, 0.3), (4.0, 5.0)):
        zero, one = column(0.0), column(1.0)
        factor = module.langevin_step(one, -one / v, tau, zero).item()
        noise = module.langevin_step(zero, zero, tau, one).item()
        assert noise**2 / (1 - factor**2) == pytest.approx(v / (1 - tau / (2 * v)), rel=1e-12)


def units(module: ModuleType) -> None:
    """The annealed step is that of tau = ratio sigma^2 in the units x sqrt(1 + sigma^2)."""
    x, eps_hat, z = torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for t, ratio in ((3, 0.3), (40, 1.1)):
        sigma = 0.05 * (20 / 0.05) ** ((t - 1) / 59)
        tau, shrink = ratio * sigma**2, math.sqrt(1 + sigma**2)
        x_bar = x * shrink + tau * (-eps_hat / sigma) + math.sqrt(2 * tau) * z
        torch.testing.assert_close(module.annealed_step(S, eps_hat, x, t, z, ratio), x_bar / shrink)


def recursion(module: ModuleType) -> None:
    """For data at 0 and n steps at each of two levels, the variance is the book's formula, level by level."""
    x = torch.randn(40_000, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    point, times, ratio, n = GaussianDenoiser(S, 0.0, 0.0), [45, 30], 0.3, 3
    given = {"times": times, "steps_each": n, "ratio": ratio, "denoise": False}
    frames = list(module.annealed_langevin(point, S, x, **given, generator=torch.Generator().manual_seed(2)))
    sigma = [math.sqrt(1 / S.alpha_bar[t] - 1) for t in times]
    v = x.var().item() / S.alpha_bar[45].item()  # x / sqrt(alpha_bar)
    for level in sigma:
        rest = 2 / (2 - ratio)
        v = level**2 * (rest + (1 - ratio) ** (2 * n) * (v / level**2 - rest))
    assert frames[-1].t == 0
    assert frames[-1].x_t.var().item() == pytest.approx(v, rel=0.04)  # 5 standard errors of 40,000 draws


CHECKS = {"stationary": stationary, "units": units, "recursion": recursion}
SLIPS = {
    "half the noise's variance": ("(2 * tau).sqrt()", "tau.sqrt()", {"stationary"}),
    "downhill": ("+ per_image(tau, x) * score", "- per_image(tau, x) * score", {"stationary"}),
    "annealed, half the variance": ("math.sqrt(2 * ratio)", "math.sqrt(ratio)", {"units", "recursion"}),
    "the step without the level": ("ratio * b * eps_hat", "ratio * eps_hat", {"units", "recursion"}),
    "no change of units": (
        "x_t = per_image((schedule.alpha_bar[s] / schedule.alpha_bar[t]).sqrt(), x_t) * x_t", "pass", {"recursion"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_langevin_passes_every_check(check):
    CHECKS[check](langevin)


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_refuted_by_the_checks_that_can_see_it(slip):
    right, wrong, expected = SLIPS[slip]
    assert refuted_by(slipped(langevin, right, wrong), CHECKS) == expected


# -- as samplers --------------------------------------------------------------------------------------------------------


def test_langevin_draws_the_density_whose_score_it_follows():
    g = torch.Generator().manual_seed(0)
    *_, end = langevin.langevin(
        lambda x: 4 * (1.5 - x), torch.zeros(20_000, 1).double(), step=0.02, steps=100, generator=g
    )
    assert end.mean().item() == pytest.approx(1.5, abs=5 * 0.5 / math.sqrt(20_000))
    assert end.var().item() == pytest.approx(0.25 / (1 - 0.02 / 0.5), rel=0.05)


def test_langevin_yields_the_start_and_every_state():
    states = list(langevin.langevin(lambda x: -x, column(1.0, 2.0), step=0.1, steps=4, generator=0))
    assert len(states) == 5 and torch.equal(states[0], column(1.0, 2.0))


def test_between_two_modes_plain_langevin_keeps_its_shares_and_the_annealed_one_finds_them():
    means, weights = column(-4.0, 4.0), torch.tensor([0.8, 0.2])
    model, g = MixtureDenoiser(S, means, 0.49, weights), torch.Generator().manual_seed(3)
    x = torch.randn(2000, 1, generator=g, dtype=torch.float64)
    *_, plain = langevin.langevin(lambda x: model.score(x, 1), 4 * x, step=0.05, steps=300, generator=g)
    times = karras_times(S, 20, rho=math.inf, highest=20, lowest=0.05)
    *_, annealed = langevin.annealed_langevin(model, S, x, times=times, steps_each=10, ratio=0.3, generator=g)
    assert (plain < 0).double().mean().item() == pytest.approx(0.5, abs=0.06)
    assert (annealed.x_t < 0).double().mean().item() == pytest.approx(0.8, abs=0.05)


def test_annealed_langevin_ends_near_where_ancestral_sampling_does():
    data = line.Mixture()
    model = MixtureDenoiser(S, column(*data.means), data.sd**2, torch.tensor(data.weights, dtype=torch.float64))
    x, exact = initial_noise(0, 2000, (1,)).double(), data.curves((np.arange(2000) + 0.5) / 2000, np.zeros(1))[0]
    times = karras_times(S, 20, rho=math.inf, highest=20, lowest=0.05)
    g = torch.Generator().manual_seed(0)
    *_, ours = langevin.annealed_langevin(model, S, x, times=times, steps_each=10, ratio=0.2, generator=g)
    *_, theirs = ddpm_sample(model, S, x, times=S.subsequence(40).flip(0), generator=g)
    for last in (ours, theirs):
        assert np.abs(np.sort(last.x_t[:, 0].numpy()) - exact).mean() < 0.12


@pytest.mark.parametrize("denoise", [True, False])
def test_the_calls_are_levels_times_steps_and_one_for_the_last_prediction(denoise):
    model = Counter(GaussianDenoiser(S, 0.3, 0.5))
    frames = list(
        langevin.annealed_langevin(
            model, S, column(1.0, 2.0), times=[50, 20, 1], steps_each=4, denoise=denoise, generator=0
        )
    )
    assert model.times == [50] * 4 + [20] * 4 + [1] * (4 + denoise)
    assert [frame.t for frame in frames] == [*model.times, 0]
    if denoise:
        assert torch.equal(frames[-1].x_t, frames[-2].x0_hat)


def test_the_same_seed_gives_an_image_the_same_noise_in_any_batch():
    x, model = initial_noise(0, 3, (2,)), GaussianDenoiser(S, 0.3, 0.5)
    *_, three = langevin.annealed_langevin(model, S, x, times=[40, 10], generator=7)
    *_, one = langevin.annealed_langevin(model, S, x[:1], times=[40, 10], generator=7)
    torch.testing.assert_close(three.x_t[:1], one.x_t)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"ratio": 2}, "ratio must be a positive number below 2, or the walk grows without end, got 2"),
        ({"ratio": 0}, "ratio must be a positive number below 2"),
        ({"steps_each": 0}, "steps_each must be an integer from 1 to 1000000, got 0"),
        ({"times": [1, 2]}, "times must fall strictly"),
    ],
)
def test_wrong_arguments_are_named(wrong, words):
    with pytest.raises(ValueError, match=words):
        langevin.annealed_langevin(GaussianDenoiser(S), S, column(1.0), **{"times": [30, 3], **wrong})


def test_a_step_and_a_start_of_noise_alone_are_refused():
    with pytest.raises(ValueError, match="step must be a positive number, got 0"):
        langevin.langevin(lambda x: -x, column(1.0), step=0, steps=3)
    with pytest.raises(ValueError, match="step must hold a positive number for each of the 2 images"):
        langevin.langevin_step(column(1.0, 2.0), column(1.0, 2.0), torch.ones(3), column(1.0, 2.0))
    zero = Schedule.cosine(10).rescale_zero_terminal_snr()
    with pytest.raises(ValueError, match="times must begin where alpha_bar_t > 0"):
        langevin.annealed_langevin(GaussianDenoiser(zero), zero, column(1.0), times=[10, 3])
