import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

from diffnotes.process.forward import q_posterior, q_sample, q_step
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()


def column(*values: float) -> torch.Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


# -- one step, and many at once -------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_one_step_is_its_formula(linear_tables, t):
    beta = linear_tables[0][t]
    expected = math.sqrt(1 - beta) * 0.7 + math.sqrt(beta) * -1.3
    assert q_step(LINEAR, column(0.7), t, column(-1.3)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("t", [1, 2, 37, 500, 1000])
def test_mean_of_the_jump_is_the_mean_of_t_noiseless_steps(t):
    x = column(0.7)
    for step in range(1, t + 1):
        x = q_step(LINEAR, x, step, column(0.0))
    assert q_sample(LINEAR, column(0.7), t, column(0.0)).item() == pytest.approx(x.item(), rel=1e-11)


@pytest.mark.parametrize("t", [1, 2, 37, 500, 1000])
def test_variance_of_the_jump_is_the_variance_collected_in_t_steps(t):
    variance = 0.0
    for step in range(1, t + 1):  # independent noises: each step shrinks the old variance and adds its own
        shrink = q_step(LINEAR, column(1.0), step, column(0.0)).item()
        fresh = q_step(LINEAR, column(0.0), step, column(1.0)).item()
        variance = shrink**2 * variance + fresh**2
    assert q_sample(LINEAR, column(0.0), t, column(1.0)).item() ** 2 == pytest.approx(variance, rel=1e-10)


@pytest.mark.parametrize(("s", "t"), [(0, 1), (0, 40), (7, 60), (59, 60), (30, 100)])
def test_jump_to_s_and_steps_to_t_have_the_moments_of_the_jump_to_t(generator, s, t):
    schedule, n = Schedule.linear(100, 1e-3, 0.1), 30_000
    x0 = torch.full((n, 1), 0.7, dtype=torch.float64)

    def noise() -> torch.Tensor:
        return torch.randn(n, 1, dtype=torch.float64, generator=generator)

    walked, jumped = q_sample(schedule, x0, s, noise()), q_sample(schedule, x0, t, noise())
    for step in range(s + 1, t + 1):
        walked = q_step(schedule, walked, step, noise())
    difference_of_means = (walked.mean() - jumped.mean()).item()
    difference_of_variances = (walked.var() - jumped.var()).item()
    variance = jumped.var().item()
    assert abs(difference_of_means) < 5 * math.sqrt(2 * variance / n)
    assert abs(difference_of_variances) < 5 * math.sqrt(2 * 2 * variance**2 / n)  # var(s^2) = 2 sigma^4 / n


def test_jump_to_time_0_changes_nothing():
    x0 = torch.linspace(-1, 1, 12).reshape(3, 1, 2, 2)
    assert torch.equal(q_sample(LINEAR, x0, 0, torch.full_like(x0, 5.0)), x0)


def test_jump_to_the_end_of_a_zero_terminal_schedule_is_the_noise():
    x0, eps = column(0.7, -0.2), column(-1.3, 0.4)
    assert torch.equal(q_sample(LINEAR.rescale_zero_terminal_snr(), x0, 1000, eps), eps)


@pytest.mark.parametrize("function", [q_sample, q_step], ids=["q_sample", "q_step"])
def test_times_per_image_give_what_each_gives_alone(generator, function):
    x = torch.randn(4, 1, 3, 3, generator=generator)
    eps = torch.randn(4, 1, 3, 3, generator=generator)
    t = [1, 17, 500, 1000]
    alone = torch.cat([function(LINEAR, x[i : i + 1], t[i], eps[i : i + 1]) for i in range(4)])
    assert torch.equal(function(LINEAR, x, torch.tensor(t), eps), alone)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noised_image_has_the_dtype_of_the_image(dtype):
    x0 = torch.full((2, 3), 0.5, dtype=dtype)
    assert q_sample(LINEAR, x0, 3, x0).dtype == dtype
    assert q_step(LINEAR, x0, 3, x0).dtype == dtype
    assert q_posterior(LINEAR, x0, x0, 3)[0].dtype == dtype


# -- the posterior q(x_s | x_t, x_0) --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("t", "s"),
    [(2, 1), (3, 2), (50, 49), (500, 499), (999, 998), (1000, 999), (50, 20), (500, 100), (1000, 1), (1000, 900)],
)
def test_posterior_is_bayes_rule_on_a_grid(linear_tables, t, s):
    abar_t, abar_s = linear_tables[1][t], linear_tables[1][s]
    x0, x_t = 0.6, 0.6 * math.sqrt(abar_t) - 0.8 * math.sqrt(1 - abar_t)
    prior = norm(math.sqrt(abar_s) * x0, math.sqrt(1 - abar_s))
    x_s = np.linspace(prior.mean() - 12 * prior.std(), prior.mean() + 12 * prior.std(), 200_001)
    step = math.sqrt(abar_t / abar_s)
    log_weight = prior.logpdf(x_s) + norm.logpdf(x_t, step * x_s, math.sqrt(1 - abar_t / abar_s))
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    expected_mean = (weight * x_s).sum()
    expected_variance = (weight * (x_s - expected_mean) ** 2).sum()

    mean, variance = q_posterior(LINEAR, column(x0), column(x_t), t, s)
    assert mean.item() == pytest.approx(expected_mean, rel=1e-9)
    assert variance.item() == pytest.approx(expected_variance, rel=1e-8)


@pytest.mark.parametrize("t", [1, 2, 500, 1000])
def test_posterior_at_time_0_is_the_image_itself(t):
    mean, variance = q_posterior(LINEAR, column(0.6), column(-0.4), t, 0)
    assert mean.item() == pytest.approx(0.6, rel=1e-11)
    assert variance.item() == 0


def test_posterior_goes_to_the_time_before_unless_told_otherwise():
    x0, x_t = column(0.6, -0.3), column(-0.4, 0.9)
    for given_s, default in zip(q_posterior(LINEAR, x0, x_t, 300, 299), q_posterior(LINEAR, x0, x_t, 300), strict=True):
        assert torch.equal(given_s, default)


def test_posterior_from_pure_noise_forgets_x_t():
    schedule = LINEAR.rescale_zero_terminal_snr()
    mean, variance = q_posterior(schedule, column(0.6, 0.6), column(-2.0, 2.0), 1000)
    abar = schedule.alpha_bar[999].item()
    np.testing.assert_allclose(mean.numpy(), [[math.sqrt(abar) * 0.6]] * 2, rtol=1e-12)
    assert variance.item() == pytest.approx(1 - abar, rel=1e-12)


def test_posterior_of_times_per_image_is_what_each_gives_alone(generator):
    x0 = torch.randn(4, 1, 3, 3, generator=generator, dtype=torch.float64)
    x_t = torch.randn(4, 1, 3, 3, generator=generator, dtype=torch.float64)
    t, s = [1, 17, 500, 1000], [0, 3, 499, 10]
    mean, variance = q_posterior(LINEAR, x0, x_t, torch.tensor(t), torch.tensor(s))
    for i in range(4):
        mean_i, variance_i = q_posterior(LINEAR, x0[i : i + 1], x_t[i : i + 1], t[i], s[i])
        assert torch.equal(mean[i : i + 1], mean_i)
        assert torch.equal(variance[i : i + 1].flatten(), variance_i.flatten())


def test_posterior_variance_broadcasts_against_the_mean():
    x = torch.zeros(4, 1, 3, 3)
    mean, variance = q_posterior(LINEAR, x, x, torch.tensor([1, 17, 500, 1000]))
    expected = LINEAR.posterior_variance[[1, 17, 500, 1000]].numpy().reshape(4, 1, 1, 1) * np.ones((4, 1, 3, 3))
    np.testing.assert_allclose((mean + variance).numpy(), expected, rtol=1e-5)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_jump_refuses_a_time_outside_0_to_T():
    with pytest.raises(ValueError, match=r"^t must lie in 0\.\.1000, got 1001\.\.1001$"):
        q_sample(LINEAR, column(0.5), 1001, column(0.0))
    with pytest.raises(ValueError, match=r"^t must lie in 0\.\.1000, got -1\.\.3$"):
        q_sample(LINEAR, column(0.5, 0.5), torch.tensor([3, -1]), column(0.0, 0.0))


@pytest.mark.parametrize("t", [0, 1001])
def test_step_and_posterior_refuse_a_time_outside_1_to_T(t):
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        q_step(LINEAR, column(0.5), t, column(0.0))
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        q_posterior(LINEAR, column(0.5), column(0.0), t)


def test_posterior_refuses_an_s_that_is_not_earlier():
    with pytest.raises(ValueError, match=r"goes from t to an earlier time s < t, got t = 5, s = 5$"):
        q_posterior(LINEAR, column(0.5), column(0.0), 5, 5)


def test_shapes_that_differ_are_refused_by_name(as_installed):
    a, b = torch.zeros(2, 3), torch.zeros(2, 4)
    with pytest.raises(ValueError, match=r"^x0 and eps must have the same shape, got \(2, 3\) and \(2, 4\)$"):
        q_sample(LINEAR, a, 3, b)
    with pytest.raises(ValueError, match=r"^x_prev and eps_step must have the same shape, got \(2, 3\) and \(2, 4\)$"):
        q_step(LINEAR, a, 3, b)
    with pytest.raises(ValueError, match=r"^x0 and x_t must have the same shape, got \(2, 3\) and \(2, 4\)$"):
        q_posterior(LINEAR, a, b, 3)


def test_a_number_of_times_that_is_not_the_number_of_images_is_refused(as_installed):
    with pytest.raises(ValueError, match=r"^t has 3 entries for a batch of 2 images; give one each, or one integer$"):
        q_sample(LINEAR, torch.zeros(2, 3), torch.tensor([1, 2, 3]), torch.zeros(2, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.complex64])
def test_images_that_are_no_floating_point_numbers_are_refused_by_name_and_dtype(as_installed, dtype):
    """Their coefficients would be rounded to 0: noise for ever, without a word."""
    whole, noise = torch.ones(2, 1, 4, 4).to(dtype), torch.randn(2, 1, 4, 4)
    came = rf"must hold floating-point numbers, got dtype {dtype}" + ("; bytes 0" if dtype == torch.uint8 else "$")
    for call in (
        lambda: q_sample(LINEAR, whole, 500, noise),
        lambda: q_step(LINEAR, whole, 500, noise),
        lambda: q_posterior(LINEAR, whole, noise, 500),
    ):
        with pytest.raises(ValueError, match=r"^(x0|x_prev) " + came):
            call()
    with pytest.raises(ValueError, match="^eps " + came):
        q_sample(LINEAR, noise, 500, whole)


def test_images_in_two_places_are_refused(as_installed):
    with pytest.raises(
        ValueError, match=r"^eps must be a dense tensor that holds numbers, got torch\.strided on meta$"
    ):
        q_sample(LINEAR, torch.zeros(2, 3), 5, torch.zeros(2, 3, device="meta"))


def test_one_s_for_each_t(as_installed):
    with pytest.raises(ValueError, match=r"^s must hold as many times as t, got 3 and 2$"):
        q_posterior(LINEAR, torch.zeros(2, 3), torch.zeros(2, 3), [5, 6], [1, 2, 3])
    with pytest.raises(ValueError, match=r"^s must lie in 0\.\.1000, got -1\.\.-1$"):
        q_posterior(LINEAR, torch.zeros(2, 3), torch.zeros(2, 3), 5, -1)
