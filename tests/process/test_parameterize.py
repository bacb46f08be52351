import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diffnotes.process.parameterize import (
    eps_from_score,
    eps_from_u,
    eps_from_v,
    eps_from_x0,
    score_from_eps,
    target_of,
    v_from_x0_eps,
    x0_and_eps,
    x0_from_eps,
    x0_from_u,
    x0_from_v,
)
from diffnotes.process.schedules import Schedule

LINEAR = Schedule.linear()
TIMES = [1, 2, 350, 999, 1000]
every_time = settings(deadline=None, derandomize=True, max_examples=100)
numbers = st.floats(-3, 3)


def column(*values: float) -> torch.Tensor:
    """One-pixel images, float64."""
    return torch.tensor(values, dtype=torch.float64).reshape(-1, 1)


def mixed(linear_tables, t: int, x0: float, eps: float) -> float:
    """x_t of eq. 1.6 from the loop's tables."""
    abar = linear_tables[1][t]
    return math.sqrt(abar) * x0 + math.sqrt(1 - abar) * eps


@pytest.mark.parametrize("t", TIMES)
def test_x0_from_eps_undoes_the_noising(linear_tables, t):
    x_t = mixed(linear_tables, t, 0.7, -1.3)
    assert x0_from_eps(LINEAR, column(-1.3), column(x_t), t).item() == pytest.approx(0.7, rel=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_eps_from_x0_finds_the_noise(linear_tables, t):
    x_t = mixed(linear_tables, t, 0.7, -1.3)
    assert eps_from_x0(LINEAR, column(0.7), column(x_t), t).item() == pytest.approx(-1.3, rel=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_v_is_its_formula(linear_tables, t):
    abar = linear_tables[1][t]
    expected = math.sqrt(abar) * -1.3 - math.sqrt(1 - abar) * 0.7
    assert v_from_x0_eps(LINEAR, column(0.7), column(-1.3), t).item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_x0_and_eps_come_back_from_v(linear_tables, t):
    abar = linear_tables[1][t]
    v = column(math.sqrt(abar) * -1.3 - math.sqrt(1 - abar) * 0.7)
    x_t = column(mixed(linear_tables, t, 0.7, -1.3))
    assert x0_from_v(LINEAR, v, x_t, t).item() == pytest.approx(0.7, rel=1e-10)
    assert eps_from_v(LINEAR, v, x_t, t).item() == pytest.approx(-1.3, rel=1e-10)


@pytest.mark.parametrize("t", TIMES)
def test_x0_and_eps_come_back_from_u(linear_tables, t):
    u, x_t = column(-1.3 - 0.7), column(mixed(linear_tables, t, 0.7, -1.3))
    assert target_of(LINEAR, "u", column(0.7), column(-1.3), t).item() == pytest.approx(-2.0, rel=1e-12)
    assert x0_from_u(LINEAR, u, x_t, t).item() == pytest.approx(0.7, rel=1e-10)
    assert eps_from_u(LINEAR, u, x_t, t).item() == pytest.approx(-1.3, rel=1e-10)


@every_time
@given(x0=numbers, eps=numbers, t=st.integers(1, 1000))
def test_the_pair_x_t_and_v_is_the_pair_x0_and_eps_rotated(x0, eps, t):
    abar = LINEAR.alpha_bar[t].item()
    cos, sin = math.sqrt(abar), math.sqrt(1 - abar)
    rotation = np.array([[cos, sin], [-sin, cos]])
    x_t, v = rotation @ [x0, eps]
    assert v_from_x0_eps(LINEAR, column(x0), column(eps), t).item() == pytest.approx(v, abs=1e-13)
    assert math.hypot(x_t, v_from_x0_eps(LINEAR, column(x0), column(eps), t).item()) == pytest.approx(
        math.hypot(x0, eps)
    )


@every_time
@given(output=numbers, x_t=numbers, t=st.integers(1, 1000), target=st.sampled_from(["eps", "x0", "v", "u"]))
def test_the_two_halves_of_any_output_make_up_x_t(output, x_t, t, target):
    abar = LINEAR.alpha_bar[t].item()
    x0_hat, eps_hat = x0_and_eps(LINEAR, target, column(output), column(x_t), t)
    terms = math.sqrt(abar) * x0_hat.item(), math.sqrt(1 - abar) * eps_hat.item()
    assert sum(terms) == pytest.approx(x_t, abs=1e-13 * (1 + max(map(abs, terms))))


@every_time
@given(x0=numbers, eps=numbers, t=st.integers(1, 1000), target=st.sampled_from(["eps", "x0", "v", "u"]))
def test_a_perfect_prediction_splits_into_the_image_and_the_noise(x0, eps, t, target):
    abar = LINEAR.alpha_bar[t].item()
    x_t = column(math.sqrt(abar) * x0 + math.sqrt(1 - abar) * eps)
    prediction = target_of(LINEAR, target, column(x0), column(eps), t)
    x0_hat, eps_hat = x0_and_eps(LINEAR, target, prediction, x_t, t)
    # rounding in x_t is divided by sqrt(alpha_bar_T) = 0.0064 for x0, by sqrt(1 - alpha_bar_1) = 0.01 for eps
    assert x0_hat.item() == pytest.approx(x0, abs=1e-12)
    assert eps_hat.item() == pytest.approx(eps, abs=1e-12)


def test_target_of_eps_is_the_noise_and_of_x0_the_image():
    x0, eps = column(0.7), column(-1.3)
    assert target_of(LINEAR, "eps", x0, eps, 5).item() == -1.3
    assert target_of(LINEAR, "x0", x0, eps, 5).item() == 0.7


@pytest.mark.parametrize("t", TIMES)
def test_score_is_the_gradient_of_the_log_density_of_x_t_given_x0(linear_tables, t):
    abar = linear_tables[1][t]
    x0, eps = torch.tensor([[0.7, -0.2]], dtype=torch.float64), torch.tensor([[-1.3, 0.4]], dtype=torch.float64)
    x_t = (math.sqrt(abar) * x0 + math.sqrt(1 - abar) * eps).requires_grad_()
    log_density = torch.distributions.Normal(math.sqrt(abar) * x0, math.sqrt(1 - abar)).log_prob(x_t).sum()
    (gradient,) = torch.autograd.grad(log_density, x_t)
    np.testing.assert_allclose(score_from_eps(LINEAR, eps, t).numpy(), gradient.numpy(), rtol=1e-9)


@pytest.mark.parametrize("t", TIMES)
def test_eps_comes_back_from_the_score(linear_tables, t):
    score = column(1.3 / math.sqrt(1 - linear_tables[1][t]))
    assert eps_from_score(LINEAR, score, t).item() == pytest.approx(-1.3, rel=1e-10)


def test_first_step_keeps_eleven_digits_in_float64():
    # 1 - alpha_bar_1 = beta_1 = 1e-4; a float32 table would be off in the fourth digit
    x_t = math.sqrt(1 - 1e-4) * 0.7 + 0.01 * -1.3
    assert eps_from_x0(LINEAR, column(0.7), column(x_t), 1).item() == pytest.approx(-1.3, rel=1e-11)
    assert score_from_eps(LINEAR, column(-1.3), 1).item() == pytest.approx(130, rel=1e-11)


@pytest.mark.parametrize(
    "function", [x0_from_eps, eps_from_x0, x0_from_v, eps_from_v], ids=["x0_eps", "eps_x0", "x0_v", "eps_v"]
)
def test_times_per_image_give_what_each_gives_alone(generator, function):
    given_one = torch.randn(5, 2, 3, generator=generator)
    x_t = torch.randn(5, 2, 3, generator=generator)
    alone = torch.cat([function(LINEAR, given_one[i : i + 1], x_t[i : i + 1], t) for i, t in enumerate(TIMES)])
    assert torch.equal(function(LINEAR, given_one, x_t, torch.tensor(TIMES)), alone)


def test_eps_says_nothing_about_the_image_in_pure_noise():
    schedule = LINEAR.rescale_zero_terminal_snr()
    expected = r'^alpha_bar_t = 0: x_0 cannot be recovered from eps \(zero terminal SNR\); use a model with target "v" or "x0"$'
    with pytest.raises(ValueError, match=expected):
        x0_from_eps(schedule, column(0.3), column(0.3), 1000)
    with pytest.raises(ValueError, match=expected):
        x0_and_eps(schedule, "eps", column(0.3), column(0.3), 1000)


def test_v_in_pure_noise_is_minus_the_image():
    schedule = LINEAR.rescale_zero_terminal_snr()
    assert x0_from_v(schedule, column(-0.7), column(1.1), 1000).item() == 0.7
    assert eps_from_v(schedule, column(-0.7), column(1.1), 1000).item() == 1.1


def test_unknown_target_is_refused():
    expected = r'^target must be one of "eps", "x0", "v", "u", got \'noise\'$'
    with pytest.raises(ValueError, match=expected):
        target_of(LINEAR, "noise", column(0.7), column(-1.3), 5)
    with pytest.raises(ValueError, match=expected):
        x0_and_eps(LINEAR, "noise", column(0.7), column(-1.3), 5)


@pytest.mark.parametrize("t", [0, 1001])
def test_times_outside_the_schedule_are_refused(t):
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        eps_from_x0(LINEAR, column(0.7), column(0.1), t)
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.1000, got {t}\.\.{t}$"):
        score_from_eps(LINEAR, column(0.7), t)
