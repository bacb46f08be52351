"""The bound in continuous time: against the discrete one and closed forms."""

import math

import pytest
import torch

from diffnotes.process.continuous import best_density, gamma, noise_errors, spread
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.schedules import Schedule

COSINE = Schedule.cosine()
AT = torch.linspace(-6, 5, 4001, dtype=torch.float64)


def test_gamma_is_minus_the_log_of_the_signal_to_noise_ratio():
    table, bar = gamma(COSINE), COSINE.alpha_bar
    assert table[0] == -math.inf
    torch.testing.assert_close(table[1:], ((1 - bar[1:]) / bar[1:]).log())
    assert bool((table[1:].diff() > 0).all())


def test_the_errors_are_those_of_the_closed_form_and_their_integral_the_divergence_saved():
    """Data N(0, v): E(eps - eps_hat)^2 = abar v / (abar v + 1 - abar), whose half integrates to a difference of logarithms."""
    g = torch.Generator().manual_seed(0)
    v, x0 = 0.25, 0.5 * torch.randn(3000, 1, 4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    times = [20, 200, 500, 800]
    found = noise_errors(GaussianDenoiser(COSINE, variance=v), COSINE, x0, times, generator=g)
    bar = COSINE.alpha_bar[times]
    torch.testing.assert_close(found.mean(1), 16 * bar * v / (bar * v + 1 - bar) / 2, rtol=0.03, atol=0)

    at = torch.linspace(-6, 6, 20_001, dtype=torch.float64)
    bar = torch.sigmoid(-at)
    whole = torch.trapezoid(bar * v / (bar * v + 1 - bar) / 2, at)
    exact = (math.log(v * math.exp(6) + 1) - math.log(v * math.exp(-6) + 1)) / 2
    assert whole.item() == pytest.approx(exact, rel=1e-6)


def test_the_best_density_beats_others_and_has_the_variance_that_is_promised():
    f = 1 + torch.exp(-AT / 2)
    squares = f**2 * (1.2 + 0.1 * torch.sin(AT))
    best = best_density(AT, squares)
    assert torch.trapezoid(best, AT).item() == pytest.approx(1)
    mean, deviation = spread(AT, f, squares, best)
    whole = torch.trapezoid(f, AT)
    assert mean == pytest.approx(whole.item())
    assert deviation**2 == pytest.approx((torch.trapezoid(squares.sqrt(), AT) ** 2 - whole**2).item())
    for other in (torch.ones_like(AT), 1 / torch.cosh(AT / 2), best * (1 + 0.3 * torch.cos(AT))):
        assert spread(AT, f, squares, other)[1] > deviation


def test_the_spread_is_that_of_draws():
    g = torch.Generator().manual_seed(0)
    f, p = torch.exp(-AT / 4), 1 / torch.cosh(AT / 2)
    cdf = torch.cumulative_trapezoid(p, AT)
    drawn = torch.searchsorted(cdf / cdf[-1], torch.rand(200_000, generator=g, dtype=torch.float64))
    values = (f / p * torch.trapezoid(p, AT))[drawn]
    mean, deviation = spread(AT, f, f**2, p)
    assert values.mean().item() == pytest.approx(mean, rel=0.02)
    assert values.std().item() == pytest.approx(deviation, rel=0.03)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: best_density(AT, -torch.ones(4001)),
            "mean_squares must hold a positive number for each of the 4001 points",
        ),
        (lambda: best_density(AT.flip(0), torch.ones(4001)), "gammas must be two or more numbers that rise"),
        (lambda: spread(AT, AT, torch.ones(4001), -torch.ones(4001)), "density must hold a positive number"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
