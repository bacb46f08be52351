"""The variances of a step back: against sums over a grid, diffusers, and the closed form for Gaussian data."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from diffnotes.process.exact import GaussianDenoiser, MixtureDenoiser
from diffnotes.process.forward import q_posterior, q_sample
from diffnotes.process.schedules import Schedule
from diffnotes.process.variance import extra_kl, learned_range, measure_mse, optimal_variance, stride

LINEAR = Schedule.linear()
COARSE = Schedule.linear(T=10, beta_1=0.02, beta_T=0.5)


@pytest.mark.parametrize(("t", "s"), [(2, 1), (10, 9), (500, 480), (1000, 3)])
def test_a_stride_is_that_of_the_posterior(t, s):
    beta, beta_tilde, c = stride(LINEAR, t, s)
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    one, variance = q_posterior(LINEAR, x[0], x[1], t, s)
    other, _ = q_posterior(LINEAR, x[0] + 1, x[1], t, s)
    assert beta.item() == pytest.approx(1 - (LINEAR.alpha_bar[t] / LINEAR.alpha_bar[s]).item(), rel=1e-9)
    assert beta_tilde.item() == pytest.approx(variance.item(), rel=1e-9)
    torch.testing.assert_close(other - one, c.expand(3, 4))


@pytest.mark.parametrize(("t", "s"), [(2, None), (5, 2), (8, 7), (10, 4)])
@pytest.mark.parametrize("off", [0.0, 0.3])
def test_no_other_variance_costs_less(t, s, off):
    """Three points, the divergence averaged over x_0 and x_t on a grid; `off`: a predictor that is wrong."""
    points, share = torch.tensor([[-1.0], [0.2], [0.9]]).double(), torch.tensor([0.5, 0.2, 0.3]).double()
    z = torch.linspace(-7, 7, 601).double()[:, None]
    bell = torch.exp(-(z**2) / 2) / torch.exp(-(z**2) / 2).sum()
    x0, weight = points.repeat_interleave(601, 0), (share[:, None] * bell.T).flatten()
    x_t = q_sample(COARSE, x0, t, z.repeat(3, 1))
    estimate = MixtureDenoiser(COARSE, points, weights=share)(x_t, t) + off
    mean, narrow = q_posterior(COARSE, x0, x_t, t, s)
    model_mean, _ = q_posterior(COARSE, estimate, x_t, t, s)

    def cost(variance: float) -> float:
        kl = kl_divergence(Normal(mean, narrow.sqrt()), Normal(model_mean, math.sqrt(variance)))
        return (weight @ kl).item()

    best = optimal_variance(COARSE, (weight @ (estimate - x0) ** 2).item(), t, s).item()
    for factor in (0.8, 0.98, 1.02, 1.3):
        assert cost(best) < cost(factor * best)
        extra = extra_kl(torch.tensor(best), torch.tensor(factor * best)).item()
        assert cost(factor * best) - cost(best) == pytest.approx(extra, rel=1e-3)


@pytest.mark.parametrize("s_0", [0.1, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("t", "s"), [(2, 1), (40, 10), (1000, 500)])
def test_for_gaussian_data_it_is_the_variance_of_the_true_step(s_0, t, s):
    """x_s and x_t are jointly Gaussian: Var(x_s) - Cov^2 / Var(x_t)."""
    bar_t, bar_s = LINEAR.alpha_bar[t].item(), LINEAR.alpha_bar[s].item()
    v_t, v_s = (bar * s_0**2 + 1 - bar for bar in (bar_t, bar_s))
    true = v_s - (math.sqrt(bar_t / bar_s) * v_s) ** 2 / v_t
    assert optimal_variance(LINEAR, s_0**2 * (1 - bar_t) / v_t, t, s).item() == pytest.approx(true, rel=1e-8)


def test_it_lies_between_the_two_simple_ones_for_small_data_only():
    t = torch.arange(2, 1001)
    for s_0, below in ((0.5, True), (1.0, True), (2.0, False)):
        bar = LINEAR.alpha_bar[t]
        best = optimal_variance(LINEAR, s_0**2 * (1 - bar) / (bar * s_0**2 + 1 - bar), t)
        assert bool((best >= LINEAR.posterior_variance[t]).all())
        assert bool((best <= LINEAR.beta[t] * (1 + 1e-12)).all()) is below
        assert bool((best <= LINEAR.beta[t] / LINEAR.alpha[t]).all())


def test_one_error_for_each_pixel():
    error = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    t, s = torch.tensor([5, 50, 500]), torch.tensor([4, 10, 20])
    found = optimal_variance(LINEAR, error, t, s)
    for i in range(3):
        _, narrow, c = stride(LINEAR, int(t[i]), int(s[i]))
        torch.testing.assert_close(found[i], narrow + c**2 * error[i])


def test_the_range_is_that_of_diffusers():
    """Its u in [-1, 1] is 2 nu - 1, and its tables are float32."""
    from diffusers import DDPMScheduler

    scheduler = DDPMScheduler(beta_start=1e-4, beta_end=0.02, beta_schedule="linear", variance_type="learned_range")
    for t in (2, 10, 100, 1000):
        for nu in (0.0, 0.3, 1.0):
            theirs = scheduler._get_variance(t - 1, predicted_variance=torch.tensor(2 * nu - 1))
            assert learned_range(LINEAR, nu, t).item() == pytest.approx(math.exp(theirs.item()), rel=2e-3)


def test_the_range_over_strides_and_its_ends():
    t, s = torch.tensor([40, 400]), torch.tensor([20, 100])
    beta, narrow, _ = stride(LINEAR, t, s)
    torch.testing.assert_close(learned_range(LINEAR, 0, t, s), narrow)
    torch.testing.assert_close(learned_range(LINEAR, 1, t, s), beta)
    nu = torch.tensor([[0.25], [0.75]])
    expected = beta[:, None] ** nu.double() * narrow[:, None] ** (1 - nu.double())
    torch.testing.assert_close(learned_range(LINEAR, nu, t, s), expected)


def test_the_measured_error_is_that_of_the_closed_form():
    g = torch.Generator().manual_seed(0)
    x0 = 0.5 * torch.randn(4000, 1, 4, 4, generator=g, dtype=torch.float64)
    times = [5, 200, 900]
    found = measure_mse(GaussianDenoiser(LINEAR, variance=0.25), LINEAR, x0, times, generator=g)
    bar = LINEAR.alpha_bar[times]
    torch.testing.assert_close(found, 0.25 * (1 - bar) / (bar * 0.25 + 1 - bar), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: optimal_variance(LINEAR, -0.1, 5), "mse must be >= 0, got a smallest value of -0.1"),
        (lambda: learned_range(LINEAR, -0.5, 5), r"nu must lie in \[0, 1\] \(of an output u in \[-1, 1\] take"),
        (lambda: learned_range(LINEAR, 0.5, 5, 0), "s must be >= 1"),
        (lambda: learned_range(LINEAR, 0.5, 1), "s must be >= 1"),
        (lambda: extra_kl(0.0, 1.0), "true must be positive, got a smallest value of 0"),
        (lambda: extra_kl(1.0, -1.0), "chosen must be positive, got a smallest value of -1"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
