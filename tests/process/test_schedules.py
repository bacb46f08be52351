import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from diffnotes.process.schedules import Schedule, check_t

every_time = settings(deadline=None, derandomize=True, max_examples=150)
probabilities = st.floats(1e-6, 0.5)


def running_product(beta: np.ndarray) -> np.ndarray:
    """alpha_bar_t from beta_t, tables with entry 0, one multiplication after the other."""
    alpha_bar = [1.0]
    for b in beta[1:]:
        alpha_bar.append(alpha_bar[-1] * (1 - b))
    return np.array(alpha_bar)


def schedules() -> list[Schedule]:
    return [Schedule.linear(), Schedule.quadratic(), Schedule.sigmoid(), Schedule.cosine()]


# -- the four schedules against their formulas ----------------------------------------------------------------------


def test_linear_default_ends_at_the_alpha_bar_of_the_book():
    assert f"{Schedule.linear().alpha_bar[-1].item():.4e}" == "4.0358e-05"


def test_linear_betas_are_the_straight_line_of_the_definition(linear_tables):
    np.testing.assert_allclose(Schedule.linear().beta.numpy(), linear_tables[0], rtol=1e-13, atol=0)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_alpha_bar_is_the_running_product_of_one_minus_beta(schedule):
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), running_product(schedule.beta.numpy()), rtol=1e-12, atol=0)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_entry_0_is_the_clean_image(schedule):
    assert schedule.beta[0] == 0
    assert schedule.alpha_bar[0] == 1
    assert schedule.alpha[0] == 1


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_tables_are_float64(schedule):
    tables = (schedule.beta, schedule.alpha, schedule.alpha_bar, schedule.snr, schedule.posterior_variance)
    assert {table.dtype for table in tables} == {torch.float64}


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_alpha_is_one_minus_beta(schedule):
    np.testing.assert_array_equal(schedule.alpha.numpy(), [1 - b for b in schedule.beta.tolist()])


@pytest.mark.parametrize("T", [10, 1000])
def test_cosine_alpha_bar_is_its_formula_before_the_clip(T):
    s = 0.008
    f = [math.cos((t / T + s) / (1 + s) * math.pi / 2) ** 2 for t in range(T)]
    np.testing.assert_allclose(Schedule.cosine(T).alpha_bar[:T].numpy(), np.array(f) / f[0], rtol=1e-11, atol=0)


def test_cosine_clips_only_the_last_beta():
    assert (Schedule.cosine().beta >= 0.999).nonzero().flatten().tolist() == [1000]
    assert Schedule.cosine().beta[1000] == 0.999


def test_cosine_keeps_half_the_image_at_half_time_where_linear_has_lost_it():
    assert Schedule.cosine().alpha_bar[500].item() == pytest.approx(0.494, abs=5e-4)
    assert Schedule.linear().alpha_bar[500].item() == pytest.approx(0.079, abs=5e-4)


def test_quadratic_is_linear_in_the_square_root_of_beta():
    roots = np.sqrt(Schedule.quadratic(T=50, beta_1=1e-3, beta_T=0.3).beta.numpy()[1:])
    expected = [math.sqrt(1e-3) + i / 49 * (math.sqrt(0.3) - math.sqrt(1e-3)) for i in range(50)]
    np.testing.assert_allclose(roots, expected, rtol=1e-13, atol=0)


def test_sigmoid_is_the_logistic_curve_rescaled():
    logistic = [1 / (1 + math.exp(6 - 12 * i / 49)) for i in range(50)]
    climb = [(y - logistic[0]) / (logistic[-1] - logistic[0]) for y in logistic]
    expected = [1e-3 + c * (0.3 - 1e-3) for c in climb]
    np.testing.assert_allclose(Schedule.sigmoid(50, 1e-3, 0.3).beta.numpy()[1:], expected, rtol=1e-12, atol=0)


def test_sigmoid_hits_both_ends():
    beta = Schedule.sigmoid().beta
    assert beta[1].item() == pytest.approx(1e-4, rel=1e-12)
    assert beta[-1].item() == pytest.approx(0.02, rel=1e-12)


@pytest.mark.parametrize("T", [2, 9, 1000])
def test_sigmoid_is_antisymmetric_about_its_middle(T):
    beta = Schedule.sigmoid(T, 1e-4, 0.02).beta.numpy()[1:]
    np.testing.assert_allclose(beta + beta[::-1], np.full(T, 1e-4 + 0.02), rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.quadratic, Schedule.sigmoid])
def test_one_step_schedule_has_beta_1(make):
    np.testing.assert_allclose(make(1).beta.numpy(), [0, 1e-4], rtol=1e-12)


# -- what follows from the tables -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_posterior_variance_is_its_formula_at_every_step(schedule):
    beta = schedule.beta.tolist()
    alpha_bar = running_product(schedule.beta.numpy())
    expected = [(1 - alpha_bar[t - 1]) / (1 - alpha_bar[t]) * beta[t] for t in range(1, schedule.T + 1)]
    np.testing.assert_allclose(schedule.posterior_variance[1:].numpy(), expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_posterior_variance_is_0_at_the_first_step(schedule):
    assert schedule.posterior_variance[1] == 0
    assert len(schedule.posterior_variance) == schedule.T + 1


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_snr_is_signal_over_noise(schedule):
    alpha_bar = running_product(schedule.beta.numpy())
    np.testing.assert_allclose(schedule.snr[1:].numpy(), alpha_bar[1:] / (1 - alpha_bar[1:]), rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_log_snr_is_the_natural_logarithm_of_snr(schedule):
    alpha_bar = running_product(schedule.beta.numpy())
    expected = [math.log(a / (1 - a)) for a in alpha_bar[1:]]
    np.testing.assert_allclose(schedule.log_snr[1:].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_snr_of_the_clean_image_is_infinite():
    assert Schedule.linear(10).snr[0] == math.inf
    assert Schedule.linear(10).log_snr[0] == math.inf


def test_snr_at_the_end_of_a_zero_terminal_schedule_is_0():
    schedule = Schedule.linear(10).rescale_zero_terminal_snr()
    assert schedule.snr[-1] == 0
    assert schedule.log_snr[-1] == -math.inf


def test_prior_kl_is_the_integral_of_the_definition():
    schedule = Schedule.from_betas([0.1, 0.2, 0.3])
    alpha_bar, x0 = 0.9 * 0.8 * 0.7, 0.6
    q = norm(math.sqrt(alpha_bar) * x0, math.sqrt(1 - alpha_bar))
    integral, _ = quad(lambda x: q.pdf(x) * (q.logpdf(x) - norm.logpdf(x)), -12, 12, epsabs=1e-13)
    assert schedule.prior_kl(torch.tensor([[x0]])).item() == pytest.approx(integral, rel=1e-7)


def test_prior_kl_sums_over_the_pixels_of_each_image():
    schedule, images = Schedule.from_betas([0.1, 0.2, 0.3]), torch.linspace(-1, 1, 12).reshape(2, 1, 2, 3)
    alone = [[schedule.prior_kl(pixel.reshape(1, 1)).item() for pixel in image.flatten()] for image in images]
    np.testing.assert_allclose(schedule.prior_kl(images).numpy(), np.sum(alone, axis=1), rtol=1e-12)


def test_prior_kl_of_a_zero_terminal_schedule_is_0():
    assert Schedule.linear(10).rescale_zero_terminal_snr().prior_kl(torch.ones(1, 3)).item() == 0


# -- from a table, and rescaled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_from_alpha_bar_gives_the_betas_back(schedule):
    again = Schedule.from_alpha_bar(schedule.alpha_bar[1:])
    np.testing.assert_allclose(again.beta.numpy(), schedule.beta.numpy(), rtol=1e-11, atol=0)
    np.testing.assert_array_equal(again.alpha_bar.numpy(), schedule.alpha_bar.numpy())


def test_from_alpha_bar_may_end_at_0_and_then_beta_T_is_1():
    schedule = Schedule.from_alpha_bar([0.5, 0.2, 0.0])
    np.testing.assert_allclose(schedule.beta.numpy(), [0, 0.5, 0.6, 1], rtol=1e-15)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_zero_terminal_snr_ends_at_0_exactly(schedule):
    assert schedule.rescale_zero_terminal_snr().alpha_bar[-1] == 0


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_zero_terminal_snr_keeps_alpha_bar_1(schedule):
    rescaled = schedule.rescale_zero_terminal_snr().alpha_bar[1].item()
    assert rescaled == pytest.approx(schedule.alpha_bar[1].item(), rel=1e-15)


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_zero_terminal_snr_still_falls_at_every_step(schedule):
    assert (np.diff(schedule.rescale_zero_terminal_snr().alpha_bar.numpy()) < 0).all()


@pytest.mark.parametrize("schedule", schedules(), ids=lambda s: s.name)
def test_zero_terminal_snr_stretches_the_root_of_alpha_bar_linearly(schedule):
    before = schedule.alpha_bar[1:].sqrt().numpy()
    after = schedule.rescale_zero_terminal_snr().alpha_bar[1:].sqrt().numpy()
    expected = before[0] * (before - before[-1]) / (before[0] - before[-1])
    np.testing.assert_allclose(after, expected, rtol=1e-12, atol=1e-15)


def test_zero_terminal_snr_agrees_with_diffusers():
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    expected = rescale_zero_terminal_snr(Schedule.linear().beta[1:])
    ours = Schedule.linear().rescale_zero_terminal_snr().beta[1:]
    np.testing.assert_allclose(ours.numpy(), expected.numpy(), rtol=1e-9, atol=0)


def test_schedule_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Schedule.linear(10).beta = torch.zeros(11)


# -- tables of any length -------------------------------------------------------------------------------------------


@every_time
@given(T=st.integers(1, 300), ends=st.tuples(probabilities, probabilities))
def test_tables_of_any_schedule_have_one_entry_more_than_steps_and_fall(T, ends):
    for make in (Schedule.linear, Schedule.quadratic, Schedule.sigmoid):
        schedule = make(T, *ends)
        assert schedule.T == T
        assert len(schedule.beta) == len(schedule.alpha_bar) == len(schedule.posterior_variance) == T + 1
        assert (np.diff(schedule.alpha_bar.numpy()) < 0).all()


@every_time
@given(betas=st.lists(probabilities, min_size=1, max_size=100))
def test_from_betas_keeps_the_betas_and_multiplies_them_up(betas):
    schedule = Schedule.from_betas(betas)
    assert schedule.beta.tolist() == [0, *betas]
    np.testing.assert_allclose(schedule.alpha_bar.numpy(), running_product(np.array([0, *betas])), rtol=1e-12)


# -- sub-sequences --------------------------------------------------------------------------------------------------


def is_a_subsequence(tau: list[int], T: int, steps: int) -> bool:
    """Starts at 0, ends at T, rises at each of exactly `steps` steps."""
    return tau[0] == 0 and tau[-1] == T and len(tau) == steps + 1 and all(a < b for a, b in pairwise(tau))


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_subsequence_rises_from_0_to_T_in_S_steps_for_every_small_T(spacing):
    for T in range(1, 41):
        schedule = Schedule.linear(T)
        for steps in range(1, T + 1):
            assert is_a_subsequence(schedule.subsequence(steps, spacing).tolist(), T, steps), (T, steps)


@every_time
@given(T=st.integers(1, 4000), data=st.data(), spacing=st.sampled_from(["uniform", "quadratic"]))
def test_subsequence_rises_from_0_to_T_in_S_steps_for_any_T(T, data, spacing):
    steps = data.draw(st.integers(1, T))
    assert is_a_subsequence(Schedule.linear(T).subsequence(steps, spacing).tolist(), T, steps)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_subsequence_of_T_steps_is_every_time(spacing):
    assert Schedule.linear(37).subsequence(37, spacing).tolist() == list(range(38))


@every_time
@given(T=st.integers(1, 2000), data=st.data())
def test_uniform_subsequence_is_within_half_a_time_of_the_straight_line(T, data):
    steps = data.draw(st.integers(1, T))
    tau = Schedule.linear(T).subsequence(steps).numpy()
    assert np.abs(tau - np.arange(steps + 1) * T / steps).max() <= 0.5


def test_quadratic_subsequence_is_the_rounded_parabola_where_rounding_repeats_nothing():
    tau = Schedule.linear(1000).subsequence(20, "quadratic").tolist()
    assert tau == [math.floor(i**2 * 1000 / 400 + 0.5) for i in range(21)]


def test_quadratic_subsequence_is_pushed_up_where_rounding_repeats_a_time():
    # i^2 10 / 64 rounds to 0, 0, 1, 1, 3, 4, 6, 8, 10
    assert Schedule.linear(10).subsequence(8, "quadratic").tolist() == [0, 1, 2, 3, 4, 5, 6, 8, 10]


def test_subsequence_has_integer_times():
    assert Schedule.linear(10).subsequence(3).dtype == torch.int64


# -- what is refused, and how ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("beta", "shown"), [(0.0, "0"), (1.0, "1"), (-0.1, "-0.1"), (1.5, "1.5"), (math.nan, "nan"), (math.inf, "inf")]
)
def test_beta_outside_0_and_1_is_refused(beta, shown):
    with pytest.raises(ValueError, match=rf"^betas must lie in \(0, 1\), each of them, got beta_2 = {shown}$"):
        Schedule.from_betas([0.1, beta, 0.2])


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.sigmoid])
@pytest.mark.parametrize("beta_1", [0.0, -0.1, 1.5, math.nan])
def test_schedule_with_a_first_beta_outside_0_and_1_is_refused(make, beta_1):
    with pytest.raises(ValueError, match=rf"^beta_1 must lie in \(0, 1\), got {beta_1}$"):
        make(10, beta_1=beta_1)


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.sigmoid])
def test_schedule_with_a_last_beta_outside_0_and_1_is_refused_by_name(make):
    with pytest.raises(ValueError, match=r"^beta_T must lie in \(0, 1\), got 1.5$"):
        make(1, beta_T=1.5)


@pytest.mark.parametrize("name", ["beta_1", "beta_T"])
@pytest.mark.parametrize("beta", [0.0, 1.0, -0.1, 1.5, math.nan])
def test_quadratic_names_the_end_that_is_wrong(name, beta):
    with pytest.raises(ValueError, match=rf"^{name} must lie in \(0, 1\), got {beta}$"):
        Schedule.quadratic(10, **{name: beta})


@pytest.mark.parametrize("max_beta", [0.0, 1.0, -0.1, math.nan])
def test_cosine_refuses_a_max_beta_outside_0_and_1(max_beta):
    with pytest.raises(ValueError, match=rf"^max_beta must lie in \(0, 1\), got {max_beta}$"):
        Schedule.cosine(10, max_beta=max_beta)


@pytest.mark.parametrize("s", [-0.1, math.nan, math.inf])
def test_cosine_refuses_an_s_that_is_negative_or_not_finite(s):
    with pytest.raises(ValueError, match=rf"^s must be a finite number >= 0, got {s}$"):
        Schedule.cosine(10, s=s)


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.quadratic, Schedule.sigmoid, Schedule.cosine])
@pytest.mark.parametrize("T", [0, -1, 2.5, True])
def test_T_that_is_not_a_positive_integer_is_refused(as_installed, make, T):
    with pytest.raises(ValueError, match=rf"^T must be an integer >= 1, got {T}$"):
        make(T)


@pytest.mark.parametrize("steps", [0, -1, 11, 2.0, True])
@pytest.mark.parametrize("spacing", ["uniform", "quadratic"])
def test_steps_that_are_not_an_integer_from_1_to_T_are_refused(as_installed, steps, spacing):
    with pytest.raises(ValueError, match=rf"^steps must be an integer from 1 to T = 10, got {steps}$"):
        Schedule.linear(10).subsequence(steps, spacing)


def test_unknown_spacing_is_refused():
    with pytest.raises(ValueError, match=r'^spacing must be "uniform" or "quadratic", got \'cubic\'$'):
        Schedule.linear(10).subsequence(5, "cubic")


@pytest.mark.parametrize(
    ("alpha_bar", "found"),
    [
        ([0.9, 0.9], "alpha_bar_2 = 0.9 after 0.9"),
        ([0.5, 0.6], "alpha_bar_2 = 0.6 after 0.5"),
        ([1.0, 0.5], "alpha_bar_1 = 1 after 1"),
        ([0.5, 0.0, 0.0], "alpha_bar_2 = 0 after 0.5"),
        ([0.5, -0.1], "alpha_bar_2 = -0.1 after 0.5"),
        ([0.5, math.nan], "alpha_bar_2 = nan after 0.5"),
    ],
)
def test_alpha_bar_that_does_not_fall_inside_0_and_1_is_refused(alpha_bar, found):
    expected = rf"^alpha_bar must fall strictly inside \(0, 1\) \(only the last entry may be 0\), got {found}$"
    with pytest.raises(ValueError, match=expected):
        Schedule.from_alpha_bar(alpha_bar)


@pytest.mark.parametrize(
    ("make", "name"), [(Schedule.from_betas, "betas"), (Schedule.from_alpha_bar, "alpha_bar")], ids=["betas", "alpha"]
)
def test_table_that_is_empty_or_not_one_dimensional_is_refused(as_installed, make, name):
    with pytest.raises(ValueError, match=rf"^{name} must be a non-empty 1-D table .*got shape \(0,\)$"):
        make([])
    with pytest.raises(ValueError, match=rf"^{name} must be a non-empty 1-D table .*got shape \(2, 1\)$"):
        make([[0.9], [0.8]])


def test_zero_terminal_snr_of_a_one_step_schedule_is_refused():
    with pytest.raises(ValueError, match=r"^rescale_zero_terminal_snr needs T >= 2, got T = 1$"):
        Schedule.linear(1).rescale_zero_terminal_snr()


@pytest.mark.parametrize("t", [0, 11, -1])
def test_time_outside_the_schedule_is_refused(t):
    with pytest.raises(ValueError, match=rf"^t must lie in 1\.\.10, got {t}\.\.{t}$"):
        check_t(Schedule.linear(10), t)


def test_times_that_are_no_integers_are_refused(as_installed):
    with pytest.raises(ValueError, match=r"^t must be an integer or a 1-D tensor of integers, got dtype torch.float32"):
        check_t(Schedule.linear(10), torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"got torch.int64 of shape \(1, 2\)$"):
        check_t(Schedule.linear(10), torch.tensor([[1, 2]]))


# -- numbers and tables of numpy, and of other kinds ----------------------------------------------------------------------


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.quadratic, Schedule.sigmoid, Schedule.cosine])
def test_a_length_of_numpy_is_one_of_python(make):
    for T in (np.int64(7), np.uint8(7), torch.tensor(7)):
        assert torch.equal(make(T).beta, make(7).beta)
    np.testing.assert_array_equal(
        Schedule.linear(7, np.float64(0.01), np.float64(0.1)).beta, Schedule.linear(7, 0.01, 0.1).beta
    )
    assert torch.equal(make(50).subsequence(np.int64(5)), make(50).subsequence(5))


def test_betas_may_come_in_every_form_of_a_sequence(as_installed):
    betas = [0.1, 0.2, 0.4]
    tensor, backwards = torch.tensor(betas, dtype=torch.float64), np.array(betas[::-1])
    forms = [
        tuple(betas), iter(betas), (b for b in betas), map(float, betas), np.array(betas), backwards[::-1], tensor,
        [np.float64(b) for b in betas], list(tensor), tensor.clone().requires_grad_(),
    ]  # fmt: skip
    for form in forms:
        assert Schedule.from_betas(form).beta.tolist() == [0, *betas]
    rising = np.array([0.2, 0.5, 0.9])
    assert Schedule.from_alpha_bar(rising[::-1]).alpha_bar.tolist() == [1, 0.9, 0.5, 0.2]


@pytest.mark.parametrize(
    ("values", "came"),
    [
        ("0.1 0.2", "'0.1 0.2'"),
        (["0.1", "0.2"], "dtype <U3"),
        ({0.1, 0.2}, r"\{0\.1, 0\.2\}"),
        (0.1, r"0\.1"),
        (None, "None"),
        ([[0.1], [0.2, 0.3]], r"\[\[0\.1\], \[0\.2, 0\.3\]\]"),
        ([True, False], "dtype bool"),
        (torch.tensor([1j]), "dtype complex64"),
    ],
)
def test_tables_that_are_none_are_refused_by_name(as_installed, values, came):
    with pytest.raises(
        ValueError, match=rf"^betas must be a sequence of numbers, one for each t = 1\.\.T, got {came}$"
    ):
        Schedule.from_betas(values)
    with pytest.raises(
        ValueError, match=rf"^alpha_bar must be a sequence of numbers, one for each t = 1\.\.T, got {came}$"
    ):
        Schedule.from_alpha_bar(values)


@pytest.mark.parametrize("betas", [[0.5] * 1100, [1e-20, 0.1]], ids=["vanishes", "lost"])
def test_betas_that_float64_cannot_multiply_up_are_refused(betas):
    with pytest.raises(
        ValueError, match=r"^alpha_bar must fall strictly .*: with these betas or this T, float64 cannot tell "
    ):
        Schedule.from_betas(betas)


def test_a_length_beyond_any_memory_is_refused():
    with pytest.raises(ValueError, match=r"^T must be at most 1,000,000, got 1000000000000000000$"):
        Schedule.linear(10**18)
    with pytest.raises(
        ValueError, match=r"^alpha_bar must fall strictly .*: with these betas or this T, float64 cannot tell "
    ):
        Schedule.linear(100_000)
    with pytest.raises(ValueError, match=r"^s must be smaller, or float64 cannot tell the times apart, got 1e\+30$"):
        Schedule.cosine(10, s=1e30)


@pytest.mark.parametrize("make", [Schedule.linear, Schedule.quadratic, Schedule.sigmoid])
def test_an_end_that_is_lost_beside_1_is_refused(make):
    with pytest.raises(
        ValueError, match=r"^beta_T must be larger, for float64 cannot tell 1 - beta_T from 1, got 1e-20$"
    ):
        make(3, 0.5, 1e-20)
    assert make(3, 0.5, 1e-15).beta[-1].item() == pytest.approx(1e-15, rel=0.1)


def test_tables_that_do_not_belong_together_are_refused(as_installed):
    a, b = Schedule.linear(10), Schedule.cosine(10)
    with pytest.raises(
        ValueError, match=r"^alpha_bar must be the running product of 1 - beta; these two tables do not belong"
    ):
        Schedule("mine", a.beta, b.alpha_bar)
    with pytest.raises(ValueError, match=r"^alpha_bar must have T \+ 1 >= 2 entries, as many as beta, from 1, got \["):
        Schedule("mine", a.beta, a.alpha_bar[:-1])
    with pytest.raises(ValueError, match=r"^beta must be a 1-D float64 tensor, got Tensor of shape \(11,\) and "):
        Schedule("mine", a.beta.float(), a.alpha_bar)
    with pytest.raises(ValueError, match=r"^name must be a string, got 5$"):
        Schedule(5, a.beta, a.alpha_bar)


def test_the_subsequence_below_a_start_ends_there():
    schedule = Schedule.linear(1000)
    assert schedule.subsequence(4, start=400).tolist() == [0, 100, 200, 300, 400]
    assert schedule.subsequence(4, "quadratic", start=np.int64(400)).tolist() == [0, 25, 100, 225, 400]
    assert torch.equal(schedule.subsequence(7, start=1000), schedule.subsequence(7))
    with pytest.raises(ValueError, match=r'^spacing "linear" is now called "uniform"$'):
        schedule.subsequence(4, "linear")
    with pytest.raises(ValueError, match=r"^steps must be an integer from 1 to start = 3, got 4$"):
        schedule.subsequence(4, start=3)


def test_times_of_every_form_are_the_same_times(as_installed):
    schedule = Schedule.linear(10)
    for t in (
        [3, 1, 2],
        (3, 1, 2),
        np.array([3, 1, 2]),
        np.array([2, 1, 3])[::-1],
        torch.tensor([3, 1, 2]).to(torch.uint8),
    ):
        assert check_t(schedule, t).tolist() == [3, 1, 2]
    for t in (3, np.int64(3), np.array(3), torch.tensor(3)):
        assert check_t(schedule, t).tolist() == 3
    for t in ("3", 3.0, None, [3.0], True, [True], {3}, 1j):
        with pytest.raises(ValueError, match=r"^t must be an integer or a 1-D tensor of integers, got "):
            check_t(schedule, t)


# -- noise levels of one ratio ------------------------------------------------------------------------------------------


def test_geometric_has_noise_levels_of_one_ratio():
    schedule = Schedule.geometric(T=200, lowest=0.02, highest=30)
    level = ((1 - schedule.alpha_bar[1:]) / schedule.alpha_bar[1:]).sqrt()
    assert level[0].item() == pytest.approx(0.02) and level[-1].item() == pytest.approx(30)
    torch.testing.assert_close(level[1:] / level[:-1], torch.full((199,), 1500 ** (1 / 199)).double())
    assert schedule.T == 200 and schedule.name == "geometric"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"T": 1}, "T must be an integer from 2"),
        ({"lowest": 0}, "lowest must be a positive number below highest = 30, got 0"),
        ({"lowest": 30.0}, "lowest must be a positive number below highest = 30, got 30"),
        ({"highest": float("inf")}, "highest must be a positive number, got inf"),
        ({"lowest": 1e-9}, "that all T = 200 levels differ in float64, got 1e-09 and 30"),
        ({"lowest": 1.0, "highest": 1 + 1e-14}, "levels differ in float64"),
    ],
)
def test_geometric_refuses_levels_that_collide(wrong, words):
    with pytest.raises(ValueError, match=words):
        Schedule.geometric(**wrong)
