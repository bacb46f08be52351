import math
import re

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm

from diffnotes.book.explorers.bound import build_bound, gaussian_steps
from diffnotes.process.elbo import elbo_terms, mean_and_error
from diffnotes.process.exact import GaussianDenoiser
from diffnotes.process.schedules import Schedule


def numbers(reading: str) -> list[float]:
    """The bound, and its four parts."""
    return [float(n) for n in re.findall(r"(\d[\d.]*(?:e-?\d+)?) (?:bits|entropy|prior|the)", reading)]


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_cost_of_a_step_is_the_divergence_of_the_true_step_back(variance):
    """Bayes' rule on numbers: the distribution of x_{t-1} given x_t, for data N(0, s^2), against the model's step."""
    schedule, s, t, x_t = Schedule.linear(10, 0.02, 0.9), 0.6, 4, 0.8
    alpha, before = schedule.alpha[t].item(), schedule.alpha_bar[t - 1].item()
    prior_sd = math.sqrt(before * s**2 + 1 - before)

    def unnormalised(x):
        return norm.pdf(x, 0, prior_sd) * norm.pdf(x_t, math.sqrt(alpha) * x, math.sqrt(1 - alpha))

    mass = quad(unnormalised, -8, 8)[0]
    mean = quad(lambda x: x * unnormalised(x), -8, 8)[0] / mass
    var = quad(lambda x: (x - mean) ** 2 * unnormalised(x), -8, 8)[0] / mass
    step_back, sigma2, cost = gaussian_steps(schedule, s, variance)
    model = norm(mean, math.sqrt(sigma2[t - 1].item()))
    true = norm(mean, math.sqrt(var))
    expected = quad(lambda x: true.pdf(x) * (true.logpdf(x) - model.logpdf(x)), mean - 5, mean + 5)[0]
    assert step_back[t - 1].item() == pytest.approx(var, rel=1e-7)
    assert cost[t - 1].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("variance", ["beta", "beta_tilde"])
def test_the_bound_it_reads_out_is_the_one_that_elbo_terms_measures(variance):
    explorer = build_bound()
    explorer.controls["T"].value, explorer.controls["s"].value = 20, 0.6
    explorer.controls["variance"].value = variance
    schedule, g = Schedule.cosine(20), torch.Generator().manual_seed(1)
    x0 = 0.6 * torch.randn(2000, 16, generator=g, dtype=torch.float64)
    model = GaussianDenoiser(schedule, 0.0, 0.36)
    mean, error = mean_and_error(
        elbo_terms(model, schedule, x0, variance=variance, levels=None, generator=g).bits_per_dim()
    )
    read = numbers(explorer.reading.value)
    assert abs(read[0] - mean.item()) < 5 * error.item() + 5e-4
    assert read[0] == pytest.approx(sum(read[1:]), abs=5e-3)


def test_for_data_of_variance_1_beta_is_right_and_the_bound_is_the_entropy():
    explorer = build_bound()
    explorer.controls["s"].value, explorer.controls["variance"].value = 1.0, "beta"
    read = numbers(explorer.reading.value)
    assert read[0] == pytest.approx(0.5 * math.log2(2 * math.pi * math.e) + math.log2(127.5), abs=1e-3)
    assert max(read[2:]) < 1e-6


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("T", [10, 100, 1000])
@pytest.mark.parametrize("s", [0.02, 1.2])
def test_curves_are_finite_and_inside_their_axes_for_all_sliders(kind, T, s):
    explorer = build_bound()
    for name, value in (("kind", kind), ("T", T), ("s", s)):
        explorer.controls[name].value = value
    variance_ax, cost_ax = explorer.plot.figure.axes
    for line in (*variance_ax.lines, *cost_ax.lines):
        x, y = (np.asarray(values) for values in line.get_data())
        assert len(x) == T and np.isfinite(y).all()
    assert max(np.asarray(line.get_ydata()).max() for line in variance_ax.lines) <= variance_ax.get_ylim()[1]
    assert np.asarray(cost_ax.lines[0].get_ydata()).max() <= cost_ax.get_ylim()[1]
